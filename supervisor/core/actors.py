"""What actors say: hello, the turns that they play, answers to calls, goodbye. Pure."""

from typing import assert_never

import msgspec

from understudy.protocol import bodies
from understudy.protocol.codec import array, holds, pack
from understudy.protocol.errors import ACTOR_LOST, NO_HELLO, VERSION_MISMATCH
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    ActorHello,
    Answer,
    Ask,
    Begin,
    CancelTurn,
    Ended,
    Fault,
    FromActor,
    Go,
    Goodbye,
    Part,
    Ping,
    Pong,
    Remember,
    Result,
    Updates,
    Welcome,
)
from understudy.protocol.items import unreadable
from understudy.supervisor.core import asks, calls, casting, flow, hangs, turns
from understudy.supervisor.core.child import Child, State
from understudy.supervisor.core.events import TellActor
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.sessions import Session, TurnState

MENDED = (
    "something that the agent said could not be sent as it was, and was mended: half characters, numbers without end"
)


def said(house: House, peer: bytes, frame: FromActor) -> None:
    """Act on one frame of the connection `peer`; what no living incarnation says is a dead letter."""
    role = house.roles.get(house.peers.get(peer, ""))
    child = role.of_peer(peer) if role is not None else None
    if type(frame) is ActorHello:
        _hello(house, peer, frame)
        return
    if role is None or child is None:
        # A dead letter: nothing of an older incarnation has an effect. One that lives and was given up says hello.
        last = house.effects[-1] if house.effects else None
        told = isinstance(last, TellActor) and last.peer == peer and getattr(last.frame, "code", "") == NO_HELLO
        if not told:  # Once for all that it says at once.
            house.effects.append(TellActor(peer, Fault(NO_HELLO, "this connection is not known: say hello")))
        return
    hangs.heard(house, role, child, type(frame) is Pong)
    match frame:
        case Updates() | Ended() | Ask() | Remember() | Begin():
            if child is role.child:
                _of_turn(house, role, frame)
        case Result() | Fault():
            calls.called(house, frame)
        case Goodbye(reason=reason):
            child.last_words = reason
            house.tell_actor(child, Goodbye())
        case Ping():
            house.tell_actor(child, Pong())
        case Pong():
            flow.actor_took(house, role, child, peer)
        case Part() | ActorHello():
            pass  # A part belongs to nothing: whole frames come here.
        case _:
            assert_never(frame)


def count_unheard(house: House, child: Child, frame: FromActor) -> None:
    """Acknowledge what nobody wants to hear, or the actor would keep it, and what it says next would be a gap."""
    if isinstance(frame, Updates | Ended | Ask | Remember):
        house.count(child, max(child.number, last_number(frame)))


def last_number(frame: Updates | Ended | Ask | Remember) -> int:
    """Return the last of the actor's numbers that `frame` takes."""
    return frame.n + frame.count - 1 if type(frame) is Updates else frame.n


def _dismiss(house: House, child: Child, frame: Updates | Ended | Ask | Remember | Begin) -> None:
    """Nobody knows the session, or it is set apart: whoever waits there for an answer of ours gets one."""
    count_unheard(house, child, frame)
    if isinstance(frame, Begin | Updates):
        house.tell_actor(child, CancelTurn(frame.session, frame.turn), house.after)
    elif isinstance(frame, Ask):
        house.tell_actor(child, Answer(frame.session, frame.ask, error="the turn is over"), house.after)


def _of_turn(house: House, role: Role, frame: Updates | Ended | Ask | Remember | Begin) -> None:
    child = role.child
    session = house.sessions.get(frame.session)
    first = getattr(frame, "n", 0)
    if first > child.number + 1:
        # It lost something that it had not had acknowledged: nothing it says can be trusted.
        house.carry_out(child.kill(f"said number {first} after {child.number}", house.now))
        return
    if session is None or session.agent != child.spec.name or session.quarantined:
        _dismiss(house, child, frame)
        return
    hangs.progressed(house, session)
    if type(frame) is Ask or (not isinstance(frame, Begin) and last_number(frame) > child.number):
        readable = _readable(house, session, frame, child)
        if readable is None:
            count_unheard(house, child, frame)
            return
        frame = readable
    match frame:
        case Updates():
            turns.updates(house, session, frame, child)
        case Ended():
            turns.ended(house, session, frame, child)
        case Begin():
            turns.begin(house, session, frame, child)
        case Ask():
            asks.ask(house, session, frame, child)
        case Remember():
            turns.remember(house, session, frame, child)
        case _:
            assert_never(frame)


def _readable(
    house: House, session: Session, frame: Updates | Ended | Ask | Remember, child: Child
) -> Updates | Ended | Ask | Remember | None:
    """Return `frame`, or what can be recorded in its place: that nobody can read it is this session's trouble alone."""
    if type(frame) is Updates:
        wrong = "" if holds(frame.body, frame.count) else f"they are no list of {frame.count}"
    else:
        wrong = bodies.wrong_with(frame.body)
    turn = session.current.number if session.current is not None else 0
    if getattr(frame, "mended", False):
        house.write(session, "note", turn, {"text": MENDED})
    if not wrong:
        return frame
    text = f"what {child.title} said cannot be read: {wrong}"
    house.write(session, "note", turn, {"text": text})
    match frame:
        case Updates():
            return msgspec.structs.replace(frame, body=array([pack(unreadable(wrong))] * frame.count))
        case Ended():
            return msgspec.structs.replace(frame, body=pack({"text": text}))
        case Ask():
            house.tell_actor(child, Answer(session.id, frame.ask, error=text), house.after)
            return None
        case Remember():
            return None


def _hello(house: House, peer: bytes, frame: ActorHello) -> None:
    role = house.roles.get(frame.actor)
    if frame.version not in (BACKSTAGE_VERSION, BACKSTAGE_VERSION - 1) or role is None:
        house.warn(f"hello of {frame.actor}#{frame.epoch}, version {frame.version}: not one of ours")
        _refuse(house, peer, f"backstage version {BACKSTAGE_VERSION} here, {frame.version} there")
        return
    child = role.of_epoch(frame.epoch) or role.child
    before, resumed = child.peer, child.state is State.RUNNING or child.returning
    if not child.greeted(frame, peer, house.now):
        _refuse(house, peer, f"{frame.actor}#{frame.epoch} is not expected: {child.title} is {child.state.value}")
        return
    house.replan = True
    house.touch(child.spec.name)
    if before is not None and before != peer:
        house.peers.pop(before, None)
        house.budget.close(before)
    house.peers[peer] = child.name
    house.budget.open(peer)
    house.tell_actor(child, Welcome(frame.version, house.epoch, house.generation, house.pid, child.number), house.after)
    hangs.greeted(house, child)
    if child is not role.child or child.state is not State.RUNNING:
        return
    if resumed:
        _resume(house, role)
    casting.go_on(house, role)


def _refuse(house: House, peer: bytes, text: str) -> None:
    house.effects.append(TellActor(peer, Fault(VERSION_MISMATCH, text)))


def _resume(house: House, role: Role) -> None:
    """The actor has a new connection: say again what may have been lost with the old one."""
    child = role.child
    text = f"the connection to {child.title} broke meanwhile; it may have been carried out"
    calls.refuse(house, child.spec.name, ACTOR_LOST, text, sent=True)
    for session, turn in role.turns():
        handed = turn.state is TurnState.HANDED or turn.unmarked  # It may not have come: the connection broke.
        if turn.start_ticket and not handed and not turn.cancelled:
            house.tell_actor(child, Go(session.id, turn.number), turn.start_ticket)
        else:
            role.resuming[session.id] = None
    turns.hand_over_again(house, role)
