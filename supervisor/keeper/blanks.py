"""Blank actors: forked and warmed up before anybody needs them, so that a start costs neither.

A blank waits for its role on a pipe, connected to the supervisor already. When the keeper is gone the pipe ends, and the
blank with it.
"""

import pickle
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from understudy.supervisor.keeper.children import Process, fork

BLANK_AFTER_S = 0.02  # First the actor that somebody waits for, then the next blank.
BACKOFF_S = 0.25
ROLE_BYTES_MAX = 32 << 10  # What the pipe takes at once: a blank that is stopped must not hold up the keeper.


@dataclass(frozen=True, slots=True)
class Blank:
    """A process that waits for a role, and the keeper's end of its pipe."""

    process: Process
    pipe: socket.socket

    def give(self, role: object) -> bool:
        """Let it be `role`; return False when it is dead, or the role too large for the pipe."""
        given = pickle.dumps(role)
        if len(given) > ROLE_BYTES_MAX:
            return False
        try:
            self.pipe.sendall(given)
        except OSError:
            return False
        self.pipe.close()
        return True

    def dismiss(self) -> None:
        """Let it end."""
        self.pipe.close()


def fork_blank(target: Callable[[Callable[[], Any], int], NoReturn]) -> Blank | None:
    """Fork a child that runs `target(receive, descriptor)`: `receive` returns its role, or raises `EOFError`.

    It blocks until `descriptor` is readable. Return None when there can be none now: actors start without.
    """
    try:
        ours, theirs = socket.socketpair()
    except OSError:
        return None

    def receive() -> Any:
        with theirs, theirs.makefile("rb") as pipe:
            return pickle.load(pipe)

    def be() -> NoReturn:
        ours.close()
        target(receive, theirs.fileno())

    process = fork(be)
    theirs.close()
    if isinstance(process, str):
        ours.close()
        return None
    return Blank(process, ours)


class Blanks:
    """The one blank that a keeper holds, and when the next is due."""

    def __init__(self) -> None:
        self._blank: Blank | None = None
        self._due: float | None = None

    @property
    def pid(self) -> int | None:
        """The blank's process, None without one."""
        return None if self._blank is None else self._blank.process.pid

    def due_ms(self) -> float | None:
        """Return how long until one is to be forked; None when that is not due."""
        return None if self._due is None else max(0.0, 1000 * (self._due - time.monotonic()))

    def want(self, after_s: float = BLANK_AFTER_S) -> None:
        """See that there is one, in a while."""
        if self._blank is None:
            self._due = time.monotonic() + after_s

    def fork(self, target: Callable[[Callable[[], Any], int], NoReturn]) -> None:
        """Fork it, as `fork_blank` does."""
        self._due = None
        self._blank = fork_blank(target)

    def give(self, role: object) -> Process | None:
        """Let it be `role`; return None when there is none to be had. The next is forked in a while."""
        blank, self._blank = self._blank, None
        self.want()
        if blank is None:
            return None
        if blank.give(role):
            return blank.process
        blank.dismiss()
        return None

    def see_ended(self) -> None:
        """Look whether it has ended by itself."""
        if self._blank is not None and self._blank.process.poll() is not None:
            self.dismiss()
            self.want(BACKOFF_S)

    def dismiss(self) -> None:
        """Let it end. In a child of the keeper's: the blank sees the end once the keeper, too, lets go."""
        if self._blank is not None:
            self._blank.dismiss()
        self._blank = None
