"""Follows that somebody reads: what has come for each and was not taken. It bounds nothing itself: credit does.

The client keeps only a `Flow`; whoever reads holds the `Feed`. So one that is dropped unread is noticed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from understudy.protocol.client_machine import Arrived, ClientMachine, cost
from understudy.protocol.errors import BAD_FRAME, RemoteError, UnderstudyError
from understudy.protocol.frames import Entry, FrameError
from understudy.protocol.items import Item, items


@dataclass(slots=True)
class Flow:
    """What has come for one follow and was not taken, with the numbers from which on it is new. `over`: nothing will."""

    follow: int
    arrived: deque[tuple[Entry, int]] = field(default_factory=deque[tuple[Entry, int]])
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: UnderstudyError | StopAsyncIteration | None = None


class Feed(AsyncIterator[Item]):
    """The items of one session, for ever: `async for`, or `anext`. No gap and no repeat over reconnects.

    A time-out or a cancel while the next item is awaited loses nothing. `aclose` ends it, as does its last reference.
    Raises `RemoteError` when the house refuses or its log begins a new generation, `LocalError` once the client is closed.
    """

    def __init__(self, feeds: "Feeds", flow: Flow) -> None:
        self._feeds, self._flow = feeds, flow
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._taken = 0  # What the entry of `_items` costs; it is given back as credit when all of them are taken.

    def __aiter__(self) -> "Feed":
        return self

    async def __anext__(self) -> Item:
        flow = self._flow
        while not self._items:
            if self._taken:
                size, self._taken = self._taken, 0
                self._feeds.consumed(flow.follow, size)
            if flow.arrived:
                self._unpack(*flow.arrived.popleft())
            elif flow.over is not None:
                raise flow.over.with_traceback(None)
            else:
                flow.changed.clear()
                await flow.changed.wait()
        return self._items.popleft()

    async def next_items(self) -> list[Item]:
        """Return the next item, and those that came with it."""
        found = [await anext(self), *self._items]
        self._items.clear()
        return found

    async def aclose(self) -> None:
        """Follow no more."""
        self._items.clear()
        self._feeds.drop(self._flow)

    def __del__(self) -> None:
        if self._flow.over is None:
            with contextlib.suppress(RuntimeError):  # Raised by a loop that is closed; the client is closed then, too.
                self._loop.call_soon_threadsafe(self._feeds.drop, self._flow)

    def _unpack(self, entry: Entry, number: int) -> None:
        self._taken = cost(entry)
        try:
            self._items.extend(items(entry, number))
        except (FrameError, TypeError) as error:
            text = f"entry {entry.first} of session {entry.session} cannot be read: {error}"
            raise RemoteError(BAD_FRAME, text) from error


class Feeds:
    """All that one client follows for its readers."""

    def __init__(self, machine: ClientMachine, flush: Callable[[], None]) -> None:
        self._machine, self._flush = machine, flush
        self._flows: dict[int, Flow] = {}

    def begin(self, session: str, number: int, holds: bool = False) -> Feed:
        """Follow `session` from `number` on. `holds`: as in `Follow`."""
        flow = Flow(self._machine.follow(session, number, holds=holds))
        self._flows[flow.follow] = flow
        self._flush()
        return Feed(self, flow)

    def arrived(self, happening: Arrived) -> bool:
        """Take what came for a follow; return whether it is one of these."""
        flow = self._flows.get(happening.follow)
        if flow is None:
            return False
        flow.arrived.extend((entry, happening.number) for entry in happening.entries)
        flow.changed.set()
        return True

    def consumed(self, follow: int, size: int) -> None:
        """A reader has dealt with so many bytes."""
        if self._machine.consumed(follow, size):
            self._flush()

    def ended(self, follow: int, error: UnderstudyError) -> None:
        """Nothing more will come for a follow: its reader is told when it has read the rest."""
        flow = self._flows.pop(follow, None)
        if flow is not None:
            flow.over = error
            flow.changed.set()

    def end(self, error: UnderstudyError) -> None:
        """End all."""
        for follow in list(self._flows):
            self.ended(follow, error)
            self._machine.unfollow(follow)

    def drop(self, flow: Flow) -> None:
        """Nobody reads this follow any more."""
        flow.over = StopAsyncIteration()
        flow.arrived.clear()
        flow.changed.set()
        if self._flows.pop(flow.follow, None) is not None:
            self._machine.unfollow(flow.follow)
            self._flush()
