"""The supervisor is SIGKILLed; its actors work on and are taken back: nothing lost, nothing twice, same processes."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.faults.house import Houses, RealHouse
from tests.faults.test_kills import ROUNDS, program, scripted
from understudy.protocol.client import Client, Session, connect

STREAMS = 10
UPDATES = 60


@pytest.fixture(params=["scripted", "program"])
def house(request: pytest.FixtureRequest, houses: Houses, tmp_path: Path) -> RealHouse:
    return houses({"scripted": scripted, "program": program}[request.param](tmp_path))


async def stream(session: Session, text: str, seen: asyncio.Event) -> tuple[str, list[str]]:
    """Play a turn; return how it ended and the words it said, in order."""
    turn = await session.prompt(text)
    words: list[str] = []
    number = turn.number - 1
    async for item in session.follow(turn.number):
        assert number + 1 == item.number
        number = item.number
        if item.kind == "update" and item.turn == turn.number:
            words += item.body["content"]["text"].split()
            if len(words) == UPDATES // 4:
                seen.set()
        if item.kind == "ended" and item.turn == turn.number:
            return str(item.body["reason"]), words
    raise AssertionError("the session's items ended")


@pytest.mark.faults
@pytest.mark.timeout(280)
def test_streams_go_on_without_a_gap_in_the_same_processes(house: RealHouse, request: pytest.FixtureRequest) -> None:
    is_program = "program" in request.node.name
    text = f"[[stream {UPDATES} 2]]"
    expected = [str(at) for at in range(UPDATES)] if is_program else [str(at + 1) for at in range(UPDATES)]

    async def play(client: Client) -> None:
        sessions = [await client.open("rehearsal", "/tmp") for _ in range(STREAMS)]
        for at in range(max(1, ROUNDS // 6)):
            seen = asyncio.Event()
            streams = [asyncio.ensure_future(stream(each, f"r{at} {each.id} {text}", seen)) for each in sessions]
            await seen.wait()
            os.kill(house.supervisor(), signal.SIGKILL)
            assert [("end_turn", expected)] * STREAMS == await asyncio.gather(*streams)

    async def main() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(240):
            await play(client)

    actor = house.pid()
    asyncio.run(main())

    assert actor == house.pid()
    assert 0 == house.rows()[0]["restarts"]


@pytest.mark.faults
def test_a_supervisor_that_hangs_is_ended_and_its_turns_go_on(tmp_path: Path) -> None:
    house = RealHouse(tmp_path, scripted(tmp_path))
    house.start()

    async def main() -> tuple[str, list[str]]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session, seen = await client.open("rehearsal", "/tmp"), asyncio.Event()
            playing = asyncio.ensure_future(stream(session, f"[[stream {UPDATES} 2]]", seen))
            await seen.wait()
            os.kill(house.supervisor(), signal.SIGSTOP)
            return await playing

    try:
        actor = house.pid()
        assert ("end_turn", [str(at + 1) for at in range(UPDATES)]) == asyncio.run(main())
        assert actor == house.pid()
        assert "the supervisor hangs" in house.log()
    finally:
        house.stop()


@pytest.mark.faults
def test_a_question_that_was_open_is_open_again_and_its_answer_arrives(tmp_path: Path) -> None:
    house = RealHouse(tmp_path, scripted(tmp_path))
    house.start()

    async def main() -> list[str]:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            session = await client.open("rehearsal", "/tmp")
            turn = await session.prompt("[[ask May I?]] [[say done]]")
            kinds: list[str] = []
            async for item in session.follow(turn.number):
                kinds.append(item.kind)
                if item.kind == "asked":
                    supervisor = house.supervisor()
                    client.down.clear()
                    os.kill(supervisor, signal.SIGKILL)
                    await client.down.wait()
                    await client.up.wait()
                    option = item.body["params"]["options"][0]["optionId"]
                    await session.answer(item.body["ask"], {"outcome": {"outcome": "selected", "optionId": option}})
                if item.kind == "ended":
                    return kinds
        raise AssertionError("the session's items ended")

    try:
        kinds = asyncio.run(main())
    finally:
        house.stop()

    assert (1, 1, 1) == (kinds.count("asked"), kinds.count("answered"), kinds.count("ended"))
    assert "lost" not in kinds
