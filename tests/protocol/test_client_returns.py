"""The client library at a real house: one that has forgotten it, one that is stopped, one whose log begins anew."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator

import pytest

from tests.faults.house import RealHouse
from understudy.protocol import endings, reconnecting
from understudy.protocol.client import Client, connect
from understudy.protocol.errors import GENERATION_CHANGED, RemoteError, UnderstudyError
from understudy.protocol.items import Item

WAIT_S_MAX = 60.0


def be_forgotten(client: Client) -> None:
    """Let the house forget the client, which goes on as if nothing was."""
    vars(client)["_machine"].leave()
    vars(client)["_connection"].flush()


async def until_ended(items: AsyncIterator[Item]) -> int:
    """Return the number of the ending that comes next; each item has the next number."""
    number = 0
    async for item in items:
        assert number in (0, item.number - 1)
        number = item.number
        if item.kind == "ended":
            break
    return number


def test_a_client_that_the_house_has_forgotten_goes_on(house: RealHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "SILENT_S", 0.05)

    async def main() -> None:
        async with asyncio.timeout(WAIT_S_MAX), connect(house.runtime_dir) as client:
            session = await client.open("rehearsal", "/")
            items = session.follow(1)
            turn = await session.prompt("[[sleep 300]] one")
            ending = asyncio.ensure_future(turn.ending())
            be_forgotten(client)
            assert "end_turn" == (await ending).reason
            number = await until_ended(items)
            be_forgotten(client)
            await session.prompt("two")
            assert number < await until_ended(items)

    asyncio.run(main())


def test_a_new_generation_of_the_log_ends_what_was_numbered_before(house: RealHouse) -> None:
    async def main() -> None:
        async with asyncio.timeout(WAIT_S_MAX), connect(house.runtime_dir) as client:
            session = await client.open("rehearsal", "/")
            turn = await session.prompt("one")
            items = session.follow(turn.number)
            await until_ended(items)
            house.stop()
            with sqlite3.connect(f"{house.state_dir}/log.sqlite") as log:
                log.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
                log.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot_id'")
            log.close()
            house.start()
            for wait in (until_ended(items), turn.ending(), turn.cancel()):
                with pytest.raises(RemoteError) as raised:
                    await wait
                assert GENERATION_CHANGED == raised.value.code
            assert await session.ask("two")

    asyncio.run(main())


def test_a_house_that_is_stopped_holds_up_no_loop_and_is_gone_on_with(
    house: RealHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does `close`, which says goodbye to it."""
    monkeypatch.setattr(reconnecting, "WELCOME_S_MAX", 0.05)

    async def main() -> None:
        supervisor = house.supervisor()
        async with asyncio.timeout(WAIT_S_MAX), connect(house.runtime_dir) as client:
            session = await client.open("rehearsal", "/")
            os.kill(supervisor, signal.SIGSTOP)
            try:
                be_forgotten(client)
                asked = asyncio.ensure_future(session.ask("one"))
                left = Client(house.runtime_dir, "leaves", None)
                with pytest.raises(UnderstudyError):
                    await left.start(0.2)
                await left.close()
            finally:
                os.kill(supervisor, signal.SIGCONT)
            assert await asked

    asyncio.run(main())


def test_sessions_whose_endings_were_awaited_are_not_followed_for_ever(
    house: RealHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "IDLE_MAX", 2)

    async def main() -> None:
        async with asyncio.timeout(WAIT_S_MAX), connect(house.runtime_dir) as client:
            for _ in range(5):
                assert await (await client.open("rehearsal", "/")).ask("one")
            assert 2 == len(vars(client)["_machine"].places)

    asyncio.run(main())


def test_whatever_is_cancelled_leaves_nothing_behind(house: RealHouse) -> None:
    async def main() -> None:
        async with asyncio.timeout(WAIT_S_MAX), connect(house.runtime_dir) as client:
            session = await client.open("rehearsal", "/")
            turn = await session.prompt("[[sleep 60000]]")
            for pause_s in (0.0, 0.0005, 0.001, 0.002, 0.005) * 6:
                waits = [
                    session.prompt("x"),
                    session.ask("x"),
                    turn.ending(),
                    session.cancel(10**6),
                    client.verb("status"),
                ]
                tasks = [asyncio.ensure_future(each) for each in waits]
                await asyncio.sleep(pause_s)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await turn.cancel()
            assert "cancelled" == (await turn.ending()).reason
            machine, waiting = vars(client)["_machine"], vars(client)["_endings"]
            assert ({}, {}, {}) == (machine.pending, vars(client)["_replies"], vars(waiting)["_expected"])
            assert all(not watch.waiting for watch in vars(waiting)["_watches"].values())

    asyncio.run(main())
