"""The client library: sessions, prompts and follows over one connection that mends itself.

    async with connect() as client:
        session = await client.open("claude", cwd="/repo")
        turn = await session.prompt("explain this repository")   # recorded when this returns
        async for item in session.follow(0): ...
        ending = await turn.ending()

All decisions are `client_machine`'s; this file wakes coroutines. Every wait ends: with what was asked for, or
an `UnderstudyError`; at `close`; when the house refuses us for good. A house that is away is waited for, however long.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, assert_never, overload

from understudy.protocol.answering import Answering, OnAsk
from understudy.protocol.client_machine import (
    RENUMBERED,
    Arrived,
    Asked,
    ClientMachine,
    FollowEnded,
    Happening,
    HelloDeferred,
    HelloRefused,
    HouseLeft,
    Replied,
    Request,
    Unheard,
    Welcomed,
)
from understudy.protocol.codec import UNREADABLE_ERRORS, refusal
from understudy.protocol.doors import wrong_with
from understudy.protocol.endings import Endings
from understudy.protocol.errors import (
    BAD_FRAME,
    CLOSED,
    GENERATION_CHANGED,
    REQUEST_REUSED,
    LocalError,
    RemoteError,
    UnderstudyError,
)
from understudy.protocol.feed import Feed, Feeds
from understudy.protocol.frames import (
    Accepted,
    Answer,
    Call,
    Cancel,
    Fault,
    Follow,
    FrameError,
    FromClient,
    Hello,
    Open,
    Opened,
    Prompt,
    Result,
    Verb,
    Welcome,
    pack,
    unpack,
)
from understudy.protocol.items import Ending
from understudy.protocol.paths import gateway_address, runtime_folder
from understudy.protocol.presence import no_house
from understudy.protocol.reconnecting import Reconnecting
from understudy.protocol.verbs import VerbBody, answer_to, name_of

__all__ = ["Client", "OnAsk", "Session", "Turn", "connect"]

Reply = Opened | Accepted | Result
A = TypeVar("A")
R = TypeVar("R", Opened, Accepted, Result)


class Turn:
    """A prompt that the house has accepted."""

    def __init__(self, session: "Session", number: int) -> None:
        self.session = session
        self.number = number
        self._generation = session.client.generation
        self._ending: Ending | None = None

    async def ending(self) -> Ending:
        """Return how the turn ended, however long that takes and whatever dies meanwhile. Raises `UnderstudyError`.

        With the code `generation_changed`: the house's log may have lost this turn, and another may have its number.
        """
        if self._ending is None:
            self._see_generation()
            self._ending = await self.session.client.ending(self.session.id, self.number)
        return self._ending

    async def cancel(self) -> None:
        """Ask for the turn to be cancelled; its ending tells. Raises `UnderstudyError`, as `ending` does."""
        self._see_generation()
        await self.session.cancel(self.number)

    def _see_generation(self) -> None:
        if self._generation != self.session.client.generation:
            raise RemoteError(GENERATION_CHANGED, RENUMBERED)


class Session:
    """A handle of one session."""

    def __init__(self, client: "Client", session_id: str) -> None:
        self.client = client
        self.id = session_id

    async def prompt(self, prompt: str | list[dict[str, Any]], request: str = "", serves: tuple[str, ...] = ()) -> Turn:
        """Hand in a prompt (text, or ACP content blocks); it is recorded when this returns.

        `request`: an id of your own; the same id again returns the same turn. Raises `RemoteError`.
        """
        blocks = [{"type": "text", "text": prompt}] if isinstance(prompt, str) else prompt
        frame = Prompt(request or self.client.request_id(), self.id, _packed(blocks), list(serves))
        return Turn(self, (await self.client.request(frame, Accepted)).turn)

    async def ask(self, prompt: str) -> str:
        """Prompt, wait for the ending and return the text of the answer; raise `RemoteError` on an abnormal end."""
        client = self.client
        frame = Prompt(client.request_id(), self.id, _packed([{"type": "text", "text": prompt}]), waits=True)
        texts, ending = await client.ask(frame)
        if ending.reason != "end_turn":
            raise RemoteError(ending.reason, ending.text or f"the turn ended: {ending.reason}", ending.body)
        return texts

    def follow(self, number: int = 0, holds: bool = False) -> Feed:
        """Yield the session's items from `number` on, for ever; no gap and no repeat over reconnects.

        `holds`: its agent stays up while somebody follows so, also when it has nothing to do for long.

        `async for item in session.follow(): ...`, or `anext`; what it raises, and how it ends: see `Feed`.
        """
        return self.client.follow(self.id, number, holds)

    async def cancel(self, turn: int = 0) -> None:
        """Cancel one turn, or the running and all queued ones."""
        await self.client.request(Cancel(self.client.request_id(), self.id, turn), Result)

    async def answer(self, ask: str, result: Any = None, error: str = "") -> None:
        """Answer a question of the agent; the first answer counts. Raises `LocalError` for what cannot be sent."""
        self.client.answer(Answer(self.id, ask, _packed(result), error))

    async def call(self, method: str, body: Any = None) -> Any:
        """Send a request to the agent outside any turn and return its result. Raises `RemoteError`."""
        frame = Call(self.client.request_id(), self.id, method, _packed(body))
        return _unpacked(await self.client.request(frame, Result))


class Client:
    """One client of one house, over all its connections. Made by `connect`."""

    def __init__(self, runtime_dir: str, name: str, on_ask: OnAsk | None) -> None:
        self.runtime_dir = runtime_dir
        self.welcome: Welcome | None = None
        self._loop = asyncio.get_running_loop()
        self._machine = ClientMachine(os.urandom(16).hex(), name, os.getpid())
        self._connection = Reconnecting(self._machine, gateway_address(runtime_dir), self._happen)
        self.up, self.down = self._connection.up, self._connection.down
        self._flush = self._connection.flush
        self._feeds = Feeds(self._machine, self._flush)
        self._endings = Endings(self._machine, self._flush)
        self._answering = Answering(on_ask, self.answer)
        self._prefix = os.urandom(8).hex()
        self._made = 0
        self._replies: dict[str, list[asyncio.Future[Reply]]] = {}  # By request: who waits for its answer.
        self._closing = False
        self._over: UnderstudyError | None = None  # Set when this client is closed or refused for good: why.
        self._settled = asyncio.Event()  # Set when the first welcome has come, or `_over` is set.

    # --- what users call ---

    def session(self, session_id: str) -> Session:
        """Return a handle of an existing session (it is looked up at first use)."""
        return Session(self, session_id)

    async def open(
        self,
        agent: str,
        cwd: str = "",
        opening: dict[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Session:
        """Open a session with `agent`; it is recorded when this returns. Raises `RemoteError`.

        `env`: variables for this session alone, beside and before those of the agent: an actor of its own plays it.
        """
        frame = Open(self.request_id(), agent, cwd or str(Path.cwd()), _packed(opening or {}), dict(env or {}))
        return Session(self, (await self.request(frame, Opened)).session)

    @overload
    async def verb(self, verb: VerbBody[A]) -> A: ...
    @overload
    async def verb(self, verb: str, body: Any = None) -> Any: ...
    async def verb(self, verb: str | VerbBody[Any], body: Any = None) -> Any:
        """Carry out a verb of the command line and return its answer. Raises `RemoteError`.

        `verb`: one of `protocol.verbs`, and the answer is typed; or a name with a map for its body, for a map.
        """
        if isinstance(verb, str):
            return _unpacked(await self.request(Verb(self.request_id(), verb, _packed(body)), Result))
        answer = await self.request(Verb(self.request_id(), name_of(verb), _packed(verb)), Result)
        try:
            return answer_to(verb, answer.body)
        except UNREADABLE_ERRORS as error:
            raise RemoteError(BAD_FRAME, f"the house's answer cannot be read: {error}") from error

    # --- what sessions call ---

    @property
    def generation(self) -> int:
        """The generation of the house's log: numbers mean something within one."""
        return self._machine.generation

    def request_id(self) -> str:
        """Return a request id that nobody else makes."""
        self._made += 1
        return f"{self._prefix}.{self._made}"

    async def request(self, frame: Request, kind: type[R]) -> R:
        """Send a request, again after each reconnect, and return its answer, which is of `kind`.

        Raises `RemoteError` for a fault, `LocalError` for what the house would not take and when this client is closed.
        The same request asked for again meanwhile gets the same answer.
        """
        self._see_sendable(frame)
        name, future = frame.request, self._loop.create_future()
        waiting = self._replies.get(name)
        if waiting is not None and self._machine.pending.get(name) != frame:
            raise LocalError(REQUEST_REUSED, f"request {name} is under way with another content: use another id")
        try:
            if waiting is not None:
                waiting.append(future)
            else:
                self._replies[name] = [future]
                self._machine.request(frame)
                self._flush()
            answer = await future
        finally:
            if future.cancelled() or not future.done():
                self._leave(name, future)
        if not isinstance(answer, kind):
            raise RemoteError(BAD_FRAME, f"the house answered {type(frame).__name__} with {type(answer).__name__}")
        return answer

    async def ask(self, frame: Prompt) -> tuple[str, Ending]:
        """Prompt; return what the agent said, and the ending."""
        waiter = self._endings.expect(frame.request, frame.session)
        try:
            await self.request(frame, Accepted)
            ending = await waiter.future
        finally:
            self._endings.leave(waiter, frame.request)
        return "".join(waiter.texts or ()), ending

    def answer(self, frame: Answer) -> None:
        """Send an answer to a question. Raises `LocalError` for what the house would not take."""
        self._see_sendable(frame)
        self._machine.answer(frame)
        self._flush()

    def follow(self, session: str, number: int, holds: bool = False) -> Feed:
        """Follow a session from `number` on. `holds`: as in `Follow`."""
        self._see_sendable(Follow(0, session, number))
        return self._feeds.begin(session, number, holds)

    async def ending(self, session: str, turn: int) -> Ending:
        """Return how a turn ended, when it has."""
        self._see_sendable(Follow(0, session, turn))
        return await self._endings.of(session, turn)

    # --- its life ---

    async def start(self, wait_s: float) -> None:
        """Connect; raise `LocalError` when no house answers within `wait_s`, `RemoteError` when it refuses."""
        self._see_sendable(Hello(0, self._machine.client, name=self._machine.name))
        self._connection.connect()
        try:
            await asyncio.wait_for(self._settled.wait(), wait_s)
        except TimeoutError:
            raise no_house(self.runtime_dir) from None
        if self._over is not None:
            raise self._over

    async def close(self) -> None:
        """Say goodbye and leave; sessions go on. Whoever waits for something of this client gets a `LocalError`."""
        if self._closing:
            return
        self._closing = True
        try:
            await self._answering.close()
        finally:
            self._end(LocalError(CLOSED, "this client is closed; connect again"))
            self._machine.leave()
            await self._connection.close()

    def _end(self, error: UnderstudyError) -> None:
        """Nothing more can be had: end every wait."""
        self._over = self._over or error
        self._feeds.end(self._over)
        self._endings.end(self._over)
        for name in list(self._replies):
            self._machine.abandon(name)
            self._replied(name, self._over)
        self._settled.set()

    def _happen(self, happenings: list[Happening]) -> None:
        for happening in happenings:
            match happening:
                case Arrived():
                    if not self._feeds.arrived(happening):
                        self._endings.arrived(happening)
                case Replied(request=request, frame=frame):
                    if isinstance(frame, Accepted):
                        self._endings.accepted(frame)
                    self._replied(request, frame)
                case Asked(ask=ask):
                    self._answering.asked(ask)
                case Welcomed(welcome=welcome, lost=lost):
                    self.welcome = welcome
                    if lost:
                        self._endings.renumbered()
                        self._answering.forget()
                    self._settled.set()
                case FollowEnded(follow=follow, fault=fault):
                    self._feeds.ended(follow, _remote(fault))
                    self._endings.ended(follow, _remote(fault))
                case HelloRefused(fault=fault):
                    self._end(_remote(fault))
                case HelloDeferred() | Unheard() | HouseLeft():
                    pass  # `reconnecting` deals with these: it looks for the house until it answers again.
                case _:
                    assert_never(happening)

    def _replied(self, request: str, answer: Reply | Fault | UnderstudyError) -> None:
        for future in self._replies.pop(request, ()):
            if future.done():
                continue
            if isinstance(answer, Fault):
                future.set_exception(_remote(answer))
            elif isinstance(answer, UnderstudyError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _leave(self, request: str, future: asyncio.Future[Reply]) -> None:
        """This one waits for the answer no more."""
        waiting = self._replies.get(request)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._replies[request]
                self._machine.abandon(request)

    def _see_sendable(self, frame: FromClient) -> None:
        """Raise for what must not be sent: it would take the rest with it, or nobody would answer."""
        if self._over is not None:
            raise self._over.with_traceback(None)
        wrong = wrong_with(frame)
        if wrong is not None:
            raise LocalError(wrong.code, wrong.text)


def _packed(body: object) -> bytes:
    """Return `body` as a `body` field. Raises `LocalError` for what msgpack cannot hold."""
    try:
        return pack(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        text = f"this cannot be sent: {refusal(error)}; send text, numbers, lists and maps"
        raise LocalError(BAD_FRAME, text) from error


def _unpacked(answer: Result) -> Any:
    try:
        return unpack(answer.body)
    except FrameError as error:
        raise RemoteError(BAD_FRAME, f"the house's answer cannot be read: {error}") from error


def _remote(fault: Fault) -> RemoteError:
    try:
        return RemoteError(fault.code, fault.text, unpack(fault.body))
    except FrameError:
        return RemoteError(fault.code, fault.text)


@asynccontextmanager
async def connect(
    runtime_dir: str | None = None, name: str = "", on_ask: OnAsk | None = None, wait_s: float = 5.0
) -> AsyncIterator[Client]:
    """Connect to the house at `runtime_dir` (default: as the command line finds it) and leave at the end.

    `on_ask` answers what this client said that it serves. Raises `LocalError` when no house answers.
    """
    client = Client(runtime_dir or runtime_folder(os.environ), name, on_ask)
    try:
        await client.start(wait_s)
        yield client
    finally:
        await client.close()
