"""The simulator holds on the code as it is, and finds each bug that is kept as a patch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import play

ROOT = Path(__file__).parent.parent
BUGS = sorted((ROOT / "tests" / "bugs").glob("*.patch"))
SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SCHEDULES = 20_000 if SOAK else 300
SCHEDULES_PER_BUG = 3_000


def test_every_promise_holds_in_every_schedule() -> None:
    for seed in range(SCHEDULES):
        play(seed)


def test_a_seed_decides_everything() -> None:
    first, second = play(11), play(11)

    assert (first.story, first.log.entries) == (second.story, second.log.entries)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_the_simulator_finds(bug: Path, tmp_path: Path) -> None:
    for folder in ("src", "protocol", "actors", "supervisor", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(bug)], cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'src'}:{tmp_path}"}

    found = subprocess.run(
        [sys.executable, "-m", "tests.sim", "0", str(SCHEDULES_PER_BUG)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert "seed" in found.stdout, found.stdout + found.stderr
    assert 1 == found.returncode
