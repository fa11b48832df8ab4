"""Any long-running program, kept like an agent but without sessions. It never looks into what the program says.

Ready when the program has lived `start_s` seconds. Its stdout and stderr go to a log of bounded size.
"""

import asyncio
import codecs
import contextlib
import logging
import os
import subprocess
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

from understudy.actors.actor import Actor, ActorError, Role, Voice, cannot_start
from understudy.actors.limits import exit_code, program_preexec
from understudy.protocol.owners import open_ours

READ_BYTES = 1 << 16
LOG_BYTES_MAX = 10 << 20
OLD_LOGS_MAX = 2
LAST_OUTPUT_S = 0.2


class Program(Actor):
    """Runs one program until it ends or is stopped."""

    def __init__(self, role: Role, voice: Voice) -> None:
        super().__init__(role, voice)
        self._process: subprocess.Popen[bytes] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._exited = asyncio.Event()

    async def start(self) -> None:
        """Start the program; return when it has lived `start_s`."""
        role, start_s = self.role, float(self.role.options["start_s"])
        try:
            # Popen in this, the main thread: the program's death signal follows the thread that made it.
            self._process = process = subprocess.Popen(
                role.command,
                cwd=role.cwd or None,
                env={**os.environ, **role.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=program_preexec(role.memory_mb, role.files),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise cannot_start(role, error) from error
        self.program_pid = process.pid
        loop = asyncio.get_running_loop()
        output = asyncio.StreamReader()
        assert process.stdout is not None
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), process.stdout)
        self._draining = loop.create_task(self._drain(output))
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, self._see_exit, descriptor)
        self._watching = loop.create_task(self._watch(process))
        with contextlib.suppress(TimeoutError):
            if start_s:
                await asyncio.wait_for(self.ended.wait(), start_s)
                raise ActorError(f"{self.end_reason} before it had lived {start_s:g} s (start_s)")

    async def stop(self, grace_s: float) -> None:
        """Terminate it, wait, kill."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._exited.wait(), grace_s)
        except TimeoutError:
            self._process.kill()
            await self._exited.wait()

    def _see_exit(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._exited.set()

    async def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        await self._exited.wait()
        status = process.wait()
        assert self._draining is not None
        await asyncio.wait({self._draining}, timeout=LAST_OUTPUT_S)
        self.end_status = exit_code(status)
        how = f"exited with status {status}" if status >= 0 else f"was killed by signal {-status}"
        self.end_reason = f"the program {self.role.command[0]} {how}"
        self.ended.set()

    async def _drain(self, output: asyncio.StreamReader) -> None:
        """Read always, also when the disk is full: what cannot be written is dropped."""
        logging.raiseExceptions = False
        log = _Log(self.role.log, maxBytes=LOG_BYTES_MAX, backupCount=OLD_LOGS_MAX, encoding="utf-8", delay=True)
        log.terminator = ""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while piece := await output.read(READ_BYTES):
            log.handle(logging.LogRecord("", logging.INFO, "", 0, decoder.decode(piece), None, None))
        log.close()


class _Log(RotatingFileHandler):
    """Kept from other users, whatever the umask is: that one is the program's."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=open_ours)
