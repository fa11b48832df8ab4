"""Signals that wake the keeper's loop. They interrupt nothing: a handler only takes note."""

import contextlib
import signal
import socket
from collections.abc import Callable
from types import FrameType

READ_BYTES = 4096


class Wakeup:
    """Readable (`fileno`) once one of the signals that a keeper hears has come."""

    def __init__(self, on_signal: Callable[[int, FrameType | None], None]) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, on_signal)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._reader.fileno()

    def empty(self) -> None:
        """Take what made it readable."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(READ_BYTES):
                pass

    def leave(self) -> None:
        """Undo all of it, in a fresh child. A terminal's Ctrl-C stays the keeper's to hear."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._reader.close()
        self._writer.close()
