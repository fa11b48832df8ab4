"""What clients ask of the house: each frame of theirs, answered or refused. Pure."""

from typing import assert_never

from understudy import __version__
from understudy.protocol import doors, verbs
from understudy.protocol.bodies import clipped, is_blank
from understudy.protocol.doors import Wrong, about, wrong_with_body
from understudy.protocol.drivers import DRIVERS
from understudy.protocol.errors import (
    AGENT_FAILED,
    BAD_FRAME,
    EMPTY_PROMPT,
    INTERNAL,
    LIMIT_REACHED,
    LOG_STALLED,
    NO_HELLO,
    NO_SESSIONS,
    QUARANTINED,
    SHUTTING_DOWN,
    UNKNOWN_AGENT,
    UNKNOWN_ASK,
    UNKNOWN_SESSION,
    UNKNOWN_VERB,
    UNREADABLE,
    VERSION_MISMATCH,
)
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Accepted,
    Answer,
    Call,
    Cancel,
    Credit,
    Follow,
    FromClient,
    Goodbye,
    Hello,
    Open,
    Opened,
    Part,
    Ping,
    Pong,
    Prompt,
    Result,
    Unfollow,
    Verb,
    Welcome,
    pack,
)
from understudy.protocol.news import ClientBroke, LogUnreadable
from understudy.protocol.sizes import RESULT_BYTES_MAX, TEXT_CHARACTERS_MAX
from understudy.supervisor.core import asks, bounds, calls, casting, control, flow, follows, requests, turns
from understudy.supervisor.core.agent import GONE
from understudy.supervisor.core.budget import long
from understudy.supervisor.core.events import (
    ClientSaid,
    EnvironmentKept,
    KeepEnvironment,
    LogState,
    SessionRow,
    TellClient,
    TurnRow,
)
from understudy.supervisor.core.house import CLIENTS_MAX, SESSIONS_MAX, Client, House
from understudy.supervisor.core.sessions import PROMPT_HEAD, Session, Turn
from understudy.supervisor.core.status import house_row, session_rows, status_rows

LOG_STALLED_S_MAX = 5.0  # So long may acceptances wait for the log; then new prompts are refused.


def said(house: House, peer: bytes, frame: FromClient) -> None:
    """Act on one frame of the connection `peer`."""
    if isinstance(frame, Hello):
        hello(house, peer, frame)
        return
    client = _may_say(house, peer, frame)
    if client is None:
        return
    match frame:
        case Prompt():
            prompt(house, client, frame)
        case Credit():
            follows.credit(house, client, frame)
        case Follow():
            follows.follow(house, client, frame)
        case Unfollow():
            follows.unfollow(house, client, frame.follow)
        case Open():
            open_session(house, client, frame)
        case Cancel() | Answer() | Call():
            of_session(house, client, frame)
        case Verb():
            verb(house, client, frame)
        case Ping():
            house.tell(peer, Pong())
        case Pong():
            flow.client_took(house, peer)
        case Goodbye():
            lost(house, peer)
        case Part():
            house.fault(peer, BAD_FRAME, "a part that belongs to nothing")
        case _:
            assert_never(frame)


def _may_say(house: House, peer: bytes, frame: FromClient) -> Client | None:
    """Return the client that says `frame`; None when nobody has said hello there, or when the frame is refused."""
    client = house.clients.get(peer)
    if client is None:
        last = house.effects[-1] if house.effects else None
        told = isinstance(last, TellClient) and last.peer == peer and getattr(last.frame, "code", "") == NO_HELLO
        if not told:  # Once for all that it says at once.
            house.fault(peer, NO_HELLO, "say hello first: this connection is not known", about(frame))
        return None
    client.heard, client.pinged = house.now, False
    wrong = wrong_with_body(frame)
    if wrong is not None:
        refuse(house, client, frame, wrong)
        return None
    return client


def refuse(house: House, client: Client, frame: FromClient, wrong: Wrong) -> None:
    """Refuse what is too large or no body. To the agent that asked, an answer that is too large is one all the same."""
    request = about(frame)
    if wrong.code != LIMIT_REACHED:
        house.fault(client.peer, wrong.code, wrong.text, request)
        return
    session = house.sessions.get(frame.session) if isinstance(frame, Answer) else None
    if session is not None and isinstance(frame, Answer):
        asks.answer(house, session, Answer(frame.session, frame.ask, error=wrong.text))
    bounds.refuse(house, client.peer, request, "bytes", wrong.text)


def failed(house: House, event: ClientSaid, error: Exception) -> None:
    """What a client's frame set off broke: that client is told, and is not known any more; nobody else has lost anything."""
    what = f"{type(error).__name__}: {error}"
    request = about(event.frame)
    text = f"the house could not do this: {what}; say hello again"
    house.fault(event.peer, INTERNAL, clipped(text, TEXT_CHARACTERS_MAX), request)
    client = house.clients.get(event.peer)
    name = client.name or client.id if client is not None else event.peer.hex()
    house.announce(ClientBroke(name, type(event.frame).__name__, request, what))
    lost(house, event.peer)


def hello(house: House, peer: bytes, frame: Hello) -> None:
    """Bind the connection to a client, or refuse it and say why."""
    if frame.version != PROTOCOL_VERSION:
        text = (
            f"this house speaks protocol version {PROTOCOL_VERSION} (understudy {__version__}), "
            f"the client version {frame.version}: use the client of the same installation"
        )
        house.fault(peer, VERSION_MISMATCH, text)
        return
    if peer not in house.clients and len(house.clients) >= CLIENTS_MAX:
        bounds.refuse(house, peer, "", "clients", f"{CLIENTS_MAX} clients are connected; close one")
        return
    others = [each for each in house.clients.values() if each.id == frame.client and each.peer != peer]
    if any(each.connection > frame.connection for each in others):
        return  # It was under way when the client made its next connection.
    before = house.clients.pop(peer, None)
    if before is not None:  # It said hello before: whatever it followed and waited for is over.
        _give_back(house, before)
    house.replan = True
    house.clients[peer] = Client(peer, frame.client, frame.name, frame.connection, heard=house.now)
    house.budget.open(peer)
    house.tell(peer, Welcome(PROTOCOL_VERSION, house.epoch, house.generation, house.pid))
    for other in others:
        if other.connection < frame.connection:
            lost(house, other.peer)  # What still comes on it was said again on this one.
    if before is not None and before.id != frame.client:
        _asks_without(house, before.id)
    asks.say_again(house, frame.client, peer)


def lost(house: House, peer: bytes) -> None:
    """The client is gone: forget its follows, what it waits for, and what only it could answer."""
    client = house.clients.pop(peer, None)
    if client is None:
        return
    house.budget.close(peer)
    _give_back(house, client)
    _asks_without(house, client.id)
    house.replan = True
    if not house.clients:
        house.idle_since = house.now


def _give_back(house: House, client: Client) -> None:
    """Nothing of the connection's outlives it: neither its followers nor the places of its requests."""
    for number in list(client.follows):
        follows.unfollow(house, client, number)
    house.waits = [wait for wait in house.waits if wait.peer != client.peer]
    for name in list(house.calls.of(client.peer)):
        calls.forget(house, name)


def _asks_without(house: House, client: str) -> None:
    """A connection of the client is gone: what only the client can answer is asked on another, or given up."""
    other = house.peer_of(client)
    if other is None:
        asks.give_up_on(house, client)
    else:
        asks.say_again(house, client, other)


def open_session(house: House, client: Client, frame: Open) -> None:
    """Open a session, once for each request id; what it brings is kept before."""
    agent = house.agents.get(frame.agent)
    cwd = frame.cwd if agent is not None and agent.spec.per_folder and frame.cwd != agent.spec.cwd else ""
    if not frame.env and not cwd:
        _open(house, client, frame)
    elif frame.request in house.opens or _may_open(house, client, frame):
        house.effects.append(KeepEnvironment(client.peer, frame, cwd))


def kept(house: House, event: EnvironmentKept) -> None:
    """What a session is to be opened with is kept, or cannot be."""
    client = house.clients.get(event.peer)
    if client is None or not isinstance(event.frame, Open):
        return
    if event.error:
        bounds.refuse(house, client.peer, event.frame.request, "environments", event.error)
    else:
        _open(house, client, event.frame, event.environment, event.variables)


def _open(house: House, client: Client, frame: Open, environment: str = "", variables: str = "") -> None:
    asked = requests.digest(frame, variables)
    if requests.opened_before(house, client, frame, asked) or not _may_open(house, client, frame):
        return
    house.budget.texts += long((frame.cwd,))
    name = f"s{house.random.getrandbits(48):012x}"
    session = Session(name, frame.agent, frame.cwd, house.budget.keep(frame.body), opened_at=house.wall)
    session.environment = environment
    house.sessions[name] = session
    house.session_count += 1
    house.taken_in += 1
    house.agents[frame.agent].sessions += 1
    house.record(SessionRow(name, frame.agent, frame.cwd, frame.body, frame.request, house.wall, asked, environment))
    house.write(session, "opened", 0, {"agent": frame.agent, "cwd": frame.cwd})
    requests.remember_open(house, frame.request, name, asked)
    house.tell(client.peer, Opened(frame.request, name), house.after)


def _may_open(house: House, client: Client, frame: Open) -> bool:
    """Refuse a session that there cannot be; return whether there can."""
    if frame.agent not in house.agents or frame.agent in house.departed:
        cast = ", ".join(sorted(name for name in house.agents if name not in house.departed))
        text = f"there is no agent {frame.agent!r}; the cast is: {cast}"
        house.fault(client.peer, UNKNOWN_AGENT, text, frame.request)
        return False
    if not DRIVERS[house.agents[frame.agent].spec.driver].holds_sessions:
        text = f"{frame.agent} is a program: it holds no sessions; see its output with understudy tail {frame.agent}"
        house.fault(client.peer, NO_SESSIONS, text, frame.request)
        return False
    if house.session_count >= SESSIONS_MAX:
        bounds.refuse(house, client.peer, frame.request, "sessions", f"the house holds {SESSIONS_MAX} sessions")
        return False
    if full := bounds.sessions_full(house.agents[frame.agent]):
        text = f"agent {frame.agent}: {full}; go on in one of them, or raise the limit"
        bounds.refuse(house, client.peer, frame.request, f"{frame.agent}.sessions_max", text)
        return False
    if full := house.budget.texts_full(long((frame.cwd,))):
        bounds.refuse(house, client.peer, frame.request, "texts", f"{full}: use a shorter cwd")
        return False
    return not refusal(house, client, frame.request)


def refusal(house: House, client: Client, request: str) -> bool:
    """Refuse what the house cannot take on now; return whether it did."""
    if house.stopping:
        house.fault(client.peer, SHUTTING_DOWN, "the house is shutting down", request)
        return True
    failed_at = house.log_failed_at
    stalled = failed_at is not None and house.now - failed_at > LOG_STALLED_S_MAX
    if stalled or bounds.behind(house):
        text = f"the log cannot be written ({house.log_failure or 'it is behind'}); nothing is accepted until it can"
        house.fault(client.peer, LOG_STALLED, text, request)
        return True
    return False


def prompt(house: House, client: Client, frame: Prompt) -> None:
    """Accept a prompt, once for each request id; accepted is told when it is recorded."""
    asked = requests.digest(frame)
    if requests.accepted_before(house, client, frame, asked):
        return
    session = house.sessions.get(frame.session)
    if session is None:
        house.fault(client.peer, UNKNOWN_SESSION, f"there is no session {frame.session!r}", frame.request)
        return
    if session.quarantined:
        house.fault(client.peer, QUARANTINED, f"session is set apart: {session.quarantined}", frame.request)
        return
    if refusal(house, client, frame.request):
        return
    agent = house.agents.get(session.agent)
    if agent is None or agent.departed:
        text = f"the agent {session.agent!r} of this session is {GONE}; put it back, then: understudy reload"
        house.fault(client.peer, UNKNOWN_AGENT, text, frame.request)
        return
    if not DRIVERS[agent.spec.driver].holds_sessions:
        text = f"{session.agent} is a program now, which holds no sessions: this one cannot go on until it is an agent again"
        house.fault(client.peer, NO_SESSIONS, text, frame.request)
        return
    if agent.apart:
        house.fault(client.peer, QUARANTINED, f"agent {session.agent} is {agent.apart}", frame.request)
        return
    if full := bounds.entries_full(session, agent.spec):
        text = f"session {session.id} of agent {session.agent}: {full}; open another session, or raise the limit"
        bounds.refuse(house, client.peer, frame.request, f"{session.agent}.entries_max", text)
        return
    if full := bounds.queue_full(agent):
        text = f"agent {session.agent}: {full}; try again later, or raise the limit"
        bounds.refuse(house, client.peer, frame.request, f"{session.agent}.queued_turns_max", text)
        return
    methods = long(frame.serves)
    if full := house.budget.texts_full(methods):
        bounds.refuse(house, client.peer, frame.request, "texts", f"{full}: serve fewer methods, or try again later")
        return
    if no_prompt(house, client, frame):
        return
    house.budget.texts += methods
    entry = session.entry("prompt", session.last + 1, PROMPT_HEAD + frame.body, house.wall)
    house.enter(entry)
    size = len(frame.body)
    house.record(
        TurnRow(
            session.id, entry.first, LogState.QUEUED, frame.request, frame.serves, client.id, digest=asked, size=size
        )
    )
    house.tell(client.peer, Accepted(frame.request, session.id, entry.first), house.after, frame.waits)
    turn = Turn(entry.first, house.budget.keep(frame.body), frame.serves, client.id)
    turns.enqueue(house, session, turn)
    turns.tell_wait(house, session, turn, agent)
    if session.current is not turn:
        casting.needed(house, agent, session)
    requests.remember_prompt(house, session.id, frame.request, entry.first, asked)


def no_prompt(house: House, client: Client, frame: Prompt) -> bool:
    """Refuse what asks for nothing; return whether it did."""
    if is_blank(frame.body):
        house.fault(client.peer, EMPTY_PROMPT, "the prompt is empty: there is nothing to do", frame.request)
        return True
    return False


def of_session(house: House, client: Client, frame: Cancel | Answer | Call) -> None:
    """Act on a frame about one session."""
    request = "" if isinstance(frame, Answer) else frame.request
    session = house.sessions.get(frame.session)
    gone = session is not None and session.agent in house.departed and isinstance(frame, Call)
    if session is None or session.agent not in house.agents or gone:
        house.fault(client.peer, UNKNOWN_SESSION, f"there is no session {frame.session!r} that is played", request)
        return
    match frame:
        case Cancel():
            told = turns.cancel(house, session, frame.turn)
            house.tell(client.peer, Result(request, pack({"cancelled": told})), house.after)
        case Answer():
            full = bounds.answers_full(house, session, frame)
            if not asks.answer(house, session, Answer(session.id, frame.ask, error=full) if full else frame):
                text = f"question {frame.ask} is answered already, or was never asked"
                house.fault(client.peer, UNKNOWN_ASK, text, f"answer:{frame.ask}")
            elif full:
                bounds.refuse(house, client.peer, f"answer:{frame.ask}", "answers", full)
        case Call():
            if refusal(house, client, request):
                return
            if full := bounds.calls_full(house, client.peer, len(frame.body)):
                bounds.refuse(house, client.peer, request, "calls", full)
                return
            agent = house.agents[session.agent]
            if session.quarantined or agent.apart:
                text = f"agent {session.agent} is {agent.apart}"
                if session.quarantined:
                    text = f"session is set apart: {session.quarantined}"
                house.fault(client.peer, QUARANTINED, text, request)
                return
            if agent.by_person:
                text = f"{session.agent} was stopped by a person; understudy start {session.agent}"
                house.fault(client.peer, AGENT_FAILED, text, request)
                return
            if hopeless := (session.actor or agent.first).hopeless:
                house.fault(client.peer, AGENT_FAILED, hopeless, request)
                return
            calls.pass_on(house, session, frame, client.peer)
            casting.needed(house, agent, session)
        case _:
            assert_never(frame)


def verb(house: House, client: Client, frame: Verb) -> None:
    """Answer a verb of the command line."""
    asked = doors.asked(frame.verb, frame.body)
    if isinstance(asked, Wrong):
        house.fault(client.peer, asked.code, asked.text, frame.request)
        return
    if full := bounds.untaken(house, client.peer):
        bounds.refuse(house, client.peer, frame.request, "untaken", full)
        return
    match asked:
        case verbs.Status():
            body: object = status_rows(house)
        case verbs.Sessions():
            body, house.listed = session_rows(house, house.listed), []
        case verbs.House():
            body = house_row(house)
        case verbs.Shutdown(hurry=hurry):
            house.shutdown_asked, house.hurry_asked = True, hurry
            body = verbs.Leaving(house.pid, house.epoch)
        case verbs.Reload():
            if not house.spec.command:
                text = "this house was not started from the command line: end it, and start it again"
                house.fault(client.peer, UNKNOWN_VERB, text, frame.request)
                return
            house.reload_asked, body = True, verbs.Leaving(house.pid, house.epoch)
        case verbs.Start(names=names) | verbs.Stop(names=names) | verbs.Restart(names=names):
            control.control(house, client, frame.request, frame.verb, names)
            return
        case verbs.Signal(names=names, signal=number):
            control.send_signal(house, client, frame.request, names, number)
            return
        case _:
            assert_never(asked)
    packed = doors.packed_answer(body)
    if len(packed) > RESULT_BYTES_MAX:
        text = (
            f"the answer to {frame.verb} has {len(packed)} bytes; the limit is {RESULT_BYTES_MAX}: ask for one session"
        )
        house.fault(client.peer, LIMIT_REACHED, text, frame.request)
        return
    house.tell(client.peer, Result(frame.request, packed))


def not_read(house: House, event: ClientSaid, reason: str, passes: bool) -> None:
    """The log does not tell what the frame names: the client is told.

    When that passes, by a fault that names nothing: what it waits for it says once more, on a new connection.
    """
    house.announce(LogUnreadable(reason))
    client = _may_say(house, event.peer, event.frame)
    if client is not None and passes:
        lost(house, client.peer)
        house.fault(client.peer, LOG_STALLED, f"the log cannot be read: {reason}")
    elif client is not None:
        house.fault(client.peer, UNREADABLE, reason, about(event.frame))
