"""Who plays an agent, and which understudy takes over for whom."""

from typing import Any

from tests.desk import Desk, agent
from understudy.protocol.frames import Handover
from understudy.supervisor.core.events import EpochRow, Record, SpawnFailed, TellActor
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import RestartPolicy

LOOSE = RestartPolicy(intensity=100)


def with_understudies(number: int, **settings: Any) -> Desk:
    """Return a desk with one agent, whose actors are ready when the test says so."""
    return Desk(agent(understudies=number, restart=LOOSE, turn_timeout_s=5.0), late=True, **settings)


def understudies(desk: Desk) -> list[Actor]:
    return desk.core.house.launches["a"].understudies


def cast(desk: Desk) -> list[tuple[int, str]]:
    """Return who plays and who stands by, with epochs."""
    return [(each.epoch, each.state.value) for each in desk.core.house.actors()]


def three() -> Desk:
    """Return a desk whose actor #1 plays, with understudies #2 and #3."""
    desk = with_understudies(2)
    desk.up("a", 1)
    desk.tick(0.1)
    desk.up("a", 2)
    desk.up("a", 3)
    return desk


def test_the_oldest_understudy_takes_over() -> None:
    desk = three()
    desk.exit("a", 1, -9)

    assert [(2, "RUNNING"), (3, "RUNNING")] == cast(desk)[:2]


def test_one_that_is_silent_is_passed_over() -> None:
    desk = three()
    oldest = desk.core.house.launches["a"].known[2]
    oldest.heard.silent = True
    desk.exit("a", 1, -9)

    assert (State.RUNNING, (3, "RUNNING")) == (oldest.state, cast(desk)[0])


def test_one_that_is_ready_takes_over_before_an_older_one_that_is_not() -> None:
    desk = with_understudies(2)
    desk.up("a", 1)
    desk.tick(0.1)
    desk.up("a", 3)
    desk.exit("a", 1, -9)

    assert (3, "RUNNING") == cast(desk)[0]


def test_whom_an_understudy_plays_is_recorded_before_it_is_handed_anything() -> None:
    desk = three()
    session = desk.core.house.sessions[desk.open()]
    desk.prompt(session.id)
    effects = desk.exit("a", 1, -9)

    (record,) = [each for each in effects if isinstance(each, Record)]
    assert ("a", 1) in [(row.plays, row.place) for row in record.rows if isinstance(row, EpochRow) and row.epoch == 2]
    handed = [each.after for each in effects if isinstance(each, TellActor) and isinstance(each.frame, Handover)]
    assert [record.ticket] == handed


def test_an_actor_that_is_started_anew_is_not_silent_because_the_one_before_was() -> None:
    desk = three()
    understudies(desk)[0].heard.silent = True
    desk.exit("a", 2, -9)
    desk.tick(0.1)

    assert [("a", 4)] == desk.spawned[3:]
    assert [False, False] == [each.heard.silent for each in understudies(desk)]


def test_a_person_starts_an_understudy_rather_than_another_beside_it() -> None:
    desk = three()
    desk.exit("a", 1, -9, survivors=1)
    stood = cast(desk)
    desk.verb("start")

    assert (1, "UNKNOWN") == stood[0]
    assert (2, "RUNNING") == cast(desk)[0]


def test_a_fork_that_fails_lets_an_understudy_take_over() -> None:
    desk = with_understudies(2)
    desk.up("a", 1)
    desk.tick(0.1)
    desk.exit("a", 1, -9)
    before = cast(desk)[0]
    desk.up("a", 3)
    desk.tell(SpawnFailed("a", 2, "no memory"))

    assert (2, "STARTING") == before
    assert (3, "RUNNING") == cast(desk)[0]


def test_a_start_ends_a_stop_for_understudies_as_well() -> None:
    desk = with_understudies(1, restored=Restored(stopped={"a": "this"}), life="this")
    stopped = cast(desk)
    desk.verb("start")
    desk.up("a", 1)
    desk.tick(0.1)
    desk.up("a", 2)

    assert [(0, "STOPPED"), (0, "STOPPED")] == stopped
    assert [(1, "RUNNING"), (2, "RUNNING")] == cast(desk)


def test_a_turns_time_counts_from_when_its_hand_over_is_recorded() -> None:
    desk = with_understudies(0)
    desk.up("a", 1)
    session = desk.core.house.sessions[desk.open()]
    desk.stuck = True
    desk.prompt(session.id)
    assert session.current is not None
    waiting = session.current.since
    desk.stuck = False
    desk.tick(3.0)

    assert (None, 3.0) == (waiting, session.current.since)
