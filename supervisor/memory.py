"""What the processes of each actor use, read from /proc. An actor's tree is its session (setsid)."""

import os

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def sample_trees(leaders: list[int]) -> dict[int, tuple[float, int]]:
    """Return for each session leader its tree's private resident memory in MB and its open descriptors.

    Private means resident less shared pages (statm), so that forked actors are not charged for the keeper's code.
    """
    totals: dict[int, tuple[float, int]] = dict.fromkeys(leaders, (0.0, 0))
    if not leaders:
        return totals
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                session = int(file.read().rpartition(b")")[2].split()[3])
            if session not in totals:
                continue
            with open(f"/proc/{name}/statm", "rb") as file:
                _, resident, shared, *_ = map(int, file.read().split())
            files = len(os.listdir(f"/proc/{name}/fd"))
        except (OSError, ValueError):
            continue  # It ended while we looked.
        memory_mb, count = totals[session]
        totals[session] = (round(memory_mb + (resident - shared) * PAGE_MB, 1), count + files)
    return totals
