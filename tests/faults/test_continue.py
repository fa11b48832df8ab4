"""`on_crash = "continue"`: who fell in mid-turn is asked to go on, and nobody gets the same prompt twice."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.house import Houses, RealHouse
from tests.faults.test_kills import scripted
from understudy.protocol.client import connect
from understudy.protocol.frames import unpack
from understudy.supervisor.core.sessions import CONTINUATION

PROMPT = "[[stream 100000 1]]"


@pytest.fixture
def house(houses: Houses, tmp_path: Path) -> RealHouse:
    return houses(f'{scripted(tmp_path)}on_crash = "continue"\n')


async def kinds_of_a_turn_that_falls(house: RealHouse, victims: list[str]) -> list[str]:
    """Kill `victims` at once while the turn streams; return the kinds of its entries, and how it ended."""
    async with connect(house.runtime_dir) as client, asyncio.timeout(60):
        session = await client.open("rehearsal", "/tmp")
        turn = await session.prompt(PROMPT)
        pids = {"actor": house.pid(), "supervisor": house.supervisor()}
        kinds: list[str] = []
        async for item in session.follow(turn.number):
            if item.kind == "update" and "lost" not in kinds:
                for victim in victims:
                    os.kill(pids[victim], signal.SIGKILL)
                victims = []
            if item.kind != "update":
                kinds.append(item.kind)
            if item.kind == "ended":
                return [*kinds, item.body["reason"]]
    raise AssertionError("the session's items ended")


@pytest.mark.faults
@pytest.mark.parametrize("victims", [["actor"], ["actor", "supervisor"], ["supervisor", "actor"]])
def test_the_turn_goes_on_with_a_prompt_that_says_so(house: RealHouse, tmp_path: Path, victims: list[str]) -> None:
    kinds = asyncio.run(kinds_of_a_turn_that_falls(house, victims))

    got = [json.loads(line)["text"] for line in (tmp_path / "ledger").read_text().splitlines()]
    assert ["prompt", "started", "lost", "requeued", "started", "ended", "end_turn"] == kinds
    assert [PROMPT, unpack(CONTINUATION)[0]["text"]] == got
