"""What a person stopped stays stopped, whatever falls; what is asked of it waits."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.editor import Editor, says
from tests.faults.house import Houses, RealHouse, wait_until
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.errors import RemoteError
from understudy.protocol.items import Item

CAST = """
[agent.a]
driver = "scripted"
understudies = 1
stop_grace_s = 0.3
[agent.b]
driver = "scripted"
"""
NOTE = "a was stopped by a person: the turn waits for understudy start a"


Act = Callable[[Client], Awaitable[Any]]


@pytest.fixture
def house(houses: Houses) -> RealHouse:
    made = houses(CAST)
    made.pid("a")
    return made


def states(house: RealHouse) -> dict[str, str]:
    return {row["name"]: row["state"] for row in house.rows()}


def row(house: RealHouse, name: str) -> dict[str, Any]:
    return next(each for each in house.rows() if each["name"] == name)


def kill_supervisor(house: RealHouse) -> None:
    """End it, and wait until the next one has the cast up."""
    before = house.supervisor()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: house.supervisor() not in (0, before), "the next supervisor")
    house.wait_answering()
    house.pid("b")


def test_a_stopped_agent_stays_stopped_whatever_becomes_of_the_supervisor(house: RealHouse) -> None:
    house.run("stop", "a")

    for _ in range(2):
        kill_supervisor(house)

    assert {"a": "STOPPED", "a~1": "STOPPED", "b": "RUNNING"} == states(house)
    assert "stopped by a person" == row(house, "a")["why"]


def test_an_agent_that_was_started_again_is_up_after_the_supervisors_death(house: RealHouse) -> None:
    house.run("stop", "a")
    kill_supervisor(house)
    started = house.run("start", "a")
    kill_supervisor(house)

    assert "a: RUNNING\n" == started.stdout
    wait_until(lambda: states(house) == dict.fromkeys(("a", "a~1", "b"), "RUNNING"), "the whole cast")


def test_a_new_house_starts_the_whole_cast(house: RealHouse) -> None:
    house.run("stop", "all")
    house.stop()

    house.start()

    wait_until(lambda: states(house) == dict.fromkeys(("a", "a~1", "b"), "RUNNING"), "the whole cast")


def test_an_agent_that_was_still_ending_when_the_supervisor_fell_is_ended(house: RealHouse) -> None:
    prompt = subprocess.Popen(house.command("prompt", "a", "[[say in]] [[hang]]"), stdout=subprocess.PIPE)
    with prompt:
        assert prompt.stdout is not None
        assert b"i" == prompt.stdout.read(1)
        with subprocess.Popen(house.command("stop", "a"), stdout=subprocess.PIPE) as stop:
            wait_until(lambda: states(house)["a"] == "STOPPING", "the stop to be under way")

            kill_supervisor(house)

            wait_until(lambda: states(house)["a"] == states(house)["a~1"] == "STOPPED", "its end")
            assert b"a: STOPPED\n" == stop.communicate(timeout=20)[0]
        assert 1 == prompt.wait(20)


def with_client(house: RealHouse, act: Act) -> Any:
    async def run() -> Any:
        async with connect(house.runtime_dir) as client, asyncio.timeout(30):
            return await act(client)

    return asyncio.run(run())


def test_a_clients_prompt_waits_for_the_start_and_for_the_next_supervisor(house: RealHouse) -> None:
    async def play(client: Client) -> tuple[str, list[str]]:
        session = await client.open("a", "/tmp")
        await session.ask("before")
        await asyncio.to_thread(house.run, "stop", "a")
        turn = await session.prompt("after")
        assert "stopped by a person; understudy start a" == row(house, "a")["waiting_for"]
        await asyncio.to_thread(kill_supervisor, house)
        assert (1, "STOPPED") == (row(house, "a")["queue"], states(house)["a"])
        await asyncio.to_thread(house.run, "start", "a")
        ending = await turn.ending()
        notes = [item.body["text"] async for item in _until(session, turn.number) if item.kind == "note"]
        return ending.reason, notes

    assert ("end_turn", [NOTE]) == with_client(house, play)


async def _until(session: Session, turn: int) -> AsyncIterator[Item]:
    async for item in session.follow(turn):
        yield item
        if item.kind == "ended" and item.turn == turn:
            return


def test_a_turn_that_ran_is_interrupted_and_the_next_one_waits(house: RealHouse) -> None:
    async def play(client: Client) -> tuple[str, str]:
        session = await client.open("a", "/tmp")
        running = await session.prompt("[[stream 10000 5]]")
        queued = await session.prompt("next")
        async for item in session.follow(running.number):
            if item.kind == "update":
                break
        await asyncio.to_thread(house.run, "stop", "a")
        first = await running.ending()
        await asyncio.to_thread(house.run, "start", "a")
        return f"{first.reason}: {first.text}", (await queued.ending()).reason

    assert ("interrupted: agent a was stopped while this turn ran", "end_turn") == with_client(house, play)


def test_an_editors_prompt_waits_for_the_start(house: RealHouse) -> None:
    with Editor(house.command("acp", "--agent", "a")) as editor:
        session = editor.new()
        house.run("stop", "a")
        turn = editor.prompt(session, "hello")
        editor.until(says(NOTE))
        assert "stopped by a person; understudy start a" == row(house, "a")["waiting_for"]

        house.run("start", "a")

        assert {"stopReason": "end_turn"} == editor.answer(turn)["result"]


def test_an_editor_is_told_that_its_agent_was_stopped(house: RealHouse) -> None:
    with Editor(house.command("acp", "--agent", "a")) as editor:
        session = editor.new()
        editor.play(session, "hello")
        house.run("stop", "a")

        error = editor.error("session/new", cwd="/tmp", mcpServers=[])
        editor.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    assert "a was stopped by a person; understudy start a" in error["message"]
    assert "the agent is not ready: a was stopped by a person" in editor.text()


def test_a_house_that_is_shutting_down_refuses_what_comes_late(houses: Houses, tmp_path: Path) -> None:
    script = "trap '' TERM; : > \"$0\"; while :; do sleep 0.02; done"
    command = json.dumps(["sh", "-c", script, str(tmp_path / "stays")])
    house = houses(f"{CAST}[agent.p]\ndriver = 'program'\nstop_grace_s = 60\ncommand = {command}\n")
    wait_until((tmp_path / "stays").exists, "the program that heeds nothing")

    async def play(client: Client) -> list[str]:
        session = await client.open("a", "/tmp")
        await client.verb("shutdown")
        late = [
            session.prompt("late"),
            client.open("b", "/tmp"),
            *(client.verb(name, {"names": ["b"]}) for name in ("start", "stop", "restart")),
            client.verb("signal", {"names": ["b"], "signal": 1}),
        ]
        refused = await asyncio.gather(*late, return_exceptions=True)
        await client.verb("shutdown", {"hurry": True})
        return [f"{error.code}: {error.text}" for error in refused if isinstance(error, RemoteError)]

    assert ["shutting_down: the house is shutting down"] * 6 == with_client(house, play)


GRACE_S = 5.0
AT_END_OF_INPUT = """
import json, sys, time
first = json.loads(sys.stdin.readline())
print(json.dumps({"jsonrpc": "2.0", "id": first["id"], "result": {"protocolVersion": 1}}), flush=True)
sys.stdin.read()
time.sleep(WORK)
open(sys.argv[1], "w").close()
"""
AT_TERM = "trap 'sleep WORK; : > \"$0\"; exit 0' TERM; while :; do sleep 0.02; done"


@pytest.mark.parametrize("verb", ["stop", "shutdown"])
def test_a_program_has_the_whole_grace_from_the_stop_on(tmp_path: Path, verb: str) -> None:
    work = f"{0.8 * GRACE_S:g}"
    script = tmp_path / "agent.py"
    script.write_text(AT_END_OF_INPUT.replace("WORK", work))
    commands = {
        "acp": [sys.executable, str(script), str(tmp_path / "acp")],
        "program": ["sh", "-c", AT_TERM.replace("WORK", work), str(tmp_path / "program")],
    }
    with RealHouse(
        tmp_path,
        "".join(
            f"[agent.{driver}]\ndriver = '{driver}'\nstop_grace_s = {GRACE_S}\nstart_s = 0.5\ncommand = {json.dumps(it)}\n"
            for driver, it in commands.items()
        ),
    ) as house:
        for name in commands:
            house.pid(name)

        ended = house.run(verb, *(["all"] if verb == "stop" else []))

        assert 0 == ended.returncode, ended.stderr
        assert [True, True] == [(tmp_path / name).exists() for name in commands]


def test_one_that_heeds_nothing_is_killed_when_the_grace_is_over(tmp_path: Path) -> None:
    script = "trap '' TERM; while :; do sleep 0.02; done"
    command = json.dumps(["sh", "-c", script])
    with RealHouse(tmp_path, f"[agent.p]\ndriver = 'program'\nstop_grace_s = 0.3\ncommand = {command}\n") as house:
        house.pid("p")

        assert "p: STOPPED\n" == house.run("stop", "p").stdout
