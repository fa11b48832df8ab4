"""Every frame that can cross a socket. Pure: no I/O, no clock.

A frame travels as a map whose `type` picks the class (`messages`). Each field has its bound in its type: what is decoded is
well formed. Unknown fields are ignored, so that a newer peer of the same protocol version is understood.

`body` fields are msgpack of their own and travel unopened: see `pack` and `unpack`; `bodies` says what they may hold.
"""

from typing import Annotated

import msgspec

from understudy.protocol.codec import FrameError as FrameError
from understudy.protocol.codec import merged as merged
from understudy.protocol.codec import pack as pack
from understudy.protocol.codec import unpack as unpack
from understudy.protocol.sizes import BODY_BYTES_MAX as BODY_BYTES_MAX
from understudy.protocol.sizes import MESSAGE_BYTES_MAX as MESSAGE_BYTES_MAX
from understudy.protocol.sizes import PART_BYTES as PART_BYTES
from understudy.protocol.sizes import (
    ActorNumber,
    AgentName,
    AnyBody,
    Bytes,
    Code,
    Count,
    EntryBody,
    FolderPath,
    Id,
    Label,
    LaunchName,
    Memory,
    Method,
    Methods,
    Number,
    Opening,
    Persona,
    Pid,
    Piece,
    Reason,
    RequestId,
    RequestName,
    Seconds,
    Text,
    UpdateCount,
    Variables,
    Version,
    WallTime,
)

PROTOCOL_VERSION = 1  # Of clients: they come from the same installation, or are refused.
BACKSTAGE_VERSION = 1  # Of actors: those of the version before are taken back, so that an upgrade orphans nobody.
CREDIT_BYTES = 1 << 20  # What a follower lets us send before it has taken it.
ENTRY_OVERHEAD_BYTES = 64  # What an entry costs a follower's credit besides its body.
ENTRIES_PER_FRAME_MAX = 1 << 16


class _Frame(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """Base of all frames."""


# --- both sockets -----------------------------------------------------------------


class Hello(_Frame, frozen=True, tag="hello"):
    """A client's first frame. `client` is stable over its reconnects.

    `connection` counts these: what still comes on an earlier one is late, and without effect. 0: it does not count.
    """

    version: Version
    client: Id
    pid: Pid = 0
    name: Label = ""
    connection: Count = 0


class ActorHello(_Frame, frozen=True, tag="actor_hello"):
    """An actor's first frame on each connection: binds the connection to `actor`#`epoch`. `version`: of the backstage.

    `actor`: the name of its launch.

    `connection` counts the actor's connections: a hello that was under way when the next one was made is late.
    Not `ready`: it could not start, and connects only to say why.
    """

    version: Version
    actor: LaunchName
    epoch: Count
    pid: Pid
    connection: Count = 1
    ready: bool = True


class Welcome(_Frame, frozen=True, tag="welcome"):
    """Answer to a hello. `committed` is the actor's last recorded number, 0 for clients.

    `epoch` counts the supervisor's starts; `generation` changes when the log may have lost numbers.
    """

    version: Version
    epoch: Count
    generation: Count = 1
    pid: Pid = 0
    committed: ActorNumber = 0


class Fault(_Frame, frozen=True, tag="fault"):
    """A refusal. `request` names what was refused ("" when it was nothing we could name)."""

    code: Code
    text: Text
    request: RequestName = ""
    body: EntryBody = b""


class Ping(_Frame, frozen=True, tag="ping"):
    """Answer with `Pong`."""


class Pong(_Frame, frozen=True, tag="pong"):
    """Answer to `Ping`."""


class Goodbye(_Frame, frozen=True, tag="goodbye"):
    """The sender leaves; nothing follows. From an actor: why it ends."""

    reason: Text = ""


class Part(_Frame, frozen=True, tag="part"):
    """A slice of a frame too large for one message; `Joiner` puts them together."""

    last: bool
    piece: Piece


# --- client -> gateway ------------------------------------------------------------


class Open(_Frame, frozen=True, tag="open"):
    """Open a session with `agent`. `body`: what the driver needs (ACP: mcpServers, _meta). Answer: `Opened`.

    `env`: the session's own environment, beside and before what the house and the agent's configuration have: an actor
    that was launched so plays it. `environments` says what may be in it.
    """

    request: RequestId
    agent: AgentName
    cwd: FolderPath
    body: AnyBody = b""
    env: Variables = {}

    def __repr__(self) -> str:
        """Name everything but what may hold keys."""
        return (
            f"Open(request={self.request!r}, agent={self.agent!r}, cwd={self.cwd!r}, env=<{len(self.env)} variables>)"
        )


class Prompt(_Frame, frozen=True, tag="prompt"):
    """Ask for a turn. `body`: a list of ACP content blocks. Sent again with the same `request`: same `Accepted`.

    `serves`: the agent's requests (`fs/read_text_file` …) that this client answers itself.
    `waits`: the client waits for the ending; `Accepted` may come with what is sent next, some milliseconds later.
    """

    request: RequestId
    session: Id
    body: AnyBody
    serves: Methods = []
    waits: bool = False


class Cancel(_Frame, frozen=True, tag="cancel"):
    """Cancel one turn of a session, or (turn 0) the running and all queued ones. Answer: `Result`."""

    request: RequestId
    session: Id
    turn: Number = 0


class Answer(_Frame, frozen=True, tag="answer"):
    """The one answer to an ask; `error` instead of a result when not "". Also gateway -> actor."""

    session: Id
    ask: Id
    body: AnyBody = b""
    error: Text = ""


class Call(_Frame, frozen=True, tag="call"):
    """A request to the session's agent outside any turn (`ready`, `session/set_mode` …). Answer: `Result` or `Fault`.

    `ready` makes the session ready in the agent and returns what the agent said when it opened it.
    """

    request: RequestId
    session: Id
    method: Method
    body: AnyBody = b""


class Follow(_Frame, frozen=True, tag="follow"):
    """Send me the entries of `session` from `number` on, `credit` bytes of them, then more as I give credit.

    `holds`: keep the session's agent up while I follow, also when it has nothing to do.
    """

    follow: Number
    session: Id
    number: Number = 0
    credit: Bytes = CREDIT_BYTES
    holds: bool = False


class Credit(_Frame, frozen=True, tag="credit"):
    """`credit` more bytes for `follow`."""

    follow: Number
    credit: Bytes


class Unfollow(_Frame, frozen=True, tag="unfollow"):
    """No more of `follow`."""

    follow: Number


class Verb(_Frame, frozen=True, tag="verb"):
    """A verb of the command line (`status`, `start` …). Answer: `Result`, when it is done."""

    request: RequestId
    verb: Label
    body: AnyBody = b""


# --- gateway -> client ------------------------------------------------------------


class Opened(_Frame, frozen=True, tag="opened"):
    """The session is recorded."""

    request: RequestId
    session: Id


class Accepted(_Frame, frozen=True, tag="accepted"):
    """The prompt is recorded as entry `turn` of its session, and this names the turn from now on."""

    request: RequestId
    session: Id
    turn: Number


class Result(_Frame, frozen=True, tag="result"):
    """Answer to a verb, a cancel or a call. Also actor -> backstage, for a call."""

    request: RequestId
    body: AnyBody = b""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the log holds: numbers `first`..`last` of a session.

    `kind`: prompt, started, update, asked, answered, requeued, ended, opened, lost, note.
    For `update`, `body` is a msgpack array of last-first+1 updates; else one map. `time`: seconds since the epoch.
    """

    session: Id
    first: Number
    last: Number
    turn: Number
    kind: Label
    body: AnyBody
    time: WallTime


class Entries(_Frame, frozen=True, tag="entries"):
    """Recorded entries for a follower, in order, without gap."""

    follow: Number
    entries: Annotated[list[Entry], msgspec.Meta(max_length=ENTRIES_PER_FRAME_MAX)]


class Ask(_Frame, frozen=True, tag="ask"):
    """A question of the agent. actor -> backstage, and on to the one client that serves `method`.

    `n` is the actor's own number; `mended` as of `Updates`. With `public`, it is recorded as an `asked` entry and any
    follower may answer.
    """

    n: ActorNumber
    session: Id
    turn: Number
    ask: Id
    method: Method
    body: EntryBody
    public: bool = True
    mended: bool = False


# --- actor -> backstage -----------------------------------------------------------


class Begin(_Frame, frozen=True, tag="begin"):
    """The session is ready in the agent; may the turn start?"""

    session: Id
    turn: Number


class Updates(_Frame, frozen=True, tag="updates"):
    """`count` updates of a turn (turn 0: outside any), numbered n..n+count-1 by the actor. `body`: their array.

    `mended`: something that the agent said here could not be sent as it was; told for the first of a turn only.
    """

    n: ActorNumber
    session: Id
    turn: Number
    count: UpdateCount
    body: AnyBody
    mended: bool = False


class Ended(_Frame, frozen=True, tag="ended"):
    """The one ending of a turn. `reason`: a stop reason of ACP, or `failed` with `body` {code, text, …}.

    `mended` as of `Updates`.
    """

    n: ActorNumber
    session: Id
    turn: Number
    reason: Reason
    body: EntryBody = b""
    mended: bool = False


class Remember(_Frame, frozen=True, tag="remember"):
    """Keep `body` for this session: it comes back in `Handover` and `ActorCall` to whoever plays it next."""

    n: ActorNumber
    session: Id
    body: Memory


# --- backstage -> actor -----------------------------------------------------------


class Handover(_Frame, frozen=True, tag="handover"):
    """A turn to play. Without `go`, say `begin` and wait for `go` before the agent may see it.

    `persona`: who the agent is to be in this session. `continues`: it has seen the prompt, and is asked to go on.
    """

    session: Id
    turn: Number
    cwd: FolderPath
    body: EntryBody
    opening: Opening = b""
    memory: Memory = b""
    serves: Methods = []
    go: bool = False
    persona: Persona = ""
    continues: bool = False


class Go(_Frame, frozen=True, tag="go"):
    """`started` is committed: give the prompt to the agent."""

    session: Id
    turn: Number


class Recorded(_Frame, frozen=True, tag="recorded"):
    """Everything the actor numbered up to `n` is committed; it may forget it."""

    n: ActorNumber


class Stop(_Frame, frozen=True, tag="stop"):
    """End in order within `grace_s` seconds: cancel turns, close the program, say goodbye."""

    grace_s: Seconds


class CancelTurn(_Frame, frozen=True, tag="cancel_turn"):
    """Cancel this turn; it still gets its ending from the agent."""

    session: Id
    turn: Number


class ActorCall(_Frame, frozen=True, tag="actor_call"):
    """A `Call`, with what the driver needs to make the session ready."""

    request: RequestId
    session: Id
    method: Method
    cwd: FolderPath
    body: EntryBody = b""
    opening: Opening = b""
    memory: Memory = b""
    persona: Persona = ""


FromClient = (
    Hello | Open | Prompt | Cancel | Answer | Call | Follow | Credit | Unfollow | Verb | Ping | Pong | Goodbye | Part
)
ToClient = Welcome | Opened | Accepted | Result | Fault | Entries | Ask | Ping | Pong | Goodbye | Part
FromActor = ActorHello | Begin | Updates | Ask | Ended | Remember | Result | Fault | Ping | Pong | Goodbye | Part
ToActor = (
    Welcome | Handover | Go | Recorded | CancelTurn | Answer | ActorCall | Stop | Fault | Ping | Pong | Goodbye | Part
)
Frame = FromClient | ToClient | FromActor | ToActor
