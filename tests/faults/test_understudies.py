"""Understudies: who takes over when an actor falls, and what becomes of one that falls itself."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.faults.house import Houses, RealHouse, wait_until
from tests.faults.promises import kept
from tests.faults.test_kills import ROUNDS, SESSIONS, let_pass, program, rounds, scripted
from understudy.protocol.errors import UnderstudyError


@pytest.fixture(params=["scripted", "program"])
def house(request: pytest.FixtureRequest, houses: Houses, tmp_path: Path) -> RealHouse:
    text = {"scripted": scripted, "program": program}[request.param](tmp_path)
    return houses(f"{text}understudies = 2\n")


def rows(house: RealHouse) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in house.rows()}


def all_ready(house: RealHouse, but: Collection[int] = ()) -> dict[str, dict[str, Any]]:
    """Wait until the actor and both understudies are ready, none of them a process in `but`; return their rows."""
    found: dict[str, dict[str, Any]] = {}

    def ready() -> bool:
        with contextlib.suppress(UnderstudyError):  # Between two supervisors nobody answers.
            found.update(rows(house))
        return 3 == len([1 for row in found.values() if row["state"] == "RUNNING" and row["pid"] not in but])

    wait_until(ready, "two understudies")
    return found


def test_the_understudy_takes_over_with_the_sessions_and_another_is_prepared(house: RealHouse) -> None:
    first = house.run("prompt", "rehearsal", "--json", "hello").stdout
    session = first.split('"session": "')[1].split('"')[0]
    for _ in range(3):
        before = all_ready(house)
        os.kill(before["rehearsal"]["pid"], signal.SIGKILL)
        wait_until(lambda before=before: house.pid() != before["rehearsal"]["pid"], "the next actor")  # type: ignore[misc]

        assert house.pid() in (before["rehearsal~1"]["pid"], before["rehearsal~2"]["pid"])
        answer = house.run("prompt", "rehearsal", "--session", session, "still there")
        assert (0, "") == (answer.returncode, answer.stderr)
    epochs = {row["epoch"] for row in all_ready(house).values()}
    assert 3 == len(epochs)
    assert min(epochs) == rows(house)["rehearsal"]["epoch"]


def test_a_fallen_understudy_is_replaced_and_nobody_else_notices(house: RealHouse) -> None:
    before = all_ready(house)
    os.kill(before["rehearsal~1"]["pid"], signal.SIGKILL)
    wait_until(lambda: rows(house)["rehearsal~1"]["pid"] != before["rehearsal~1"]["pid"], "another understudy")

    assert before["rehearsal"]["pid"] == all_ready(house)["rehearsal"]["pid"]


def test_all_at_once_and_the_supervisor_with_them(house: RealHouse) -> None:
    before = all_ready(house)
    for pid in [before["rehearsal"]["pid"], house.supervisor(), before["rehearsal~1"]["pid"]]:
        os.kill(pid, signal.SIGKILL)
    house.wait_answering()
    wait_until(lambda: rows(house)["rehearsal"]["pid"] == before["rehearsal~2"]["pid"], "the last one to take over")

    assert 0 == house.run("prompt", "rehearsal", "still there").returncode
    all_ready(house)


def test_a_supervisor_that_falls_takes_each_back_in_its_part(house: RealHouse) -> None:
    before = all_ready(house)
    os.kill(house.supervisor(), signal.SIGKILL)
    wait_until(lambda: house.answers() and rows(house)["rehearsal"]["state"] == "RUNNING", "the next supervisor")

    after = all_ready(house)
    assert {name: row["pid"] for name, row in before.items()} == {name: row["pid"] for name, row in after.items()}


def test_a_reload_in_mid_turn_leaves_the_actor_and_its_turn_alone(house: RealHouse) -> None:
    before = all_ready(house)
    command = house.command("prompt", "rehearsal", "[[stream 100 10]]")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as prompt:
        assert prompt.stdout is not None
        begun = os.read(prompt.stdout.fileno(), 2)  # Past the buffer, whose rest `communicate` would not see.
        assert 0 == house.run("reload").returncode
        said, told = prompt.communicate()

    numbers = [int(word) for word in (begun + said).split()]  # One kind of agent counts from 0.
    assert (0, [*range(numbers[0], numbers[0] + 100)]) == (prompt.returncode, numbers), told
    assert {each["pid"] for each in before.values()} == {each["pid"] for each in all_ready(house).values()}


@pytest.mark.faults
@pytest.mark.parametrize("second", ["the understudy", "the supervisor"])
def test_nothing_is_lost_when_another_falls_during_the_promotion(tmp_path: Path, house: RealHouse, second: str) -> None:
    moments = random.Random(20261121)
    count = max(1, ROUNDS // 3)
    victims: list[int] = []

    def find() -> int:
        before = all_ready(house, but=victims)
        actor = int(before["rehearsal"]["pid"])
        victims[:] = [before["rehearsal~1"]["pid"] if second == "the understudy" else house.supervisor(), actor]
        return actor

    def again() -> None:
        let_pass(moments.uniform(0.0, 0.006))  # A promotion takes about so long.
        os.kill(victims[0], signal.SIGKILL)

    accepted = asyncio.run(rounds(house, "[[stream 5 2]]", find, moments, again, count))

    kept(house.runtime_dir, accepted, tmp_path / "ledger")
    assert count * SESSIONS == len(accepted.turns)
    epochs = {row["epoch"] for row in all_ready(house).values()}
    assert min(epochs) == rows(house)["rehearsal"]["epoch"]
