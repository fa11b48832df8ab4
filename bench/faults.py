"""`make faults`: what each fault costs, and how soon others are back, in one run.

Prints two tables and writes `bench/faults.json` and `bench/faults.svg`.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pygal

from bench.floors import ForkHellos
from bench.harm import Harm
from bench.restarts import ANSWERS, measure
from bench.restarts import ROUNDS as RESTARTS
from bench.run import commit
from understudy.protocol.client import connect
from understudy.supervisor.chaos.cast import write_cast
from understudy.supervisor.chaos.proc import keeper_of, left
from understudy.supervisor.cli.house import run as carry_out
from understudy.supervisor.cli.parser import parse
from understudy.supervisor.cli.up import start_in_background

ROUNDS = 50
SEED = 20261121
BROKEN = {
    "lost": "lost",
    "endings_doubled": "two endings",
    "begun_twice": "begun twice",
    "interrupted_queued": "int. queued",
    "processes_left": "left",
    "descriptors_leaked": "leaked",
}


def percentiles(values: list[float]) -> tuple[float, float] | None:
    """Return median and 99th percentile, None without values."""
    if len(values) < 2:
        return None
    return statistics.median(values), statistics.quantiles(values, n=100, method="inclusive")[98]


def shown(values: list[float]) -> str:
    """Return median and 99th percentile for the table."""
    found = percentiles(values)
    return "-" if found is None else f"{found[0]:.1f} / {found[1]:.1f}"


async def measured(folder: str, forks: ForkHellos) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of both tables."""
    runtime_dir, state_dir = f"{folder}/run", f"{folder}/state"
    config, ledger = write_cast(folder)
    start_in_background(config, runtime_dir, state_dir)
    keeper = keeper_of(runtime_dir)
    try:
        async with connect(runtime_dir) as client:
            harm = Harm(client, keeper, ledger, Random(SEED))
            await harm.prepare()
            for at in range(ROUNDS):
                print(f"round {at + 1} of {ROUNDS} ...", end="\r", file=sys.stderr, flush=True)
                for name in harm.kinds:
                    await harm.once(name)
            faults = await harm.rows(runtime_dir)
            print("restarts, beside the peers ...", file=sys.stderr, flush=True)
            restarts = await measure(client, keeper, forks, folder)
    finally:
        place = ["--runtime-dir", runtime_dir, "--state-dir", state_dir]
        await asyncio.to_thread(carry_out, parse(["shutdown", "--hurry", *place]))
    remains = left(runtime_dir, state_dir)
    assert not remains, f"left after the house was shut down: {remains}"
    return faults, restarts


def tables(faults: list[dict[str, Any]], restarts: list[dict[str, Any]]) -> list[str]:
    """Return both tables, line by line."""
    heads = "  ".join(f"{head:>11}" for head in BROKEN.values())
    lines = [f"{'fault':<30}{'number':>7}{'detected, ms':>16}{'answers, ms':>16}{'turns':>7}  {heads}"]
    for row in faults:
        counts = "  ".join(f"{row[name]:>11}" for name in BROKEN)
        lines.append(
            f"{row['what']:<30}{row['number']:>7}{shown(row['detect_ms']):>16}{shown(row['again_ms']):>16}"
            f"{row['accepted']:>7}  {counts}"
        )
    floor = statistics.median(restarts[0]["ms"])
    lines += ["", f"{'SIGKILL until':<34}{'p50 / p99, ms':>20}{'x floor':>9}  "]
    for row in sorted(restarts, key=lambda row: statistics.median(row["ms"])):
        ratio = statistics.median(row["ms"]) / floor
        lines.append(f"{row['what']:<34}{shown(row['ms']):>20}{ratio:>9.1f}  {row['until']}")
    lines += ["", "All times: median / 99th percentile. Detected: by " + "; by ".join(
        f"{row['detected_by']} ({row['fault']})" for row in faults if row["detected_by"]
    )]  # fmt: skip
    return lines


def plot(restarts: list[dict[str, Any]], path: Path) -> None:
    """Draw how soon each is back."""
    chart = pygal.HorizontalBar(
        logarithmic=True, js=[], show_legend=True, legend_at_bottom=True, print_values=True, height=420, truncate_label=-1,
        title="SIGKILL until running or answering again (ms, logarithmic)", value_formatter=lambda ms: f"{ms:.1f}" if ms < 100 else f"{ms:.0f}",
    )  # fmt: skip
    rows = sorted(restarts, key=lambda row: -statistics.median(row["ms"]))
    chart.x_labels = [f"{row['what']}{' (answers)' if row['until'] == ANSWERS else ''}" for row in rows]
    chart.add("median", [statistics.median(row["ms"]) for row in rows])
    chart.add("p99", [(percentiles(row["ms"]) or (0, 0))[1] for row in rows])
    path.write_bytes(chart.render())


def main() -> int:
    """Run everything; return 0 when every promise was kept."""
    with tempfile.TemporaryDirectory(prefix="understudy-faults-") as folder, ForkHellos(folder) as forks:
        faults, restarts = asyncio.run(measured(folder, forks))
    print("\n".join(tables(faults, restarts)))
    about = {
        "commit": commit(), "machine": platform.platform(), "cores": os.cpu_count(), "seed": SEED,
        "rounds": ROUNDS, "restarts": RESTARTS,
    }  # fmt: skip
    here = Path(__file__).parent
    report = {**about, "faults": _rounded(faults), "restarts_ms": _rounded(restarts)}
    (here / "faults.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(restarts, here / "faults.svg")
    return 1 if any(row[name] for row in faults for name in BROKEN) else 0


def _rounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: [round(each, 2) for each in value] if name.endswith("ms") else value for name, value in row.items()}
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
