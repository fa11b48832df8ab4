"""Whose turn it is: who takes how much of the loop's time, and who lets others go first. Pure.

Those that take much share a part of the time, all of them together, while one that takes little is active; the others,
and whoever is alone, have all of it. Much is less for who always has more to say: it would take whatever it got.
"""

from collections import OrderedDict
from collections.abc import Hashable

MUCH = 0.4  # Of the loop's time: who takes more of it for a while takes much;
MUCH_WITH_MORE_TO_SAY = 0.02  # so does who takes more than this while more of it waits.
LITTLE = 0.1  # Who took much takes little again when it has taken less than this for a while.
SHARE = 0.25  # Of the loop's time, of all who take much: beside it an ask goes through about as if they were not there.
BURST_S = 0.004  # A while: so long all of the time.
BURST_AT_FIRST_S = 0.0005  # Of who is new: a thousand of them are no way to a thousand bursts.
ACTIVE_S = 0.005  # Who said something so lately is likely to say more.
DEBT_S_MAX = 0.05  # Who took much for ever so long takes little after a rest of half a second.
DEBT_OF_ALL_S_MAX = 0.25  # Nobody waits for more than a second because one thing took very long.
OWNERS_MAX = 4096  # Of so many the use is known: those that were heard last.
OTHERS_MAX = 64  # So many of those who were heard last are looked at.


class Shares:
    """Of each owner of connections, and of all together that take much, what they took beyond their part, in seconds."""

    def __init__(self) -> None:
        # What, when, and which part is its; who was heard last is last.
        self._debts: OrderedDict[Hashable, tuple[float, float, float]] = OrderedDict()
        self._much: set[Hashable] = set()
        self._debt_of_all, self._at = 0.0, 0.0
        self._step = 0.0, 0.0  # The last one of who takes much, and when it ended.

    def spent(self, owner: Hashable, seconds: float, now: float, more: bool = False) -> None:
        """What the owner said took `seconds`; `more`: it has more to say. `now`: monotonic."""
        debt = self._debt(owner, now) + seconds
        if debt > BURST_S:
            self._much.add(owner)
        part = MUCH_WITH_MORE_TO_SAY if more else LITTLE if owner in self._much else MUCH
        self._debts[owner] = (min(debt, DEBT_S_MAX), now, part)
        self._debts.move_to_end(owner)
        if owner in self._much:
            self._step = seconds, now
        if owner in self._much and self.is_another_active(owner, now):
            self._debt_of_all = min(self._owed(now) + seconds, DEBT_OF_ALL_S_MAX)
            self._at = now
        if len(self._debts) > OWNERS_MAX:
            self._much.discard(self._debts.popitem(last=False)[0])

    def takes_much(self, owner: Hashable, now: float) -> bool:
        """Return whether the owner takes much."""
        if owner in self._much and not self._debt(owner, now):
            self._much.discard(owner)
        return owner in self._much

    def wait_s(self, owner: Hashable, now: float) -> float:
        """Return how long the owner lets others go first, 0.0 when it need not; to be asked again after `ACTIVE_S`."""
        if owner not in self._much or not self.takes_much(owner, now):
            return 0.0
        owed = self._owed(now)
        if not owed or not self.is_another_active(owner, now):
            return 0.0
        return min(owed / SHARE, ACTIVE_S)

    def is_another_active(self, owner: Hashable, now: float, within_s: float | None = None) -> bool:
        """Return whether somebody else was heard of late (`ACTIVE_S`, else `within_s`), who does not take much."""
        step, ended = self._step  # Nobody could be heard in it.
        since = now - (ACTIVE_S if within_s is None else within_s) - (step if now - ended < ACTIVE_S else 0.0)
        for looked, (other, (_, at, _)) in enumerate(reversed(self._debts.items())):
            if at < since or looked == OTHERS_MAX:
                return False
            if other != owner and other not in self._much:
                return True
        return False

    def _debt(self, owner: Hashable, now: float) -> float:
        debt, at, part = self._debts.get(owner, (BURST_S - BURST_AT_FIRST_S, now, MUCH))
        return max(0.0, debt - (now - at) * part)

    def _owed(self, now: float) -> float:
        return max(0.0, self._debt_of_all - (now - self._at) * SHARE)
