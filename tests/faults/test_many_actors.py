"""Agents that more than one actor plays, or none until a prompt comes, and understudies for all that are launched alike."""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from tests.faults.promises import kept
from tests.faults.test_kills import one_round, scripted
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.items import Item
from understudy.supervisor.chaos.ledger import Accepted

FEW = """
[agent.one]
driver = "scripted"
sessions_per_actor = 1
actors_max = 3
"""
PARTS = """
[agent.base]
driver = "scripted"
understudies = 1

[agent.first]
as = "base"
idle_stop_s = 0.3

[agent.second]
as = "base"
start = "eager"
"""


@contextmanager
def a_house(folder: Path, text: str) -> Iterator[RealHouse]:
    with RealHouse(folder, text) as house:
        yield house


def row(house: RealHouse, name: str) -> dict[str, Any]:
    return next((each for each in house.rows() if each["name"] == name), {"state": "none", "pid": None})


async def until_said(session: Session, count: int) -> list[Item]:
    """Return the first items of the session, up to its `count`th update."""
    seen: list[Item] = []
    async for item in session.follow(1):
        seen.append(item)
        if sum(each.kind == "update" for each in seen) >= count:
            return seen
    raise AssertionError("the follow ended")


async def streaming(client: Client, agent: str, count: int) -> list[Session]:
    """Return so many sessions of an agent that speak without end."""
    sessions = [await client.open(agent) for _ in range(count)]
    for session in sessions:
        await session.prompt("[[stream 100000 5]]")
        await until_said(session, 1)
    return sessions


def test_each_session_has_an_actor_of_its_own_and_only_that_ones_notices_its_fall(tmp_path: Path) -> None:
    async def play(house: RealHouse) -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            sessions = await streaming(client, "one", 3)
            pids = [row(house, name)["pid"] for name in ("one", "one/2", "one/3")]
            os.kill(pids[1], signal.SIGKILL)
            wait_until(lambda: row(house, "one/2")["pid"] not in (None, pids[1]), "another in its place")
            os.kill(house.supervisor(), signal.SIGKILL)
            house.wait_answering()
            for name in ("one", "one/2", "one/3"):
                house.pid(name)
            others = [each for session in sessions[::2] for each in await until_said(session, 200)]
            assert [pids[0], pids[2]] == [row(house, name)["pid"] for name in ("one", "one/3")]
            assert not [each for each in others if each.kind in ("lost", "ended")]
            assert "interrupted" == (await client.ending(sessions[1].id, 2)).reason

    with a_house(tmp_path, FEW) as house:
        asyncio.run(play(house))


def test_a_session_more_than_there_are_places_for_takes_that_of_an_idle_one(tmp_path: Path) -> None:
    async def play(house: RealHouse) -> list[str]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            said = []
            for number in range(5):
                turn = await (await client.open("one")).prompt(f"number {number}")
                said.append((await turn.ending()).reason)
            return said

    with a_house(tmp_path, FEW) as house:
        assert ["end_turn"] * 5 == asyncio.run(play(house))
        assert {"one", "one/2", "one/3"} >= {each["name"] for each in house.rows()}


def test_an_understudy_takes_over_for_any_agent_of_its_launch_and_a_lazy_one_is_there_at_once(tmp_path: Path) -> None:
    async def play(house: RealHouse) -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            for name in ("base", "second"):
                spare, fallen = house.pid("base~1"), house.pid(name)
                os.kill(fallen, signal.SIGKILL)
                wait_until(lambda name=name, spare=spare: row(house, name)["pid"] == spare, "the understudy to play")  # type: ignore[misc]
            assert ("STOPPED", "lazy: a prompt starts it") == (row(house, "first")["state"], row(house, "first")["why"])
            house.pid("base~1")
            assert 0 == house.run("status").returncode
            spare = house.pid("base~1")
            turn = await (await client.open("first")).prompt("hello")
            assert "end_turn" == (await turn.ending()).reason
            assert spare == row(house, "first")["pid"]
            wait_until(lambda: row(house, "first")["state"] == "STOPPED", "the idle one to end")
            assert "idle" in row(house, "first")["why"]

    with a_house(tmp_path, PARTS) as house:
        asyncio.run(play(house))


def test_whoever_holds_a_lazy_agent_keeps_it_up(tmp_path: Path) -> None:
    async def play(house: RealHouse) -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("first")
            feed = session.follow(1, holds=True)
            await anext(feed)
            await (await session.prompt("hello")).ending()
            pid = row(house, "first")["pid"]
            turns = [await (await (await client.open("second")).prompt("[[sleep 400]]")).ending() for _ in range(2)]
            assert ["end_turn"] * 2 == [each.reason for each in turns]
            assert (pid, "RUNNING") == (row(house, "first")["pid"], row(house, "first")["state"])
            await feed.aclose()
            wait_until(lambda: row(house, "first")["state"] == "STOPPED", "the one that nobody holds to end")

    with a_house(tmp_path, PARTS) as house:
        asyncio.run(play(house))


KILLS = int(os.environ.get("UNDERSTUDY_FAULT_ROUNDS", "5"))
SEVERAL = "sessions_per_actor = 1\nactors_max = {most}\n"
SHARED = 'understudies = 1\n[agent.other]\nas = "rehearsal"\nstart = "eager"\n'


async def killed(house: RealHouse, agents: list[str], find: Callable[[], int], moments: random.Random) -> Accepted:
    """Play a session of each of `agents` at once, and kill whom `find` names at a random moment, in each round."""
    accepted = Accepted()
    async with connect(house.runtime_dir, wait_s=20) as client:
        sessions = [(await client.open(agent, "/tmp")).id for agent in agents]
        for at in range(KILLS):
            await one_round(client, sessions, f"r{at} [[stream 5 2]]", accepted, find, moments, None)
    return accepted


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["an actor", "the supervisor"])
@pytest.mark.parametrize(
    ("settings", "agents"),
    [
        pytest.param(SEVERAL.format(most=3), ["rehearsal"] * 3, id="an actor for each session"),
        pytest.param(SEVERAL.format(most=2), ["rehearsal"] * 4, id="fewer actors than sessions"),
        pytest.param(SHARED, ["rehearsal", "other"] * 2, id="two agents with one understudy"),
    ],
)
def test_nothing_is_lost_or_run_twice(tmp_path: Path, victim: str, settings: str, agents: list[str]) -> None:
    moments = random.Random(20261122)

    def find() -> int:
        if victim == "the supervisor":
            return house.supervisor()
        running = [each["pid"] for each in house.rows() if each["state"] == "RUNNING" and "~" not in each["name"]]
        return int(moments.choice(running)) if running else house.pid(agents[0])

    with a_house(tmp_path, scripted(tmp_path) + settings) as house:
        accepted = asyncio.run(killed(house, agents, find, moments))
        reasons = kept(house.runtime_dir, accepted, tmp_path / "ledger")

    print(f"{victim}: {KILLS} kills, {len(accepted.turns)} turns: {dict(reasons)}")
    assert KILLS * len(agents) == len(accepted.turns)
