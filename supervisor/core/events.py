"""What can happen to the core (events, past tense) and what it wants done (effects, imperative). Pure.

The keeper's messages are these very structs: they cross the socketpair between keeper and supervisor.
"""

from enum import Enum

import msgspec

from understudy.protocol.frames import ActorCall, Entry, FromActor, FromClient, Handover, Open, ToActor, ToClient
from understudy.protocol.news import News


class _Struct(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Base of events and effects."""


# --- events: from the keeper ------------------------------------------------------


class Spawned(_Struct, frozen=True, tag="spawned"):
    """The process of actor#epoch exists. `started`: its start time in clock ticks since boot (/proc/PID/stat).

    `actor`: the launch's name, here as in all that the keeper says. `plays`, `place`: as in `Spawn`, None when a keeper
    of the version before does not tell.
    """

    actor: str
    epoch: int
    pid: int
    started: int
    plays: str | None = None
    place: int = 0


class SpawnFailed(_Struct, frozen=True, tag="spawn_failed"):
    """There is no process: fork failed."""

    actor: str
    epoch: int
    reason: str


class Exited(_Struct, frozen=True, tag="exited"):
    """actor#epoch is reaped, its group killed and its strays swept: nothing of it lives, but `survivors` processes.

    `status`: exit code, or minus the signal. `swept`: how many processes the keeper had to kill.
    `shown`: the turns (session, number) that its agent may have seen; None: any of them. The shell adds it.
    `oom_kills`: how many of its processes the kernel ended because their group had no memory left.
    """

    actor: str
    epoch: int
    pid: int
    status: int
    swept: int = 0
    survivors: int = 0
    shown: list[tuple[str, int]] | None = None
    oom_kills: int = 0


class Suspended(_Struct, frozen=True, tag="suspended"):
    """The process of actor#epoch was suspended by a signal (SIGSTOP, or a terminal's)."""

    actor: str
    epoch: int


class ShutdownAsked(_Struct, frozen=True, tag="shutdown_asked"):
    """A signal or a verb asks the house to end; `hurry`: at once."""

    hurry: bool = False


# --- effects: to the keeper -------------------------------------------------------


class Spawn(_Struct, frozen=True, tag="spawn"):
    """Fork actor#epoch as `agent` is launched, to play `plays` in its `place` ("": as an understudy)."""

    actor: str
    epoch: int
    agent: str
    plays: str = ""
    place: int = 0


class Kill(_Struct, frozen=True, tag="kill"):
    """Send `signal` to the process of actor#epoch; SIGKILL goes to its whole group."""

    actor: str
    epoch: int
    signal: int


FromKeeper = Spawned | SpawnFailed | Exited | Suspended | ShutdownAsked


class Ready(_Struct, frozen=True, tag="ready"):
    """The supervisor serves: its start did not fail. The shell says it."""


class Alive(_Struct, frozen=True, tag="alive"):
    """The supervisor's loop turns. The shell says it."""


class Noted(_Struct, frozen=True, tag="noted"):
    """The end of actor#epoch is in the log: the next supervisor need not be told. The shell says it."""

    actor: str
    epoch: int


ToKeeper = Spawn | Kill | Ready | Alive | Noted


# --- events: from the sockets, the log and the clock ------------------------------


class ClientSaid(_Struct, frozen=True):
    """A frame came from the gateway's connection `peer`."""

    peer: bytes
    frame: FromClient


class EnvironmentKept(ClientSaid, frozen=True):
    """As `ClientSaid` of an `Open` whose environment is kept, as `environment`; or `error` says why it cannot be.

    `variables`: what names its variables alone, "" for none; the frame has them no more.
    """

    environment: str = ""
    variables: str = ""
    error: str = ""


class ClientLost(_Struct, frozen=True):
    """The connection `peer` is gone (unreachable, or it broke the protocol)."""

    peer: bytes


class ActorSaid(_Struct, frozen=True):
    """A frame came from the backstage connection `peer`."""

    peer: bytes
    frame: FromActor


class ActorUnreachable(_Struct, frozen=True):
    """The backstage connection `peer` took no more frames."""

    peer: bytes


class Committed(_Struct, frozen=True):
    """Every `Record` up to `ticket` is in the log."""

    ticket: int


class LogFailed(_Struct, frozen=True):
    """The log cannot write (`reason`); what is unrecorded is kept and tried again."""

    reason: str


class EntriesRead(_Struct, frozen=True):
    """The answer to `ReadEntries`. `reason`: why they cannot be read, for good."""

    peer: bytes
    follow: int
    entries: list[Entry]
    serial: int = 0
    reason: str = ""


class RestoredSession(_Struct, frozen=True):
    """What the log has of a session; `last` is its last number. What is large of opening and memory is left out: only its
    size is here.

    `environment`: as in `SessionRow`. `damage`: why a turn of its cannot be read, "" when all can.
    """

    session: str
    agent: str
    cwd: str
    opening: bytes
    memory: bytes
    last: int
    opened_at: float
    opening_bytes: int = 0
    memory_bytes: int = 0
    environment: str = ""
    damage: str = ""


class SessionRead(_Struct, frozen=True):
    """The log has this session, which the next event names."""

    found: RestoredSession


class RequestRead(_Struct, frozen=True):
    """The log has this request, which the next event says again: it opened `session`, or was accepted there as `turn`.

    `digest`: of what it asked for, b"" when an older version wrote it.
    """

    request: str
    session: str
    turn: int
    digest: bytes


class NotRead(_Struct, frozen=True):
    """The log does not tell what `said` names (`reason`), for now only when it `passes`: it has no other effect."""

    said: ClientSaid | ActorSaid
    reason: str
    passes: bool


class SessionsRead(_Struct, frozen=True):
    """The log has these sessions, for which the next event asks."""

    found: list[RestoredSession]


class Unreadable(_Struct, frozen=True):
    """What `frame` misses cannot be read from the log, for good: it was not sent."""

    frame: Handover | ActorCall
    reason: str


class Sampled(_Struct, frozen=True):
    """What actor#epoch uses: private memory in MB and open descriptors, the whole tree."""

    actor: str
    epoch: int
    memory_mb: float
    files: int


class Ticked(_Struct, frozen=True):
    """The deadline that the core named has passed."""


Event = (
    FromKeeper
    | ClientSaid
    | EnvironmentKept
    | ClientLost
    | ActorSaid
    | ActorUnreachable
    | Committed
    | LogFailed
    | EntriesRead
    | SessionRead
    | RequestRead
    | NotRead
    | SessionsRead
    | Unreadable
    | Sampled
    | Ticked
)


# --- rows of the log --------------------------------------------------------------


class _Row(_Struct, frozen=True, array_like=True):
    """Base of rows: the journal holds them as arrays, so a new field goes to the end and has a default."""


class SessionRow(_Row, frozen=True):
    """A new session. `opening`: the body of its Open frame; `opened_at`: seconds since 1970; `digest`: of the request.

    `environment`: the name of what it brought, see `protocol.environments`.
    """

    session: str
    agent: str
    cwd: str
    opening: bytes
    request: str
    opened_at: float = 0.0
    digest: bytes = b""
    environment: str = ""


class MemoryRow(_Row, frozen=True):
    """What a driver wants remembered for a session."""

    session: str
    memory: bytes


class LogState(Enum):
    """Where a turn is by the log, which holds these values."""

    QUEUED = "queued"
    CONTINUED = "continued"  # Queued, and its agent is asked to go on.
    STARTED = "started"
    CANCELLING = "cancelling"  # Started, and cancelled: the agent was told, or is to be told.
    WITHDRAWN = "withdrawn"  # The same before it started: no agent has seen it, nor will.
    ENDED = "ended"


class TurnRow(_Row, frozen=True):
    """Where a turn is. `request`, `serves`, `client`, `digest` (of the request) and `size` (of its content) when it is new.

    `launch`, `epoch`: of the actor that has it, 0 while none has; a launch that is not named is that of the session's agent.
    """

    session: str
    turn: int
    state: LogState
    request: str = ""
    serves: list[str] = []
    client: str = ""
    epoch: int = 0
    digest: bytes = b""
    size: int = 0
    launch: str = ""


class MarkRow(_Row, frozen=True):
    """The last number of actor#epoch that this transaction holds."""

    actor: str
    epoch: int
    n: int


class HoldRow(_Row, frozen=True):
    """The program of launch#epoch knows the session, and no other one that lives does."""

    session: str
    launch: str
    epoch: int


class EpochRow(_Row, frozen=True):
    """The life of actor#epoch: written at spawn (status None), when it is cast, and at its end.

    pid and started as in `Spawned`. `plays`, `place`: as in `Spawn`; None: nothing is said of that.
    """

    actor: str
    epoch: int
    pid: int
    started: int
    status: int | None = None
    plays: str | None = None
    place: int = 0


class StopRow(_Row, frozen=True):
    """A person stopped the agent (or not `stopped`: started it), to stay so for the `life` of the house's keeper."""

    agent: str
    life: str
    stopped: bool


class RestRow(_Row, frozen=True):
    """How one actor of an agent stands, for the next supervisor of the same `life` (see `House`).

    `agent`: the actor's name. `state`: its own, with its `epoch`, "" while that passes by itself; `since`: in the clock
    of that life. The budget is that of its place: `restarts` in all, `in_a_row` of late; `granted`: how long the actors
    there had run in all (`ran_s`) at each restart within the period.
    `apart`: the agent is set apart. `digest`: of its configuration. `launch`: of the actor, "" for the agent's.
    """

    agent: str
    life: str
    state: str
    why: str = ""
    since: float = 0.0
    restarts: int = 0
    granted: list[float] = []
    in_a_row: int = 0
    ran_s: float = 0.0
    epoch: int = 0
    apart: bool = False
    digest: str = ""
    launch: str = ""


Row = Entry | SessionRow | MemoryRow | TurnRow | MarkRow | HoldRow | EpochRow | StopRow | RestRow


# --- effects: to the log and the sockets ------------------------------------------


class Record(_Struct, frozen=True):
    """Write `rows` in order, in the transaction `ticket` (tickets grow by one); `Committed` follows."""

    ticket: int
    rows: list[Row]


class TellClient(_Struct, frozen=True):
    """Send `frame` to the gateway's connection `peer`, once `after` (a ticket; 0: now) is committed.

    `lazily`: nobody waits for it; it may go with what is sent to `peer` next, some milliseconds later at most.
    """

    peer: bytes
    frame: ToClient
    after: int = 0
    lazily: bool = False


class TellActor(_Struct, frozen=True):
    """Send `frame` to the backstage connection `peer`, once `after` is committed; `lazily` as above.

    `missing`: the fields of a hand-over or a call that are to be read from the log when it goes out (`body`: the prompt).
    When the log cannot be read, what else goes to the peer waits behind it.
    """

    peer: bytes
    frame: ToActor
    after: int = 0
    lazily: bool = False
    missing: tuple[str, ...] = ()


class ReadEntries(_Struct, frozen=True):
    """Read entries of `session` from `number` on, up to `bytes_max` of bodies but at least one; `EntriesRead` follows.

    `serial` names the follower: another one may have its number by the time that the answer comes.
    """

    peer: bytes
    follow: int
    session: str
    number: int
    bytes_max: int
    serial: int = 0


class Announce(_Struct, frozen=True):
    """Write to the house's own log what happened."""

    news: News


class ForgetMarks(_Struct, frozen=True):
    """No turn of actor#epoch is open in the log once `after` is committed: what it had shown may be forgotten."""

    actor: str
    epoch: int
    after: int = 0


class KeepEnvironment(_Struct, frozen=True):
    """Keep what the session is to be opened with; `EnvironmentKept` follows. `cwd`: its folder, "" if that does not matter."""

    peer: bytes
    frame: Open
    cwd: str = ""


class Finish(_Struct, frozen=True):
    """End the supervisor: nothing of the house lives any more, or (`reload`) the keeper is to start the code anew."""

    reload: bool = False


Effect = (
    Spawn | Kill | Record | TellClient | TellActor | ReadEntries | ForgetMarks | KeepEnvironment | Announce | Finish
)
