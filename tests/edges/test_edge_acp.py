"""`understudy acp` as an editor sees it: a real process on stdio, a real house, real agents without a model."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.schema import mistakes
from tests.editor import Start, allow, asks, editors, says
from tests.faults.house import RealHouse, wait_until
from understudy.protocol.client import Client, connect
from understudy.protocol.one_verb import verb
from understudy.protocol.processes import children
from understudy.protocol.verbs import SESSIONS_SHOWN_MAX, Sessions

PUPPET = Path(__file__).parent.with_name("puppet.py")
CAST = f"""
[agent.rehearsal]
driver = "scripted"

[agent.impatient]
driver = "scripted"
quiet_timeout_s = 0.1

[agent.puppet]
driver = "acp"
command = ["{sys.executable}", "-S", "{PUPPET}"]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHouse]:
    with RealHouse(tmp_path_factory.mktemp("house"), CAST) as running:
        yield running


@pytest.fixture
def start(house: RealHouse) -> Iterator[Start]:
    with editors(house) as one:
        yield one


def with_client(house: RealHouse, act: Callable[[Client], Any]) -> Any:
    async def run() -> Any:
        async with connect(house.runtime_dir) as client:
            return await act(client)

    return asyncio.run(run())


def test_nothing_heavy_is_imported_before_initialize_is_answered() -> None:
    program = (
        "import sys; from understudy.supervisor.edges import acp; acp._first_answer(); "
        "print(sorted({'asyncio', 'zmq', 'msgspec', 'msgpack'} & set(sys.modules)), file=sys.stderr)"
    )
    line = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}\n'

    done = subprocess.run([sys.executable, "-c", program], input=line, capture_output=True, check=True)

    assert 1 == json.loads(done.stdout)["result"]["protocolVersion"]
    assert b"[]\n" == done.stderr


def test_initialize_is_answered_whatever_its_id_and_again(start: Start) -> None:
    editor = start()
    editor.write(b'{"jsonrpc":"2.0","id":"first","method":"initialize","params":{"protocolVersion":1}}')

    first = editor.read()

    assert "first" == first["id"]
    assert first["result"] == editor.ask("initialize", protocolVersion=1)
    assert {} == editor.ask("authenticate", methodId="none")


def test_updates_come_in_order_and_before_the_answer(start: Start) -> None:
    editor = start()

    assert "end_turn" == editor.play(editor.new(), "[[stream 50 0]]")

    assert "".join(f"{at} " for at in range(1, 51)) == editor.text()


def test_a_prompt_of_ones_own_is_not_shown_again(start: Start) -> None:
    editor = start()

    editor.play(editor.new(), "hello")

    assert "" == editor.text(kind="user_message_chunk")


def test_a_cancelled_turn_is_answered_as_cancelled(start: Start) -> None:
    editor = start()
    session = editor.new()
    turn = editor.prompt(session, "[[stream 1000 10]]")
    editor.until(says("2 "))

    editor.notify("session/cancel", sessionId=session)

    assert {"stopReason": "cancelled"} == editor.answer(turn)["result"]


def test_a_cancelled_request_cancels_its_turn_only(start: Start) -> None:
    editor = start()
    session = editor.new()
    turn = editor.prompt(session, "[[stream 1000 10]]")
    queued = editor.prompt(session, "next")
    editor.until(says("2 "))

    editor.notify("$/cancel_request", requestId=turn)

    assert {"stopReason": "cancelled"} == editor.answer(turn)["result"]
    assert {"stopReason": "end_turn"} == editor.answer(queued)["result"]


def test_a_permission_is_asked_of_the_editor(start: Start) -> None:
    editor = start(serve=allow)
    session = editor.new()

    assert "end_turn" == editor.play(session, "[[ask May I?]]")

    assert "answered: allow " == editor.text()
    asked = next(filter(asks("session/request_permission"), editor.got))
    assert (session, "May I?") == (asked["params"]["sessionId"], asked["params"]["toolCall"]["title"])


def test_a_question_answered_elsewhere_is_withdrawn(start: Start) -> None:
    editor, other = start(), start(serve=allow)
    session = editor.new()
    turn = editor.prompt(session, "[[ask May I?]]")
    asked = editor.until(asks("session/request_permission"))
    other.ask("initialize", protocolVersion=1)

    other.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    other.until(says("answered: allow"))
    withdrawn = editor.until(asks("$/cancel_request"))
    assert asked["id"] == withdrawn["params"]["requestId"]
    assert {"stopReason": "end_turn"} == editor.answer(turn)["result"]


def test_cancelling_withdraws_the_question(start: Start) -> None:
    editor = start()
    session = editor.new()
    turn = editor.prompt(session, "[[ask May I?]]")
    asked = editor.until(asks("session/request_permission"))

    editor.notify("session/cancel", sessionId=session)

    assert asked["id"] == editor.until(asks("$/cancel_request"))["params"]["requestId"]
    assert {"stopReason": "cancelled"} == editor.answer(turn)["result"]


def test_a_lost_agent_is_an_error_and_the_session_lives_on(start: Start) -> None:
    editor = start()
    session = editor.new()

    error = editor.answer(editor.prompt(session, "[[say kept]] [[sleep 50]] [[crash SIGKILL]]"))["error"]

    assert (-32603, "interrupted") == (error["code"], error["data"]["reason"])
    assert "SIGKILL" in error["message"]
    assert editor.text().startswith("kept\n[understudy] ")
    assert "end_turn" == editor.play(session, "[[say there again]]")


NOTE = "[understudy] turn 2 is quiet"


def test_a_note_of_the_house_is_shown_live_and_in_history(start: Start) -> None:
    editor, other = start("impatient"), start("impatient")
    session = editor.new()

    turn = editor.prompt(session, "[[say before]] [[sleep 60000]]")
    editor.until(says(NOTE))
    editor.notify("session/cancel", sessionId=session)
    editor.answer(turn)
    other.ask("initialize", protocolVersion=1)
    other.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    assert NOTE in editor.text()
    assert editor.text() == other.text()
    assert [] == mistakes(editor.lines)


def test_an_editor_that_shows_notices_gets_what_happens_in_the_house_as_notices(start: Start) -> None:
    editor = start("impatient")
    editor.ask("initialize", protocolVersion=1, clientCapabilities={"session": {"notices": {}}})
    session = editor.new()

    editor.answer(editor.prompt(session, "[[say kept]] [[sleep 50]] [[crash SIGKILL]]"))

    assert "kept" == editor.text()
    (title,) = [each["title"] for each in editor.updates() if each["sessionUpdate"] == "notice"]
    assert title.startswith("[understudy] agent impatient")
    assert "SIGKILL" in title
    assert [] == mistakes(editor.lines)


def test_a_loaded_session_is_replayed_from_the_log(start: Start) -> None:
    editor, other = start(), start()
    session = editor.new()
    editor.play(session, "first [[say one]]")
    editor.play(session, "second [[tool look]]")
    other.ask("initialize", protocolVersion=1)

    other.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    assert "first [[say one]]second [[tool look]]" == other.text(kind="user_message_chunk")
    assert editor.updates() == [each for each in other.updates() if each["sessionUpdate"] != "user_message_chunk"]


def test_a_session_loaded_in_mid_turn_goes_on_streaming(start: Start) -> None:
    editor, other = start(), start()
    session = editor.new()
    turn = editor.prompt(session, "[[stream 1000 5]]")
    editor.until(says("5 "))
    other.ask("initialize", protocolVersion=1)

    other.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    other.until(says("1000 "))
    editor.answer(turn)
    assert editor.text() == other.text()


def test_a_session_loaded_again_in_mid_turn_answers_its_prompt(start: Start) -> None:
    editor = start()
    session = editor.new()
    turn = editor.prompt(session, "[[stream 100 5]]")
    editor.until(says("5 "))

    editor.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    assert {"stopReason": "end_turn"} == editor.answer(turn)["result"]


def test_a_resumed_session_has_no_history_but_its_open_question(start: Start) -> None:
    editor, other = start(), start(serve=allow)
    session = editor.new()
    turn = editor.prompt(session, "[[say before]] [[ask May I?]]")
    editor.until(asks("session/request_permission"))
    other.ask("initialize", protocolVersion=1)

    other.ask("session/resume", sessionId=session, cwd="/tmp", mcpServers=[])

    other.until(says("answered: allow"))
    assert "answered: allow " == other.text()
    assert {"stopReason": "end_turn"} == editor.answer(turn)["result"]


def test_a_prompt_of_another_editor_is_shown(start: Start) -> None:
    editor, other = start(), start()
    session = editor.new()
    other.ask("initialize", protocolVersion=1)
    other.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    other.play(session, "from the other window")

    editor.until(says("from the other window"))
    assert "from the other window" == editor.text(kind="user_message_chunk")


def test_a_closed_session_has_its_turn_cancelled_and_can_be_loaded(start: Start) -> None:
    editor = start()
    session = editor.new()
    turn = editor.prompt(session, "[[stream 1000 10]]")
    editor.until(says("2 "))

    assert {} == editor.ask("session/close", sessionId=session)

    assert {"stopReason": "cancelled"} == editor.answer(turn)["result"]
    assert -32002 == editor.error("session/prompt", sessionId=session, prompt=[])["code"]
    assert {} == editor.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])


def test_the_sessions_of_a_folder_are_listed(start: Start, tmp_path: Path) -> None:
    editor = start()
    session = editor.new(str(tmp_path))

    found = editor.ask("session/list", cwd=str(tmp_path))

    assert {"sessions": [{"sessionId": session, "cwd": str(tmp_path)}]} == found
    assert session in [each["sessionId"] for each in editor.ask("session/list")["sessions"]]


def test_a_long_list_goes_on_behind_its_cursor(start: Start, house: RealHouse, tmp_path: Path) -> None:
    folder, many = str(tmp_path), SESSIONS_SHOWN_MAX + 1
    opened = with_client(house, lambda client: asyncio.gather(*(client.open("rehearsal", folder) for _ in range(many))))
    editor = start()

    first = editor.ask("session/list", cwd=folder)
    second = editor.ask("session/list", cwd=folder, cursor=first["nextCursor"])

    found = [each["sessionId"] for page in (first, second) for each in page["sessions"]]
    assert {each.id for each in opened} == set(found)
    assert (many, None) == (len(found), second.get("nextCursor"))
    assert "cursor is missing" in editor.error("session/list", cursor=7)["message"]


def test_sessions_play_side_by_side_and_prompts_of_one_in_turn(start: Start) -> None:
    editor = start()
    one, two = editor.new(), editor.new()
    long = editor.prompt(one, "[[stream 30 10]]")
    after = editor.prompt(one, "[[say after]]")

    assert "end_turn" == editor.play(two, "[[say meanwhile]]")

    assert not [each for each in editor.got if each.get("id") == long and "result" in each]
    assert {"stopReason": "end_turn"} == editor.answer(after)["result"]
    assert editor.text(one).endswith("30 after")
    assert "meanwhile" == editor.text(two)


def test_bad_requests_are_refused_with_the_right_code_and_life_goes_on(start: Start) -> None:
    editor = start()
    session = editor.new()

    assert -32602 == editor.error("session/new", cwd="relative", mcpServers=[])["code"]
    assert -32602 == editor.error("session/new", mcpServers=[])["code"]
    assert -32602 == editor.error("session/prompt", sessionId=session, prompt="text")["code"]
    assert -32602 == editor.error("session/prompt", sessionId=session, prompt=["text"])["code"]
    assert -32002 == editor.error("session/prompt", sessionId="s0", prompt=[])["code"]
    assert -32002 == editor.error("session/load", sessionId="s0", cwd="/tmp", mcpServers=[])["code"]
    assert -32601 == editor.error("providers/list")["code"]
    assert -32601 == editor.error("session/fork", sessionId=session, cwd="/tmp")["code"]
    assert "end_turn" == editor.play(session, "hello")


def test_garbage_gets_one_answer_and_life_goes_on(start: Start) -> None:
    editor = start()
    session = editor.new()

    editor.write(b"\xff{]")
    editor.notify("nobody/knows", this=1)
    editor.notify("session/cancel", sessionId=[])

    assert "end_turn" == editor.play(session, "hello")
    assert [-32700] == [each["error"]["code"] for each in editor.got if "error" in each]


def test_garbage_before_initialize_is_answered_too(start: Start) -> None:
    editor = start()

    editor.write(b"garbage")

    assert -32700 == editor.read()["error"]["code"]
    assert 1 == editor.ask("initialize", protocolVersion=1)["protocolVersion"]


def test_what_an_agents_opening_gives_passes_through_under_our_id(start: Start) -> None:
    editor = start("puppet")
    editor.ask("initialize", protocolVersion=1)

    opened = editor.ask("session/new", cwd="/tmp", mcpServers=[])

    assert opened["sessionId"].startswith("s")
    assert ("slow", {"a": 1}) == (opened["modes"]["currentModeId"], opened["unheardOf"])
    assert [] == editor.updates(), "an update came before the editor knew the session"
    editor.until(asks("session/update"))
    assert ["available_commands_update"] == [each["sessionUpdate"] for each in editor.updates(opened["sessionId"])]


def test_an_agents_error_keeps_its_code(start: Start, tmp_path: Path) -> None:
    editor = start("puppet")
    session = editor.new()

    opening = editor.error("session/new", cwd=str(tmp_path / "locked"), mcpServers=[])
    turn = editor.answer(editor.prompt(session, "deny"))["error"]

    assert {"code": -32000, "message": "Authentication required", "data": {"url": "x"}} == opening
    assert (-32000, "x", "failed") == (turn["code"], turn["data"]["url"], turn["data"]["reason"])
    assert "max_tokens" == editor.play(session, "hello")


def test_other_requests_about_a_session_go_to_its_agent(start: Start) -> None:
    editor = start("puppet")
    session = editor.new()

    assert {} == editor.ask("session/set_mode", sessionId=session, modeId="fast")
    assert {"heard": [1, None]} == editor.ask("_puppet/echo", sessionId=session, words=[1, None])
    assert -32601 == editor.error("_puppet/other", sessionId=session)["code"]
    assert "fast" in [each.get("currentModeId") for each in editor.updates()]


def test_a_file_is_read_by_the_editor_that_prompted(start: Start) -> None:
    editor = start("puppet", serve=lambda _: {"result": {"content": "unsaved"}})
    session = editor.new()

    assert "end_turn" == editor.play(session, "read /a/file")

    assert "read: unsaved" == editor.text()
    asked = next(filter(asks("fs/read_text_file"), editor.got))
    assert {"sessionId": session, "path": "/a/file", "line": 3} == asked["params"]


def test_an_editors_error_reaches_the_agent(start: Start) -> None:
    editor = start("puppet", serve=lambda _: {"error": {"code": -32002, "message": "no such file", "data": 7}})

    editor.play(editor.new(), "read /a/file")

    assert "read: {'code': -32002, 'message': 'no such file', 'data': 7}" == editor.text()


def test_a_file_question_is_withdrawn_when_its_turn_is_cancelled(start: Start, house: RealHouse) -> None:
    editor = start("puppet")
    session = editor.new()
    turn = editor.prompt(session, "read /a/file")
    asked = editor.until(asks("fs/read_text_file"))

    os.kill(next(iter(children(house.pid("puppet")))), signal.SIGKILL)

    assert asked["id"] == editor.until(asks("$/cancel_request"))["params"]["requestId"]
    assert "interrupted" == editor.answer(turn)["error"]["data"]["reason"]


def test_a_session_goes_on_without_its_editor(start: Start, house: RealHouse) -> None:
    editor = start()
    session = editor.new()
    editor.prompt(session, "[[stream 60 5]]")
    editor.until(says("2 "))

    assert 0 == editor.close()

    async def ending(client: Client) -> Any:
        async for item in client.session(session).follow(1):
            if item.kind == "ended":
                return item.body["reason"]
        raise AssertionError("the follow ended")

    assert "end_turn" == with_client(house, ending)


def test_a_terminated_edge_leaves_in_order(start: Start) -> None:
    editor = start()
    editor.new()

    editor.process.send_signal(signal.SIGTERM)

    assert 0 == editor.process.wait(10)


@pytest.mark.slow
def test_a_slow_editor_costs_no_memory_and_misses_nothing(start: Start, house: RealHouse) -> None:
    editor = start()
    session = editor.new()
    before = editor.resident_mb()
    turn = editor.prompt(session, "[[stream 60000 0]]")

    def over() -> bool:
        return bool(verb(house.runtime_dir, Sessions(session))[0].last > 60_000)

    wait_until(over, "the turn to be recorded", 50)

    assert editor.resident_mb() - before < 8
    assert {"stopReason": "end_turn"} == editor.answer(turn)["result"]
    assert 60_000 == len(editor.text().split())


def test_stdin_and_stdout_can_be_files(house: RealHouse, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\ngarbage\n')

    with lines.open("rb") as source, (tmp_path / "out").open("wb") as sink:
        done = subprocess.run(house.command("acp", "--agent", "rehearsal"), stdin=source, stdout=sink, timeout=20)

    answers = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert 0 == done.returncode
    assert [1, None] == [each["id"] for each in answers]


def test_every_line_holds_to_the_schema(start: Start) -> None:
    editor, puppet = start(serve=allow), start("puppet", serve=lambda _: {"result": {"content": ""}})
    session, other = editor.new(), puppet.new()
    editor.play(session, "[[tool look]] [[ask May I?]] [[say x]]")
    editor.answer(editor.prompt(session, "[[crash SIGKILL]]"))
    editor.ask("session/load", sessionId=session, cwd="/tmp", mcpServers=[])
    editor.ask("session/resume", sessionId=session, cwd="/tmp", mcpServers=[])
    editor.ask("session/list")
    editor.ask("session/close", sessionId=session)
    puppet.play(other, "read /a/file")
    puppet.ask("session/set_mode", sessionId=other, modeId="fast")

    assert [] == mistakes(editor.lines)
    assert [] == mistakes(puppet.lines)
