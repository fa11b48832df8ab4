"""Sessions that bring an environment: who plays them, beside whom, and what is left of it all."""

import pytest

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.frames import ActorCall, Begin, Call, Ended, Fault, Follow, Handover, Open, Opened, unpack
from understudy.supervisor.core.agent import OWN_IDLE_STOP_S
from understudy.supervisor.core.events import ClientSaid, KeepEnvironment, RestoredSession, SessionRow, Spawned
from understudy.supervisor.core.restored import Restored


def play(desk: Desk, session: str, actor: str, epoch: int, number: int = 1) -> None:
    """Play a turn of the session to its end."""
    desk.prompt(session)
    turn = next(frame.turn for _, frame in reversed(desk.to_actor) if isinstance(frame, Handover))
    desk.said(Begin(session, turn), actor, epoch)
    desk.said(Ended(number, session, turn, "end_turn"), actor, epoch)


def given(desk: Desk) -> list[tuple[bytes, str]]:
    return [(peer, frame.session) for peer, frame in desk.to_actor if isinstance(frame, Handover)]


def test_each_environment_has_its_actor_and_the_configured_one_the_first_place() -> None:
    desk = Desk(agent(actors_max=3))
    plain, one, two, again = desk.open(), desk.open(E="1"), desk.open(E="2"), desk.open(E="1")
    for session in (one, plain, two, again):
        desk.prompt(session)

    assert [(b"a@1#1", one), (b"a#1", plain), (b"a@2#1", two), (b"a@1#1", again)] == given(desk)
    assert {"a": "", "a/2": "1", "a/3": "2"} == {name: desk.row(name)["environment"] for name in desk.states()}


def test_there_is_room_for_one_of_another_environment_beside_the_only_actor_and_it_makes_room_for_the_next() -> None:
    desk = Desk(agent(actors_max=1))
    one, two = desk.open(E="1"), desk.open(E="2")
    play(desk, one, "a@1", 1)

    desk.prompt(two)
    desk.exit("a@1", 1)

    assert [(b"a@1#1", one), (b"a@2#1", two)] == given(desk)
    assert {"a": "RUNNING", "a/2": "RUNNING"} == desk.states()


@pytest.mark.parametrize("lazy", [False, True])
def test_status_says_that_a_session_waits_for_a_place_and_not_that_one_with_an_actor_does(lazy: bool) -> None:
    desk = Desk(agent(actors_max=2, lazy=lazy))
    one, two = desk.open(E="1"), desk.open(E="2")
    desk.prompt(one)
    desk.prompt(one)
    before = desk.row("a")["waiting_for"]

    desk.prompt(two)

    assert "actors_max" not in before, before
    assert "a place; actors_max: 2 of 2 actors play" == desk.row("a")["waiting_for"]


def test_one_whose_actors_are_all_taken_holds_up_nobody_else() -> None:
    desk = Desk(agent(actors_max=2))
    one, two, plain = desk.open(E="1"), desk.open(E="2"), desk.open()
    for session in (one, two, plain):
        desk.prompt(session)
    desk.tell(ClientSaid(CLIENT, Call("c", two, "ready", b"")), ClientSaid(CLIENT, Call("d", plain, "ready", b"")))

    assert [(b"a@1#1", one), (b"a#1", plain)] == given(desk)
    assert [plain] == [frame.session for _, frame in desk.to_actor if isinstance(frame, ActorCall)]


def test_an_actor_of_an_environment_ends_when_it_was_idle_for_long_and_is_forgotten_with_its_launch() -> None:
    desk = Desk(agent())
    before = len(desk.core.house.launches)
    session = ""
    for number in range(1, 50):
        session = desk.open(E=str(number))
        play(desk, session, f"a@{number}", 1)
        desk.tick(OWN_IDLE_STOP_S + 1)
        desk.exit(f"a@{number}", 1)

    assert {"a": "RUNNING"} == desk.states()
    assert before == len(desk.core.house.launches)
    play(desk, session, "a@49", 2)
    assert (b"a@49#2", session) == given(desk)[-1]  # Not as an epoch that was given out before.


def test_while_a_client_holds_one_of_its_sessions_it_stays() -> None:
    desk = Desk(agent())
    session = desk.open(E="1")
    play(desk, session, "a@1", 1)
    desk.tell(ClientSaid(CLIENT, Follow(1, session, 1, 1_000, holds=True)))

    desk.tick(OWN_IDLE_STOP_S + 1)

    assert {"a": "RUNNING", "a/2": "RUNNING"} == desk.states()


@pytest.mark.parametrize("stuck", [False, True])
def test_a_session_is_recorded_once_its_environment_is_kept_and_never_with_what_is_in_it(stuck: bool) -> None:
    desk = Desk(agent())
    desk.keeps = not stuck

    answer = desk.ask(Open("o", "a", "/", env={"KEY": "secret"}))

    recorded = [row.environment for row in desk.rows if isinstance(row, SessionRow)]
    if stuck:
        assert isinstance(answer, Fault)
        assert "the disk is full" in answer.text
        assert [] == recorded
    else:
        assert isinstance(answer, Opened)
        assert ["secret"] == recorded  # The desk's name for it.
        assert answer == desk.ask(Open("o", "a", "/", env={"KEY": "secret"}))
        other = desk.ask(Open("o", "a", "/", env={"KEY": "another"}))
        assert isinstance(other, Fault)
        assert "request_reused" == other.code
    assert "secret" not in repr([each for each in desk.effects if isinstance(each, KeepEnvironment)])


def test_what_would_be_refused_anyway_is_not_kept() -> None:
    desk = Desk(agent(sessions_max=1))
    desk.open()
    before = len(desk.effects)

    for frame in (Open("o", "a", "/", env={"E": "1"}), Open("o", "nobody", "/", env={"E": "1"})):
        assert isinstance(desk.ask(frame), Fault)

    assert [] == [each for each in desk.effects[before:] if isinstance(each, KeepEnvironment)]


def test_the_folder_counts_where_the_agent_says_so() -> None:
    desk = Desk(agent(per_folder=True, cwd="/there"), agent("b"))
    desk.ask(Open("one", "a", "/there"))
    desk.ask(Open("two", "a", "/elsewhere"))
    desk.ask(Open("three", "b", "/elsewhere"))

    assert [("two", "/elsewhere")] == [
        (each.frame.request, each.cwd) for each in desk.effects if isinstance(each, KeepEnvironment)
    ]


def test_a_supervisor_that_comes_back_finds_it_in_its_place_and_gives_it_the_session() -> None:
    known = RestoredSession("s", "a", "/", b"", b"", 9, 0.0, environment="1")
    restored = Restored([known], epochs={"a@1": 4}, cast={("a@1", 4): ("a", 3)}, holds={"s": ("a@1", 4)})
    desk = Desk(agent(actors_max=3), restored=restored, living=[Spawned("a@1", 4, 104, 1, "a", 3)])
    desk.up("a@1", 4)

    desk.prompt("s")

    assert [(b"a@1#4", "s")] == given(desk)
    assert {"a": "RUNNING", "a/3": "RUNNING"} == desk.states()


def test_one_that_does_not_start_gives_its_place_up_soon_and_its_turns_say_why() -> None:
    desk = Desk(agent(actors_max=2), late=True)
    desk.up("a", 1)
    bad, good = desk.open(E="1"), desk.open(E="2")
    for session in (bad, good):
        desk.prompt(session)
    for epoch in (1, 2, 3):
        desk.exit("a@1", epoch, 1)
        desk.tick(40.0)

    desk.up("a@2", 1)

    assert ["failed"] == desk.endings()
    told = [unpack(each.body)["text"] for each in desk.entries if each.kind == "ended"]
    assert "3 starts in vain with what its session brought" in told[0]
    assert [(b"a@2#1", good)] == given(desk)


def test_a_repeat_is_one_however_the_folder_counts_by_now() -> None:
    desk = Desk(agent(per_folder=True, cwd="/there"))
    opened = desk.ask(Open("o", "a", "/elsewhere"))

    desk.core.house.agents["a"].spec = agent(cwd="/there")

    assert opened == desk.ask(Open("o", "a", "/elsewhere"))
