"""Where each actor plays few sessions: whoever waits for a place gets the one that gets free, however that comes."""

import pytest

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.frames import ActorCall, Begin, Call, Cancel, Ended, Fault, Goodbye, Result, Verb, pack, unpack
from understudy.supervisor.core.events import ClientSaid, Exited, HoldRow, Record, RestoredSession, RestRow
from understudy.supervisor.core.house import YIELDS_AFTER_S
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import Comeback, RestartPolicy


def plays(desk: Desk, session: str, epoch: int) -> None:
    """Let a turn of the session begin at a#epoch."""
    desk.prompt(session)
    desk.said(Begin(session, 2), epoch=epoch)


def ends(desk: Desk, session: str, epoch: int) -> None:
    desk.said(Ended(1, session, 2, "end_turn"), epoch=epoch)


def call(desk: Desk, session: str) -> None:
    desk.tell(ClientSaid(CLIENT, Call(f"call {session}", session, "ready", b"")))


def called(desk: Desk) -> list[str]:
    return [frame.session for _, frame in desk.to_actor if isinstance(frame, ActorCall)]


def endings(desk: Desk) -> list[str]:
    return [unpack(each.body)["reason"] for each in desk.entries if each.kind == "ended"]


def test_a_turn_that_waits_for_the_place_of_an_idle_actor_gets_it_also_beside_busy_ones() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=3))
    sessions = [desk.open() for _ in range(4)]
    for epoch, session in enumerate(sessions[:3], 1):
        plays(desk, session, epoch)
    ends(desk, sessions[1], 2)

    desk.prompt(sessions[3])
    desk.exit("a", 2)

    assert {"a": "RUNNING", "a/2": "RUNNING", "a/3": "RUNNING"} == desk.states()
    assert (b"a#4", 2) == desk.handed()[-1]


def test_a_prompt_that_races_the_end_of_an_idle_actor_is_played() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=2, idle_stop_s=5.0))
    sessions = [desk.open() for _ in range(2)]
    for epoch, session in enumerate(sessions, 1):
        plays(desk, session, epoch)
        ends(desk, session, epoch)
    desk.tick(6.0)

    desk.prompt(sessions[1])
    desk.exit("a", 1)
    desk.exit("a", 2)

    assert (b"a#3", 5) == desk.handed()[-1]


def test_a_place_where_something_was_left_over_keeps_nobody_from_the_others() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=3))
    sessions = [desk.open() for _ in range(3)]
    for epoch, session in enumerate(sessions[:2], 1):
        plays(desk, session, epoch)
    desk.tell(Exited("a", 2, 102, 1, survivors=1, shown=[]))

    desk.prompt(sessions[2])

    assert {"a": "RUNNING", "a/2": "UNKNOWN", "a/3": "RUNNING"} == desk.states()
    assert (b"a#3", 2) == desk.handed()[-1]


def test_what_only_a_left_over_actor_might_play_fails_with_the_reason() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=2))
    sessions = [desk.open() for _ in range(2)]
    for epoch, session in enumerate(sessions, 1):
        plays(desk, session, epoch)
        desk.tell(Exited("a", epoch, 100 + epoch, 1, survivors=1, shown=[]))

    desk.prompt(desk.open())

    assert "failed" == endings(desk)[-1]
    assert "could not be ended" in unpack(desk.entries[-1].body)["text"]


def test_a_turn_whose_actor_was_given_up_is_played_by_another_one() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=2, restart=RestartPolicy(intensity=1)))
    sessions = [desk.open() for _ in range(2)]
    plays(desk, sessions[0], 1)
    ends(desk, sessions[0], 1)
    desk.prompt(sessions[1])
    desk.exit("a", 2, 1)
    desk.exit("a", 3, 1)

    desk.exit("a", 1)

    assert {"a": "RUNNING", "a/2": "FATAL"} == desk.states()
    assert (b"a#4", 2) == desk.handed()[-1]


def test_a_person_who_starts_an_agent_gives_back_the_places_that_were_given_up() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=2, restart=RestartPolicy(intensity=0)))
    sessions = [desk.open() for _ in range(2)]
    for epoch, session in enumerate(sessions, 1):
        plays(desk, session, epoch)
    desk.exit("a", 2, 1)
    before = desk.states()

    desk.tell(ClientSaid(CLIENT, Verb("start", "start", pack({"names": ["a"]}))))

    assert {"a": "RUNNING", "a/2": "FATAL"} == before
    assert {"a": "RUNNING", "a/2": "RUNNING"} == desk.states()  # For the turn that no agent had seen.
    assert (b"a#3", 2) == desk.handed()[-1]


def test_a_turn_gets_the_place_of_an_actor_whose_call_is_answered() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    call(desk, first)
    desk.prompt(second)

    desk.said(Result("c1", pack(1)))
    asked = desk.asked_to_stop()
    desk.exit("a", 1)

    assert ([b"a#1"], [(b"a#2", 2)]) == (asked, desk.handed())


def test_a_turn_gets_the_place_of_an_actor_whose_caller_is_gone() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    call(desk, first)
    desk.prompt(second)

    desk.tell(ClientSaid(CLIENT, Goodbye("")))
    asked = desk.asked_to_stop()
    desk.exit("a", 1)

    assert ([b"a#1"], [(b"a#2", 2)]) == (asked, desk.handed())


def test_a_call_gets_the_place_of_an_actor_whose_turn_has_ended() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    plays(desk, first, 1)
    call(desk, second)

    ends(desk, first, 1)
    asked = desk.asked_to_stop()
    desk.exit("a", 1)

    assert ([b"a#1"], [second]) == (asked, called(desk))


def test_an_actor_that_is_stopped_before_it_starts_leaves_what_it_was_to_play_to_others() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=2), actors_max=1)
    sessions = [desk.open() for _ in range(3)]
    plays(desk, sessions[0], 1)
    desk.prompt(sessions[1])
    desk.tell(ClientSaid(CLIENT, Cancel("cancel", sessions[1])))
    desk.tell(ClientSaid(CLIENT, Verb("stop", "stop", pack({"names": ["a"]}))))
    desk.exit("a", 1)

    desk.tell(ClientSaid(CLIENT, Verb("start", "start", pack({"names": ["a"]}))))
    desk.prompt(sessions[0])
    desk.prompt(sessions[2])

    assert [[sessions[0]], [sessions[2]]] == [list(each.holds) for each in desk.core.house.agents["a"].actors]


def test_what_was_left_over_in_a_place_is_known_to_the_next_supervisor_until_a_person_has_seen_to_it() -> None:
    desk, sessions = with_something_left_over()
    after = next_desk(desk, sessions)

    after.prompt(sessions[1])
    states, ending = after.states(), unpack(after.entries[-1].body)
    after.tell(ClientSaid(CLIENT, Verb("start", "start", pack({"names": ["a"]}))))

    assert {"a": "RUNNING", "a/2": "UNKNOWN"} == states
    assert ("failed", True) == (ending["reason"], "could not be ended" in ending["text"])
    assert {"a": "RUNNING"} == after.states() == next_desk(after, sessions).states()


def test_what_an_actor_knew_that_had_ended_is_free_for_others_after_a_fall_of_the_supervisor() -> None:
    desk = Desk(agent(sessions_per_actor=1, restart=RestartPolicy(Comeback.TEMPORARY)))
    sessions = [desk.open() for _ in range(2)]
    plays(desk, sessions[0], 1)
    ends(desk, sessions[0], 1)
    desk.exit("a", 1)
    after = next_desk(desk, sessions)

    before = after.states()
    after.prompt(sessions[1])

    assert ({"a": "EXITED"}, [sessions[1]]) == (before, list(after.core.house.agents["a"].first.holds))


def with_something_left_over() -> tuple[Desk, list[str]]:
    desk = Desk(agent(sessions_per_actor=1, actors_max=3))
    sessions = [desk.open() for _ in range(2)]
    for epoch, session in enumerate(sessions, 1):
        plays(desk, session, epoch)
    desk.tell(Exited("a", 2, 102, 1, survivors=1, shown=[]))
    return desk, sessions


def next_desk(desk: Desk, sessions: list[str]) -> Desk:
    """Return the desk of a supervisor that comes after this one, whose actors are all dead."""
    rows = [row for each in desk.effects if isinstance(each, Record) for row in each.rows]
    restored = Restored(
        [RestoredSession(each, "a", "/", b"", b"", 9, 0.0) for each in sessions],
        epochs={"a": desk.core.house.launches["a"].epoch},
        rests={row.agent: row for row in rows if isinstance(row, RestRow)},
        holds={row.session: (row.launch, row.epoch) for row in rows if isinstance(row, HoldRow)},
    )
    return Desk(desk.core.house.agents["a"].spec, restored=restored)


@pytest.mark.parametrize("name", ["a/2", "a~1"])
def test_who_asks_for_one_actor_is_told_to_name_its_agent(name: str) -> None:
    fault = Desk(agent("a")).ask(Verb("r", "stop", pack({"names": [name]})))

    assert isinstance(fault, Fault)
    assert f"{name}: one actor cannot be asked for by itself; name its agent: a" == fault.text


def busy(desk: Desk, session: str, epoch: int, turns: int) -> None:
    """Queue so many turns of a session, and let the first begin at a#epoch."""
    for _ in range(turns):
        desk.prompt(session)
    desk.said(Begin(session, 2), epoch=epoch)


def test_a_session_that_always_has_a_next_turn_gives_its_place_to_one_that_waited_for_long() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    busy(desk, first, 1, turns=3)
    desk.prompt(second)
    desk.tick(YIELDS_AFTER_S)

    ends(desk, first, 1)
    asked = desk.asked_to_stop()
    desk.exit("a", 1)
    desk.said(Begin(second, 2), epoch=2)
    ends(desk, second, 2)
    desk.exit("a", 2)

    assert [b"a#1"] == asked
    assert [(b"a#1", 2), (b"a#2", 2), (b"a#3", 3)] == desk.handed()  # And the place goes back.


def test_a_session_keeps_its_place_while_nobody_has_waited_for_long() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    busy(desk, first, 1, turns=3)
    desk.tick(YIELDS_AFTER_S)
    desk.prompt(second)

    ends(desk, first, 1)

    assert ([], [(b"a#1", 2), (b"a#1", 3)]) == (desk.asked_to_stop(), desk.handed())


def test_a_session_that_just_got_its_place_is_played_before_it_gives_it_to_another() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second, third = (desk.open() for _ in range(3))
    busy(desk, first, 1, turns=3)
    desk.prompt(second)
    desk.tick(1.0)
    desk.prompt(third)
    desk.tick(2 * YIELDS_AFTER_S)

    ends(desk, first, 1)
    desk.exit("a", 1)

    assert (b"a#2", 2) == desk.handed()[-1]
    assert [second] == list(desk.core.house.agents["a"].first.holds)


def test_of_several_places_one_is_given_and_the_others_go_on() -> None:
    desk = Desk(agent(sessions_per_actor=2, actors_max=2))
    sessions = [desk.open() for _ in range(5)]
    for at, session in enumerate(sessions[:4]):
        busy(desk, session, 1 + at // 2, turns=3)
    desk.prompt(sessions[4])
    desk.tick(YIELDS_AFTER_S)

    desk.said(Ended(1, sessions[0], 2, "end_turn"), epoch=1)
    desk.said(Ended(1, sessions[2], 2, "end_turn"), epoch=2)
    before = desk.asked_to_stop()
    desk.said(Ended(2, sessions[1], 2, "end_turn"), epoch=1)
    desk.exit("a", 1)

    handed = desk.handed()
    assert ([], [b"a#1"]) == (before, desk.asked_to_stop())
    assert (b"a#2", 3) in handed, "the actor with more turns went on"
    assert (b"a#3", 2) in handed, "who waited has the place"


def test_a_call_that_waited_for_long_gets_a_place_as_well() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    busy(desk, first, 1, turns=3)
    call(desk, second)
    desk.tick(YIELDS_AFTER_S)

    ends(desk, first, 1)
    desk.exit("a", 1)

    assert [second] == called(desk)


def test_where_few_turns_may_run_sessions_take_turns() -> None:
    desk = Desk(agent(turns_max=1))
    first, second = desk.open(), desk.open()
    busy(desk, first, 1, turns=3)
    desk.prompt(second)

    ends(desk, first, 1)

    running = [each.id for each in desk.core.house.sessions.values() if each.current is not None]
    assert [second] == running


def test_where_few_turns_may_run_who_waited_for_long_has_the_next_whoever_has_it_in_hand() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=2, turns_max=1))
    first, second = desk.open(), desk.open()
    busy(desk, first, 1, turns=4)
    desk.prompt(second)
    desk.tick(YIELDS_AFTER_S)

    ends(desk, first, 1)

    assert [(b"a#1", 2), (b"a#2", 2)] == desk.handed()


def test_who_waits_for_a_place_is_told_so() -> None:
    desk = Desk(agent(sessions_per_actor=1, actors_max=1))
    first, second = desk.open(), desk.open()
    busy(desk, first, 1, turns=1)

    desk.prompt(second)

    assert "a place; actors_max: 1 of 1 actors play" == desk.row("a")["waiting_for"]
