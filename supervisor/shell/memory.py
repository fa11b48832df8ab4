"""What the processes of each actor use, read from /proc: all that descend from it, and what bears its mark beside that."""

import os
from collections.abc import Iterator

from understudy.protocol import processes
from understudy.protocol.mark import mark_of

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)

SIZE_TELLS = os.stat("/proc/self/fd").st_size > 0  # noqa: PTH116

Totals = dict[int, tuple[float, int]]


def sample(totals: Totals, exact: set[int], marks: dict[str, int], actors: set[int], pauses: Iterator[None]) -> None:
    """Fill `totals` (keys: pids of actors) with each tree's memory in MB and open descriptors. Takes as long as it takes.

    `marks`: of these actors. What left its actor's session, as tools do that are started with setsid, is found by its
    parents; what has none left but the keeper, by its mark. `actors`: all that live, so that the other ones need not be
    looked at; `pauses` is asked for the next one between any two processes.

    Actors in `exact` are measured by PSS (smaps_rollup: private pages and a share of the shared ones), or, where
    that cannot be read, as the others: resident less shared pages (statm), so that forked actors are not charged
    for the keeper's code.
    """
    keeper = os.getppid()
    parents = dict.fromkeys(actors, keeper)
    for pid in processes.everyone():
        if pid not in actors and (fields := processes.stat(pid)) is not None:
            parents[pid] = int(fields[1])
            next(pauses)
    whose = {**dict.fromkeys(actors, 0), **{pid: pid for pid in totals}}
    for pid in parents:
        actor = _actor_of(pid, parents, whose, marks)
        if not actor:
            continue
        next(pauses)
        try:
            used_mb = _pss_mb(pid) if actor in exact else None
            if used_mb is None:
                used_mb = _private_mb(pid)
            opened = files(pid)
        except (OSError, ValueError):
            continue  # It ended while we looked.
        memory_mb, count = totals[actor]
        totals[actor] = (round(memory_mb + used_mb, 1), count + opened)


def _actor_of(pid: int, parents: dict[int, int], whose: dict[int, int], marks: dict[str, int]) -> int:
    """Return the actor to which a process belongs, 0 for none of them. `whose`: what is known of that, and grows."""
    way: list[int] = []
    keeper = os.getppid()
    # The bound: numbers that were given anew while we looked might make a circle.
    while pid not in whose and parents.get(pid, 0) not in (0, 1, keeper) and len(way) < len(parents):
        way.append(pid)
        pid = parents[pid]
    if pid not in whose:
        whose[pid] = marks.get(mark_of(pid), 0) if parents.get(pid) == keeper else 0
    for each in way:
        whose[each] = whose[pid]
    return whose[pid]


def files(pid: int) -> int:
    """Return how many descriptors a process has; since Linux 6.2 the folder's size says so."""
    if SIZE_TELLS:
        return os.stat(f"/proc/{pid}/fd").st_size  # noqa: PTH116
    return len(os.listdir(f"/proc/{pid}/fd"))


def _private_mb(pid: int) -> float:
    _, resident, shared, *_ = map(int, processes.read(f"/proc/{pid}/statm").split())
    return (resident - shared) * PAGE_MB


def _pss_mb(pid: int) -> float | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
