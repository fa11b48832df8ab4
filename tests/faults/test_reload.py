"""`understudy reload`: keeper and supervisor are replaced in place; actors, turns and streams go on."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.faults.house import Houses, RealHouse, wait_until
from tests.faults.test_kills import scripted
from tests.faults.test_take_back import STREAMS, UPDATES, stream
from understudy.protocol.client import connect
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import Reload
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.keeper import reload

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "protocol", "actors", "supervisor")


@pytest.fixture
def house(houses: Houses, tmp_path: Path) -> RealHouse:
    return houses(scripted(tmp_path))


async def reload_under_load(house: RealHouse, rounds: int) -> None:
    """Reload while turns stream: each goes on without a gap."""
    expected = [str(at + 1) for at in range(UPDATES)]
    async with connect(house.runtime_dir) as client, asyncio.timeout(100):
        sessions = [await client.open("rehearsal", "/tmp") for _ in range(STREAMS)]
        for at in range(rounds):
            seen = asyncio.Event()
            text = f"r{at} [[stream {UPDATES} 4]]"
            streams = [asyncio.ensure_future(stream(each, f"{each.id} {text}", seen)) for each in sessions]
            await seen.wait()
            ended = await asyncio.to_thread(house.run, "reload")
            assert 0 == ended.returncode, ended.stderr
            assert [("end_turn", expected)] * STREAMS == await asyncio.gather(*streams)


@pytest.mark.faults
def test_streams_go_on_without_a_gap_in_the_same_processes(house: RealHouse) -> None:
    actor, supervisor = house.pid(), house.supervisor()

    asyncio.run(reload_under_load(house, rounds=3))

    assert house.keeper is not None
    assert house.keeper.poll() is None
    assert actor == house.pid()
    assert supervisor != house.supervisor()


def test_what_the_last_keeper_forked_is_reaped_and_restarted_by_the_next(house: RealHouse) -> None:
    assert 0 == house.run("reload").returncode

    actor = house.pid()
    os.kill(actor, signal.SIGKILL)
    wait_until(lambda: house.pid() != actor, "the next actor")

    assert "here\n" == house.run("prompt", "rehearsal", "here").stdout
    assert 1 == house.rows()[0]["restarts"]
    assert not Path(f"/proc/{actor}").exists()


def test_the_configuration_is_read_anew(house: RealHouse) -> None:
    first = house.pid()
    house.config.write_text(house.config.read_text() + '[agent.second]\ndriver = "scripted"\n')
    assert 0 == house.run("reload").returncode
    house.pid("second")
    with_both = {row["name"]: row["pid"] for row in house.rows()}
    house.config.write_text('[agent.second]\ndriver = "scripted"\n')

    assert 0 == house.run("reload").returncode

    wait_until(lambda: not Path(f"/proc/{first}").exists(), "the actor that left the cast to be gone")
    assert first == with_both["rehearsal"]
    assert {"second": with_both["second"]} == {row["name"]: row["pid"] for row in house.rows()}


def test_the_turn_of_an_agent_that_leaves_the_configuration_goes_on_and_what_waits_is_played_when_it_is_back(
    house: RealHouse,
) -> None:
    whole = house.config.read_text()
    first = house.pid()

    def reload_with(text: str) -> None:
        house.config.write_text(text)
        ended = house.run("reload")
        assert 0 == ended.returncode, ended.stderr

    async def play() -> tuple[str, list[tuple[str, int]], str]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(100):
            session = await client.open("rehearsal", "/tmp")
            asking = await session.prompt("[[ask May I?]] [[say done]]")
            waiting = await session.prompt("[[say later]]")
            asked = await anext(each async for each in session.follow(1) if each.kind == "asked")
            await asyncio.to_thread(reload_with, '[agent.second]\ndriver = "scripted"\n')
            assert first == await asyncio.to_thread(house.pid), "another process has the turn"
            option = asked.body["params"]["options"][0]["optionId"]
            await session.answer(asked.body["ask"], {"outcome": {"outcome": "selected", "optionId": option}})
            ended = (await asking.ending()).reason
            gone = Path(f"/proc/{first}")
            await asyncio.to_thread(wait_until, lambda: not gone.exists(), "the actor that left the cast to be gone")
            rows = [(row["state"], row["queue"]) for row in house.rows() if row["name"] == "rehearsal"]
            await asyncio.to_thread(reload_with, whole)
            return ended, rows, (await waiting.ending()).reason

    assert ("end_turn", [("STOPPED", 1)], "end_turn") == asyncio.run(play())


def test_a_mistake_in_the_configuration_changes_nothing(house: RealHouse) -> None:
    supervisor = house.supervisor()
    house.config.write_text(house.config.read_text() + "turns_mx = 3\n")

    ended = house.run("reload")

    assert 2 == ended.returncode
    assert "did you mean 'turns_max'?" in ended.stderr
    assert "nothing was reloaded" in ended.stderr
    assert supervisor == house.supervisor()


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_a_configuration_that_is_gone_stays_as_it_was_whoever_asks_for_the_reload(tmp_path: Path, gone: str) -> None:
    """The command line checks before it asks; other clients do not."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "understudy.toml").write_text('[agent.own]\ndriver = "scripted"\n')
    house = RealHouse(tmp_path)
    house.keeper = subprocess.Popen(house.command("up"), cwd=place)
    try:
        actor, supervisor = house.pid("own"), house.supervisor()
        if gone == "file":
            (place / "understudy.toml").unlink()
        else:
            shutil.rmtree(place)
        verb(house.runtime_dir, Reload())
        wait_until(lambda: house.supervisor() != supervisor, "the next supervisor")
        house.wait_answering()

        assert actor == house.pid("own")
    finally:
        house.stop()


def test_code_that_cannot_be_loaded_is_a_mistake_too(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    code = "import sys; sys.modules['understudy.supervisor.shell.safe'] = None\nfrom understudy.supervisor.cli.main import main; main()"

    ended = subprocess.run([sys.executable, "-c", code, *house.command("up", "--check")[3:]], capture_output=True)

    assert 1 == ended.returncode
    assert b"understudy.supervisor.shell.safe" in ended.stderr


def test_what_a_keeper_of_another_time_left_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = os.memfd_create("left")
    os.write(memory, msgspec.msgpack.encode({"version": reload.VERSION + 1, "actors": "of another shape"}))
    monkeypatch.setenv(reload.VARIABLE, str(memory))

    with pytest.raises(ValueError, match=f"version {reload.VERSION + 1}, this one knows {reload.VERSION}"):
        reload.receive()


@pytest.mark.parametrize("part", ["supervisor/core/turns.py", "actors/drivers/scripted.py"])
def test_code_that_cannot_be_loaded_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    installed = tmp_path / "installed"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, installed / name, symlinks=True)
    monkeypatch.setenv("PYTHONPATH", str(installed / "src"))
    with RealHouse(tmp_path) as house:
        supervisor, actor = house.supervisor(), house.pid()
        (installed / part).write_text("def broken(:\n")

        ended = house.run("reload")

        assert 2 == ended.returncode
        assert Path(part).name in ended.stderr
        assert "nothing was reloaded" in ended.stderr
        assert (supervisor, actor) == (house.supervisor(), house.pid())


def test_what_the_first_keeper_that_could_reload_left_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned = {"type": "spawned", "actor": "a", "epoch": 3, "pid": 7, "started": 8}
    actor = {"spawned": spawned, "mark": "m", "status": None, "swept": 0}
    house = {"agents": [], "runtime_dir": "", "state_dir": ""}
    memory = os.memfd_create("left")
    os.write(memory, msgspec.msgpack.encode({"version": 1, "house": house, "descriptors": [], "actors": [actor]}))
    monkeypatch.setenv(reload.VARIABLE, str(memory))

    left = reload.receive()

    assert left is not None
    assert [reload.Actor(Spawned("a", 3, 7, 8), "m")] == left.actors


def test_without_a_house_it_says_so(tmp_path: Path) -> None:
    ended = RealHouse(tmp_path).run("reload")

    assert 7 == ended.returncode
    assert "no house answers" in ended.stderr


@pytest.mark.faults
@pytest.mark.parametrize("wait_ms", [0, 30, 60, 90, 120, 200])
def test_a_signal_in_the_midst_of_it_is_heard(house: RealHouse, wait_ms: int) -> None:
    assert house.keeper is not None
    supervisor = house.supervisor()
    with subprocess.Popen(house.command("reload"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reloading:
        wait_until(lambda: not Path(f"/proc/{supervisor}").exists(), "the supervisor to step aside")
        with pytest.raises(subprocess.TimeoutExpired):  # The moment is what the parameter is about.
            house.keeper.wait(wait_ms / 1000)

        house.keeper.send_signal(signal.SIGTERM)
        house.keeper.wait(20)
        assert reloading.wait(20) in (0, 1, 7)  # It does not wait for a house that is gone.

    assert [] == house.left()


def unpack_commit(commit: str, folder: Path) -> None:
    """Lay the package of `commit` into `folder`."""
    tree = subprocess.run(["git", "archive", commit, *FOLDERS], cwd=ROOT, capture_output=True, check=False)
    if tree.returncode:
        pytest.skip(f"git has no {commit} here: {tree.stderr.decode().strip()}")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=tree.stdout, check=True)


@pytest.mark.faults
def test_from_the_previous_commit_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "installed"
    unpack_commit("HEAD^", installed)
    monkeypatch.setenv("PYTHONPATH", str(installed / "src"))
    with RealHouse(tmp_path, scripted(tmp_path)) as house:
        actor = house.pid()
        before = house.run("prompt", "rehearsal", "before")
        shutil.rmtree(installed)
        installed.mkdir()
        for name in FOLDERS:
            shutil.copytree(ROOT / name, installed / name, symlinks=True)

        asyncio.run(reload_under_load(house, rounds=1))

        assert actor == house.pid()
        assert "before\n" == before.stdout
        assert "after\n" == house.run("prompt", "rehearsal", "after").stdout


BROKEN = """
import sys
from understudy.supervisor.keeper import reload
from understudy.supervisor.cli.main import main
def become(command, left):
    raise {error}("it cannot become another")
reload.become = become
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.faults
@pytest.mark.parametrize("error", ["ValueError", "OverflowError", "RecursionError", "OSError"])
def test_a_keeper_that_cannot_become_another_goes_on_whatever_the_reason(tmp_path: Path, error: str) -> None:
    house = RealHouse(tmp_path)
    command = [sys.executable, "-c", BROKEN.format(error=error)]
    with (tmp_path / "house.log").open("ab") as log:
        house.keeper = subprocess.Popen(
            [*command, *house.command("up", "-c", str(house.config))[3:]], stdout=log, stderr=log
        )
    house.wait_answering()
    try:
        actor = house.pid()

        house.run("reload")

        wait_until(lambda: "cannot reload, going on as before: it cannot become another" in house.log(), "the reason")
        house.wait_answering()
        assert actor == house.pid()
        assert house.keeper.poll() is None
    finally:
        house.stop()
