"""What broke in one session or agent: its state is given back, that one is set apart with its story, the house goes on. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from understudy.protocol.errors import QUARANTINED
from understudy.protocol.frames import ActorHello, CancelTurn, Entry, Ping
from understudy.supervisor.core import actors, calls, casting, invariants, losses, turns
from understudy.supervisor.core.child import Child
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
SESSION_FIELDS = ("last", "memory", "current", "dropped")
_copy = msgspec.structs.replace  # That is what it makes when nothing is replaced.


# A session as it was: its fields, its mailbox, questions and answers (None for none of them), and copies of the
# turns that an event may change: the one that runs, and the next. A plain tuple: one is made for each event.
_Kept = tuple[
    Session,
    tuple[Any, ...],
    list[Turn] | None,
    dict[str, OpenAsk] | None,
    dict[str, Given] | None,
    Turn | None,
    Turn | None,
]


class Before(msgspec.Struct):
    """What an event may change, as it is before it: to be given back when it breaks.

    `session`: which it is about. `played`: it is the exit of whoever played the agent. `cast`: turns that run and wait,
    bytes of questions, who plays, and who stands by.
    """

    session: Session | None
    played: bool
    lengths: tuple[int, ...]
    role: Role | None
    cast: tuple[int, int, int, Child, list[Child]] | None
    kept: Sequence[_Kept]
    open_calls: dict[str, OpenCall] | None

    def give_back(self, house: House) -> None:
        """Undo what the event wanted written and said, and what it did to sessions.

        What it wants of processes stays, or we would wait for the end of one that never began.
        """
        rows, effects, unfed, handing, calls, bodies, texts = self.lengths
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
        if self.open_calls is not None:
            house.calls = OpenCalls(self.open_calls)
        known = {kept[0].id for kept in self.kept}
        for session in [each for each in house.admitted if each.id not in known]:
            _withdraw(house, session)
        for kept in self.kept:
            _give_back(house, self.role, *kept)
        if self.role is not None and self.cast is not None:
            role = self.role
            role.running, role.queued, role.question_bytes, role.child, role.understudies = self.cast
            role.child.line.player = role.child


def before(house: House, event: Event) -> Before:
    """Return what `event` may change."""
    budget = house.budget
    rows, effects, unfed, handing = house.rows, house.effects, house.unfed, house.handing
    lengths = (len(rows), len(effects), len(unfed), len(handing), house.calls_made, budget.kept, budget.texts)
    house.admitted.clear()
    session = role = None
    kept: Sequence[_Kept] = ()
    played = False
    if type(event) is ActorSaid or type(event) is ClientSaid:
        session = house.sessions.get(getattr(event.frame, "session", ""))
        if session is not None:
            role = house.roles.get(session.agent)
            kept = (_keep(session),)
    elif type(event) is Exited or type(event) is SpawnFailed:
        role = _role_of(house, event)
        if role is not None:
            kept = _keep_all(house, role)
            played = type(event) is Exited and role.child.epoch == event.epoch
    return Before(
        session,
        played,
        lengths,
        role,
        None
        if role is None
        else (role.running, role.queued, role.question_bytes, role.child, role.understudies.copy()),
        kept,
        house.calls.kept() if session is None and house.calls else None,
    )


def _stays(effect: Effect) -> bool:
    """Whether it is of processes, or an answer to it is counted on: a ping, a read."""
    match effect:
        case Spawn() | Kill() | ReadEntries() | TellClient(frame=Ping()) | TellActor(frame=Ping()):
            return True
        case _:
            return False


def _keep(session: Session) -> _Kept:
    mailbox, current = session.mailbox, session.current
    return (
        session,
        (session.last, session.memory, current, session.dropped),
        list(mailbox) if mailbox else None,
        dict(session.asks) if session.asks else None,
        dict(session.answers) if session.answers else None,
        _copy(current) if current is not None else None,
        _copy(mailbox[0]) if mailbox else None,
    )


def _keep_all(house: House, role: Role) -> list[_Kept]:
    return [_keep(house.sessions[name]) for name in {**role.playing, **role.waiting}]


def _give_back(
    house: House,
    role: Role | None,
    session: Session,
    values: tuple[Any, ...],
    mailbox: list[Turn] | None,
    asks: dict[str, OpenAsk] | None,
    answers: dict[str, Given] | None,
    current: Turn | None,
    first: Turn | None,
) -> None:
    """Let the session be as it was. Arguments: as in `_Kept`."""
    for name, value in zip(SESSION_FIELDS, values, strict=True):
        setattr(session, name, value)
    if session.current is not None and current is not None:
        _let_be(session.current, current)
    if mailbox and first is not None:
        _let_be(mailbox[0], first)
    session.mailbox.clear()
    session.mailbox.extend(mailbox or ())
    session.asks, session.answers = asks or {}, answers or {}
    for key in [key for key in house.cancels if key[0] == session.id]:
        del house.cancels[key]
    if session.current is not None and session.current.cancelled:
        house.cancels[session.id, session.current.number] = session.current
    if role is not None:
        _put(role.waiting, session.id, None, bool(session.mailbox))
        _put(role.playing, session.id, session, session.current is not None)


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


def _let_be(turn: Turn, as_it_was: Turn) -> None:
    for name in Turn.__struct_fields__:
        setattr(turn, name, getattr(as_it_was, name))


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
    house.warn(f"session {session.id} is set apart: {why}; it happened at {event!r}")
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
    house.warn(text)
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
