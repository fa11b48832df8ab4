"""An agent that leaves the configuration at a reload: what it plays goes on, what waits waits, and who waits is told."""

import signal

from tests.desk import CLIENT, Desk, agent
from understudy.protocol.errors import UNKNOWN_AGENT
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    ActorHello,
    Call,
    Cancel,
    Ended,
    Fault,
    Open,
    Prompt,
    Result,
    Stop,
    Updates,
    Verb,
    pack,
    unpack,
)
from understudy.supervisor.core.events import ActorSaid, ClientSaid, Exited, Kill, LogState, RestoredSession, Spawned
from understudy.supervisor.core.restored import Restored, RestoredTurn

BODY = pack([{"type": "text", "text": "x"}])
PLAYER = Spawned("a", 1, 101, 1, "a", 1)


def reloaded(*turns: RestoredTurn, living: bool = True) -> Desk:
    """Return the desk of a house without agent `a`, which has the sessions s and t with `turns`; a#1 lives, or is dead."""
    sessions = [RestoredSession(name, "a", "/", b"", b"", 9, 0.0) for name in ("s", "t")]
    restored = Restored(sessions, list(turns), epochs={"a": 1}, cast={("a", 1): ("a", 1)})
    return Desk(agent("b"), restored=restored, living=[PLAYER] if living else [])


def started(session: str = "s", turn: int = 2) -> RestoredTurn:
    return RestoredTurn(session, turn, LogState.STARTED, f"r{turn}", [], BODY, epoch=1, launch="a")


def queued(session: str = "t", turn: int = 3) -> RestoredTurn:
    return RestoredTurn(session, turn, LogState.QUEUED, f"r{turn}", [], BODY)


def back(desk: Desk) -> None:
    """The actor has found its new supervisor."""
    desk.tell(ActorSaid(b"a#1", ActorHello(BACKSTAGE_VERSION, "a", 1, 101, 2)))


def kills(desk: Desk) -> list[int]:
    return [each.signal for each in desk.effects if isinstance(each, Kill)]


def told(desk: Desk, kind: str) -> list[tuple[str, int, str]]:
    return [
        (each.session, each.turn, unpack(each.body).get("reason", unpack(each.body).get("text", "")))
        for each in desk.entries
        if each.kind == kind
    ]


def test_the_turn_that_its_actor_plays_goes_on_to_its_end_and_then_the_actor_is_ended_in_order() -> None:
    desk = reloaded(started())
    back(desk)
    desk.said(Updates(1, "s", 2, 1, pack([{"x": 1}])))
    before = (kills(desk), desk.asked_to_stop(), desk.row("a")["waiting_for"])

    desk.said(Ended(2, "s", 2, "end_turn"))
    asked = desk.asked_to_stop()
    desk.exit("a", 1)

    assert ([], [], "the end of its turns: no longer in the configuration") == before
    assert ([("s", 2, "end_turn")], [b"a#1"]) == (told(desk, "ended"), asked)
    assert ({"b": "RUNNING"}, []) == (desk.states(), kills(desk))


def test_an_actor_that_plays_nothing_is_ended_in_order_at_once() -> None:
    desk = reloaded()

    first = kills(desk)
    desk.tick(60.0)

    assert ([signal.SIGTERM], [signal.SIGTERM, signal.SIGKILL]) == (first, kills(desk))


def test_an_actor_whose_turn_is_cancelled_meanwhile_is_ended() -> None:
    desk = reloaded(started())
    desk.tell(ClientSaid(CLIENT, Cancel("c", "s", 0)))
    back(desk)

    desk.said(Ended(1, "s", 2, "cancelled"))

    assert [b"a#1"] == desk.asked_to_stop()


def test_a_turn_whose_actor_falls_meanwhile_ends_and_says_why() -> None:
    desk = reloaded(started())
    back(desk)

    desk.tell(Exited("a", 1, 101, -9, shown=[("s", 2)]))

    ending = unpack(next(each.body for each in desk.entries if each.kind == "ended"))
    assert "interrupted" == ending["reason"]
    assert ending["text"].endswith("what it had said is kept, agent a is no longer in the configuration")
    assert {"b": "RUNNING"} == desk.states()


def test_a_turn_whose_actor_was_dead_already_ends() -> None:
    desk = reloaded(started(), living=False)

    assert [("s", 2, "interrupted")] == told(desk, "ended")


def test_a_turn_that_no_agent_had_seen_waits_until_the_agent_is_back() -> None:
    desk = reloaded(started())
    back(desk)

    desk.tell(Exited("a", 1, 101, -9, shown=[]))

    assert [] == told(desk, "ended")
    assert ("s", 2) in [(session, turn) for session, turn, _ in told(desk, "requeued")]
    text = "the turn waits: agent a is no longer in the configuration; put it back, then: understudy reload; or cancel the turn"
    assert [("s", 2, text)] == told(desk, "note")


def test_what_waits_for_it_waits_on_is_told_so_and_can_be_cancelled() -> None:
    desk = reloaded(queued(), living=False)
    row = desk.row("a")
    note = told(desk, "note")

    answer = desk.ask(Cancel("c", "t", 3))

    text = "the turn waits: agent a is no longer in the configuration; put it back, then: understudy reload; or cancel the turn"
    assert ([("t", 3, text)], 1, True) == (note, row["queue"], row["at_rest"])
    assert (Result("c", pack({"cancelled": 1})), [("t", 3, "cancelled")]) == (answer, told(desk, "ended"))
    assert {"b": "RUNNING"} == desk.states()


def test_the_next_turn_of_a_session_is_not_given_to_an_actor_that_is_to_go() -> None:
    desk = reloaded(started(), queued("s"))
    back(desk)

    desk.said(Ended(1, "s", 2, "end_turn"))

    assert ([(b"a#1", 2)], [b"a#1"]) == (desk.handed(), desk.asked_to_stop())  # Said again to one that comes back.


def test_a_person_may_end_it_sooner() -> None:
    desk = reloaded(started())
    back(desk)

    desk.tell(ClientSaid(CLIENT, Verb("v", "stop", pack({"names": ["a"]}))))
    asked = [frame for _, frame in desk.to_actor if isinstance(frame, Stop)]
    desk.tell(Exited("a", 1, 101, 0, shown=[("s", 2)]))

    assert ([Stop(5.0)], [("s", 2, "interrupted")]) == (asked, told(desk, "ended"))
    assert Result("v", pack([{"name": "a", "state": "STOPPED", "error": ""}])) == desk.told[-1]
    assert {"b": "RUNNING"} == desk.states()


def test_nothing_new_is_asked_of_it() -> None:
    desk = reloaded(started())
    back(desk)

    answers = [
        desk.ask(Open("o", "a", "/")),
        desk.ask(Prompt("p", "s", BODY)),
        desk.ask(Verb("v", "start", pack({"names": ["a"]}))),
        desk.ask(Verb("w", "restart", pack({"names": ["a"]}))),
    ]

    texts = [each.text for each in answers if isinstance(each, Fault) and each.code == UNKNOWN_AGENT]
    assert [
        "there is no agent 'a'; the cast is: b",
        "the agent 'a' of this session is no longer in the configuration; put it back, then: understudy reload",
        *["a: no longer in the configuration; put it back, then: understudy reload"] * 2,
    ] == texts
    assert isinstance(desk.ask(Call("c", "s", "ready", b"")), Fault)


def test_everybody_can_be_restarted_beside_it() -> None:
    desk = reloaded(started())
    back(desk)

    desk.tell(ClientSaid(CLIENT, Verb("v", "restart", pack({"names": ["all"]}))))
    desk.exit("b", 1)

    assert Result("v", pack([{"name": "b", "state": "RUNNING", "error": ""}])) == desk.told[-1]
    assert {"a": "RUNNING", "b": "RUNNING"} == desk.states()


def test_a_call_that_waits_for_an_agent_is_answered_when_that_is_stopped() -> None:
    desk = Desk(agent(), agent("b"))
    desk.late = True
    desk.exit("a", 1, 1)
    session = desk.open()
    desk.tell(ClientSaid(CLIENT, Call("c", session, "ready", b"")))

    desk.tell(ClientSaid(CLIENT, Verb("v", "stop", pack({"names": ["a"]}))))

    assert ["a was stopped by a person"] == [each.text for each in desk.told if isinstance(each, Fault)]
