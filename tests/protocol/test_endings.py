"""Endings of turns: a session is followed while somebody waits for it, and not for much longer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from understudy.protocol import endings
from understudy.protocol.client_machine import Arrived, ClientMachine
from understudy.protocol.endings import Endings
from understudy.protocol.errors import CLOSED, LocalError
from understudy.protocol.frames import Accepted, Entry, pack
from understudy.protocol.items import Ending

END = Ending("end_turn", {})


def play(
    scene: Callable[[ClientMachine, Endings], Coroutine[Any, Any, None]], flush: Callable[[], None] = lambda: None
) -> None:
    async def main() -> None:
        machine = ClientMachine("c")
        waits = Endings(machine, flush)
        async with asyncio.timeout(20):
            await scene(machine, waits)
        waits.end(LocalError(CLOSED, "closed"))

    asyncio.run(main())


def come(machine: ClientMachine, waits: Endings, session: str, *what: tuple[int, str, object]) -> None:
    """Let entries (turn, kind, body) of a followed session come."""
    follow = next(number for number, place in machine.places.items() if place.session == session)
    come_entries = [Entry(session, 0, 0, turn, kind, pack(body), 0.0) for turn, kind, body in what]
    waits.arrived(Arrived(follow, 0, come_entries))


def ended(turn: int, size: int = 0) -> tuple[int, str, object]:
    return turn, "ended", {"reason": "end_turn", **({"text": "x" * size} if size else {})}


async def wait_for(waits: Endings, session: str, turn: int) -> "asyncio.Task[Ending]":
    task = asyncio.ensure_future(waits.of(session, turn))
    await asyncio.sleep(0)
    return task


def test_a_session_that_nobody_waits_for_any_more_is_followed_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "IDLE_S", 0.01)
    flushed = asyncio.Event()

    async def scene(machine: ClientMachine, waits: Endings) -> None:
        answered, cancelled = await wait_for(waits, "a", 2), await wait_for(waits, "b", 2)
        still = await wait_for(waits, "c", 2)
        come(machine, waits, "a", ended(2))
        assert END == await answered
        cancelled.cancel()
        while len(machine.places) > 1:
            flushed.clear()
            await flushed.wait()
        assert ["c"] == [place.session for place in machine.places.values()]
        still.cancel()

    play(scene, flushed.set)


def test_however_many_sessions_were_waited_for_few_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "IDLE_MAX", 3)

    async def scene(machine: ClientMachine, waits: Endings) -> None:
        for number in range(10):
            waiting = await wait_for(waits, f"s{number}", 2)
            come(machine, waits, f"s{number}", ended(2))
            assert END == await waiting
        assert ["s7", "s8", "s9"] == [place.session for place in machine.places.values()]

    play(scene)


def test_an_ending_that_has_gone_by_is_kept_or_looked_for_again_when_it_was_large() -> None:
    async def scene(machine: ClientMachine, waits: Endings) -> None:
        first = await wait_for(waits, "s", 2)
        come(machine, waits, "s", ended(3), ended(4, endings.KEPT_BYTES_MAX))
        assert END == await waits.of("s", 3)
        looking = await wait_for(waits, "s", 4)
        assert [4] == [place.next for place in machine.places.values()]
        come(machine, waits, "s", ended(4), ended(2))
        assert [END, END] == [await looking, await first]

    play(scene)


def test_of_endings_that_nobody_waits_for_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "KEPT_MAX", 2)

    async def scene(machine: ClientMachine, waits: Endings) -> None:
        waiting = await wait_for(waits, "s", 2)
        come(machine, waits, "s", ended(3), ended(4), ended(5))
        assert [END, END] == [await waits.of("s", 4), await waits.of("s", 5)]
        looking = await wait_for(waits, "s", 3)
        assert not looking.done()
        looking.cancel()
        waiting.cancel()

    play(scene)


def test_a_text_is_gathered_anew_when_an_older_turn_is_looked_for() -> None:
    said = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "yes"}}

    async def scene(machine: ClientMachine, waits: Endings) -> None:
        waiter = waits.expect("r", "s")
        waits.accepted(Accepted("r", "s", 5))
        come(machine, waits, "s", (5, "update", [said]))
        older = await wait_for(waits, "s", 3)
        come(machine, waits, "s", ended(3), (5, "update", [said]), ended(5))
        assert END == await waiter.future
        assert ["yes"] == waiter.texts
        assert END == await older

    play(scene)


@pytest.mark.parametrize("body", [b"\xc1", pack("no list"), pack(["no map", {"sessionUpdate": 1}, {"content": 2}])])
def test_an_update_that_is_none_does_not_end_the_reader(body: bytes) -> None:
    async def scene(machine: ClientMachine, waits: Endings) -> None:
        waiter = waits.expect("r", "s")
        waits.accepted(Accepted("r", "s", 5))
        assert [1] == list(machine.places)
        waits.arrived(Arrived(1, 0, [Entry("s", 5, 5, 5, kind, body, 0.0) for kind in ("update", "ended")]))
        assert "" == (await waiter.future).reason

    play(scene)


def test_whoever_is_cancelled_while_it_waits_leaves_nothing_behind() -> None:
    async def scene(machine: ClientMachine, waits: Endings) -> None:
        tasks = [await wait_for(waits, "s", 2) for _ in range(3)]
        waiter = waits.expect("r", "s")
        waits.leave(waiter, "r")
        waits.accepted(Accepted("r", "t", 5))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert [{}] == [watch.waiting for watch in vars(waits)["_watches"].values()]
        assert {} == vars(waits)["_expected"]
        assert ["s"] == [place.session for place in machine.places.values()]

    play(scene)
