"""`understudy reload`: the keeper becomes the program that is installed now, and keeps its children. Linux.

exec keeps the pid, so all children stay children, and it stays a subreaper. What the next one must know goes
through a memory file. A keeper speaks its own version of that and the one before.
"""

import os
import signal
from dataclasses import dataclass

import msgspec

from understudy.supervisor.core.events import Spawned
from understudy.supervisor.core.specs import HouseSpec

VARIABLE = "UNDERSTUDY_INHERITED"
VERSION = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Actor(msgspec.Struct, frozen=True):
    """One actor's process. `status`: of one that is reaped and not swept yet; `swept`: its strays that were ended."""

    spawned: Spawned
    mark: str
    status: int | None = None
    swept: list[int] = []


class Inherited(msgspec.Struct, frozen=True):
    """What a keeper leaves. `descriptors`: of the premises; `house`: as it was read last."""

    version: int
    house: HouseSpec
    descriptors: list[int]
    actors: list[Actor]


@dataclass(slots=True)
class InheritedProcess:
    """A child that an earlier program of this process forked: as much of `multiprocessing.Process` as is needed."""

    pid: int
    _status: int | None = None

    @property
    def exitcode(self) -> int | None:
        """The exit status (minus the signal), None while it lives."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def close(self) -> None:
        """Nothing is held."""


def become(command: list[str], left: Inherited) -> None:
    """Execute `command` in this process, with what is `left`; return only if that cannot be done. Raises `OSError`.

    Signals that ask for the house's end are held back until `arrived`.
    """
    memory = os.memfd_create("understudy-inherited", 0)
    os.write(memory, msgspec.msgpack.encode(left))
    for descriptor in left.descriptors:
        os.set_inheritable(descriptor, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        os.execve(command[0], command, {**os.environ, VARIABLE: str(memory)})
    finally:
        os.close(memory)
        for descriptor in left.descriptors:
            os.set_inheritable(descriptor, False)
        arrived()


def arrived() -> None:
    """Hear the signals again that were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def receive() -> Inherited | None:
    """Return what the program before us left, once; None for a keeper that starts afresh. Raises `ValueError`."""
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return None
    memory = int(number)
    size = os.fstat(memory).st_size
    left = msgspec.msgpack.decode(os.pread(memory, size, 0), type=Inherited)
    os.close(memory)
    if left.version not in (VERSION, VERSION - 1):
        raise ValueError(f"what the last keeper left has version {left.version}, this one knows {VERSION}")
    for descriptor in left.descriptors:
        os.set_inheritable(descriptor, False)
    return left
