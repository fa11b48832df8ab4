"""The memory of an agent's whole tree is bounded, with the reason in words."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.test_hangs import playing, until
from tests.faults.house import Houses, RealHouse, wait_until
from understudy.protocol.client import connect


def test_a_tree_over_its_limit_is_killed_with_the_figures(tmp_path: Path) -> None:
    prompt = "[[say in]] [[child 120]] [[child 120]] [[sleep 60000]]"
    with playing(tmp_path, 'memory = "200 MB"', prompt) as (house, said):
        text = until(said, "ended")["text"]

        assert "memory: limit 200 MB, had " in text
        wait_until(lambda: "memory: limit 200 MB" in house.log(), "the log to tell")
        wait_until(lambda: "memory: limit 200 MB" in house.rows()[0]["why"], "the status to tell")


def test_a_tree_over_its_soft_limit_is_told_and_its_turn_cancelled(tmp_path: Path) -> None:
    with playing(tmp_path, 'memory_soft = "100 MB"', "[[say in]] [[child 150]] [[sleep 60000]]") as (house, said):
        pid = house.pid()

        assert "memory: soft limit 100 MB, had " in until(said, "note")["text"]
        assert "cancelled" == until(said, "ended")["reason"]
        assert pid == house.pid()


@pytest.mark.parametrize("start", ["setsid {} &", "(setsid {} &);"], ids=["its child", "nobody's child"])
def test_what_has_left_the_actors_session_counts(houses: Houses, start: str) -> None:
    """As the tools of many agents do."""
    takes = f"{sys.executable} -c 'x = bytearray(300 << 20); import time; time.sleep(100)'"
    command = f"{start.format(takes)} exec sleep 100"
    house = houses(f'[agent.a]\ndriver = "program"\ncommand = ["sh", "-c", """{command}"""]\nmemory = "100 MB"\n')

    wait_until(lambda: "memory: limit 100 MB, had 3" in house.log(), "the log to tell")


def test_an_actor_of_a_sessions_environment_has_its_agents_limit_also_when_nobody_is_connected(houses: Houses) -> None:
    house = houses('[agent.a]\ndriver = "scripted"\nmemory = "200 MB"\n')

    async def play() -> None:
        async with connect(house.runtime_dir) as client:
            session = await client.open("a", env={"NAME": "value"})
            await session.prompt("[[child 120]] [[child 120]] [[sleep 60000]]")

    asyncio.run(play())

    wait_until(lambda: "memory: limit 200 MB, had 2" in house.log(), "the log to tell")


SLOW = """
import sys, threading
from pathlib import Path
from understudy.supervisor.shell import watch
from understudy.supervisor.cli.main import main
def sample(*_):
    Path("{folder}/looks").touch()
    threading.Event().wait()
watch.sample = sample
sys.exit(main(sys.argv[1:]))
"""


def test_nobody_waits_while_the_kernel_counts_the_memory_of_a_large_program(tmp_path: Path) -> None:
    house = RealHouse(tmp_path, '[agent.rehearsal]\ndriver = "scripted"\nmemory = "1 GB"\n')
    command = [sys.executable, "-c", SLOW.format(folder=tmp_path), *house.command("up", "-c", str(house.config))[3:]]
    with (tmp_path / "house.log").open("ab") as log:
        house.keeper = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until((tmp_path / "looks").exists, "a look at the memory")

        assert "here\n" == house.run("prompt", "rehearsal", "here").stdout
    finally:
        house.stop()
