"""Limits, decided in pure code: what happens at each, with the figures in the fault, the log and the status."""

from collections.abc import Callable

import pytest

from tests.desk import CLIENT, Desk, agent, playing
from understudy.protocol.backstage import Backstage
from understudy.protocol.frames import (
    BODY_BYTES_MAX,
    Accepted,
    Answer,
    Ask,
    Begin,
    Call,
    Ended,
    FromClient,
    Handover,
    Open,
    Prompt,
    Recorded,
    Updates,
    Verb,
    pack,
    unpack,
)
from understudy.protocol.messages import encode
from understudy.protocol.news import LimitReached, SessionFilled, UpdatesDropped
from understudy.protocol.sizes import ENTRY_BYTES_MAX, MEMORY_BYTES_MAX, OPENING_BYTES_MAX
from understudy.supervisor.core.control import WAITS_PER_CLIENT_MAX
from understudy.supervisor.core.events import ClientSaid, RestoredSession
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.status import session_rows

# --- what is handed in ------------------------------------------------------------


def test_no_session_beyond_sessions_max() -> None:
    desk = Desk(agent(sessions_max=2))
    for _ in range(2):
        desk.open()

    text = desk.refused(Open("o", "a", "/"))

    assert text.startswith("agent a: sessions_max: 2 of 2 sessions; ")
    assert [LimitReached("a.sessions_max", text)] == desk.news
    assert f"refused at a limit: {text}" == str(desk.news[0])
    assert ["sessions_max: 2 of 2 sessions"] == desk.row("a")["limits"]


def test_each_agent_counts_its_own_sessions_those_of_the_log_too() -> None:
    known = RestoredSession("s", "a", "/", b"", b"", 1, 0.0)
    restored = Restored(sessions=[known], counts={"a": 1, "gone": 7})
    desk = Desk(agent(sessions_max=2), agent("b", sessions_max=1), restored=restored)
    desk.open()

    desk.open("b")

    assert (2, 1) == (desk.row("a")["sessions"], desk.row("b")["sessions"])


def test_no_prompt_beyond_queued_turns_max() -> None:
    desk = Desk(agent(queued_turns_max=1))
    session = desk.open()
    accepted = [desk.prompt(session) for _ in range(2)]

    text = desk.refused(Prompt("p", session, pack([])))

    assert all(isinstance(each, Accepted) for each in accepted)
    assert text.startswith("agent a: queued_turns_max: 1 of 1 turns wait; ")
    assert ["queued_turns_max: 1 of 1 turns wait"] == desk.row("a")["limits"]


def test_turns_beyond_turns_max_wait_and_say_for_what() -> None:
    desk = Desk(agent(turns_max=1))
    for _ in range(2):
        desk.prompt(desk.open())

    assert 1 == len(desk.handed())
    assert "turns_max: 1 of 1 turns run" == desk.row("a")["waiting_for"]


def test_a_refusal_is_told_in_the_log_once_a_minute() -> None:
    desk = Desk(agent(sessions_max=1))
    desk.open()
    for after_s in (0.0, 30.0, 31.0):
        desk.now += after_s
        desk.refused(Open(f"again {after_s}", "a", "/"))

    assert 2 == len(desk.news)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda s: Prompt("r", s, b"x" * (ENTRY_BYTES_MAX + 1)),
            "the prompt has 16777217 bytes; the limit is 16777216",
        ),
        (lambda _: Open("r", "a", "/", b"x" * (OPENING_BYTES_MAX + 1)), "what opens the session has 4194305 bytes"),
        (lambda s: Call("r", s, "m", b"x" * (ENTRY_BYTES_MAX + 1)), "the body of the call has 16777217 bytes"),
    ],
    ids=["prompt", "open", "call"],
)
def test_what_is_too_large_is_refused_with_its_size(make: Callable[[str], FromClient], text: str) -> None:
    desk = Desk(agent())

    assert desk.refused(make(desk.open())).startswith(text)


def test_verbs_of_a_client_that_wait_for_agents_have_a_bound_with_its_figures() -> None:
    desk = Desk(agent())
    desk.late = True
    desk.exit("a", 1, 1)
    for number in range(WAITS_PER_CLIENT_MAX):
        desk.tell(ClientSaid(CLIENT, Verb(f"w{number}", "start", pack({"names": ["a"]}))))

    text = desk.refused(Verb("r", "start", pack({"names": ["a"]})))

    assert "100 of 100 verbs of this client wait for their agents" == text
    assert LimitReached("verbs", text) == desk.news[-1]


def test_an_answer_that_is_too_large_is_an_error_for_the_agent() -> None:
    desk, session = playing(agent())
    desk.said(Ask(1, session, 2, "q", "m", pack({})))

    text = desk.refused(Answer(session, "q", b"x" * (ENTRY_BYTES_MAX + 1)))

    assert Answer(session, "q", error=text) == desk.to_actor[-1][1]


def test_the_largest_of_all_that_a_hand_over_carries_fits_a_frame() -> None:
    largest = Handover(
        "s", 1, "/", b"x" * ENTRY_BYTES_MAX, b"x" * OPENING_BYTES_MAX, b"x" * MEMORY_BYTES_MAX, ["m" * 100] * 100
    )

    assert BODY_BYTES_MAX > sum(map(len, encode([largest])))


# --- entries_max ------------------------------------------------------------------


def says(n: int, session: str, count: int) -> Updates:
    return Updates(n, session, 2, count, pack([{"at": at} for at in range(n, n + count)]))


def full(ended: bool = True) -> tuple[Desk, str]:
    """Return a desk whose session is full: of 20 numbers 7 were left when the agent said 12 things."""
    desk, session = playing(agent(entries_max=10))
    desk.said(says(1, session, 5))
    desk.said(says(6, session, 7))
    if ended:
        desk.said(Ended(13, session, 2, "end_turn"))
    return desk, session


def test_a_full_session_keeps_what_fits_counts_the_rest_and_has_its_ending() -> None:
    desk, session = full()

    told = [(each.kind, each.first, each.last) for each in desk.entries[3:]]
    assert [("update", 4, 8), ("update", 9, 10), ("note", 11, 11), ("note", 12, 12), ("ended", 13, 13)] == told
    notes = [unpack(each.body) for each in desk.entries if each.kind == "note"]
    filled = SessionFilled(session, 2, "a", "entries_max: 10 of 10 entries")
    assert [filled.body(), UpdatesDropped(session, 2, 5, "entries_max: 11 of 10 entries").body()] == notes
    assert [filled] == desk.news


def test_the_first_update_that_does_not_fit_is_dropped() -> None:
    desk, session = playing(agent(entries_max=10))

    desk.said(says(1, session, 8))

    assert (4, 10) == next((each.first, each.last) for each in desk.entries if each.kind == "update")


def test_each_turn_tells_what_it_lost_itself() -> None:
    desk, session = playing(agent(entries_max=10))
    second = desk.prompt(session)
    assert isinstance(second, Accepted)
    desk.said(says(1, session, 9))
    desk.said(Ended(10, session, 2, "end_turn"))
    desk.said(Begin(session, second.turn))
    desk.said(says(11, session, 2))
    desk.said(Ended(13, session, second.turn, "end_turn"))

    notes = [unpack(each.body) for each in desk.entries if each.kind == "note"]
    assert [3, 2] == [each["count"] for each in notes if each["what"] == "updates_dropped"]


def test_what_a_full_session_drops_is_acknowledged() -> None:
    desk, _ = full()

    assert Recorded(13) == [frame for _, frame in desk.to_actor if isinstance(frame, Recorded)][-1]


def test_a_full_session_takes_no_prompt_and_says_so() -> None:
    desk, session = full()

    text = desk.refused(Prompt("p", session, pack([])))

    assert text.startswith(f"session {session} of agent a: entries_max: 13 of 10 entries; open another session")
    assert (
        "entries_max: 13 of 10 entries"
        == session_rows(desk.core.house, [RestoredSession(session, "a", "/", b"", b"", 9, 0.0)])[0].full
    )


def test_a_prompt_that_was_accepted_before_the_session_was_full_is_played() -> None:
    desk, session = playing(agent(entries_max=10))
    second = desk.prompt(session)
    assert isinstance(second, Accepted)
    desk.said(says(1, session, 20))
    desk.said(Ended(21, session, 2, "end_turn"))
    desk.said(Begin(session, second.turn))
    desk.said(Ended(22, session, second.turn, "end_turn"))

    assert [2, second.turn] == [each.turn for each in desk.entries if each.kind == "ended"]


def test_a_question_in_a_full_session_is_answered_with_the_reason() -> None:
    desk, session = full(ended=False)

    desk.said(Ask(13, session, 2, "q", "m", pack({})))

    answer = desk.to_actor[-2][1]
    assert isinstance(answer, Answer)
    assert answer.error == "nobody can be asked, the session's log is full (entries_max: 11 of 10 entries)"
    assert "asked" not in {each.kind for each in desk.entries}


def test_what_a_driver_remembers_has_a_limit_of_its_own() -> None:
    machine = Backstage("a", 1, 1)

    with pytest.raises(Exception, match=f"the limit is {MEMORY_BYTES_MAX}"):
        machine.remember("s", "x" * MEMORY_BYTES_MAX)
