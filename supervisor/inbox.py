"""What peers of a socket have said and nobody has acted on yet, and whose turn it is: see `Shares`. Decides only that."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from understudy.protocol.frames import Frame, Part, encode
from understudy.supervisor.core.budget import weight
from understudy.supervisor.shares import Shares

BYTES_MAX = 12 << 20  # While so much waits, nothing more is read.
MESSAGE_BYTES = 128  # What a message costs besides its bytes.
FRAMES_AT_ONCE = 128  # Of one message: what it has more is taken bit by bit, between what others say;
FRAMES_AT_ONCE_BESIDE_OTHERS = 16  # the bits are small while others are active.
LOOKED_AT_MAX = 8
_PART_HEAD = encode([Part(last=False, piece=b"")])[0][:12]


@dataclass(slots=True)
class _Said:
    """Of one peer: the frames of the message at hand, then messages that are not opened (None: garbage)."""

    frames: deque[Frame] = field(default_factory=deque[Frame])
    messages: deque[bytes | None] = field(default_factory=deque[bytes | None])
    size: int = 0


class Inbox:
    """What each peer said, in its order; `owner(peer)` is who shares the time of the loop with the others."""

    def __init__(self, owner: Callable[[bytes], Hashable]) -> None:
        self._owner = owner
        self._shares = Shares()
        self._said: OrderedDict[bytes, _Said] = OrderedDict()  # Who has waited the longest comes first.
        self._size = 0

    def __len__(self) -> int:
        return len(self._said)

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return self._size >= BYTES_MAX

    # --- whose turn it is ---

    def is_before(self, peer: bytes, now: float) -> bool:
        """Return whether what the peer says now has to wait: for what it said before, or for others."""
        return peer in self._said or self._shares.wait_s(self._owner(peer), now) > 0.0

    def wait_s(self, now: float) -> float:
        """Return how long nobody's turn is, of those who wait."""
        return 0.0 if self.full else min(self._shares.wait_s(self._owner(peer), now) for peer in self._first())

    def next(self, now: float) -> bytes | None:
        """Return whose turn it is: of those who need not let others go first, who has waited the longest.

        When it is full, who has the most waiting, whoever that is.
        """
        if self.full:
            return max(self._said, key=lambda peer: self._said[peer].size)
        return next((peer for peer in self._first() if not self._shares.wait_s(self._owner(peer), now)), None)

    def is_flood(self, peer: bytes, now: float) -> bool:
        """Return whether there is no room for all that the peer says, and others would wait for it to be worked off.

        That of a large frame is, quickly: it goes to a file.
        """
        if not self.full or not self._shares.is_another_active(self._owner(peer), now):
            return False
        said = self._said[peer]
        first = said.messages[0] if said.messages and not said.frames else None
        return first is None or not first.startswith(_PART_HEAD)

    def at_once(self, peer: bytes, now: float) -> int:
        """Return how many frames of the peer may be acted on in one step."""
        others = self._shares.is_another_active(self._owner(peer), now)
        return FRAMES_AT_ONCE_BESIDE_OTHERS if others else FRAMES_AT_ONCE

    def spent(self, peers: Mapping[bytes, int], seconds: float, now: float) -> None:
        """Share out the `seconds` that a step took among those who were heard in it, each as much as it said."""
        if not peers:
            return
        each = seconds / sum(peers.values())
        for peer, count in peers.items():
            self._shares.spent(self._owner(peer), each * count, now)

    # --- what was said ---

    def put(self, peer: bytes, message: bytes | None) -> None:
        """The peer said `message` behind all else."""
        said = self._said.setdefault(peer, _Said())
        said.messages.append(message)
        self._count(said, MESSAGE_BYTES + len(message or b""))

    def put_frames(self, peer: bytes, frames: list[Frame]) -> None:
        """Of the message that was taken last, so much is left."""
        said = self._said.setdefault(peer, _Said())
        said.frames.extend(frames)
        self._count(said, sum(map(weight, frames)))

    def take_frames(self, peer: bytes, frames_max: int, bytes_max: int) -> list[Frame]:
        """Return the next frames of the message at hand, none when none is left: up to `bytes_max`, but one at least."""
        said = self._said[peer]
        frames, size = list[Frame](), 0
        while said.frames and len(frames) < frames_max and size < bytes_max:
            frames.append(said.frames.popleft())
            size += weight(frames[-1])
        self._taken(peer, said, size)
        return frames

    def take_message(self, peer: bytes) -> bytes | None:
        """Return the next message; no frames are left of the one before."""
        said = self._said[peer]
        message = said.messages.popleft()
        self._taken(peer, said, MESSAGE_BYTES + len(message or b""))
        return message

    def drop(self, peer: bytes) -> None:
        """Forget what the peer said."""
        said = self._said.pop(peer, None)
        if said is not None:
            self._size -= said.size

    def _first(self) -> Iterator[bytes]:
        """Yield some of those who wait: all of those who take much wait for the same."""
        return islice(self._said, LOOKED_AT_MAX)

    def _count(self, said: _Said, size: int) -> None:
        said.size += size
        self._size += size

    def _taken(self, peer: bytes, said: _Said, size: int) -> None:
        self._count(said, -size)
        if said.frames or said.messages:
            self._said.move_to_end(peer)
        else:
            del self._said[peer]
