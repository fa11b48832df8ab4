"""A supervisor that cannot start any more: safe mode says why, and nothing is lost when that is mended."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import House


def in_safe_mode(house: RealHouse) -> bool:
    try:
        return bool(verb(house.runtime_dir, House(), timeout_s=1.0).safe_mode)
    except Exception:  # noqa: BLE001 (between two supervisors nobody answers)
        return False


def spoil_the_log(house: RealHouse) -> Path:
    """Spoil the log under a running house, end its supervisor, and return a copy of the sound state."""
    sound = house.folder / "sound"
    supervisor = house.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    shutil.copytree(house.state_dir, sound)
    for path in Path(house.state_dir).glob("log.sqlite*"):
        path.unlink()
    Path(house.state_dir, "log.sqlite").write_bytes(b"garbage " * 1000)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: in_safe_mode(house), f"safe mode: {house.log()}")
    return sound


@pytest.mark.faults
def test_it_says_what_is_wrong_and_goes_on_once_that_is_mended(house: RealHouse) -> None:
    actor = house.pid()
    said = house.run("prompt", "rehearsal", "kept")
    session = said.stderr.partition("session ")[2].rstrip(")\n")
    last = json.loads(house.run("sessions", "--json").stdout)[0]["last"]
    sound = spoil_the_log(house)

    status, doctor, prompt = house.run("status"), house.run("doctor"), house.run("prompt", "rehearsal", "no")
    gone = not Path(f"/proc/{actor}").exists()
    for path in sound.glob("log.sqlite*"):
        shutil.copy(path, house.state_dir)
    reloaded = house.run("reload")
    if reloaded.returncode:  # Safe mode may make way for another try by itself just now.
        house.wait_answering()
        reloaded = house.run("reload")

    assert 1 == status.returncode
    assert "safe mode" in status.stderr
    assert "safe mode" in prompt.stderr
    assert 1 == doctor.returncode
    assert "WRONG  house: in safe mode" in doctor.stdout
    assert "WRONG  log:" in doctor.stdout
    assert gone
    assert 0 == reloaded.returncode, reloaded.stderr
    assert "again\n" == house.run("prompt", "rehearsal", "again", "--session", session).stdout
    assert last < json.loads(house.run("sessions", "--json").stdout)[0]["last"]


@pytest.mark.faults
@pytest.mark.parametrize("how", ["verb", "signal"])
def test_it_ends_when_it_is_told_to(house: RealHouse, how: str) -> None:
    spoil_the_log(house)
    assert house.keeper is not None

    if how == "verb":
        assert 0 == house.run("shutdown").returncode
    else:
        house.keeper.send_signal(signal.SIGTERM)

    assert house.keeper.wait(20) is not None
    assert [] == house.left()


def test_a_log_that_is_unsound_from_the_first_is_told_at_once(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    Path(house.state_dir).mkdir()
    Path(house.state_dir, "log.sqlite").write_bytes(b"garbage " * 1000)

    ended = house.run("up", "-c", str(house.config))

    assert 1 == ended.returncode
    assert "log.sqlite" in ended.stderr
    assert "Traceback" not in ended.stderr


FALLS = """
import sys
if "understudy.supervisor.detached" in sys.orig_argv:
    from understudy.supervisor.shell import safe, shell
    def falls(house, keeper, living, life):
        safe.note_fall(house.runtime_dir, "the disk is made of cheese")
        return 3
    shell.main = falls
"""


@pytest.mark.faults
def test_a_house_whose_supervisor_falls_at_once_is_not_said_to_be_up(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(FALLS)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    try:
        ended = subprocess.run(
            house.command("up", "-d", "-c", str(house.config)), env=environ, capture_output=True, text=True, timeout=100
        )
    finally:
        house.run("shutdown")

    assert (1, "") == (ended.returncode, ended.stdout)
    assert (
        "in safe mode: its supervisor fell, and no agents run:\nthe disk is made of cheese\nmend that" in ended.stderr
    )


MOMENT = """
import os, signal, sys
from pathlib import Path
from understudy.supervisor import pair
from understudy.supervisor.cli.main import main
from understudy.supervisor.core.events import Alive, Ready
from understudy.supervisor.core.succession import STATUS_HOPELESS
from understudy.supervisor.shell import shell
def serves_for_a_moment(house, keeper, living, house_id):
    parent, supervisor = os.getppid(), os.getpid()
    os.kill(parent, signal.SIGSTOP)  # So that it finds all that was said, and the end, at once.
    for each in [Alive()] * 50 + [Ready()]:
        keeper.send(pair.encode(each))
    if os.fork() == 0:
        while " Z " not in Path(f"/proc/{supervisor}/stat").read_text():
            pass
        os.kill(parent, signal.SIGCONT)
        os._exit(0)
    return STATUS_HOPELESS
shell.main = serves_for_a_moment
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.faults
def test_a_supervisor_that_served_for_a_moment_only_did_serve(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    command = [sys.executable, "-c", MOMENT, *house.command("up", "-c", str(house.config))[3:]]
    with (tmp_path / "house.log").open("ab") as log:
        house.keeper = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: in_safe_mode(house) or house.keeper is None or house.keeper.poll() is not None, "safe mode")
        assert in_safe_mode(house), house.log()
    finally:
        house.stop()
