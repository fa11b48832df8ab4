"""Signals that wake the keeper's loop. They interrupt nothing: a handler only takes note.

Only what asks for the house's end ends it. What ends most programs, and is sent in the hope of something else (a
rotated log, a new configuration), is noted and does nothing; the child of a keeper has the system's ways again.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

from understudy.protocol import signals
from understudy.protocol.stderr import say

READ_BYTES = 4096
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
NOTED = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
)
HEARD = (signal.SIGCHLD, *ENDING, *NOTED)
REMEDIES = {signal.SIGHUP: "; new code or configuration: understudy reload"}


class Wakeup:
    """Readable (`fileno`) once one of the signals that a keeper hears has come.

    `told`: how urgently the house was told to end: 0 not at all, 1 in order, 2 in a hurry, more: leave everything.
    """

    def __init__(self, on_told: Callable[[], None]) -> None:
        """`on_told` is called whenever `told` has grown."""
        self.told = 0
        self._on_told = on_told
        self._had_terminal = _has_terminal()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # Left alone under nohup.
                signals.hear(number, self._hear)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._reader.fileno()

    def empty(self) -> None:
        """Take what made it readable."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(READ_BYTES):
                pass

    def leave(self, ignored: tuple[signal.Signals, ...] = ()) -> None:
        """Undo all of it, in a fresh child, which is to be deaf to `ignored`. A terminal's Ctrl-C stays the keeper's."""
        signal.set_wakeup_fd(-1)
        for number in HEARD:
            signals.hear(number, signals.IGNORED if number in (signal.SIGINT, *ignored) else signals.DEFAULT)
        self._reader.close()
        self._writer.close()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGCHLD:
            return
        if number in ENDING or (number == signal.SIGHUP and self._had_terminal and not _has_terminal()):
            self.told = max(self.told + 1, 2 if number == signal.SIGQUIT else 1)
            self._on_told()
            return
        known = signal.Signals(number)
        remedy = REMEDIES.get(known, "")
        say(f"keeper: {known.name} does nothing here{remedy}; to end the house: understudy shutdown")


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal; one whose window was closed it has no more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
