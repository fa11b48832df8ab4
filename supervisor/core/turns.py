"""The way of a turn: mailbox, gate, hand-over, begin and go, its one ending. Pure.

queued --gate--> handed over --begin, started committed--> running --ended--> (gone)
   ^                 |  actor lost: the turn was not seen       |  actor lost: the agent's policy
   `-----------------+------------------- retry ----------------'
"""

import math
from itertools import chain

from understudy.protocol.codec import sliced
from understudy.protocol.frames import (
    Begin,
    CancelTurn,
    Ended,
    Go,
    Handover,
    Remember,
    Updates,
    unpack,
)
from understudy.protocol.news import TurnWaits
from understudy.supervisor.core import asks, bounds, places
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.budget import long
from understudy.supervisor.core.events import LogState, MemoryRow, TurnRow
from understudy.supervisor.core.house import PING_BUSY_EVERY_S, House
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.sessions import (
    CONTINUED_BODY,
    Session,
    Turn,
    TurnState,
)
from understudy.supervisor.core.specs import OnCrash


def enqueue(house: House, session: Session, turn: Turn, at_head: bool = False) -> None:
    """Put a turn into its session's mailbox and let the gate look."""
    agent = house.agents[session.agent]
    turn.state, turn.since = TurnState.QUEUED, house.now
    if at_head:
        session.mailbox.insert(0, turn)
    else:
        session.mailbox.append(turn)
    agent.queued += 1
    agent.waits(session, house.now)
    admit(house, session, agent)


def admit(house: House, session: Session, agent: Agent) -> None:
    """The gate: the only place where a turn leaves its mailbox for an actor."""
    if (
        session.current is not None
        or not session.mailbox
        or session.quarantined
        or house.stopping
        or agent.running >= agent.spec.turns_max
        or house.memory_over
    ):
        return
    actor = places.ready(house, session)
    if (
        actor is None
        or places.yields(house, session, actor)
        or not house.room(actor.peer, session.bytes_to_hand(session.mailbox[0].body.size))
    ):
        return
    turn = session.mailbox.pop(0)
    agent.queued -= 1
    agent.waits_no_more(session)
    plays(house, session, agent, actor)
    house.admitted.append(session)
    house.look_within(actor, PING_BUSY_EVERY_S)
    session.current = turn
    turn.launch, turn.epoch = actor.launch, actor.epoch
    turn.handovers += 1
    skip = agent.spec.on_crash is OnCrash.RETRY
    turn.state = TurnState.RUNNING if skip else TurnState.HANDED
    turn.unmarked = skip
    if skip:
        turn.start_ticket = _record_start(house, session, turn)
    hand_over(house, session, turn, actor, skip)
    turn.since = None
    house.handing.append((house.after, turn))
    handed(house)


def plays(house: House, session: Session, agent: Agent, actor: Actor) -> None:
    """Count the session's turn as running, at `actor`."""
    places.give(house, session, actor)
    agent.running += 1
    actor.playing[session.id] = None
    actor.played = True


def handed(house: House) -> None:
    """Turns whose hand-over is recorded by now are on their way to actors: their time counts from now on."""
    while house.handing and house.handing[0][0] <= house.committed:
        house.handing.popleft()[1].since = house.now


def hand_over(house: House, session: Session, turn: Turn, actor: Actor, go: bool) -> None:
    """Send the turn to its actor. Its prompt is recorded first, whatever else waits."""
    frame = Handover(
        session=session.id,
        turn=turn.number,
        cwd=session.cwd,
        body=b"",
        serves=turn.serves,
        go=go,
        persona=house.agents[session.agent].spec.persona,
        continues=turn.continues,
    )
    body = CONTINUED_BODY if turn.continues else turn.body
    house.hand(actor, frame, body=body, opening=session.opening, memory=session.memory)


def hand_over_again(house: House, actor: Actor) -> None:
    """Say again what may have been lost with the actor's last connection, as it takes it, with the cancels."""
    while actor.resuming:
        name = next(iter(actor.resuming))
        session = house.sessions.get(name)
        turn = session.current if session is not None and session.actor is actor else None
        if session is None or turn is None:
            del actor.resuming[name]
            continue
        if not house.room(actor.peer, session.bytes_to_hand(turn.body.size)):
            return
        del actor.resuming[name]
        handed_only = turn.state is TurnState.HANDED or turn.cancelled
        if turn.start_ticket and not handed_only and not turn.unmarked:
            continue  # It has said that it may begin: it has it.
        hand_over(house, session, turn, actor, go=not handed_only)
        if turn.cancelled:
            tell_cancel(house, session, turn, actor)


def admit_waiting(house: House, agent: Agent) -> None:
    """Let the gate look at every session that waits for this agent, as long as one might get through.

    First come those that an actor holds, then the others, who waits longest first.
    """
    few = agent.actors if agent.spec.sessions_per_actor else ()  # Others hold many, and have room for all.
    holds = (house.sessions[name] for actor in few for name in actor.holds)
    held = sorted((each for each in holds if agent.waits_since(each) < math.inf), key=agent.waits_since)
    taken: set[str] = set()  # Environments for which there is nobody, also for those that came later.
    for name in chain((each.id for each in held), agent.all_waiting(taken)):
        if agent.running >= agent.spec.turns_max or house.memory_over:
            return
        session = house.sessions[name]
        if not agent.holds_by_name(session.environment):
            there = agent.first.state is State.RUNNING and house.room(agent.first.peer)
        else:
            there = session.actor is not None or places.actor_of(house, session) is not None
        if there:
            admit(house, session, agent)
        else:
            taken.add(session.environment)


def begin(house: House, session: Session, frame: Begin, actor: Actor) -> None:
    """The actor is ready to show the prompt to the agent: record it, then let it."""
    turn = session.current
    if turn is None or turn.number != frame.turn:
        if all(each.number != frame.turn for each in session.mailbox):
            house.tell_actor(actor, CancelTurn(session.id, frame.turn), house.after)  # It was cancelled meanwhile.
        return
    if turn.cancelled:
        return
    match turn.state:
        case TurnState.HANDED:
            turn.state = TurnState.BEGUN
            turn.start_ticket = _record_start(house, session, turn)
            house.tell_actor(actor, Go(session.id, turn.number), turn.start_ticket)
        case TurnState.BEGUN | TurnState.RUNNING:
            house.tell_actor(actor, Go(session.id, turn.number), turn.start_ticket)
        case TurnState.QUEUED:
            raise AssertionError(f"turn {turn.number} of {session.id} is current and queued")


def _record_start(house: House, session: Session, turn: Turn) -> int:
    house.write(session, "started", turn.number, {})
    return house.record(TurnRow(session.id, turn.number, LogState.STARTED, epoch=turn.epoch, launch=turn.launch))


def updates(house: House, session: Session, frame: Updates, actor: Actor) -> None:
    """Record what the agent said; what the log has already is only acknowledged again."""
    body, count = frame.body, frame.count
    seen = actor.number - frame.n + 1
    if seen >= count:
        house.acks[actor] = None
        return
    if seen > 0:
        body, count = sliced(body, seen, count), count - seen
    house.count(actor, frame.n + frame.count - 1)
    current = session.current
    turn = frame.turn if current is not None and current.number == frame.turn else 0
    if frame.turn != turn and all(each.number != frame.turn for each in session.mailbox):
        # It plays what is over, and nobody will tell it otherwise: the session was set apart, say.
        house.tell_actor(actor, CancelTurn(session.id, frame.turn), house.after)
    bounds.enter_updates(house, session, turn, body, count, house.agents[session.agent].spec)


def ended(house: House, session: Session, frame: Ended, actor: Actor) -> None:
    """The turn's one ending."""
    if frame.n <= actor.number:
        house.acks[actor] = None
        return
    house.count(actor, frame.n)
    turn = session.current
    if turn is None or turn.number != frame.turn:
        return
    if frame.reason == "cancelled" and not turn.cancelled and actor.state is State.STOPPING:
        return  # It ends for its actor's sake only: once nothing of that lives, `settle` knows what was seen.
    detail = unpack(frame.body)
    finish(house, session, turn, frame.reason, detail if isinstance(detail, dict) else {})


def finish(house: House, session: Session, turn: Turn, reason: str, body: dict[str, object]) -> None:
    """Write the ending, free the session and let the next turn through."""
    agent = house.agents[session.agent]
    house.idle_since = house.now
    if session.asks:
        for ask in [name for name, ask in session.asks.items() if ask.turn == turn.number]:
            asks.close(house, session, ask, {"error": f"the turn ended ({reason})"})
    house.cancels.pop((session.id, turn.number), None)
    house.budget.let_go(turn.body)
    house.budget.texts -= long(turn.serves)
    if session.current is turn:
        bounds.tell_dropped(house, session, turn.number, agent.spec)
    house.write(session, "ended", turn.number, {"reason": reason, **body})
    house.record(TurnRow(session.id, turn.number, LogState.ENDED))
    if session.current is turn:
        session.current = None
        session.answers.clear()
        agent.running -= 1
        agent.waits_no_more(session)  # Its next turn comes after those of others who wait by now.
        places.unbind(house, session)
    else:
        session.mailbox.remove(turn)
        agent.queued -= 1
    if session.mailbox:
        agent.waits(session, house.now)
    elif agent.waits_since(session) < math.inf:
        agent.waits_no_more(session)
        places.nothing_waits(house, agent, session)
    if agent.running == agent.spec.turns_max - 1:
        admit_waiting(house, agent)  # It was full: others wait for its sake.
    elif session.mailbox:
        admit(house, session, agent)


def cancel(house: House, session: Session, number: int) -> int:
    """Cancel turn `number` (0: all of the session); return how many were told."""
    told = 0
    mailbox = session.mailbox  # In the order of their numbers: many may wait, and many cancels come for none of them.
    there = bool(mailbox) and (not number or mailbox[0].number <= number <= mailbox[-1].number)
    for turn in [turn for turn in mailbox if number in (0, turn.number)] if there else []:
        finish(house, session, turn, "cancelled", {"text": "cancelled before the agent saw it"})
        # It may have been handed over before the supervisor fell.
        for actor in house.agents[session.agent].actors:
            house.tell_actor(actor, CancelTurn(session.id, turn.number), house.after)
        told += 1
    current = session.current
    if current is not None and number in (0, current.number):
        told += 1
        if not current.cancelled:
            state = LogState.WITHDRAWN if current.state is TurnState.HANDED else LogState.CANCELLING
            row = TurnRow(session.id, current.number, state, epoch=current.epoch, launch=current.launch)
            house.record(row)
            mark_cancelled(house, session, current)
            if session.actor is not None:
                tell_cancel(house, session, current, session.actor)
    return told


def mark_cancelled(house: House, session: Session, turn: Turn) -> None:
    """The turn is to end; whoever plays the session is told now, or when there is a connection to it."""
    turn.cancelled = True
    house.cancels[session.id, turn.number] = turn


def tell_cancel(house: House, session: Session, turn: Turn, actor: Actor) -> None:
    """Send the cancel once it is recorded. An actor that is not connected is told when it is."""
    if actor.peer is not None:
        turn.cancel_ticket, turn.cancel_due = house.after, None
        house.tell_actor(actor, CancelTurn(session.id, turn.number), turn.cancel_ticket)
        cancels_sent(house)


def cancels_sent(house: House) -> None:
    """Whoever was sent a cancel by now has its grace from now on: while the log is stuck nobody is told."""
    for (name, _), turn in house.cancels.items():
        if 0 < turn.cancel_ticket <= house.committed:
            spec = house.agents[house.sessions[name].agent].spec
            turn.cancel_ticket, turn.cancel_due = 0, house.now + spec.cancel_grace_s
            house.replan = True


def remember(house: House, session: Session, frame: Remember, actor: Actor) -> None:
    """Keep what the driver wants back when the session is played next."""
    if frame.n <= actor.number:
        house.acks[actor] = None
        return
    house.count(actor, frame.n)
    house.budget.let_go(session.memory)
    session.memory = house.budget.keep(frame.body)
    house.record(MemoryRow(session.id, frame.body))


def tell_wait(house: House, session: Session, turn: Turn, agent: Agent) -> None:
    """Write into the session why no actor takes the turn, once: else its client would see but silence."""
    name, actor = agent.name, session.actor or agent.first
    if turn.wait_told or house.stopping:
        return
    if agent.departed:
        waits = TurnWaits(session.id, turn.number, name, "configuration")
    elif agent.by_person:
        waits = TurnWaits(session.id, turn.number, name, "person")
    elif actor.state is State.BACKOFF and not actor.starts:
        waits = TurnWaits(session.id, turn.number, name, "start", actor.title, why=actor.why.text)
    elif actor.heard.silent and session.current is turn:
        waits = TurnWaits(session.id, turn.number, name, "answer", actor.title, house.now - actor.heard.at)
    else:
        return
    turn.wait_told = True
    house.note(session, turn.number, waits)
