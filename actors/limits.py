"""Limits of an actor's program, and its death with the actor. Linux; called between fork and exec."""

import os
import resource
import signal
from collections.abc import Callable

from understudy.protocol.prctl import hear_parents_death

FILES_RESERVE = 32  # Descriptors that an actor has for its own conversation when its agent runs in it.


def limit_core() -> None:
    """Let this process and its children leave no core file when they crash: it would hold what the agent knew."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_own(memory_mb: int, files: int) -> None:
    """Bound this process, an actor whose agent runs in it."""
    limit_memory(memory_mb)
    limit_files(files + FILES_RESERVE if files else 0)


def limit_memory(memory_mb: int) -> None:
    """Bound this process's private memory (RLIMIT_DATA), which its children inherit; 0: no bound."""
    if memory_mb:
        size = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def limit_files(files: int) -> None:
    """Bound this process's descriptors (RLIMIT_NOFILE); 0: no bound."""
    if files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def program_preexec(data_limit_mb: int, files: int) -> Callable[[], None]:
    """Return what a program runs before exec: limits, SIGKILL when the actor's main thread dies."""
    actor = os.getpid()

    def preexec() -> None:
        hear_parents_death(signal.SIGKILL)
        if os.getppid() != actor:
            os._exit(1)  # The actor died before the line above: nobody would ever end us.
        limit_core()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        limit_memory(data_limit_mb)
        limit_files(files)

    return preexec


def exit_code(status: int | None) -> int:
    """Return what an actor exits with after its program: the program's code, as a shell names it (128 + signal)."""
    if status is None:
        return 1
    return status if status >= 0 else 128 - status
