"""What broke in one session or agent: its state is given back, that one is set apart with its story, the house goes on. Pure."""

from dataclasses import fields
from operator import attrgetter
from typing import Any

from understudy.protocol.errors import QUARANTINED
from understudy.protocol.frames import ActorHello, CancelTurn, Entry, Ping
from understudy.supervisor.core import actors, calls, casting, invariants, losses, turns
from understudy.supervisor.core.events import (
    ActorSaid,
    ClientSaid,
    Effect,
    EpochRow,
    Event,
    Exited,
    Kill,
    ReadEntries,
    Sampled,
    SessionRow,
    Spawn,
    Spawned,
    SpawnFailed,
    Stopped,
    TellActor,
    TellClient,
    TurnRow,
)
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.open_calls import OpenCall, OpenCalls
from understudy.supervisor.core.sessions import Given, OpenAsk, Session, Turn, TurnState

STORY_LINES_SHOWN = 4
CHARACTERS_MAX = 2_000
SESSION_FIELDS = ("last", "memory", "current", "dropped")
TURN_FIELDS = tuple(each.name for each in fields(Turn) if each.name not in ("number", "body", "serves", "client"))
_of_turn = attrgetter(*TURN_FIELDS)


# A session as it was: its fields, its mailbox, questions and answers (None for none of them), whether it waits and is
# watched, and the fields of the turns that an event may change: the one that runs, and the next. A plain tuple: one is
# made for each event.
_Kept = tuple[
    Session,
    tuple[Any, ...],
    list[Turn] | None,
    dict[str, OpenAsk] | None,
    dict[str, Given] | None,
    bool,
    bool,
    tuple[Any, ...] | None,
    tuple[Any, ...] | None,
]


class Before:
    """What an event may change, as it is before it: to be given back when it breaks.

    `session`: which it is about. `played`: it is the exit of whoever played the agent.
    """

    __slots__ = ("_cast", "_kept", "_lengths", "_open_calls", "_role", "played", "session")

    def __init__(self, house: House, event: Event) -> None:
        budget = house.budget
        rows, effects, unfed, handing = house.rows, house.effects, house.unfed, house.handing
        self._lengths = (len(rows), len(effects), len(unfed), len(handing), house.calls_made, budget.kept, budget.texts)
        house.admitted.clear()
        self.played = False
        self._open_calls: dict[str, OpenCall] | None = None
        self._kept: list[_Kept] = []
        self._role: Role | None = None
        if type(event) is ActorSaid or type(event) is ClientSaid:
            self.session = session = house.sessions.get(getattr(event.frame, "session", ""))
            if session is not None:
                self._role = house.roles.get(session.agent)
                self._kept.append(_keep(session, self._role))
        else:
            self.session = session = None
            if type(event) is Exited or type(event) is SpawnFailed:
                self._role = its = _role_of(house, event)
                names = {} if its is None else {**its.playing, **its.waiting}
                self._kept = [_keep(house.sessions[name], its) for name in names]
                self.played = type(event) is Exited and its is not None and its.child.epoch == event.epoch
        if session is None and house.calls:
            self._open_calls = house.calls.kept()
        role = self._role
        self._cast = None if role is None else (role.running, role.queued, role.question_bytes, role.actors)

    def give_back(self, house: House) -> None:
        """Undo what the event wanted written and said, and what it did to sessions.

        What it wants of processes stays, or we would wait for the end of one that never began.
        """
        rows, effects, unfed, handing, calls, bodies, texts = self._lengths
        for row in reversed(house.rows[rows:]):
            if isinstance(row, Entry):
                house.sessions[row.session].last = row.first - 1  # The next one follows without a gap.
            elif isinstance(row, SessionRow):
                house.roles[row.agent].sessions -= house.sessions.pop(row.session, None) is not None
                house.opens.pop(row.request, None)  # Its repeat would be told that it was carried out,
            elif isinstance(row, TurnRow) and row.request:
                house.prompts.pop((row.session, row.request), None)  # and so would that of this one.
        house.rows[rows:] = [row for row in house.rows[rows:] if isinstance(row, EpochRow)]
        house.effects[effects:] = [each for each in house.effects[effects:] if _stays(each)]
        while len(house.unfed) > unfed:
            house.unfed_bytes -= len(house.unfed.pop()[1].body)
        while len(house.handing) > handing:
            house.handing.pop()
        for number in range(calls, house.calls_made):
            house.calls.pop(f"c{number + 1}", None)
        house.budget.kept, house.budget.texts = bodies, texts
        if self._open_calls is not None:
            house.calls = OpenCalls(self._open_calls)
        known = {kept[0].id for kept in self._kept}
        for session in [each for each in house.admitted if each.id not in known]:
            _withdraw(house, session)
        for kept in self._kept:
            _give_back(house, self._role, *kept)
        if self._role is not None and self._cast is not None:
            role = self._role
            role.running, role.queued, role.question_bytes, (role.child, *role.understudies) = self._cast
            role.child.line.player = role.child


def _stays(effect: Effect) -> bool:
    """Whether it is of processes, or an answer to it is counted on: a ping, a read."""
    match effect:
        case Spawn() | Kill() | ReadEntries() | TellClient(frame=Ping()) | TellActor(frame=Ping()):
            return True
        case _:
            return False


def _keep(session: Session, role: Role | None) -> _Kept:
    mailbox, current = session.mailbox, session.current
    return (
        session,
        (session.last, session.memory, current, session.dropped),
        list(mailbox) if mailbox else None,
        dict(session.asks) if session.asks else None,
        dict(session.answers) if session.answers else None,
        role is not None and session.id in role.waiting,
        role is not None and session.id in role.playing,
        _of_turn(current) if current is not None else None,
        _of_turn(mailbox[0]) if mailbox else None,
    )


def _give_back(
    house: House,
    role: Role | None,
    session: Session,
    values: tuple[Any, ...],
    mailbox: list[Turn] | None,
    asks: dict[str, OpenAsk] | None,
    answers: dict[str, Given] | None,
    waits: bool,
    plays: bool,
    current: tuple[Any, ...] | None,
    first: tuple[Any, ...] | None,
) -> None:
    """Let the session be as it was. Arguments: as in `_Kept`."""
    _set(session, SESSION_FIELDS, values)
    if session.current is not None and current is not None:
        _set(session.current, TURN_FIELDS, current)
    if mailbox and first is not None:
        _set(mailbox[0], TURN_FIELDS, first)
    session.mailbox.clear()
    session.mailbox.extend(mailbox or ())
    session.asks, session.answers = asks or {}, answers or {}
    for key in [key for key in house.cancels if key[0] == session.id]:
        del house.cancels[key]
    if session.current is not None and session.current.cancelled:
        house.cancels[session.id, session.current.number] = session.current
    if role is not None:
        _put(role.waiting, session.id, None, waits)
        _put(role.playing, session.id, session, plays)


def _withdraw(house: House, session: Session) -> None:
    """The event let a turn of another session through the gate: it waits again."""
    turn, role = session.current, house.roles[session.agent]
    assert turn is not None, f"{session.id} was let through the gate, and has no turn"
    turn.state, turn.start_ticket, turn.handovers, turn.since = TurnState.QUEUED, 0, turn.handovers - 1, house.now
    session.current = None
    session.mailbox.appendleft(turn)
    role.running, role.queued = role.running - 1, role.queued + 1
    _put(role.waiting, session.id, None, True)
    _put(role.playing, session.id, session, False)


def _set(thing: Session | Turn, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(thing, name, value)


def is_sound(house: House, session: Session | None) -> bool:
    """Return whether nothing is wrong with the session, now that what an event did to it is undone."""
    try:
        if session is not None:
            invariants.of_session(house, session)
    except AssertionError:
        return False
    return True


def contain(house: House, event: Event, played: bool, why: str) -> bool:
    """Set apart what `event` was about; return False when it was about neither a session nor an agent.

    `played`: as in `Before`.
    """
    session, role = _session_of(house, event), _role_of(house, event)
    if session is not None:
        if role is not None and isinstance(event, ActorSaid):
            actors.count_unheard(house, role.child, event.frame)
        _close(house, session, event, why)
    elif role is not None:
        _set_apart(house, role, event, played, why)
    return session is not None or role is not None


def _close(house: House, session: Session, event: Event, why: str) -> None:
    """The session takes no more; what it had accepted has its ending."""
    session.quarantined = why
    house.warn(f"session {session.id} is set apart: {why}; it happened at {event!r}"[:CHARACTERS_MAX])
    role = house.roles.get(session.agent)
    if role is None:
        return
    text = f"this session is set apart: {why}; open another one"
    calls.refuse_in(house, session.id, QUARANTINED, text)
    for turn in [*session.mailbox, *([] if session.current is None else [session.current])]:
        turns.finish(house, session, turn, "failed", {"code": QUARANTINED, "text": text})
        # Not before the ending is recorded: a supervisor that falls now gives the turn back as it was.
        house.tell_actor(role.child, CancelTurn(session.id, turn.number), house.after)
    turns.admit_waiting(house, role)


def _set_apart(house: House, role: Role, event: Event, played: bool, why: str) -> None:
    """End all actors of the agent; its turns end once they are confirmed dead."""
    story = " | ".join(line for child in role.actors for line in list(child.story)[-STORY_LINES_SHOWN:])
    text = f"agent {role.child.spec.name} is set apart: {why}; it happened at {event!r}; its story: {story}"
    house.warn(text[:CHARACTERS_MAX])
    exited = event if isinstance(event, Exited) else None
    for child in role.actors:
        gone = exited is not None and child.epoch == exited.epoch
        house.carry_out(child.set_apart(why, gone, house.now))
    if exited is not None and played:
        losses.actor_lost(house, role, why, None if exited.shown is None else set(exited.shown))
    if exited is not None:
        house.forget_marks(exited.actor, exited.epoch)
    casting.after_fall(house, role)


def _put(where: dict[str, Any], name: str, value: object, there: bool) -> None:
    if there:
        where[name] = value
    else:
        where.pop(name, None)


def _session_of(house: House, event: Event) -> Session | None:
    if type(event) is ActorSaid or type(event) is ClientSaid:
        return house.sessions.get(getattr(event.frame, "session", ""))
    return None


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
