"""The actor's host, seen from the backstage: a scripted actor's real process and the test in the supervisor's place."""

import os
import signal

import pytest

from tests.faults.house import wait_until
from tests.stage import Stage, handover
from understudy.protocol import processes
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    ActorCall,
    ActorHello,
    Answer,
    Ask,
    Begin,
    CancelTurn,
    Ended,
    Fault,
    Goodbye,
    Recorded,
    Stop,
    Updates,
    pack,
    unpack,
)
from understudy.protocol.shown import read_shown, shown_path

pytestmark = pytest.mark.faults


# --- ready ------------------------------------------------------------------------


def test_an_actor_that_is_ready_says_hello(scripted: Stage) -> None:
    assert scripted.actor is not None

    assert ActorHello(PROTOCOL_VERSION, "rehearsal", 1, scripted.actor.pid) == scripted.hello


# --- turns ------------------------------------------------------------------------


def test_the_agent_sees_the_prompt_after_go_and_not_before(scripted: Stage) -> None:
    scripted.send(handover("hello"))
    begin = scripted.receive(Begin)
    before = (scripted.prompts(), scripted.is_silent(), read_shown(shown_path(str(scripted.folder), "rehearsal", 1)))
    scripted.begin()
    said, ended = scripted.text(Ended)

    assert Begin("s", 1) == begin
    assert ([], True, set()) == before
    assert ["hello"] == [prompt["text"] for prompt in scripted.prompts()]
    assert ("hello", "end_turn", 2) == (said, ended.reason, ended.n)


def test_what_the_agent_is_shown_outlives_the_actor(scripted: Stage) -> None:
    scripted.send(handover("[[sleep 5]] [[crash SIGKILL]]"))
    scripted.receive(Begin)
    scripted.begin()

    assert -signal.SIGKILL == scripted.status()
    assert {("s", 1)} == read_shown(shown_path(str(scripted.folder), "rehearsal", 1))


def test_the_mark_of_a_turn_stays_until_its_ending_is_recorded(scripted: Stage) -> None:
    path = shown_path(str(scripted.folder), "rehearsal", 1)
    scripted.send(handover("hello", go=True))
    ended = scripted.until(Ended)
    scripted.send(handover("hello", "t", go=True))
    scripted.until(Ended)
    unrecorded = read_shown(path)

    scripted.send(Recorded(ended.n), handover("hello", "u", go=True))
    scripted.until(Ended)

    assert {("s", 1), ("t", 1)} == unrecorded
    assert {("t", 1), ("u", 1)} == read_shown(path)


def test_a_turn_handed_over_with_go_needs_no_begin(scripted: Stage) -> None:
    scripted.play("hello")

    scripted.receive(Updates)
    assert "end_turn" == scripted.receive(Ended).reason


def test_sessions_are_played_at_once(scripted: Stage) -> None:
    scripted.play("[[ask first]]", "a")
    first = scripted.receive(Ask)
    scripted.play("hello", "b")

    assert "b" == scripted.until(Ended).session
    scripted.send(Answer("a", first.ask, pack({"outcome": {"outcome": "selected", "optionId": "allow"}})))
    assert "a" == scripted.until(Ended).session


def test_a_running_turn_is_cancelled(scripted: Stage) -> None:
    scripted.play("[[say on it]] [[sleep 60000]]")
    scripted.receive(Updates)
    scripted.send(CancelTurn("s", 1))

    assert "cancelled" == scripted.receive(Ended).reason


def test_a_turn_cancelled_before_go_is_never_shown(scripted: Stage) -> None:
    scripted.send(handover("hello"))
    scripted.receive(Begin)
    scripted.send(CancelTurn("s", 1))

    assert "cancelled" == scripted.receive(Ended).reason
    assert [] == scripted.prompts()


def test_a_hand_over_and_its_cancel_at_once_end_once(scripted: Stage) -> None:
    scripted.send(handover("hello"), CancelTurn("s", 1))

    assert "cancelled" == scripted.until(Ended).reason
    assert [] == scripted.prompts()


def test_a_signal_that_is_no_number_refuses_its_call(scripted: Stage) -> None:
    scripted.send(ActorCall("c1", "", "signal", "/", pack(float("inf"))))

    assert "c1" == scripted.receive(Fault).request


# --- questions and calls ----------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        (pack({"outcome": {"outcome": "selected", "optionId": "reject"}}), "end_turn", "answered: reject "),
        (b"\xc1", "failed", ""),
    ],
    ids=["an answer", "no msgpack"],
)
def test_a_question_gets_its_answer(scripted: Stage, answer: bytes, reason: str, text: str) -> None:
    scripted.play("[[ask May I?]]")
    ask = scripted.receive(Ask)
    scripted.send(Answer("s", ask.ask, answer))
    said, ended = scripted.text(Ended)

    assert ("rehearsal#1.1", "session/request_permission") == (ask.ask, ask.method)
    assert (text, reason) == (said, ended.reason)


def test_a_question_that_nobody_can_answer_fails_the_turn(scripted: Stage) -> None:
    scripted.play("[[ask May I?]]")
    ask = scripted.receive(Ask)
    scripted.send(Answer("s", ask.ask, error="nobody is there"))

    ended = scripted.until(Ended)

    assert ("failed", "nobody is there") == (ended.reason, unpack(ended.body)["text"])


# --- the end ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_an_actor_stops_in_order(scripted: Stage, how: str) -> None:
    scripted.play("[[say on it]] [[sleep 60000]]")
    said = scripted.receive(Updates)
    scripted.send(Recorded(said.n))
    if how == "stop":
        scripted.send(Stop(2.0))
    else:
        assert scripted.actor is not None
        scripted.actor.terminate()

    # Its turn has no ending: nobody cancelled it, and the supervisor knows what becomes of it.
    assert "stopped" == scripted.receive(Goodbye).reason
    assert 0 == scripted.status()


# --- the connection ---------------------------------------------------------------


def test_a_new_connection_gets_what_was_not_recorded_and_nothing_else(scripted: Stage) -> None:
    scripted.play("[[say one]] [[ask May I?]]")
    scripted.receive(Updates)
    ask = scripted.receive(Ask)
    scripted.unbind()
    scripted.bind()

    scripted.greet(committed=1)

    assert ask == scripted.receive(Ask)
    scripted.send(Answer("s", ask.ask, pack({"outcome": {"outcome": "cancelled"}})))
    assert 3 == scripted.receive(Updates).n
    assert 4 == scripted.receive(Ended).n


def test_what_is_said_while_nobody_listens_is_said_when_somebody_does(scripted: Stage) -> None:
    scripted.play("[[stream 50 2]]")
    scripted.receive(Updates)
    scripted.unbind()
    wait_until(lambda: bool(scripted.prompts()), "the prompt to be seen")
    scripted.bind()
    scripted.greet(committed=0)

    said, ended = scripted.text(Ended)

    assert [str(at) for at in range(1, 51)] == said.split()
    assert (51, "end_turn") == (ended.n, ended.reason)


def test_a_begin_whose_go_was_lost_is_said_again(scripted: Stage) -> None:
    scripted.send(handover("hello"))
    scripted.receive(Begin)
    scripted.unbind()
    scripted.bind()
    scripted.greet()
    scripted.send(handover("hello"))

    scripted.receive(Begin)
    scripted.begin()

    assert "end_turn" == scripted.until(Ended).reason
    assert 1 == len(scripted.prompts())


def test_an_actor_without_a_supervisor_ends_with_all_that_it_started(stage: Stage) -> None:
    stage.start(orphan_grace_s=0.2)
    stage.greet()
    stage.play("[[stray]] [[sleep 60000]]")
    wait_until(lambda: len(strays(stage)) == 1, "a stray")

    stage.unbind()

    assert -signal.SIGKILL == stage.status()
    wait_until(lambda: strays(stage) == [], "the stray to end")


def test_an_incarnation_that_is_refused_ends_and_says_why(stage: Stage) -> None:
    stage.start()
    stage.receive(ActorHello)
    stage.send(Fault("version_mismatch", "version 1 here, 7 there"))

    assert -signal.SIGKILL == stage.status()
    assert "rehearsal#1: refused: version 1 here, 7 there" in stage.stderr()


def strays(stage: Stage) -> list[int]:
    """Return what bears the stage's mark and left its actor's group."""
    assert stage.actor is not None
    found = []
    for pid in processes.marked(stage.mark):
        try:
            if os.getpgid(pid) != stage.actor.pid and processes.start_ticks(pid):
                found.append(pid)
        except ProcessLookupError:
            continue
    return found
