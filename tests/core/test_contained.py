"""What a client or an actor sends and nobody can use: its own fault and fate, told where it belongs, and nobody else's."""

import math
from typing import Any

import msgspec
import pytest

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.errors import AGENT_ERROR, BAD_FRAME, INTERNAL, SAFE_MODE
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    ActorCall,
    Answer,
    Ask,
    Begin,
    Call,
    Cancel,
    Credit,
    Ended,
    Entries,
    Entry,
    Fault,
    Follow,
    FromClient,
    Goodbye,
    Hello,
    Open,
    Prompt,
    Recorded,
    Remember,
    Result,
    Unfollow,
    Updates,
    Verb,
    pack,
    unpack,
)
from understudy.protocol.news import ClientBroke
from understudy.supervisor.core import clients, follows, invariants
from understudy.supervisor.core.events import ClientSaid, LogState, RestoredSession
from understudy.supervisor.core.restored import Restored, RestoredTurn
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.shell import safe

OTHER = b"other"
NESTED = b"\x91" * 960 + b"\x90"


def asked(desk: Desk) -> tuple[str, int, str]:
    """Return a session, its turn, and the open question of that."""
    session = desk.open()
    turn = desk.prompt(session).turn  # type: ignore[union-attr]
    desk.said(Begin(session, turn))
    desk.said(Ask(1, session, turn, "q", "may I", pack({})))
    return session, turn, "q"


@pytest.mark.parametrize("body", [b"\xc1", NESTED, pack(math.nan), pack(b"x"), b"\xa3\xed\xa0\x80", b"\x90\x90"])
def test_an_answer_that_cannot_be_read_is_refused_and_the_question_stays_open(body: bytes) -> None:
    desk = Desk(agent())
    session, _, ask = asked(desk)

    fault = desk.ask(Answer(session, ask, body))
    desk.tell(ClientSaid(CLIENT, Answer(session, ask, pack("good"))))

    assert isinstance(fault, Fault)
    assert (BAD_FRAME, "answer:q") == (fault.code, fault.request)
    assert ["good"] == [unpack(entry.body)["result"] for entry in desk.entries if entry.kind == "answered"]
    assert "" == desk.core.house.sessions[session].quarantined


@pytest.mark.parametrize(
    "make",
    [
        lambda s: Prompt("r", s, NESTED),
        lambda s: Prompt("r", s, pack([{"n": math.inf}])),
        lambda s: Prompt("r", s, pack(["no block"])),
        lambda s: Prompt("r", s, b""),
        lambda _: Open("r", "a", "/", pack(["no map"])),
        lambda _: Open("r", "a", "/", pack({"deep": msgspec.Raw(NESTED)})),
        lambda s: Call("r", s, "m", b"\xc1"),
        lambda _: Verb("r", "signal", pack({"names": ["a"], "signal": math.inf})),
        lambda _: Verb("r", "signal", pack({"names": ["a"], "signal": 10**9})),
        lambda _: Verb("r", "stop", pack({"names": ["x" * 65]})),
        lambda _: Verb("r", "stop", pack({"names": ["x"] * 1001})),
        lambda _: Verb("r", "stop", pack({"names": 7})),
        lambda _: Verb("r", "sessions", pack({"session": "x" * 201})),
        lambda _: Verb("r", "status", pack("no map")),
        lambda _: Verb("r", "status", NESTED),
    ],
    ids=map(str, range(15)),
)
def test_a_body_that_cannot_be_used_is_refused_by_its_request_and_nothing_else_happens(make: Any) -> None:
    desk = Desk(agent())
    session = desk.open()
    before = len(desk.entries)

    fault = desk.ask(make(session))

    assert isinstance(fault, Fault)
    assert (BAD_FRAME, "r") == (fault.code, fault.request)
    assert before == len(desk.entries)
    assert [] == desk.news


@pytest.mark.parametrize("error", [RecursionError("deep"), OverflowError("large"), KeyError("k"), AssertionError("no")])
def test_whatever_breaks_at_a_client_s_frame_is_that_client_s_fate(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.tell(ClientSaid(OTHER, Hello(PROTOCOL_VERSION, "other")), ClientSaid(OTHER, Follow(1, session)))

    def breaks(house: Any, *_: Any) -> None:
        house.write(house.sessions[session], "note", 0, {"text": "half done"})
        raise error

    monkeypatch.setattr(clients, "open_session", breaks)
    entries = len(desk.entries)
    fault = desk.ask(Open("r", "a", "/"))
    monkeypatch.undo()

    assert isinstance(fault, Fault)
    assert (INTERNAL, "r") == (fault.code, fault.request)
    assert entries == len(desk.entries)
    assert [OTHER] == list(desk.core.house.clients)
    assert [("Open", "r")] == [(each.frame, each.request) for each in desk.news if isinstance(each, ClientBroke)]
    invariants.of_house(desk.core.house)
    desk.tell(ClientSaid(OTHER, Prompt("p", session, pack([{"type": "text", "text": "x"}]))))
    assert ["opened", "prompt"] == [entry.kind for entry in desk.entries][:2]


def test_an_answer_over_the_limit_is_a_fault_for_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(agent())
    monkeypatch.setattr(clients, "RESULT_BYTES_MAX", 10)

    assert "the answer to status has" in desk.refused(Verb("r", "status"))


def test_two_large_entries_of_one_commit_go_in_a_frame_each() -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.tell(ClientSaid(CLIENT, Follow(1, session, 2)))
    large = pack([{"type": "text", "text": "x" * (15 << 20)}])
    before = len(desk.told)
    desk.tell(ClientSaid(CLIENT, Prompt("p1", session, large)), ClientSaid(CLIENT, Prompt("p2", session, large)))
    desk.tell(ClientSaid(CLIENT, Credit(1, 40 << 20)))

    fed = [frame for frame in desk.told[before:] if isinstance(frame, Entries)]
    read = [Entry(session, at, at, at, "note", large, 0.0) for at in range(1, 4)]

    assert all(sum(len(entry.body) for entry in frame.entries) < 17 << 20 for frame in fed)
    assert [1, 1, 1] == [len(some) for some in follows.frames_of(read)]


# --- actors ---


def test_updates_that_cannot_be_read_are_told_of_in_their_session_with_their_numbers() -> None:
    desk = Desk(agent())
    session = desk.open()
    turn = desk.prompt(session).turn  # type: ignore[union-attr]
    desk.said(Begin(session, turn))
    for number, body in ((1, b"\xc1"), (4, pack([{}])), (7, NESTED)):
        desk.said(Updates(number, session, turn, 3, body))
    desk.said(Ended(10, session, turn, "end_turn"))

    said = [entry for entry in desk.entries if entry.kind == "update"]

    assert [3, 3, 3] == [entry.last - entry.first + 1 for entry in said]
    assert all("cannot be read" in update["text"] for entry in said for update in unpack(entry.body))
    assert ["end_turn"] == [unpack(entry.body)["reason"] for entry in desk.entries if entry.kind == "ended"]
    assert Recorded(10) == desk.to_actor[-1][1]


def test_a_question_that_cannot_be_read_is_answered_with_an_error_each_time_it_is_said() -> None:
    desk = Desk(agent())
    session = desk.open()
    turn = desk.prompt(session).turn  # type: ignore[union-attr]
    desk.said(Begin(session, turn))
    for _ in range(2):
        desk.said(Ask(1, session, turn, "q", "m", NESTED))

    answers = [frame for _, frame in desk.to_actor if isinstance(frame, Answer)]

    assert [True, True] == ["cannot be read" in answer.error for answer in answers]
    assert "" == desk.core.house.sessions[session].quarantined


def test_an_ending_that_cannot_be_read_ends_the_turn() -> None:
    desk = Desk(agent())
    session = desk.open()
    turn = desk.prompt(session).turn  # type: ignore[union-attr]
    desk.said(Begin(session, turn))
    desk.said(Remember(1, session, b"\xc1"))
    desk.said(Ended(2, session, turn, "failed", NESTED))

    (ending,) = [unpack(entry.body) for entry in desk.entries if entry.kind == "ended"]

    assert "failed" == ending["reason"]
    assert "cannot be read" in ending["text"]
    assert not desk.core.house.sessions[session].memory.size


def test_what_was_mended_is_noted_in_the_session() -> None:
    desk = Desk(agent())
    session = desk.open()
    turn = desk.prompt(session).turn  # type: ignore[union-attr]
    desk.said(Begin(session, turn))
    desk.said(Updates(1, session, turn, 1, pack([{}]), mended=True))
    desk.said(Updates(1, session, turn, 1, pack([{}]), mended=True))

    notes = [unpack(entry.body)["text"] for entry in desk.entries if entry.kind == "note"]

    assert ["was mended" in text for text in notes] == [True]


def test_a_number_far_ahead_is_a_gap_for_an_unknown_session_too() -> None:
    desk = Desk(agent())
    desk.said(Updates(2**62, "nobody's", 1, 512, pack([{}] * 512)))

    assert [("a", 1)] == desk.killed


@pytest.mark.parametrize("body", [b"\xc1", NESTED])
def test_a_result_that_cannot_be_read_is_a_fault_for_who_called(body: bytes) -> None:
    desk = Desk(agent())
    session = desk.open()
    desk.tell(ClientSaid(CLIENT, Call("r", session, "m")))
    (call,) = [frame for _, frame in desk.to_actor if isinstance(frame, ActorCall)]
    desk.said(Result(call.request, body))

    fault = desk.told[-1]

    assert isinstance(fault, Fault)
    assert (AGENT_ERROR, "r") == (fault.code, fault.request)


# --- the log ---


def restored(**fields: Any) -> Restored:
    """Return a log with two sessions that each have a turn that runs; `fields` of the first one's turn or session."""
    sessions = [RestoredSession(name, "a", "/", b"", b"", 3, 0.0) for name in ("one", "two")]
    started = [RestoredTurn(name, 2, LogState.QUEUED, f"p{name}", [], pack([{}])) for name in ("one", "two")]
    turn = {key: value for key, value in fields.items() if key in RestoredTurn.__dataclass_fields__ and key != "cwd"}
    session = {key: value for key, value in fields.items() if key not in turn}
    return Restored(
        [
            RestoredSession(**{**{f: getattr(sessions[0], f) for f in RestoredSession.__struct_fields__}, **session}),
            sessions[1],
        ],
        [
            RestoredTurn(**{**{f: getattr(started[0], f) for f in RestoredTurn.__dataclass_fields__}, **turn}),
            started[1],
        ],
        {"a": 2},
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"cwd": "x" * 5000}, "its folder has a name of 5000 characters"),
        ({"state": LogState.STARTED, "told": [Entry("one", 3, 3, 2, "asked", b"\xc1", 0.0)]}, "turn 2 cannot be read"),
        (
            {"state": LogState.STARTED, "told": [Entry("one", 3, 3, 2, "answered", pack([7]), 0.0)]},
            "turn 2 cannot be read",
        ),
        ({"state": LogState.STARTED, "told": [Entry("one", 3, 3, 2, "asked", NESTED, 0.0)]}, "turn 2 cannot be read"),
    ],
)
def test_a_session_that_cannot_be_taken_back_is_set_apart_and_the_house_starts(fields: Any, why: str) -> None:
    desk = Desk(agent(), restored=restored(**fields))

    assert why in desk.core.house.sessions["one"].quarantined
    assert "" == desk.core.house.sessions["two"].quarantined
    assert "two" in desk.core.house.agents["a"].first.playing
    invariants.of_house(desk.core.house)


def test_what_a_version_without_bounds_accepted_is_handed_over_within_them() -> None:
    desk = Desk(agent(), restored=restored(serves=["x" * 300, "fs/read_text_file", *["m"] * 200]))

    assert 100 == len(desk.core.house.sessions["one"].current.serves)  # type: ignore[union-attr]
    assert "fs/read_text_file" == desk.core.house.sessions["one"].current.serves[0]  # type: ignore[union-attr]


# --- safe mode ---


@pytest.mark.parametrize(
    ("frame", "about"),
    [
        (Prompt("r", "s", b""), "r"),
        (Cancel("r", "s"), "r"),
        (Verb("r", "start"), "r"),
        (Follow(3, "s"), "follow:3"),
        (Answer("s", "q"), "answer:q"),
        (Credit(3, 1), "follow:3"),
    ],
)
def test_safe_mode_answers_whatever_somebody_waits_for(frame: FromClient, about: str) -> None:
    told = safe.answer(HouseSpec((), "/nowhere", "/nowhere"), frame)

    assert isinstance(told, Fault)
    assert (SAFE_MODE, about) == (told.code, told.request)


@pytest.mark.parametrize("frame", [Unfollow(3), Goodbye()])
def test_safe_mode_says_nothing_where_nobody_waits(frame: FromClient) -> None:
    told = safe.answer(HouseSpec((), "/nowhere", "/nowhere"), frame)

    assert told is None
