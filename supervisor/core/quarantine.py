"""A broken invariant of ours in one session or agent: that one is set apart with its story, the house goes on. Pure."""

from understudy.protocol.frames import ActorHello, Entry
from understudy.supervisor.core import casting, losses
from understudy.supervisor.core.events import (
    ActorSaid,
    ClientSaid,
    EpochRow,
    Event,
    Exited,
    Kill,
    Sampled,
    Spawn,
    Spawned,
    SpawnFailed,
    Stopped,
)
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.sessions import Session

STORY_LINES_SHOWN = 4
CHARACTERS_MAX = 2_000


def take_back(house: House, rows: int, effects: int, unfed: int) -> None:
    """Undo what an event that broke wanted written and said. Arguments: how many there were of each before it.

    What it wants of processes stays, or we would wait for the end of one that never began.
    """
    for row in reversed(house.rows[rows:]):
        if isinstance(row, Entry):
            house.sessions[row.session].last = row.first - 1  # The next one follows without a gap.
    house.rows[rows:] = [row for row in house.rows[rows:] if isinstance(row, EpochRow)]
    house.effects[effects:] = [each for each in house.effects[effects:] if isinstance(each, Spawn | Kill)]
    while len(house.unfed) > unfed:
        house.unfed.pop()


def contain(house: House, event: Event, why: str) -> bool:
    """Set apart what `event` was about; return False when it was about neither a session nor an agent."""
    session, role = _session_of(house, event), _role_of(house, event)
    if session is not None:
        session.quarantined = why
        house.warn(f"session {session.id} is set apart: {why}; it happened at {event!r}"[:CHARACTERS_MAX])
    elif role is not None:
        _set_apart(house, role, event, why)
    return session is not None or role is not None


def _set_apart(house: House, role: Role, event: Event, why: str) -> None:
    """End all actors of the agent; its turns end once they are confirmed dead."""
    story = " | ".join(line for child in role.actors for line in list(child.story)[-STORY_LINES_SHOWN:])
    text = f"agent {role.child.spec.name} is set apart: {why}; it happened at {event!r}; its story: {story}"
    house.warn(text[:CHARACTERS_MAX])
    exited = event if isinstance(event, Exited) else None
    for child in role.actors:
        gone = exited is not None and child.epoch == exited.epoch
        house.carry_out(child.set_apart(why, gone, house.now))
    if exited is not None:
        losses.actor_lost(house, role, why, None if exited.shown is None else set(exited.shown))
        house.forget_marks(exited.actor, exited.epoch)
    casting.after_fall(house, role)


def _session_of(house: House, event: Event) -> Session | None:
    frame = event.frame if isinstance(event, ClientSaid | ActorSaid) else None
    return house.sessions.get(getattr(frame, "session", ""))


def _role_of(house: House, event: Event) -> Role | None:
    match event:
        case (
            Spawned(actor=name)
            | SpawnFailed(actor=name)
            | Exited(actor=name)
            | Stopped(actor=name)
            | Sampled(actor=name)
        ):
            return house.roles.get(name)
        case ActorSaid(peer=peer, frame=frame):
            name = frame.actor if isinstance(frame, ActorHello) else house.peers.get(peer, "")
            return house.roles.get(name)
        case _:
            return None
