"""Many mixed faults in houses under load: `understudy chaos` from several seeds, at once, with and without spares."""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.stage import progress
from understudy.supervisor.chaos.cast import write_cast

HOUSES = 3
SEED = 20261121
SLICE_S = 60


async def measure(faults: int) -> dict[str, Any]:
    """Let faults strike until there were `faults` of them; return the sums over all runs."""
    sums: Counter[str] = Counter()
    struck: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    runs: list[dict[str, Any]] = []
    tell = progress("mixed faults", faults)
    began = time.monotonic()
    seed = SEED
    while sum(struck.values()) < faults:
        done = sum(struck.values())
        rate = done / (time.monotonic() - began) if done else 10.0
        for_s = max(10, min(SLICE_S, round((faults - done) / rate)))
        found = await asyncio.gather(*(_run(seed + at, for_s, spare=at % 2 == 1) for at in range(HOUSES)))
        seed += HOUSES
        for report in found:
            sums.update(report["broken"])
            sums["accepted"] += report["accepted"]
            struck.update(report["faults"])
            endings.update(report["endings"])
            runs.append({name: report[name] for name in ("seed", "for_s", "faults", "accepted", "broken", "findings")})
        tell(min(faults, sum(struck.values())))
    accepted = sums.pop("accepted")
    return {
        "faults": sum(struck.values()), "of_kind": dict(struck), "accepted": accepted, "endings": dict(endings),
        "broken": dict(sums), "runs": runs,
    }  # fmt: skip


async def _run(seed: int, for_s: int, spare: bool) -> dict[str, Any]:
    """One run in a house of its own; with `spare` each agent has an understudy."""
    with tempfile.TemporaryDirectory(prefix="understudy-mixed-", ignore_cleanup_errors=True) as folder:
        path, _ = write_cast(folder)
        if spare:
            text = Path(path).read_text()
            Path(path).write_text(text.replace("\nrestart =", "\nunderstudies = 1\nrestart ="))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "understudy", "chaos", "--json", "--seed", str(seed), "--for", f"{for_s}s",
            "-c", path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, errors = await process.communicate()
    try:
        report: dict[str, Any] = json.loads(out)
    except ValueError as error:
        raise RuntimeError(f"chaos, seed {seed}: {errors.decode()[-2000:]}") from error
    return report
