"""News: what happened in the house, each kind a type with its fields, and the one text that is made of them. Pure.

The house writes them to its own log, and what concerns a session into that, as a note. Programs go by the kind (`what`) and
the fields; the text is for people, and nothing branches on it. A field that is added later has a default.

`actor`: its name, as `status` shows it; with `epoch` which incarnation (`claude/2#3`). `agent`: whom it plays, "" for an
understudy. `why`: for people. `then`: what is done about it, as the agent's `on_hang` says; "" when that is told elsewhere.
"""

from typing import Any, Literal

import msgspec

Then = Literal["", "tell", "cancel", "restart"]
THEN: dict[Then, str] = {
    "": "",
    "tell": "; cancel the turn, or wait",
    "cancel": "; the turn is cancelled",
    "restart": "; the actor is restarted",
}


class _News(msgspec.Struct, frozen=True, tag_field="what", tag=True, gc=False):
    """Base of the news: `str` gives the text."""

    def body(self) -> dict[str, Any]:
        """Return it as the body of a note: its text, its kind (`what`) and its fields."""
        return {"text": str(self), **msgspec.to_builtins(self)}


class _OfActor(_News, frozen=True):
    """Base of news of an actor."""

    agent: str
    actor: str
    epoch: int

    @property
    def title(self) -> str:
        """The name and epoch, as messages show them."""
        return f"{self.actor}#{self.epoch}"


class _OfSession(_News, frozen=True):
    """Base of news of a session. `turn`: 0 when it is of none."""

    session: str
    turn: int


# --- of actors --------------------------------------------------------------------


class ActorEnded(_OfActor, frozen=True, tag="actor_ended"):
    """Nothing of it lives any more, or `state` is UNKNOWN. `reason`: what kind of end, `why` in words.

    `fell`: it was neither `asked` to end (for what), nor ended as such a program does. `status`: exit code, or minus the
    signal; None: there was no process. `swept`: how many other processes of it were ended. `heir`: the understudy that
    takes over. `state`: as it is now, "" while that is not decided.
    """

    pid: int
    fell: bool
    ran_s: float
    reason: str
    why: str
    asked: str = ""
    status: int | None = None
    swept: int = 0
    heir: str = ""
    state: str = ""

    def __str__(self) -> str:
        who = f"agent {self.agent}" if self.agent else f"understudy: agent {self.actor}"
        asked = f" ({self.asked})" if self.asked else ""
        how = f"{'fell' if self.fell else 'ended'} after {self.ran_s:.1f} s{asked}: {self.why}"
        swept = f"; {self.swept} more process(es) of it were ended" if self.swept else ""
        heir = f"; its understudy {self.heir} takes over" if self.heir else ""
        now = f"; now {self.state}" if self.state and self.agent else ""
        return f"{who} ({self.title}, pid {self.pid}) {how}{swept}{heir}{now}"


class ProcessesLeft(_OfActor, frozen=True, tag="processes_left"):
    """So many processes of one that ended could not be ended."""

    count: int

    def __str__(self) -> str:
        return f"{self.title}: {self.count} process(es) could not be ended"


class UnderstudyTookOver(_OfActor, frozen=True, tag="understudy_took_over"):
    """It plays in the place of one that waited to start again, the incarnation `before` (0: there was none yet)."""

    before: int

    def __str__(self) -> str:
        before = f", for {self.actor}#{self.before}" if self.before else ""
        return f"understudy {self.title} takes over{before}"


class UnderstudyDismissed(_OfActor, frozen=True, tag="understudy_dismissed"):
    """Its memory, or its place, is wanted by others."""

    memory_mb: float
    why: str

    def __str__(self) -> str:
        return f"understudy {self.title} ({self.memory_mb:.0f} MB) is dismissed: {self.why}"


class ActorRenewed(_OfActor, frozen=True, tag="actor_renewed"):
    """It was idle, and is started again for the memory that it held."""

    memory_mb: float
    why: str

    def __str__(self) -> str:
        return f"{self.title} ({self.memory_mb:.0f} MB, idle) is started again: {self.why}"


class ActorHung(_OfActor, frozen=True, tag="actor_hung"):
    """Not a frame of it came for so long, nor an answer to a ping."""

    silent_s: float
    then: Then = ""

    def __str__(self) -> str:
        return (
            f"{self.title} hangs: not a frame of it for {self.silent_s:.1f} s, nor an answer to a ping{THEN[self.then]}"
        )


class ActorHeard(_OfActor, frozen=True, tag="actor_heard"):
    """One that hung is heard again."""

    silent_s: float

    def __str__(self) -> str:
        return f"{self.title} is heard again, after {self.silent_s:.1f} s of silence"


class HelloRefused(_OfActor, frozen=True, tag="hello_refused"):
    """Something at the backstage says that it is this actor, in a version, or of a launch, that is none of ours."""

    version: int

    def __str__(self) -> str:
        return f"hello of {self.title}, version {self.version}: not one of ours"


# --- of sessions and their turns --------------------------------------------------


class TurnWaits(_OfSession, frozen=True, tag="turn_waits"):
    """No actor takes the turn: a person stopped the agent, or it waits to start again (`why`), or the actor is silent,
    or the agent is not in the configuration.
    """

    agent: str
    waits_for: Literal["person", "start", "answer", "configuration"]
    actor: str = ""
    silent_s: float = 0.0
    why: str = ""

    def __str__(self) -> str:
        match self.waits_for:
            case "person":
                return f"{self.agent} was stopped by a person: the turn waits for understudy start {self.agent}"
            case "start":
                return f"the turn waits for agent {self.agent} to start: {self.why}"
            case "answer":
                silent = f"silent for {self.silent_s:.0f} s"
                return f"the turn waits for {self.actor}, {silent}; cancel it, or: understudy restart {self.agent}"
            case "configuration":
                missing = f"agent {self.agent} is no longer in the configuration"
                return f"the turn waits: {missing}; put it back, then: understudy reload; or cancel the turn"


class TurnOverdue(_OfSession, frozen=True, tag="turn_overdue"):
    """It takes longer than `turn_timeout_s`."""

    takes_s: float
    limit_s: float
    then: Then = ""

    def __str__(self) -> str:
        limit = f"turn_timeout_s is {self.limit_s:g}"
        return f"turn {self.turn} takes {self.takes_s:.1f} s; {limit}{THEN[self.then]}"


class TurnQuiet(_OfSession, frozen=True, tag="turn_quiet"):
    """It makes no progress for longer than `quiet_timeout_s`."""

    quiet_s: float
    limit_s: float
    then: Then = ""

    def __str__(self) -> str:
        limit = f"quiet_timeout_s is {self.limit_s:g}"
        return f"turn {self.turn} is quiet for {self.quiet_s:.1f} s; {limit}{THEN[self.then]}"


class SoftLimitPassed(_OfSession, frozen=True, tag="soft_limit_passed"):
    """Its actor uses more than `memory_soft`: the turn is cancelled."""

    memory_mb: float
    limit_mb: int

    def __str__(self) -> str:
        return f"memory: soft limit {self.limit_mb} MB, had {self.memory_mb:.0f} MB; the turn is cancelled"


class SaidMended(_OfSession, frozen=True, tag="said_mended"):
    """The actor mended what could not be sent as it was."""

    def __str__(self) -> str:
        what = "half characters, numbers without end"
        return f"something that the agent said could not be sent as it was, and was mended: {what}"


class SaidUnreadable(_OfSession, frozen=True, tag="said_unreadable"):
    """What the actor said cannot be read."""

    actor: str
    why: str

    def __str__(self) -> str:
        return f"what {self.actor} said cannot be read: {self.why}"


class SessionFilled(_OfSession, frozen=True, tag="session_filled"):
    """Its log is full: updates and questions are dropped from here on."""

    agent: str
    why: str

    def __str__(self) -> str:
        return f"session {self.session} of {self.agent} is full ({self.why}): what the agent says from here on is not recorded"


class UpdatesDropped(_OfSession, frozen=True, tag="updates_dropped"):
    """So much of a turn is not recorded."""

    count: int
    why: str

    def __str__(self) -> str:
        return f"{self.count} of what the agent said or asked is not recorded ({self.why})"


class TurnGivenUp(_OfSession, frozen=True, tag="turn_given_up"):
    """It was accepted before the house fell, and cannot be played."""

    why: str

    def __str__(self) -> str:
        return f"turn {self.turn} of session {self.session} ends: {self.why}"


class SessionSetApart(_OfSession, frozen=True, tag="session_set_apart"):
    """An invariant broke about it, at `event`."""

    why: str
    event: str

    def __str__(self) -> str:
        return f"session {self.session} is set apart: {self.why}; it happened at {self.event}"


# --- of the house -----------------------------------------------------------------


class AgentSetApart(_News, frozen=True, tag="agent_set_apart"):
    """An invariant broke about it, at `event`. `story`: what its actors went through last."""

    agent: str
    why: str
    event: str
    story: str

    def __str__(self) -> str:
        return f"agent {self.agent} is set apart: {self.why}; it happened at {self.event}; its story: {self.story}"


class AgentDeparted(_News, frozen=True, tag="agent_departed"):
    """It left the configuration. `going`: its turns that go on to their end, `waiting`: those that wait until it is back."""

    agent: str
    going: int
    waiting: int

    def __str__(self) -> str:
        turns = f"{self.going} turn(s) go on to their end, {self.waiting} wait until it is back"
        return f"agent {self.agent} is no longer in the configuration: {turns}"


class MemoryPassed(_News, frozen=True, tag="memory_passed"):
    """All actors use more than the house's `memory`, or (not `over`) no longer do."""

    over: bool
    used_mb: float
    limit_mb: int

    def __str__(self) -> str:
        if self.over:
            return f"memory of the house: limit {self.limit_mb} MB, had {self.used_mb:.0f} MB: turns and starts wait"
        return f"memory of the house: {self.used_mb:.0f} of {self.limit_mb} MB: turns and starts go on"


class LimitReached(_News, frozen=True, tag="limit_reached"):
    """A request was refused at `limit`; told once a minute for each."""

    limit: str
    why: str

    def __str__(self) -> str:
        return f"refused at a limit: {self.why}"


class ClientBroke(_News, frozen=True, tag="client_broke"):
    """The house broke at a frame of the client's, undid it, and forgot the client."""

    client: str
    frame: str
    request: str
    why: str

    def __str__(self) -> str:
        what = f"a {self.frame} of client {self.client} broke: {self.why}"
        return f"{what}; it is forgotten (request {self.request!r})"


class ClientSilent(_News, frozen=True, tag="client_silent"):
    """It answered no ping, and is forgotten."""

    client: str
    silent_s: float

    def __str__(self) -> str:
        return f"client {self.client} was silent for {self.silent_s:.0f} s: forgotten"


class PeerStuck(_News, frozen=True, tag="peer_stuck"):
    """A client, or an agent's actor, does not take what it was sent: its connection is given up."""

    peer: str
    size_mb: float

    def __str__(self) -> str:
        size = f"{self.size_mb:.1f} MB"
        return f"{self.peer} does not take {size}, and others wait for room: the connection is given up"


class HouseIdle(_News, frozen=True, tag="house_idle"):
    """Nobody needs the house: it ends."""

    idle_s: float

    def __str__(self) -> str:
        return f"no client for {self.idle_s:g} s: the house ends"


class KeeperGone(_News, frozen=True, tag="keeper_gone"):
    """The keeper died: the house ends."""

    def __str__(self) -> str:
        return "the keeper is gone: the house ends"


class LogStalled(_News, frozen=True, tag="log_stalled"):
    """The log, or (`tables`) what lies behind its journal, cannot be written; it is tried again."""

    why: str
    tables: bool = False

    def __str__(self) -> str:
        what = "the log's tables" if self.tables else "the log"
        return f"{what} cannot be written, trying again: {self.why}"


class LogWritten(_News, frozen=True, tag="log_written"):
    """The log is written again."""

    after_s: float

    def __str__(self) -> str:
        return f"the log is written again, after {self.after_s:.1f} s"


class LogUnreadable(_News, frozen=True, tag="log_unreadable"):
    """Something cannot be read from the log, for now or for good."""

    why: str

    def __str__(self) -> str:
        return f"the log cannot be read: {self.why}"


class LogDoubtful(_News, frozen=True, tag="log_doubtful"):
    """What was odd about the log when it was opened."""

    why: str

    def __str__(self) -> str:
        return self.why


class FrameRefused(_News, frozen=True, tag="frame_refused"):
    """A connection said what is no frame. `socket`: gateway or backstage."""

    socket: str
    peer: str
    why: str

    def __str__(self) -> str:
        return f"{self.socket}: garbage from connection {self.peer}: {self.why}"


class FrameUnsendable(_News, frozen=True, tag="frame_unsendable"):
    """A frame of the house's own is none; who waited for it was told."""

    socket: str
    why: str

    def __str__(self) -> str:
        return f"{self.socket}: {self.why}"


class ConnectionGivenUp(_News, frozen=True, tag="connection_given_up"):
    """It reads too little, or says too much."""

    socket: str
    peer: str
    why: str

    def __str__(self) -> str:
        return f"{self.socket}: connection {self.peer} {self.why}"


News = (
    ActorEnded
    | ProcessesLeft
    | UnderstudyTookOver
    | UnderstudyDismissed
    | ActorRenewed
    | ActorHung
    | ActorHeard
    | HelloRefused
    | TurnWaits
    | TurnOverdue
    | TurnQuiet
    | SoftLimitPassed
    | SaidMended
    | SaidUnreadable
    | SessionFilled
    | UpdatesDropped
    | TurnGivenUp
    | SessionSetApart
    | AgentSetApart
    | AgentDeparted
    | MemoryPassed
    | LimitReached
    | ClientBroke
    | ClientSilent
    | PeerStuck
    | HouseIdle
    | KeeperGone
    | LogStalled
    | LogWritten
    | LogUnreadable
    | LogDoubtful
    | FrameRefused
    | FrameUnsendable
    | ConnectionGivenUp
)
