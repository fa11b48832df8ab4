"""`understudy chaos` as a user runs it: real processes, a fixed seed; and a bug that it must find."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.processes import stat
from understudy.supervisor.chaos.faults import Fault
from understudy.supervisor.chaos.proc import left

ROOT = Path(__file__).parent.parent.parent
SEED = "20261121"


def chaos(*options: str, source: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it; with `source`, from a copy of the code."""
    environment = os.environ | ({"PYTHONPATH": str(source)} if source else {})
    command = [sys.executable, "-m", "understudy", "chaos", "--seed", SEED, *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL, env=environment
    )


def report(ended: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.faults
@pytest.mark.slow
def test_every_promise_is_kept_under_all_faults() -> None:
    ended = chaos("--for", "4s", "--json")

    found = report(ended)
    assert [] == found["findings"], found["story"]
    assert 0 == ended.returncode
    assert {fault.value for fault in Fault if fault is not Fault.DISK} == {
        name for name, count in found["faults"].items() if count
    }
    assert {"end_turn", "cancelled", "interrupted", "failed"} >= set(found["endings"]) >= {"end_turn"}


@pytest.mark.faults
@pytest.mark.slow
def test_a_bug_is_found_and_told_with_seed_and_story(tmp_path: Path) -> None:
    for folder in ("protocol", "actors", "supervisor", "src"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True)
    patch = ROOT / "tests" / "bugs" / "seen-turn-handed-over-again.patch"
    subprocess.run(["git", "apply", "--unsafe-paths", str(patch)], cwd=tmp_path, check=True, capture_output=True)

    ended = chaos("--for", "3s", "--faults", "kill", source=tmp_path / "src")

    assert 1 == ended.returncode
    assert "PROMISES WERE BROKEN" in ended.stdout
    assert "reached an agent 2 times" in ended.stdout
    assert f"the story (seed {SEED})" in ended.stdout


@pytest.mark.faults
def test_a_house_of_the_users_is_left_alone_unless_they_agree(tmp_path: Path) -> None:
    house = RealHouse(
        tmp_path, f'[agent.rehearsal]\ndriver = "scripted"\noptions = {{ ledger = "{tmp_path}/ledger" }}\n'
    )
    house.start()
    place = ("--runtime-dir", house.runtime_dir, "--state-dir", house.state_dir, "-c", str(house.config))
    try:
        pid = house.pid()
        refused = chaos("--for", "1s", "--faults", "kill", *place)

        assert 1 == refused.returncode
        assert "--yes" in refused.stderr
        assert pid == house.pid()

        agreed = chaos("--for", "1s", "--faults", "kill", "--yes", "--json", *place)

        assert 0 == agreed.returncode, agreed.stdout
        assert report(agreed)["faults"]["kill"] > 0
        assert pid != house.pid()
    finally:
        house.stop()


@pytest.fixture
def own_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk for the log."""
    folder = tmp_path / "state"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.slow
def test_promises_are_kept_while_the_disk_is_full_again_and_again(tmp_path: Path, own_disk: Path) -> None:
    house = RealHouse(
        tmp_path, f'[agent.rehearsal]\ndriver = "scripted"\noptions = {{ ledger = "{tmp_path}/ledger" }}\n'
    )
    house.start()
    place = ("--runtime-dir", house.runtime_dir, "--state-dir", house.state_dir, "-c", str(house.config))
    try:
        ended = chaos("--for", "3s", "--faults", "disk", "--yes", "--json", *place)
    finally:
        house.stop()

    found = report(ended)
    assert [] == found["findings"], found["story"]
    assert found["faults"]["disk"] > 0
    assert found["accepted"] > 0
    assert [] == list(own_disk.glob("filled*"))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--faults", "disk"], "is no mount of its own"),
        (["--faults", "kill,flood"], "there is no fault 'flood'"),
        (["--for", "soon"], "write 60s, 5m or 1h"),
    ],
)
def test_a_mistaken_option_is_told(options: list[str], remedy: str) -> None:
    ended = chaos(*options)

    assert 2 == ended.returncode
    assert remedy in ended.stderr


@pytest.mark.faults
def test_a_run_that_is_terminated_ends_its_house(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "understudy", "chaos", "--for", "60s"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as run:
        assert run.stderr is not None
        wait_until(lambda: "accepted" in (run.stderr.readline() if run.stderr else ""), "the first report")
        (folder,) = tmp_path.glob("understudy-chaos-*")
        pids = [each.split()[0] for each in left(str(folder / "run"), str(folder / "state"))]

        run.terminate()
        run.stderr.read()

    assert 143 == run.returncode
    assert len(pids) > 2
    wait_until(lambda: not any(stat(int(pid)) for pid in pids), "all of it to end")
    assert [] == list(tmp_path.iterdir())
