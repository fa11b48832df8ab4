"""Watches what actors use: those with a limit and a turn all the time, the others now and then. Kills nobody.

The kernel takes 20 ms for each GB of a program, and Python 25 ms for a thousand actors: that is no time for which
everybody may wait. So it looks in a thread, which pauses often, and tells what it saw a little at a time.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from understudy.protocol.environments import parts_of
from understudy.supervisor.core.events import Sampled, Spawned
from understudy.supervisor.core.house import House
from understudy.supervisor.shell.memory import Totals, sample

LOOK_EVERY_S = 0.4
LOOK_AT_ALL_S = 2.0  # So often the idle ones are looked at, too; less often when that took more than its share.
LOOK_AT_ALL_S_MAX = 60.0
LOOK_AT_ALL_SHARE = 0.003  # Of a core.
SLICE_S, PAUSE_S = 0.0003, 0.0012  # It works for so long, and then leaves the interpreter to the loop.
TOLD_AT_ONCE, TELL_EVERY_S = 8, 0.002


class Watch:
    """The watch over the `living` of a house; tells the core by `push`. `house_id`: what their marks begin with."""

    def __init__(
        self,
        house: House,
        house_id: str,
        living: Mapping[tuple[str, int], Spawned],
        push: Callable[[Sampled], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._house, self._house_id, self._living, self._push = house, house_id, living, push
        self._all_due = time.monotonic() + LOOK_AT_ALL_S
        whole = bool(house.spec.memory_mb)  # Then everybody counts.
        self._limited = {each.name for each in house.spec.agents if whole or each.memory_mb or each.memory_soft_mb}
        self._told: dict[tuple[str, int], tuple[float, int]] = {}  # Of those without a limit, at the last look at all.
        self._loop.call_later(LOOK_EVERY_S, self._choose)

    def _choose(self) -> None:
        """Choose whom to look at, and begin."""
        house, now = self._house, time.monotonic()
        at_all = now >= self._all_due
        if at_all:
            self._all_due = now + LOOK_AT_ALL_S
        chosen: dict[int, Spawned] = {}
        for each in self._living.values() if at_all or self._limited else ():
            limited = self._is_limited(each.actor)
            if (limited and _plays(house, each)) or (at_all and (limited or house.clients)):
                chosen[each.pid] = each
        if chosen:
            actors = {each.pid for each in self._living.values()}
            looking = threading.Thread(target=self._look, args=(chosen, actors, at_all), daemon=True)
            try:
                looking.start()
            except RuntimeError:  # The system gives no thread now.
                chosen = {}
        if not chosen:
            self._loop.call_later(LOOK_EVERY_S, self._choose)

    def _is_limited(self, actor: str) -> bool:
        """Return whether actors of that launch have a limit: in an environment of sessions they have their agent's."""
        return parts_of(actor)[0] in self._limited

    def _look(self, chosen: dict[int, Spawned], actors: set[int], at_all: bool) -> None:
        """Look at `chosen` of all `actors`, in a thread, and have the loop told."""
        marks = {f"{self._house_id}/{each.actor}#{each.epoch}": pid for pid, each in chosen.items()}
        exact = {pid for pid, each in chosen.items() if self._is_limited(each.actor)}
        totals: Totals = dict.fromkeys(chosen, (0.0, 0))
        try:
            sample(totals, exact, marks, actors, _pauses())
        except OSError:  # No descriptor is left, say: then nothing was seen.
            totals = {}
        seen = {(chosen[pid].actor, chosen[pid].epoch): total for pid, total in totals.items()}
        news = [Sampled(*key, *total) for key, total in seen.items() if self._told.get(key) != total]
        if at_all:
            self._told = {key: total for key, total in seen.items() if not self._is_limited(key[0])}
        spent_s = time.thread_time() if at_all else 0.0
        with contextlib.suppress(RuntimeError):  # The loop is closed: the supervisor ends.
            self._loop.call_soon_threadsafe(self._tell, iter(news), spent_s)

    def _tell(self, news: Iterator[Sampled], spent_s: float) -> None:
        """Tell what was seen, and rest. `spent_s`: on all."""
        some = list(islice(news, TOLD_AT_ONCE))
        for each in some:
            self._push(each)
        if some:
            self._loop.call_later(TELL_EVERY_S, self._tell, news, spent_s)
            return
        rest_s = min(spent_s / LOOK_AT_ALL_SHARE, LOOK_AT_ALL_S_MAX)
        self._all_due = max(self._all_due, time.monotonic() + rest_s)
        self._loop.call_later(LOOK_EVERY_S, self._choose)


def _plays(house: House, process: Spawned) -> bool:
    """Return whether the process has turns."""
    launch = house.launches.get(process.actor)
    actor = launch.known.get(process.epoch) if launch is not None else None
    return actor is not None and bool(actor.playing)


def _pauses() -> Iterator[None]:
    """Pause, each time it is asked, if a slice is over."""
    while True:
        began = time.perf_counter()
        while time.perf_counter() - began < SLICE_S:
            yield
        time.sleep(PAUSE_S)
