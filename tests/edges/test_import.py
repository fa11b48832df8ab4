"""What `import understudy` gives, and what it costs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import understudy
from tests.faults.house import RealHouse
from understudy.protocol.errors import UnderstudyError

ROOT = Path(__file__).parents[2]
NAMES = ["Actor", "ActorError", "LocalError", "RemoteError", "Turn", "connect", "connect_blocking", "house"]

PROGRAM = """
from typing import assert_type

import understudy


class Notes(understudy.Actor):
    async def play(self, turn: understudy.Turn) -> str:
        await turn.say(turn.text)
        if turn.cancelled.is_set():
            raise understudy.ActorError("no")
        return "end_turn"


async def main() -> None:
    async with understudy.house() as client, understudy.connect() as other:
        session = await client.open("notes")
        assert_type(await session.ask("hello"), str)
        assert_type((await other.open("notes")).id, str)


def script() -> None:
    try:
        with understudy.connect_blocking() as client:
            assert_type(client.open("notes").ask("hello"), str)
            assert_type([each.memory_mb for each in client.status()], list[float])
    except (understudy.LocalError, understudy.RemoteError) as error:
        assert_type(error.code, str)
"""


def test_every_name_is_there_and_a_wrong_one_is_not() -> None:
    for name in NAMES:
        assert name in dir(understudy)
        assert getattr(understudy, name).__name__ == name
    with pytest.raises(AttributeError, match="'understudy' has no attribute 'hose'"):
        understudy.hose  # noqa: B018


def test_whoever_catches_every_error_still_does() -> None:
    assert {UnderstudyError} == {
        each.__base__ for each in (understudy.LocalError, understudy.RemoteError, understudy.ActorError)
    }


def test_it_loads_nothing_but_itself() -> None:
    code = "import sys; before = set(sys.modules); import understudy; print(*sorted(set(sys.modules) - before))"
    assert ["understudy"] == subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.slow
def test_a_program_of_the_users_is_checked_strictly(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)],
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert ("Success: no issues found in 1 source file\n", 0) == (checked.stdout, checked.returncode)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "at", "printed"),
    [
        ("README.md", -1, ["explain this repository", "['RUNNING']"]),
        ("docs/python.md", 0, ["hello", "end_turn", "rehearsal RUNNING"]),
        ("docs/python.md", 1, ["end_turn"]),
    ],
)
def test_what_the_pages_show_runs_as_a_script(house: RealHouse, page: str, at: int, printed: list[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[at]

    run = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "UNDERSTUDY_RUNTIME_DIR": house.runtime_dir},
    )

    assert (printed, "") == (run.stdout.splitlines(), run.stderr)
