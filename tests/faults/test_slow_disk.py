"""A disk that is slow, or stands still, under a real house: it waits, and nothing is lost or taken for a hang.

Slow is each write to the log's files, by a library that is preloaded into the house (`slow_disk.c`).
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.house import RealHouse, wait_until
from tests.faults.promises import kept
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.items import Item
from understudy.supervisor.chaos.ledger import Accepted

WRITE_US = 15_000
UPDATES = 60
STREAMS = 3


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    made = tmp_path_factory.mktemp("library") / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture
def house(tmp_path: Path, library: Path) -> Iterator[RealHouse]:
    """A house on a disk that is as slow as the file `delay` says, in microseconds a write."""
    made = RealHouse(
        tmp_path,
        '[house]\norphan_grace_s = 60\n[agent.rehearsal]\ndriver = "scripted"\nquiet_timeout_s = 2\n'
        f'restart = {{ intensity = 1000 }}\noptions = {{ ledger = "{tmp_path}/ledger" }}\n',
    )
    made.start(environ={"LD_PRELOAD": str(library), "SLOW_DISK": str(tmp_path / "delay")})
    made.pid()
    yield made
    slow_down(made, 0)
    made.stop()


def slow_down(house: RealHouse, delay_us: int) -> None:
    (house.folder / "delay.next").write_text(str(delay_us))
    (house.folder / "delay.next").rename(house.folder / "delay")


async def stream(session: Session, accepted: Accepted, saw: Callable[[Item], None]) -> list[Item]:
    """Play a turn; return all of its items."""
    text = f"{session.id} [[stream {UPDATES} 5]]"
    turn = await session.prompt(text)
    accepted.turns[session.id, turn.number] = text
    items: list[Item] = []
    async for item in session.follow(turn.number):
        items.append(item)
        saw(item)
        if item.kind == "ended":
            return items
    raise AssertionError("the session's items ended")


def play(house: RealHouse, accepted: Accepted, beside: Callable[[], None]) -> list[list[Item]]:
    """Play streams; `beside` is called in a thread of its own once all are under way."""

    async def act(client: Client) -> list[list[Item]]:
        under_way = asyncio.Event()
        sessions = [await client.open("rehearsal", "/tmp") for _ in range(STREAMS)]
        silent = {each.id for each in sessions}

        def saw(item: Item) -> None:
            if item.kind == "update":
                silent.discard(item.session)
            if not silent:
                under_way.set()

        streams = [asyncio.ensure_future(stream(each, accepted, saw)) for each in sessions]
        await under_way.wait()
        await asyncio.to_thread(beside)
        return await asyncio.gather(*streams)

    async def run() -> list[list[Item]]:
        async with connect(house.runtime_dir, wait_s=20) as client, asyncio.timeout(100):
            return await act(client)

    return asyncio.run(run())


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["nobody", "supervisor", "actor"])
def test_on_a_slow_disk_all_is_recorded_whoever_is_killed(house: RealHouse, tmp_path: Path, victim: str) -> None:
    slow_down(house, WRITE_US)
    accepted = Accepted()

    def kill() -> None:
        if victim != "nobody":
            os.kill(house.supervisor() if victim == "supervisor" else house.pid(), signal.SIGKILL)

    played = play(house, accepted, kill)

    reasons = kept(house.runtime_dir, accepted, tmp_path / "ledger")
    ended_well = STREAMS - reasons["interrupted"] if victim == "actor" else STREAMS  # Some may before the kill.
    assert (ended_well, 0) == (reasons["end_turn"], reasons["unseen"])
    for items in played:
        assert [items[0].number + at for at in range(len(items))] == [item.number for item in items]


@pytest.mark.faults
@pytest.mark.slow
def test_a_disk_that_stands_still_is_no_hang_of_the_agent(house: RealHouse) -> None:
    def stand_still() -> None:
        slow_down(house, 4_000_000)
        wait_until(lambda: not house.answers(), "the house to wait for its disk")
        slow_down(house, 0)

    played = play(house, Accepted(), stand_still)

    for items in played:
        assert [("prompt", 1), ("started", 1), ("update", UPDATES), ("ended", 1)] == [
            (kind, sum(item.kind == kind for item in items)) for kind in dict.fromkeys(item.kind for item in items)
        ]
        assert "end_turn" == items[-1].body["reason"]
    assert 0 == house.rows()[0]["restarts"]
