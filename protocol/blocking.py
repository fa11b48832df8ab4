"""The client library for scripts and notebooks: every call returns when it is done.

    with understudy.connect_blocking() as client:
        session = client.open("claude", cwd="/repo")
        print(session.ask("explain this repository"))

It is `client.Client`, on an event loop in a thread of its own, which ends with `close`; nothing of the conversation is
here. So it may be called beside a running loop (a notebook's), which it holds up meanwhile, and by several threads at
once. Ctrl-C ends the call and nothing else: a turn goes on. A house that is away is waited for while its keeper lives;
one that is gone is an error after `GONE_S`, and found again when the next one is up.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from understudy.protocol.client import Client, Session, Turn
from understudy.protocol.errors import CLOSED, CONNECTION_LOST, LocalError
from understudy.protocol.feed import Feed
from understudy.protocol.items import Ending, Item
from understudy.protocol.paths import runtime_folder
from understudy.protocol.presence import held
from understudy.protocol.verbs import (
    AgentStatus,
    Outcome,
    Restart,
    Sessions,
    SessionStatus,
    Start,
    Status,
    Stop,
    VerbBody,
)

GONE_S = 2.0  # A service manager may take so long to start the next house: until then none is no error.
LOOK_S = 0.1

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own, until `end`. Never the thread in which somebody waits for it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="understudy client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._over.wait())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; an exception here (Ctrl-C) cancels it. Raises `LocalError` (closed) as well."""
        try:
            if os.getpid() != self._pid:
                text = f"this client is that of process {self._pid}, which was forked: connect in this one"
                raise LocalError(CONNECTION_LOST, text)
            with self._lock:  # Whatever is begun before the end gets its error from the client that closes.
                if self._ended:
                    raise LocalError(CLOSED, "this client is closed; connect again")
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except LocalError:
            work.close()
            raise
        try:
            return future.result()
        finally:
            future.cancel()

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `last`, and end the thread. In a process that was forked from ours there is none."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._ended:
                return
            self._ended = True
            ending = asyncio.run_coroutine_threadsafe(last(), self._loop)
            ending.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._over.set))
        # The garbage collector may call this in the loop's own thread.
        if threading.current_thread() is not self._thread:
            self._thread.join()


class BlockingFeed(Iterator[Item]):
    """The items of one session, for ever; no gap and no repeat over reconnects. Its end is `close`, its own or the client's.

    `timeout_s`: without an item for so long, `TimeoutError` is raised; the next `next` goes on without a loss.
    """

    def __init__(self, client: "BlockingClient", feed: Feed, timeout_s: float | None) -> None:
        self._client, self._feed, self._timeout_s = client, feed, timeout_s
        self._items: deque[Item] = deque()
        self._closed = False

    def __next__(self) -> Item:
        if self._closed:
            raise StopIteration
        if not self._items:
            try:
                self._client.wait(self._timeout_s, self._fill)
            except StopAsyncIteration:
                raise StopIteration from None
            except LocalError as error:
                if error.code == CLOSED:
                    raise StopIteration from None
                raise
        try:
            return self._items.popleft()
        except IndexError:  # Another thread has closed it meanwhile.
            raise StopIteration from None

    async def _fill(self) -> None:
        """Take what is next, in the loop: what comes in the moment of a Ctrl-C is there for the next `next`."""
        self._items.extend(await self._feed.next_items())

    def close(self) -> None:
        """Follow no more: whoever waits for an item gets `StopIteration`."""
        self._closed = True
        self._items.clear()
        with suppress(LocalError):
            self._client.wait(None, self._feed.aclose)


class BlockingTurn:
    """A prompt that the house has accepted."""

    def __init__(self, client: "BlockingClient", turn: Turn) -> None:
        self._client, self._turn = client, turn
        self.number = turn.number

    def ending(self, timeout_s: float | None = None) -> Ending:
        """Return how the turn ended. Raises `TimeoutError` when it has not within `timeout_s`: it goes on."""
        return self._client.wait(timeout_s, self._turn.ending)

    def cancel(self) -> None:
        """Ask for the turn to be cancelled; its ending tells."""
        self._client.wait(None, self._turn.cancel)


class BlockingSession:
    """A handle of one session."""

    def __init__(self, client: "BlockingClient", session: Session) -> None:
        self._client, self._session = client, session
        self.id = session.id

    def prompt(self, prompt: str | list[dict[str, Any]], request: str = "") -> BlockingTurn:
        """Hand in a prompt (text, or ACP content blocks); it is recorded when this returns.

        `request`: an id of your own; the same id again returns the same turn. Raises `RemoteError`.
        """
        return BlockingTurn(self._client, self._client.wait(None, self._session.prompt, prompt, request))

    def ask(self, prompt: str, timeout_s: float | None = None) -> str:
        """Prompt, wait for the ending and return the text of the answer; raise `RemoteError` on an abnormal end.

        Raises `TimeoutError` when there is none within `timeout_s`: the turn goes on. Whoever wants to answer the agent's
        questions prompts, and follows from the turn's number.
        """
        return self._client.wait(timeout_s, self._session.ask, prompt)

    def follow(self, number: int = 0, timeout_s: float | None = None) -> BlockingFeed:
        """Yield the session's items from `number` on; see `BlockingFeed`."""

        async def follow() -> Feed:
            return self._session.follow(number)

        return BlockingFeed(self._client, self._client.wait(None, follow), timeout_s)

    def answer(self, ask: str, result: Any = None, error: str = "") -> None:
        """Answer a question of the agent (`ask` of an `asked` item's body); the first answer counts."""
        self._client.wait(None, self._session.answer, ask, result, error)

    def cancel(self, turn: int = 0) -> None:
        """Cancel one turn, or the running and all queued ones."""
        self._client.wait(None, self._session.cancel, turn)

    def call(self, method: str, body: Any = None, timeout_s: float | None = None) -> Any:
        """Send a request to the agent outside any turn and return its result. Raises `RemoteError`."""
        return self._client.wait(timeout_s, self._session.call, method, body)


class BlockingClient:
    """One client of one house. Made by `connect_blocking`; end it with `close`, or use it in a `with`."""

    def __init__(self, runtime_dir: str, name: str, wait_s: float) -> None:
        self.runtime_dir = runtime_dir
        self._thread = LoopThread()
        made: list[Client] = []

        async def leave() -> None:
            for client in made:
                await client.close()

        async def arrive() -> None:
            made.append(Client(runtime_dir, name, None))
            await made[0].start(wait_s)

        # It is called by `close`, by the garbage collector, and when the interpreter ends.
        self._finalize = weakref.finalize(self, self._thread.end, leave)
        try:
            self._thread.wait(arrive())
        except BaseException:
            self.close()
            raise
        self._client = made[0]

    def session(self, session_id: str) -> BlockingSession:
        """Return a handle of an existing session (it is looked up at first use)."""
        return BlockingSession(self, self._client.session(session_id))

    def open(
        self,
        agent: str,
        cwd: str = "",
        opening: dict[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> BlockingSession:
        """Open a session with `agent` (in `cwd`, default: here); it is recorded when this returns. Raises `RemoteError`."""
        return BlockingSession(self, self.wait(None, self._client.open, agent, cwd, opening, env))

    @overload
    def verb(self, verb: VerbBody[T], *, timeout_s: float | None = None) -> T: ...
    @overload
    def verb(self, verb: str, body: Any = None, timeout_s: float | None = None) -> Any: ...
    def verb(self, verb: Any, body: Any = None, timeout_s: float | None = None) -> Any:
        """Carry out a verb of the command line (one of `protocol.verbs`, or its name) and return its answer."""
        return self.wait(timeout_s, self._client.verb, verb, body)

    def status(self) -> list[AgentStatus]:
        """Return how each actor is."""
        return self.verb(Status())

    def sessions(self) -> list[SessionStatus]:
        """Return the newest sessions."""
        return self.verb(Sessions())

    def start(self, *names: str, timeout_s: float | None = None) -> list[Outcome]:
        """Start agents ("all": every one) and return what came of each, when it runs or will not for now."""
        return self.verb(Start(list(names)), timeout_s=timeout_s)

    def stop(self, *names: str, timeout_s: float | None = None) -> list[Outcome]:
        """Stop agents until somebody starts them; return when they are at rest."""
        return self.verb(Stop(list(names)), timeout_s=timeout_s)

    def restart(self, *names: str, timeout_s: float | None = None) -> list[Outcome]:
        """Start agents anew and return what came of each."""
        return self.verb(Restart(list(names)), timeout_s=timeout_s)

    def close(self) -> None:
        """Say goodbye and end the thread; sessions go on. Whoever waits for something gets a `LocalError`."""
        self._finalize()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(
        self, timeout_s: float | None, work: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **options: P.kwargs
    ) -> T:
        """Return what `work` returns in the client's loop. Raises `TimeoutError`; `LocalError` when the house is gone."""

        async def unless_gone() -> T:
            doing, going = asyncio.ensure_future(work(*args, **options)), asyncio.ensure_future(self._gone())
            try:
                await asyncio.wait({doing, going}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if doing.done():
                    return doing.result()
                if going.done():
                    going.result()
                raise TimeoutError(f"not done within {timeout_s:g} s; it goes on")
            finally:
                going.cancel()
                doing.cancel()

        return self._thread.wait(unless_gone())

    async def _gone(self) -> None:
        """Raise `LocalError` once no process of the house has been there for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await self._client.down.wait()
            until = loop.time() + GONE_S
            while self._client.down.is_set() and not held(f"{self.runtime_dir}/lock"):
                if loop.time() > until:
                    text = f"the house at {self.runtime_dir} is gone; what it had accepted is kept: start it again with"
                    raise LocalError(CONNECTION_LOST, f"{text} `understudy up`, and look at the session")
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(LOOK_S)


def connect_blocking(runtime_dir: str | None = None, name: str = "", wait_s: float = 5.0) -> BlockingClient:
    """Connect to the house at `runtime_dir` (default: as the command line finds it). Raises `LocalError` when none answers."""
    return BlockingClient(runtime_dir or runtime_folder(os.environ), name, wait_s)
