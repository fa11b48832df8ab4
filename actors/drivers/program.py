"""Any long-running program, kept like an agent but without sessions. What it says is its own, and goes to a log.

Ready when the program has lived `start_s` seconds. Its stdout and stderr go to a log of bounded size.
"""

import asyncio
import codecs
import contextlib
import logging
import signal
import subprocess
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

from understudy.actors.actor import Actor, ActorError, Role, Turn, Voice
from understudy.actors.drivers.launch import LAST_OUTPUT_S, Launched, how_it_ended, launch_role, limit_it_met
from understudy.actors.limits import exit_code
from understudy.protocol.owners import open_ours

READ_BYTES = 1 << 16
LOG_BYTES_MAX = 10 << 20
OLD_LOGS_MAX = 2
LAST_WORDS_CHARACTERS = 4096


class Program(Actor):
    """Runs one program until it ends or is stopped."""

    def __init__(self, role: Role, voice: Voice) -> None:
        super().__init__(role, voice)
        self._program: Launched | None = None
        self._draining: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._last_words = ""

    async def start(self) -> None:
        """Start the program; return when it has lived `start_s`."""
        start_s = float(self.role.options["start_s"])
        self._program = program = launch_role(self.role, stderr=subprocess.STDOUT)
        self.program_pid = program.pid
        loop = asyncio.get_running_loop()
        output = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), program.stdout)
        self._draining = loop.create_task(self._drain(output))
        self._watching = loop.create_task(self._watch(program, self._draining))
        with contextlib.suppress(TimeoutError):
            if start_s:
                await asyncio.wait_for(self.ended.wait(), start_s)
                raise ActorError(f"{self.end_reason} before it had lived {start_s:g} s (start_s)")

    async def play(self, turn: Turn) -> str:
        """Refuse a turn that a session of an agent has left that is a program by now. Raises `ActorError`."""
        del turn
        raise ActorError(f"{self.role.name} is a program now, which holds no sessions; nothing was run")

    async def stop(self, grace_s: float) -> None:
        """Terminate it, wait, kill."""
        if self._program is None:
            return
        self._program.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._program.exited.wait(), grace_s)
        except TimeoutError:
            self._program.send(signal.SIGKILL)
            await self._program.exited.wait()

    async def _watch(self, program: Launched, draining: "asyncio.Task[None]") -> None:
        await program.exited.wait()
        await asyncio.wait({draining}, timeout=LAST_OUTPUT_S)
        self.end_status = exit_code(program.status)
        limit = limit_it_met(self.role, program.status, self._last_words)
        self.end_reason = how_it_ended(self.role, program.status) + limit
        self.ended.set()

    async def _drain(self, output: asyncio.StreamReader) -> None:
        """Read always, also when the disk is full: what cannot be written is dropped."""
        logging.raiseExceptions = False
        log = _Log(self.role.log, maxBytes=LOG_BYTES_MAX, backupCount=OLD_LOGS_MAX, encoding="utf-8", delay=True)
        log.terminator = ""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while piece := await output.read(READ_BYTES):
            text = decoder.decode(piece)
            self._last_words = (self._last_words + text)[-LAST_WORDS_CHARACTERS:]
            log.handle(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
        log.close()


class _Log(RotatingFileHandler):
    """Kept from other users, whatever the umask is: that one is the program's."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=open_ours)
