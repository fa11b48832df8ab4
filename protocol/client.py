"""The client library: sessions, prompts and follows over one connection that mends itself.

    async with connect() as client:
        session = await client.open("claude", cwd="/repo")
        turn = await session.prompt("explain this repository")   # recorded when this returns
        async for item in session.follow(0): ...
        ending = await turn.ending()

All decisions are `follower`'s; this file moves bytes and wakes coroutines.
"""

import asyncio
import itertools
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import zmq

from understudy.protocol.away import no_house
from understudy.protocol.dealer import Dealer
from understudy.protocol.errors import LIMIT_REACHED, LocalError, RemoteError, UnderstudyError
from understudy.protocol.follower import (
    Arrived,
    Asked,
    FollowEnded,
    Follower,
    Happening,
    HouseLeft,
    Link,
    LinkRefused,
    LinkUp,
    Replied,
    Request,
    cost,
)
from understudy.protocol.frames import (
    Accepted,
    Answer,
    Ask,
    Call,
    Cancel,
    Entry,
    Fault,
    Frame,
    Open,
    Opened,
    Prompt,
    Result,
    ToClient,
    Verb,
    Welcome,
    pack,
    unpack,
)
from understudy.protocol.items import Ending, Item, items
from understudy.protocol.paths import gateway_address, runtime_folder
from understudy.protocol.sizes import too_large

RETRY_S = 0.02
RETRY_S_MAX = 1.0
WELCOME_S_MAX = 2.0
ENDINGS_MAX = 1_000

OnAsk = Callable[[Ask], Awaitable[Any]]


@dataclass(slots=True)
class _Feed:
    """What has come for one follow and not been taken."""

    arrived: deque[Arrived] = field(default_factory=deque[Arrived])
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    failure: UnderstudyError | None = None


@dataclass(slots=True)
class _Watch:
    """A session's endings, seen through one follow of the client's own."""

    follow: int
    since: int
    endings: dict[int, Ending] = field(default_factory=dict[int, Ending])
    waiting: dict[int, list[asyncio.Future[Ending]]] = field(default_factory=dict[int, "list[asyncio.Future[Ending]]"])
    texts: dict[int, list[str]] = field(default_factory=dict[int, list[str]])


class Turn:
    """A prompt that the house has accepted."""

    def __init__(self, session: "Session", number: int) -> None:
        self.session = session
        self.number = number

    async def ending(self) -> Ending:
        """Return how the turn ended, however long that takes and whatever dies meanwhile."""
        return await self.session.client._ending(self.session.id, self.number)  # noqa: SLF001

    async def cancel(self) -> None:
        """Ask for the turn to be cancelled; its ending tells."""
        await self.session.cancel(self.number)


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
        frame = Prompt(request or self.client.request_id(), self.id, pack(blocks), list(serves))
        answer = await self.client.request(frame)
        assert isinstance(answer, Accepted)
        return Turn(self, answer.turn)

    async def ask(self, prompt: str) -> str:
        """Prompt, wait for the ending and return the text of the answer; raise `RemoteError` on an abnormal end."""
        texts: list[str] = []
        frame = Prompt(self.client.request_id(), self.id, pack([{"type": "text", "text": prompt}]), waits=True)
        self.client.collect(frame.request, self.id, texts)
        answer = await self.client.request(frame)
        assert isinstance(answer, Accepted)
        ending = await Turn(self, answer.turn).ending()
        if ending.reason != "end_turn":
            raise RemoteError(ending.reason, ending.text or f"the turn ended: {ending.reason}", ending.body)
        return "".join(texts)

    async def follow(self, number: int = 0) -> AsyncIterator[Item]:
        """Yield the session's items from `number` on, for ever; no gap and no repeat over reconnects."""
        async for item in self.client.follow(self.id, number):
            yield item

    async def cancel(self, turn: int = 0) -> None:
        """Cancel one turn, or the running and all queued ones."""
        await self.client.request(Cancel(self.client.request_id(), self.id, turn))

    async def answer(self, ask: str, result: Any = None, error: str = "") -> None:
        """Answer a question of the agent; the first answer counts."""
        self.client.answer(Answer(self.id, ask, pack(result), error))

    async def call(self, method: str, body: Any = None) -> Any:
        """Send a request to the agent outside any turn and return its result. Raises `RemoteError`."""
        answer = await self.client.request(Call(self.client.request_id(), self.id, method, pack(body)))
        assert isinstance(answer, Result)
        return unpack(answer.body)


class Client:
    """One client of one house, over all its connections. Made by `connect`."""

    def __init__(self, runtime_dir: str, name: str, on_ask: OnAsk | None) -> None:
        self.runtime_dir = runtime_dir
        self.welcome: Welcome | None = None
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self._machine = Follower(os.urandom(16).hex(), name, os.getpid())
        self._on_ask = on_ask
        self._prefix = os.urandom(8).hex()
        self._made = 0
        self._answers: dict[str, asyncio.Future[Opened | Accepted | Result | Fault]] = {}
        self._collecting: dict[str, tuple[str, list[str]]] = {}
        self._feeds: dict[int, _Feed] = {}
        self._watches: dict[str, _Watch] = {}
        self._watched: dict[int, str] = {}
        self._asks: set[asyncio.Task[None]] = set()
        self._served: dict[str, Answer | None] = {}
        self._context: zmq.Context[Any] = zmq.Context()
        self._dealer: Dealer | None = None
        self._retry_s = RETRY_S
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._refused: asyncio.Future[Fault] = asyncio.get_running_loop().create_future()

    # --- what users call ---

    def session(self, session_id: str) -> Session:
        """Return a handle of an existing session (it is looked up at first use)."""
        return Session(self, session_id)

    async def open(self, agent: str, cwd: str = "", opening: dict[str, Any] | None = None) -> Session:
        """Open a session with `agent`; it is recorded when this returns. Raises `RemoteError`."""
        frame = Open(self.request_id(), agent, cwd or str(Path.cwd()), pack(opening or {}))
        answer = await self.request(frame)
        assert isinstance(answer, Opened)
        return Session(self, answer.session)

    async def verb(self, verb: str, body: Any = None) -> Any:
        """Carry out a verb of the command line and return its result. Raises `RemoteError`."""
        answer = await self.request(Verb(self.request_id(), verb, pack(body)))
        assert isinstance(answer, Result)
        return unpack(answer.body)

    # --- what sessions call ---

    def request_id(self) -> str:
        """Return a request id that nobody else makes."""
        self._made += 1
        return f"{self._prefix}.{self._made}"

    async def request(self, frame: Request) -> Opened | Accepted | Result:
        """Send a request, again after each reconnect, and return its answer; raise `RemoteError` for a fault.

        What is too large is refused here with a `LocalError`: the house would not take it.
        """
        if self._refused.done():
            raise _remote(self._refused.result())
        _see_size(frame)
        future: asyncio.Future[Opened | Accepted | Result | Fault] = asyncio.get_running_loop().create_future()
        self._answers[frame.request] = future
        self._machine.request(frame)
        self._flush()
        try:
            answer = await future
        finally:
            self._answers.pop(frame.request, None)
            self._collecting.pop(frame.request, None)
            if not future.done() or future.cancelled():
                self._machine.abandon(frame.request)
        if isinstance(answer, Fault):
            raise _remote(answer)
        return answer

    def answer(self, frame: Answer) -> None:
        """Send an answer to a question. Raises `LocalError` when it is too large."""
        _see_size(frame)
        if frame.ask in self._served:
            self._served[frame.ask] = frame
        self._machine.answer(frame)
        self._flush()

    def collect(self, request: str, session: str, texts: list[str]) -> None:
        """Gather the text of the answer to `request` in `texts`."""
        self._collecting[request] = (session, texts)

    async def follow(self, session: str, number: int) -> AsyncIterator[Item]:
        """Yield a session's items from `number` on. Raises `RemoteError` when the house refuses."""
        follow = self._machine.follow(session, number)
        feed = self._feeds[follow] = _Feed()
        self._flush()
        try:
            while True:
                while feed.arrived:
                    arrived = feed.arrived.popleft()
                    for entry in arrived.entries:
                        for item in items(entry, arrived.number):
                            yield item
                        self._machine.consumed(follow, cost(entry))
                    self._flush()
                if feed.failure is not None:
                    raise feed.failure
                feed.changed.clear()
                await feed.changed.wait()
        finally:
            self._feeds.pop(follow, None)
            self._machine.unfollow(follow)
            self._flush()

    async def _ending(self, session: str, turn: int) -> Ending:
        watch = self._watch(session, turn)
        ending = watch.endings.get(turn)
        if ending is not None:
            return ending
        future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        watch.waiting.setdefault(turn, []).append(future)
        return await future

    def _watch(self, session: str, turn: int) -> _Watch:
        watch = self._watches.get(session)
        if watch is not None and watch.since <= turn:
            return watch
        follow = self._machine.follow(session, turn)
        if watch is None:
            watch = self._watches[session] = _Watch(follow, turn)
        else:
            # An older turn than the watch has seen: look again, from there.
            self._machine.unfollow(watch.follow)
            self._watched.pop(watch.follow, None)
            watch.follow, watch.since = follow, turn
        self._watched[follow] = session
        self._flush()
        return watch

    # --- the connection ---

    async def start(self, wait_s: float) -> None:
        """Connect; raise `LocalError` when no house answers within `wait_s`, `RemoteError` when it refuses."""
        self._connect()
        up = asyncio.ensure_future(self.up.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {up, self._refused}
            await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._refused.done():
            raise _remote(self._refused.result())
        if not self.up.is_set():
            raise no_house(self.runtime_dir)

    async def close(self) -> None:
        """Say goodbye and leave; sessions go on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._asks:
            task.cancel()
        self._machine.leave()
        self._flush()
        if self._dealer is not None:
            self._dealer.close(flush_ms=100)
        self._context.destroy(100)
        for future in self._answers.values():
            if not future.done():
                future.cancel()

    def _connect(self) -> None:
        if self._closed or self._refused.done():
            return
        self._dealer = Dealer(
            self._context, gateway_address(self.runtime_dir), ToClient, self._take, lambda why: self._broken(why)
        )
        self._machine.connected()
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(WELCOME_S_MAX, self._no_welcome, self._dealer)

    def _no_welcome(self, dealer: Dealer) -> None:
        if dealer is self._dealer and self._machine.link is Link.GREETING:
            dealer.close()
            self._broken("the house did not answer the hello")

    def _broken(self, why: str) -> None:
        del why
        self.up.clear()
        self.down.set()
        self._dealer = None
        if self._timer is not None:
            self._timer.cancel()
        self._happen(self._machine.disconnected())
        if not self._closed and not self._refused.done():
            self._timer = asyncio.get_running_loop().call_later(self._retry_s, self._connect)
            self._retry_s = min(self._retry_s * 1.5, RETRY_S_MAX)

    def _flush(self) -> None:
        if self._dealer is not None:
            frames: list[Frame] = list(self._machine.frames_to_send())
            self._dealer.send(frames)

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._happen(self._machine.receive(frame))  # type: ignore[arg-type]
        self._flush()

    def _happen(self, happenings: list[Happening]) -> None:
        for happening in happenings:
            match happening:
                case Arrived():
                    self._arrived(happening)
                case Replied(request=request, frame=frame):
                    self._replied(request, frame)
                case Asked(ask=ask):
                    self._asked(ask)
                case LinkUp(welcome=welcome):
                    self.welcome = welcome
                    self._retry_s = RETRY_S
                    self.down.clear()
                    self.up.set()
                case LinkRefused(fault=fault):
                    self._refused.set_result(fault)
                    for future in self._answers.values():
                        if not future.done():
                            future.set_result(fault)
                case FollowEnded(follow=follow, fault=fault):
                    self._follow_ended(follow, fault)
                case HouseLeft():
                    pass  # The connection breaks next; a house that comes back is found again.
                case _:
                    assert_never(happening)

    def _replied(self, request: str, frame: Opened | Accepted | Result | Fault) -> None:
        collecting = self._collecting.pop(request, None)
        if collecting is not None and isinstance(frame, Accepted):
            self._watch(frame.session, frame.turn).texts[frame.turn] = collecting[1]
        future = self._answers.get(request)
        if future is not None and not future.done():
            future.set_result(frame)

    def _arrived(self, happening: Arrived) -> None:
        feed = self._feeds.get(happening.follow)
        if feed is not None:
            feed.arrived.append(happening)
            feed.changed.set()
            return
        session = self._watched.get(happening.follow)
        if session is not None:
            watch = self._watches[session]
            for entry in happening.entries:
                _see(watch, entry)
            self._machine.consumed(happening.follow, sum(map(cost, happening.entries)))

    def _follow_ended(self, follow: int, fault: Fault) -> None:
        feed = self._feeds.get(follow)
        if feed is not None:
            feed.failure = _remote(fault)
            feed.changed.set()
        watch = self._watches.pop(self._watched.pop(follow, ""), None)
        if watch is not None:
            for future in itertools.chain.from_iterable(watch.waiting.values()):
                if not future.done():
                    future.set_exception(_remote(fault))

    def _asked(self, ask: Ask) -> None:
        """Serve a question once; one that is said again after a reconnect gets the answer that was lost, if any."""
        if ask.ask not in self._served:
            self._served[ask.ask] = None
            if len(self._served) > ENDINGS_MAX:
                del self._served[next(iter(self._served))]
            task = asyncio.ensure_future(self._serve(ask))
            self._asks.add(task)
            task.add_done_callback(self._asks.discard)
        elif (given := self._served[ask.ask]) is not None:
            self.answer(given)

    async def _serve(self, ask: Ask) -> None:
        if self._on_ask is None:
            self.answer(Answer(ask.session, ask.ask, error=f"this client does not serve {ask.method}"))
            return
        try:
            self.answer(Answer(ask.session, ask.ask, pack(await self._on_ask(ask))))
        except UnderstudyError as error:
            answer = Answer(ask.session, ask.ask, pack(error.detail), error.text)
            self.answer(Answer(ask.session, ask.ask, error=error.text[:1000]) if too_large(answer) else answer)


def _see(watch: _Watch, entry: Entry) -> None:
    if entry.kind == "ended":
        body = unpack(entry.body)
        ending = Ending(str(body.pop("reason", "")), body)
        watch.endings[entry.turn] = ending
        watch.texts.pop(entry.turn, None)
        for future in watch.waiting.pop(entry.turn, ()):
            if not future.done():
                future.set_result(ending)
        if len(watch.endings) > ENDINGS_MAX:
            del watch.endings[next(iter(watch.endings))]
            watch.since = next(iter(watch.endings))
    elif entry.kind == "update" and entry.turn in watch.texts:
        for update in unpack(entry.body):
            content = update.get("content")
            if update.get("sessionUpdate") == "agent_message_chunk" and isinstance(content, dict):
                watch.texts[entry.turn].append(str(content.get("text", "")))


def _see_size(frame: Request | Answer) -> None:
    excess = too_large(frame)
    if excess:
        raise LocalError(LIMIT_REACHED, excess)


def _remote(fault: Fault) -> RemoteError:
    return RemoteError(fault.code, fault.text, unpack(fault.body))


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
