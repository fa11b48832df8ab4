"""Every frame that can cross a socket, and the codec for them. Pure: no I/O, no clock.

A message is one msgpack array of frames; a frame is a map whose `type` picks the class.
Decoding checks every field: what comes out is well formed, or `FrameError` is raised.
Unknown fields are ignored, so that a newer peer of the same protocol version is understood.

A frame larger than `PART_BYTES` travels as `Part`s and is joined by `Joiner`.
`body` fields are msgpack of their own and travel unopened: see `pack` and `unpack`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

PROTOCOL_VERSION = 1  # Of clients: they come from the same installation, or are refused.
BACKSTAGE_VERSION = 1  # Of actors: those of the version before are taken back, so that an upgrade orphans nobody.
MESSAGE_BYTES_MAX = 1 << 20  # A ZeroMQ message above this is never read: MAXMSGSIZE.
PART_BYTES = 1 << 19
BODY_BYTES_MAX = 32 << 20  # A frame joined from parts.
ID_CHARACTERS_MAX = 200
CREDIT_BYTES = 1 << 20  # What a follower lets us send before it has taken it.
UPDATES_PER_FRAME_MAX = 512
ENTRY_OVERHEAD_BYTES = 64  # What an entry costs a follower's credit besides its body.


class FrameError(Exception):
    """The bytes are no message of ours. The peer is at fault."""


class _Frame(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """Base of all frames."""


# --- both sockets -----------------------------------------------------------------


class Hello(_Frame, frozen=True, tag="hello"):
    """A client's first frame. `client` is stable over its reconnects.

    `connection` counts these: what still comes on an earlier one is late, and without effect. 0: it does not count.
    """

    version: int
    client: str
    pid: int = 0
    name: str = ""
    connection: int = 0


class ActorHello(_Frame, frozen=True, tag="actor_hello"):
    """An actor's first frame on each connection: binds the connection to `actor`#`epoch`. `version`: of the backstage.

    `connection` counts the actor's connections: a hello that was under way when the next one was made is late.
    Not `ready`: it could not start, and connects only to say why.
    """

    version: int
    actor: str
    epoch: int
    pid: int
    connection: int = 1
    ready: bool = True


class Welcome(_Frame, frozen=True, tag="welcome"):
    """Answer to a hello. `committed` is the actor's last recorded number, 0 for clients.

    `epoch` counts the supervisor's starts; `generation` changes when the log may have lost numbers.
    """

    version: int
    epoch: int
    generation: int = 1
    pid: int = 0
    committed: int = 0


class Fault(_Frame, frozen=True, tag="fault"):
    """A refusal. `request` names what was refused ("" when it was nothing we could name)."""

    code: str
    text: str
    request: str = ""
    body: bytes = b""


class Ping(_Frame, frozen=True, tag="ping"):
    """Answer with `Pong`."""


class Pong(_Frame, frozen=True, tag="pong"):
    """Answer to `Ping`."""


class Goodbye(_Frame, frozen=True, tag="goodbye"):
    """The sender leaves; nothing follows. From an actor: why it ends."""

    reason: str = ""


class Part(_Frame, frozen=True, tag="part"):
    """A slice of a frame too large for one message; `Joiner` puts them together."""

    last: bool
    piece: bytes


# --- client -> gateway ------------------------------------------------------------


class Open(_Frame, frozen=True, tag="open"):
    """Open a session with `agent`. `body`: what the driver needs (ACP: mcpServers, _meta). Answer: `Opened`."""

    request: str
    agent: str
    cwd: str
    body: bytes = b""


class Prompt(_Frame, frozen=True, tag="prompt"):
    """Ask for a turn. `body`: a list of ACP content blocks. Sent again with the same `request`: same `Accepted`.

    `serves`: the agent's requests (`fs/read_text_file` …) that this client answers itself.
    `waits`: the client waits for the ending; `Accepted` may come with what is sent next, some milliseconds later.
    """

    request: str
    session: str
    body: bytes
    serves: list[str] = []
    waits: bool = False


class Cancel(_Frame, frozen=True, tag="cancel"):
    """Cancel one turn of a session, or (turn 0) the running and all queued ones. Answer: `Result`."""

    request: str
    session: str
    turn: int = 0


class Answer(_Frame, frozen=True, tag="answer"):
    """The one answer to an ask; `error` instead of a result when not "". Also gateway -> actor."""

    session: str
    ask: str
    body: bytes = b""
    error: str = ""


class Call(_Frame, frozen=True, tag="call"):
    """A request to the session's agent outside any turn (`ready`, `session/set_mode` …). Answer: `Result` or `Fault`.

    `ready` makes the session ready in the agent and returns what the agent said when it opened it.
    """

    request: str
    session: str
    method: str
    body: bytes = b""


class Follow(_Frame, frozen=True, tag="follow"):
    """Send me the entries of `session` from `number` on, `credit` bytes of them, then more as I give credit."""

    follow: int
    session: str
    number: int = 0
    credit: int = CREDIT_BYTES


class Credit(_Frame, frozen=True, tag="credit"):
    """`credit` more bytes for `follow`."""

    follow: int
    credit: int


class Unfollow(_Frame, frozen=True, tag="unfollow"):
    """No more of `follow`."""

    follow: int


class Verb(_Frame, frozen=True, tag="verb"):
    """A verb of the command line (`status`, `start` …). Answer: `Result`, when it is done."""

    request: str
    verb: str
    body: bytes = b""


# --- gateway -> client ------------------------------------------------------------


class Opened(_Frame, frozen=True, tag="opened"):
    """The session is recorded."""

    request: str
    session: str


class Accepted(_Frame, frozen=True, tag="accepted"):
    """The prompt is recorded as entry `turn` of its session, and this names the turn from now on."""

    request: str
    session: str
    turn: int


class Result(_Frame, frozen=True, tag="result"):
    """Answer to a verb, a cancel or a call. Also actor -> backstage, for a call."""

    request: str
    body: bytes = b""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the log holds: numbers `first`..`last` of a session.

    `kind`: prompt, started, update, asked, answered, requeued, ended, opened, lost, note.
    For `update`, `body` is a msgpack array of last-first+1 updates; else one map. `time`: seconds since the epoch.
    """

    session: str
    first: int
    last: int
    turn: int
    kind: str
    body: bytes
    time: float


class Entries(_Frame, frozen=True, tag="entries"):
    """Recorded entries for a follower, in order, without gap."""

    follow: int
    entries: list[Entry]


class Ask(_Frame, frozen=True, tag="ask"):
    """A question of the agent. actor -> backstage, and on to the one client that serves `method`.

    `n` is the actor's own number. With `public`, it is recorded as an `asked` entry and any follower may answer.
    """

    n: int
    session: str
    turn: int
    ask: str
    method: str
    body: bytes
    public: bool = True


# --- actor -> backstage -----------------------------------------------------------


class Begin(_Frame, frozen=True, tag="begin"):
    """The session is ready in the agent; may the turn start?"""

    session: str
    turn: int


class Updates(_Frame, frozen=True, tag="updates"):
    """`count` updates of a turn (turn 0: outside any), numbered n..n+count-1 by the actor. `body`: their array."""

    n: int
    session: str
    turn: int
    count: int
    body: bytes


class Ended(_Frame, frozen=True, tag="ended"):
    """The one ending of a turn. `reason`: a stop reason of ACP, or `failed` with `body` {code, text, …}."""

    n: int
    session: str
    turn: int
    reason: str
    body: bytes = b""


class Remember(_Frame, frozen=True, tag="remember"):
    """Keep `body` for this session: it comes back in `Handover` and `ActorCall` to whoever plays it next."""

    n: int
    session: str
    body: bytes


# --- backstage -> actor -----------------------------------------------------------


class Handover(_Frame, frozen=True, tag="handover"):
    """A turn to play. Without `go`, say `begin` and wait for `go` before the agent may see it."""

    session: str
    turn: int
    cwd: str
    body: bytes
    opening: bytes = b""
    memory: bytes = b""
    serves: list[str] = []
    go: bool = False


class Go(_Frame, frozen=True, tag="go"):
    """`started` is committed: give the prompt to the agent."""

    session: str
    turn: int


class Recorded(_Frame, frozen=True, tag="recorded"):
    """Everything the actor numbered up to `n` is committed; it may forget it."""

    n: int


class Stop(_Frame, frozen=True, tag="stop"):
    """End in order within `grace_s` seconds: cancel turns, close the program, say goodbye."""

    grace_s: float


class CancelTurn(_Frame, frozen=True, tag="cancel_turn"):
    """Cancel this turn; it still gets its ending from the agent."""

    session: str
    turn: int


class ActorCall(_Frame, frozen=True, tag="actor_call"):
    """A `Call`, with what the driver needs to make the session ready."""

    request: str
    session: str
    method: str
    cwd: str
    body: bytes = b""
    opening: bytes = b""
    memory: bytes = b""


FromClient = (
    Hello | Open | Prompt | Cancel | Answer | Call | Follow | Credit | Unfollow | Verb | Ping | Pong | Goodbye | Part
)
ToClient = Welcome | Opened | Accepted | Result | Fault | Entries | Ask | Ping | Pong | Goodbye | Part
FromActor = ActorHello | Begin | Updates | Ask | Ended | Remember | Result | Fault | Ping | Pong | Goodbye | Part
ToActor = (
    Welcome | Handover | Go | Recorded | CancelTurn | Answer | ActorCall | Stop | Fault | Ping | Pong | Goodbye | Part
)
Frame = FromClient | ToClient | FromActor | ToActor

_encoder = msgspec.msgpack.Encoder()
_decoders = {
    side: msgspec.msgpack.Decoder(list[side])  # type: ignore[valid-type]
    for side in (FromClient, ToClient, FromActor, ToActor)
}


def decoder(side: Any) -> "msgspec.msgpack.Decoder[list[Frame]]":
    """Return the decoder for one direction: `FromClient`, `ToClient`, `FromActor` or `ToActor`."""
    return _decoders[side]


def decode(message: bytes, by: "msgspec.msgpack.Decoder[list[Frame]]") -> list[Frame]:
    """Return the frames of a message; raise `FrameError` if it is none."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise FrameError(f"a message of {len(message)} bytes; the limit is {MESSAGE_BYTES_MAX}")
    try:
        return by.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise FrameError(str(error)) from error


def encode(frames: Sequence[Frame]) -> list[bytes]:
    """Return the messages that carry `frames` in order; raise `FrameError` over `BODY_BYTES_MAX`."""
    whole = _encoder.encode(frames)
    return [whole] if len(whole) <= PART_BYTES else _split(frames)


def merged(one: bytes, other: bytes) -> bytes | None:
    """Return two messages of `encode` as one; None when that would have more than 15 frames or `PART_BYTES`."""
    count = one[0] + other[0] - 2 * 0x90  # The first byte of a msgpack array of up to 15 items.
    if count > 15 or one[0] > 0x9F or other[0] > 0x9F or len(one) + len(other) > PART_BYTES:
        return None
    return bytes((0x90 + count,)) + one[1:] + other[1:]


def _split(frames: Sequence[Frame]) -> list[bytes]:
    messages: list[bytes] = []
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        weight = _weight(frame)
        if batch and size + weight > PART_BYTES:
            messages.append(_encoder.encode(batch))
            batch, size = [], 0
        if weight > PART_BYTES:
            messages.extend(_parts(frame))
        else:
            batch.append(frame)
            size += weight
    if batch:
        messages.append(_encoder.encode(batch))
    return messages


def _weight(frame: Frame) -> int:
    """Return about how many bytes `frame` takes: its bodies, and what is small enough not to matter."""
    match frame:
        case Entries(entries=entries):
            return 256 + sum(len(entry.body) + 256 for entry in entries)
        case Handover(body=body, opening=opening, memory=memory):
            return 1024 + len(body) + len(opening) + len(memory)
        case ActorCall(body=body, opening=opening, memory=memory):
            return 1024 + len(body) + len(opening) + len(memory)
        case Fault(text=text, body=body):
            return 1024 + 4 * len(text) + len(body)
        case Part(piece=piece):
            return 64 + len(piece)
        case _:
            return 1024 + len(getattr(frame, "body", b""))


def _parts(frame: Frame) -> list[bytes]:
    whole = _encoder.encode(frame)
    if len(whole) > BODY_BYTES_MAX:
        raise FrameError(f"a frame of {len(whole)} bytes; the limit is {BODY_BYTES_MAX}")
    cuts = range(0, len(whole), PART_BYTES)
    return [
        _encoder.encode([Part(last=at + PART_BYTES >= len(whole), piece=whole[at : at + PART_BYTES])]) for at in cuts
    ]


class Joiner:
    """Puts the parts from one peer together again."""

    def __init__(self, side: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(side)
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, part: Part) -> Frame | None:
        """Return the frame that `part` completes, else None; raise `FrameError` if it is too large or no frame."""
        self._pieces.append(part.piece)
        self.size += len(part.piece)
        if self.size > BODY_BYTES_MAX:
            self._clear()
            raise FrameError(f"a frame of more than {BODY_BYTES_MAX} bytes in parts")
        if not part.last:
            return None
        whole = b"".join(self._pieces)
        self._clear()
        try:
            return self._decoder.decode(whole)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise FrameError(str(error)) from error

    def _clear(self) -> None:
        self._pieces = []
        self.size = 0


def pack(body: object) -> bytes:
    """Return `body` (anything msgpack holds) as the bytes of a `body` field."""
    return _encoder.encode(body)


def unpack(body: bytes) -> Any:
    """Return what `pack` was given; None for b""; raise `FrameError` if it is no msgpack."""
    if not body:
        return None
    try:
        return msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise FrameError(str(error)) from error
