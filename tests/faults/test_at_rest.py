"""The supervisor is SIGKILLed; sessions that rested are listed, followed and played on when somebody names them."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults.house import Houses, RealHouse
from tests.faults.test_kills import scripted
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.errors import REQUEST_REUSED, UNKNOWN_SESSION, RemoteError
from understudy.protocol.frames import Accepted, Open, Opened, Prompt, pack
from understudy.protocol.verbs import SESSIONS_SHOWN_MAX, Sessions, Status


@pytest.fixture
def house(houses: Houses, tmp_path: Path) -> RealHouse:
    return houses(scripted(tmp_path))


def played(house: RealHouse, play: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connect(house.runtime_dir) as client, asyncio.timeout(60):
            await play(client)

    asyncio.run(main())


async def kill(house: RealHouse, client: Client) -> None:
    """Kill the supervisor; return when the next one answers."""
    os.kill(house.supervisor(), signal.SIGKILL)
    await client.verb(Status())


async def numbers(session: Session, endings: int) -> list[int]:
    """Return the numbers of a session from its first one to its so many'th ending."""
    found: list[int] = []
    async for item in session.follow(1):
        found.append(item.number)
        endings -= item.kind == "ended"
        if not endings:
            return found
    raise AssertionError("the session's items ended")


@pytest.mark.faults
def test_a_session_at_rest_goes_on_after_a_fall_of_the_supervisor(house: RealHouse) -> None:
    async def play(client: Client) -> None:
        session = await client.open("rehearsal", "/tmp")
        await session.ask("first")
        before = await numbers(session, 1)
        await kill(house, client)

        after = client.session(session.id)
        (row,) = await client.verb(Sessions(session=session.id))
        assert ("/tmp", before[-1], 0) == (row.cwd, row.last, row.queue)
        await after.ask("second")
        found = await numbers(after, 2)
        assert list(range(1, len(found) + 1)) == found
        assert before == found[: len(before)]
        with pytest.raises(RemoteError) as refused:
            await client.session("nobody").ask("anybody?")
        assert UNKNOWN_SESSION == refused.value.code

    played(house, play)


@pytest.mark.faults
def test_a_request_of_a_session_at_rest_is_carried_out_once(house: RealHouse) -> None:
    async def play(client: Client) -> None:
        opened = await client.request(Open("my open", "rehearsal", "/tmp", pack({})), Opened)
        content = pack([{"type": "text", "text": "once"}])
        prompt = Prompt("my prompt", opened.session, content)
        accepted = await client.request(prompt, Accepted)
        await client.ending(opened.session, accepted.turn)
        await kill(house, client)

        assert accepted == await client.request(prompt, Accepted)
        assert opened == await client.request(Open("my open", "rehearsal", "/tmp", pack({})), Opened)
        with pytest.raises(RemoteError) as refused:
            await client.request(Open("my open", "rehearsal", "/", pack({})), Opened)
        assert REQUEST_REUSED == refused.value.code

    played(house, play)


@pytest.mark.faults
def test_sessions_at_rest_are_listed_in_pages(house: RealHouse) -> None:
    async def play(client: Client) -> None:
        opened = [(await client.open("rehearsal", "/tmp")).id for _ in range(SESSIONS_SHOWN_MAX + 7)]
        await kill(house, client)

        first = [row.session for row in await client.verb(Sessions())]
        second = [row.session for row in await client.verb(Sessions(before=first[-1]))]
        assert opened[::-1] == first + second
        assert SESSIONS_SHOWN_MAX == len(first)
        assert len(opened) == (await client.verb(Status()))[0].sessions

    played(house, play)
