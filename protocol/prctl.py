"""What prctl(2) settles about a process, its parent and its children. Linux.

In this folder because the keeper, the actors and an embedded house need it, and may import no other that they share.
"""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Make this process the parent of every orphan among its descendants. Raises `OSError`."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def hear_parents_death(number: signal.Signals) -> None:
    """Have the kernel send this process a signal once the thread that started it ends. Raises `OSError`.

    It may have ended before: look at `os.getppid()` afterwards.
    """
    _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
