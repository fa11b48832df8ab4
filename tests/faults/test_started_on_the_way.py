"""A house that an editor started is nobody's child: whatever the editor's own killer ends, the house lives on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.editor import Editor, says
from tests.faults.house import RealHouse, wait_until
from understudy.protocol.errors import UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.processes import descriptors, parents, stat
from understudy.protocol.verbs import Shutdown
from understudy.supervisor.chaos.proc import keeper_of
from understudy.supervisor.starting import UpError, start_in_background


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RealHouse]:
    """A house that nobody has started."""
    house = RealHouse(tmp_path)
    yield house
    with suppress(UnderstudyError):
        verb(house.runtime_dir, Shutdown(hurry=True))
    wait_until(lambda: not house.left(), "nothing to be left")


def tree(root: int) -> list[int]:
    """Return a process and all below it, by their parents."""
    whose, found = parents(), [root]
    for pid in found:
        found += [child for child, parent in whose.items() if parent == pid]
    return found


def of_group(root: int) -> list[int]:
    """Return the processes of a process's group and of its session, which it leads."""
    mine = stat(root)
    assert mine is not None
    assert [str(root).encode()] * 2 == mine[2:4]
    fields = {pid: stat(pid) for pid in parents()}
    return [pid for pid, its in fields.items() if its is not None and (its[2] == mine[2] or its[3] == mine[3])]


@pytest.mark.parametrize("whom", [tree, of_group], ids=["by parents", "by group and session"])
def test_a_client_that_ends_its_whole_tree_ends_neither_the_house_nor_anothers_turn(
    alone: RealHouse, whom: Callable[[int], list[int]]
) -> None:
    command = alone.command("acp", "-c", str(alone.config))
    with Editor(["setsid", "--wait", *command]) as first:
        first.new()
        keeper = keeper_of(alone.runtime_dir)
        with Editor(command) as second:
            turn = second.prompt(second.new(), "[[stream 300 10]]")
            second.until(says("3 "))

            doomed = whom(first.process.pid)
            for pid in doomed:
                os.kill(pid, signal.SIGKILL)

            assert keeper not in doomed
            assert "end_turn" == second.answer(turn)["result"]["stopReason"]
    assert keeper == keeper_of(alone.runtime_dir)
    assert stat(keeper) is not None


def test_the_keeper_has_a_session_of_its_own_and_holds_nothing_of_its_starters(alone: RealHouse) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        pid = start_in_background(str(alone.config), alone.runtime_dir, alone.state_dir)

        fields = stat(pid)
        assert fields is not None
        assert [str(pid).encode()] * 2 == fields[2:4]  # Its group, its session.
        assert pid not in tree(os.getpid())
        assert os.readlink(f"/proc/self/fd/{writer}") not in descriptors(pid)
    finally:
        os.close(reader)
        os.close(writer)


def test_one_that_does_not_come_up_tells_its_status_and_last_words(alone: RealHouse) -> None:
    alone.config.write_text('[agent.a]\ndriver = "scriptd"\n')

    with pytest.raises(UpError, match=r"(?s)status 2.*did you mean 'scripted'"):
        start_in_background(str(alone.config), alone.runtime_dir, alone.state_dir)


def test_one_that_is_killed_while_it_starts_is_told(alone: RealHouse) -> None:
    """Its Python kills itself once it has left whoever started it."""
    folder = alone.folder / "modules"
    folder.mkdir()
    (folder / "setproctitle.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    program = f"""
from understudy.supervisor.starting import UpError, start_in_background
try:
    start_in_background({str(alone.config)!r}, {alone.runtime_dir!r}, {alone.state_dir!r})
except UpError as error:
    print(error)
"""
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ, timeout=60)

    assert "the house did not start (status -9)" in done.stdout


def test_modules_in_the_starters_folder_are_not_run_in_place_of_ours(
    alone: RealHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "zmq", "msgspec", "setproctitle", "understudy"):
        (alone.folder / f"{name}.py").write_text("raise SystemExit('a stranger ran')\n")
    monkeypatch.chdir(alone.folder)

    pid = start_in_background(str(alone.config), alone.runtime_dir, alone.state_dir)

    assert pid == keeper_of(alone.runtime_dir)
    assert "a stranger ran" not in Path(alone.state_dir, "house.log").read_text()


def test_it_is_reloaded_like_any_other(alone: RealHouse) -> None:
    pid = start_in_background(str(alone.config), alone.runtime_dir, alone.state_dir, 3600.0)

    done = alone.run("reload")

    assert 0 == done.returncode, done.stderr
    assert pid == keeper_of(alone.runtime_dir)
