"""What a person asks of an agent that several actors play is asked of all of them."""

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.errors import ACTOR_LOST
from understudy.protocol.frames import ActorCall, Begin, Ended, Fault, Result, Verb, pack, unpack
from understudy.supervisor.core import invariants
from understudy.supervisor.core.events import ClientSaid


def with_two() -> Desk:
    """Return a desk where two actors, each with a session, play one agent; no turn runs."""
    desk = Desk(agent(sessions_per_actor=1, actors_max=3))
    sessions = [desk.open() for _ in range(2)]
    for session in sessions:
        desk.prompt(session)
    for epoch, session in enumerate(sessions, 1):
        desk.said(Begin(session, 2), epoch=epoch)
        desk.said(Ended(1, session, 2, "end_turn"), epoch=epoch)
    assert {"a": "RUNNING", "a/2": "RUNNING"} == desk.states()
    return desk


def ask(desk: Desk, verb: str, **body: object) -> None:
    desk.tell(ClientSaid(CLIENT, Verb(verb, verb, pack({"names": ["a"], **body}))))


def test_a_stop_leaves_one_line() -> None:
    desk = with_two()

    ask(desk, "stop")
    desk.exit("a", 1)
    desk.exit("a", 2)

    assert {"a": "STOPPED"} == desk.states()


def test_a_start_after_a_stop_leaves_no_line_of_what_nobody_wants_yet() -> None:
    desk = with_two()
    ask(desk, "stop")
    desk.exit("a", 1)

    ask(desk, "start")
    desk.exit("a", 2)

    assert {"a": "RUNNING"} == desk.states()


def test_a_restart_starts_who_is_wanted() -> None:
    desk = with_two()

    ask(desk, "restart")
    desk.exit("a", 1)
    desk.exit("a", 2)

    assert {"a": "RUNNING"} == desk.states()
    assert Result("restart", pack([{"name": "a", "state": "RUNNING", "error": ""}])) == desk.told[-1]


def test_a_stop_of_a_place_that_waits_to_start_again_takes_its_line_away() -> None:
    desk = with_two()
    desk.late = True
    desk.exit("a", 2, 1)
    desk.exit("a", 3, 1)
    before = desk.states()

    ask(desk, "stop")
    desk.exit("a", 1)

    assert {"a": "RUNNING", "a/2": "BACKOFF"} == before
    assert {"a": "STOPPED"} == desk.states()


def test_a_signal_goes_to_all_and_is_answered_when_the_last_has_it() -> None:
    desk = with_two()
    told = len(desk.told)

    ask(desk, "signal", signal=1)
    invariants.of_house(desk.core.house)  # Also while it waits.
    calls = {peer: frame for peer, frame in desk.to_actor if isinstance(frame, ActorCall)}
    desk.said(Result(calls[b"a#1"].request), epoch=1)
    before = desk.told[told:]
    desk.said(Result(calls[b"a#2"].request), epoch=2)

    assert ([], [Result("signal", b"")]) == (before, desk.told[told:])


def test_a_signal_that_one_falls_over_is_answered_once() -> None:
    desk = with_two()
    told = len(desk.told)

    ask(desk, "signal", signal=9)
    desk.exit("a", 1, -9)
    desk.exit("a", 2, -9)

    faults = [each.code for each in desk.told[told:] if isinstance(each, Fault)]
    assert ([ACTOR_LOST], 1) == (faults, len(desk.told[told:]))


def of_all(desk: Desk, verb: str) -> None:
    desk.tell(ClientSaid(CLIENT, Verb(verb, verb, pack({"names": ["all"]}))))


def test_a_restart_of_everybody_leaves_it_to_a_prompt_to_start_who_is_lazy() -> None:
    desk = Desk(agent(), agent("rare", lazy=True), agent("up", lazy=True))
    session = desk.open("up")
    desk.prompt(session)
    desk.said(Begin(session, 2), "up")
    desk.said(Ended(1, session, 2, "end_turn"), "up")

    of_all(desk, "restart")
    for name in ("a", "up"):
        desk.exit(name, 1)

    assert {"a": "RUNNING", "rare": "STOPPED", "up": "STOPPED"} == desk.states()
    assert isinstance(desk.told[-1], Result)
    assert ["", "", ""] == [each["error"] for each in unpack(desk.told[-1].body)]


def test_a_start_of_everybody_starts_a_lazy_agent_for_which_a_prompt_waits() -> None:
    desk = Desk(agent(), agent("rare", lazy=True), agent("other", lazy=True))
    of_all(desk, "stop")
    desk.exit("a", 1)
    desk.prompt(desk.open("rare"))
    before = desk.states()

    of_all(desk, "start")

    assert {"a": "STOPPED", "other": "STOPPED", "rare": "STOPPED"} == before
    assert {"a": "RUNNING", "other": "STOPPED", "rare": "RUNNING"} == desk.states()


def test_a_lazy_agent_that_is_asked_for_by_its_name_is_started() -> None:
    desk = Desk(agent(lazy=True))

    ask(desk, "start")

    assert {"a": "RUNNING"} == desk.states()
