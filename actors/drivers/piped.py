"""A program that is spoken to over its stdin and stdout: its pipes, and its end."""

import asyncio
import collections
import contextlib
import functools
import os
import signal
import subprocess
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from understudy.actors.actor import Role
from understudy.actors.contained import words
from understudy.actors.drivers.launch import LAST_OUTPUT_S, Launched, how_it_ended, launch_role, limit_it_met
from understudy.actors.limits import exit_code
from understudy.protocol.owners import open_ours
from understudy.protocol.stderr import write_line

READ_BYTES = 1 << 18
UNREAD_BYTES_MAX = 32 << 20  # A program that leaves so much unread is not listened to until it reads.
STDERR_BYTES_MAX = 10 << 20
STDERR_LINES_KEPT = 20
LOOK_S = 0.05
TERMINATE_SHARE = 0.9  # Of the grace: by then an agent that heeds the end of its stdin has ended.
END_S = 0.2  # From the end of its output to its own end, or to the end of its stderr.


class Piped:
    """Runs one program. `hear` gets what it says, and is waited for; `on_end` is called once it is gone, or its pipes
    are, or `hear` failed. Then `status` and `reason` tell how, and `unread` how many of the `written` bytes it never
    read, and nobody will.
    """

    def __init__(self, role: Role, hear: Callable[[bytes], Awaitable[None]], on_end: Callable[[], None]) -> None:
        self.written = 0
        self.unread = 0
        self.status = 1
        self.reason = ""
        self._role, self._hear, self._on_end = role, hear, on_end
        self._program: Launched | None = None
        self._out: asyncio.StreamWriter | None = None
        self._stdin = -1
        self._pipes: list[asyncio.ReadTransport] = []
        self._hears = False
        self._last_lines: collections.deque[str] = collections.deque(maxlen=STDERR_LINES_KEPT)
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The program's process."""
        return 0 if self._program is None else self._program.pid

    @property
    def runs(self) -> bool:
        """Whether the program itself is there."""
        return self._program is not None and self._program.status is None

    async def start(self) -> None:
        """Start the program. Raises `ActorError`."""
        program = self._program = launch_role(self._role, stderr=subprocess.PIPE, stdin=subprocess.PIPE)
        loop = asyncio.get_running_loop()
        stdout, stderr = asyncio.StreamReader(limit=READ_BYTES), asyncio.StreamReader()
        self._stdin = os.dup(program.stdin.fileno())  # Outlives the pipe's closing, to take back what was left.
        for reader, pipe in ((stdout, program.stdout), (stderr, program.stderr)):
            transport, _ = await loop.connect_read_pipe(functools.partial(asyncio.StreamReaderProtocol, reader), pipe)
            self._pipes.append(transport)
        writing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, program.stdin)
        writing.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        self._out = asyncio.StreamWriter(writing, protocol, None, loop)
        reading, draining = loop.create_task(self._read(stdout)), loop.create_task(self._drain(stderr))
        self._watching = loop.create_task(self._watch(program, reading, draining))

    def send(self, line: bytes) -> None:
        """Write to the program, now or as soon as it reads."""
        self.written += len(line)
        if self._out is None or self._out.is_closing():
            self.unread += len(line)
        else:
            self._out.write(line)

    async def room(self) -> None:
        """Wait while the program leaves too much unread; its end is an end of that, too."""
        if self._out is not None:
            with contextlib.suppress(ConnectionError):
                await self._out.drain()

    async def stop(self, grace_s: float) -> None:
        """Close its stdin, wait, terminate, kill. One that ends at the end of its stdin may take nearly all the time."""
        if self._program is None or self._watching is None or self._out is None:
            return
        self._out.close()
        self._close_stdin()  # Else the program would not see the end.
        for share, number in ((TERMINATE_SHARE, signal.SIGTERM), (1.0 - TERMINATE_SHARE, signal.SIGKILL)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._program.exited.wait(), grace_s * share)
                break
            self._program.send(number)
        await asyncio.wait({self._watching})

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        while piece := await stdout.read(READ_BYTES):
            self._hears = True
            await self._hear(piece)
            self._hears = False
            await self.room()

    async def _drain(self, stderr: asyncio.StreamReader) -> None:
        """Read stderr always; write it to the agent's log, which is bounded; drop it when that fails."""
        path = Path(self._role.log)
        while piece := await stderr.read(READ_BYTES):
            self._last_lines.extend(piece.decode(errors="replace").splitlines()[-STDERR_LINES_KEPT:])
            with contextlib.suppress(OSError):
                if path.exists() and path.stat().st_size > STDERR_BYTES_MAX:
                    path.replace(path.with_suffix(".log.1"))
                with open(path, "ab", opener=open_ours) as log:
                    log.write(piece)

    async def _watch(self, program: Launched, reading: "asyncio.Task[None]", draining: "asyncio.Task[None]") -> None:
        exited = asyncio.ensure_future(program.exited.wait())
        try:
            await self._see_end(program, reading, draining, exited)
        finally:  # Whatever happened: nobody would ever end what waits for this program.
            self._on_end()

    async def _see_end(
        self,
        program: Launched,
        reading: "asyncio.Task[None]",
        draining: "asyncio.Task[None]",
        exited: "asyncio.Future[Any]",
    ) -> None:
        watched: set[asyncio.Future[Any]] = {reading, draining, exited}
        while not (reading.done() or exited.done() or _error(draining)):
            _, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            await self._hear_out(reading)
        elif not (_error(reading) or _error(draining)):
            await asyncio.wait({exited}, timeout=END_S)
        await asyncio.wait({draining}, timeout=END_S)
        error = _error(reading) or _error(draining)
        for task in (reading, draining, exited):
            task.cancel()
        for pipe in self._pipes:
            pipe.close()
        self.status = exit_code(program.status)
        self.reason = self._reason(program.status, error)
        self.unread += self._taken_back()

    async def _hear_out(self, reading: "asyncio.Task[None]") -> None:
        """Hear what it said before its end. Time in which nobody takes what we pass on does not count."""
        left_s = LAST_OUTPUT_S
        while left_s > 0 and not reading.done():
            await asyncio.wait({reading}, timeout=LOOK_S)
            left_s -= 0 if self._hears else LOOK_S

    def _reason(self, status: int | None, error: BaseException | None) -> str:
        if error is not None:
            for line in traceback.format_exception(error):
                write_line(line.rstrip())
            return f"the driver failed at what the program {self._role.command[0]} said: {words(error)}"
        last_words = "\n".join(self._last_lines)
        limit = limit_it_met(self._role, status, last_words)
        told = limit or (f"; its last words:\n{last_words}" if last_words else "")
        return how_it_ended(self._role, status) + told

    def _taken_back(self) -> int:
        """Take what was said to the program and lies unread, so that nobody reads it any more; return its bytes.

        What the program started may live and hold the pipe.
        """
        out = self._out
        assert out is not None
        count = out.transport.get_write_buffer_size()
        if count or not out.is_closing():
            out.transport.abort()
        with contextlib.suppress(OSError):
            descriptor = os.open(f"/proc/self/fd/{self._stdin}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as pipe:
                while piece := pipe.read(READ_BYTES):
                    count += len(piece)
        self._close_stdin()
        return int(count)

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
        self._stdin = -1


def _error(task: "asyncio.Task[None]") -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
