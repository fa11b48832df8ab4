"""`understudy reload`: the keeper becomes the program that is installed now, and keeps its children. Linux.

exec keeps the pid, so all children stay children, and it stays a subreaper. What the next one must know goes
through a memory file. A keeper speaks its own version of that and the one before.
"""

import os
import signal

import msgspec

from understudy.supervisor.core.events import Exited, Spawned
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.keeper.wakeup import ENDING, NOTED

VARIABLE = "UNDERSTUDY_INHERITED"
VERSION = 1


class Actor(msgspec.Struct, frozen=True):
    """One actor's process. `status`: of one that is reaped and not swept yet; `ended`: its strays that were ended.

    Here and below: a new field has a default, and none ever changes its type (`swept` was a number once), or a house
    that runs could not be reloaded with newer code.
    """

    spawned: Spawned
    mark: str
    status: int | None = None
    ended: list[int] = []


class Exit(msgspec.Struct, frozen=True):
    """The end of an actor's process, which may not be in the log yet."""

    spawned: Spawned
    exited: Exited


class _Version(msgspec.Struct):
    """All that is to be read of what another version may have left."""

    version: int


class Inherited(msgspec.Struct, frozen=True):
    """What a keeper leaves. `descriptors`: of the folders; `house`: as it was read last; `not_ours`: children from before."""

    version: int
    house: HouseSpec
    descriptors: list[int]
    actors: list[Actor]
    not_ours: list[int] = []
    exits: list[Exit] = []


def become(command: list[str], left: Inherited) -> None:
    """Execute `command` in this process, with what is `left`. Raises `OSError`, or `ValueError`, when that cannot be done.

    Call `hold_signals` before it.
    """
    if not command:
        raise OSError("this house was not started from the command line; end it, and start it again")
    memory = os.memfd_create("understudy-inherited", 0)
    os.write(memory, msgspec.msgpack.encode(left))
    for descriptor in left.descriptors:
        os.set_inheritable(descriptor, True)
    try:
        os.execve(command[0], command, {**os.environ, VARIABLE: str(memory)})
    finally:
        os.close(memory)
        for descriptor in left.descriptors:
            os.set_inheritable(descriptor, False)


def hold_signals() -> None:
    """Hold back what a keeper hears besides its children; what came before has been handled when this returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING, *NOTED))


def release_signals() -> None:
    """Hear the signals again that were held back, before or after the exec."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ENDING, *NOTED))


def receive() -> Inherited | None:
    """Return what the program before us left, once; None for a keeper that starts afresh. Raises `ValueError`."""
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return None
    memory = int(number)
    size = os.fstat(memory).st_size
    text = os.pread(memory, size, 0)
    os.close(memory)
    version = msgspec.msgpack.decode(text, type=_Version).version
    if version not in (VERSION, VERSION - 1):
        raise ValueError(f"what the last keeper left has version {version}, this one knows {VERSION}")
    left = msgspec.msgpack.decode(text, type=Inherited)
    for descriptor in left.descriptors:
        os.set_inheritable(descriptor, False)
    return left
