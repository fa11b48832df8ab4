"""Lazy agents, none of which runs: what a house with many of them costs beside one with a single one."""

import contextlib
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.crowd import spent_s
from bench.many import PLAYER, config
from bench.stage import house
from understudy.protocol.processes import children

ROUNDS = 9


async def measure(folder: Path, count: int) -> dict[str, float]:
    """Return the figures of houses with `count` lazy agents, started in turns with such as have one (`one_…`)."""
    (folder / "player.py").write_text(PLAYER)
    taken: dict[int, list[dict[str, float]]] = {count: [], 1: []}
    for _ in range(ROUNDS):
        for size, found in taken.items():
            found.append(await _start(folder, size))

    def middle(size: int, figure: str) -> float:
        return median(each[figure] for each in taken[size])

    figures = ("answered_ms", "worked_ms", "house_mb")
    return {figure: middle(count, figure) for figure in figures} | {
        f"one_{figure}": middle(1, figure) for figure in figures
    }


async def _start(folder: Path, count: int) -> dict[str, float]:
    """Start such a house; return when its status was there, what it worked until then, and what memory it has."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        began = time.monotonic()
        cast = config(folder, count).replace("cwd", 'start = "lazy"\ncwd')
        async with house(Path(place), cast, wait=False) as stage:
            rows = await stage.rows()
            answered_ms = 1000 * (time.monotonic() - began)
            worked_ms = 1000 * sum(spent_s(stage.keeper).values())
            assert [row["state"] for row in rows] == ["STOPPED"] * count
            house_mb = sum(map(_share_mb, [stage.keeper, *children(stage.keeper)]))
    return {"answered_ms": answered_ms, "worked_ms": worked_ms, "house_mb": house_mb}


def _share_mb(pid: int) -> float:
    """Return the process's memory; what others have as well counts by its share."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Dirty:"):
                return int(line.split()[1]) / 1024
    return 0.0
