"""What becomes of turns whose actor is lost, or will not come. Pure."""

from understudy.protocol.errors import ACTOR_LOST, AGENT_FAILED
from understudy.protocol.frames import ActorCall, Fault
from understudy.supervisor.core import asks, calls, places, turns
from understudy.supervisor.core.agent import GIVEN_UP, GONE, Agent
from understudy.supervisor.core.events import LogState, TurnRow, Unreadable
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor
from understudy.supervisor.core.sessions import (
    HANDOVERS_MAX,
    RETRIES_MAX,
    Session,
    Turn,
    TurnState,
)
from understudy.supervisor.core.specs import OnCrash


def actor_lost(
    house: House,
    actor: Actor,
    had: list[tuple[Session, Turn]],
    what: str,
    shown: set[tuple[str, int]] | None,
    was_stopped: bool = False,
) -> None:
    """The incarnation is gone with everything it started: settle each turn that it `had`."""
    calls.refuse_sent(house, actor, ACTOR_LOST, f"the agent was lost before it answered: {what}")
    for session, turn in had:
        settle(house, session, turn, what, shown, was_stopped)


def settle(
    house: House,
    session: Session,
    turn: Turn,
    what: str,
    shown: set[tuple[str, int]] | None,
    was_stopped: bool = False,
) -> None:
    """Decide what becomes of a turn whose actor is lost; `shown`: what its agent may have seen, None: anything."""
    house.write(session, "lost", turn.number, {"text": what})
    unseen = (
        turn.state is TurnState.HANDED
        or (turn.state is TurnState.BEGUN and turn.start_ticket > house.committed)
        or (not turn.unmarked and shown is not None and (session.id, turn.number) not in shown)
    )
    again = house.agents[session.agent].spec.on_crash is not OnCrash.INTERRUPT and turn.retries < RETRIES_MAX
    if turn.cancelled:
        turns.finish(house, session, turn, "cancelled", {"text": f"cancelled; {what}"})
    elif (house.stopping or was_stopped) and not unseen:
        who = "the house was shut down" if house.stopping else f"agent {session.agent} was stopped"
        turns.finish(house, session, turn, "interrupted", {"text": f"{who} while this turn ran"})
    elif unseen and turn.handovers >= HANDOVERS_MAX:
        text = f"{turn.handovers} actors fell before this turn could begin; the last: {what}"
        turns.finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})
    elif unseen or again:
        _put_back(house, session, turn, seen=not unseen)
    else:
        then = f"agent {session.agent} is {GONE}" if house.agents[session.agent].departed else "the session goes on"
        text = f"{what}; what it had said is kept, {then}"
        turns.finish(house, session, turn, "interrupted", {"text": text})


def unreadable(house: House, event: Unreadable) -> None:
    """The log does not give back what a hand-over or a call wants: whoever waits for it is told."""
    frame = event.frame
    if isinstance(frame, ActorCall):
        calls.called(house, Fault(AGENT_FAILED, event.reason, frame.request))
        return
    session = house.sessions.get(frame.session)
    turn = session.current if session is not None else None
    if session is None or turn is None or turn.number != frame.turn:
        return
    if turn.state is TurnState.HANDED or (turn.unmarked and turn.handovers):  # Else the actor has it from before.
        text = f"the agent cannot be given the prompt: {event.reason}"
        turns.finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})


def _put_back(house: House, session: Session, turn: Turn, seen: bool) -> None:
    agent = house.agents[session.agent]
    for name in [name for name, ask in session.asks.items() if ask.turn == turn.number]:
        asks.close(house, session, name, {"error": "the actor was lost"})
    goes_on = seen and agent.spec.on_crash is OnCrash.CONTINUE
    if goes_on:
        turn.continues = True
    if turn.state is not TurnState.HANDED:
        why = "it is safe to repeat" if seen else "no agent had seen it"
        text = "the agent is asked to go on with the turn" if goes_on else f"the turn is handed over again: {why}"
        house.write(session, "requeued", turn.number, {"text": text, "continues": turn.continues})
        house.record(TurnRow(session.id, turn.number, LogState.CONTINUED if turn.continues else LogState.QUEUED))
        turn.retries += seen
    session.current = None
    session.answers.clear()
    agent.running -= 1
    places.unbind(house, session)
    turns.enqueue(house, session, turn, at_head=True)


def give_up(house: House, agent: Agent, actor: Actor) -> None:
    """The actor will not come back by itself: end what waits for it, with the reason, but what others can do."""
    name = agent.name
    text = f"agent {name} cannot run: {actor.why}; once that is mended: understudy restart {name}"
    environment = actor.environment
    its = [each for each in agent.others(actor) if each.environment == environment]
    others = agent.spec.sessions_per_actor and any(each.state not in GIVEN_UP for each in its)
    for session in [house.sessions[each] for each in agent.waiting.get(environment, {})]:
        for turn in list(session.mailbox) if not others or session.actor is actor else []:
            turns.finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})
    if others:
        for each in actor.holds:
            calls.refuse_in(house, each, AGENT_FAILED, text)
    else:
        calls.refuse_unsent(house, agent, AGENT_FAILED, text, environment)
