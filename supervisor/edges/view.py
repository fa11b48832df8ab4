"""One session as one viewer sees it: the follow of its log, the viewer's own turns, questions at the viewer.

It keeps no history, what the viewer has not taken yet stays in the log; and it knows nothing of how the viewer is spoken to.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from understudy.protocol.client import Session, Turn
from understudy.protocol.errors import INTERNAL, LocalError, RemoteError, UnderstudyError
from understudy.protocol.items import Item

ERROR_CHARACTERS_MAX = 1000
ENDINGS_KEPT_MAX = 100  # Of turns whose acceptance has not come yet; it comes at once.

Accepted = tuple[Turn, "asyncio.Future[dict[str, Any]]"]  # A prompt that the house has, and its ending to come.


class Viewer(Protocol):
    """Whoever looks at one session: an editor, a page."""

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more."""

    async def show(self, item: Item, foreign: bool, live: bool) -> None:
        """Show an item. `foreign`: of a turn that this viewer did not ask for. Returns when it may be shown more."""

    def answers(self, item: Item) -> bool:
        """Return whether the viewer can answer this question."""

    async def ask(self, item: Item) -> tuple[Any, str] | None:
        """Ask it; return the answer, or in place of it what is wrong; None when the viewer is gone."""

    async def serve(self, method: str, params: Any) -> Any:
        """Have the viewer do what only it can."""


class View:
    """Shows one session to its viewer, and passes on what that asks for."""

    def __init__(self, session: Session, viewer: Viewer) -> None:
        self.session = session
        self.loading = asyncio.Lock()
        self.playing: set[asyncio.Task[dict[str, Any]]] = set()
        self._viewer = viewer
        self._items: AsyncIterator[Item] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._failure: UnderstudyError | None = None
        self._own: set[int] = set()
        self._accepting: set[asyncio.Future[Accepted]] = set()
        self._cancelling: asyncio.Task[None] | None = None
        self._endings: dict[int, dict[str, Any]] = {}
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._questions: dict[str, Item] = {}
        self._answers: dict[str, tuple[Any, str]] = {}
        self._asks: dict[str, asyncio.Task[None]] = {}
        self._direct: dict[int, set[asyncio.Task[Any]]] = {}

    # --- the log ---

    async def take_in(self, number: int, last: int, show: bool) -> None:
        """Read the log from `number` to `last` and, with `show`, replay it; `go` follows on from there."""
        self.stop()
        self._questions.clear()
        self._items = self.session.follow(number, holds=True)
        if number <= last:
            async for item in self._items:
                if show:
                    await self._viewer.show(item, foreign=True, live=False)
                self._note(item)
                if item.number >= last:
                    break

    def go(self) -> None:
        """Follow live. What the viewer is to hear before that must be sent before this task runs: start it last."""
        assert self._items is not None, "go before take_in"
        self._failure = None
        self._follower = asyncio.ensure_future(self._follow(self._items))
        for item in self._questions.values():
            self._ask(item)

    def stop(self) -> None:
        """Follow no more, withdraw the questions from the viewer; the session goes on in the house."""
        tasks = [self._follower, *self._asks.values(), *(task for tasks in self._direct.values() for task in tasks)]
        for task in tasks:
            if task is not None:
                task.cancel()
        self._asks.clear()
        self._direct.clear()
        self._follower, self._items = None, None

    async def _follow(self, items: AsyncIterator[Item]) -> None:
        try:
            async for item in items:
                await self._viewer.show(item, not await self._is_own(item), live=True)
                self._note(item)
                if item.kind == "asked":
                    self._ask(item)
        except RemoteError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (one session's trouble is told to its prompts)
            self._fail(LocalError(INTERNAL, f"the session cannot be shown: {type(error).__name__}: {error}"))

    def _note(self, item: Item) -> None:
        """Remember what an item means for questions and turns."""
        match item.kind:
            case "asked":
                self._questions[item.body["ask"]] = item
            case "answered":
                self._answered(item.body["ask"])
            case "lost":
                self._unasked(item.turn)
            case "ended":
                self._unasked(item.turn)
                self._ended(item)
            case _:
                pass

    def _ended(self, item: Item) -> None:
        self._own.discard(item.turn)
        future = self._waiting.pop(item.turn, None)
        if future is not None:
            if not future.done():
                future.set_result(item.body)
        elif self._accepting:
            self._endings[item.turn] = item.body
            if len(self._endings) > ENDINGS_KEPT_MAX:
                del self._endings[next(iter(self._endings))]

    def _fail(self, error: UnderstudyError) -> None:
        self._failure = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    # --- turns of this viewer ---

    async def prompt(self, content: list[Any], serves: tuple[str, ...]) -> dict[str, Any]:
        """Play one prompt and return how it ended; all its updates are shown before. Cancelled, it cancels the turn."""
        if self._failure is not None:
            raise self._failure
        self._cancelling = None  # What is under way is not meant for this one.
        accepted = asyncio.ensure_future(self._accept(content, serves))
        self._accepting.add(accepted)
        accepted.add_done_callback(self._accepting.discard)
        playing = asyncio.ensure_future(self._play(accepted))
        self.playing.add(playing)
        playing.add_done_callback(self.playing.discard)
        try:
            return await asyncio.shield(playing)
        except asyncio.CancelledError:
            if self._viewer.gone:
                raise
            await (await accepted)[0].cancel()
            return await playing

    async def _accept(self, content: list[Any], serves: tuple[str, ...]) -> Accepted:
        turn = await self.session.prompt(content, serves=serves)
        self._own.add(turn.number)
        future = self._waiting[turn.number] = asyncio.get_running_loop().create_future()
        if turn.number in self._endings:
            self._own.discard(turn.number)
            del self._waiting[turn.number]
            future.set_result(self._endings.pop(turn.number))
        return turn, future

    async def _play(self, accepted: "asyncio.Future[Accepted]") -> dict[str, Any]:
        _, ending = await accepted
        if self._failure is not None and not ending.done():
            raise self._failure
        return await ending

    async def _is_own(self, item: Item) -> bool:
        """Return whether the viewer prompted this item's turn: while an acceptance is on its way, wait for it."""
        if item.kind == "prompt":
            await self._all_accepted()
        return item.turn in self._own

    async def _all_accepted(self) -> None:
        """Wait for the acceptances that are on their way now."""
        if self._accepting:
            await asyncio.wait(self._accepting)

    async def cancel(self) -> None:
        """Cancel all turns of the session that were asked for before. One that is under way, and after which nothing was
        asked for, does that already.
        """
        if self._cancelling is None or self._cancelling.done():
            # In a task of its own, as acceptances are: so they reach the house in the order in which they came.
            self._cancelling = asyncio.ensure_future(self.session.cancel())
            await self._cancelling

    async def cancel_own(self) -> None:
        """Cancel the turns that this viewer prompted and wait for their endings."""
        await self._all_accepted()
        playing = list(self.playing)
        for number in list(self._own):
            await self.session.cancel(number)
        if playing:
            await asyncio.wait(playing)

    # --- questions ---

    def withdraw(self) -> None:
        """Take the questions back from the viewer: it cancels."""
        for task in list(self._asks.values()):
            task.cancel()

    async def answer_again(self) -> None:
        """Send the answers again that may have been lost with a connection: only the first one counts."""
        for name, (result, error) in list(self._answers.items()):
            await self._answer(name, result, error)

    async def serve(self, turn: int, method: str, params: Any) -> Any:
        """Ask the viewer what only it can do for a turn that it prompted; withdrawn when the turn ends."""
        task = asyncio.current_task()
        assert task is not None
        self._direct.setdefault(turn, set()).add(task)
        try:
            return await self._viewer.serve(method, params)
        finally:
            tasks = self._direct.get(turn)
            if tasks is not None:
                tasks.discard(task)
                if not tasks:
                    self._direct.pop(turn, None)

    def _answered(self, name: str) -> None:
        self._questions.pop(name, None)
        self._answers.pop(name, None)
        task = self._asks.pop(name, None)
        if task is not None:
            task.cancel()

    def _unasked(self, turn: int) -> None:
        """Withdraw what the viewer was asked for a turn: who asked is gone."""
        for name in [name for name, item in self._questions.items() if item.turn == turn]:
            self._answered(name)
        for task in self._direct.pop(turn, ()):
            task.cancel()

    def _ask(self, item: Item) -> None:
        name = item.body["ask"]
        if name not in self._asks and self._viewer.answers(item):
            task = self._asks[name] = asyncio.ensure_future(self._put(name, item))
            task.add_done_callback(lambda done: self._asked(name, done))

    def _asked(self, name: str, task: "asyncio.Task[None]") -> None:
        if self._asks.get(name) is task:
            del self._asks[name]

    async def _put(self, name: str, item: Item) -> None:
        answer = await self._viewer.ask(item)
        if answer is not None:
            self._answers[name] = answer
            await self._answer(name, *answer)

    async def _answer(self, name: str, result: Any, text: str) -> None:
        try:
            await self.session.answer(name, result, text)
        except (TypeError, ValueError, OverflowError, LocalError) as error:  # Who asked must hear something.
            self._answers[name] = (None, f"the answer cannot be passed on: {error}"[:ERROR_CHARACTERS_MAX])
            await self.session.answer(name, *self._answers[name])
