"""What peers of a socket have said and nobody has acted on yet, and whose turn it is: see `Shares`. Decides only that.

Messages lie here as they came, unopened: so they cost what they have bytes.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from understudy.protocol.frames import Part
from understudy.protocol.messages import encode
from understudy.supervisor.shell.shares import Shares

BYTES_MAX = 24 << 20  # While so much waits, nothing more is read.
FLOOD_BYTES_MIN = 2 << 20  # Who uses the library has no more than half a MiB waiting on a connection.
WAITS_S = 1.0  # Who was heard so lately may have said more that is not read because there is no room.
MESSAGE_BYTES = 128  # What a message costs besides its bytes.
FRAMES_AT_ONCE = 128  # Of one message: what it has more is taken bit by bit, between what others say;
FRAMES_AT_ONCE_BESIDE_OTHERS = 16  # the bits are small while others are active.
LOOKED_AT_MAX = 64
LARGE_BYTES = 1 << 12  # Of the parts of a large frame, but the last.
_PART_HEAD = encode([Part(last=False, piece=b"")])[0][:12]


@dataclass(slots=True)
class _Owner:
    """Whoever shares the time with others: what waits of each of its peers (None: garbage), and the bytes of all."""

    messages: OrderedDict[bytes, deque[bytes | None]] = field(
        default_factory=OrderedDict[bytes, "deque[bytes | None]"]  # Who has waited the longest comes first.
    )
    size: int = 0


class Inbox:
    """What each peer said, in its order; `owner(peer)` is who shares the time of the loop with others."""

    def __init__(self, owner: Callable[[bytes], Hashable]) -> None:
        self._owner_of = owner
        self._shares = Shares()
        self._owners: OrderedDict[Hashable, _Owner] = OrderedDict()  # As the peers of each.
        self._whose: dict[bytes, Hashable] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._whose)

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return self._size >= BYTES_MAX

    # --- whose turn it is ---

    def is_before(self, peer: bytes, now: float) -> bool:
        """Return whether what the peer says now has to wait: for what it said before, or perhaps for others.

        Who takes much gets steps of its own, or others in the same step would be taken for those who take the time.
        """
        if peer in self._whose:
            return True
        owner = self._owner_of(peer)
        return self._shares.takes_much(owner, now) and self._shares.is_another_active(owner, now, WAITS_S)

    def wait_s(self, now: float) -> float:
        """Return how long nobody's turn is, of those who wait."""
        return 0.0 if self.full else min(self._shares.wait_s(owner, now) for owner in self._first())

    def next(self, now: float) -> bytes | None:
        """Return whose turn it is: of those who need not let others go first, who has waited the longest.

        When it is full, whose owner has the most waiting.
        """
        if self.full:
            return next(iter(self._largest().messages))
        free = next((owner for owner in self._first() if not self._shares.wait_s(owner, now)), None)
        return None if free is None else next(iter(self._owners[free].messages))

    def floods(self, now: float) -> list[bytes]:
        """Return who is to be given up: there is no room for all that its owner says, and others wait meanwhile.

        That is not who sends a large frame, which is worked off quickly, to a file; nor who does not take much.
        """
        if not self.full:
            return []
        largest = self._largest()
        owner = self._whose[next(iter(largest.messages))]
        if largest.size < FLOOD_BYTES_MIN or not self._shares.takes_much(owner, now):
            return []
        if not self._shares.is_another_active(owner, now, WAITS_S):
            return []
        sizes = {peer: _size(messages) for peer, messages in largest.messages.items() if not _is_large_frame(messages)}
        found, rest = [], self._size
        for peer in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if rest <= BYTES_MAX // 2:  # Not one message's room, which the next of them takes.
                break
            found.append(peer)
            rest -= sizes[peer]
        return found

    def at_once(self, peer: bytes, now: float) -> int:
        """Return how many frames of the peer may be acted on in one step."""
        others = self._shares.is_another_active(self._owner_of(peer), now)
        return FRAMES_AT_ONCE_BESIDE_OTHERS if others else FRAMES_AT_ONCE

    def spent(self, peers: Mapping[bytes, int], seconds: float, now: float) -> None:
        """Share out the `seconds` that a step took among those who were heard in it, each as much as it said."""
        if not peers:
            return
        each = seconds / sum(peers.values())
        for peer, count in peers.items():
            owner = self._owner_of(peer)
            self._shares.spent(owner, each * count, now, more=owner in self._owners)

    # --- what was said ---

    def put(self, peer: bytes, *messages: bytes | None) -> None:
        """The peer said `messages` behind all else."""
        self._said(peer, messages).extend(messages)

    def put_back(self, peer: bytes, messages: list[bytes]) -> None:
        """So much is left of the message that was taken last."""
        self._said(peer, messages).extendleft(reversed(messages))

    def take(self, peer: bytes) -> bytes | None:
        """Return the peer's next message: then others of its owner come first, and other owners before that."""
        name = self._whose[peer]
        owner = self._owners[name]
        message = owner.messages[peer].popleft()
        self._count(owner, -MESSAGE_BYTES - len(message or b""))
        owner.messages.move_to_end(peer)
        self._owners.move_to_end(name)
        if not owner.messages[peer]:
            self._forget(peer)
        return message

    def drop(self, peer: bytes) -> None:
        """Forget what the peer said."""
        if peer in self._whose:
            owner = self._owners[self._whose[peer]]
            self._count(owner, -_size(owner.messages[peer]))
            self._forget(peer)

    def _said(self, peer: bytes, messages: "tuple[bytes | None, ...] | list[bytes]") -> deque[bytes | None]:
        name = self._whose.setdefault(peer, self._owner_of(peer))
        owner = self._owners.setdefault(name, _Owner())
        self._count(owner, _size(messages))
        return owner.messages.setdefault(peer, deque())

    def _forget(self, peer: bytes) -> None:
        name = self._whose.pop(peer)
        owner = self._owners[name]
        del owner.messages[peer]
        if not owner.messages:
            del self._owners[name]

    def _first(self) -> Iterator[Hashable]:
        """Yield some of the owners: those who take much wait for the same."""
        return islice(self._owners, LOOKED_AT_MAX)

    def _largest(self) -> _Owner:
        return max(self._owners.values(), key=lambda owner: owner.size)

    def _count(self, owner: _Owner, size: int) -> None:
        owner.size += size
        self._size += size


def _size(messages: "deque[bytes | None] | tuple[bytes | None, ...] | list[bytes]") -> int:
    return sum(MESSAGE_BYTES + len(message or b"") for message in messages)


def _is_large_frame(messages: deque[bytes | None]) -> bool:
    """Return whether it is one, in parts; many small parts are none that anybody means."""
    return (messages[0] or b"").startswith(_PART_HEAD) and _size(messages) >= LARGE_BYTES * len(messages)
