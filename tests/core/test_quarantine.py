"""A broken invariant of ours takes one agent or session out of play, and nothing else."""

import signal
from typing import Any

import pytest

from tests.desk import CLIENT, Desk, two
from understudy.protocol.errors import QUARANTINED
from understudy.protocol.frames import (
    Accepted,
    Begin,
    Ended,
    Entry,
    Fault,
    Open,
    Opened,
    Prompt,
    Updates,
    pack,
)
from understudy.protocol.news import AgentSetApart
from understudy.supervisor.core import invariants, losses, requests, turns
from understudy.supervisor.core.events import (
    Announce,
    ClientSaid,
    Effect,
    Exited,
    Kill,
    Record,
    SessionRow,
    Spawn,
    TurnRow,
)
from understudy.supervisor.core.life import Reason, State, Why
from understudy.supervisor.core.specs import RestartPolicy


def break_one(desk: Desk) -> list[Effect]:
    """Break an invariant about agent `one`: it ends, and its policy is none that there is."""
    policy: Any = None
    desk.core.house.agents["one"].restarts.policy = RestartPolicy(policy=policy)
    return desk.exit("one", 1, -9)


def test_the_agent_is_ended_and_its_turns_with_it_while_another_plays_on() -> None:
    desk = two()
    desk.prompt(desk.sessions["one"])
    desk.prompt(desk.sessions["two"])

    effects = break_one(desk)

    assert State.FATAL is desk.state("one")
    assert "set apart: AssertionError" in str(desk.core.house.agents["one"].first.why)
    assert ["failed"] == desk.endings()
    (apart,) = [each.news for each in effects if isinstance(each, Announce) and isinstance(each.news, AgentSetApart)]
    assert ("one", True) == (apart.agent, "RUNNING" in apart.story)
    assert State.RUNNING is desk.state("two")
    assert desk.core.house.sessions[desk.sessions["two"]].current is not None


def test_what_lives_of_it_is_killed_and_confirmed_dead_before_anything_else() -> None:
    desk = two()
    desk.prompt(desk.sessions["one"])
    agent = desk.core.house.agents["one"]
    agent.apart = "for a test"

    kills = agent.first.set_apart(Why(Reason.APART, "for a test"), gone=False, now=0.0)

    assert [Kill("one", 1, signal.SIGKILL)] == kills
    assert State.STOPPING is desk.state("one")
    desk.exit("one", 1, -9)
    assert State.FATAL is desk.state("one")
    assert ["failed"] == desk.endings()


def test_a_prompt_is_refused_and_a_person_starts_it_again() -> None:
    desk = two()
    break_one(desk)

    told = desk.prompt(desk.sessions["one"])
    before = desk.state("one")
    desk.verb("start", "one")

    assert State.FATAL is before
    assert isinstance(told, Fault)
    assert QUARANTINED == told.code
    assert "understudy restart one" in told.text
    assert ("one", 2) == desk.spawned[-1]
    assert "" == desk.core.house.agents["one"].apart


def test_there_is_no_next_and_numbers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = two()
    desk.prompt(desk.sessions["one"])
    last = desk.core.house.sessions[desk.sessions["one"]].last
    finish = turns.finish

    def broken(*_: object) -> None:
        monkeypatch.setattr(turns, "finish", finish)
        raise AssertionError("for a test")

    monkeypatch.setattr(turns, "finish", broken)
    desk.core.house.sessions[desk.sessions["one"]].current.cancelled = True  # type: ignore[union-attr]
    effects = desk.exit("one", 1, -9)
    entries = [row for each in effects if isinstance(each, Record) for row in each.rows if isinstance(row, Entry)]

    assert [] == [each for each in effects if isinstance(each, Spawn | Kill)]
    assert [(last + 1, "lost"), (last + 2, "ended")] == [(entry.first, entry.kind) for entry in entries]
    assert State.FATAL is desk.state("one")


def play_one(desk: Desk) -> str:
    """Let the session of `one` have a turn that runs, and two that wait; return its id."""
    name = desk.sessions["one"]
    for text in ("first", "second", "third"):
        desk.tell(ClientSaid(CLIENT, Prompt(text, name, pack([{"type": "text", "text": text}]))))
    turn = desk.core.house.sessions[name].current
    assert turn is not None
    desk.said(Begin(name, turn.number), "one")
    return name


def test_a_session_that_broke_has_its_endings_and_its_agent_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = two()
    name = play_one(desk)
    updates, body = turns.updates, pack([{"sessionUpdate": "x"}] * 3)

    def breaks_late(*arguments: Any) -> None:
        updates(*arguments)
        monkeypatch.setattr(turns, "updates", updates)
        desk.core.house.agents["one"].running -= 1
        desk.core.house.sessions[name].mailbox.clear()
        raise AssertionError("for a test")

    monkeypatch.setattr(turns, "updates", breaks_late)
    desk.said(Updates(1, name, 2, 3, body), "one")

    assert ["failed"] * 3 == desk.endings()
    role = desk.core.house.agents["one"]
    assert (0, 0) == (role.running, role.queued)
    invariants.of_house(desk.core.house)
    assert State.RUNNING is desk.state("one")
    desk.said(Updates(4, "a session that nobody knows", 2, 1, body), "one")
    assert [] == desk.killed, "what it said before was counted"
    assert QUARANTINED == desk.prompt(desk.sessions["one"]).code  # type: ignore[union-attr]


def test_a_breach_that_nobody_noticed_is_found_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = two()
    name = play_one(desk)
    ended = turns.ended

    def forgets_the_next(*arguments: Any) -> None:
        ended(*arguments)
        desk.core.house.agents["one"].first.playing.pop(name)

    monkeypatch.setattr(turns, "ended", forgets_the_next)
    desk.said(Ended(1, name, 2, "end_turn"), "one")

    assert ["failed"] * 3 == desk.endings()
    assert "nobody watches" in desk.core.house.sessions[name].quarantined


@pytest.mark.parametrize("frame", ["prompt", "open"])
def test_a_request_that_broke_is_carried_out_when_it_is_said_again(frame: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = two()
    request: Prompt | Open = Open("again", "one", "/")
    if frame == "prompt":
        request = Prompt("again", desk.sessions["one"], pack([{"type": "text", "text": "x"}]))
    remember = getattr(requests, f"remember_{frame}")

    def breaks_late(*arguments: Any) -> None:
        monkeypatch.setattr(requests, f"remember_{frame}", remember)
        remember(*arguments)
        raise AssertionError("for a test")

    monkeypatch.setattr(requests, f"remember_{frame}", breaks_late)
    before = desk.rows.copy()
    desk.ask(request)
    assert before == desk.rows
    desk.hello(CLIENT, "c")
    answer = desk.ask(request)

    assert 1 == sum(isinstance(row, TurnRow | SessionRow) and row.request == "again" for row in desk.rows)
    assert isinstance(answer, Accepted | Opened)
    invariants.of_house(desk.core.house)


def test_an_exit_that_breaks_half_way_settles_every_turn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = two()
    play_one(desk)
    desk.tell(ClientSaid(CLIENT, Open("another", "one", "/")))
    (other,) = {session.id for session in desk.core.house.sessions.values()} - set(desk.sessions.values())
    desk.tell(ClientSaid(CLIENT, Prompt("there", other, pack([{"type": "text", "text": "x"}]))))
    settle, settled = losses.settle, list[str]()

    def breaks_at_the_second(*arguments: Any) -> None:
        settled.append(arguments[1].id)
        if len(settled) == 2:
            raise AssertionError("for a test")
        settle(*arguments)

    monkeypatch.setattr(losses, "settle", breaks_at_the_second)
    desk.tell(Exited("one", 1, 7, -9, shown=[(desk.sessions["one"], 2)]))
    endings = desk.endings()
    invariants.of_house(desk.core.house)

    assert State.FATAL is desk.state("one")
    assert ["interrupted", *["failed"] * 3] == endings
    invariants.of_house(desk.core.house)
