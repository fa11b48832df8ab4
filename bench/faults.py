"""`make faults`: what each fault costs, how soon others are back, and whether the targets are reached.

Prints the tables; writes `bench/faults.json` and `bench/faults.svg`. A part that is run alone replaces its own figures
in the JSON, and leaves the other ones.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pygal

from bench import crowd, mixed, opencode, restarts, streams, targets
from bench.floors import Deaths, ForkHellos
from bench.harm import Harm
from bench.restarts import ANSWERS
from bench.run import commit
from bench.stage import house, progress
from bench.targets import p99
from understudy.supervisor.chaos.cast import write_cast

ROUNDS = {"kinds": 20, "restarts": 40, "opencode": 8, "streams": streams.ROUNDS, "crowd": crowd.CRASHES, "mixed": 500}
ABOUT = {
    "kinds": "one fault of each kind a round, in a loaded house",
    "restarts": "SIGKILL until an answer, beside runit, supervisord, pm2 and Ray",
    "opencode": "the real opencode falls, its spare takes over",
    "streams": "the supervisor falls under ten streams; rounds: how often",
    "crowd": "a hundred agents: idle, and all crashing at once",
    "mixed": "`understudy chaos` in several houses; rounds: faults in all",
}
SEED = 20261121
HERE = Path(__file__).parent
BROKEN = {
    "lost": "lost",
    "endings_doubled": "two endings",
    "begun_twice": "begun twice",
    "interrupted_queued": "int. queued",
    "processes_left": "left",
    "descriptors_leaked": "leaked",
}


# --- the parts ---


async def kinds(folder: Path, rounds: int) -> dict[str, Any]:
    """Strike with each kind of fault once a round."""
    path, ledger = write_cast(str(folder))
    async with house(folder / "kinds", Path(path).read_text()) as stage:
        harm = Harm(stage.client, stage.keeper, ledger, Random(SEED))
        await harm.prepare()
        tell = progress("faults of each kind", rounds)
        for at in range(rounds):
            for name in harm.kinds:
                await harm.once(name)
            tell(at + 1)
        return {"rows": await harm.rows(stage.runtime_dir)}


def measured(only: list[str], rounds: int | None) -> dict[str, dict[str, Any]]:
    """Run the parts; return what each gave. One that has nothing to run with gives nothing."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="understudy-faults-") as name:
        folder = Path(name)
        # These fork: while nothing here has a ZeroMQ context.
        with ForkHellos(name) as forks, Deaths(name) as deaths:
            runs: dict[str, Callable[[int], Awaitable[Any]]] = {
                "restarts": lambda count: _rows(restarts.measure(folder, forks, deaths, count)),
                "opencode": lambda count: opencode.measure(folder, count),
                "kinds": lambda count: kinds(folder, count),
                "streams": lambda count: streams.measure(folder, count),
                "crowd": lambda count: crowd.measure(folder, count, crowd.IDLE_S),
                "mixed": mixed.measure,
            }
            for part in only:
                count = ROUNDS[part] if rounds is None else rounds
                print(f"{part} ({count}): {ABOUT[part]}", file=sys.stderr, flush=True)
                began = time.monotonic()
                given = asyncio.run(_awaited(runs[part], count))
                if given is not None:
                    took_s = round(time.monotonic() - began)
                    about = {"commit": commit(), "rounds": count, "took_s": took_s, "load": os.getloadavg()[1]}
                    found[part] = {**about, **_rounded(given)}
    return found


async def _rows(awaitable: Awaitable[list[dict[str, Any]]]) -> dict[str, Any]:
    return {"rows": await awaitable}


async def _awaited(run: Callable[[int], Awaitable[Any]], count: int) -> Any:
    return await run(count)


# --- what is shown ---


def shown(values: list[float]) -> str:
    """Return median and 99th percentile for the table."""
    return f"{statistics.median(values):.1f} / {p99(values):.1f}" if len(values) > 1 else "-"


def tables(parts: dict[str, Any]) -> list[str]:
    """Return all tables, line by line."""
    found: list[str] = []
    if "kinds" in parts:
        heads = "  ".join(f"{head:>11}" for head in BROKEN.values())
        found.append(f"{'fault':<30}{'number':>7}{'detected, ms':>16}{'answers, ms':>16}{'turns':>7}  {heads}")
        for row in parts["kinds"]["rows"]:
            counts = "  ".join(f"{row[name]:>11}" for name in BROKEN)
            found.append(
                f"{row['what']:<30}{row['number']:>7}{shown(row['detect_ms']):>16}{shown(row['again_ms']):>16}"
                f"{row['accepted']:>7}  {counts}"
            )
        found += [
            "Detected by: " + "; ".join(
                f"{row['detected_by']} ({row['fault']})" for row in parts["kinds"]["rows"] if row["detected_by"]
            ),
            "",
        ]  # fmt: skip
    if "restarts" in parts:
        rows = sorted(parts["restarts"]["rows"], key=lambda row: statistics.median(row["ms"]))
        found.append(f"{'SIGKILL until':<42}{'number':>7}{'p50 / p99, ms':>20}")
        found += [f"{row['what']:<42}{len(row['ms']):>7}{shown(row['ms']):>20}  {row['until']}" for row in rows]
        found.append("")
    marks = {True: "reached", False: "MISSED", None: "-"}
    lines = targets.lines(parts)
    found.append(f"{'target':<60}{'asked for':<44}{'measured':>12}  ")
    found += [
        f"{each.what:<60}{each.target:<44}{each.measured:>12}  {marks[each.reached]:<8} {each.beside}" for each in lines
    ]
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw how soon each is back."""
    chart = pygal.HorizontalBar(
        logarithmic=True, js=[], show_legend=True, legend_at_bottom=True, print_values=True, height=560, truncate_label=-1,
        title="SIGKILL until running or answering again (ms, logarithmic)", value_formatter=lambda ms: f"{ms:.1f}" if ms < 100 else f"{ms:.0f}",
    )  # fmt: skip
    rows = sorted(rows, key=lambda row: -statistics.median(row["ms"]))
    chart.x_labels = [f"{row['what']}{' (answers)' if row['until'] == ANSWERS else ''}" for row in rows]
    chart.add("median", [statistics.median(row["ms"]) for row in rows])
    chart.add("p99", [p99(row["ms"]) for row in rows])
    path.write_bytes(chart.render())


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 2)
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list():
            return [_rounded(each) for each in value]
        case _:
            return value


def main() -> int:
    """Run what is asked for; return 0 when every promise was kept (a figure that misses its target is no error)."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(ABOUT), help="this part alone; may be given again")
    parser.add_argument("--rounds", type=int, help="how many rounds of each part (default: " + str(ROUNDS) + ")")
    options = parser.parse_args()
    path = HERE / "faults.json"
    only = options.only or list(ABOUT)
    found = measured(only, options.rounds)
    old = json.loads(path.read_text()).get("parts", {}) if options.only and path.exists() else {}
    parts = {**old, **found}
    print("\n".join(tables(parts)))
    about = {"machine": platform.platform(), "cores": os.cpu_count(), "seed": SEED}
    reached = [{"what": each.what, "target": each.target, "measured": each.measured, "beside": each.beside,
                "reached": each.reached} for each in targets.lines(parts)]  # fmt: skip
    path.write_text(json.dumps({**about, "targets": reached, "parts": parts}, indent=1, ensure_ascii=False) + "\n")
    if "restarts" in found:
        plot(parts["restarts"]["rows"], HERE / "faults.svg")
    return 1 if broken(found) else 0


def broken(parts: dict[str, Any]) -> bool:
    """Return whether a promise was broken in what was run now."""
    rows = parts.get("kinds", {}).get("rows", [])
    sums = parts.get("mixed", {}).get("broken", {})
    wrong = parts.get("streams", {})
    return (
        any(row[name] for row in rows for name in BROKEN)
        or any(sums.values())
        or bool(wrong.get("lost_or_doubled") or wrong.get("other_processes") or wrong.get("failures"))
    )


if __name__ == "__main__":
    sys.exit(main())
