"""stdin and stdout of an edge: lines in and out, with backpressure, whatever they are (pipe, socket, terminal, file).

The real stdout is kept apart: what a library prints goes to stderr and never between two lines of the protocol.
"""

import asyncio
import contextlib
import os
import select
import stat
import sys
from collections import deque

READ_BYTES = 1 << 16
UNWRITTEN_BYTES_HIGH = 1 << 16  # Above it nothing is told that can wait.
UNWRITTEN_BYTES_MAX = (
    4 << 20
)  # Above it nothing more is asked; so much in one go, before it reads, is an editor's right.


class Input:
    """stdin, read without a thread where the system can wait for it."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Begin to read."""
        mode = os.fstat(0).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(0)):
            return  # A file: always readable, and nothing can wait for it.
        reader = self._reader = asyncio.StreamReader(limit=READ_BYTES)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def read(self) -> bytes:
        """Return what has come, b"" at the end."""
        if self._reader is None:
            return b"" if self._ended.is_set() else await asyncio.to_thread(os.read, 0, READ_BYTES)
        return await self._reader.read(READ_BYTES)

    def is_over(self) -> bool:
        """Return whether the other side has closed its end, though what it wrote before may lie unread."""
        poll = select.poll()
        poll.register(0, 0)
        return self._ended.is_set() or any(state & select.POLLHUP for _, state in poll.poll(0))

    def end(self) -> None:
        """Let `read` return the end now."""
        self._ended.set()
        if self._transport is not None:
            self._transport.close()
        if self._reader is not None:
            self._reader.feed_eof()


class Output:
    """stdout: `write` never waits; `drained` and `room` do while more than their bounds is unwritten."""

    def __init__(self) -> None:
        self._fd = os.dup(1)
        with contextlib.suppress(OSError):  # Without a stderr there is nowhere else.
            os.dup2(2, 1)
        os.set_blocking(self._fd, False)
        self._unwritten: deque[bytes] = deque()
        self._size = 0
        self._room = asyncio.Event()
        self._room.set()
        self.broken = False

    def write(self, line: bytes) -> None:
        """Write `line` now or as soon as the other side reads. Dropped when nobody will ever read it."""
        if self.broken:
            return
        self._unwritten.append(line)
        self._size += len(line)
        if len(self._unwritten) == 1:
            self._push()
            if self._unwritten:
                asyncio.get_running_loop().add_writer(self._fd, self._push)
        if self._size > UNWRITTEN_BYTES_HIGH:
            self._room.clear()

    async def drained(self) -> None:
        """Wait until the other side has read most of it. Of all that wait, one may write until there is too much again."""
        while not self._room.is_set():
            await self._room.wait()

    async def room(self, wait_s: float) -> bool:
        """Wait, when far too much is unwritten, until most of it is read; return whether it was within `wait_s`."""
        if self._size > UNWRITTEN_BYTES_MAX:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), wait_s)
        return self._size <= UNWRITTEN_BYTES_MAX

    def give_up(self) -> None:
        """Nobody will read any more."""
        self.broken = True
        self._finish()

    def close(self) -> None:
        """Give up what is unwritten; leave the descriptor as it was found."""
        self._finish()
        with contextlib.suppress(OSError):
            os.set_blocking(self._fd, True)  # It may be the user's terminal.
        os.close(self._fd)

    def _push(self) -> None:
        try:
            while self._unwritten:
                first = self._unwritten[0]
                count = os.write(self._fd, first)
                self._size -= count
                if count == len(first):
                    self._unwritten.popleft()
                else:
                    self._unwritten[0] = first[count:]
        except BlockingIOError:
            pass
        except OSError:
            self.broken = True
        if self.broken or not self._unwritten:
            self._finish()
        elif self._size <= UNWRITTEN_BYTES_HIGH:
            self._room.set()

    def _finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            asyncio.get_running_loop().remove_writer(self._fd)
        self._unwritten.clear()
        self._size = 0
        self._room.set()
