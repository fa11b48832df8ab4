"""What libzmq holds for peers that do not read, and how it is given back. Decides nothing.

libzmq does not tell what waits in it for a peer, and a ROUTER cannot expel one. But nothing waits while the kernel takes
more for the peer, and else no more than the last messages, as many as the queue takes; and a connection whose descriptor
is shut down ends, with all that waited for it.
"""

import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import zmq

LOOK_EVERY_BYTES = 8 << 20  # So much may be passed to all peers between two looks at what they have read.
LOOK_EVERY_PEERS = 256  # And so many may come, that those who left are forgotten.
CREDENTIALS = struct.Struct("3i")  # Of a Unix socket's peer: process, user, group.
TOLD_TIMES = 4  # Small frames take up to so many times what is counted for them.
STILL_S = 1.0  # A peer that has not gone on for so long is not believed that it has taken anything.


@dataclass(slots=True)
class _Connection:
    """The connection of one peer: its descriptor, which is libzmq's, with the inode that says whether it is still that;
    and the sizes of its last messages. `since`: when it was found behind, having `passed` so many messages since;
    `fresh`: how many it had since the last look. `process`: which made the connection, 0 when the system does not tell.
    """

    process: int
    descriptor: int
    inode: int
    sizes: deque[int]
    passed: int = 0
    fresh: int = 0
    since: float | None = None


class Unread:
    """Accounts of the peers of one ROUTER, whose queues take `messages_max` messages each."""

    def __init__(self, messages_max: int) -> None:
        self._messages_max = messages_max
        self._connections: dict[bytes, _Connection] = {}
        self._passed = self._few = 0
        self.waiting_bytes = 0

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._connections

    def heard(self, peer: bytes, message: zmq.Frame) -> None:
        """A peer without an account has spoken: `message` came over its connection."""
        try:
            descriptor = int(message.get(zmq.SRCFD))
            inode = os.fstat(descriptor).st_ino
            with _copy(descriptor) as copy:
                found = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            process, *_ = CREDENTIALS.unpack(found)
        except (zmq.ZMQError, OSError):
            return  # It has left already.
        self._connections[peer] = _Connection(process, descriptor, inode, deque(maxlen=self._messages_max))

    def owner(self, peer: bytes) -> int | bytes:
        """Return what all connections of one process have in common; the peer itself when that is not known."""
        connection = self._connections.get(peer)
        return (connection and connection.process) or peer

    def passed(self, peer: bytes, size: int) -> None:
        """`size` bytes for the peer were passed to libzmq."""
        self._passed += size
        connection = self._connections.get(peer)
        if connection is not None:
            connection.sizes.append(size)
            connection.passed += 1
            connection.fresh += 1

    @property
    def due(self) -> bool:
        """Whether what was passed since the last look may be too much."""
        return self._passed >= LOOK_EVERY_BYTES or len(self._connections) >= 2 * self._few + LOOK_EVERY_PEERS

    def look(self, now: float, untaken: Callable[[bytes], int | None]) -> dict[bytes, tuple[float, int]]:
        """Return who does not read: since when it is known not to go on, and how many bytes wait, at the most.

        Their sum is `waiting_bytes`. A peer goes on when the kernel takes more for it, or when its queue took more than it
        holds. `untaken(peer)`: how many bytes it was told and has not confirmed, None when that is not known.
        """
        self._drop_those_who_left()
        kernel = select.poll()
        for connection in self._connections.values():
            kernel.register(connection.descriptor, select.POLLOUT)
        reading = {descriptor for descriptor, _ in kernel.poll(0)}
        waiting: dict[bytes, tuple[float, int]] = {}
        for peer, connection in self._connections.items():
            fresh, connection.fresh = connection.fresh, 0
            if connection.descriptor in reading or not connection.sizes:
                while len(connection.sizes) > fresh:  # Of those libzmq may have had no time to pass any on.
                    connection.sizes.popleft()
                connection.since = None
                continue
            if connection.since is None or connection.passed > self._messages_max:
                connection.passed, connection.since = 0, now
            told, size = untaken(peer), sum(connection.sizes)
            if told is not None and now - connection.since < STILL_S:
                size = min(size, TOLD_TIMES * told)
            waiting[peer] = connection.since, size
        self._passed, self._few = 0, len(self._connections)
        self.waiting_bytes = sum(size for _, size in waiting.values())
        return waiting

    def _drop_those_who_left(self) -> None:
        for peer, connection in list(self._connections.items()):
            try:
                is_there = os.fstat(connection.descriptor).st_ino == connection.inode
            except OSError:
                is_there = False
            if not is_there:
                del self._connections[peer]

    def expel(self, peer: bytes) -> None:
        """End the connection of the peer: it may come again, as another."""
        connection = self._connections.pop(peer, None)
        if connection is None:
            return
        try:
            if os.fstat(connection.descriptor).st_ino != connection.inode:
                return  # It may be no socket by now: a copy of a file, closed again, would end what locks we have on it.
            copy = _copy(connection.descriptor)
        except OSError:
            return
        with copy:
            if os.fstat(copy.fileno()).st_ino == connection.inode:
                try:
                    copy.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # It has ended itself.


def _copy(descriptor: int) -> socket.socket:
    """Return a socket that is nobody else's, of libzmq's descriptor. Raises `OSError` when that is no socket any more."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
