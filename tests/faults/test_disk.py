"""A disk that is full or read-only under a real house: nothing told that is not recorded, nothing lost, life goes on."""

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from tests.faults.promises import kept
from understudy.protocol.client import Client, Session, Turn, connect
from understudy.protocol.errors import LOG_STALLED, RemoteError, UnderstudyError
from understudy.protocol.processes import stat
from understudy.supervisor.chaos.faults import fill
from understudy.supervisor.chaos.ledger import Accepted

STREAMS = 3
UPDATES = 1500
CANNOT_WRITE = "the log, which cannot be written"


def mount(folder: Path, *options: str) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=4m", "mode=700", *options]), "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RealHouse]:
    """A house that is not started, whose state folder, its own log included, is a small disk."""
    made = RealHouse(
        tmp_path,
        '[house]\norphan_grace_s = 60\n[agent.rehearsal]\ndriver = "scripted"\n'
        f'options = {{ ledger = "{tmp_path}/ledger" }}\n',
    )
    state = Path(made.state_dir)
    mount(state)
    (tmp_path / "house.log").symlink_to(state / "house.log")
    yield made
    try:
        ballast(made).unlink(missing_ok=True)
        if made.keeper is not None:
            made.stop()
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def ballast(house: RealHouse) -> Path:
    return Path(house.state_dir, "ballast")


class Watch:
    """What a client has seen of a session, and the turns that were accepted in it."""

    def __init__(self, session: Session, accepted: Accepted) -> None:
        self.session = session
        self.items: list[Any] = []
        self.turns: list[Turn] = []
        self._accepted = accepted
        self._following = asyncio.ensure_future(self._follow())

    async def prompt(self, text: str) -> Turn:
        whole = f"{self.session.id} {len(self.turns)} {text}"
        turn = await self.session.prompt(whole)
        self._accepted.turns[self.session.id, turn.number] = whole
        self.turns.append(turn)
        return turn

    async def _follow(self) -> None:
        async for item in self.session.follow(1):
            self.items.append(item)

    def close(self) -> None:
        self._following.cancel()


@asynccontextmanager
async def streaming(house: RealHouse, client: Client, accepted: Accepted) -> AsyncIterator[list[Watch]]:
    """Streams that have begun, on a disk that is full and that the house has found full."""
    watches = [Watch(await client.open("rehearsal", "/tmp"), accepted) for _ in range(STREAMS)]
    for each in watches:
        await each.prompt(f"[[stream {UPDATES} 1]]")
    await until(lambda: all(len(each.items) > 20 for each in watches))
    await asyncio.to_thread(fill, ballast(house))
    await until(lambda: waiting_for(house).startswith(CANNOT_WRITE))
    try:
        yield watches
    finally:
        for each in watches:
            each.close()


async def until(holds: Any) -> None:
    await asyncio.to_thread(wait_until, holds, "what the test waits for")


def waiting_for(house: RealHouse) -> str:
    with suppress(UnderstudyError):
        return str(house.rows()[0]["waiting_for"])
    return ""


async def refused(watch: Watch) -> tuple[str, list["asyncio.Task[Turn]"]]:
    """Prompt until one is refused; return why, and the prompts before it, which wait."""
    waiting: list[asyncio.Task[Turn]] = []
    while True:
        waiting.append(asyncio.ensure_future(watch.prompt("[[say late]]")))
        await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        assert not any(task.done() and task.exception() is None for task in waiting), "accepted and not recorded"
        if waiting[-1].done() and isinstance(error := waiting.pop().exception(), RemoteError):
            return f"{error.code}: {error.text}", waiting


def play(house: RealHouse, accepted: Accepted, act: Any) -> Any:
    async def run() -> Any:
        async with (
            connect(house.runtime_dir, wait_s=20) as client,
            asyncio.timeout(100),
            streaming(house, client, accepted) as watches,
        ):
            return await act(watches)

    return asyncio.run(run())


def judged(house: RealHouse, tmp_path: Path, accepted: Accepted, watches: list[Watch]) -> dict[str, int]:
    """Return how the accepted turns ended, once every promise was checked; what was seen must be in the log."""

    async def logged(watch: Watch) -> list[Any]:
        async with connect(house.runtime_dir, wait_s=20) as client:
            items: list[Any] = []
            async for item in client.session(watch.session.id).follow(1):
                items.append(item)
                if item.number >= watch.items[-1].number:
                    return items
        raise AssertionError("the session's items ended")

    reasons = kept(house.runtime_dir, accepted, tmp_path / "ledger")
    for watch in watches:
        assert watch.items == asyncio.run(logged(watch))[: len(watch.items)]
    return {reason: count for reason, count in reasons.items() if count}


@pytest.mark.faults
@pytest.mark.slow
def test_a_full_disk_stops_what_is_told_but_not_the_house(house: RealHouse, tmp_path: Path) -> None:
    house.start()
    accepted = Accepted()

    async def act(watches: list[Watch]) -> tuple[str, list[Watch]]:
        seen = [len(each.items) for each in watches]
        reason, waiting = await refused(watches[0])
        assert seen == [len(each.items) for each in watches]
        assert [] == [task for task in waiting if task.done()]
        ballast(house).unlink()
        late = await asyncio.gather(*waiting)
        for turn in [*(turn for each in watches for turn in each.turns), *late]:
            await turn.ending()
        return reason, watches

    actor, supervisor = house.pid(), house.supervisor()
    reason, watches = play(house, accepted, act)

    assert reason.startswith(f"{LOG_STALLED}: the log cannot be written")
    assert f"{house.state_dir}/log.sqlite: No space left on device; free some space on its disk" in reason
    assert {"end_turn": len(accepted.turns)} == judged(house, tmp_path, accepted, watches)
    assert (actor, supervisor) == (house.pid(), house.supervisor())


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["supervisor", "actor", "keeper"])
def test_whoever_is_killed_on_a_full_disk_nothing_that_was_told_is_lost(
    house: RealHouse, tmp_path: Path, victim: str
) -> None:
    house.start()
    accepted = Accepted()

    async def act(watches: list[Watch]) -> list[Watch]:
        assert house.keeper is not None
        waiting = asyncio.ensure_future(watches[0].prompt("[[say late]]"))
        supervisor = house.supervisor()
        pid = {"supervisor": supervisor, "actor": house.pid(), "keeper": house.keeper.pid}[victim]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: stat(pid) is None)
        if victim == "supervisor":
            await until(lambda: house.supervisor() not in (0, supervisor))
        if victim == "keeper":
            house.keeper.wait()
            await until(lambda: not house.left())
        ballast(house).unlink()
        if victim == "keeper":
            await asyncio.to_thread(house.start)
        await waiting
        for turn in [turn for each in watches for turn in each.turns]:
            await turn.ending()
        return watches

    actor = house.pid()
    watches = play(house, accepted, act)

    reasons = judged(house, tmp_path, accepted, watches)
    if victim == "supervisor":
        assert ({"end_turn": STREAMS + 1}, actor) == (reasons, house.pid())
    else:
        assert {"end_turn": 1, "interrupted": STREAMS} == reasons


@pytest.mark.faults
def test_a_supervisor_that_cannot_start_for_the_disk_is_tried_until_it_can(house: RealHouse) -> None:
    (house.folder / "house.log").unlink()  # This one is to be read: not on the full disk.
    house.start()
    assert house.keeper is not None
    first, actor = house.supervisor(), house.pid()
    os.kill(house.keeper.pid, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: stat(first) is None, "the supervisor's end")
    with closing(sqlite3.connect(Path(house.state_dir, "log.sqlite"))) as log:
        log.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # Whoever opens it next has to make files.
    fill(ballast(house))
    os.kill(house.keeper.pid, signal.SIGCONT)
    wait_until(lambda: house.log().count("free some space on its disk") >= 3, "some supervisors to fail")
    assert not house.answers()
    ballast(house).unlink()

    house.wait_answering()
    assert actor == house.pid()


@pytest.mark.faults
def test_an_agent_is_stopped_and_the_house_shut_down_on_a_full_disk(house: RealHouse) -> None:
    house.start()
    assert house.keeper is not None
    keeper = house.keeper

    async def act(_: list[Watch]) -> None:
        actor = house.pid()
        with subprocess.Popen(house.command("stop", "rehearsal"), stdout=subprocess.DEVNULL) as stop:
            await until(lambda: stat(actor) is None)
            assert "STOPPED" == house.rows()[0]["state"]
            assert 0 == (await asyncio.to_thread(house.run, "shutdown")).returncode
            stop.kill()

    play(house, Accepted(), act)

    assert 0 == keeper.wait(20)
    assert [] == house.left()


@pytest.mark.faults
@pytest.mark.parametrize("free", [0, 1, 8])
@pytest.mark.parametrize("detach", [[], ["-d"]], ids=["foreground", "background"])
def test_a_house_that_starts_on_a_full_disk_says_so(house: RealHouse, free: int, detach: list[str]) -> None:
    spare = Path(house.state_dir, "spare")
    spare.write_bytes(bytes(free * os.sysconf("SC_PAGE_SIZE")))
    fill(ballast(house))
    spare.unlink()

    up = house.run("up", *detach, "-c", str(house.config))

    assert 1 == up.returncode
    assert house.state_dir in up.stderr
    assert "free some space" in up.stderr
    assert "Traceback" not in up.stderr


@pytest.mark.faults
@pytest.mark.parametrize("detach", [[], ["-d"]], ids=["foreground", "background"])
@pytest.mark.parametrize("which", ["runtime", "state"])
def test_a_house_whose_folder_is_read_only_says_so(tmp_path: Path, which: str, detach: list[str]) -> None:
    house = RealHouse(tmp_path)
    folder = {"runtime": house.runtime_dir, "state": house.state_dir}[which]
    mount(Path(folder))
    try:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)

        up = house.run("up", *detach, "-c", str(house.config))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)

    assert 1 == up.returncode
    assert f"{folder}" in up.stderr
    assert "Read-only file system" in up.stderr
    assert f"--{which}-dir" in up.stderr
    assert "Traceback" not in up.stderr
