"""The verbs of the command line, typed: what each one says, and what it is answered. Pure.

A verb travels as `frames.Verb`, with one of `Asked` packed as its body; its answer is the body of a `Result`. Both sides
read this page: the house checks what is asked (`doors.asked`), a client what it is answered (`answer_to`). Fields that are not
known are ignored, so one that is added later has a default: what is older understands it, and is understood.
"""

from functools import cache
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import msgspec

from understudy.protocol.sizes import NAMES_MAX, AgentName, Id

A = TypeVar("A")
Names = Annotated[list[AgentName], msgspec.Meta(max_length=NAMES_MAX)]
SignalNumber = Annotated[int, msgspec.Meta(ge=0, le=1000)]


# --- what is answered -------------------------------------------------------------


class AgentStatus(msgspec.Struct, frozen=True):
    """One actor. `name`: its agent's for the first who plays, `NAME/2` for the second, `NAME~1` for the first understudy.
    What concerns the agent as a whole stands with its first. None: it is not known, or not bounded.

    `state_s`, `since`: how long it has been in its state, and from when (seconds since 1970). `queue`, `running`: turns.
    `waiting_for`, `limits`, `link`, `why`: texts for people, empty when nothing is to be said. `log`: a path. `at_rest`:
    nobody need play it now, and a prompt starts it. `environment`: that of the sessions for which it was launched, by the
    name under which the house keeps it; "" for its agent's.
    """

    name: str
    state: str
    pid: int | None
    epoch: int
    uptime_s: float
    restarts: int
    queue: int
    running: int
    sessions: int
    waiting_for: str
    limits: list[str]
    memory_mb: float
    memory_limit_mb: int | None
    files: int
    files_limit: int | None
    link: str
    why: str
    state_s: float
    since: float
    log: str
    at_rest: bool = False
    environment: str = ""


class SessionStatus(msgspec.Struct, frozen=True):
    """One session. `last`: its last recorded number; `turn`: the one that is handed over, or None; `queue`: turns.

    `opened_at`: seconds since 1970. `environment`: as of an actor. `actor`: who has it now, "" for nobody. `full`,
    `quarantined`: why it takes no more prompts, "" when it does.
    """

    session: str
    agent: str
    cwd: str
    last: int
    queue: int
    running: bool
    turn: int | None
    opened_at: float
    full: str
    quarantined: str
    actor: str = ""
    environment: str = ""


class HouseStatus(msgspec.Struct, frozen=True):
    """The supervisor, and how its house was started. `safe_mode`: why it is in it, "" when it is not.

    `command`: what starts the house again, empty when it was not started from the command line; `source`: the
    configuration's file, "" for none.
    """

    pid: int
    epoch: int
    safe_mode: str
    command: list[str]
    source: str


class Leaving(msgspec.Struct, frozen=True):
    """The supervisor that is about to end."""

    pid: int
    epoch: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """What came of a verb for one agent. `error`: "" when it got there, None when the house ended meanwhile."""

    name: str
    state: str
    error: str | None


SESSIONS_SHOWN_MAX = 1_000  # At once.

# --- what is asked ----------------------------------------------------------------


class VerbBody(msgspec.Struct, Generic[A], frozen=True):
    """Base of the verbs; `A` is the type of the answer. `harmless_twice`: a client says it again after a broken connection."""

    harmless_twice: ClassVar[bool] = True


class Status(VerbBody[list[AgentStatus]], frozen=True):
    """Every actor, the agents in the order of their names."""


class Sessions(VerbBody[list[SessionStatus]], frozen=True):
    """The `SESSIONS_SHOWN_MAX` newest sessions, the newest first, or those that were opened before the session `before`;
    or the one that `session` names. [] when there are none.
    """

    session: Id = ""
    before: Id = ""


class House(VerbBody[HouseStatus], frozen=True):
    """Who the supervisor is."""


class Start(VerbBody[list[Outcome]], frozen=True):
    """Start the agents `names` (["all"]: every one). Answered when each runs, or will not for now."""

    names: Names = []


class Stop(VerbBody[list[Outcome]], frozen=True):
    """Stop the agents `names`; they stay so until a `Start`. Answered when each is at rest."""

    names: Names = []


class Restart(VerbBody[list[Outcome]], frozen=True):
    """Start the agents `names` anew. Answered when another incarnation of each runs, or will not for now."""

    harmless_twice: ClassVar[bool] = False
    names: Names = []


class Signal(VerbBody[Any], frozen=True):
    """Send a signal to the program of the one agent in `names`, to each where several actors play it."""

    harmless_twice: ClassVar[bool] = False
    names: Names = []
    signal: SignalNumber = 0


class Reload(VerbBody[Leaving], frozen=True):
    """Become the code that is installed, with the configuration as it is now. Answered before it begins."""


class Shutdown(VerbBody[Leaving], frozen=True):
    """End the house in order, or in a `hurry`. Answered before it begins."""

    harmless_twice: ClassVar[bool] = False
    hurry: bool = False


Asked = Status | Sessions | House | Start | Stop | Restart | Signal | Reload | Shutdown
VERBS: dict[str, type[Asked]] = {each.__name__.lower(): each for each in get_args(Asked)}
NOT_TO_REPEAT = frozenset(name for name, kind in VERBS.items() if not kind.harmless_twice)


# --- both ends --------------------------------------------------------------------


def name_of(asked: VerbBody[Any]) -> str:
    """Return the name of a verb: what `frames.Verb` calls it."""
    return type(asked).__name__.lower()


def answer_to(asked: VerbBody[A], body: bytes) -> A:
    """Return the house's answer. Raises `msgspec.MsgspecError` and its like (`codec.UNREADABLE_ERRORS`) for what is none."""
    answer: A = decoder(answer_type(type(asked))).decode(body or b"\xc0")
    return answer


def answer_type(kind: type[VerbBody[Any]]) -> Any:
    """Return the type of a verb's answer."""
    bases: tuple[Any, ...] = vars(kind)["__orig_bases__"]
    return get_args(bases[0])[0]


@cache
def decoder(kind: Any) -> "msgspec.msgpack.Decoder[Any]":
    """Return what decodes a verb's body, or an answer."""
    return msgspec.msgpack.Decoder(kind)
