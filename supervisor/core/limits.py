"""The memory of an actor's whole tree against its limits. Pure; the figures come from the shell's watch."""

from understudy.supervisor.core import hangs, turns
from understudy.supervisor.core.child import Child, State
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
        for session, turn in hangs.playing(role):
            if not turn.cancelled:
                house.write(session, "note", turn.number, {"text": text})
                turns.cancel(house, session, turn.number)
    return []
