"""The simulator holds on the code as it is, and finds each bug that is kept as a patch."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import play, play_many
from tests.simulator.world import World
from understudy.supervisor.core.events import EpochRow, HoldRow, MarkRow, MemoryRow, Record, Row
from understudy.supervisor.log.log import Log

ROOT = Path(__file__).parents[2]
BUGS = sorted((ROOT / "tests" / "bugs").glob("*.patch"))
SCHEDULES = 300
SCHEDULES_PER_BUG = 2_000


def test_every_promise_holds_in_every_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    failed = play_many(0, SCHEDULES)

    assert (0, "") == (failed, capsys.readouterr().out * failed)


def seen(world: World) -> tuple[list[str], list[tuple[str, int, str, bytes]]]:
    """Return the story, and what is in the log but for the wall clock's time."""
    entries = [each for session in world.scene.disk.entries.values() for each in session]
    return list(world.scene.story), [(each.session, each.first, each.kind, each.body) for each in entries]


def test_a_seed_decides_everything() -> None:
    assert seen(play(11)) == seen(play(11))


def test_the_wall_clock_decides_nothing() -> None:
    for seed in range(5):
        assert seen(play(seed, weather=1)) == seen(play(seed, weather=2))


def test_the_logs_double_gives_back_what_the_log_does(tmp_path: Path) -> None:
    for seed in range(20):
        disk = play(seed, steps=100).scene.disk
        log = Log(str(tmp_path / f"{seed}.sqlite"))
        rows: list[Row] = [*disk.sessions.values()]
        rows += [each for entries in disk.entries.values() for each in entries]
        rows += [MemoryRow(session, memory) for session, memory in disk.memories.items()]
        rows += disk.turns_written
        rows += [EpochRow(actor, epoch, 1, 1) for actor, epoch in disk.epochs.items()]
        rows += [HoldRow(session, *held) for session, held in disk.holds.items()]
        rows += [MarkRow(actor, epoch, n) for (actor, epoch), n in disk.marks.items()]
        log.commit([Record(1, rows)])
        expected, found = disk.restore(), log.restore()
        for name in disk.sessions:
            assert disk.session(name) == log.session(name)
        for row in disk.sessions.values():
            assert disk.opened(row.request) == log.opened(row.request)
        for name, request in {(row.session, row.request) for row in disk.turns.values()}:
            assert disk.accepted(name, request) == log.accepted(name, request)
        log.close()

        assert expected.turns == sorted(found.turns, key=lambda each: (each.session, each.turn))
        assert expected.counts == found.counts
        assert (expected.epochs, expected.marks) == (found.epochs, found.marks)
        assert expected.sessions == found.sessions


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the simulator of the copy in `folder`."""
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder}"}
    command = [sys.executable, "-m", "tests.sim", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_the_simulator_finds(bug: Path, tmp_path: Path) -> None:
    for folder in ("src", "protocol", "actors", "supervisor", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(bug)], cwd=tmp_path, check=True)
    seed = re.search(r"^Seed: (\d+)$", bug.read_text(), re.MULTILINE)
    assert seed is not None, f"{bug.name} names no seed that finds it"

    found = run(tmp_path, seed[1])
    if found.returncode == 0:  # The code around the bug has changed: another seed will find it.
        found = run(tmp_path, "0", str(SCHEDULES_PER_BUG))

    assert "play it again" in found.stdout, found.stdout + found.stderr
    assert 1 == found.returncode
