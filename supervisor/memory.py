"""What the processes of each actor use, read from /proc. An actor's tree is its session (setsid)."""

import os
from collections.abc import Iterator

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)

Totals = dict[int, tuple[float, int]]


def sampling(totals: Totals, exact: set[int]) -> Iterator[None]:
    """Fill `totals` (keys: session leaders) with each tree's memory in MB and open descriptors, a process a step.

    Leaders in `exact` are measured by PSS (smaps_rollup: private pages and a share of the shared ones), or, where
    that cannot be read, as the others: resident less shared pages (statm), so that forked actors are not charged
    for the keeper's code. The steps let the caller stop and go on later.
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        yield
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                leader = int(file.read().rpartition(b")")[2].split()[3])
            if leader not in totals:
                continue
            used_mb = _pss_mb(name) if leader in exact else None
            if used_mb is None:
                used_mb = _private_mb(name)
            files = len(os.listdir(f"/proc/{name}/fd"))
        except (OSError, ValueError):
            continue  # It ended while we looked.
        memory_mb, count = totals[leader]
        totals[leader] = (round(memory_mb + used_mb, 1), count + files)


def _private_mb(name: str) -> float:
    with open(f"/proc/{name}/statm", "rb") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * PAGE_MB


def _pss_mb(name: str) -> float | None:
    try:
        with open(f"/proc/{name}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
