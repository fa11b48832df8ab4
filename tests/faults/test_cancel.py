"""A cancel is told, and the supervisor SIGKILLed before it is carried out: it is not forgotten."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import puppet
from tests.faults.house import RealHouse
from understudy.protocol.client import Client, connect
from understudy.protocol.items import Item


def house(folder: Path, grace_s: float) -> RealHouse:
    """Start a house with the puppet."""
    program = f'command = ["{sys.executable}", "-S", "{puppet.__file__}"]'
    made = RealHouse(folder, f'[agent.puppet]\ndriver = "acp"\n{program}\ncancel_grace_s = {grace_s}\n')
    made.start()
    return made


async def cancelled(client: Client, text: str, fall: Callable[[], None]) -> tuple[list[str], Item]:
    """Cancel a turn that is held, and let something fall as soon as the agent has heard it; return what it said."""
    session = await client.open("puppet", "/tmp")
    turn = await session.prompt(text)
    said: list[str] = []
    async for item in session.follow(turn.number):
        if item.kind == "update" and "content" in item.body:
            said.append(item.body["content"]["text"])
            if said == ["holding"]:
                await turn.cancel()  # Returns when the house has told that it is cancelled.
            elif said == ["holding", "cancel heard"]:
                await asyncio.to_thread(fall)
        if item.kind == "ended":
            return said, item
    raise AssertionError("the session's items ended")


def play(house: RealHouse, text: str, fall: Callable[[], None]) -> tuple[list[str], Any]:
    """Return what the agent said, and how the turn ended."""

    async def main() -> tuple[list[str], Item]:
        async with connect(house.runtime_dir, wait_s=20) as client, asyncio.timeout(60):
            return await cancelled(client, text, fall)

    try:
        said, ended = asyncio.run(main())
    finally:
        house.stop()
    return said, ended.body["reason"]


@pytest.mark.faults
def test_it_is_told_again_to_the_actor_that_is_taken_back(tmp_path: Path) -> None:
    made = house(tmp_path, grace_s=60.0)
    actor = made.pid("puppet")

    def fall() -> None:
        os.kill(made.supervisor(), signal.SIGKILL)
        made.wait_answering()
        assert actor == made.pid("puppet")

    assert (["holding", "cancel heard", "cancel heard"], "cancelled") == play(made, "stubborn", fall)


@pytest.mark.faults
def test_an_actor_that_does_not_cancel_is_ended_by_the_next_supervisor(tmp_path: Path) -> None:
    made = house(tmp_path, grace_s=2.0)

    said, reason = play(made, "deaf", lambda: os.kill(made.supervisor(), signal.SIGKILL))

    assert (["holding", "cancel heard", "cancel heard"], "cancelled") == (said, reason)


@pytest.mark.faults
def test_a_cancelled_turn_whose_actor_falls_as_well_ends_as_cancelled(tmp_path: Path) -> None:
    made = house(tmp_path, grace_s=60.0)

    def fall() -> None:
        for pid in (made.pid("puppet"), made.supervisor()):
            os.kill(pid, signal.SIGKILL)

    assert (["holding", "cancel heard"], "cancelled") == play(made, "deaf", fall)
