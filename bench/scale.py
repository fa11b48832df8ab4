"""`make scale`: what a house costs as agents and sessions become many, and whether the targets are reached.

Prints a table; writes `bench/scale.json` and `bench/scale.svg`. `--only` runs one part, `--sizes` other sizes: then the
figures of those alone are replaced in the JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygal

from bench import lazy, many, sessions
from bench.run import commit

HERE = Path(__file__).parent
SIZES = {"agents": [10, 100, 300, 1_000, 2_000], "lazy": [500], "sessions": [10, 1_000, 100_000]}
# What is drawn and shown of a part: the figure, its name, its unit.
FIGURES = {
    "agents": {
        "running_s": "nothing to all RUNNING, s",
        "start_ms": "processor for a start, ms",
        "first_ms": "first client answered, ms",
        "slowest_hello_ms": "slowest hello meanwhile, ms",
        "ask_ms": "ask, ms",
        "ask_p99_ms": "ask, slowest 1 %, ms",
        "idle_percent": "idle, % of a core",
        "private_mb": "an actor's memory, MB",
        "fresh_page_us": "a fresh page of the machine's memory, us",
    },
    "lazy": {
        "answered_ms": "status of all, after",
        "one_answered_ms": "… of one",
        "worked_ms": "processor until then, ms",
        "one_worked_ms": "… with one",
        "house_mb": "memory of the house, MB",
        "one_house_mb": "… with one",
    },
    "sessions": {
        "start_ms": "supervisor back, ms",
        "start_worked_ms": "… of which it worked, ms",
        "hello_ms": "a hello, ms",
        "fall_step_ms": "an actor's fall: longest step, ms",
        "ask_meanwhile_ms": "slowest ask meanwhile, ms",
        "ask_ms": "ask, ms",
        "supervisor_mb": "supervisor, MB",
    },
}
Rows = dict[str, dict[str, float]]


def targets(parts: dict[str, Rows]) -> list[tuple[str, str, str, bool]]:
    """Return of every target that was measured: what, what is asked for, what it is, and whether it is reached."""
    found: list[tuple[str, str, str, bool]] = []

    def see(what: str, most: float, value: float, unit: str) -> None:
        found.append((what, f"≤ {most:g}{unit}", f"{value:.2f}{unit}", value <= most))

    agents, logs = parts.get("agents", {}), parts.get("sessions", {})
    if {"300", "1000"} <= agents.keys():
        see(
            "1,000 agents to RUNNING, of 300's time",
            3.5,
            agents["1000"]["running_s"] / agents["300"]["running_s"],
            " x",
        )
    if {"1000", "2000"} <= agents.keys():
        see("2,000 agents, of 1,000's time", 2.2, agents["2000"]["running_s"] / agents["1000"]["running_s"], " x")
    if "1000" in agents:
        row = agents["1000"]
        see("1,000 agents to RUNNING", 8, row["running_s"], " s")
        see("first client of 1,000 that start", 100, row["first_ms"], " ms")
        see("ask with 1,000 idle, against 10", 1.2, row["ask_ms"] / row["ask_small_ms"], " x")
        see("its slowest 1 %", 2, row["ask_p99_ms"] / row["ask_small_p99_ms"], " x")
        see("1,000 idle agents", 3, row["idle_percent"], " % of a core")
    if "500" in parts.get("lazy", {}):
        row = parts["lazy"]["500"]
        see("500 lazy agents: start, more than with one", 50, row["answered_ms"] - row["one_answered_ms"], " ms")
        see("memory of the house, more than with one", 5, row["house_mb"] - row["one_house_mb"], " MB")
    if "100000" in logs:
        see("100,000 sessions: the supervisor is back", 300, logs["100000"]["start_ms"], " ms")
        see("one hello", 1, logs["100000"]["hello_ms"], " ms")
        see("one fall of an actor, its longest step", 20, logs["100000"]["fall_step_ms"], " ms")
    return found


def tables(parts: dict[str, Rows]) -> list[str]:
    """Return what is printed, line by line."""
    found: list[str] = []
    for part, names in FIGURES.items():
        rows = parts.get(part)
        if not rows:
            continue
        found.append(f"{part:<36}" + "".join(f"{int(size):>12,}" for size in rows))
        for figure, name in names.items():
            values = (
                f"{row[figure]:,.2f}" if figure in row else "" for row in rows.values()
            )  # Of older runs some lack it.
            found.append(f"{name:<36}" + "".join(f"{value:>12}" for value in values))
        found.append("")
    for what, most, value, reached in targets(parts):
        found.append(f"{what:<44}{most:>16}{value:>16}  {'reached' if reached else 'MISSED'}")
    return found


def plot(parts: dict[str, Rows], path: Path) -> None:
    """Draw cost against size, both logarithmic."""
    chart = pygal.XY(
        logarithmic=True, xrange=None, js=[], legend_at_bottom=True, legend_at_bottom_columns=2, height=620, dots_size=3,
        title="What it costs, by the number of agents or sessions (logarithmic)", truncate_legend=-1,
        x_title="agents, or sessions in the log", x_labels=[1, 2, 3, 4, 5], x_value_formatter=lambda power: f"{10**power:,.0f}",
    )  # fmt: skip
    from math import log10

    for part, figures in (
        ("agents", ("running_s", "ask_ms", "ask_p99_ms", "idle_percent")),
        ("sessions", ("start_ms", "hello_ms", "fall_step_ms")),
    ):
        for figure in figures:
            points = [(log10(int(size)), row[figure]) for size, row in parts.get(part, {}).items() if row[figure] > 0]
            chart.add(f"{part}: {FIGURES[part][figure]}", points)
    path.write_bytes(chart.render())


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="make scale", description=__doc__)
    parser.add_argument("--only", choices=list(SIZES), help="this part alone")
    parser.add_argument("--sizes", help="these sizes, with commas between them")
    options = parser.parse_args()
    runs: dict[str, Callable[[Path, int], Any]] = {
        "agents": many.measure,
        "lazy": lazy.measure,
        "sessions": sessions.measure,
    }
    path = HERE / "scale.json"
    parts: dict[str, Rows] = json.loads(path.read_text())["parts"] if path.exists() and len(sys.argv) > 1 else {}
    about = {"commit": commit(), "machine": platform.platform(), "cores": os.cpu_count()}
    for part in [options.only] if options.only else SIZES:
        sizes = [int(size) for size in options.sizes.split(",")] if options.sizes else SIZES[part]
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="understudy-scale-") as folder:
                print(f"{size:,} {part} ...", file=sys.stderr, flush=True)
                row = {"load": os.getloadavg()[0], **asyncio.run(runs[part](Path(folder), size))}
            rows = {**parts.get(part, {}), str(size): {name: round(value, 3) for name, value in row.items()}}
            parts[part] = dict(sorted(rows.items(), key=lambda item: int(item[0])))
            path.write_text(json.dumps({**about, "parts": parts}, indent=1) + "\n")
    plot(parts, path.with_suffix(".svg"))
    print("\n".join(tables(parts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
