"""Whose turn it is: who takes how much of the loop's time, and who lets others go first. Pure.

Peers that take much share a part of the time, all of them together, while one that takes little is active; the others,
and whoever is alone, have all of it.
"""

from collections import OrderedDict
from collections.abc import Hashable

MUCH = 0.4  # Of the loop's time: who takes more of it for a while takes much,
LITTLE = 0.1  # until it has taken less than this for a while.
SHARE = 0.25  # Of the loop's time, of all of those: what is left lets an ask through about as if they were not there.
BURST_S = 0.004  # A while: so long all of the time.
BURST_AT_FIRST_S = 0.0005  # Of a new connection: a thousand of them are no way to a thousand bursts.
ACTIVE_S = 0.005  # Who said something so lately is likely to say more.
DEBT_S_MAX = 0.05  # Who took much for ever so long takes little after a rest of half a second.
DEBT_OF_ALL_S_MAX = 0.25  # Nobody waits for more than a second because one thing took very long.
PEERS_MAX = 4096  # Of so many the use is known: those that were heard last.
OTHERS_MAX = 16  # So many of those who were heard last are looked at.


class Shares:
    """Of each peer, and of all together that take much, what they took beyond their part, in seconds."""

    def __init__(self) -> None:
        self._debts: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # And when; who was heard last is last.
        self._much: set[Hashable] = set()
        self._debt_of_all, self._at = 0.0, 0.0

    def spent(self, peer: Hashable, seconds: float, now: float) -> None:
        """The peer was heard, and what it said took `seconds`; `now`: monotonic."""
        debt = self._debt(peer, now) + seconds
        if debt > BURST_S:
            self._much.add(peer)
        self._debts[peer] = (min(debt, DEBT_S_MAX), now)
        self._debts.move_to_end(peer)
        if peer in self._much and self.is_another_active(peer, now):
            self._debt_of_all = min(self._owed(now) + seconds, DEBT_OF_ALL_S_MAX)
            self._at = now
        if len(self._debts) > PEERS_MAX:
            self._much.discard(self._debts.popitem(last=False)[0])

    def wait_s(self, peer: Hashable, now: float) -> float:
        """Return how long the peer lets others go first, 0.0 when it need not; to be asked again after `ACTIVE_S`."""
        if peer not in self._much:
            return 0.0
        if not self._debt(peer, now):
            self._much.discard(peer)
            return 0.0
        owed = self._owed(now)
        if not owed or not self.is_another_active(peer, now):
            return 0.0
        return min(owed / SHARE, ACTIVE_S)

    def is_another_active(self, peer: Hashable, now: float) -> bool:
        """Return whether somebody else was heard of late, who does not take much."""
        for looked, (other, (_, at)) in enumerate(reversed(self._debts.items())):
            if now - at > ACTIVE_S or looked == OTHERS_MAX:
                return False
            if other != peer and other not in self._much:
                return True
        return False

    def _debt(self, peer: Hashable, now: float) -> float:
        debt, at = self._debts.get(peer, (BURST_S - BURST_AT_FIRST_S, now))
        return max(0.0, debt - (now - at) * (LITTLE if peer in self._much else MUCH))

    def _owed(self, now: float) -> float:
        return max(0.0, self._debt_of_all - (now - self._at) * SHARE)
