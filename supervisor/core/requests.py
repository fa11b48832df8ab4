"""What was asked before: a request of a client's is carried out once, however often it is said. Pure.

A session is opened once for each request id, and a prompt accepted once for each id in its session. The same id with
another content is no repeat: whoever says it is told so, or would take the answer to the one for that to the other.
The newest are in memory, all are in the log: see `at_rest`.
"""

from hashlib import blake2b

from understudy.protocol.errors import BAD_FRAME, REQUEST_REUSED
from understudy.protocol.frames import Accepted, Open, Opened, Prompt, pack
from understudy.supervisor.core.events import RequestRead
from understudy.supervisor.core.house import Client, House

DIGEST_BYTES = 16


def digest(frame: Open | Prompt, variables: str = "") -> bytes:
    """Return what tells apart two requests of the same name: all that the client asks for, but not how it waits.

    `variables`: as in `EnvironmentKept`. What they are might be guessed from a hash without a key.
    """
    if isinstance(frame, Prompt):
        parts = (*sorted(frame.serves), frame.body) if frame.serves else (frame.body,)
    else:
        parts = (frame.agent, frame.cwd, frame.body, variables) if variables else (frame.agent, frame.cwd, frame.body)
    return blake2b(pack(parts), digest_size=DIGEST_BYTES).digest()


def opened_before(house: House, client: Client, frame: Open, asked: bytes) -> bool:
    """Answer the repeat of an open, and refuse one without a name; return whether that was all there is to do.

    `asked`: the frame's digest.
    """
    known = house.opens.get(frame.request)
    if known is None:
        return _unnamed(house, client, frame)
    if not _reused(house, client, frame, known[1], asked):
        house.tell(client.peer, Opened(frame.request, known[0]), house.after)
    return True


def accepted_before(house: House, client: Client, frame: Prompt, asked: bytes) -> bool:
    """Answer the repeat of a prompt, and refuse one without a name; return whether that was all there is to do."""
    known = house.prompts.get((frame.session, frame.request))
    if known is None:
        return _unnamed(house, client, frame)
    if not _reused(house, client, frame, known[1], asked):
        house.tell(client.peer, Accepted(frame.request, frame.session, known[0]), house.after)
    return True


def remember_open(house: House, request: str, session: str, asked: bytes) -> None:
    """Remember what the request made."""
    house.opens[request] = (session, asked)
    house.grew = True


def remember_prompt(house: House, session: str, request: str, turn: int, asked: bytes) -> None:
    """Remember what the request made."""
    house.prompts[session, request] = (turn, asked)
    house.grew = True


def read(house: House, event: RequestRead) -> None:
    """Remember again what the log has of a request, unless something newer is known of it."""
    if not event.turn and event.request not in house.opens:
        remember_open(house, event.request, event.session, event.digest)
    elif event.turn and (event.session, event.request) not in house.prompts:
        remember_prompt(house, event.session, event.request, event.turn, event.digest)


def let_go(house: House) -> bool:
    """Let go of the oldest of too many, if the log has them; return whether there are too many still.

    Called when a step ends in which there came more: what was read for it must last.
    """
    while len(house.opens) > house.requests_kept_max:
        its = house.sessions.get(next(iter(house.opens.values()))[0])
        if its is not None and not its.recorded:
            return True
        house.opens.popitem(last=False)
    while len(house.prompts) > house.requests_kept_max:
        (name, _), (number, _) = next(iter(house.prompts.items()))
        its = house.sessions.get(name)
        if its is not None:
            if its.recorded < number:
                return True
            its.past = True
        house.prompts.popitem(last=False)
    return False


def _unnamed(house: House, client: Client, frame: Open | Prompt) -> bool:
    if not frame.request:
        text = "a request needs an id: said again after a broken connection, it could not be told from another"
        house.fault(client.peer, BAD_FRAME, text)
    return not frame.request


def _reused(house: House, client: Client, frame: Open | Prompt, known: bytes, asked: bytes) -> bool:
    if known in (b"", asked):  # Older versions recorded none.
        return False
    what = f"a prompt in session {frame.session}" if isinstance(frame, Prompt) else "an open"
    text = f"the request id {frame.request!r} named {what} with another content before; give each request its own id"
    house.fault(client.peer, REQUEST_REUSED, text, frame.request)
    return True
