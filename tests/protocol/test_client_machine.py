"""The client's machine: what it says again, what it gives up, and what it keeps."""

import pytest

from understudy.protocol.client_machine import (
    ANSWERS_KEPT_BYTES_MAX,
    ANSWERS_KEPT_MAX,
    Arrived,
    Asked,
    ClientMachine,
    FollowEnded,
    Happening,
    HelloDeferred,
    HelloRefused,
    Replied,
    Unheard,
    Welcomed,
)
from understudy.protocol.errors import (
    BAD_FRAME,
    CONNECTION_LOST,
    GENERATION_CHANGED,
    LIMIT_REACHED,
    NO_HELLO,
    VERSION_MISMATCH,
)
from understudy.protocol.frames import (
    Accepted,
    Answer,
    Ask,
    Call,
    Cancel,
    Entries,
    Entry,
    Fault,
    Follow,
    FromClient,
    Hello,
    Ping,
    Prompt,
    Result,
    Verb,
    Welcome,
)
from understudy.protocol.standing import Standing

PROMPT = Prompt("p", "s", b"")
NAMELESS = Fault(BAD_FRAME, "what?")


def connected(machine: ClientMachine | None = None, generation: int = 1) -> ClientMachine:
    machine = machine or ClientMachine("c")
    machine.connected()
    machine.frames_to_send()
    machine.receive(Welcome(1, 1, generation))
    return machine


def again(machine: ClientMachine, generation: int = 1) -> list[Happening]:
    """Break the connection and make another; return what came of it."""
    happenings = machine.disconnected()
    machine.connected()
    return [*happenings, *machine.receive(Welcome(1, 1, generation))]


def said(machine: ClientMachine) -> list[FromClient]:
    return [each for each in machine.frames_to_send() if not isinstance(each, Hello)]


def codes(happenings: list[Happening]) -> list[tuple[str, str]]:
    """Return (request, code) of what was refused."""
    return [
        (each.request, each.frame.code)
        for each in happenings
        if isinstance(each, Replied) and isinstance(each.frame, Fault)
    ]


def entries(follow: int, *numbers: int, session: str = "s") -> Entries:
    return Entries(follow, [Entry(session, number, number, 0, "note", b"", 0.0) for number in numbers])


def question(name: str) -> Ask:
    return Ask(1, "s", 2, name, "fs/read_text_file", b"", public=False)


def test_a_house_that_does_not_know_us_is_greeted_again_and_what_it_refused_is_said_again_a_call_too() -> None:
    machine = connected()
    for frame in (Call("c", "s", "ready"), Call("other", "s", "ready"), PROMPT):
        machine.request(frame)
    fault = Fault(NO_HELLO, "who?", "c")

    assert [Unheard(fault)] == machine.receive(fault)
    assert [("other", CONNECTION_LOST)] == codes(again(machine))
    assert [Call("c", "s", "ready"), PROMPT] == said(machine)


def test_what_a_fault_without_a_name_may_mean_is_said_once_more_and_then_refused_with_it() -> None:
    machine = connected()
    machine.request(PROMPT)
    assert [Unheard(NAMELESS)] == machine.receive(NAMELESS)
    again(machine)
    machine.request(Verb("v", "status"))
    assert [PROMPT, Verb("v", "status")] == said(machine)

    assert [("p", BAD_FRAME)] == codes(machine.receive(NAMELESS))
    again(machine)
    assert [Verb("v", "status")] == said(machine)


@pytest.mark.parametrize("verb", ["restart", "signal", "shutdown"])
def test_what_would_be_done_twice_is_not_said_again_after_a_broken_connection(verb: str) -> None:
    machine = connected()
    machine.request(Verb("v", verb))
    machine.request(Verb("w", "start"))
    said(machine)

    assert [("v", CONNECTION_LOST)] == codes(again(machine))
    assert [Verb("w", "start")] == said(machine)


def test_what_was_not_sent_yet_is_sent_on_the_next_connection_whatever_it_is() -> None:
    machine = ClientMachine("c")
    machine.request(Verb("v", "restart"))
    machine.connected()
    machine.receive(Welcome(1, 1))

    assert Verb("v", "restart") in machine.frames_to_send()


def test_an_answer_that_the_house_cannot_read_becomes_one_with_an_error() -> None:
    machine = connected()
    machine.answer(Answer("s", "q", b"odd"))
    for _ in range(2):
        machine.receive(NAMELESS)
        again(machine)

    answers = [each for each in said(machine) if isinstance(each, Answer)]
    assert [("q", b"", True)] == [(each.ask, each.body, bool(each.error)) for each in answers]


def test_garbage_of_the_house_s_may_have_been_the_answer_to_anything() -> None:
    machine = connected()
    machine.request(PROMPT)

    assert [] == machine.misread("no frame")
    again(machine)
    assert [("p", BAD_FRAME)] == codes(machine.misread("no frame"))


def test_a_full_house_is_final_at_the_first_hello_only_and_another_version_always() -> None:
    full, other = Fault(LIMIT_REACHED, "4000 clients"), Fault(VERSION_MISMATCH, "2 here")
    first = ClientMachine("c")
    first.connected()
    assert [HelloRefused(full)] == first.receive(full)

    machine = connected()
    machine.disconnected()
    machine.connected()
    assert [HelloDeferred(full)] == machine.receive(full)
    machine.disconnected()
    machine.connected()
    assert [HelloRefused(other)] == machine.receive(other)
    assert Standing.REFUSED is machine.standing


def test_a_new_generation_ends_follows_and_cancels_of_the_one_before_and_says_the_rest_again() -> None:
    machine = connected()
    seen, unseen = machine.follow("s", 1), machine.follow("s", 1)
    later = machine.follow("s", 7)
    machine.receive(entries(seen, 1, 2))
    for frame in (Cancel("one", "s", 5), Cancel("all", "s"), PROMPT):
        machine.request(frame)
    machine.answer(Answer("s", "q"))

    happenings = again(machine, generation=2)

    assert [True] == [each.lost for each in happenings if isinstance(each, Welcomed)]
    ended = [(each.follow, each.fault.code) for each in happenings if isinstance(each, FollowEnded)]
    assert [(seen, GENERATION_CHANGED), (later, GENERATION_CHANGED)] == ended
    assert [("one", GENERATION_CHANGED)] == codes(happenings)
    follow, *rest = said(machine)
    assert isinstance(follow, Follow)
    assert (unseen, 1) == (follow.follow, follow.number)
    assert [Cancel("all", "s")] == rest  # The prompt waits for it.


def test_safe_mode_has_no_log_and_changes_no_generation() -> None:
    machine = connected()
    machine.follow("s", 7)

    for generation in (0, 1):
        assert [False] == [each.lost for each in again(machine, generation) if isinstance(each, Welcomed)]
    assert [True] == [each.lost for each in again(machine, 2) if isinstance(each, Welcomed)]


def test_entries_of_another_session_are_not_taken_for_those_of_a_follow() -> None:
    machine = connected()
    follow = machine.follow("s", 1)

    assert [] == machine.receive(entries(follow, 1, session="other"))
    assert [1] == [each.number for each in machine.receive(entries(follow, 1)) if isinstance(each, Arrived)]


def test_a_question_that_was_answered_is_not_asked_again_when_the_answer_is_said_again() -> None:
    machine = connected()
    assert [Asked(question("q"))] == machine.receive(question("q"))
    machine.answer(Answer("s", "q", b"yes"))
    again(machine)

    assert [Answer("s", "q", b"yes")] == said(machine)
    assert [] == machine.receive(question("q"))
    machine.receive(Fault("unknown_ask", "answered already", "answer:q"))
    again(machine)
    assert [] == said(machine)


def test_a_question_that_is_put_again_after_its_answer_was_not_wanted_is_answered_and_not_served_again() -> None:
    machine = connected()
    machine.receive(question("q"))
    machine.answer(Answer("s", "q", b"yes"))
    again(machine)
    said(machine)

    machine.receive(Fault("unknown_ask", "whoever asked is not back yet", "answer:q"))

    assert [] == machine.receive(question("q"))
    assert [Answer("s", "q", b"yes")] == said(machine)
    again(machine)
    assert [Answer("s", "q", b"yes")] == said(machine)


def test_answers_are_kept_within_a_number_and_a_size() -> None:
    machine = connected()
    for number in range(ANSWERS_KEPT_MAX + 1):
        machine.answer(Answer("s", f"q{number}"))
    again(machine)
    assert ANSWERS_KEPT_MAX == len(said(machine))

    for number in range(3):
        machine.answer(Answer("s", f"large{number}", bytes(ANSWERS_KEPT_BYTES_MAX // 2)))
    again(machine)
    assert ["large1", "large2"] == [each.ask for each in said(machine) if isinstance(each, Answer)]


def test_what_was_cancelled_answered_or_given_up_leaves_nothing_behind() -> None:
    machine = connected()
    for frame in (Cancel("a", "s"), Cancel("b", "s"), PROMPT, Call("c", "s", "ready")):
        machine.request(frame)
    machine.frames_to_send()
    machine.receive(NAMELESS)
    machine.receive(Result("a"))
    machine.abandon("b")
    assert [PROMPT] == said(machine)  # Nobody asks for the cancels any more.
    machine.receive(Accepted("p", "s", 2))
    machine.disconnected()

    empty = vars(ClientMachine("c"))
    left = vars(machine)
    for name in ("pending", "places", "_sent", "_cancelling", "_doubted", "_answers"):
        assert empty[name] == left[name], name


def test_after_a_silence_the_house_is_asked_whether_it_knows_us() -> None:
    machine = connected()
    machine.ask_whether_known()
    assert [Ping()] == said(machine)
    machine.disconnected()
    machine.ask_whether_known()
    assert [] == said(machine)
