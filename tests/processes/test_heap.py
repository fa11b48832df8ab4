"""What is free in the C library's heap goes back to the system."""

import os
from pathlib import Path

from understudy.supervisor.shell import heap


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def test_what_is_free_between_what_is_used_goes_back() -> None:
    heap.tune()
    heap.trim()
    before = resident_mb()
    taken = [bytes(8_000) for _ in range(10_000)]
    kept = taken[::100]
    heap.trim()
    assert resident_mb() - before > 70

    del taken
    heap.trim()
    assert resident_mb() - before < 20
    assert len(kept) == 100
