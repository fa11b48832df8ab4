"""Bounds of what is handed in and recorded: sessions, entries, queue, sizes. Each has its text, with the figures. Pure."""

from understudy.protocol.codec import sliced
from understudy.protocol.errors import LIMIT_REACHED
from understudy.protocol.frames import Answer, Ask
from understudy.protocol.news import LimitReached, SessionFilled, UpdatesDropped
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.house import CALLS_MAX, House
from understudy.supervisor.core.life import Actor
from understudy.supervisor.core.sessions import Session
from understudy.supervisor.core.specs import AgentSpec

TOLD_EVERY_S = 60.0
CALLS_PER_CLIENT_MAX = 1_000
CALL_BYTES_PER_CLIENT_MAX = 16 << 20  # Of calls that wait for their actor,
CALL_BYTES_MAX = 24 << 20  # of all clients.
UNTAKEN_BYTES_MAX = 24 << 20  # A client that leaves so much untaken is told no more of what verbs show.
QUESTIONS_PER_TURN_MAX = 1_000
QUESTION_BYTES_PER_AGENT_MAX = 16 << 20  # Of questions that only one client can answer: they are kept to be repeated.
QUESTION_BYTES_MAX = 24 << 20  # Of all agents.
ANSWER_BYTES_MAX = 48 << 20  # Of large answers that wait for room on the way to their actors, of all.
UNRECORDED_ENTRIES_MAX = 10_000  # While the log is stuck so much is kept; then no prompt is accepted.
UNRECORDED_BYTES_MAX = 16 << 20


def sessions_full(agent: Agent) -> str:
    """Say that the agent takes no more sessions, "" when it does."""
    count, most = agent.sessions, agent.spec.sessions_max
    return f"sessions_max: {count} of {most} sessions" if count >= most else ""


def queue_full(agent: Agent) -> str:
    """Say that the agent's queue is full, "" when it is not."""
    most = agent.spec.queued_turns_max
    return f"queued_turns_max: {agent.queued} of {most} turns wait" if agent.queued >= most else ""


def turns_full(agent: Agent) -> str:
    """Say that no more turns may run, "" when they may."""
    most = agent.spec.turns_max
    return f"turns_max: {agent.running} of {most} turns run" if agent.running >= most else ""


def entries_full(session: Session, spec: AgentSpec) -> str:
    """Say that the session's log is full, "" when it is not."""
    return f"entries_max: {session.last} of {spec.entries_max} entries" if session.last >= spec.entries_max else ""


def refuse(house: House, peer: bytes, request: str, limit: str, text: str) -> None:
    """Refuse a request; the house's own log is told of each `limit` once a minute."""
    house.fault(peer, LIMIT_REACHED, text, request)
    if house.now >= house.refused.get(limit, house.now):
        house.refused[limit] = house.now + TOLD_EVERY_S
        house.announce(LimitReached(limit, text))


def enter_updates(house: House, session: Session, turn: int, body: bytes, count: int, spec: AgentSpec) -> None:
    """Record `count` updates, as many as the session has room for; the rest is counted and told of."""
    room = max(0, spec.entries_max - session.last)
    if count <= room:
        house.enter(session.entry("update", turn, body, house.wall, count))
        return
    if room:
        house.enter(session.entry("update", turn, sliced(body, 0, room), house.wall, room))
    _drop(house, session, turn, count - room, spec)


def calls_full(house: House, peer: bytes, size: int) -> str:
    """Say that the client, or all of them, have too many calls open for one more of `size` bytes, "" when not."""
    if len(house.calls) >= CALLS_MAX:
        return f"{len(house.calls)} of {CALLS_MAX} calls wait for their answers"
    mine = house.calls.of(peer)
    if len(mine) >= CALLS_PER_CLIENT_MAX:
        return f"{len(mine)} of {CALLS_PER_CLIENT_MAX} calls of this client wait for their answers"
    everybody = house.calls.body_bytes
    for waiting, most in ((sum(mine.values()), CALL_BYTES_PER_CLIENT_MAX), (everybody, CALL_BYTES_MAX)):
        if waiting and waiting + size > most:
            return f"calls with {waiting} bytes wait for their actor, and this one has {size}; the limit is {most}"
    return ""


def untaken(house: House, peer: bytes) -> str:
    """Say that the client does not take what it is told, "" when it does."""
    window = house.budget.windows.get(peer)
    if window is None or window.under_way <= UNTAKEN_BYTES_MAX:
        return ""
    return f"{window.under_way} bytes that this client was told are not taken; the limit is {UNTAKEN_BYTES_MAX}"


def behind(house: House) -> bool:
    """Return whether too much waits for the log."""
    return len(house.unfed) > UNRECORDED_ENTRIES_MAX or house.unfed_bytes > UNRECORDED_BYTES_MAX


def questions_full(house: House, session: Session, frame: Ask, actor: Actor) -> bool:
    """Refuse a question when too many are open, so that the agent goes on without; return whether it did."""
    full = f"{len(session.asks)} of {QUESTIONS_PER_TURN_MAX}" if len(session.asks) >= QUESTIONS_PER_TURN_MAX else ""
    size = len(frame.body)
    if not full and not frame.public:
        mine = house.agents[session.agent].question_bytes
        everybody = sum(agent.question_bytes for agent in house.agents.values())
        for open_bytes, most in ((mine, QUESTION_BYTES_PER_AGENT_MAX), (everybody, QUESTION_BYTES_MAX)):
            if open_bytes and open_bytes + size > most:
                full = f"they have {open_bytes} bytes, and this one has {size}; the limit is {most}"
    if not full:
        return False
    text = f"too many questions are open ({full})"
    house.tell_actor(actor, Answer(session.id, frame.ask, error=text), house.after)
    return True


def answers_full(house: House, session: Session, frame: Answer) -> str:
    """Say that too much waits for the actors that asked, for one more large answer, "" when not."""
    size = len(frame.body)
    if size <= house.budget.limits.share_bytes or frame.ask not in session.asks:
        return ""
    waiting = sum(
        len(given.answer.body)
        for actor in house.actors()
        for name, ask in actor.ungiven
        if (its := house.sessions.get(name)) is not None and (given := its.answers.get(ask)) is not None
    )
    if not waiting or waiting + size <= ANSWER_BYTES_MAX:
        return ""
    return (
        f"answers with {waiting} bytes wait for their actors, and this one has {size}; the limit is {ANSWER_BYTES_MAX}"
    )


def unasked(house: House, session: Session, frame: Ask, actor: Actor) -> bool:
    """Refuse a question that the session has no room for, so that the agent goes on without; return whether it did."""
    spec = house.agents[session.agent].spec
    full = entries_full(session, spec)
    if not full or not frame.public:
        return False
    _drop(house, session, frame.turn, 1, spec)
    text = f"nobody can be asked, the session's log is full ({full})"
    house.tell_actor(actor, Answer(session.id, frame.ask, error=text), house.after)
    return True


def tell_dropped(house: House, session: Session, turn: int, spec: AgentSpec) -> None:
    """Before a turn ends: say how much of it the log has not."""
    if session.dropped:
        full = entries_full(session, spec)
        house.note(session, turn, UpdatesDropped(session.id, turn, session.dropped, full))
        session.dropped = 0


def _drop(house: House, session: Session, turn: int, count: int, spec: AgentSpec) -> None:
    if not session.dropped:
        filled = SessionFilled(session.id, turn, session.agent, entries_full(session, spec))
        house.note(session, turn, filled)
        house.announce(filled)
    session.dropped += count
