"""Bytes and whose they are: what is under way to each peer and not certainly taken, and which bodies are kept. Pure.

libzmq does not tell what a peer has taken. So a `Ping` goes behind every so many bytes, and its `Pong` says that
all before it was taken: peers answer in order. What is large waits while too much is under way to its peer, or to all.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec

from understudy.protocol.frames import Entries, ToActor, ToClient
from understudy.protocol.sizes import TEXT_CHARACTERS_MAX

FRAME_BYTES = 128  # What a frame costs besides its body.
TEXT_BYTES = 64  # What a text costs besides its characters.
SHORT = 112  # Characters, whatever they are: one text of so many is usual.
TEXTS_BYTES_USUAL = 512  # So much of the texts that one session or turn is kept with counts for nobody.
TAKEN_S_MAX = 10.0  # A peer that takes nothing for so long is given up, when others wait for room.


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds, in bytes.

    What is large goes to a peer while less than `window_bytes` are under way to it; or up to `share_bytes`, once
    `under_way_bytes_max` are under way to all. A ping goes behind every `ping_every_bytes`. A body larger than
    `kept_body_bytes_max`, or any, once `kept_bytes_max` are kept, is read from the log when it is wanted. Sessions and
    turns with long texts (a folder's path, the methods that a client serves) are refused at `texts_bytes_max` of these.
    """

    window_bytes: int = 2 << 20
    share_bytes: int = 64 << 10
    under_way_bytes_max: int = 24 << 20
    ping_every_bytes: int = 256 << 10
    kept_body_bytes_max: int = 64 << 10
    kept_bytes_max: int = 16 << 20
    texts_bytes_max: int = 32 << 20


class Body(msgspec.Struct, frozen=True, gc=False):
    """Something that lies in the log: its size, and itself when it is kept."""

    size: int = 0
    kept: bytes | None = b""


NONE = Body()


@dataclass(frozen=True, slots=True)
class Sent:
    """A ping that goes out once `ticket` is committed, the `serial`th to its peer, at `at`, with `size` bytes before it."""

    serial: int
    ticket: int
    size: int
    at: float


@dataclass(slots=True)
class Window:
    """What is under way to one peer: in all, and behind the last ping; and the pings without an answer, as they go out."""

    under_way: int = 0
    behind: int = 0
    serial: int = 0
    pings: deque[Sent] = field(default_factory=deque[Sent])


@dataclass(slots=True)
class Budget:
    """The house's accounts. `under_way` is the sum of the windows; `kept`: of the bodies that are kept; `texts`: as `long`
    counts them.
    """

    limits: Limits = field(default_factory=Limits)
    windows: dict[bytes, Window] = field(default_factory=dict[bytes, Window])
    under_way: int = 0
    kept: int = 0
    texts: int = 0
    freed: bool = False  # There is room again for those who waited because of others.

    @property
    def crowded(self) -> bool:
        """Whether as much is under way as may be."""
        return self.under_way >= self.limits.under_way_bytes_max

    @property
    def roomy(self) -> bool:
        """Whether there is room for a good while, also when others take some of it at once."""
        return self.under_way < self.limits.under_way_bytes_max // 2

    def open(self, peer: bytes) -> None:
        """Somebody said hello: from here on what is said to that connection is counted. What is under way stays so."""
        if peer not in self.windows:
            self.windows[peer] = Window()

    def close(self, peer: bytes) -> None:
        """The connection is gone, and with it what was under way."""
        window = self.windows.pop(peer, None)
        if window is not None:
            self._taken(window.under_way)

    def room(self, peer: bytes | None, size: int = 0) -> bool:
        """Return whether something large may go to the peer; `size` of it when that is known."""
        window = self.windows.get(peer) if peer is not None else None
        if window is None:
            return peer is None  # Nobody is there yet; or it was given up, and what waits goes on with its next hello.
        limits = self.limits
        if self.under_way >= limits.under_way_bytes_max:
            return window.under_way + size <= limits.share_bytes
        return window.under_way < limits.window_bytes

    def said(self, peer: bytes, size: int) -> bool:
        """Count `size` bytes for the peer; return whether a ping is due behind them."""
        window = self.windows.get(peer)
        if window is None:
            return False
        window.under_way += size
        window.behind = behind = window.behind + size
        self.under_way += size
        limits = self.limits
        if self.under_way < limits.under_way_bytes_max:
            return behind >= limits.ping_every_bytes
        return behind >= limits.share_bytes // 2

    def spend(self, peer: bytes, size: int) -> bool:
        """Count something large for the peer when there is `room` for it; return whether there was."""
        window = self.windows.get(peer)
        if window is None:
            return False
        limits = self.limits
        if self.under_way >= limits.under_way_bytes_max:
            if window.under_way + size > limits.share_bytes:
                return False
        elif window.under_way >= limits.window_bytes:
            return False
        window.under_way += size
        window.behind += size
        self.under_way += size
        return True

    def unasked(self, peer: bytes) -> bool:
        """Return whether something is under way to the peer, and no ping behind it."""
        window = self.windows.get(peer)
        return window is not None and window.behind > 0 and not window.pings

    def pinged(self, peer: bytes, after: int, committed: int, now: float) -> None:
        """Note a ping that goes out once `after` is committed: behind those that go out now, before later ones."""
        window = self.windows.get(peer)
        if window is None:
            return
        window.serial += 1
        at = len(window.pings)
        if after <= committed:
            while at and window.pings[at - 1].ticket > committed:
                at -= 1
        size, window.behind = (window.behind, 0) if at == len(window.pings) else (0, window.behind)
        window.pings.insert(at, Sent(window.serial, max(after, committed), size, now))

    def ponged(self, peer: bytes) -> Sent | None:
        """The peer has taken all before its oldest ping; return that, None when it answers what nobody asked."""
        window = self.windows.get(peer)
        if window is None or not window.pings:
            return None
        ping = window.pings.popleft()
        window.under_way -= ping.size
        self._taken(ping.size)
        return ping

    def still(self, now: float) -> Iterator[bytes]:
        """Yield the peers that have had more than their share for too long, the one with most of it first."""
        found = [
            (window.under_way, peer)
            for peer, window in self.windows.items()
            if window.under_way > self.limits.share_bytes and window.pings and now - window.pings[0].at > TAKEN_S_MAX
        ]
        for _, peer in sorted(found, reverse=True):
            yield peer

    def _taken(self, size: int) -> None:
        was_crowded = self.crowded
        self.under_way -= size
        self.freed |= was_crowded and not self.crowded

    # --- bodies ---

    def keep(self, content: bytes, size: int = 0) -> Body:
        """Return a body, with its `content` when there is room for that. `size`: when the log has not given it back."""
        size = max(size, len(content))
        if not size:
            return NONE
        if (
            len(content) < size
            or size > self.limits.kept_body_bytes_max
            or self.kept + size > self.limits.kept_bytes_max
        ):
            return Body(size, None)
        self.kept += size
        return Body(size, content)

    def let_go(self, body: Body) -> None:
        """Nobody wants the body any more."""
        self.kept -= len(body.kept or b"")

    def texts_full(self, size: int) -> str:
        """Say that there is no room for `size` bytes of long texts, "" when there is."""
        if not size or self.texts + size <= self.limits.texts_bytes_max:
            return ""
        return f"{self.texts} bytes of long folders' names and methods are kept; the limit is {self.limits.texts_bytes_max}"


def long(texts: Sequence[str]) -> int:
    """Return about how many bytes of memory texts take beyond what is usual."""
    if not texts or (len(texts) == 1 and len(texts[0]) <= SHORT):
        return 0
    size = sum(TEXT_BYTES + len(text) * (1 if text.isascii() else 4) for text in texts)
    return max(0, size - TEXTS_BYTES_USUAL)


def _long_fields(kind: Any) -> tuple[str, ...]:
    """Return the fields of a frame that can hold much, by the bounds in their types: bodies, and texts for people."""
    bounds = {
        field.name: getattr(meta, "max_length", None) or 0
        for field in msgspec.structs.fields(kind)
        for meta in getattr(field.type, "__metadata__", ())
        if field.type.__origin__ in (bytes, str)
    }
    return tuple(name for name, most in bounds.items() if most >= TEXT_CHARACTERS_MAX)


_LONG = {kind: _long_fields(kind) for kind in (*get_args(ToClient), *get_args(ToActor))}


def weight(frame: ToClient | ToActor) -> int:
    """Return about how many bytes a frame costs; entries are counted as their follower takes them."""
    if type(frame) is Entries:
        return 0
    size = FRAME_BYTES
    for name in _LONG[type(frame)]:
        size += len(getattr(frame, name))
    return size
