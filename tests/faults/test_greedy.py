"""One client after the other takes what it can of a house: its memory stays bounded, others are served, all is given back."""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.greedy import HOW
from tests.faults.house import RealHouse, wait_until
from understudy.protocol.client import connect

ABOVE_REST_MB_MAX = 100
AFTERWARDS_MB_MAX = 30
CALM_ASKS = 300
CONFIG = """
[agent.rehearsal]
driver = "scripted"
[agent.away]
driver = "scripted"
[agent.asks]
driver = "python"
play = "asking:Asking"
"""
ASKING = """
import asyncio
from understudy.actors.actor import Actor

class Asking(Actor):
    async def play(self, turn):
        body = {"path": "/x", "content": "x" * 15_000_000}
        asking = [asyncio.ensure_future(turn.ask("fs/write_text_file", body, public=False)) for _ in range(20)]
        done, waiting = set(), set(asking)
        while len(waiting) > 1:  # One is asked.
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for each in waiting:
            each.cancel()
        refused = sum("too many questions are open" in str(each.exception()) for each in done)
        await turn.say(f"{refused} refused")
        return "end_turn"
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RealHouse]:
    (tmp_path / "asking.py").write_text(ASKING)
    made = RealHouse(tmp_path, CONFIG)
    made.asserts = False  # It counts what a house costs that does not look at itself.
    made.start(before=lambda: os.chdir(tmp_path))
    made.pid("away")
    assert made.run("stop", "away").returncode == 0
    yield made
    made.stop()


def memory_mb(pid: int, what: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def asked(house: RealHouse, until: Callable[[int], bool]) -> list[float]:
    """Ask another agent again and again, `until(so many asks)`; return how many seconds each took."""
    took: list[float] = []
    async with connect(house.runtime_dir, wait_s=60) as client:
        session = await client.open("rehearsal", "/tmp")
        while not until(len(took)):
            began = time.perf_counter()
            assert f"{len(took)}" == await asyncio.wait_for(session.ask(f"{len(took)}"), 60)
            took.append(time.perf_counter() - began)
    return took


async def asked_beside(house: RealHouse, how: str, peak: Callable[[], None]) -> list[float]:
    """Ask while a greedy client takes what it can; `peak` is called when it has it all."""
    pipe = asyncio.subprocess.PIPE
    arguments = ("-m", "tests.faults.greedy", how, house.runtime_dir)
    # A process of its own: in this one it would take the time of who asks, not that of the house.
    greedy = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
    assert greedy.stdin is not None
    assert greedy.stdout is not None
    try:
        assert await greedy.stdout.readline() == b"began\n"
        done = asyncio.ensure_future(greedy.stdout.readline())
        took = await asked(house, lambda count: done.done() and count > 0)
        assert await done == b"done\n"
        peak()
    finally:
        greedy.stdin.close()
        assert await greedy.wait() == 0
    return took


@pytest.mark.faults
@pytest.mark.parametrize("how", HOW)
def test_a_greedy_client_costs_the_house_little_and_others_are_served(house: RealHouse, how: str) -> None:
    supervisor = house.supervisor()
    calm = sorted(asyncio.run(asked(house, lambda count: count == CALM_ASKS)))
    rest = memory_mb(supervisor, "VmRSS")
    forget_peak(supervisor)
    peaks: list[float] = []
    busy = sorted(asyncio.run(asked_beside(house, how, lambda: peaks.append(memory_mb(supervisor, "VmHWM") - rest))))
    median = statistics.median(calm)
    print(
        f"{how}: {peaks[0]:.0f} MB above rest; {len(busy)} asks of others took {statistics.median(busy) / median:.2f} "
        f"times as long, a tenth of them {busy[len(busy) * 9 // 10] / median:.1f}, the longest {1e3 * busy[-1]:.0f} ms"
    )

    def given_back() -> bool:
        return memory_mb(supervisor, "VmRSS") - rest <= AFTERWARDS_MB_MAX

    assert peaks[0] <= ABOVE_REST_MB_MAX
    wait_until(given_back, f"memory to be given back to {rest:.0f} MB")
    assert supervisor == house.supervisor()
