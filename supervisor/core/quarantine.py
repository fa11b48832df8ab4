"""What broke in one session or agent: its state is given back, that one is set apart with its story, the house goes on. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from understudy.protocol.errors import QUARANTINED
from understudy.protocol.frames import ActorHello, CancelTurn, Entry, Ping
from understudy.protocol.news import AgentSetApart, SessionSetApart
from understudy.supervisor.core import actors, calls, casting, invariants, losses, places, turns
from understudy.supervisor.core.agent import Agent
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
    Suspended,
    TellActor,
    TellClient,
    TurnRow,
)
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, Reason, State, Step, Why
from understudy.supervisor.core.open_calls import OpenCall, OpenCalls
from understudy.supervisor.core.sessions import Given, OpenAsk, Session, Turn, TurnState

EVENT_CHARACTERS_MAX = 500  # Of the event at which an invariant broke, in the news of that.
STORY_LINES_SHOWN = 4
SESSION_FIELDS = ("last", "memory", "current", "dropped", "actor")
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

    `session`: which it is about. `played`: it is the exit of one that played the agent. `cast`: turns that run and wait,
    bytes of questions, who plays, and who stands by.
    """

    session: Session | None
    played: bool
    lengths: tuple[int, ...]
    agent: Agent | None
    cast: tuple[int, int, int, list[tuple[Actor, int]], list[Actor]] | None
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
                was_there = house.sessions.pop(row.session, None) is not None
                house.agents[row.agent].sessions -= was_there
                house.session_count -= was_there
                house.opens.pop(row.request, None)  # Its repeat would be told that it was carried out,
            elif isinstance(row, TurnRow) and row.request:
                house.prompts.pop((row.session, row.request), None)  # and so would that of this one.
        # Who lives and who is gone stays so; who plays whom is as it was.
        house.rows[rows:] = [row for row in house.rows[rows:] if isinstance(row, EpochRow) and row.plays is None]
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
        if self.agent is not None and self.cast is not None:
            _cast_again(house, self.agent, *self.cast)
        for kept in self.kept:
            _give_back(house, self.agent, *kept)


def before(house: House, event: Event) -> Before:
    """Return what `event` may change."""
    budget = house.budget
    rows, effects, unfed, handing = house.rows, house.effects, house.unfed, house.handing
    lengths = (len(rows), len(effects), len(unfed), len(handing), house.calls_made, budget.kept, budget.texts)
    house.admitted.clear()
    session = agent = None
    kept: Sequence[_Kept] = ()
    played = False
    if type(event) is ActorSaid or type(event) is ClientSaid:
        session = house.sessions.get(getattr(event.frame, "session", ""))
        if session is not None:
            agent = house.agents.get(session.agent)
            kept = (_keep(session),)
    elif type(event) is Exited or type(event) is SpawnFailed:
        agent = _agent_of(house, event)
        if agent is not None:
            kept = _keep_all(house, agent)
            had = (event.actor, event.epoch)
            played = type(event) is Exited and any((each.launch, each.epoch) == had for each in agent.actors)
    return Before(
        session,
        played,
        lengths,
        agent,
        None if agent is None else _cast_of(agent),
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
        (session.last, session.memory, current, session.dropped, session.actor),
        list(mailbox) if mailbox else None,
        dict(session.asks) if session.asks else None,
        dict(session.answers) if session.answers else None,
        _copy(current) if current is not None else None,
        _copy(mailbox[0]) if mailbox else None,
    )


def _keep_all(house: House, agent: Agent) -> list[_Kept]:
    names = dict.fromkeys(name for actor in agent.actors for name in (*actor.playing, *actor.holds))
    return [_keep(house.sessions[name]) for name in dict.fromkeys((*names, *agent.all_waiting()))]


def _cast_of(agent: Agent) -> tuple[int, int, int, list[tuple[Actor, int]], list[Actor]]:
    """Return the agent's counts, who plays in which place, and who stands by."""
    actors = [(each, each.place) for each in agent.actors]
    return agent.running, agent.queued, agent.question_bytes, actors, agent.launch.understudies.copy()


def _cast_again(
    house: House,
    agent: Agent,
    running: int,
    queued: int,
    question_bytes: int,
    actors: list[tuple[Actor, int]],
    understudies: list[Actor],
) -> None:
    """Let those play, and stand by, who did. Arguments: as `_cast_of` returns them."""
    agent.running, agent.queued, agent.question_bytes = running, queued, question_bytes
    for actor in understudies:
        actor.agent, actor.place = "", 0
        actor.playing.clear()
        actor.holds.clear()
    for added in {*agent.actors} - {actor for actor, _ in actors} - {*understudies}:
        places.unwant(house, added)  # There was none, and is to be none.
    for actor, place in actors:
        actor.agent, actor.place = agent.name, place
    agent.actors, agent.launch.understudies = [actor for actor, _ in actors], understudies
    for actor in (*agent.actors, *understudies):
        if actor.epoch:
            _launch_of(house, agent, actor).known[actor.epoch] = actor


def _launch_of(house: House, agent: Agent, actor: Actor) -> Launch:
    """Return the launch of one who plays, or stands by; it may be forgotten with its last actor."""
    known = house.launches.get(actor.launch)
    return known if known is not None else places.launch_for(house, agent, actor.environment)


def _give_back(
    house: House,
    agent: Agent | None,
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
    if session.current is None and session.actor is not None and session.id not in session.actor.holds:
        session.actor = None  # What it was bound to is gone.
    if agent is not None:
        if session.mailbox:
            agent.waits(session, house.now)
        else:
            agent.waits_no_more(session)
        for actor in agent.actors:
            _put(actor.playing, session.id, session.current is not None and actor is session.actor)
            if actor is not session.actor:
                actor.holds.pop(session.id, None)


def _withdraw(house: House, session: Session) -> None:
    """The event let a turn of another session through the gate: it waits again."""
    turn, agent, actor = session.current, house.agents[session.agent], session.actor
    assert turn is not None, f"{session.id} was let through the gate, and has no turn"
    turn.state, turn.start_ticket, turn.handovers, turn.since = TurnState.QUEUED, 0, turn.handovers - 1, house.now
    session.current = None
    session.mailbox.insert(0, turn)
    agent.running, agent.queued = agent.running - 1, agent.queued + 1
    agent.waits(session, house.now)
    if actor is not None:
        actor.playing.pop(session.id, None)
        if session.id not in actor.holds:
            session.actor = None


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
    session, agent = _session_of(house, event), _agent_of(house, event)
    if session is not None:
        actor = house.peers.get(event.peer) if isinstance(event, ActorSaid) else None
        if actor is not None and isinstance(event, ActorSaid):
            actors.count_unheard(house, actor, event.frame)
        _close(house, session, event, why)
    elif agent is not None:
        _set_apart(house, agent, event, played, why)
    return session is not None or agent is not None


def _shown(event: Event) -> str:
    return f"{event!r}"[:EVENT_CHARACTERS_MAX]  # It may hold a large body.


def _close(house: House, session: Session, event: Event, why: str) -> None:
    """The session takes no more; what it had accepted has its ending."""
    session.quarantined = why
    house.announce(SessionSetApart(session.id, 0, why, _shown(event)))
    agent, actor = house.agents.get(session.agent), session.actor
    if agent is None:
        return
    text = f"this session is set apart: {why}; open another one"
    calls.refuse_in(house, session.id, QUARANTINED, text)
    for turn in [*session.mailbox, *([] if session.current is None else [session.current])]:
        turns.finish(house, session, turn, "failed", {"code": QUARANTINED, "text": text})
        # Not before the ending is recorded: a supervisor that falls now gives the turn back as it was.
        if actor is not None:
            house.tell_actor(actor, CancelTurn(session.id, turn.number), house.after)
    turns.admit_waiting(house, agent)


def _set_apart(house: House, agent: Agent, event: Event, played: bool, why: str) -> None:
    """End all actors of the agent; its turns end once they are confirmed dead."""
    story = " | ".join(line for each in agent.actors for line in list(each.story)[-STORY_LINES_SHOWN:])
    house.announce(AgentSetApart(agent.name, why, _shown(event), story))
    exited = event if isinstance(event, Exited) else None
    agent.apart = f"set apart: {why}; understudy restart {agent.name}"
    dead = None
    for actor in agent.actors:
        gone = exited is not None and (actor.launch, actor.epoch) == (exited.actor, exited.epoch)
        dead = actor if gone else dead
        if gone and actor.peer is not None:
            house.peers.pop(actor.peer, None)
            house.budget.close(actor.peer)
        had = house.turns_of(actor)
        if gone:
            places.free(house, actor)
        house.carry_out(actor.set_apart(Why(Reason.APART, agent.apart), gone, house.now))
        if gone and played and exited is not None:
            losses.actor_lost(house, actor, had, why, None if exited.shown is None else set(exited.shown))
    if exited is not None:
        house.forget_marks(exited.actor, exited.epoch)
        launch = house.launches.get(exited.actor)
        known = launch.known.get(exited.epoch) if launch is not None else None
        if launch is not None and known is not None and known in launch.understudies:
            if known.lives:
                step = Step.ENDED if known.state is State.STOPPING else Step.RETIRED
                known.gone(step, house.now, Why(Reason.APART, why))
            if known.leaves:
                launch.forget(known)
    casting.dismiss(house, agent.launch)
    if dead is not None:
        casting.after_fall(house, agent, dead)


def _put(where: dict[str, None], name: str, there: bool) -> None:
    if there:
        where[name] = None
    else:
        where.pop(name, None)


def _session_of(house: House, event: Event) -> Session | None:
    if type(event) is ActorSaid or type(event) is ClientSaid:
        return house.sessions.get(getattr(event.frame, "session", ""))
    return None


def _agent_of(house: House, event: Event) -> Agent | None:
    """Return the agent that an event of an actor's is about; an understudy's is about the one that gave it its launch."""
    match event:
        case (
            Spawned(actor=name, epoch=epoch)
            | SpawnFailed(actor=name, epoch=epoch)
            | Exited(actor=name, epoch=epoch)
            | Suspended(actor=name, epoch=epoch)
            | Sampled(actor=name, epoch=epoch)
            | ActorSaid(frame=ActorHello(actor=name, epoch=epoch))
        ):
            launch = house.launches.get(name)
            actor = launch.known.get(epoch) if launch is not None else None
        case ActorSaid(peer=peer):
            actor = house.peers.get(peer)
            name = "" if actor is None else actor.launch
        case _:
            return None
    return house.agents.get(actor.agent if actor is not None and actor.agent else name)
