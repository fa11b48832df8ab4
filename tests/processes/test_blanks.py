"""Blank actors, seen from outside: who becomes the next actor, and what becomes of a blank that nobody needs."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults.house import Houses, RealHouse, wait_until
from understudy.actors.rehearsal import rehearse_often
from understudy.protocol.processes import children, stat


@pytest.fixture
def house(houses: Houses) -> RealHouse:
    house = houses("")
    house.pid()  # An actor that was forked without one looks like a blank at first.
    return house


def blanks(house: RealHouse) -> list[int]:
    assert house.keeper is not None
    titles = {pid: Path(f"/proc/{pid}/cmdline") for pid in children(house.keeper.pid)}
    return [pid for pid, path in titles.items() if path.exists() and path.read_bytes().startswith(b"understudy: blank")]


def blank(house: RealHouse) -> int:
    wait_until(lambda: len(blanks(house)) == 1, "a blank")
    return blanks(house)[0]


def test_a_blank_becomes_the_next_actor_and_another_is_forked(house: RealHouse) -> None:
    for _ in range(3):
        actor, waiting = house.pid(), blank(house)
        os.kill(actor, signal.SIGKILL)
        wait_until(lambda actor=actor: house.pid() != actor, "the next actor")  # type: ignore[misc]

        assert waiting == house.pid()
        assert waiting != blank(house)
        assert "here\n" == house.run("prompt", "rehearsal", "here").stdout


def test_an_actor_that_was_a_blank_holds_no_more_than_one_that_was_not(house: RealHouse) -> None:
    def descriptors(pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    actor, waiting = house.pid(), blank(house)  # The first one of a house was none.
    held = descriptors(actor)
    os.kill(actor, signal.SIGKILL)
    wait_until(lambda: house.pid() == waiting, "the blank to play")

    wait_until(lambda: held == descriptors(waiting), f"the blank to hold {held} descriptors", 20)


def test_a_blank_that_died_is_replaced_and_a_start_does_without(house: RealHouse) -> None:
    for _ in range(3):
        actor, waiting = house.pid(), blank(house)
        os.kill(waiting, signal.SIGKILL)
        os.kill(actor, signal.SIGKILL)
        wait_until(lambda actor=actor: house.pid() != actor, "the next actor")  # type: ignore[misc]

        assert waiting not in (house.pid(), blank(house))
        assert "here\n" == house.run("prompt", "rehearsal", "here").stdout


def test_a_blank_outlives_the_supervisor_and_goes_with_the_keeper(house: RealHouse) -> None:
    waiting, supervisor = blank(house), house.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: house.supervisor() != supervisor, "the next supervisor")
    house.wait_answering()
    assert house.keeper is not None
    remaining = [waiting, blank(house)]

    house.keeper.kill()
    house.keeper.wait()

    wait_until(lambda: all(stat(pid) is None for pid in remaining), "the blanks to end")


def test_a_role_too_large_for_the_pipe_is_played_all_the_same(tmp_path: Path) -> None:
    with RealHouse(tmp_path, f'[agent.big]\ndriver = "scripted"\nenv = {{ LONG = "{"x" * 90_000}" }}\n') as house:
        actor, waiting = house.pid("big"), blank(house)
        os.kill(actor, signal.SIGKILL)
        wait_until(lambda: house.pid("big") != actor, "the next actor")

        assert "here\n" == house.run("prompt", "big", "here").stdout
        wait_until(lambda: stat(waiting) is None, "the blank that did not fit to end")


def test_rehearsals_leave_nothing_in_the_keeper_that_forks_after_them(tmp_path: Path) -> None:
    place = SimpleNamespace(runtime_dir=str(tmp_path), state_dir=str(tmp_path), orphan_grace_s=1.0)

    def own() -> tuple[list[str], list[str], object]:
        return os.listdir("/proc/self/task"), os.listdir("/proc/self/fd"), signal.getsignal(signal.SIGTERM)

    before = own()
    rehearse_often(place)

    assert before == own()
    assert [] == list(tmp_path.iterdir())
