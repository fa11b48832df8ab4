"""Endings of turns, and the texts that came before them, seen through one follow for each session that is waited for.

A session that nobody waits for any more is followed for a moment longer, since the next prompt may come at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from understudy.protocol.client_machine import Arrived, ClientMachine, cost
from understudy.protocol.errors import UnderstudyError
from understudy.protocol.frames import Accepted, Entry, FrameError, unpack
from understudy.protocol.items import Ending

IDLE_S = 2.0
IDLE_MAX = 512
KEPT_MAX = 1_000  # Endings that came while nobody waited for them. For any other the log is asked again.
KEPT_BYTES_MAX = 4 << 10  # A larger ending is not kept.


@dataclass(eq=False, slots=True)
class Waiter:
    """One who waits for an ending. `texts`: gathers what the agent says in the turn. Turn 0: not accepted yet."""

    session: str
    future: asyncio.Future[Ending]
    texts: list[str] | None = None
    turn: int = 0


@dataclass(slots=True)
class _Watch:
    """A session's endings. Those of turns below `since` have gone by, and the log is to be asked again.

    `missed`: the newest turn of which something was said that nobody gathered.
    """

    session: str
    follow: int
    since: int
    missed: int = 0
    waiting: dict[int, list[Waiter]] = field(default_factory=dict[int, list[Waiter]])


class Endings:
    """All endings that one client waits for."""

    def __init__(self, machine: ClientMachine, flush: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._machine, self._flush = machine, flush
        self._watches: dict[str, _Watch] = {}
        self._followed: dict[int, _Watch] = {}
        self._expected: dict[str, Waiter] = {}
        self._idle: dict[str, float] = {}  # By session: since when nobody waits for anything in it, the longest first.
        self._kept: dict[tuple[str, int], Ending] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def of(self, session: str, turn: int) -> Ending:
        """Return how a turn ended, when it has. Raises `UnderstudyError`."""
        kept = self._kept.get((session, turn))
        if kept is not None:
            return kept
        waiter = Waiter(session, self._loop.create_future())
        self._attend(waiter, turn)
        try:
            return await waiter.future
        finally:
            self.leave(waiter)

    def expect(self, request: str, session: str) -> Waiter:
        """Wait for the ending of the turn that `request` will be accepted as, and gather its text; then `leave`."""
        waiter = self._expected[request] = Waiter(session, self._loop.create_future(), [])
        return waiter

    def accepted(self, frame: Accepted) -> None:
        """A prompt is accepted: whoever expects its ending waits for it from now on."""
        waiter = self._expected.pop(frame.request, None)
        if waiter is not None:
            self._attend(waiter, frame.turn)

    def leave(self, waiter: Waiter, request: str = "") -> None:
        """This one waits no more."""
        self._expected.pop(request, None)
        future = waiter.future
        if future.done() and not future.cancelled():
            future.exception()  # Asked for, so that asyncio does not warn of one that nobody saw.
            return
        watch = self._watches.get(waiter.session)
        waiters = watch.waiting.get(waiter.turn) if watch is not None else None
        if watch is not None and waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del watch.waiting[waiter.turn]
                self._rest(watch)

    def arrived(self, happening: Arrived) -> None:
        """Take what came for a follow."""
        watch = self._followed.get(happening.follow)
        if watch is None:
            return
        for entry in happening.entries:
            if entry.kind == "ended":
                self._ended(watch, entry)
            elif entry.kind == "update":
                _gather(watch, entry)
        self._machine.consumed(happening.follow, sum(map(cost, happening.entries)))

    def ended(self, follow: int, error: UnderstudyError) -> None:
        """Nothing more will come for a follow: whoever waits is told."""
        watch = self._followed.get(follow)
        if watch is None:
            return
        self._forget(watch)
        for waiter in [waiter for waiters in watch.waiting.values() for waiter in waiters]:
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def renumbered(self) -> None:
        """Numbers mean something else from now on."""
        self._kept.clear()

    def end(self, error: UnderstudyError) -> None:
        """End all."""
        if self._timer is not None:
            self._timer.cancel()
        for follow in list(self._followed):
            self.ended(follow, error)
            self._machine.unfollow(follow)

    def _attend(self, waiter: Waiter, turn: int) -> None:
        waiter.turn = turn
        watch = self._watches.get(waiter.session)
        if watch is None:
            watch = _Watch(waiter.session, 0, turn)
            self._watches[waiter.session] = watch
            self._follow(watch)
        else:
            self._idle.pop(waiter.session, None)
            if turn < watch.since or (waiter.texts is not None and turn <= watch.missed):
                self._look_again(watch, turn)
        watch.waiting.setdefault(turn, []).append(waiter)

    def _follow(self, watch: _Watch) -> None:
        watch.follow = self._machine.follow(watch.session, watch.since)
        self._followed[watch.follow] = watch
        self._flush()

    def _look_again(self, watch: _Watch, turn: int) -> None:
        """Follow from an older turn: whoever gathers a text here gathers it anew."""
        self._machine.unfollow(watch.follow)
        del self._followed[watch.follow]
        gathering = [each for waiters in watch.waiting.values() for each in waiters if each.texts is not None]
        watch.since, watch.missed = min([turn, *(each.turn for each in gathering)]), 0
        for each in gathering:
            each.texts = []
        self._follow(watch)

    def _ended(self, watch: _Watch, entry: Entry) -> None:
        turn = entry.turn
        watch.since = max(watch.since, turn + 1)
        waiters = watch.waiting.pop(turn, None)
        if waiters is None:
            if len(entry.body) <= KEPT_BYTES_MAX:
                self._kept[watch.session, turn] = _ending(entry)
                if len(self._kept) > KEPT_MAX:
                    del self._kept[next(iter(self._kept))]
            return
        ending = _ending(entry)
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_result(ending)
        self._rest(watch)

    def _rest(self, watch: _Watch) -> None:
        """Unless somebody waits, let go of the session soon, and of another one now when there are too many."""
        if watch.waiting:
            return
        self._idle[watch.session] = self._loop.time()
        if len(self._idle) > IDLE_MAX:
            self._let_go(next(iter(self._idle)))
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        until = self._loop.time() - IDLE_S
        for session in [session for session, since in self._idle.items() if since <= until]:
            self._let_go(session)
        if self._idle:
            self._timer = self._loop.call_at(next(iter(self._idle.values())) + IDLE_S, self._sweep)
        self._flush()

    def _let_go(self, session: str) -> None:
        watch = self._watches[session]
        self._forget(watch)
        self._machine.unfollow(watch.follow)

    def _forget(self, watch: _Watch) -> None:
        del self._watches[watch.session]
        del self._followed[watch.follow]
        self._idle.pop(watch.session, None)


def _ending(entry: Entry) -> Ending:
    body = _unpacked(entry)
    if not isinstance(body, dict):
        return Ending("", {})
    return Ending(str(body.pop("reason", "")), body)


def _gather(watch: _Watch, entry: Entry) -> None:
    """Give the text of an update to whoever gathers it."""
    gathering = [each.texts for each in watch.waiting.get(entry.turn, ()) if each.texts is not None]
    if not gathering:
        watch.missed = max(watch.missed, entry.turn)
        return
    updates = _unpacked(entry)
    for update in updates if isinstance(updates, list) else ():
        if isinstance(update, dict) and update.get("sessionUpdate") == "agent_message_chunk":
            content = update.get("content")
            if isinstance(content, dict):
                for texts in gathering:
                    texts.append(str(content.get("text", "")))


def _unpacked(entry: Entry) -> Any:
    try:
        return unpack(entry.body)
    except FrameError:
        return None
