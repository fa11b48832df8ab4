"""Limits that real processes hit: what becomes of them, and of whoever asked."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import Houses, RealHouse, wait_until
from tests.processes.test_life import row, wait_state
from understudy.actors.drivers.terminals import LocalClient
from understudy.protocol.client import connect
from understudy.protocol.errors import LIMIT_REACHED, LocalError
from understudy.protocol.processes import children, stat
from understudy.protocol.sizes import ENTRY_BYTES_MAX, OPENING_BYTES_MAX

pytestmark = pytest.mark.faults

STRAY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        with open(sys.argv[1] + "~", "w") as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[1] + "~", sys.argv[1])
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""


def prompting(house: RealHouse, text: str, *options: str) -> "subprocess.Popen[str]":
    """Prompt, and return when the turn runs."""
    command = house.command("prompt", "a", "--json", text, *options)
    said = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert said.stdout is not None
    while json.loads(said.stdout.readline())["kind"] != "update":
        pass
    return said


def end(said: "subprocess.Popen[str]") -> None:
    said.kill()
    assert said.stdout is not None
    said.stdout.close()
    said.wait()


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_full_queue_refuses_with_the_figures(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\nturns_max = 1\nqueued_turns_max = 1\n")
    said = prompting(house, "[[say in]] [[sleep 60000]]")
    with subprocess.Popen(house.command("prompt", "a", "waits"), stdout=subprocess.DEVNULL) as queued:
        wait_until(lambda: bool(row(house, "a")["queue"]), "the second to wait")

        refused = house.run("prompt", "a", "one too many")

        assert 1 == refused.returncode
        assert "agent a: queued_turns_max: 1 of 1 turns wait; try again later" in refused.stderr
        assert "turns_max: 1 of 1 turns run" == row(house, "a")["waiting_for"]
        end(said)
        queued.kill()


def test_an_agent_with_all_its_sessions_refuses_another_and_goes_on_with_them(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\nsessions_max = 1\n")
    (first, *_) = entries(house.run("prompt", "a", "--json", "one").stdout)

    refused = house.run("prompt", "a", "two")

    assert (1, True) == (refused.returncode, "agent a: sessions_max: 1 of 1 sessions; go on in" in refused.stderr)
    assert "refused at a limit: agent a: sessions_max" in house.log()
    assert "sessions_max: 1 of 1 sessions" in house.run("status").stdout
    assert "three\n" == house.run("prompt", "a", "--session", first["session"], "three").stdout


def test_a_full_session_keeps_its_endings_and_outlives_the_house(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\nentries_max = 20\n")
    said = entries(house.run("prompt", "a", "--json", "[[stream 100]]").stdout)
    os.kill(house.supervisor(), signal.SIGKILL)
    house.wait_answering()

    refused = house.run("prompt", "a", "--session", said[0]["session"], "more")

    assert ["note", "note", "ended"] == [each["kind"] for each in said[-3:]]
    assert "83 of what the agent said or asked is not recorded (entries_max: " in said[-2]["body"]["text"]
    assert "end_turn" == said[-1]["reason"]
    assert "a: entries_max: 23 of 20 entries; open another session" in refused.stderr
    assert "entries_max: 23 of 20 entries" in house.run("sessions").stdout


def test_the_largest_opening_and_prompt_are_played_and_larger_ones_refused(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\n")

    async def talk() -> tuple[str, list[LocalError]]:
        refusals: list[LocalError] = []
        async with connect(house.runtime_dir, wait_s=20) as client:
            session = await client.open("a", "/", {"": "x" * (OPENING_BYTES_MAX - 100)})
            turn = await session.prompt([{"type": "text", "text": "[[say played]]" + "x" * (ENTRY_BYTES_MAX - 100)}])
            for attempt in (
                session.prompt("x" * ENTRY_BYTES_MAX),
                client.open("a", "/", {"": "x" * OPENING_BYTES_MAX}),
            ):
                try:
                    await attempt
                except LocalError as error:
                    refusals.append(error)
            return (await turn.ending()).reason, refusals

    reason, refusals = asyncio.run(talk())

    assert ("end_turn", [LIMIT_REACHED] * 2) == (reason, [each.code for each in refusals])
    assert all("bytes; the limit is" in each.text for each in refusals)


def test_an_agent_at_its_descriptor_limit_is_heard_and_goes_on(houses: Houses) -> None:
    house = houses("[agent.a]\ndriver = 'scripted'\nfiles = 64\n")
    before = house.pid("a")

    failed = house.run("prompt", "a", "[[files 500]]")
    os.kill(house.supervisor(), signal.SIGKILL)
    house.wait_answering()

    assert "Too many open files" in failed.stderr
    assert "still here\n" == house.run("prompt", "a", "still here").stdout
    assert before == house.pid("a")


def test_a_python_agent_at_its_data_limit_goes_on(tmp_path: Path) -> None:
    (tmp_path / "eater.py").write_text(
        "from understudy.actors.actor import Actor\n"
        "class Eater(Actor):\n"
        "    async def play(self, turn):\n"
        "        await turn.say(str(len(b'x' * (int(turn.text) << 20))))\n"
        "        return 'end_turn'\n"
    )
    house = RealHouse(tmp_path, '[agent.a]\ndriver = "python"\nplay = "eater:Eater"\nmemory = "200 MB"\n')
    house.start(before=lambda: os.chdir(tmp_path))
    try:
        before = house.pid("a")

        too_much, enough = house.run("prompt", "a", "300"), house.run("prompt", "a", "3")

        assert "failed: MemoryError" in too_much.stderr
        assert (before, "3145728\n") == (house.pid("a"), enough.stdout)
    finally:
        house.stop()


def test_starts_beyond_actors_max_wait_and_go_on_when_there_is_room(houses: Houses) -> None:
    house = houses(
        "[house]\nactors_max = 2\n[agent.a]\ndriver = 'scripted'\n[agent.b]\ndriver = 'scripted'\n[agent.c]\ndriver = 'scripted'\n"
    )
    wait_until(lambda: "waits: 2 of actors_max 2 run" == row(house, "c")["why"], "c to wait")
    prompt = subprocess.Popen(house.command("prompt", "c", "hello"), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: bool(row(house, "c")["queue"]), "a prompt to wait")
    waits = row(house, "c")["waiting_for"]

    house.run("stop", "b")

    assert "room in the house: 2 of actors_max 2 run" == waits
    assert "hello\n" == prompt.communicate(timeout=20)[0]
    assert "waits: 2 of actors_max 2 run" in house.run("start", "b").stderr


def test_memory_in_all_dismisses_the_understudy_and_nobody_else(houses: Houses) -> None:
    house = houses('[house]\nmemory = "120 MB"\n[agent.a]\ndriver = "scripted"\nunderstudies = 1\n')
    wait_state(house, "a~1", "RUNNING")
    pid, understudy = house.pid("a"), house.pid("a~1")

    said = prompting(house, "[[say in]] [[memory 105]] [[say still]] [[sleep 60000]]")
    wait_until(lambda: stat(understudy) is None, "the understudy to go")

    wait_state(house, "a~1", "STOPPED")
    assert "understudy a#2 (" in house.log()
    assert "is dismissed: memory of the house: limit 120 MB, had 1" in house.log()
    assert row(house, "a~1")["why"].startswith("waits: memory of the house: limit 120 MB, had ")
    assert pid == house.pid("a")
    end(said)


def test_turns_wait_while_memory_in_all_is_over(houses: Houses) -> None:
    house = houses('[house]\nmemory = "100 MB"\n[agent.a]\ndriver = "scripted"\n[agent.b]\ndriver = "scripted"\n')
    said = prompting(house, "[[say in]] [[child 150]] [[sleep 60000]]")
    text = "memory of the house: limit 100 MB, had "
    wait_until(lambda: any(text in each for each in row(house, "b")["limits"]), "the limit to be reached")
    waiting = subprocess.Popen(house.command("prompt", "b", "hello"), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: text in row(house, "b")["waiting_for"], "the turn to wait")

    os.kill(next(iter(children(house.pid("a")))), signal.SIGKILL)

    assert "hello\n" == waiting.communicate(timeout=20)[0]
    end(said)


def test_a_stray_of_a_program_that_called_setsid_twice_dies_with_its_actor(houses: Houses, tmp_path: Path) -> None:
    (tmp_path / "stray.py").write_text(STRAY)
    command = f"{sys.executable} -S {tmp_path}/stray.py {tmp_path}/pid"
    house = houses(f"[agent.p]\ndriver = 'program'\nstart_s = 0.05\ncommand = '{command}'\n")
    wait_until((tmp_path / "pid").exists, "the stray")
    actor, stray = house.pid("p"), int((tmp_path / "pid").read_text())
    (program,) = children(actor)

    os.kill(actor, signal.SIGKILL)
    wait_until(lambda: row(house, "p")["epoch"] == 2, "the next one")

    assert [None] * 3 == [stat(pid) for pid in (actor, program, stray)]


def test_neither_actor_nor_program_leaves_a_core_file(houses: Houses) -> None:
    house = houses("[agent.p]\ndriver = 'program'\nstart_s = 0.05\ncommand = 'sleep 1000'\n")
    actor = house.pid("p")
    (program,) = children(actor)

    assert [(0, 0)] * 2 == [resource.prlimit(pid, resource.RLIMIT_CORE) for pid in (actor, program)]


def test_what_an_agent_starts_in_a_terminal_of_ours_has_its_limits() -> None:
    async def run() -> str:
        local = LocalClient(data_limit_mb=100, files=64)
        made = await local.serve("terminal/create", {"command": "ulimit -d; ulimit -n; ulimit -c"}, "/")
        await local.serve("terminal/wait_for_exit", made, "/")
        said = str((await local.serve("terminal/output", made, "/"))["output"])
        local.close()
        return said

    assert "102400\n64\n0\n" == asyncio.run(run())
