"""Memory of actors, and how many of them live, against the limits of agent and house. Pure.

The figures come from the shell's watch. For the house, understudies go first; then turns and starts wait.
"""

from understudy.protocol.news import ActorRenewed, MemoryPassed, SoftLimitPassed, UnderstudyDismissed
from understudy.supervisor.core import places, turns
from understudy.supervisor.core.events import Kill, Sampled
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import STAYING, Actor, Reason, State, Why


def sampled(house: House, actor: Actor, event: Sampled) -> list[Kill]:
    """Take a figure: past `memory` the actor is killed, past `memory_soft` its turns are cancelled, with the reason."""
    actor.memory_mb, actor.files = event.memory_mb, event.files
    house.tally.see(actor)
    if actor.state is not State.RUNNING:
        return []
    limit_mb, soft_mb = actor.spec.memory_mb, actor.spec.memory_soft_mb
    if limit_mb and event.memory_mb > limit_mb:
        actor.last_words = Why(Reason.LIMIT, f"memory: limit {limit_mb} MB, had {event.memory_mb:.0f} MB")
        return actor.kill(actor.last_words, house.now)
    if soft_mb and event.memory_mb > soft_mb:
        for session, turn in house.turns_of(actor):
            if not turn.cancelled:
                house.note(session, turn.number, SoftLimitPassed(session.id, turn.number, event.memory_mb, soft_mb))
                turns.cancel(house, session, turn.number)
    return []


def no_room(house: House, actor: Actor) -> str:
    """Say why `actor` may not start now, "" when it may. Whoever plays goes before understudies."""
    actors_max, memory_mb = house.spec.actors_max, house.spec.memory_mb
    if not (actors_max or memory_mb):
        return ""
    tally = house.tally
    used_mb = tally.living_kb / 1024
    if actors_max and tally.living >= actors_max:
        return f"{tally.living} of actors_max {actors_max} run"
    if memory_mb and used_mb > memory_mb:
        return _over(house, used_mb)
    if actor.agent:
        return ""
    if tally.crowded:
        return f"{len(tally.crowded)} that play wait to start"
    spare_mb = house.launches[actor.launch].understudy_mb
    if memory_mb and used_mb + spare_mb > memory_mb:
        return f"{_over(house, used_mb)}, and an understudy takes {spare_mb:.0f} MB"
    return ""


def balance(house: House) -> None:
    """Keep the house within `actors_max` and `memory`. Called when a step ends in which any of that may have changed."""
    if _is_over(house) or _lacking(house):
        _make_room(house)
    _weigh(house)
    house.freed = True


def _make_room(house: House) -> None:
    """Let understudies go, then who has nothing to do, for the sake of those that play and wait."""
    understudies = [each for launch in house.launches.values() for each in launch.understudies if each.state in STAYING]
    understudies.sort(key=lambda each: each.memory_mb)
    while understudies and _is_over(house):
        _dismiss(house, understudies.pop(), _over(house, _used_mb(house)))
    for _ in range(min(_lacking(house), len(understudies))):
        _dismiss(house, understudies.pop(), f"actors_max {house.spec.actors_max}, and others play")
    if not _lacking(house):
        return
    spare = _spare(house)
    for actor in list(house.tally.crowded):
        agent = house.agents[actor.agent]
        # It is to be up, whether or not there is something to do.
        stays = actor is agent.first and not agent.may_rest()
        if stays or places.has_work(house, actor):
            places.make_room(house, [*agent.others(actor), *(each for each in spare if each.agent != agent.name)])


def _spare(house: House) -> list[Actor]:
    """Return the actors that come back when they are wanted."""
    agents = house.agents.values()
    return [each for agent in agents for each in agent.actors if each.place > 1 or agent.may_rest()]


def _used_mb(house: House) -> float:
    """Return what all use that are not on their way out."""
    return house.tally.staying_kb / 1024


def _is_over(house: House) -> bool:
    return 0 < house.spec.memory_mb < _used_mb(house)


def _over(house: House, used_mb: float) -> str:
    return f"memory of the house: limit {house.spec.memory_mb} MB, had {used_mb:.0f} MB"


def _lacking(house: House) -> int:
    """Return how many more must go so that all who play may start."""
    if not house.spec.actors_max:
        return 0
    return max(0, house.tally.staying + len(house.tally.crowded) - house.spec.actors_max)


def _dismiss(house: House, actor: Actor, why: str) -> None:
    """Let an understudy go; it is prepared again when there is room for what it had."""
    launch = house.launches[actor.launch]
    launch.understudy_mb = max(launch.understudy_mb, actor.memory_mb)
    house.announce(UnderstudyDismissed("", actor.name, actor.epoch, actor.memory_mb, why))
    places.end(house, actor)


def _weigh(house: House) -> None:
    """Shut the gate while memory in all is over, and open it again."""
    over = _over(house, _used_mb(house)) if _is_over(house) else ""
    was, house.memory_over = house.memory_over, over
    if over and not was:
        house.announce(MemoryPassed(True, _used_mb(house), house.spec.memory_mb))
    if over:
        _renew(house)
    elif was:
        house.announce(MemoryPassed(False, _used_mb(house), house.spec.memory_mb))
        for agent in house.agents.values():
            turns.admit_waiting(house, agent)


def _renew(house: House) -> None:
    """When turns wait for memory and none runs that would free any: start the largest idle actor anew."""
    agents = house.agents.values()
    if any(agent.running for agent in agents) or not any(agent.queued for agent in agents):
        return
    if any(each.state in (State.STARTING, State.STOPPING) for each in house.actors()):
        return
    idle = [each for each in house.actors() if each.agent and each.played and places.is_idle(house, each)]
    if idle:
        largest = max(idle, key=lambda each: each.memory_mb)
        house.announce(ActorRenewed(largest.agent, largest.name, largest.epoch, largest.memory_mb, house.memory_over))
        places.end(house, largest)
        largest.want()
