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
from understudy.protocol.news import HelloRefused, LogUnreadable, SaidMended, SaidUnreadable
from understudy.supervisor.core import asks, calls, casting, flow, hangs, turns
from understudy.supervisor.core.events import ActorSaid, TellActor
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor, Reason, State, Why
from understudy.supervisor.core.sessions import Session, TurnState


def said(house: House, peer: bytes, frame: FromActor) -> None:
    """Act on one frame of the connection `peer`; what no living incarnation says is a dead letter."""
    actor = house.peers.get(peer)
    if type(frame) is ActorHello:
        _hello(house, peer, frame)
        return
    if actor is None:
        # A dead letter: nothing of an older incarnation has an effect. One that lives and was given up says hello.
        last = house.effects[-1] if house.effects else None
        told = isinstance(last, TellActor) and last.peer == peer and getattr(last.frame, "code", "") == NO_HELLO
        if not told:  # Once for all that it says at once.
            house.effects.append(TellActor(peer, Fault(NO_HELLO, "this connection is not known: say hello")))
        return
    hangs.heard(house, actor, type(frame) is Pong)
    match frame:
        case Updates() | Ended() | Ask() | Remember() | Begin():
            if actor.agent:
                _of_turn(house, actor, frame)
        case Result() | Fault():
            calls.called(house, frame)
        case Goodbye(reason=reason):
            actor.last_words = Why(Reason.ENDED, reason) if reason else None
            house.tell_actor(actor, Goodbye())
        case Ping():
            house.tell_actor(actor, Pong())
        case Pong():
            flow.actor_took(house, actor, peer)
        case Part() | ActorHello():
            pass  # A part belongs to nothing: whole frames come here.
        case _:
            assert_never(frame)


def not_read(house: House, event: ActorSaid, reason: str, passes: bool) -> None:
    """The log does not tell what the frame names. When that passes, the connection is given up: after its next hello the
    actor says all again. Else it is as of a session that nobody knows.
    """
    house.announce(LogUnreadable(reason))
    if passes:
        flow.unreachable(house, event.peer)
    else:
        said(house, event.peer, event.frame)


def count_unheard(house: House, actor: Actor, frame: FromActor) -> None:
    """Acknowledge what nobody wants to hear, or the actor would keep it, and what it says next would be a gap."""
    if isinstance(frame, Updates | Ended | Ask | Remember):
        house.count(actor, max(actor.number, last_number(frame)))


def last_number(frame: Updates | Ended | Ask | Remember) -> int:
    """Return the last of the actor's numbers that `frame` takes."""
    return frame.n + frame.count - 1 if type(frame) is Updates else frame.n


def _dismiss(house: House, actor: Actor, frame: Updates | Ended | Ask | Remember | Begin) -> None:
    """Nobody knows the session, or it is set apart: whoever waits there for an answer of ours gets one."""
    count_unheard(house, actor, frame)
    if isinstance(frame, Begin | Updates):
        house.tell_actor(actor, CancelTurn(frame.session, frame.turn), house.after)
    elif isinstance(frame, Ask):
        house.tell_actor(actor, Answer(frame.session, frame.ask, error="the turn is over"), house.after)


def _of_turn(house: House, actor: Actor, frame: Updates | Ended | Ask | Remember | Begin) -> None:
    session = house.sessions.get(frame.session)
    first = getattr(frame, "n", 0)
    if first > actor.number + 1:
        # It lost something that it had not had acknowledged: nothing it says can be trusted.
        house.carry_out(actor.kill(Why(Reason.FAULTY, f"said number {first} after {actor.number}"), house.now))
        return
    mine = session is not None and session.agent == actor.agent and session.actor in (None, actor)
    if session is None or not mine or session.quarantined:
        _dismiss(house, actor, frame)
        return
    hangs.progressed(house, session)
    if type(frame) is Ask or (not isinstance(frame, Begin) and last_number(frame) > actor.number):
        readable = _readable(house, session, frame, actor)
        if readable is None:
            count_unheard(house, actor, frame)
            return
        frame = readable
    match frame:
        case Updates():
            turns.updates(house, session, frame, actor)
        case Ended():
            turns.ended(house, session, frame, actor)
        case Begin():
            turns.begin(house, session, frame, actor)
        case Ask():
            asks.ask(house, session, frame, actor)
        case Remember():
            turns.remember(house, session, frame, actor)
        case _:
            assert_never(frame)


def _readable(
    house: House, session: Session, frame: Updates | Ended | Ask | Remember, actor: Actor
) -> Updates | Ended | Ask | Remember | None:
    """Return `frame`, or what can be recorded in its place: that nobody can read it is this session's trouble alone."""
    if type(frame) is Updates:
        wrong = "" if holds(frame.body, frame.count) else f"they are no list of {frame.count}"
    else:
        wrong = bodies.wrong_with(frame.body)
    turn = session.current.number if session.current is not None else 0
    if getattr(frame, "mended", False):
        house.note(session, turn, SaidMended(session.id, turn))
    if not wrong:
        return frame
    news = SaidUnreadable(session.id, turn, actor.title, wrong)
    house.note(session, turn, news)
    text = str(news)
    match frame:
        case Updates():
            return msgspec.structs.replace(frame, body=array([pack(unreadable(wrong))] * frame.count))
        case Ended():
            return msgspec.structs.replace(frame, body=pack({"text": text}))
        case Ask():
            house.tell_actor(actor, Answer(session.id, frame.ask, error=text), house.after)
            return None
        case Remember():
            return None


def _hello(house: House, peer: bytes, frame: ActorHello) -> None:
    launch = house.launches.get(frame.actor)
    if frame.version not in (BACKSTAGE_VERSION, BACKSTAGE_VERSION - 1) or launch is None:
        house.announce(HelloRefused("", frame.actor, frame.epoch, frame.version))
        _refuse(house, peer, f"backstage version {BACKSTAGE_VERSION} here, {frame.version} there")
        return
    actor = launch.known.get(frame.epoch)
    before, resumed = (None, False) if actor is None else (actor.peer, actor.state is State.RUNNING or actor.returning)
    if actor is None or not actor.greeted(frame, peer, house.now):
        there = f"; {actor.title} is {actor.state.value}" if actor is not None else ""
        _refuse(house, peer, f"{frame.actor}#{frame.epoch} is not expected{there}")
        return
    house.touch(actor)
    if before is not None and before != peer:
        house.peers.pop(before, None)
        house.budget.close(before)
    house.peers[peer] = actor
    house.budget.open(peer)
    house.tell_actor(actor, Welcome(frame.version, house.epoch, house.generation, house.pid, actor.number), house.after)
    hangs.greeted(house, actor)
    if not actor.agent or actor.state is not State.RUNNING:
        return
    if resumed:
        _resume(house, actor)
    casting.go_on(house, house.agents[actor.agent], actor)


def _refuse(house: House, peer: bytes, text: str) -> None:
    house.effects.append(TellActor(peer, Fault(VERSION_MISMATCH, text)))


def _resume(house: House, actor: Actor) -> None:
    """The actor has a new connection: say again what may have been lost with the old one."""
    text = f"the connection to {actor.title} broke meanwhile; it may have been carried out"
    calls.refuse_sent(house, actor, ACTOR_LOST, text)
    for session, turn in house.turns_of(actor):
        handed = turn.state is TurnState.HANDED or turn.unmarked  # It may not have come: the connection broke.
        if turn.start_ticket and not handed and not turn.cancelled:
            house.tell_actor(actor, Go(session.id, turn.number), turn.start_ticket)
        else:
            actor.resuming[session.id] = None
    turns.hand_over_again(house, actor)
