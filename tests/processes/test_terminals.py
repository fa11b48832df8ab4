"""Files and terminals that an agent asks for, when no editor serves them."""

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import wait_until
from understudy.actors.drivers.files import FILE_BYTES_MAX
from understudy.actors.drivers.terminals import TERMINALS_MAX, LocalClient
from understudy.protocol.jsonrpc import INVALID_PARAMS, NOT_FOUND, JsonRpcError
from understudy.protocol.mark import MARK_VARIABLE
from understudy.protocol.processes import children, stat

Serve = Callable[[str, dict[str, Any]], Awaitable[Any]]


def run(act: Callable[[Serve], Awaitable[Any]], cwd: str = "/") -> Any:
    """Return what `act` does with a local client, whose terminals are ended."""

    async def inner() -> Any:
        local, before = LocalClient(0, 0), set(children(os.getpid()))
        try:
            return await asyncio.wait_for(act(lambda method, params: local.serve(method, params, cwd)), 20)
        finally:
            local.close()
            # It is reaped by the loop.
            await asyncio.to_thread(wait_until, lambda: before >= set(children(os.getpid())), "the killed to be reaped")

    return asyncio.run(inner())


def error_of(method: str, **params: Any) -> JsonRpcError:
    """Return the error that a request is answered with."""

    async def ask(serve: Serve) -> JsonRpcError:
        try:
            answer = await serve(method, params)
        except JsonRpcError as error:
            return error
        raise AssertionError(f"{method} was served: {str(answer)[:100]}")

    error = run(ask)
    assert isinstance(error, JsonRpcError)
    return error


def lives(pid: int) -> bool:
    return stat(pid) is not None


# --- terminals --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "release"])
def test_kill_and_release_end_all_that_a_command_started(tmp_path: Path, how: str) -> None:
    async def act(serve: Serve) -> list[int]:
        made = await serve("terminal/create", {"command": f"sleep 1000 & echo $! > {tmp_path}/pid; sleep 1000; true"})
        await asyncio.to_thread(wait_until, lambda: bool(read(tmp_path / "pid")), "the grandchild")
        await serve(f"terminal/{how}", made)
        return [int(read(tmp_path / "pid"))]

    (grandchild,) = run(act)

    wait_until(lambda: not lives(grandchild), "the grandchild to end")


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_a_release_after_the_commands_end_ends_what_it_left_behind(tmp_path: Path) -> None:
    async def act(serve: Serve) -> int:
        made = await serve("terminal/create", {"command": f"sleep 1000 & echo $! > {tmp_path}/pid"})
        await serve("terminal/wait_for_exit", made)
        left = int(read(tmp_path / "pid"))
        assert lives(left)
        await serve("terminal/release", made)
        return left

    left = run(act)

    wait_until(lambda: not lives(left), "what was left to end")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("sleep 1000 & exit 3", {"exitCode": 3, "signal": None}),
        ("sleep 1000 & kill -9 $$", {"exitCode": None, "signal": "9"}),
        ("echo all; exit 0", {"exitCode": 0, "signal": None}),
    ],
)
def test_a_wait_is_answered_at_the_commands_own_end_whoever_holds_its_output(command: str, status: Any) -> None:
    async def act(serve: Serve) -> Any:
        made = await serve("terminal/create", {"command": command})
        return await serve("terminal/wait_for_exit", made), await serve("terminal/output", made)

    waited, output = run(act)

    assert status == waited == output["exitStatus"]


def test_a_wait_after_a_kill_is_answered() -> None:
    async def act(serve: Serve) -> Any:
        made = await serve("terminal/create", {"command": "sleep 1000; true"})
        waiting = asyncio.ensure_future(serve("terminal/wait_for_exit", made))
        await serve("terminal/kill", made)
        return await waiting, await serve("terminal/wait_for_exit", made)

    assert [{"exitCode": None, "signal": "9"}] * 2 == list(run(act))


def test_no_more_terminals_than_the_limit_however_many_are_asked_for_at_once() -> None:
    async def act(serve: Serve) -> list[Any]:
        made = (serve("terminal/create", {"command": "sleep", "args": ["1000"]}) for _ in range(TERMINALS_MAX + 16))
        return await asyncio.gather(*made, return_exceptions=True)

    answers = run(act)

    assert TERMINALS_MAX == sum(isinstance(each, dict) for each in answers)
    assert 16 == sum(isinstance(each, JsonRpcError) and "64 terminals are open" in each.message for each in answers)


def test_a_terminal_keeps_the_end_of_its_output(tmp_path: Path) -> None:
    async def act(serve: Serve) -> Any:
        made = await serve("terminal/create", {"command": "pwd; printf 123456789", "outputByteLimit": 4})
        none = await serve("terminal/create", {"command": "echo x", "outputByteLimit": 0})
        for each in (made, none):
            await serve("terminal/wait_for_exit", each)
        return await serve("terminal/output", made), await serve("terminal/output", none)

    some, none = run(act, str(tmp_path))

    assert ("6789", True) == (some["output"], some["truncated"])
    assert ("", True) == (none["output"], none["truncated"])


def test_the_mark_of_the_actor_is_not_the_agents_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK_VARIABLE, "house/agent#1")

    async def act(serve: Serve) -> Any:
        env = [{"name": MARK_VARIABLE, "value": "other"}, {"name": "MINE", "value": "kept"}]
        made = await serve("terminal/create", {"command": f"echo ${MARK_VARIABLE} $MINE", "env": env})
        await serve("terminal/wait_for_exit", made)
        return (await serve("terminal/output", made))["output"]

    assert "house/agent#1 kept\n" == run(act)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"command": ""},
        {"command": 5},
        {"command": "a\0b"},
        {"command": "x", "args": "y"},
        {"command": "x", "args": [1]},
        {"command": "x", "args": ["\ud800"]},
        {"command": "x", "env": {"A": "b"}},
        {"command": "x", "env": ["A"]},
        {"command": "x", "env": [{"name": 1, "value": "b"}]},
        {"command": "x", "env": [{"name": "A=", "value": "b"}]},
        {"command": "x", "cwd": 5},
        {"command": "x", "outputByteLimit": "many"},
        {"command": "x", "outputByteLimit": -1},
        {"command": "x", "outputByteLimit": True},
    ],
)
def test_a_terminal_of_odd_parameters_is_refused(params: dict[str, Any]) -> None:
    assert INVALID_PARAMS == error_of("terminal/create", **params).code


@pytest.mark.parametrize("name", [None, 5, [], "terminal-9", "x" * 1_000_000])
def test_a_terminal_that_is_not_there_is_told(name: Any) -> None:
    error = error_of("terminal/output", terminalId=name)

    assert NOT_FOUND == error.code
    assert len(error.message) < 200


# --- files ------------------------------------------------------------------------


def test_a_file_is_written_and_read_as_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "file")
    text = "one\r\ntwo\nthrée\u2028still three\n"

    async def act(serve: Serve) -> list[str]:
        await serve("fs/write_text_file", {"path": path, "content": "x" * 1000})
        await serve("fs/write_text_file", {"path": path, "content": text})
        parts: tuple[dict[str, int], ...] = ({}, {"line": 2, "limit": 1}, {"line": 3}, {"line": 9}, {"limit": 0})
        return [(await serve("fs/read_text_file", {"path": path, **part}))["content"] for part in parts]

    assert [text, "two\n", "thrée\u2028still three\n", "", ""] == run(act)


def test_a_file_for_which_there_is_no_room_is_left_as_it_was_and_the_agent_told(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_text("a person's work")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # What more is written is refused, as on a full disk.
    try:
        error = error_of("fs/write_text_file", path=str(path), content="x" * (2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "too large" in error.message
    assert "a person's work" == path.read_text()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/", "/proc/self/mem"])
@pytest.mark.parametrize("method", ["fs/read_text_file", "fs/write_text_file"])
def test_what_is_no_regular_file_is_neither_read_nor_written(path: str, method: str) -> None:
    assert error_of(method, path=path, content="x").code in (INVALID_PARAMS, NOT_FOUND)


@pytest.mark.parametrize("method", ["fs/read_text_file", "fs/write_text_file"])
def test_a_pipe_that_nobody_holds_is_not_waited_for(tmp_path: Path, method: str) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert INVALID_PARAMS == error_of(method, path=str(tmp_path / "pipe"), content="").code


def test_a_file_over_the_limit_is_refused_however_large_it_says_it_is(tmp_path: Path) -> None:
    for size in (FILE_BYTES_MAX + 1, 1 << 42):
        with (tmp_path / "large").open("wb") as file:
            file.truncate(size)

        assert "is too large" in error_of("fs/read_text_file", path=str(tmp_path / "large"), line=1, limit=1).message


@pytest.mark.parametrize(
    "params",
    [
        {"path": 5},
        {"path": "relative"},
        {"path": "/a\0b"},
        {"path": "/etc/hostname", "line": "x"},
        {"path": "/etc/hostname", "limit": -1},
        {"path": "/etc/hostname", "limit": True},
    ],
)
def test_a_file_of_odd_parameters_is_refused(params: dict[str, Any]) -> None:
    assert INVALID_PARAMS == error_of("fs/read_text_file", **params).code


@pytest.mark.parametrize("content", [None, 5, ["x"], "\ud800"])
def test_what_is_no_text_is_not_written(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "file"

    assert INVALID_PARAMS == error_of("fs/write_text_file", path=str(path), content=content).code
    assert not path.exists()


def test_no_file_is_read_while_the_program_leaves_its_answers_unread(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    read = {"path": str(tmp_path / "file")}

    async def act() -> list[bool]:
        room = asyncio.Event()

        async def wait() -> None:
            await room.wait()

        local = LocalClient(0, 0, wait)
        reads = [asyncio.ensure_future(local.serve("fs/read_text_file", read, "/")) for _ in range(9)]
        await asyncio.wait(reads, timeout=0.1)
        before = [each.done() for each in reads]
        room.set()
        await asyncio.wait_for(asyncio.gather(*reads), 20)
        return before

    assert [False] * 9 == asyncio.run(act())
