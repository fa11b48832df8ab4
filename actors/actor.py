"""The base class of every actor, and the turn it receives.

A user writes a class with one coroutine and names its import path in the configuration:

    class Echo(Actor):
        async def play(self, turn: Turn) -> str:
            await turn.say(turn.text)
            return "end_turn"

Sessions run concurrently: `play` is called again for another session while the first call waits.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from understudy.protocol.errors import AGENT_ERROR, UnderstudyError


class ActorError(UnderstudyError):
    """The agent or its program failed: raised by `play` or `call`, it ends the turn as `failed`."""

    def __init__(self, text: str, code: str = AGENT_ERROR, detail: object = None) -> None:
        super().__init__(code, text, detail)


class Voice(Protocol):
    """How a turn reaches the supervisor. The host provides it."""

    async def say(self, session: str, turn: int, update: dict[str, Any]) -> None:
        """Queue one update; waits while more than the bound is unrecorded."""

    async def ask(self, session: str, turn: int, method: str, body: Any, public: bool) -> Any:
        """Return the answer; raise `ActorError` if nobody can answer."""

    async def begin(self, session: str, turn: int) -> None:
        """Return when the turn may be given to the agent."""

    def show(self, session: str, turn: int) -> None:
        """Mark that the agent is about to see the turn; raise `ActorError` if that cannot be written."""

    def withdraw(self, session: str, turn: int) -> None:
        """Take the mark back: the agent is gone and certainly had not got it."""

    def remember(self, session: str, body: Any) -> None:
        """Keep `body` for the session across actors."""


@dataclass(slots=True)
class SessionPlan:
    """What a driver needs to make a session ready. `opening`: the client's Open body; `memory`: what was remembered.

    `persona`: who the agent is to be in this session (text), "" for nobody in particular.
    """

    session: str
    cwd: str
    opening: dict[str, Any]
    memory: Any
    persona: str = ""


@dataclass(slots=True)
class Turn:
    """One prompt to play: `content` is its list of ACP content blocks.

    `continues`: the agent has seen the prompt, fell, and is asked to go on: `content` says so.
    """

    plan: SessionPlan
    number: int
    content: list[dict[str, Any]]
    serves: frozenset[str]
    voice: Voice
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    continues: bool = False

    @property
    def session(self) -> str:
        """The session's id."""
        return self.plan.session

    @property
    def text(self) -> str:
        """The text blocks of the prompt, joined."""
        return "\n".join(str(block["text"]) for block in self.content if block.get("type") == "text")

    async def begin(self) -> None:
        """Ask for leave to show the prompt to the agent; returns at once when it was given before.

        The host calls it before `play` unless the class sets `begins_itself`, for drivers
        that first make the session ready in their program.
        """
        await self.voice.begin(self.session, self.number)

    def show(self) -> None:
        """Mark, last of all, that the agent is about to see the prompt. Until then a lost actor costs nothing.

        The host calls it before `play` unless the class sets `begins_itself`.
        """
        self.voice.show(self.session, self.number)

    def withdraw(self) -> None:
        """Take the mark back when the agent is gone and certainly had not got the prompt."""
        self.voice.withdraw(self.session, self.number)

    async def say(self, text: str) -> None:
        """Say `text` as a piece of the answer."""
        await self.update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})

    async def update(self, update: dict[str, Any]) -> None:
        """Send an ACP session update (any kind, unknown ones too); waits while too much is unrecorded."""
        await self.voice.say(self.session, self.number, update)

    async def ask(self, method: str, body: Any, public: bool = True) -> Any:
        """Ask a question and return its answer (ACP params and result).

        `public`: recorded, and answered by whoever follows; else it goes to the client
        that prompted, which must serve `method`. Raises `ActorError`.
        """
        return await self.voice.ask(self.session, self.number, method, body, public)


@dataclass(frozen=True, slots=True)
class Role:
    """What the host tells an actor about itself. `log`: an append-only file for the program's stderr.

    `environment`: the name of what the sessions brought that it is to play, "" for nothing: see `protocol.environments`.
    `stop_grace_s`: from being asked to end until SIGKILL, when nobody says otherwise.
    `memory_mb` bounds an agent that runs in the actor; the tree of any other is watched from outside. `data_limit_mb`
    bounds the data of each process (RLIMIT_DATA). 0: no bound.
    """

    name: str
    epoch: int
    command: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    memory_mb: int
    files: int
    options: dict[str, Any]
    log: str
    environment: str = ""
    stop_grace_s: float = 5.0
    data_limit_mb: int = 0


class CannotStartError(ActorError):
    """The system does not start the program, and will not until somebody mends that."""

    status = 127  # The actor's exit status, as a shell's; the supervisor knows it.


def cannot_start(role: Role, error: Exception) -> ActorError:
    """Return the error for a program that the system does not start: what it is about, why, and the remedy."""
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    if isinstance(error, OSError) and role.cwd and error.filename == role.cwd:
        return CannotStartError(f"agent {role.name}: the folder {role.cwd!r}: {reason}; make it, or mend `cwd`")
    text = f"agent {role.name}: the program {role.command[0]!r} cannot be started: {reason}"
    return CannotStartError(f"{text}; install it, or mend `command` in the configuration")


class Actor:
    """One actor: override `play`; the rest where needed."""

    begins_itself = False

    def __init__(self, role: Role, voice: Voice) -> None:
        self.role = role
        self.voice = voice
        self.ended = asyncio.Event()
        """Set it (with `end_reason`) when the program is gone: the actor ends, and its supervisor starts another."""
        self.end_reason = ""
        self.program_pid = 0
        """The program's process, for `signal`; 0: the actor runs none."""
        self.end_status = 1
        """What the actor exits with when `ended` is set: a program's exit code decides whether it comes back."""

    async def start(self) -> None:
        """Make ready: start the program. Raises `ActorError` with a clear text."""

    async def play(self, turn: Turn) -> str:
        """Play `turn` to its end and return the stop reason (`end_turn`, `cancelled` …)."""
        raise ActorError(f"{type(self).__name__} plays nothing ({turn.text[:20]!r}): override `play`")

    async def call(self, plan: SessionPlan, method: str, body: Any) -> Any:
        """Answer a request outside any turn; `ready` makes the session ready and returns what its opening gave."""
        del plan, body
        if method == "ready":
            return {}
        raise ActorError(f"{type(self).__name__} does not know the method {method!r}", code="unknown_method")

    async def cancel(self, turn: Turn) -> bool:
        """Ask the program to cancel `turn` (`turn.cancelled` is set already) and return True: `play` then still
        returns the stop reason. The default returns False: the host cancels the coroutine.
        """
        del turn
        return False

    async def stop(self, grace_s: float) -> None:
        """End the program in order; kill it when `grace_s` seconds are over, not before."""
        del grace_s
