"""Forked children of the keeper: made, and asked for how they ended. Each costs the keeper no descriptor.

Not `multiprocessing`'s: that keeps two pipes for each child, reaps children whom somebody else waits for, and joins all of
them when the program ends, whatever it ends of.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from understudy.protocol.stderr import write_line


@dataclass(slots=True)
class Process:
    """A child of this process, forked by this program or by the one that it was before a reload."""

    pid: int
    _status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status (minus the signal) once it has ended, None while it lives. Reaps it."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def fork(target: Callable[[], NoReturn]) -> Process | str:
    """Fork a child that runs `target`, which leaves by `sys.exit`; return the reason when that fails."""
    return fork_each([target])[0]


def fork_each(targets: Sequence[Callable[[], NoReturn]]) -> list[Process | str]:
    """As `fork`, a child for each of `targets`.

    Nothing is done in between: after each fork the first write to each page copies it, and the child keeps the old one.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # Or what waits in them would be written twice.
        sys.stdout.flush()
        sys.stderr.flush()
    forked: list[int | str] = []
    for target in targets:
        try:
            pid = os.fork()
        except OSError as error:
            forked.append(str(error))
            continue
        if not pid:
            _be(target)
        forked.append(pid)
    return [each if isinstance(each, str) else Process(each) for each in forked]


def _be(target: Callable[[], NoReturn]) -> NoReturn:
    """Be that child."""
    status = 1
    try:
        _leave_stdin()
        target()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 (nothing of the parent's may go on here)
        for line in traceback.format_exc().splitlines():
            write_line(line)
    finally:
        _end(status)


def _leave_stdin() -> None:
    """The parent's is a terminal, or somebody else's pipe."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def _end(status: int) -> NoReturn:
    """End this child as a program ends, but for what the parent registered for its own end."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 (an agent's threads come to their ends)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def close_others(kept: list[int]) -> None:
    """Close all descriptors but the standard ones and those that are `kept`: a fresh child has whatever its parent had."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)  # The listing's own is closed by now: that is no error here.
