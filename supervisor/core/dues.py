"""When each actor is to be looked at again. Pure.

A look that comes too early does no harm: whoever is looked at is put again. So an actor is put when it may be due earlier
than before, and never moved; what was put first for a later time is dropped when it comes up.
"""

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from understudy.supervisor.core.life import Actor

STALE_MAX = 64  # Beside one entry for each actor.


@dataclass(slots=True)
class Dues:
    """Actors by the times at which they are due, the earliest for each."""

    _heap: list[tuple[float, int, Actor]] = field(default_factory=list[tuple[float, int, Actor]])
    _earliest: dict[Actor, float] = field(default_factory=dict[Actor, float])
    _put: int = 0  # So many were: of two that are due together the one comes first that was put first.

    def put(self, actor: Actor, due: float) -> None:
        """See that the actor is looked at when it is `due`, at the latest."""
        if due >= self._earliest.get(actor, float("inf")):
            return
        self._earliest[actor] = due
        self._put += 1
        heappush(self._heap, (due, self._put, actor))
        if len(self._heap) > 2 * len(self._earliest) + STALE_MAX:
            self._heap = [each for each in self._heap if self._earliest.get(each[2]) == each[0]]
            heapify(self._heap)

    def of(self, actor: Actor) -> float:
        """Return when the actor is looked at, infinity for never."""
        return self._earliest.get(actor, float("inf"))

    def first(self) -> float:
        """Return when somebody is due, infinity for never."""
        while self._heap and self._earliest.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def take(self, now: float) -> list[Actor]:
        """Return who is due, once."""
        found = []
        while self.first() <= now:
            _, _, actor = heappop(self._heap)
            del self._earliest[actor]
            found.append(actor)
        return found
