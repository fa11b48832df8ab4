"""Memory of actors, and how many of them live, against the limits of agent and house. Pure.

The figures come from the shell's watch. For the house, understudies go first; then turns and starts wait.
"""

from understudy.protocol.frames import Stop
from understudy.supervisor.core import turns
from understudy.supervisor.core.child import LIVING, Child, State
from understudy.supervisor.core.events import Kill, Sampled
from understudy.supervisor.core.house import House, Role


def sampled(house: House, role: Role, child: Child, event: Sampled) -> list[Kill]:
    """Take a figure: past `memory` the actor is killed, past `memory_soft` its turns are cancelled, with the reason."""
    child.memory_mb, child.files = event.memory_mb, event.files
    if child.state is not State.RUNNING:
        return []
    limit_mb, soft_mb = child.spec.memory_mb, child.spec.memory_soft_mb
    if limit_mb and event.memory_mb > limit_mb:
        child.last_words = f"memory: limit {limit_mb} MB, had {event.memory_mb:.0f} MB"
        return child.kill(child.last_words, house.now)
    if soft_mb and event.memory_mb > soft_mb and child is role.child:
        text = f"memory: soft limit {soft_mb} MB, had {event.memory_mb:.0f} MB; the turn is cancelled"
        for session, turn in role.turns():
            if not turn.cancelled:
                house.write(session, "note", turn.number, {"text": text})
                turns.cancel(house, session, turn.number)
    return []


def no_room(house: House, child: Child) -> str:
    """Say why `child` may not start now, "" when it may. Whoever plays goes before understudies."""
    actors_max, memory_mb = house.spec.actors_max, house.spec.memory_mb
    if not (actors_max or memory_mb):
        return ""
    living = [each for each in _actors(house) if each.state in LIVING and each is not child]
    used_mb = sum(each.memory_mb for each in living)
    if actors_max and len(living) >= actors_max:
        return f"waits: {len(living)} of actors_max {actors_max} run"
    if memory_mb and used_mb > memory_mb:
        return f"waits: {_over(house, used_mb)}"
    if child.line.player is child:
        return ""
    waiting = sum(role.child.crowded for role in house.roles.values())
    if waiting:
        return f"waits: {waiting} that play wait to start"
    if memory_mb and used_mb + child.line.understudy_mb > memory_mb:
        return f"waits: {_over(house, used_mb)}, and an understudy takes {child.line.understudy_mb:.0f} MB"
    return ""


def balance(house: House) -> None:
    """Keep the house within `actors_max` and `memory`. Called when a step ends in which any of that may have changed."""
    understudies = [each for role in house.roles.values() for each in role.understudies if _stays(each)]
    understudies.sort(key=lambda each: each.memory_mb)
    while understudies and _is_over(house):
        _dismiss(house, understudies.pop(), _over(house, _used_mb(house)))
    for _ in range(min(_lacking(house), len(understudies))):
        _dismiss(house, understudies.pop(), f"actors_max {house.spec.actors_max}, and others play")
    _weigh(house)
    for child in [each for each in _actors(house) if each.crowded]:
        house.carry_out(child.released(house.now))


def _actors(house: House) -> list[Child]:
    return [child for role in house.roles.values() for child in role.actors]


def _stays(child: Child) -> bool:
    return child.state in (State.STARTING, State.RUNNING)


def _used_mb(house: House) -> float:
    """Return what all use that are not on their way out."""
    return sum(child.memory_mb for child in _actors(house) if _stays(child))


def _is_over(house: House) -> bool:
    return 0 < house.spec.memory_mb < _used_mb(house)


def _over(house: House, used_mb: float) -> str:
    return f"memory of the house: limit {house.spec.memory_mb} MB, had {used_mb:.0f} MB"


def _lacking(house: House) -> int:
    """Return how many more must go so that all who play may start."""
    if not house.spec.actors_max:
        return 0
    staying = sum(map(_stays, _actors(house)))
    return max(0, staying + sum(role.child.crowded for role in house.roles.values()) - house.spec.actors_max)


def _dismiss(house: House, child: Child, why: str) -> None:
    """Let an understudy go; it is prepared again when there is room for what it had."""
    child.line.understudy_mb = max(child.line.understudy_mb, child.memory_mb)
    house.warn(f"understudy {child.title} ({child.memory_mb:.0f} MB) is dismissed: {why}")
    _end(house, child)


def _end(house: House, child: Child) -> None:
    if child.state is State.RUNNING:
        house.tell_actor(child, Stop(child.spec.stop_grace_s), house.after)
    house.carry_out(child.stop(house.now))


def _weigh(house: House) -> None:
    """Shut the gate while memory in all is over, and open it again."""
    over = _over(house, _used_mb(house)) if _is_over(house) else ""
    was, house.memory_over = house.memory_over, over
    if over and not was:
        house.warn(f"{over}: turns and starts wait")
    if over:
        _renew(house)
    elif was:
        house.warn(f"memory of the house: {_used_mb(house):.0f} of {house.spec.memory_mb} MB: turns and starts go on")
        for role in house.roles.values():
            turns.admit_waiting(house, role)


def _renew(house: House) -> None:
    """When turns wait for memory and none runs that would free any: start the largest idle actor anew."""
    roles = house.roles.values()
    if any(role.running for role in roles) or not any(role.queued for role in roles):
        return
    if any(child.state in (State.STARTING, State.STOPPING) for child in _actors(house)):
        return
    called = {call.agent for call in house.calls.values()}
    idle = [
        role.child
        for name, role in house.roles.items()
        if _stays(role.child) and role.child.played and name not in called
    ]
    if idle:
        largest = max(idle, key=lambda each: each.memory_mb)
        house.warn(f"{largest.title} ({largest.memory_mb:.0f} MB, idle) is started again: {house.memory_over}")
        _end(house, largest)
        house.carry_out(largest.start(house.now))
