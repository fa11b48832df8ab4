"""What the keeper leaves to its children, and what signals do to it: real houses, seen from outside."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.supervisor.chaos.proc import descriptors

Houses = Callable[[str], RealHouse]


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[Houses]:
    made: list[RealHouse] = []

    def start(text: str) -> RealHouse:
        made.append(RealHouse(tmp_path, text))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()


def keeper(house: RealHouse) -> int:
    assert house.keeper is not None
    return house.keeper.pid


def test_the_last_of_many_actors_holds_no_more_than_the_first(houses: Houses) -> None:
    cast = "".join(f"[agent.a{number:02}]\n" for number in range(60))
    house = houses(f'{cast}[agent.last]\nfiles = 64\nafter = ["a59"]\n')
    wait_until(lambda: all(row["state"] == "RUNNING" for row in house.rows()), "the whole cast")
    before = house.supervisor()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: house.supervisor() not in (0, before), "the next supervisor")
    house.wait_answering()

    first, last = descriptors(house.pid("a00")), descriptors(house.pid("last"))
    assert len(first) == len(last), f"{first} {last}"
    assert [] == [each for each in descriptors(house.supervisor()) if each.startswith("pipe:")]
