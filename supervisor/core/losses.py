"""What becomes of turns whose actor is lost, or will not come. Pure."""

from understudy.protocol.errors import ACTOR_LOST, AGENT_FAILED
from understudy.protocol.frames import ActorCall, Fault
from understudy.supervisor.core import asks, calls, turns
from understudy.supervisor.core.events import TurnRow, Unreadable
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.sessions import (
    CONTINUED,
    HANDOVERS_MAX,
    RETRIES_MAX,
    Session,
    Turn,
    TurnState,
)
from understudy.supervisor.core.specs import OnCrash


def actor_lost(
    house: House, role: Role, what: str, shown: set[tuple[str, int]] | None, was_stopped: bool = False
) -> None:
    """The incarnation is gone with everything it started: settle each turn that it had."""
    role.resuming.clear()
    role.ungiven.clear()
    text = f"the agent was lost before it answered: {what}"
    calls.refuse(house, role.child.spec.name, ACTOR_LOST, text, sent=True)
    for session, turn in role.turns():
        settle(house, role, session, turn, what, shown, was_stopped)


def settle(
    house: House,
    role: Role,
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
    again = role.child.spec.on_crash is not OnCrash.INTERRUPT and turn.retries < RETRIES_MAX
    if turn.cancelled:
        turns.finish(house, session, turn, "cancelled", {"text": f"cancelled; {what}"})
    elif (house.stopping or was_stopped) and not unseen:
        who = "the house was shut down" if house.stopping else f"agent {session.agent} was stopped"
        turns.finish(house, session, turn, "interrupted", {"text": f"{who} while this turn ran"})
    elif unseen and turn.handovers >= HANDOVERS_MAX:
        text = f"{turn.handovers} actors fell before this turn could begin; the last: {what}"
        turns.finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})
    elif unseen or again:
        _put_back(house, role, session, turn, seen=not unseen)
    else:
        text = f"{what}; what it had said is kept, the session goes on"
        turns.finish(house, session, turn, "interrupted", {"text": text})


def unreadable(house: House, event: Unreadable) -> None:
    """The log does not give back what a hand-over or a call wants: whoever waits for it is told."""
    frame = event.frame
    if isinstance(frame, ActorCall):
        calls.called(house, Fault(AGENT_FAILED, event.reason, frame.request))
        return
    session = house.sessions[frame.session]
    turn = session.current
    if turn is None or turn.number != frame.turn:
        return
    if turn.state is TurnState.HANDED or (turn.unmarked and turn.handovers):  # Else the actor has it from before.
        text = f"the agent cannot be given the prompt: {event.reason}"
        turns.finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})


def _put_back(house: House, role: Role, session: Session, turn: Turn, seen: bool) -> None:
    for name in [name for name, ask in session.asks.items() if ask.turn == turn.number]:
        asks.close(house, session, name, {"error": "the actor was lost"})
    goes_on = seen and role.child.spec.on_crash is OnCrash.CONTINUE
    if goes_on:
        turn.continues = True
    if turn.state is not TurnState.HANDED:
        why = "it is safe to repeat" if seen else "no agent had seen it"
        text = "the agent is asked to go on with the turn" if goes_on else f"the turn is handed over again: {why}"
        house.write(session, "requeued", turn.number, {"text": text, "continues": turn.continues})
        house.record(TurnRow(session.id, turn.number, CONTINUED if turn.continues else "queued"))
        turn.retries += seen
    session.current = None
    session.answers.clear()
    role.running -= 1
    turns.enqueue(house, session, turn, at_head=True)


def give_up(house: House, role: Role, why: str) -> None:
    """The agent will not come back by itself: end what waits for it, with the reason."""
    agent = role.child.spec.name
    text = f"agent {agent} cannot run: {why}; once that is mended: understudy restart {agent}"
    for name in list(role.waiting):
        session = house.sessions[name]
        for turn in list(session.mailbox):
            turns.finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})
    calls.refuse(house, agent, AGENT_FAILED, text, sent=False)
