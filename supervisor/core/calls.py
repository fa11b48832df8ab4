"""Requests to agents outside any turn: passed on when the actor is there, answered once. Pure."""

from dataclasses import replace

from understudy.protocol import bodies
from understudy.protocol.errors import AGENT_ERROR
from understudy.protocol.frames import ActorCall, Call, Fault, Result
from understudy.supervisor.core import places
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor
from understudy.supervisor.core.open_calls import OpenCall
from understudy.supervisor.core.sessions import Session


def pass_on(house: House, session: Session, frame: Call, peer: bytes) -> None:
    """Pass a call on to the session's actor, now or when it is ready."""
    house.calls_made += 1
    name = f"c{house.calls_made}"
    house.calls[name] = OpenCall(
        peer, frame.request, session.id, session.agent, frame.method, frame.body, since=house.now
    )
    _send(house, name)


def _send(house: House, name: str) -> bool:
    """Send one call to its actor; return False when that takes no more now."""
    pending = house.calls[name]
    session = house.sessions[pending.session]
    actor = places.ready(house, session)
    if actor is None:
        return True
    if not house.room(actor.peer, session.bytes_to_hand(len(pending.body))):
        return False
    if house.agents[session.agent].holds_by_name(session.environment):
        places.give(house, session, actor)
    house.calls[name] = replace(pending, sent=True, body=b"", actor=actor)
    persona = house.agents[session.agent].spec.persona
    frame = ActorCall(name, session.id, pending.method, session.cwd, pending.body, persona=persona)
    house.hand(actor, frame, opening=session.opening, memory=session.memory)
    return True


def send_waiting(house: House, agent: Agent) -> None:
    """An actor is there: send what waits for it, as it takes it."""
    full: set[str] = set()
    for name in list(house.calls.unsent(agent.name)):
        environment = house.sessions[house.calls[name].session].environment
        if environment not in full and not _send(house, name):
            full.add(environment)


def called(house: House, frame: Result | Fault) -> None:
    """The actor answered a call."""
    if frame.request not in house.calls:
        return
    pending = forget(house, frame.request)
    if not pending.session and not _is_answered(house, pending, isinstance(frame, Fault)):
        return
    wrong = bodies.wrong_with(frame.body)
    if wrong:
        text = f"what agent {pending.agent} answered to {pending.method} cannot be read: {wrong}"
        house.fault(pending.peer, AGENT_ERROR, text, pending.request)
    elif isinstance(frame, Result):
        house.tell(pending.peer, Result(pending.request, frame.body), house.after)
    else:
        house.fault(pending.peer, frame.code, frame.text, pending.request, frame.body)


def _is_answered(house: House, signal: OpenCall, failed: bool) -> bool:
    """Return whether a signal is answered now: by all actors of the agent that got it, or since one of them failed."""
    others = [name for name in house.calls.of(signal.peer) if house.calls[name].request == signal.request]
    for name in others if failed else []:
        forget(house, name)
    return failed or not others


def forget(house: House, name: str) -> OpenCall:
    """Take a call out of those that are open: its actor may have nothing to do now, and others wait for its place."""
    pending = house.calls.pop(name)
    if pending.actor is not None:
        places.rested(house, pending.actor)
    elif pending.session in house.sessions and pending.agent in house.agents:
        places.nothing_waits(house, house.agents[pending.agent], house.sessions[pending.session])
    return pending


def refuse_in(house: House, session: str, code: str, text: str) -> None:
    """Answer the open calls of a session with a fault: what the actor says of it is not heard any more."""
    _refuse(house, list(house.calls.in_session(session)), code, text)


def refuse(house: House, agent: str, code: str, text: str) -> None:
    """Answer the agent's open calls with a fault."""
    _refuse(house, [name for name, pending in house.calls.items() if pending.agent == agent], code, text)


def refuse_unsent(house: House, agent: Agent, code: str, text: str, environment: str | None = None) -> None:
    """Answer with a fault what waits for somebody to play the agent (None: in whichever environment)."""
    names = list(house.calls.unsent(agent.name))
    if environment is not None:
        names = [name for name in names if house.sessions[house.calls[name].session].environment == environment]
    _refuse(house, names, code, text)


def refuse_sent(house: House, actor: Actor, code: str, text: str) -> None:
    """Answer the open calls that an actor had with a fault."""
    _refuse(house, list(house.calls.with_actor(actor)), code, text)


def _refuse(house: House, names: list[str], code: str, text: str) -> None:
    for name in names:
        if name in house.calls:
            pending = forget(house, name)
            if not pending.session:
                _is_answered(house, pending, failed=True)
            house.fault(pending.peer, code, text, pending.request)
