"""`understudy acp` when the house comes and goes: a house is started, falls, is shut down, cannot start."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.editor import EVERYTHING, Editor, allow, asks, says
from tests.faults.house import RealHouse, wait_until
from understudy.protocol.errors import UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import Sessions, Shutdown


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RealHouse]:
    """A house that nobody has started."""
    house = RealHouse(tmp_path)
    yield house
    if house.keeper is not None:
        house.stop()
    with suppress(UnderstudyError):
        verb(house.runtime_dir, Shutdown())
    wait_until(lambda: not house.left(), "nothing to be left")


def alone_command(house: RealHouse) -> list[str]:
    return house.command("acp", "-c", str(house.config))


def test_a_house_is_started_where_none_runs_and_ends_when_idle(alone: RealHouse) -> None:
    with Editor(alone_command(alone), UNDERSTUDY_IDLE_EXIT_S="0.2") as editor:
        assert "end_turn" == editor.play(editor.new(), "hello")

    wait_until(lambda: not alone.left(), "the idle house to end")


def test_two_editors_at_once_share_the_house_that_one_of_them_starts(alone: RealHouse) -> None:
    with Editor(alone_command(alone)) as one, Editor(alone_command(alone)) as two:
        sessions = {one.new(), two.new()}

        assert 2 == len(sessions)
        assert sessions == {row.session for row in verb(alone.runtime_dir, Sessions())}


def test_the_session_goes_on_after_the_supervisor_fell(alone: RealHouse) -> None:
    alone.start()
    with Editor(alone_command(alone)) as editor:
        session = editor.new()
        turn = editor.prompt(session, "[[stream 100 10]]")
        editor.until(says("3 "))

        os.kill(alone.supervisor(), signal.SIGKILL)

        answer = editor.answer(turn)
        said = [int(word) for word in editor.text().partition("\n[understudy]")[0].split()]
        assert list(range(1, len(said) + 1)) == said
        assert len(said) == 100 if "result" in answer else answer["error"]["data"]["reason"] == "interrupted"
        assert "end_turn" == editor.play(session, "[[say there again]]")


def test_a_question_outlives_the_supervisor(alone: RealHouse) -> None:
    alone.start()
    with Editor(alone_command(alone)) as editor:
        session = editor.new()
        turn = editor.prompt(session, "[[ask May I?]]")
        asked = editor.until(asks("session/request_permission"))
        supervisor = alone.supervisor()

        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: alone.supervisor() != supervisor, "the next supervisor")
        answer = {"jsonrpc": "2.0", "id": asked["id"], **allow(asked)}
        editor.write(json.dumps(answer).encode())

        assert "end_turn" == editor.answer(turn)["result"]["stopReason"]


@pytest.mark.slow
def test_a_question_whose_asker_fell_with_the_supervisor_is_not_left_at_the_editor(alone: RealHouse) -> None:
    alone.start()
    with Editor(alone_command(alone)) as editor:
        session = editor.new()
        turn = editor.prompt(session, "[[ask May I?]]")
        asked = editor.until(asks("session/request_permission"))

        actor = alone.pid()
        os.kill(alone.supervisor(), signal.SIGKILL)
        os.kill(actor, signal.SIGKILL)

        assert asked["id"] == editor.until(asks("$/cancel_request"))["params"]["requestId"]
        assert "interrupted" == editor.answer(turn)["error"]["data"]["reason"]


@pytest.mark.slow
def test_a_house_that_was_shut_down_is_started_again_when_it_is_wanted(alone: RealHouse) -> None:
    with Editor(alone_command(alone)) as editor:
        session = editor.new()
        verb(alone.runtime_dir, Shutdown())
        wait_until(lambda: not alone.left(), "the house to end")

        assert "end_turn" == editor.play(session, "hello")


@pytest.mark.slow
def test_a_house_that_cannot_start_says_why_and_is_tried_again(alone: RealHouse) -> None:
    alone.config.write_text("[agent.rehearsal]\ndriver = 7\n")
    with Editor(alone_command(alone)) as editor:
        editor.ask("initialize", protocolVersion=1, clientCapabilities=EVERYTHING)

        error = editor.error("session/new", cwd="/tmp", mcpServers=[])

        assert "driver" in error["message"]
        alone.config.write_text('[agent.rehearsal]\ndriver = "scripted"\n')
        assert "end_turn" == editor.play(editor.new(), "hello")


@pytest.mark.parametrize("setting", ["nan", "-5", "inf", "soon"])
def test_an_idle_time_in_the_environment_that_is_none_is_told(alone: RealHouse, setting: str) -> None:
    with Editor(alone_command(alone), UNDERSTUDY_IDLE_EXIT_S=setting) as editor:
        editor.ask("initialize", protocolVersion=1, clientCapabilities=EVERYTHING)

        error = editor.error("session/new", cwd="/tmp", mcpServers=[])

        assert f"UNDERSTUDY_IDLE_EXIT_S: {setting!r} must be a number of seconds" in error["message"]


def test_an_agent_whose_program_is_not_there_is_told_at_once(alone: RealHouse) -> None:
    alone.config.write_text('[agent.a]\ndriver = "acp"\ncommand = "no-such-agent"\n')
    alone.start(environ={"PATH": os.defpath})  # Where some of it is closed to us, the system says that first.
    with Editor(alone_command(alone)) as editor:
        editor.ask("initialize", protocolVersion=1)

        error = editor.error("session/new", cwd="/tmp", mcpServers=[])

    assert "'no-such-agent' cannot be started: No such file or directory; install it" in error["message"]
    assert "it is tried again in the background" in error["message"]


def test_an_agent_that_ends_before_it_is_ready_is_asked_whether_it_speaks(alone: RealHouse) -> None:
    alone.config.write_text('[agent.a]\ndriver = "acp"\ncommand = "true"\nrestart = { intensity = 0 }\n')
    alone.start()
    wait_until(lambda: alone.rows()[0]["state"] == "FATAL", "it to give up")

    assert (
        "it ended before it answered initialize (does it speak ACP?): the program true exited" in alone.rows()[0]["why"]
    )
