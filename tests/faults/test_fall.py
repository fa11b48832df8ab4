"""A supervisor of which something breaks that is about no session and no agent ends; the next one goes on."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.errors import UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import House, Sessions
from understudy.supervisor.shell.safe import read_fall

BROKEN = """
import os, sys
from understudy.supervisor.cli.main import main
from understudy.supervisor.core.core import Core

def broken(core):
    if os.path.exists(sys.argv[1]):
        os.unlink(sys.argv[1])
        1 / 0
    return finish(core)

finish, Core._finish_if_over = Core._finish_if_over, broken
sys.exit(main(sys.argv[2:]))
"""


class BrokenHouse(RealHouse):
    """Its supervisor breaks where a step ends, once for each time that `breaks` is made."""

    @property
    def breaks(self) -> Path:
        return self.folder / "break"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", BROKEN, str(self.breaks), *super().command(*arguments)[3:]]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[BrokenHouse]:
    with BrokenHouse(tmp_path) as made:
        yield made


def ask_what_breaks(house: BrokenHouse) -> None:
    house.breaks.touch()
    with contextlib.suppress(UnderstudyError):  # Another step may have broken before, and the next one answers.
        verb(house.runtime_dir, Sessions(), timeout_s=5.0)
    wait_until(lambda: not house.breaks.exists(), "the supervisor to break")


@pytest.mark.faults
def test_what_breaks_in_its_loop_ends_it_and_the_actors_work_on(house: BrokenHouse) -> None:
    actor, supervisor = house.pid(), house.supervisor()

    ask_what_breaks(house)

    wait_until(lambda: house.supervisor() not in (0, supervisor), "the next supervisor")
    assert actor == house.pid()
    assert "ZeroDivisionError" in house.log()
    assert "" == read_fall(house.runtime_dir)  # It is over: the next fall may have another reason.


@pytest.mark.faults
def test_one_that_breaks_again_and_again_gives_way_to_safe_mode_that_says_why(house: BrokenHouse) -> None:
    for _ in range(3):
        house.wait_answering()
        ask_what_breaks(house)

    told = verb(house.runtime_dir, House())

    assert "ZeroDivisionError" in told.safe_mode
