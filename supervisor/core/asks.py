"""Questions of agents: asked of everybody or of one client, answered once. Pure."""

import msgspec

from understudy.protocol.errors import CLIENT_GONE
from understudy.protocol.frames import Answer, Ask, Entry, unpack
from understudy.supervisor.core import bounds
from understudy.supervisor.core.budget import Sent
from understudy.supervisor.core.house import House
from understudy.supervisor.core.life import Actor
from understudy.supervisor.core.sessions import Given, OpenAsk, Session, Turn


class _Told(msgspec.Struct):
    """What is to be known again of an `asked`, `answered` or `requeued` entry. Results stay packed."""

    ask: str = ""
    method: str = ""
    result: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: str = ""
    continues: bool = False


_told = msgspec.msgpack.Decoder(_Told)


def ask(house: House, session: Session, frame: Ask, actor: Actor) -> None:
    """The agent has a question: for everybody (recorded), or for the client that prompted."""
    again = frame.n <= actor.number  # Said again on a new connection.
    if again:
        house.acks[actor] = None
    else:
        house.count(actor, frame.n)
    turn = session.current
    if turn is None or turn.number != frame.turn:
        house.tell_actor(actor, Answer(session.id, frame.ask, error="the turn is over"), house.after)
        return
    if frame.ask in session.answers:
        _give(house, session, session.answers[frame.ask].answer, actor)
        return
    if frame.ask in session.asks or bounds.unasked(house, session, frame, actor):
        return
    if bounds.questions_full(house, session, frame, actor):
        return
    session.asks[frame.ask] = OpenAsk(turn.number, frame.method, house.now, None if frame.public else frame)
    if not frame.public:
        house.agents[session.agent].question_bytes += len(frame.body)
    if frame.public:
        body = {"ask": frame.ask, "method": frame.method, "params": unpack(frame.body)}
        house.write(session, "asked", turn.number, body)
    elif (peer := house.peer_of(turn.client)) is not None:
        _put(house, peer, session.asks[frame.ask])
    elif house.return_due is None:
        text = f"nobody can answer {frame.method}: the client that prompted is gone [{CLIENT_GONE}]"
        answer(house, session, Answer(session.id, frame.ask, error=text))


def say_again(house: House, client: str, peer: bytes) -> None:
    """Say what only the client can answer, and what was not said on this connection; it knows what it has seen."""
    for session, turn in _playing(house):
        if turn.client == client:
            for pending in session.asks.values():
                if pending.frame is not None and pending.peer != peer:
                    _put(house, peer, pending)
                    if house.clients[peer].unasked:
                        return  # When there is room it is said on.


def _put(house: House, peer: bytes, pending: OpenAsk) -> None:
    """Put a question to the one client that can answer it, when there is room on the way to it: see `flow`."""
    assert pending.frame is not None, f"a question about {pending.method} is for everybody"
    if house.room(peer):
        pending.peer = peer
        house.tell(peer, pending.frame)
    else:
        house.clients[peer].unasked = True


def give_up_on(house: House, client: str | None) -> None:
    """Refuse what only this client could answer (None: any client that is not there)."""
    there = {each.id for each in house.clients.values()}
    for session, turn in _playing(house):
        if client not in (None, turn.client) or turn.client in there:
            continue
        for name in [name for name, pending in session.asks.items() if not pending.public]:
            answer(house, session, Answer(session.id, name, error=f"the client that prompted is gone [{CLIENT_GONE}]"))


def _playing(house: House) -> list[tuple[Session, Turn]]:
    actors = [each for agent in house.agents.values() for each in agent.actors]
    return [each for actor in actors for each in house.turns_of(actor)]


def restore_entry(house: House, session: Session, turn: Turn, entry: Entry) -> None:
    """Take from the log what is to be known of a running turn: a question, its answer, that it goes on.

    Raises what is in `UNREADABLE_ERRORS` for an entry that cannot be read.
    """
    told = _told.decode(entry.body)
    if entry.kind == "requeued":
        turn.continues |= told.continues
    elif entry.kind == "asked":
        session.asks[told.ask] = OpenAsk(entry.turn, told.method, house.now)
    elif session.asks.pop(told.ask, None) is not None:
        given = Answer(session.id, told.ask, bytes(told.result), told.error)
        session.answers[told.ask] = Given(given)


def answer(house: House, session: Session, frame: Answer) -> bool:
    """Give the first answer to the actor; return False for a late or unknown one."""
    pending = _taken(house, session, frame.ask)
    if pending is None:
        return False
    if session.current is not None:
        session.current.progressed = house.now  # Quiet is counted again.
    if pending.public:
        body = {"error": frame.error} if frame.error else {"result": unpack(frame.body)}
        house.write(session, "answered", pending.turn, {"ask": frame.ask, **body})
    if session.actor is not None:
        house.touch(session.actor)
        _give(house, session, frame, session.actor)
    return True


def _give(house: House, session: Session, answer: Answer, actor: Actor) -> None:
    """Send the answer, a large one when there is room, and keep it until the actor certainly has it."""
    ungiven, size = actor.ungiven, len(answer.body)
    if size > house.budget.limits.share_bytes and not house.room(actor.peer, size):
        session.answers[answer.ask] = Given(answer)
        ungiven[session.id, answer.ask] = None
        return
    ungiven.pop((session.id, answer.ask), None)
    window = house.budget.windows.get(actor.peer or b"")
    serial, ticket = (window.serial, house.after) if window is not None else (0, 0)
    session.answers[answer.ask] = Given(answer, actor.peer, serial, ticket)
    house.tell_actor(actor, answer, house.after)


def give_on(house: House, actor: Actor) -> None:
    """Send the answers that wait for room on the way to the actor, as it takes them."""
    for session_id, name in list(actor.ungiven):
        del actor.ungiven[session_id, name]
        session = house.sessions.get(session_id)
        if session is not None and name in session.answers:  # Else the turn is over.
            _give(house, session, session.answers[name].answer, actor)


def forget_given(house: House, actor: Actor, peer: bytes, ping: Sent) -> None:
    """The actor has answered `ping`: it has had the answers that went out before, and will not ask for them again."""
    for session in (house.sessions[each] for each in actor.playing):
        for name, given in list(session.answers.items()):
            if given.peer == peer and given.serial < ping.serial and given.ticket <= ping.ticket:
                del session.answers[name]


def close(house: House, session: Session, name: str, body: dict[str, object]) -> None:
    """A question that nobody will answer any more."""
    pending = _taken(house, session, name)
    if pending is not None and pending.public:
        house.write(session, "answered", pending.turn, {"ask": name, **body})


def _taken(house: House, session: Session, name: str) -> OpenAsk | None:
    """Take a question out of those that are open; None: it is none of them."""
    pending = session.asks.pop(name, None)
    if pending is not None and pending.frame is not None:
        house.agents[session.agent].question_bytes -= len(pending.frame.body)
    return pending
