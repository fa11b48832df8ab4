"""Requests to agents outside any turn: passed on when the actor is there, answered once. Pure."""

from dataclasses import replace

from understudy.protocol import bodies
from understudy.protocol.errors import AGENT_ERROR
from understudy.protocol.frames import ActorCall, Call, Fault, Result
from understudy.supervisor.core.child import State
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.open_calls import OpenCall
from understudy.supervisor.core.sessions import Session


def pass_on(house: House, session: Session, frame: Call, peer: bytes) -> None:
    """Pass a call on to the session's actor, now or when it is ready."""
    house.calls_made += 1
    name = f"c{house.calls_made}"
    house.calls[name] = OpenCall(peer, frame.request, session.id, session.agent, frame.method, frame.body)
    child = house.roles[session.agent].child
    if child.state is State.RUNNING and _has_room(house, name):
        _send(house, name)


def _has_room(house: House, name: str) -> bool:
    call = house.calls[name]
    session = house.sessions[call.session]
    return house.room(house.roles[call.agent].child.peer, session.bytes_to_hand(len(call.body)))


def _send(house: House, name: str) -> None:
    """Send one call to its actor."""
    pending = house.calls[name]
    session = house.sessions[pending.session]
    house.calls[name] = replace(pending, sent=True, body=b"")
    frame = ActorCall(name, session.id, pending.method, session.cwd, pending.body)
    house.hand(house.roles[session.agent].child, frame, opening=session.opening, memory=session.memory)


def send_waiting(house: House, role: Role) -> None:
    """The actor is there: send what waits for it, as it takes it."""
    for name in list(house.calls.unsent(role.child.spec.name)):
        if not _has_room(house, name):
            return
        _send(house, name)


def waiting(house: House, role: Role) -> bool:
    """Return whether a call waits for the agent's actor."""
    return bool(house.calls.unsent(role.child.spec.name))


def called(house: House, frame: Result | Fault) -> None:
    """The actor answered a call."""
    pending = house.calls.pop(frame.request, None)
    if pending is None:
        return
    wrong = bodies.wrong_with(frame.body)
    if wrong:
        text = f"what agent {pending.agent} answered to {pending.method} cannot be read: {wrong}"
        house.fault(pending.peer, AGENT_ERROR, text, pending.request)
    elif isinstance(frame, Result):
        house.tell(pending.peer, Result(pending.request, frame.body), house.after)
    else:
        house.fault(pending.peer, frame.code, frame.text, pending.request, frame.body)


def refuse_in(house: House, session: str, code: str, text: str) -> None:
    """Answer the open calls of a session with a fault: what the actor says of it is not heard any more."""
    for name, pending in list(house.calls.items()):
        if pending.session == session:
            del house.calls[name]
            house.fault(pending.peer, code, text, pending.request)


def refuse(house: House, agent: str, code: str, text: str, sent: bool) -> None:
    """Answer the agent's open calls (with `sent`: only those that it had) with a fault."""
    for name, pending in list(house.calls.items()):
        if pending.agent == agent and (pending.sent or not sent):
            del house.calls[name]
            house.fault(pending.peer, code, text, pending.request)
