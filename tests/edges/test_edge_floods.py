"""`understudy acp` and an editor that asks and asks and does not read: it is not read either, and nothing is lost."""

import asyncio
import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.editor import Editor, allow, asks
from tests.faults.house import RealHouse
from understudy.protocol.client import Session
from understudy.protocol.connection import Connection
from understudy.supervisor.edges.bridge import VIEWS_MAX
from understudy.supervisor.edges.editor import Editor as Viewer
from understudy.supervisor.edges.view import View

STANDS_STILL_S = 1.0
FLOOD_BYTES_MAX = 16 << 20
MEMORY_MB_MAX = 60


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHouse]:
    with RealHouse(tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.fixture
def editor(house: RealHouse) -> Iterator[Editor]:
    with Editor(house.command("acp", "--agent", "rehearsal"), serve=allow) as one:
        yield one


def request(number: int, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


def prompt(number: int, session: str, text: str) -> bytes:
    return request(number, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])


def notice(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\n"


def flood(editor: Editor, method: str) -> tuple[int, bytes]:
    """Ask for `method` until nobody reads that any more; return how often, and the rest of what was not taken."""
    pipe, count, sent, rest = editor.stdin.fileno(), 0, 0, b""
    os.set_blocking(pipe, False)
    while sent < FLOOD_BYTES_MAX and select.select([], [pipe], [], STANDS_STILL_S)[1]:
        while len(rest) < 1 << 16:
            rest += request(1_000_000 + count, method)
            count += 1
        taken = os.write(pipe, rest)
        sent, rest = sent + taken, rest[taken:]
    os.set_blocking(pipe, True)
    assert sent < FLOOD_BYTES_MAX, "whoever floods is read without end"
    return count, rest


def rest_answered(editor: Editor, rest: bytes, count: int) -> tuple[list[int], list[int]]:
    """Write the rest while reading; return the ids of `count` answers to the flood as they came: results, refusals.

    Answers of the editor's wait behind the rest: it would stand still where nobody reads it before it does.
    """
    found: tuple[list[int], list[int]] = ([], [])
    serve, editor.serve = editor.serve, lambda _: None
    while len(found[0]) + len(found[1]) < count:
        if rest and select.select([], [editor.stdin], [], 0)[1]:
            rest = rest[os.write(editor.stdin.fileno(), rest[:1024]) :]
        said = editor.read()
        number = said.get("id")
        if "method" in said and number is not None:
            rest += json.dumps({"jsonrpc": "2.0", "id": number, **(serve(said) or {})}).encode() + b"\n"
        elif isinstance(number, int) and number >= 1_000_000:
            found["unanswered already" in said.get("error", {}).get("message", "")].append(number)
    editor.serve = serve
    editor.stdin.write(rest)
    return found


@pytest.mark.parametrize("method", ["initialize", "x" * 2000, "session/list", "session/close"])
def test_an_editor_that_floods_and_does_not_read_is_not_read_and_then_gets_all_in_order(
    editor: Editor, method: str
) -> None:
    editor.new()
    before = editor.resident_mb()

    count, rest = flood(editor, method)

    assert editor.resident_mb() - before < MEMORY_MB_MAX
    answered, refused = rest_answered(editor, rest, count)
    assert (sorted(answered), sorted(refused)) == (answered, refused)
    assert {*range(1_000_000, 1_000_000 + count)} == {*answered, *refused}
    assert "end_turn" == editor.play(editor.new(), "still here")


def test_what_is_cancelled_behind_a_flood_is_cancelled_and_questions_are_answered(editor: Editor) -> None:
    session, other = editor.new(), editor.new()
    editor.stdin.write(prompt(501, session, "[[stream 3 0]] [[ask May I?]]"))
    editor.stdin.write(prompt(502, other, "[[stream 100000 10]]"))
    count, rest = flood(editor, "initialize")

    rest += (
        notice("session/cancel", sessionId=other) + prompt(503, other, "after it") + request(2_000_000, "authenticate")
    )
    answered, _ = rest_answered(editor, rest, count + 1)

    assert [*range(1_000_000, 1_000_000 + count), 2_000_000] == answered
    reasons = [editor.answer(number)["result"]["stopReason"] for number in (501, 502, 503)]
    assert ["end_turn", "cancelled", "end_turn"] == reasons
    assert any(asks("session/request_permission")(each) for each in editor.got)


def test_an_editor_that_closes_its_end_without_reading_is_left(editor: Editor) -> None:
    editor.new()
    flood(editor, "initialize")

    assert 0 == editor.close()


def test_a_terminated_edge_leaves_an_editor_that_does_not_read(editor: Editor) -> None:
    editor.new()
    flood(editor, "initialize")

    editor.process.terminate()

    assert 0 == editor.process.wait(30)


def test_a_session_is_cancelled_as_it_was_when_that_came(editor: Editor) -> None:
    session = editor.new()
    running, next_ = prompt(501, session, "[[stream 100000 10]]"), prompt(502, session, "next")

    editor.stdin.write(running + notice("session/cancel", sessionId=session) * 3 + next_)

    assert ["cancelled", "end_turn"] == [editor.answer(number)["result"]["stopReason"] for number in (501, 502)]


@pytest.mark.slow
def test_more_sessions_than_can_be_shown_are_refused_until_one_is_closed(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    house.asserts = False
    house.start()
    try:
        with Editor(house.command("acp", "--agent", "rehearsal")) as editor:
            first = editor.new()
            answers: list[dict[str, Any]] = []
            for _ in range(4):
                asked = [editor.send("session/new", cwd="/tmp", mcpServers=[]) for _ in range(VIEWS_MAX // 4)]
                answers += map(editor.answer, asked)

            refused = [each["error"]["message"] for each in answers if "error" in each]
            assert 1 == len(refused)
            assert "close one (session/close)" in refused[0]
            assert "end_turn" == editor.play(first, "still here")
            editor.ask("session/close", sessionId=first)
            assert "end_turn" == editor.play(editor.new(), "another")
    finally:
        house.stop()


class Slow(Session):
    """A session whose house is away: what is asked of it waits."""

    def __init__(self) -> None:
        self.id = "s"
        self.asked: list[str] = []
        self.back = asyncio.Event()

    async def cancel(self, *_: Any) -> None:
        self.asked.append("cancel")
        await self.back.wait()

    async def prompt(self, *_: Any, **__: Any) -> Any:
        self.asked.append("prompt")
        await self.back.wait()
        raise AssertionError("not asked for")


def test_cancels_that_mean_the_same_are_one_while_the_house_is_away() -> None:
    async def act() -> list[str]:
        async def ignore(*_: Any) -> None: ...

        session = Slow()
        view = View(session, Viewer(session.id, Connection(lambda _: None, ignore, ignore), ignore))
        wanted = (view.cancel, view.cancel, lambda: view.prompt([], ()), view.cancel, view.cancel)
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(each()) for each in wanted]
        for _ in range(10):
            await asyncio.sleep(0)
        asked = list(session.asked)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return asked

    assert ["cancel", "prompt", "cancel"] == asyncio.run(act())
