"""Every wait of the client library ends, whatever the house does: with what was asked for, or a typed error."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.false_house import FalseHouse, false_house
from understudy.protocol import reconnecting
from understudy.protocol.client import Client, Session, Turn, connect
from understudy.protocol.errors import (
    BAD_FRAME,
    CLOSED,
    CONNECTION_LOST,
    GENERATION_CHANGED,
    LIMIT_REACHED,
    NO_HELLO,
    REQUEST_REUSED,
    VERSION_MISMATCH,
    LocalError,
    RemoteError,
    UnderstudyError,
)
from understudy.protocol.frames import (
    Accepted,
    Answer,
    Ask,
    Call,
    Cancel,
    Entries,
    Entry,
    Fault,
    Follow,
    Frame,
    Hello,
    Open,
    Opened,
    Ping,
    Prompt,
    Result,
    Unfollow,
    Verb,
    pack,
)
from understudy.protocol.items import Ending, Item

WAIT_S_MAX = 20.0


def play(folder: Path, scene: Callable[[FalseHouse], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        with false_house(folder) as house:
            async with asyncio.timeout(2 * WAIT_S_MAX):
                await scene(house)

    asyncio.run(main())


async def code_of(wait: Awaitable[object]) -> str:
    """Return the code of the error that a wait ends with."""
    with pytest.raises(UnderstudyError) as raised:
        async with asyncio.timeout(WAIT_S_MAX):
            await wait
    return raised.value.code


def entry(number: int, turn: int, kind: str, body: object = None) -> Entry:
    return Entry("s", number, number, turn, kind, pack(body or {}), 0.0)


def chunk(number: int, turn: int, text: str) -> Entry:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    return entry(number, turn, "update", [update])


def ended(number: int, turn: int) -> Entry:
    return entry(number, turn, "ended", {"reason": "end_turn"})


def begin(client: Client) -> list[Awaitable[object]]:
    """Begin every wait that there is, in a house that answers none."""
    session = Session(client, "s")
    return [
        asyncio.ensure_future(each)
        for each in (
            client.open("a"),
            client.verb("status"),
            session.prompt("x"),
            session.ask("x"),
            session.cancel(),
            session.call("ready"),
            Turn(session, 7).ending(),
            anext(session.follow(3)),
        )
    ]


WAITED_FOR = (Open, Verb, Prompt, Cancel, Call, Follow)


def test_all_that_waits_ends_at_close_and_what_is_asked_after_it_at_once(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            session = Session(client, "s")
            turn = Turn(session, 7)
            waits = begin(client)
            await house.until(lambda: all(house.count(kind) for kind in WAITED_FOR))
        assert {CLOSED} == {await code_of(wait) for wait in waits}

        later = [client.open("a"), session.prompt("x"), session.ask("x"), turn.ending(), session.answer("q", "yes")]
        assert {CLOSED} == {await code_of(wait) for wait in later}
        with pytest.raises(LocalError):
            session.follow(0)

    play(tmp_path, scene)


def test_all_that_waits_ends_with_the_fault_when_the_next_house_speaks_another_version(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            waits = begin(client)
            await house.until(lambda: all(house.count(kind) for kind in WAITED_FOR if kind is not Call))
            house.fall()
            house.answer = lambda frame: [Fault(VERSION_MISMATCH, "2 here")] if isinstance(frame, Hello) else []
            house.open()
            codes = [await code_of(wait) for wait in waits]
            assert {VERSION_MISMATCH, CONNECTION_LOST} >= set(codes)  # A call may have been carried out before.
            assert 1 >= codes.count(CONNECTION_LOST)
            assert VERSION_MISMATCH == await code_of(Session(client, "s").prompt("x"))

    play(tmp_path, scene)


def test_connect_ends_when_the_house_is_full_or_says_nothing(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async def connected() -> None:
            async with connect(house.runtime_dir, wait_s=0.2):
                pass

        house.answer = lambda frame: [Fault(LIMIT_REACHED, "4000 clients")] if isinstance(frame, Hello) else []
        assert LIMIT_REACHED == await code_of(connected())
        house.answer = lambda _: [Fault(NO_HELLO, "what?")]
        assert CONNECTION_LOST == await code_of(connected())
        house.fall()
        assert CONNECTION_LOST == await code_of(connected())

    play(tmp_path, scene)


def test_a_client_that_comes_back_to_a_full_house_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "DEFERRED_S", 0.01)

    def answer(frame: Frame) -> list[Any]:
        if isinstance(frame, Hello) and 2 <= frame.connection <= 4:
            return [Fault(LIMIT_REACHED, "4000 clients")]
        return [Result(frame.request, pack("done"))] if isinstance(frame, Verb) else []

    async def scene(house: FalseHouse) -> None:
        house.answer = answer
        async with connect(house.runtime_dir) as client:
            house.fall()
            house.open()
            await client.down.wait()
            assert "done" == await client.verb("status")

    play(tmp_path, scene)


@pytest.mark.parametrize("nameless", [True, False])
def test_a_client_that_was_forgotten_says_hello_again_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """Whether it is refused a request, or only a sign of life after a silence."""
    monkeypatch.setattr(reconnecting, "SILENT_S", 0.02 if nameless else 60.0)
    knows = [True]

    def answer(frame: Frame) -> list[Any]:
        if isinstance(frame, Hello):
            knows[0] = True
            return []
        if not knows[0]:
            return [Fault(NO_HELLO, "who?", getattr(frame, "request", ""))]
        if isinstance(frame, Follow) and frame.number == 2:
            return [Entries(frame.follow, [ended(2, 2)])]
        return [Result(frame.request)] if isinstance(frame, Call) else []

    async def scene(house: FalseHouse) -> None:
        house.answer = answer
        async with connect(house.runtime_dir) as client:
            session = Session(client, "s")
            items = session.follow(1)
            await house.until(lambda: house.count(Follow))
            house.say(Entries(1, [entry(1, 0, "opened")]))
            assert "opened" == (await anext(items)).kind
            knows[0] = False
            if nameless:
                await house.until(lambda: house.count(Ping))
            else:
                await session.call("ready")  # Not carried out by a house that does not know us: it may be said again.
            assert "ended" == (await anext(items)).kind

    play(tmp_path, scene)


def test_what_refers_to_numbers_of_the_generation_before_ends_and_is_never_answered_with_another_turns_ending(
    tmp_path: Path,
) -> None:
    async def scene(house: FalseHouse) -> None:
        def answer(frame: Frame) -> list[Any]:
            match frame:
                case Prompt(request=request):
                    return [Accepted(request, "s", 5)]
                case Follow(follow=follow, number=number) if house.times_opened == 2:
                    return [Entries(follow, [ended(number, number)])]  # Another turn has that number now.
                case Cancel(request=request) if house.times_opened == 2:
                    return [Result(request)]
                case _:
                    return []

        house.answer = answer
        async with connect(house.runtime_dir) as client:
            session = Session(client, "s")
            turn = await session.prompt("x")
            waits: list[Awaitable[object]] = [
                asyncio.ensure_future(turn.ending()),
                asyncio.ensure_future(turn.cancel()),
            ]
            items, from_the_start = session.follow(5), session.follow(1)
            await house.until(lambda: house.count(Follow) == 3 and house.count(Cancel))
            house.fall()
            house.generation = 2
            house.open()
            codes = [await code_of(wait) for wait in [*waits, anext(items), turn.ending(), turn.cancel()]]
            assert {GENERATION_CHANGED} == set(codes)
            assert 1 == (await anext(from_the_start)).number  # It had seen no number.

    play(tmp_path, scene)


def test_a_house_in_safe_mode_does_not_change_the_generation(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            items = Session(client, "s").follow(5)
            for generation in (0, 1):
                await house.until(lambda: house.count(Hello) == house.count(Follow))
                house.fall()
                house.generation = generation
                house.open()
                await client.down.wait()
                await client.up.wait()
            await house.until(lambda: house.count(Follow) == 3)
            house.say(Entries(1, [entry(5, 5, "prompt")]))
            assert 5 == (await anext(items)).number

    play(tmp_path, scene)


def test_the_same_request_asked_for_twice_at_once_has_one_answer_for_both(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            session = Session(client, "s")
            waits = [asyncio.ensure_future(session.prompt("x", request="mine")) for _ in range(3)]
            await house.until(lambda: house.count(Prompt))
            assert REQUEST_REUSED == await code_of(session.prompt("y", request="mine"))
            waits[0].cancel()
            house.say(Accepted("mine", "s", 9))
            assert [9, 9] == [(await wait).number for wait in waits[1:]]
            assert 1 == house.count(Prompt)

    play(tmp_path, scene)


@pytest.mark.parametrize("answer", [Fault(BAD_FRAME, "what?"), b"\xc1", pack([{"type": "no such"}])])
def test_what_the_house_cannot_read_or_answers_with_garbage_is_said_once_more_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(reconnecting, "UNREAD_S", 0.01)

    async def scene(house: FalseHouse) -> None:
        house.answer = lambda frame: [answer] if isinstance(frame, Prompt) else []
        async with connect(house.runtime_dir) as client:
            assert BAD_FRAME == await code_of(Session(client, "s").prompt("x"))
            assert 2 == house.count(Prompt)

    play(tmp_path, scene)


def test_a_text_is_whole_when_the_turn_began_before_its_acceptance_was_heard(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        def answer(frame: Frame) -> list[Any]:
            match frame:
                case Prompt(request=request) if house.times_opened == 2:
                    return [Accepted(request, "s", 5)]
                case Verb(request=request):
                    return [Result(request)]
                case Follow(follow=follow, number=5):
                    return [
                        Entries(follow, [entry(5, 5, "prompt"), chunk(6, 5, "one, "), chunk(7, 5, "two"), ended(8, 5)])
                    ]
                case _:
                    return []

        house.answer = answer
        async with connect(house.runtime_dir) as client:
            session = Session(client, "s")
            watched = asyncio.ensure_future(Turn(session, 3).ending())
            await house.until(lambda: house.count(Follow))
            asked = asyncio.ensure_future(session.ask("x"))
            await house.until(lambda: house.count(Prompt))
            begun = [entry(3, 3, "prompt"), entry(4, 3, "started"), entry(5, 5, "prompt"), chunk(6, 5, "one, ")]
            house.say(Entries(1, begun))
            await client.verb("status")
            house.fall()  # The acceptance is lost with the connection.
            house.open()
            assert "one, two" == await asked
            watched.cancel()

    play(tmp_path, scene)


def test_a_time_out_while_an_item_is_awaited_loses_nothing(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            items = Session(client, "s").follow(1)
            for number in (1, 2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(items), 0.01)
                house.say(Entries(1, [entry(number, 0, "note")]))
                assert number == (await anext(items)).number

    play(tmp_path, scene)


def test_a_follow_that_nobody_reads_any_more_is_ended(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            session = Session(client, "s")
            house.answer = lambda frame: (
                [Entries(frame.follow, [entry(1, 0, "opened")])] if isinstance(frame, Follow) else []
            )
            async for _ in session.follow(1):
                break
            await house.until(lambda: house.count(Unfollow) == 1)
            async with contextlib.aclosing(session.follow(1)) as closed:
                assert "opened" == (await anext(closed)).kind
            await house.until(lambda: house.count(Unfollow) == 2)
            with pytest.raises(StopAsyncIteration):
                await anext(closed)
            reading: asyncio.Task[Item] = asyncio.ensure_future(anext(session.follow(9)))
            await house.until(lambda: house.count(Follow) == 3)
            reading.cancel()
            await asyncio.wait([reading])
            del reading
            await house.until(lambda: house.count(Unfollow) == 3)

    play(tmp_path, scene)


async def questioned(house: FalseHouse, on_ask: Any, until: Callable[[Client], Awaitable[None]]) -> Answer:
    """Return what the agent gets for a question that `on_ask` serves."""
    async with connect(house.runtime_dir, on_ask=on_ask) as client:
        house.say(Ask(1, "s", 2, "q", "fs/read_text_file", b"", public=False))
        await until(client)
    await house.until(lambda: house.count(Answer))
    return next(each for each in house.heard if isinstance(each, Answer))


def fails() -> object:
    raise KeyError("a bug")


def is_cancelled() -> object:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "what",
    [fails, is_cancelled, lambda: "\ud800", lambda: 1 << 70, lambda: b"x" * (17 << 20), object],
    ids=["fails", "is cancelled", "lone surrogate", "huge number", "too large", "no data"],
)
def test_an_agent_gets_an_error_when_on_ask_fails_or_its_answer_cannot_be_sent(
    tmp_path: Path, what: Callable[[], object]
) -> None:
    async def on_ask(_: Ask) -> object:
        return what()

    async def scene(house: FalseHouse) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        answer = await questioned(house, on_ask, lambda _: house.until(lambda: house.count(Answer)))
        assert ("s", "q") == (answer.session, answer.ask)
        assert "" != answer.error

    play(tmp_path, scene)


def test_an_agent_gets_an_error_when_the_client_leaves_before_it_has_answered(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        served = asyncio.Event()

        async def on_ask(_: Ask) -> None:
            served.set()
            await asyncio.Event().wait()

        async def until(_: Client) -> None:
            await served.wait()

        answer = await questioned(house, on_ask, until)
        assert "has left" in answer.error

    play(tmp_path, scene)


def test_a_turns_ending_is_kept_in_its_handle(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        async with connect(house.runtime_dir) as client:
            turn = Turn(Session(client, "s"), 6)
            house.answer = lambda frame: [Entries(frame.follow, [ended(6, 6)])] if isinstance(frame, Follow) else []
            assert [Ending("end_turn", {})] * 2 == [await turn.ending(), await turn.ending()]
            assert 1 == house.count(Follow)

    play(tmp_path, scene)


def test_an_answer_of_another_kind_than_was_asked_for_is_an_error(tmp_path: Path) -> None:
    async def scene(house: FalseHouse) -> None:
        house.answer = lambda frame: [Opened(frame.request, "s")] if isinstance(frame, Prompt | Verb) else []
        async with connect(house.runtime_dir) as client:
            with pytest.raises(RemoteError):
                await Session(client, "s").prompt("x")
            house.answer = lambda frame: [Result(frame.request, b"\xc1")] if isinstance(frame, Verb) else []
            assert BAD_FRAME == await code_of(client.verb("status"))

    play(tmp_path, scene)
