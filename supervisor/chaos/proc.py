"""The processes of a house, looked at from outside through /proc. Linux. It signals nobody."""

from collections import Counter
from pathlib import Path

from understudy.protocol.mark import ACTOR, BLANK, SUPERVISOR, mark_of
from understudy.protocol.owners import open_ours
from understudy.protocol.presence import keeper
from understudy.protocol.processes import children, descriptors, parents, title


def keeper_of(runtime_dir: str) -> int:
    """Return the pid of the keeper that holds the lock of `runtime_dir`, 0 for none."""
    return keeper(f"{runtime_dir}/lock")


def supervisor_of(keeper: int) -> int:
    """Return the supervisor's pid, 0 while there is none."""
    return next((pid for pid in children(keeper) if title(pid).startswith(SUPERVISOR)), 0)


def actors_of(keeper: int, agent: str) -> list[int]:
    """Return the processes that play `agent` now."""
    beginnings = (f"{ACTOR}{agent}#", f"{ACTOR}{agent}/")
    return [pid for pid in children(keeper) if title(pid).startswith(beginnings)]


def strays(keeper: int, living: set[int]) -> list[str]:
    """Return the processes under `keeper` that belong to nobody: no supervisor, blank or `living` actor, nor theirs.

    What a living actor has daemonised is its own: the mark in the environment tells.
    """
    names = {pid: title(pid) for pid in children(keeper)}
    known = {pid for pid, name in names.items() if pid in living or name.startswith((SUPERVISOR, BLANK))}
    marks = {names[pid].removeprefix(ACTOR) for pid in living if pid in names}
    spare = [pid for pid, name in names.items() if name.startswith(BLANK)][1:]  # One waits for a role, no more.
    known.difference_update(spare)
    return [
        f"{pid} {name}"
        for pid, name in names.items()
        if pid not in known and mark_of(pid).partition("/")[2] not in marks
    ]


def left(runtime_dir: str, state_dir: str) -> list[str]:
    """Return the processes of a house that live: by the mark in their environment, or by what they hold open."""
    try:
        with open(Path(state_dir, "house"), opener=open_ours) as file:
            mark = f"{file.read().partition(' ')[0].strip()}/"
    except OSError:
        mark = None
    found = []
    for pid in parents():
        name = title(pid)
        bears = mark is not None and mark_of(pid).startswith(mark)
        if bears or (name.startswith("understudy: ") and _holds(pid, (runtime_dir, state_dir))):
            found.append(f"{pid} {name}")
    return found


def _holds(pid: int, folders: tuple[str, str]) -> bool:
    return any(what.startswith(folders) for what in descriptors(pid))


def of_supervisor(keeper: int) -> list[str]:
    """Return what the descriptors of a house's supervisor are open on, of which time may not make more.

    Left out is the one spare that SQLite keeps open on its file for its next connection, because POSIX locks end with
    any close.
    """
    found = descriptors(supervisor_of(keeper))
    for name in [name for name, count in Counter(found).items() if count == 2 and name.endswith(".sqlite")]:
        found.remove(name)
    return found
