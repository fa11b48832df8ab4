"""The way of a turn: mailbox, gate, hand-over, begin and go, its one ending. Pure.

queued --gate--> handed over --begin, started committed--> running --ended--> (gone)
   ^                 |  actor lost: the turn was not seen       |  actor lost: the agent's policy
   `-----------------+------------------- retry ----------------'
"""

import math

from understudy.protocol.errors import ACTOR_LOST, AGENT_FAILED, CLIENT_GONE
from understudy.protocol.frames import (
    ActorCall,
    Answer,
    Ask,
    Begin,
    Call,
    CancelTurn,
    Ended,
    Entry,
    Fault,
    Go,
    Handover,
    Remember,
    Result,
    Updates,
    pack,
    unpack,
)
from understudy.supervisor.core import bounds
from understudy.supervisor.core.child import Child, State
from understudy.supervisor.core.events import MemoryRow, TurnRow
from understudy.supervisor.core.house import PING_BUSY_EVERY_S, House, OpenCall, Role
from understudy.supervisor.core.sessions import (
    HANDOVERS_MAX,
    RETRIES_MAX,
    OpenAsk,
    Session,
    Turn,
    TurnState,
)
from understudy.supervisor.core.specs import OnCrash

# States in the log, besides queued, started and ended:
CONTINUED = "continued"  # Queued, and its agent is asked to go on.
CANCELLING = "cancelling"  # Started, and cancelled: the agent was told, or is to be told.
WITHDRAWN = "withdrawn"  # The same before it started: no agent has seen it, nor will.
HANDED_STATES = ("started", CANCELLING, WITHDRAWN)  # An actor has it.
CONTINUATION = pack(
    [
        {
            "type": "text",
            "text": "You were interrupted while you worked on the last request, and your process was started again. "
            "Look at what you have done already, and go on from there; do not repeat what is done.",
        }
    ]
)


def enqueue(house: House, session: Session, turn: Turn, at_head: bool = False) -> None:
    """Put a turn into its session's mailbox and let the gate look."""
    role = house.roles[session.agent]
    turn.state, turn.since = TurnState.QUEUED, house.now
    if at_head:
        session.mailbox.appendleft(turn)
    else:
        session.mailbox.append(turn)
    role.queued += 1
    role.waiting[session.id] = None
    admit(house, session, role)


def admit(house: House, session: Session, role: Role) -> None:
    """The gate: the only place where a turn leaves its mailbox for an actor."""
    child = role.child
    if (
        session.current is not None
        or not session.mailbox
        or session.quarantined
        or house.stopping
        or child.state is not State.RUNNING
        or role.running >= role.child.spec.turns_max
        or house.memory_over
    ):
        return
    turn = session.mailbox.popleft()
    role.queued -= 1
    role.waiting.pop(session.id, None)
    role.plays(session)
    house.due = min(house.due, house.now + PING_BUSY_EVERY_S)
    session.current = turn
    turn.handovers += 1
    child.played = True
    skip = child.spec.on_crash is OnCrash.RETRY
    turn.state = TurnState.RUNNING if skip else TurnState.HANDED
    turn.unmarked = skip
    if skip:
        _record_start(house, session, turn)
    hand_over(house, session, turn, child, skip)
    turn.since = math.inf
    house.handing.append((house.after, turn))
    handed(house)


def handed(house: House) -> None:
    """Turns whose hand-over is recorded by now are on their way to actors: their time counts from now on."""
    while house.handing and house.handing[0][0] <= house.committed:
        house.handing.popleft()[1].since = house.now


def hand_over(house: House, session: Session, turn: Turn, child: Child, go: bool) -> None:
    """Send the turn to its actor. Its prompt is recorded first, whatever else waits."""
    frame = Handover(
        session=session.id,
        turn=turn.number,
        cwd=session.cwd,
        body=turn.body,
        opening=session.opening,
        memory=session.memory,
        serves=turn.serves,
        go=go,
    )
    house.tell_actor(child, frame, house.after)


def admit_waiting(house: House, role: Role) -> None:
    """Let the gate look at every session that waits for this agent, oldest first."""
    for name in list(role.waiting):
        if role.running >= role.child.spec.turns_max or role.child.state is not State.RUNNING or house.memory_over:
            return
        admit(house, house.sessions[name], role)


def begin(house: House, session: Session, frame: Begin, child: Child) -> None:
    """The actor is ready to show the prompt to the agent: record it, then let it."""
    turn = session.current
    if turn is None or turn.number != frame.turn:
        if all(each.number != frame.turn for each in session.mailbox):
            house.tell_actor(child, CancelTurn(session.id, frame.turn), house.after)  # It was cancelled meanwhile.
        return
    if turn.cancelled:
        return
    match turn.state:
        case TurnState.HANDED:
            turn.state = TurnState.BEGUN
            turn.start_ticket = _record_start(house, session, turn)
            house.tell_actor(child, Go(session.id, turn.number), turn.start_ticket)
        case TurnState.BEGUN | TurnState.RUNNING:
            house.tell_actor(child, Go(session.id, turn.number), turn.start_ticket)
        case TurnState.QUEUED:
            raise AssertionError(f"turn {turn.number} of {session.id} is current and queued")


def _record_start(house: House, session: Session, turn: Turn) -> int:
    house.write(session, "started", turn.number, {})
    return house.record(TurnRow(session.id, turn.number, "started"))


def updates(house: House, session: Session, frame: Updates, child: Child) -> None:
    """Record what the agent said; what the log has already is only acknowledged again."""
    body, count = frame.body, frame.count
    seen = child.number - frame.n + 1
    if seen >= count:
        house.acks[child.name] = None
        return
    if seen > 0:
        body, count = pack(unpack(body)[seen:]), count - seen
    _count(house, child, frame.n + frame.count - 1)
    current = session.current
    turn = frame.turn if current is not None and current.number == frame.turn else 0
    bounds.enter_updates(house, session, turn, body, count, child.spec)


def ended(house: House, session: Session, frame: Ended, child: Child) -> None:
    """The turn's one ending."""
    if frame.n <= child.number:
        house.acks[child.name] = None
        return
    _count(house, child, frame.n)
    turn = session.current
    if turn is None or turn.number != frame.turn:
        return
    if frame.reason == "cancelled" and not turn.cancelled and child.state is State.STOPPING:
        return  # It ends for its actor's sake only: once nothing of that lives, `settle` knows what was seen.
    detail = unpack(frame.body)
    finish(house, session, turn, frame.reason, detail if isinstance(detail, dict) else {})


def finish(house: House, session: Session, turn: Turn, reason: str, body: dict[str, object]) -> None:
    """Write the ending, free the session and let the next turn through."""
    role = house.roles[session.agent]
    for ask in [name for name, ask in session.asks.items() if ask.turn == turn.number]:
        close_ask(house, session, ask, {"error": f"the turn ended ({reason})"})
    house.cancels.pop((session.id, turn.number), None)
    if session.current is turn:
        bounds.tell_dropped(house, session, turn.number, role.child.spec)
    house.write(session, "ended", turn.number, {"reason": reason, **body})
    house.record(TurnRow(session.id, turn.number, "ended"))
    if session.current is turn:
        session.current = None
        session.answers.clear()
        role.running -= 1
    else:
        session.mailbox.remove(turn)
        role.queued -= 1
    if session.mailbox:
        role.waiting[session.id] = None
        admit(house, session, role)
    else:
        role.waiting.pop(session.id, None)
    if role.running == role.child.spec.turns_max - 1:
        admit_waiting(house, role)  # The agent was full: others wait for its sake.


def cancel(house: House, session: Session, number: int) -> int:
    """Cancel turn `number` (0: all of the session); return how many were told."""
    told = 0
    for turn in [turn for turn in session.mailbox if number in (0, turn.number)]:
        finish(house, session, turn, "cancelled", {"text": "cancelled before the agent saw it"})
        # It may have been handed over before the supervisor fell.
        house.tell_actor(house.roles[session.agent].child, CancelTurn(session.id, turn.number), house.after)
        told += 1
    current = session.current
    if current is not None and number in (0, current.number):
        told += 1
        if not current.cancelled:
            state = WITHDRAWN if current.state is TurnState.HANDED else CANCELLING
            house.record(TurnRow(session.id, current.number, state))
            mark_cancelled(house, session, current)
            tell_cancel(house, session, current, house.roles[session.agent].child)
    return told


def mark_cancelled(house: House, session: Session, turn: Turn) -> None:
    """The turn is to end; whoever plays the session is told now, or when there is a connection to it."""
    turn.cancelled = True
    house.cancels[session.id, turn.number] = turn


def tell_cancel(house: House, session: Session, turn: Turn, child: Child) -> None:
    """Send the cancel once it is recorded. An actor that is not connected is told when it is."""
    if child.peer is not None:
        turn.cancel_ticket, turn.cancel_due = house.after, None
        house.tell_actor(child, CancelTurn(session.id, turn.number), turn.cancel_ticket)
        cancels_sent(house)


def cancels_sent(house: House) -> None:
    """Whoever was sent a cancel by now has its grace from now on: while the log is stuck nobody is told."""
    for (name, _), turn in house.cancels.items():
        if 0 < turn.cancel_ticket <= house.committed:
            spec = house.roles[house.sessions[name].agent].child.spec
            turn.cancel_ticket, turn.cancel_due = 0, house.now + spec.cancel_grace_s
            house.replan = True


def ask(house: House, session: Session, frame: Ask, child: Child) -> None:
    """The agent has a question: for everybody (recorded), or for the client that prompted."""
    again = frame.n <= child.number  # Said again on a new connection.
    if again:
        house.acks[child.name] = None
    else:
        _count(house, child, frame.n)
    turn = session.current
    if turn is None or turn.number != frame.turn:
        house.tell_actor(child, Answer(session.id, frame.ask, error="the turn is over"), house.after)
        return
    if frame.ask in session.answers:
        house.tell_actor(child, session.answers[frame.ask], house.after)
        return
    if frame.ask in session.asks or bounds.unasked(house, session, frame, child):
        return
    session.asks[frame.ask] = OpenAsk(turn.number, frame.method, house.now, None if frame.public else frame)
    if frame.public:
        body = {"ask": frame.ask, "method": frame.method, "params": unpack(frame.body)}
        house.write(session, "asked", turn.number, body)
    elif (peer := house.peer_of(turn.client)) is not None:
        house.tell(peer, frame)
    elif house.return_due is None:
        text = f"nobody can answer {frame.method}: the client that prompted is gone [{CLIENT_GONE}]"
        answer(house, session, Answer(session.id, frame.ask, error=text))


def ask_again(house: House, client: str, peer: bytes) -> None:
    """The client has a new connection: say again what only it can answer; it knows what it has seen."""
    for session in house.sessions.values():
        if session.current is not None and session.current.client == client:
            for pending in session.asks.values():
                if pending.frame is not None:
                    house.tell(peer, pending.frame)


def give_up_on(house: House, client: str | None) -> None:
    """Refuse what only this client could answer (None: any client that is not there)."""
    for session in house.sessions.values():
        turn = session.current
        if turn is None or client not in (None, turn.client) or house.peer_of(turn.client) is not None:
            continue
        for name in [name for name, pending in session.asks.items() if not pending.public]:
            answer(house, session, Answer(session.id, name, error=f"the client that prompted is gone [{CLIENT_GONE}]"))


def restore_entry(house: House, session: Session, turn: Turn, entry: Entry) -> None:
    """Take from the log what is to be known of a running turn: a question, its answer, that it goes on."""
    body = unpack(entry.body)
    if entry.kind == "requeued":
        turn.body = CONTINUATION if body.get("continues") else turn.body
        return
    name = str(body["ask"])
    if entry.kind == "asked":
        session.asks[name] = OpenAsk(entry.turn, str(body["method"]), house.now)
    elif session.asks.pop(name, None) is not None:
        session.answers[name] = Answer(session.id, name, pack(body.get("result")), str(body.get("error", "")))


def answer(house: House, session: Session, frame: Answer) -> bool:
    """Give the first answer to the actor; return False for a late or unknown one."""
    pending = session.asks.pop(frame.ask, None)
    if pending is None:
        return False
    if session.current is not None:
        session.current.progressed, house.replan = house.now, True  # Quiet is counted again.
    if pending.public:
        body = {"error": frame.error} if frame.error else {"result": unpack(frame.body)}
        house.write(session, "answered", pending.turn, {"ask": frame.ask, **body})
    session.answers[frame.ask] = frame
    house.tell_actor(house.roles[session.agent].child, frame, house.after)
    return True


def close_ask(house: House, session: Session, name: str, body: dict[str, object]) -> None:
    """A question that nobody will answer any more."""
    pending = session.asks.pop(name)
    if pending.public:
        house.write(session, "answered", pending.turn, {"ask": name, **body})


def remember(house: House, session: Session, frame: Remember, child: Child) -> None:
    """Keep what the driver wants back when the session is played next."""
    if frame.n <= child.number:
        house.acks[child.name] = None
        return
    _count(house, child, frame.n)
    session.memory = frame.body
    house.record(MemoryRow(session.id, frame.body))


def call(house: House, session: Session, frame: Call, peer: bytes) -> None:
    """Pass a call on to the session's actor, now or when it is ready."""
    house.calls_made += 1
    name = f"c{house.calls_made}"
    house.calls[name] = OpenCall(peer, frame.request, session.id, session.agent, frame.method, frame.body)
    if house.roles[session.agent].child.state is State.RUNNING:
        send_call(house, name)


def send_call(house: House, name: str) -> None:
    """Send one call to its actor."""
    pending = house.calls[name]
    session = house.sessions[pending.session]
    pending.sent = True
    frame = ActorCall(name, session.id, pending.method, session.cwd, pending.body, session.opening, session.memory)
    house.tell_actor(house.roles[session.agent].child, frame, house.after)


def send_waiting_calls(house: House, agent: str) -> None:
    """The actor is there: send what waited for it."""
    for name, pending in house.calls.items():
        if pending.agent == agent and not pending.sent:
            send_call(house, name)


def calls_wait(house: House, role: Role) -> bool:
    """Return whether a call waits for the agent's actor."""
    return any(call.agent == role.child.spec.name and not call.sent for call in house.calls.values())


def called(house: House, frame: Result | Fault) -> None:
    """The actor answered a call."""
    pending = house.calls.pop(frame.request, None)
    if pending is None:
        return
    if isinstance(frame, Result):
        house.tell(pending.peer, Result(pending.request, frame.body), house.after)
    else:
        house.fault(pending.peer, frame.code, frame.text, pending.request, frame.body)


def refuse_calls(house: House, agent: str, code: str, text: str, sent: bool) -> None:
    """Answer the agent's open calls (with `sent`: only those that it had) with a fault."""
    for name, pending in list(house.calls.items()):
        if pending.agent == agent and (pending.sent or not sent):
            del house.calls[name]
            house.fault(pending.peer, code, text, pending.request)


def actor_lost(
    house: House, role: Role, what: str, shown: set[tuple[str, int]] | None, was_stopped: bool = False
) -> None:
    """The incarnation is gone with everything it started: settle each turn that it had."""
    text = f"the agent was lost before it answered: {what}"
    refuse_calls(house, role.child.spec.name, ACTOR_LOST, text, sent=True)
    for session in house.sessions.values():
        turn = session.current
        if session.agent == role.child.spec.name and turn is not None:
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
        finish(house, session, turn, "cancelled", {"text": f"cancelled; {what}"})
    elif (house.stopping or was_stopped) and not unseen:
        who = "the house was shut down" if house.stopping else f"agent {session.agent} was stopped"
        finish(house, session, turn, "interrupted", {"text": f"{who} while this turn ran"})
    elif unseen and turn.handovers >= HANDOVERS_MAX:
        text = f"{turn.handovers} actors fell before this turn could begin; the last: {what}"
        finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})
    elif unseen or again:
        _put_back(house, role, session, turn, seen=not unseen)
    else:
        text = f"{what}; what it had said is kept, the session goes on"
        finish(house, session, turn, "interrupted", {"text": text})


def _put_back(house: House, role: Role, session: Session, turn: Turn, seen: bool) -> None:
    for name in [name for name, ask in session.asks.items() if ask.turn == turn.number]:
        close_ask(house, session, name, {"error": "the actor was lost"})
    goes_on = seen and role.child.spec.on_crash is OnCrash.CONTINUE
    if goes_on:
        turn.body = CONTINUATION
    if turn.state is not TurnState.HANDED:
        why = "it is safe to repeat" if seen else "no agent had seen it"
        text = "the agent is asked to go on with the turn" if goes_on else f"the turn is handed over again: {why}"
        house.write(session, "requeued", turn.number, {"text": text, "continues": turn.body == CONTINUATION})
        house.record(TurnRow(session.id, turn.number, CONTINUED if turn.body == CONTINUATION else "queued"))
        turn.retries += seen
    session.current = None
    session.answers.clear()
    role.running -= 1
    enqueue(house, session, turn, at_head=True)


def tell_wait(house: House, session: Session, turn: Turn, role: Role) -> None:
    """Write into the session why no actor takes the turn, once: else its client would see but silence."""
    child, agent = role.child, session.agent
    if turn.wait_told or house.stopping:
        return
    if child.by_person:
        text = f"{agent} was stopped by a person: the turn waits for understudy start {agent}"
    elif child.state is State.BACKOFF:
        text = f"the turn waits for agent {agent} to start: {child.why}"
    elif child.link.silent and session.current is turn:
        silent_s = house.now - child.link.heard
        text = (
            f"the turn waits for {child.title}, silent for {silent_s:.0f} s; cancel it, or: understudy restart {agent}"
        )
    else:
        return
    turn.wait_told = True
    house.write(session, "note", turn.number, {"text": text})


def give_up(house: House, role: Role, why: str) -> None:
    """The agent will not come back by itself: end what waits for it, with the reason."""
    for name in list(role.waiting):
        session = house.sessions[name]
        for turn in list(session.mailbox):
            text = f"agent {role.child.spec.name} cannot run: {why}"
            finish(house, session, turn, "failed", {"code": AGENT_FAILED, "text": text})
    refuse_calls(
        house, role.child.spec.name, AGENT_FAILED, f"agent {role.child.spec.name} cannot run: {why}", sent=False
    )


def _count(house: House, child: Child, number: int) -> None:
    child.number = number
    house.acks[child.name] = None
