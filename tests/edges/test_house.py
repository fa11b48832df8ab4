"""A real house, used as a person and as an editor would."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.processes import stat


class Editor:
    """`understudy acp` on pipes."""

    def __init__(self, house: RealHouse, *arguments: str) -> None:
        self.process = subprocess.Popen(
            house.command("acp", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.updates: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def send(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def request(self, number: object, method: str, **params: object) -> dict[str, Any]:
        """Send a request and return its answer; updates are kept, questions are answered with the first option."""
        self.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        return self.answer(number)

    def answer(self, number: object) -> dict[str, Any]:
        while True:
            message = self.read()
            if message.get("method") == "session/update":
                self.updates.append(message["params"]["update"])
            elif message.get("method") == "session/request_permission":
                self.asked.append(message["params"])
                option = message["params"]["options"][0]["optionId"]
                outcome = {"outcome": {"outcome": "selected", "optionId": option}}
                self.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": outcome}))
            elif message.get("id") == number and "method" not in message:
                return message

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the editor's side ended"
        message: dict[str, Any] = json.loads(line)
        return message

    def text(self) -> str:
        return "".join(update["content"]["text"] for update in self.updates if "content" in update)

    def new(self) -> str:
        self.request(0, "initialize", protocolVersion=1)
        return str(self.request(1, "session/new", cwd="/tmp", mcpServers=[])["result"]["sessionId"])

    def prompt(self, number: object, session: str, text: str) -> dict[str, Any]:
        return self.request(number, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(10)
        self.process.stdout.close()
        return status


def test_a_prompt_is_answered_and_status_tells(house: RealHouse) -> None:
    answer = house.run("prompt", "rehearsal", "hello there")
    status = house.run("status", "--json")

    assert (0, "hello there\n") == (answer.returncode, answer.stdout)
    (row,) = json.loads(status.stdout)
    assert {
        "name", "state", "pid", "epoch", "uptime_s", "restarts", "queue", "sessions", "waiting_for",
        "memory_mb", "memory_limit_mb", "files", "files_limit",
    } <= set(row)  # fmt: skip
    assert (0, "RUNNING", 1) == (status.returncode, row["state"], row["sessions"])


def test_json_lines_end_with_the_reason_and_the_exit_code_tells(house: RealHouse) -> None:
    crashed = house.run("prompt", "rehearsal", "--json", "[[say a]] [[crash SIGSEGV]]")
    lines = [json.loads(line) for line in crashed.stdout.splitlines()]

    assert 1 == crashed.returncode
    assert ["prompt", "started", "update", "lost", "ended"] == [line["kind"] for line in lines]
    assert "interrupted" == lines[-1]["reason"]
    assert "SIGSEGV" in lines[-1]["body"]["text"]


@pytest.mark.parametrize(("directive", "said"), [("[[ask May I?]]", "reject"), ("[[tool look]] [[say x]]", "x")])
def test_questions_and_tools_on_the_command_line(house: RealHouse, directive: str, said: str) -> None:
    answer = house.run("prompt", "rehearsal", directive)

    assert said in answer.stdout
    assert 0 == answer.returncode


def test_a_prompt_from_standard_input_that_is_no_text_is_refused_in_words(house: RealHouse) -> None:
    command = house.command("prompt", "rehearsal", "-")
    said = subprocess.run(command, input=b"caf\xe9", capture_output=True, timeout=60)

    assert (1, b"understudy: the prompt is not UTF-8: unexpected end of data, at byte 3\n") == (
        said.returncode,
        said.stderr,
    )


@pytest.mark.parametrize(
    ("streams", "verb", "status", "stdout", "stderr"),
    [
        (">&-", ("status",), 0, "", ""),
        (">&-", ("prompt", "rehearsal", "hello"), 0, "", "(session "),
        ("<&-", ("prompt", "rehearsal", "-"), 1, "", "understudy: the prompt is empty: there is nothing to do"),
        (
            ">/dev/full",
            ("status",),
            1,
            "",
            "understudy: the output cannot be written: No space left on device",
        ),
        (">/dev/full", ("prompt", "rehearsal", "hello"), 1, "", "understudy: the output cannot be written"),
        ("", ("prompt", "rehearsal", "h\u00e9llo \U0001f3ad"), 0, "h\\xe9llo \\U0001f3ad\n", "(session "),
    ],
)
def test_the_command_line_lives_with_streams_that_are_closed_full_or_of_few_characters(
    house: RealHouse, streams: str, verb: tuple[str, ...], status: int, stdout: str, stderr: str
) -> None:
    command = ["sh", "-c", f'exec "$@" {streams}', "sh", *house.command(*verb)]
    environ = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)

    assert (status, stdout) == (said.returncode, said.stdout)
    assert said.stderr.startswith(stderr)
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("verb", [("prompt", "rehearsal", "hello"), ("up", "-d", "--state-dir", "/nowhere")])
def test_in_a_folder_that_was_removed_the_command_line_says_so(
    house: RealHouse, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    (tmp_path / "gone").mkdir()
    command = [
        "sh",
        "-c",
        'cd gone && rmdir ../gone && exec "$@"',
        "sh",
        *house.command(*verb),
    ]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (1, "understudy: the folder that you are in is gone: go to another one (cd)\n") == (
        said.returncode,
        said.stderr,
    )


def test_a_hanging_turn_is_cancelled_with_its_actor(tmp_path: Path) -> None:
    with RealHouse(tmp_path, '[agent.rehearsal]\ndriver = "scripted"\ncancel_grace_s = 0.2\n') as house:
        with subprocess.Popen(
            house.command("prompt", "rehearsal", "--json", "[[say in]] [[hang]]"), stdout=subprocess.PIPE, text=True
        ) as prompt:
            assert prompt.stdout is not None
            while json.loads(prompt.stdout.readline())["kind"] != "update":
                pass
            prompt.send_signal(signal.SIGINT)
            ending = [json.loads(line) for line in prompt.stdout][-1]

        assert "cancelled" == ending["reason"]
        assert "hello\n" == house.run("prompt", "rehearsal", "hello").stdout


def test_limits_hold_and_strays_are_swept(tmp_path: Path) -> None:
    with RealHouse(tmp_path, '[agent.rehearsal]\ndriver = "scripted"\nmemory = "200 MB"\nfiles = 64\n') as house:
        stray = house.run("prompt", "rehearsal", "--json", "[[stray]] [[crash SIGKILL]]")
        memory = house.run("prompt", "rehearsal", "[[memory 500]]")
        files = house.run("prompt", "rehearsal", "[[files 500]]")

        assert (1, 1) == (memory.returncode, files.returncode)
        assert "MemoryError" in memory.stderr
        assert "Too many open files" in files.stderr
        assert "1 more process(es) of it were ended" in stray.stdout


def test_an_agent_that_cannot_start_is_fatal_with_the_reason_and_ends_what_waits(tmp_path: Path) -> None:
    with RealHouse(
        tmp_path,
        '[agent.ghost]\ndriver = "acp"\ncommand = "/no/such/program"\nrestart = { intensity = 2 }\n',
    ) as house:
        prompt = house.run("prompt", "ghost", "hello")
        (row,) = json.loads(house.run("status", "--json").stdout)

        assert 1 == prompt.returncode
        why = (
            "the program '/no/such/program' cannot be started: No such file or directory; install it, or mend `command`"
        )
        assert f"the turn ended: failed: agent ghost cannot run: agent ghost: {why}" in prompt.stderr
        assert "once that is mended: understudy restart ghost" in prompt.stderr
        assert "FATAL" == row["state"]
        assert "/no/such/program" in row["why"]
        assert 3 == house.run("status").returncode


def test_doctor_names_what_a_signal_has_stopped_and_which_agent_cannot_run(tmp_path: Path) -> None:
    with RealHouse(
        tmp_path, '[agent.ghost]\ndriver = "acp"\ncommand = "false"\nrestart = { intensity = 0 }\n'
    ) as house:
        assert house.keeper is not None
        wait_until(lambda: "FATAL" == house.rows()[0]["state"], "the agent to give up")
        os.kill(house.keeper.pid, signal.SIGSTOP)
        doctor = house.run("doctor")
        os.kill(house.keeper.pid, signal.SIGCONT)

        assert 1 == doctor.returncode
        assert f"remedy: kill -CONT {house.keeper.pid}" in doctor.stdout
        assert "WRONG  agent ghost: FATAL: " in doctor.stdout
        assert "understudy restart ghost" in doctor.stdout


def test_a_house_whose_supervisor_is_held_up_is_not_said_to_be_absent(house: RealHouse) -> None:
    assert house.keeper is not None
    os.kill(house.supervisor(), signal.SIGSTOP)

    status = house.run("status")

    assert 4 == status.returncode
    assert f"the house at {house.runtime_dir} (keeper {house.keeper.pid}) runs and does not answer" in status.stderr


def test_a_stray_without_a_mark_ends_with_the_house(tmp_path: Path) -> None:
    loose, kept = tmp_path / "loose.sh", tmp_path / "pid"
    loose.write_text(f"echo $$ > {kept}.new; mv {kept}.new {kept}; exec sleep 86400\n")
    command = f"sh -c 'env -i setsid sh {loose} & exec sleep 86400'"
    house = RealHouse(tmp_path, f'[agent.server]\ndriver = "program"\ncommand = "{command}"\n')
    house.start()
    wait_until(kept.exists, "the stray")

    house.stop()

    assert stat(int(kept.read_text())) is None


def test_out_of_reach_is_said_with_supervisords_exit_codes(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)

    assert [4, 7] == [house.run(verb).returncode for verb in ("status", "shutdown")]
    assert "understudy up" in house.run("status").stderr


def test_a_second_up_in_the_background_says_which_house_runs(house: RealHouse) -> None:
    assert house.keeper is not None

    second = house.run("up", "-d")

    assert 1 == second.returncode
    assert f"a house already runs on {house.runtime_dir} (pid {house.keeper.pid})" in second.stderr
    assert "the cast is" not in second.stderr


def test_a_prompt_says_that_the_house_is_away_and_goes_on_with_the_next(house: RealHouse) -> None:
    assert house.keeper is not None
    command = house.command("prompt", "rehearsal", "[[say begun]] [[hang]]")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as prompt:
        assert prompt.stdout is not None
        assert prompt.stderr is not None
        assert "begun" == prompt.stdout.read(5)

        house.keeper.kill()
        house.keeper.wait()
        away = [prompt.stderr.readline() for _ in range(2)]
        wait_until(lambda: not house.left(), "the rest of the house to end")
        house.start()
        rest = prompt.stderr.read()

    assert "understudy: the house does not answer" in away[1]
    assert "the house answers again" in rest
    assert "the turn ended: interrupted" in rest


def test_an_editor_is_served_through_a_crash(house: RealHouse) -> None:
    editor = Editor(house, "--agent", "rehearsal")
    session = editor.new()
    good = editor.prompt(2, session, "[[say one]] [[ask May I?]]")
    crashed = editor.prompt("three", session, "[[say two]] [[crash 7]]")
    after = editor.prompt(4, session, "three")

    assert {"stopReason": "end_turn"} == good["result"]
    assert "May I?" == editor.asked[0]["toolCall"]["title"]
    assert "interrupted" == crashed["error"]["data"]["reason"]
    assert "exited with status 7" in crashed["error"]["message"]
    assert {"stopReason": "end_turn"} == after["result"]
    assert "oneanswered: allow two" in editor.text()
    assert 0 == editor.close()


def test_an_editor_loads_the_whole_history_after_a_restart_of_the_house(house: RealHouse) -> None:
    editor = Editor(house, "--agent", "rehearsal")
    session = editor.new()
    editor.prompt(2, session, "remember this")
    editor.close()
    house.stop()
    house.start()

    editor = Editor(house, "--agent", "rehearsal")
    editor.request(0, "initialize", protocolVersion=1)
    editor.request(1, "session/load", sessionId=session, cwd="/tmp", mcpServers=[])

    kinds = [update["sessionUpdate"] for update in editor.updates]
    assert ["user_message_chunk", "agent_message_chunk"] == kinds
    assert "remember thisremember this" == editor.text()
    assert 0 == editor.close()


def test_bad_lines_and_unknown_methods_are_answered_and_life_goes_on(house: RealHouse) -> None:
    editor = Editor(house, "--agent", "rehearsal")
    editor.request(0, "initialize", protocolVersion=1)
    editor.send("this is no JSON")
    garbage = editor.read()
    unknown = editor.request(1, "nobody/knows")
    relative = editor.request(2, "session/new", cwd="here", mcpServers=[])
    missing = editor.request(3, "session/load", sessionId="s0", cwd="/tmp", mcpServers=[])

    codes = [each["error"]["code"] for each in (garbage, unknown, relative, missing)]
    assert [-32700, -32601, -32602, -32002] == codes
    assert 0 == editor.close()


def test_an_editor_starts_a_house_that_ends_when_it_is_idle(tmp_path: Path) -> None:
    house = RealHouse(tmp_path)
    os.environ["UNDERSTUDY_IDLE_EXIT_S"] = "0.3"
    try:
        editor = Editor(house, "-c", str(house.config))
        session = editor.new()
        answer = editor.prompt(2, session, "hello")
        keeper = int(Path(house.runtime_dir, "lock").read_text())
        assert {"stopReason": "end_turn"} == answer["result"]
        assert 0 == editor.close()
    finally:
        del os.environ["UNDERSTUDY_IDLE_EXIT_S"]

    wait_until(lambda: stat(keeper) is None, "the idle house to end")
    wait_until(lambda: not house.left(), "nothing to be left")


def test_the_demo_plays_and_leaves_nothing() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "understudy", "demo"], capture_output=True, text=True, timeout=60, env={"HOME": ""}
    )

    assert 0 == demo.returncode, demo.stdout + demo.stderr
    assert "gaps or repeats: 0" in demo.stdout
    assert "left behind: 0" in demo.stdout
