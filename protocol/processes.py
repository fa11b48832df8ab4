"""Processes: what /proc tells of them, which group and mark they bear, how to end them. Linux.

All of it stands here, and once: keeper, actors and whoever looks at a house from outside know processes by the same
signs, and this is the one folder that each of them may import.

A program that an actor starts inherits the mark `HOUSE/ACTOR#EPOCH` in its environment, so that
what left the group with setsid is still found. Actors themselves are known by pid and start time:
setproctitle hides their environment.
"""

import contextlib
import os
import signal
import time

from understudy.protocol.mark import mark_of

POLL_S = 0.002
END_S_MAX = 2.0
READ_BYTES = 1 << 12


def read(path: str) -> bytes:
    """Return what a small file of /proc says. Raises `OSError`. A thousand are read often: a file object costs as much again."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, READ_BYTES)
    finally:
        os.close(file)


def stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat after the name (state, parent, group, session …), None for no process or a zombie."""
    try:
        fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return None
    return fields if fields and fields[0] != b"Z" else None


def parents() -> dict[int, int]:
    """Return each living process and its parent."""
    return {pid: int(fields[1]) for pid in everyone() if (fields := stat(pid)) is not None}


def children(parent: int) -> list[int]:
    """Return the living children of any process."""
    return [pid for pid, whose in parents().items() if whose == parent]


def title(pid: int) -> str:
    """Return the title of a process, "" when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def descriptors(pid: int) -> list[str]:
    """Return what each descriptor of a process is open on; nothing when the process is gone."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115
    return found


def start_ticks(pid: int) -> int:
    """Return the start time of `pid` in clock ticks since boot, 0 when there is no such process or it is a zombie."""
    fields = stat(pid)
    return 0 if fields is None else int(fields[19])


def own_children(known: set[int]) -> dict[int, int]:
    """Return our living children but the `known` ones, zombies left out, and each one's session (setsid).

    For a process of one thread.
    """
    try:
        with open("/proc/thread-self/children", "rb") as file:
            pids = [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # A kernel without CONFIG_PROC_CHILDREN.
        pids = everyone()
    me = os.getpid()
    found: dict[int, int] = {}
    for pid in pids:
        fields = None if pid in known else stat(pid)
        if fields is not None and int(fields[1]) == me:
            found[pid] = int(fields[3])
    return found


def of_house(house_id: str) -> list[int]:
    """Return the processes that bear a mark of the house, ourselves left out."""
    return [pid for pid in everyone() if pid != os.getpid() and mark_of(pid).startswith(f"{house_id}/")]


def marked(mark: str) -> list[int]:
    """Return the processes that bear this very mark, ourselves left out."""
    return [pid for pid in everyone() if pid != os.getpid() and mark_of(pid) == mark]


def kill(pid: int, number: int) -> bool:
    """Send a signal; return False when there is no such process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_group(group: int) -> bool:
    """SIGKILL a process group; return False when it is empty."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_all(house_id: str, leaders: list[tuple[int, int]]) -> int:
    """Kill the groups of `leaders` (pid, start ticks) and all that bear a mark of the house, when nobody else can.

    Return how many were left after `END_S_MAX`.
    """
    until = time.monotonic() + END_S_MAX
    while True:
        alive = [pid for pid, started in leaders if start_ticks(pid) == started != 0]
        for pid in alive:
            kill_group(pid)
            kill(pid, signal.SIGKILL)
        strays = [pid for pid in of_house(house_id) if start_ticks(pid)]
        for pid in strays:
            kill(pid, signal.SIGKILL)
        if not alive and not strays:
            return 0
        if time.monotonic() > until:
            return len(alive) + len(strays)
        time.sleep(POLL_S)


def everyone() -> list[int]:
    """Return the processes that there are."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
