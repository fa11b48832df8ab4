"""How much may be said to a house that it has not acted on yet. Pure.

A ROUTER cannot leave one peer alone, so whoever has much to say waits by itself. Behind every so many bytes goes a `Ping`;
a house answers frames in order, so the `Pong` says that it has acted on all before it.
"""

from collections import deque

from understudy.protocol.frames import Frame, Pong

UNDER_WAY_BYTES_MAX = 1 << 19
PING_EVERY_BYTES = 128 << 10


class Window:
    """What is under way on one connection, in bytes."""

    def __init__(self) -> None:
        self._under_way = self._behind = 0
        # For each ping that is unanswered: how many bytes were said before it. 0: somebody else sent it.
        self._pings: deque[int] = deque()

    @property
    def open(self) -> bool:
        """Whether more may be said."""
        return self._under_way < UNDER_WAY_BYTES_MAX

    def said(self, message: bytes, pings: int) -> bool:
        """A message goes out, which has so many pings; return whether a ping of the window's goes behind it."""
        self._pings.extend([0] * pings)
        self._under_way += len(message)
        self._behind += len(message)
        if self._behind < PING_EVERY_BYTES:
            return False
        self._pings.append(self._behind)
        self._behind = 0
        return True

    def without_its_pongs(self, frames: list[Frame]) -> list[Frame]:
        """Take the answers to the window's pings; return the other frames."""
        others: list[Frame] = []
        for frame in frames:
            if type(frame) is Pong and self._pings:
                size = self._pings.popleft()
                self._under_way -= size
                if size:
                    continue
            others.append(frame)
        return others
