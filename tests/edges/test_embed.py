"""A house inside a program: it comes with the block, and goes with it or with the program."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import understudy
from tests.faults.house import RealHouse, wait_until
from understudy.protocol.client import Client
from understudy.protocol.errors import LocalError
from understudy.protocol.processes import stat
from understudy.supervisor.chaos.proc import keeper_of, left

EMBEDDER = """
import asyncio, sys, understudy
async def main():
    async with understudy.house() as client:
        session = await client.open("rehearsal", "/tmp")
        turn = await session.prompt("[[say in]] [[stray]] [[sleep 100000]]")
        async for item in session.follow(turn.number):
            if item.kind == "update":
                print(client.runtime_dir, flush=True)
                await asyncio.Event().wait()
asyncio.run(main())
"""


async def ask(client: Client, text: str) -> str:
    return await (await client.open("rehearsal", "/tmp")).ask(text)


def play(act: Any, *config: Any, **options: Any) -> tuple[Any, list[str], str]:
    """Return what `act` did in the block of a house, which processes were left behind it, and where it was."""

    async def run() -> Any:
        async with asyncio.timeout(30), understudy.house(*config, **options) as client:
            return await act(client), client.runtime_dir

    found, runtime_dir = asyncio.run(run())
    return found, left(runtime_dir, str(Path(runtime_dir).with_name("state"))), runtime_dir


def test_a_house_comes_and_goes_with_the_block() -> None:
    answer, remains, runtime_dir = play(lambda client: ask(client, "hello"))

    assert ("hello", []) == (answer, remains)
    assert not Path(runtime_dir).parent.exists()


def test_it_is_not_to_be_reloaded_and_stays_as_it_is() -> None:
    async def reload(client: Client) -> tuple[str, bool]:
        command = [sys.executable, "-m", "understudy", "reload", "--runtime-dir", client.runtime_dir]
        ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        return ended.stderr, Path(client.runtime_dir).exists()

    (told, there), _, _ = play(reload)

    assert "this house was not started from the command line" in told
    assert there


def test_the_cast_is_the_files_and_a_given_state_folder_keeps_the_log(tmp_path: Path) -> None:
    config = tmp_path / "cast.toml"
    config.write_text("[agent.rehearsal]\ndriver = 'scripted'\n[agent.other]\ndriver = 'scripted'\n")

    async def first(client: Client) -> list[str]:
        await ask(client, "hello")
        return [row["name"] for row in await client.verb("status")]

    async def second(client: Client) -> int:
        return len(await client.verb("sessions"))

    assert ["other", "rehearsal"] == play(first, config, state_dir=tmp_path / "kept")[0]
    assert 1 == play(second, config, state_dir=tmp_path / "kept")[0]


def test_an_error_in_the_block_ends_the_house_and_comes_out() -> None:
    async def fail(client: Client) -> None:
        raise KeyError(client.runtime_dir)

    with pytest.raises(KeyError) as caught:
        play(fail)

    assert not Path(caught.value.args[0]).parent.exists()


def test_a_cast_with_mistakes_says_which(tmp_path: Path) -> None:
    config = tmp_path / "cast.toml"
    config.write_text('[agent.rehearsal]\ndriver = "scriptd"\n')

    with pytest.raises(LocalError, match=r"cast.toml:2: agent.rehearsal.driver: .* did you mean 'scripted'"):
        play(lambda client: ask(client, "hello"), config)


def test_a_folder_that_another_house_holds_is_refused(tmp_path: Path) -> None:
    with RealHouse(tmp_path) as other:
        with pytest.raises(LocalError, match="a house already runs on"):
            play(lambda client: ask(client, "hello"), runtime_dir=other.runtime_dir, state_dir=tmp_path / "mine")
        assert other.answers()


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_nothing_is_left_of_a_house_whose_program_is_killed(number: signal.Signals) -> None:
    program = subprocess.Popen([sys.executable, "-c", EMBEDDER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with program:
        assert program.stdout is not None
        runtime_dir = program.stdout.readline().decode().strip()
        keeper = keeper_of(runtime_dir)
        assert stat(keeper)

        program.send_signal(number)
        program.wait(20)

        wait_until(lambda: stat(keeper) is None, "the house to end")
    folder = Path(runtime_dir).parent
    assert [] == left(runtime_dir, f"{folder}/state")
    assert not folder.exists()


@pytest.mark.faults
def test_a_house_whose_supervisor_and_keeper_fall_leaves_the_block_with_nothing_behind() -> None:
    async def fall(client: Client) -> str:
        answer = await ask(client, "before")
        keeper = keeper_of(client.runtime_dir)
        os.kill(keeper, signal.SIGKILL)
        await client.down.wait()
        return answer

    answer, remains, runtime_dir = play(fall)

    assert ("before", []) == (answer, remains)
    assert not Path(runtime_dir).parent.exists()


def test_the_package_is_cheap_to_import() -> None:
    program = "import sys; old = set(sys.modules); import understudy; print(sorted(set(sys.modules) - old))"

    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=environ()
    )

    assert "['understudy']\n" == done.stdout
    with pytest.raises(AttributeError, match="no attribute 'houses'"):
        understudy.houses  # noqa: B018


def environ() -> dict[str, str]:
    """Return an environment in which the package is found without the site's own machinery."""
    return {**os.environ, "PYTHONPATH": str(Path(understudy.__file__).parent.parent)}
