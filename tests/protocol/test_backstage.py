"""The actor's side of the backstage, which is pure: what each frame means, and what is said when."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from understudy.protocol.backstage import (
    UNRECORDED_BYTES_MAX,
    UPDATES_BYTES_MAX,
    Answered,
    Backstage,
    Called,
    Freed,
    GoGiven,
    LinkRefused,
    StopAsked,
    TurnCancelled,
    TurnHanded,
)
from understudy.protocol.errors import BAD_FRAME, LIMIT_REACHED, NO_HELLO, LocalError
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
    FromActor,
    Go,
    Goodbye,
    Handover,
    Part,
    Ping,
    Pong,
    Recorded,
    Remember,
    Result,
    Stop,
    ToActor,
    Updates,
    Welcome,
    unpack,
)
from understudy.protocol.sizes import ENTRY_BYTES_MAX, UPDATES_PER_FRAME_MAX
from understudy.protocol.standing import Standing

HELLO = ActorHello(PROTOCOL_VERSION, "claude", 3, 42)
HELLO_AGAIN = ActorHello(PROTOCOL_VERSION, "claude", 3, 42, 2)


def welcome(committed: int = 0) -> Welcome:
    return Welcome(PROTOCOL_VERSION, epoch=1, committed=committed)


def handover(session: str = "s", turn: int = 1, go: bool = False) -> Handover:
    return Handover(session, turn, "/", b"\x90", go=go)


def greeting() -> Backstage:
    machine = Backstage("claude", 3, 42)
    machine.connected()
    return machine


def up(*frames: ToActor) -> Backstage:
    """Return a machine whose hello was answered, after `frames`."""
    machine = greeting()
    for frame in (welcome(), *frames):
        machine.receive(frame)
    machine.frames_to_send()
    return machine


def said(frame: FromActor) -> Any:
    return unpack(getattr(frame, "body", b""))


# --- the connection ---------------------------------------------------------------


def test_nothing_but_the_hello_goes_out_before_it_is_answered() -> None:
    machine = greeting()
    machine.say("s", 0, {"a": 1})

    assert [HELLO] == machine.frames_to_send()
    assert [] == machine.frames_to_send()


def test_what_was_said_before_the_welcome_follows_it() -> None:
    machine = greeting()
    machine.say("s", 0, {"a": 1})
    machine.frames_to_send()

    machine.receive(welcome())

    assert [[{"a": 1}]] == [said(frame) for frame in machine.frames_to_send()]


def test_a_refused_incarnation_stays_refused() -> None:
    machine = greeting()

    assert [LinkRefused("too old")] == machine.receive(Fault("version_mismatch", "too old"))
    machine.disconnected()

    assert Standing.REFUSED is machine.standing


def test_a_broken_link_is_down_and_sends_nothing() -> None:
    machine = up()
    machine.remember("s", 1)

    machine.disconnected()

    assert (Standing.DOWN, []) == (machine.standing, machine.frames_to_send())


def test_an_actor_that_was_given_up_says_hello_again_and_what_is_not_acknowledged() -> None:
    machine = Backstage("claude", 3, 42)
    machine.connected()
    machine.frames_to_send()
    machine.receive(welcome())
    machine.say("s", 0, {"a": 1})
    said = machine.frames_to_send()

    # What else it had said meanwhile is not known either, and each of it is told of.
    assert [] == machine.receive(Fault(NO_HELLO, "say hello")) + machine.receive(Fault(NO_HELLO, "say hello"))
    assert [HELLO_AGAIN] == machine.frames_to_send()
    machine.receive(welcome())
    assert said == machine.frames_to_send()


def test_a_ping_is_answered() -> None:
    machine = up()

    assert [] == machine.receive(Ping())
    assert [Pong()] == machine.frames_to_send()


@pytest.mark.parametrize("frame", [Pong(), Part(True, b"")])
def test_what_asks_for_nothing_means_nothing(frame: ToActor) -> None:
    machine = up()

    assert [] == machine.receive(frame)
    assert [] == machine.frames_to_send()


def test_what_is_asked_of_the_host_is_passed_on() -> None:
    machine = up()
    answer, call = Answer("s", "claude#3.1"), ActorCall("c1", "s", "ready", "/")

    assert [Answered(answer)] == machine.receive(answer)
    assert [Called(call)] == machine.receive(call)
    assert [StopAsked(2.0)] == machine.receive(Stop(2.0))


# --- turns ------------------------------------------------------------------------


def test_a_handover_is_handed_on_once() -> None:
    machine = up()

    assert [TurnHanded(handover())] == machine.receive(handover())
    assert [] == machine.receive(handover())


def test_a_handover_that_crosses_the_turns_ending_is_not_played_again() -> None:
    machine = up(handover())
    machine.end("s", 1, "cancelled")
    machine.disconnected()
    machine.connected()
    machine.receive(welcome())

    assert [] == machine.receive(handover())


def test_begin_waits_for_go_and_go_is_given_once() -> None:
    machine = up(handover())

    assert not machine.begin("s", 1)
    assert [Begin("s", 1)] == machine.frames_to_send()
    assert [GoGiven("s", 1)] == machine.receive(Go("s", 1))
    assert [] == machine.receive(Go("s", 1))
    assert machine.begin("s", 1)


def test_a_turn_handed_over_with_go_begins_at_once() -> None:
    machine = up(handover(go=True))

    assert machine.begin("s", 1)
    assert [] == machine.frames_to_send()


@pytest.mark.parametrize(("gone", "expected"), [(False, [HELLO_AGAIN, Begin("s", 1)]), (True, [HELLO_AGAIN])])
def test_a_begin_without_its_go_is_said_again_on_the_next_connection(gone: bool, expected: list[FromActor]) -> None:
    machine = up(handover())
    machine.begin("s", 1)
    if gone:
        machine.receive(Go("s", 1))
    machine.disconnected()

    machine.connected()
    sent = machine.frames_to_send()
    machine.receive(welcome())

    assert expected == sent + machine.frames_to_send()


def test_a_begin_that_came_before_the_hand_over_is_said_again_after_it() -> None:
    machine = up(handover())
    machine.begin("s", 1)
    machine.disconnected()
    machine.connected()
    machine.receive(welcome())
    machine.frames_to_send()

    machine.receive(handover())  # The next supervisor has let the turn wait for a while.

    assert [Begin("s", 1)] == machine.frames_to_send()


def test_go_for_a_turn_that_is_over_means_nothing() -> None:
    machine = up(handover())
    machine.end("s", 1, "cancelled")

    assert [] == machine.receive(Go("s", 1))


def test_cancel_means_something_while_the_turn_is_played() -> None:
    machine = up(handover())

    assert [TurnCancelled("s", 1)] == machine.receive(CancelTurn("s", 1))
    machine.end("s", 1, "cancelled")
    assert [] == machine.receive(CancelTurn("s", 1))


def test_a_second_ending_is_a_broken_invariant() -> None:
    machine = up(handover())
    machine.end("s", 1, "end_turn")

    with pytest.raises(AssertionError, match="turn 1 of s is not being played"):
        machine.end("s", 1, "end_turn")


def test_an_update_after_the_ending_belongs_to_no_turn() -> None:
    machine = up(handover())
    machine.say("s", 1, {"in": 1})
    machine.end("s", 1, "end_turn")
    machine.say("s", 1, {"late": 1})

    turns = [frame.turn for frame in machine.frames_to_send() if isinstance(frame, Updates | Ended)]

    assert [1, 1, 0] == turns


# --- what is said -----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 15, 16, UPDATES_PER_FRAME_MAX])
def test_updates_that_were_not_sent_yet_become_one_frame(count: int) -> None:
    machine = up(handover())
    for at in range(count):
        machine.say("s", 1, {"at": at})

    (frame,) = machine.frames_to_send()

    assert isinstance(frame, Updates)
    assert (1, count) == (frame.n, frame.count)
    assert [{"at": at} for at in range(count)] == said(frame)


def test_updates_of_another_turn_begin_another_frame() -> None:
    machine = up(handover("s"), handover("t"))
    for session in ("s", "s", "t"):
        machine.say(session, 1, {})

    frames = machine.frames_to_send()

    assert [("s", 1, 2), ("t", 3, 1)] == [(f.session, f.n, f.count) for f in frames if isinstance(f, Updates)]


def test_a_frame_holds_so_many_updates_and_no_more() -> None:
    machine = up()
    for _ in range(UPDATES_PER_FRAME_MAX + 1):
        machine.say("s", 0, {})

    assert [UPDATES_PER_FRAME_MAX, 1] == [f.count for f in machine.frames_to_send() if isinstance(f, Updates)]


def test_a_frame_holds_so_many_bytes_of_updates_and_no_more() -> None:
    machine = up()
    for _ in range(4):
        machine.say("s", 0, {"text": "x" * (UPDATES_BYTES_MAX // 3)})

    assert [2, 2] == [f.count for f in machine.frames_to_send() if isinstance(f, Updates)]


def test_a_question_follows_what_was_said_before_it_and_is_named_by_its_number() -> None:
    machine = up(handover())
    machine.say("s", 1, {})

    name = machine.ask("s", 1, "fs/read_text_file", {"path": "x"}, public=False)

    assert "claude#3.2" == name
    assert [1, 2] == [frame.n for frame in machine.frames_to_send() if isinstance(frame, Updates | Ask)]


def test_calls_are_answered_behind_what_was_said() -> None:
    machine = up()
    machine.say("s", 0, {})
    machine.answer_call("c1", {"ok": 1})
    machine.refuse_call("c2", "unknown_method", "no", {"why": 1})
    machine.leave("done")

    frames = machine.frames_to_send()

    assert [Updates, Result, Fault, Goodbye] == [type(frame) for frame in frames]
    assert ({"ok": 1}, {"why": 1}) == (said(frames[1]), said(frames[2]))


def test_it_has_parted_when_its_goodbye_is_answered() -> None:
    machine = up()
    machine.leave("done")
    before = machine.parted

    assert [Freed()] == machine.receive(Goodbye())
    assert (False, True) == (before, machine.parted)


def test_the_bound_on_what_is_unrecorded_is_seen_and_lifted() -> None:
    machine = up()
    machine.say("s", 0, {"text": "x" * UNRECORDED_BYTES_MAX})
    machine.frames_to_send()

    assert not machine.may_speak
    assert [Freed()] == machine.receive(Recorded(1))
    assert (True, 0, True) == (machine.may_speak, machine.unrecorded_bytes, machine.all_recorded)


def test_what_is_not_a_frame_yet_counts_as_unrecorded() -> None:
    machine = up()
    machine.say("s", 0, {"a": 1})

    assert not machine.all_recorded
    assert machine.unrecorded_bytes > 0


# --- what cannot be said ----------------------------------------------------------


@pytest.mark.parametrize(
    "speak",
    [
        lambda machine, body: machine.say("s", 1, body),
        lambda machine, body: machine.ask("s", 1, "m", body, public=True),
        lambda machine, body: machine.remember("s", body),
        lambda machine, body: machine.answer_call("c1", body),
    ],
    ids=["say", "ask", "remember", "answer_call"],
)
@pytest.mark.parametrize(
    ("body", "code"),
    [({"thing": object()}, BAD_FRAME), ({"text": "x" * ENTRY_BYTES_MAX}, LIMIT_REACHED)],
    ids=["no JSON", "too large"],
)
def test_what_cannot_be_sent_is_refused_and_takes_no_number(
    speak: Callable[[Backstage, Any], object], body: Any, code: str
) -> None:
    machine = up(handover())

    with pytest.raises(LocalError) as caught:
        speak(machine, body)
    machine.remember("s", "next")

    assert code == caught.value.code
    assert [1] == [frame.n for frame in machine.frames_to_send() if isinstance(frame, Updates | Ask | Remember)]


def test_what_json_holds_and_msgpack_does_not_is_made_fit() -> None:
    machine = up()
    machine.say(
        "s", 0, json.loads(r'{"text": "a\ud800b", "big": [36893488147419103232, 7, true, null], "\ud800": 1.5}')
    )

    (frame,) = machine.frames_to_send()

    assert [{"text": "a\ufffdb", "big": ["36893488147419103232", 7, True, None], "\ufffd": 1.5}] == said(frame)


def test_an_ending_is_said_even_when_its_detail_cannot_be() -> None:
    machine = up(handover())
    machine.end("s", 1, "failed", {"code": "agent_error", "text": "it broke", "detail": object()})

    (frame,) = machine.frames_to_send()

    assert isinstance(frame, Ended)
    assert "agent_error" == said(frame)["code"]
    assert said(frame)["text"].startswith("it broke (the rest of it was dropped: ")


def test_a_refusal_is_said_even_when_its_detail_cannot_be() -> None:
    machine = up()
    machine.refuse_call("c1", "agent_error", "no \ud800", object())

    (frame,) = machine.frames_to_send()

    assert isinstance(frame, Fault)
    assert ("agent_error", "no \ufffd", "c1") == (frame.code, frame.text, frame.request)
