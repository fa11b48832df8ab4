"""What a supervisor that starts makes of open turns: by who lives, and by what the dead had shown."""

from random import Random

import pytest

from tests.desk import Desk
from understudy.protocol.frames import BACKSTAGE_VERSION, ActorHello, Ended, Entry, pack, unpack
from understudy.protocol.news import TurnGivenUp
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    Announce,
    Effect,
    Exited,
    ForgetMarks,
    Kill,
    LogState,
    Record,
    RestoredSession,
    RestRow,
    Spawn,
    Spawned,
    TurnRow,
)
from understudy.supervisor.core.life import State
from understudy.supervisor.core.restored import Restored, RestoredTurn, Shown
from understudy.supervisor.core.specs import AgentSpec, Comeback, HouseSpec, RestartPolicy

BODY = pack([{"type": "text", "text": "x"}])


def turn(session: str, epoch: int, state: LogState = LogState.STARTED, told: list[Entry] | None = None) -> RestoredTurn:
    return RestoredTurn(session, 1, state, "r", [], BODY, "", told or [], epoch)


class Start:
    """The start of a supervisor: `turns` were open, `shown` is what dead actors left, the epochs `living` of `a` live."""

    def __init__(self, *turns: RestoredTurn, shown: Shown, living: tuple[int, ...] = (), agent: str = "a") -> None:
        sessions = [RestoredSession(each.session, "a", "/", b"", b"", 2, 0.0) for each in turns]
        spec = HouseSpec((AgentSpec(agent, understudies=1),), "/r", "/s")
        processes = [Spawned("a", epoch, 70 + epoch, 7) for epoch in living]
        restored = Restored(sessions, list(turns), epochs={"a": 9})
        self.core = Core(spec, restored, shown, Random(1), processes, 0.0, 0.0)
        self.effects = self.core.start(0.0, 0.0)

    def handle(self, event: Exited) -> None:
        self.effects = self.core.handle([event], 1.0, 0.0)

    @property
    def settled(self) -> dict[str, str]:
        """Session -> how its turn ended, or that it waits again; none whose actor has it still."""
        rows = [row for each in self.effects if isinstance(each, Record) for row in each.rows]
        states = {row.session: row.state for row in rows if isinstance(row, TurnRow)}
        found = {name: state.value for name, state in states.items() if state is not LogState.STARTED}
        endings = {
            row.session: unpack(row.body)["reason"] for row in rows if isinstance(row, Entry) and row.kind == "ended"
        }
        return found | endings

    @property
    def forgotten(self) -> list[tuple[str, int, int]]:
        return [(each.actor, each.epoch, each.after) for each in self.effects if isinstance(each, ForgetMarks)]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({("a", 1): {("s", 1)}}, "interrupted"),
        ({("a", 1): set()}, "queued"),
        ({("a", 1): {("s", 2), ("t", 1)}}, "queued"),
        ({("a", 1): None}, "interrupted"),
        ({}, "interrupted"),
        ({("a", 2): set(), ("b", 1): set()}, "interrupted"),
    ],
    ids=["shown", "nothing shown", "others shown", "not believed", "no file", "files of others"],
)
def test_a_turn_is_settled_by_what_its_own_actor_had_shown(shown: Shown, expected: str) -> None:
    assert {"s": expected} == Start(turn("s", 1), shown=shown).settled


def test_whoever_waits_for_turns_of_an_agent_that_left_the_configuration_is_told_why() -> None:
    start = Start(turn("s", 1), turn("t", 0, LogState.QUEUED), shown={}, agent="another")

    rows = [row for each in start.effects if isinstance(each, Record) for row in each.rows]
    text = "the turn waits: agent a is no longer in the configuration; put it back, then: understudy reload; or cancel the turn"
    notes = [
        (row.session, row.turn, unpack(row.body)["text"])
        for row in rows
        if isinstance(row, Entry) and row.kind == "note"
    ]
    assert [("t", 1, text)] == notes
    assert {"s": "interrupted"} == start.settled


def test_the_turns_of_who_lives_wait_and_those_of_the_dead_beside_it_do_not() -> None:
    start = Start(turn("dead", 1), turn("alive", 2), shown={("a", 1): {("dead", 1)}}, living=(2,))

    assert {"dead": "interrupted"} == start.settled
    start.handle(Exited("a", 2, 72, -9, shown=[("alive", 1)]))
    assert {"alive": "interrupted"} == start.settled


def test_a_turn_of_an_older_versions_log_is_taken_to_be_the_living_players_and_recorded_so() -> None:
    start = Start(turn("s", 0), shown={}, living=(3, 4))

    rows = [row for each in start.effects if isinstance(each, Record) for row in each.rows]
    assert TurnRow("s", 1, LogState.STARTED, epoch=3, launch="a") in rows
    assert {} == start.settled


def test_a_turn_of_an_older_versions_log_whose_actor_is_dead_may_have_been_seen() -> None:
    assert {"s": "interrupted"} == Start(turn("s", 0), shown={("a", 1): set()}).settled


def test_marks_are_forgotten_once_what_was_made_of_their_turns_is_committed() -> None:
    start = Start(turn("s", 1), shown={("a", 1): {("s", 1)}, ("a", 2): set()})

    ticket = start.core.house.ticket
    assert ticket > 0
    assert [("a", 1, ticket), ("a", 2, ticket)] == start.forgotten


def test_the_turns_of_an_agent_that_left_are_settled_by_the_marks_of_its_actors() -> None:
    shown: Shown = {("a", 1): {("s", 1)}, ("a", 2): set()}
    start = Start(turn("s", 1), turn("t", 2), turn("u", 3), shown=shown, living=(3,), agent="b")

    assert [("a", 1), ("a", 2)] == [each[:2] for each in start.forgotten]
    assert {"s": "interrupted", "t": "queued"} == start.settled
    start.handle(Exited("a", 3, 73, -9, shown=[("u", 1)]))
    assert ([("a", 3)], {"u": "interrupted"}) == ([each[:2] for each in start.forgotten], start.settled)


@pytest.mark.parametrize("body", [b"\xc1", pack([]), pack({"ask": 5})], ids=["no msgpack", "no map", "no name"])
def test_a_session_whose_questions_cannot_be_read_is_set_apart_and_the_house_starts(body: bytes) -> None:
    broken = turn("broken", 1, told=[Entry("broken", 2, 2, 1, "asked", body, 0.0)])

    start = Start(broken, turn("whole", 1), shown={("a", 1): set()})

    assert {"whole": "queued", "broken": "failed"} == start.settled
    assert "cannot be read from the log" in start.core.house.sessions["broken"].quarantined


@pytest.mark.parametrize("state", [LogState.STARTED, LogState.QUEUED, LogState.CANCELLING])
def test_a_turn_of_a_session_that_the_log_gives_back_as_damaged_has_its_ending_and_is_told_of(state: LogState) -> None:
    """Or whoever waits for that would wait for ever."""
    known = RestoredSession("s", "a", "/", b"", b"", 2, 0.0, damage="turn 1 cannot be read")
    restored = Restored([known], [turn("s", 1, state)])
    core = Core(HouseSpec((AgentSpec("a"),), "/r", "/s"), restored, {}, Random(1), [], 0.0, 0.0)

    effects = core.start(0.0, 0.0)

    assert "turn 1 cannot be read" == core.house.sessions["s"].quarantined
    rows = [row for each in effects if isinstance(each, Record) for row in each.rows]
    assert [("s", 1, LogState.ENDED)] == [
        (row.session, row.turn, row.state) for row in rows if isinstance(row, TurnRow)
    ]
    (ending,) = [unpack(row.body) for row in rows if isinstance(row, Entry)]
    assert ("failed", "quarantined") == (ending["reason"], ending["code"])
    (given_up,) = [each.news for each in effects if isinstance(each, Announce)]
    assert isinstance(given_up, TurnGivenUp)
    assert ("s", 1, True) == (given_up.session, given_up.turn, "turn 1 cannot be read" in given_up.why)


def test_an_exit_that_is_in_the_log_and_told_again_changes_nothing() -> None:
    """The supervisor fell after it wrote it down, before the keeper heard so."""
    spec = HouseSpec((AgentSpec("a", restart=RestartPolicy(policy=Comeback.TRANSIENT)),), "", "")
    core = Core(spec, Restored(), {}, Random(1), [], 0.0, 0.0)
    core.start(0.0, 0.0)
    core.handle([Spawned("a", 1, 7, 7), ActorSaid(b"a", ActorHello(BACKSTAGE_VERSION, "a", 1, 7))], 0.0, 0.0)
    effects = core.handle([Exited("a", 1, 7, 0)], 0.0, 0.0)
    rests = [row for each in effects if isinstance(each, Record) for row in each.rows if isinstance(row, RestRow)]
    following = Core(spec, Restored(epochs={"a": 1}, rests={"a": rests[-1]}), {}, Random(1), [], 0.0, 0.0)
    following.start(0.0, 0.0)
    child = following.house.agents["a"].first
    before = (child.state, str(child.why))

    effects = following.handle([Exited("a", 1, 7, 0)], 0.0, 0.0)

    assert (State.EXITED, "exited with status 0") == before == (child.state, str(child.why))
    assert any(isinstance(each, ForgetMarks) for each in effects)  # The keeper hears it now.


@pytest.mark.parametrize("launch", ["a", ""], ids=["as a part now", "by itself now"])
@pytest.mark.parametrize(("shown", "expected"), [([], "queued"), ([("s", 1)], "interrupted")], ids=["unseen", "seen"])
def test_a_turn_of_an_agent_that_is_launched_otherwise_now_waits_for_the_end_of_the_actor_that_has_it(
    launch: str, shown: list[tuple[str, int]], expected: str
) -> None:
    before = "p" if launch else "a"
    spec = HouseSpec((AgentSpec("a"), AgentSpec("p", launch=launch)), "/r", "/s")
    restored = Restored(
        [RestoredSession("s", "p", "/", b"", b"", 2, 0.0)],
        [RestoredTurn("s", 1, LogState.STARTED, "r", [], BODY, epoch=1, launch=before)],
        epochs={before: 1},
        cast={(before, 1): ("p", 1)},
    )
    core = Core(spec, restored, {}, Random(1), [Spawned(before, 1, 71, 7)], 0.0, 0.0)
    first = core.start(0.0, 0.0)
    then = core.handle([Exited(before, 1, 71, -9, shown=shown)], 1.0, 0.0)

    def plays(effects: list[Effect]) -> list[str | None]:
        return [each.plays for each in effects if isinstance(each, Spawn)]

    states = [row.state for each in then if isinstance(each, Record) for row in each.rows if isinstance(row, TurnRow)]
    endings = [row for each in then if isinstance(each, Record) for row in each.rows if isinstance(row, Entry)]
    assert [] == [each for each in first if isinstance(each, Kill)]  # It may finish the turn.
    assert (["a"], ["p"]) == (plays(first), plays(then))
    assert [LogState.ENDED if expected == "interrupted" else LogState.QUEUED] == states
    assert expected == "queued" or unpack(endings[-1].body)["reason"] == expected


def test_a_prompt_to_a_lazy_agent_whose_surplus_actor_finishes_a_turn_is_played_after_that() -> None:
    open_turn = RestoredTurn("s", 1, LogState.STARTED, "r", [], BODY, epoch=1, launch="a")
    session = RestoredSession("s", "a", "/", b"", b"", 2, 0.0)
    restored = Restored([session], [open_turn], epochs={"a": 1}, cast={("a", 1): ("a", 2)})
    desk = Desk(AgentSpec("a", lazy=True), restored=restored, living=[Spawned("a", 1, 101, 7)])
    desk.said(ActorHello(BACKSTAGE_VERSION, "a", 1, 101))
    desk.prompt("s")
    desk.said(Ended(1, "s", 1, "end_turn"))
    before = desk.states()

    desk.exit("a", 1)

    assert {"a": "STOPPED", "a/2": "STOPPING"} == before
    assert (b"a#2", 3) == desk.handed()[-1]


def test_what_breaks_at_the_end_of_an_actor_that_was_launched_otherwise_sets_its_own_agent_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restored = Restored(epochs={"a": 2}, cast={("a", 1): ("a", 1), ("a", 2): ("p", 1)})
    living = [Spawned("a", 1, 101, 7), Spawned("a", 2, 102, 7)]
    desk = Desk(AgentSpec("a"), AgentSpec("p"), restored=restored, living=living)
    desk.said(ActorHello(BACKSTAGE_VERSION, "a", 1, 101))
    broken = [AssertionError("broken")]

    def after_fall(*_: object) -> None:
        if broken:
            raise broken.pop()

    monkeypatch.setattr("understudy.supervisor.core.casting.after_fall", after_fall)
    desk.exit("a", 2, -9)

    agents = desk.core.house.agents
    assert ("", True) == (agents["a"].apart, "broken" in agents["p"].apart)
    assert "RUNNING" == desk.states()["a"]
