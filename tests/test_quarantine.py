"""A broken invariant of ours takes one agent or session out of play, and nothing else."""

import signal

import pytest

from tests.desk import House
from understudy.protocol.errors import QUARANTINED
from understudy.protocol.frames import (
    Entry,
    Fault,
)
from understudy.supervisor.core import turns
from understudy.supervisor.core.child import State
from understudy.supervisor.core.events import (
    Effect,
    Exited,
    Kill,
    Record,
    Spawn,
    TellClient,
    Warn,
)


def break_one(house: House) -> list[Effect]:
    """Break an invariant about agent `one`: what has ended ends again."""
    house.core.house.roles["one"].child.state = State.EXITED
    return house.handle(Exited("one", 1, 7, -9, shown=[]))


def test_the_agent_is_ended_and_its_turns_with_it_while_another_plays_on() -> None:
    house = House()
    house.prompt("one")
    house.prompt("two")

    effects = break_one(house)

    assert State.FATAL is house.state("one")
    assert "set apart: AssertionError" in house.core.house.roles["one"].child.why
    assert ["failed"] == house.endings()
    assert any(isinstance(each, Warn) and "its story:" in each.text for each in effects)
    assert State.RUNNING is house.state("two")
    assert house.core.house.sessions[house.sessions["two"]].current is not None


def test_what_lives_of_it_is_killed_and_confirmed_dead_before_anything_else() -> None:
    house = House()
    house.prompt("one")
    child = house.core.house.roles["one"].child

    kills = child.set_apart("for a test", gone=False, now=0.0)

    assert [Kill("one", 1, signal.SIGKILL)] == kills
    assert State.STOPPING is house.state("one")
    house.handle(Exited("one", 1, 7, -9, shown=[]))
    assert State.FATAL is house.state("one")
    assert ["failed"] == house.endings()


def test_a_prompt_is_refused_and_a_person_starts_it_again() -> None:
    house = House()
    break_one(house)

    house.prompt("one")
    before = house.state("one")
    (told,) = [each.frame for each in house.effects if isinstance(each, TellClient)]
    spawned = house.core.house.roles["one"].child.start(0.0)

    assert State.FATAL is before
    assert isinstance(told, Fault)
    assert QUARANTINED == told.code
    assert "understudy restart one" in told.text
    assert [Spawn("one", 2, "one")] == spawned
    assert "" == house.core.house.roles["one"].child.apart


def test_the_next_that_was_on_its_way_is_ended_and_numbers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    house.prompt("one")
    last = house.core.house.sessions[house.sessions["one"]].last
    finish = turns.finish

    def broken(*_: object) -> None:
        monkeypatch.setattr(turns, "finish", finish)
        raise AssertionError("for a test")

    monkeypatch.setattr(turns, "finish", broken)
    house.core.house.sessions[house.sessions["one"]].current.cancelled = True  # type: ignore[union-attr]
    effects = house.handle(Exited("one", 1, 7, -9, shown=[]))
    entries = [row for each in effects if isinstance(each, Record) for row in each.rows if isinstance(row, Entry)]

    assert [Spawn("one", 2, "one"), Kill("one", 2, 9)] == [each for each in effects if isinstance(each, Spawn | Kill)]
    assert [(last + 1, "lost"), (last + 2, "ended")] == [(entry.first, entry.kind) for entry in entries]
    house.handle(Exited("one", 2, 8, -9, shown=[]))
    assert State.FATAL is house.state("one")
