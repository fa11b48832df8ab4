"""A supervisor that starts takes back what the log gives it. Pure."""

from understudy.protocol.codec import UNREADABLE_ERRORS
from understudy.protocol.errors import QUARANTINED
from understudy.protocol.news import TurnGivenUp
from understudy.protocol.sizes import METHOD_CHARACTERS_MAX, SERVES_MAX
from understudy.supervisor.core import asks, at_rest, departed, losses, turns
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.budget import long
from understudy.supervisor.core.events import LogState, TurnRow
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import State
from understudy.supervisor.core.restored import Restored, RestoredTurn, Shown
from understudy.supervisor.core.sessions import Session, Turn, TurnState
from understudy.supervisor.core.specs import OnCrash

WAITING = (LogState.QUEUED, LogState.CONTINUED)  # No actor has it.


def take_back(house: House, restored: Restored, shown: Shown) -> None:
    """Restore the sessions that have something to do, and their turns; settle those turns whose actors are dead.

    `shown`: what dead actors had shown to their agents.
    """
    for row in restored.sessions:
        at_rest.take_in(house, row)
    house.session_count = sum(restored.counts.values())
    for name, held in restored.holds.items():
        _hold(house, house.sessions[name], *held)
    for open_turn in restored.turns:
        session = house.sessions[open_turn.session]
        if session.quarantined:
            _end(house, session, open_turn)
            continue
        agent = departed.agent_of(house, session.agent)
        if open_turn.state in WAITING:
            turns.enqueue(house, session, _turn(house, open_turn))
            if agent.departed and len(session.mailbox) == 1:
                turns.tell_wait(house, session, session.mailbox[0], agent)
        else:
            _take_back_handed(house, agent, session, open_turn, shown)
    for name, agent in house.agents.items():
        agent.sessions = restored.counts.get(name, 0)


def _hold(house: House, session: Session, name: str, epoch: int) -> None:
    """While something lives of the actor whose program knows the session, nobody else is given it."""
    launch = house.launches.get(name)
    actor = launch.known.get(epoch) if launch is not None else None
    if actor is None or not (actor.lives or actor.state is State.UNKNOWN):
        return
    if actor.agent == session.agent and house.agents[session.agent].holds_by_name(session.environment):
        session.actor, actor.holds[session.id] = actor, epoch


def _end(house: House, session: Session, row: RestoredTurn) -> None:
    """The session is set apart: what it had accepted has its ending, or whoever waits for that would wait for ever."""
    text = f"this session is set apart: {session.quarantined}; open another one"
    house.announce(TurnGivenUp(session.id, row.turn, text))
    house.write(session, "ended", row.turn, {"reason": "failed", "code": QUARANTINED, "text": text})
    house.record(TurnRow(session.id, row.turn, LogState.ENDED))


def _turn(house: House, row: RestoredTurn) -> Turn:
    body = house.budget.keep(row.body, row.size)
    serves = [each for each in row.serves if len(each) <= METHOD_CHARACTERS_MAX][:SERVES_MAX]
    house.budget.texts += long(serves)
    return Turn(row.turn, body, serves, row.client, continues=row.state is LogState.CONTINUED)


def _take_back_handed(house: House, agent: Agent, session: Session, row: RestoredTurn, shown: Shown) -> None:
    """An actor has the turn: while that lives, its exit settles it; else it is settled now, by what that had shown."""
    turn = _turn(house, row)
    try:
        for entry in row.told:
            asks.restore_entry(house, session, turn, entry)
    except UNREADABLE_ERRORS as error:
        house.budget.let_go(turn.body)
        house.budget.texts -= long(turn.serves)
        session.asks.clear()
        session.answers.clear()
        session.quarantined = f"turn {turn.number} cannot be read from the log: {error}"
        _end(house, session, row)
        return
    session.current = turn
    turn.since = house.now
    turn.state = TurnState.HANDED if row.state is LogState.WITHDRAWN else TurnState.RUNNING
    turn.launch, turn.epoch = row.launch or session.agent, row.epoch
    if agent.first.lives and not row.epoch:  # Older versions did not record who has it: it is whoever plays.
        turn.launch, turn.epoch = agent.first.launch, agent.first.epoch
        house.record(TurnRow(session.id, turn.number, row.state, epoch=turn.epoch, launch=turn.launch))
    launch = house.launches.get(turn.launch)
    actor = launch.known.get(turn.epoch) if launch is not None else None
    if actor is not None and actor.lives and actor.agent == agent.name:
        turns.plays(house, session, agent, actor)
    else:
        actor = None
        agent.running += 1
    if row.state is not LogState.STARTED:
        turns.mark_cancelled(house, session, turn)
    turn.unmarked = agent.spec.on_crash is OnCrash.RETRY
    if actor is None:
        what = "the supervisor ended while this turn ran"
        losses.settle(house, session, turn, what, shown.get((turn.launch, turn.epoch)))
