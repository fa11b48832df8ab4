"""Bounds of what is handed in and recorded: sessions, entries, queue, sizes. Each has its text, with the figures. Pure."""

from understudy.protocol.codec import sliced
from understudy.protocol.errors import LIMIT_REACHED
from understudy.protocol.frames import Answer, Ask
from understudy.supervisor.core.child import Child
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.sessions import Session
from understudy.supervisor.core.specs import AgentSpec

TOLD_EVERY_S = 60.0


def sessions_full(role: Role) -> str:
    """Say that the agent takes no more sessions, "" when it does."""
    spec = role.child.spec
    return (
        f"sessions_max: {role.sessions} of {spec.sessions_max} sessions" if role.sessions >= spec.sessions_max else ""
    )


def queue_full(role: Role) -> str:
    """Say that the agent's queue is full, "" when it is not."""
    most = role.child.spec.queued_turns_max
    return f"queued_turns_max: {role.queued} of {most} turns wait" if role.queued >= most else ""


def turns_full(role: Role) -> str:
    """Say that no more turns may run, "" when they may."""
    most = role.child.spec.turns_max
    return f"turns_max: {role.running} of {most} turns run" if role.running >= most else ""


def entries_full(session: Session, spec: AgentSpec) -> str:
    """Say that the session's log is full, "" when it is not."""
    return f"entries_max: {session.last} of {spec.entries_max} entries" if session.last >= spec.entries_max else ""


def refuse(house: House, peer: bytes, request: str, limit: str, text: str) -> None:
    """Refuse a request; the house's own log is told of each `limit` once a minute."""
    house.fault(peer, LIMIT_REACHED, text, request)
    if house.now >= house.refused.get(limit, house.now):
        house.refused[limit] = house.now + TOLD_EVERY_S
        house.warn(f"refused at a limit: {text}")


def enter_updates(house: House, session: Session, turn: int, body: bytes, count: int, spec: AgentSpec) -> None:
    """Record `count` updates, as many as the session has room for; the rest is counted and told of."""
    room = max(0, spec.entries_max - session.last)
    if count <= room:
        house.enter(session.entry("update", turn, body, house.wall, count))
        return
    if room:
        house.enter(session.entry("update", turn, sliced(body, 0, room), house.wall, room))
    _drop(house, session, turn, count - room, spec)


def unasked(house: House, session: Session, frame: Ask, child: Child) -> bool:
    """Refuse a question that the session has no room for, so that the agent goes on without; return whether it did."""
    full = entries_full(session, child.spec)
    if not full or not frame.public:
        return False
    _drop(house, session, frame.turn, 1, child.spec)
    text = f"nobody can be asked, the session's log is full ({full})"
    house.tell_actor(child, Answer(session.id, frame.ask, error=text), house.after)
    return True


def tell_dropped(house: House, session: Session, turn: int, spec: AgentSpec) -> None:
    """Before a turn ends: say how much of it the log has not."""
    if session.dropped:
        text = f"{session.dropped} of what the agent said or asked is not recorded ({entries_full(session, spec)})"
        house.write(session, "note", turn, {"text": text})
        session.dropped = 0


def _drop(house: House, session: Session, turn: int, count: int, spec: AgentSpec) -> None:
    if not session.dropped:
        full = entries_full(session, spec)
        house.write(session, "note", turn, {"text": f"what the agent says from here on is not recorded ({full})"})
        house.warn(f"session {session.id} of {session.agent} is full ({full}): updates are dropped")
    session.dropped += count
