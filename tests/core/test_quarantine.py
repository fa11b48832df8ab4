"""A broken invariant of ours takes one agent or session out of play, and nothing else."""

import signal
from typing import Any

import pytest

from tests.desk import CLIENT, House
from understudy.protocol.errors import QUARANTINED
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Accepted,
    Begin,
    Ended,
    Entry,
    Fault,
    Hello,
    Open,
    Opened,
    Prompt,
    Updates,
    Verb,
    pack,
)
from understudy.protocol.news import AgentSetApart
from understudy.supervisor.core import invariants, losses, requests, turns
from understudy.supervisor.core.events import (
    ActorSaid,
    Announce,
    ClientSaid,
    Effect,
    Exited,
    Kill,
    Record,
    SessionRow,
    Spawn,
    TellClient,
    TurnRow,
)
from understudy.supervisor.core.life import Reason, State, Why
from understudy.supervisor.core.specs import RestartPolicy


def break_one(house: House) -> list[Effect]:
    """Break an invariant about agent `one`: it ends, and its policy is none that there is."""
    policy: Any = None
    house.core.house.agents["one"].restarts.policy = RestartPolicy(policy=policy)
    return house.handle(Exited("one", 1, 7, -9, shown=[]))


def test_the_agent_is_ended_and_its_turns_with_it_while_another_plays_on() -> None:
    house = House()
    house.prompt("one")
    house.prompt("two")

    effects = break_one(house)

    assert State.FATAL is house.state("one")
    assert "set apart: AssertionError" in str(house.core.house.agents["one"].first.why)
    assert ["failed"] == house.endings()
    (apart,) = [each.news for each in effects if isinstance(each, Announce) and isinstance(each.news, AgentSetApart)]
    assert ("one", True) == (apart.agent, "RUNNING" in apart.story)
    assert State.RUNNING is house.state("two")
    assert house.core.house.sessions[house.sessions["two"]].current is not None


def test_what_lives_of_it_is_killed_and_confirmed_dead_before_anything_else() -> None:
    house = House()
    house.prompt("one")
    agent = house.core.house.agents["one"]
    agent.apart = "for a test"

    kills = agent.first.set_apart(Why(Reason.APART, "for a test"), gone=False, now=0.0)

    assert [Kill("one", 1, signal.SIGKILL)] == kills
    assert State.STOPPING is house.state("one")
    house.handle(Exited("one", 1, 7, -9, shown=[]))
    assert State.FATAL is house.state("one")
    assert ["failed"] == house.endings()


def test_a_prompt_is_refused_and_a_person_starts_it_again() -> None:
    house = House()
    break_one(house)

    house.prompt("one")
    before = house.state("one")
    (told,) = [each.frame for each in house.effects if isinstance(each, TellClient)]
    spawned = house.handle(ClientSaid(CLIENT, Verb("v", "start", pack({"names": ["one"]}))))

    assert State.FATAL is before
    assert isinstance(told, Fault)
    assert QUARANTINED == told.code
    assert "understudy restart one" in told.text
    assert [Spawn("one", 2, "one", "one", 1)] == [each for each in spawned if isinstance(each, Spawn)]
    assert "" == house.core.house.agents["one"].apart


def test_there_is_no_next_and_numbers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    house.prompt("one")
    last = house.core.house.sessions[house.sessions["one"]].last
    finish = turns.finish

    def broken(*_: object) -> None:
        monkeypatch.setattr(turns, "finish", finish)
        raise AssertionError("for a test")

    monkeypatch.setattr(turns, "finish", broken)
    house.core.house.sessions[house.sessions["one"]].current.cancelled = True  # type: ignore[union-attr]
    effects = house.handle(Exited("one", 1, 7, -9, shown=[]))
    entries = [row for each in effects if isinstance(each, Record) for row in each.rows if isinstance(row, Entry)]

    assert [] == [each for each in effects if isinstance(each, Spawn | Kill)]
    assert [(last + 1, "lost"), (last + 2, "ended")] == [(entry.first, entry.kind) for entry in entries]
    assert State.FATAL is house.state("one")


def play_one(house: House) -> str:
    """Let the session of `one` have a turn that runs, and two that wait; return its id."""
    name = house.sessions["one"]
    for text in ("first", "second", "third"):
        house.handle(ClientSaid(CLIENT, Prompt(text, name, pack([{"type": "text", "text": text}]))))
    turn = house.core.house.sessions[name].current
    assert turn is not None
    house.handle(ActorSaid(b"one", Begin(name, turn.number)))
    return name


def test_a_session_that_broke_has_its_endings_and_its_agent_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    name = play_one(house)
    updates, body = turns.updates, pack([{"sessionUpdate": "x"}] * 3)

    def breaks_late(*arguments: Any) -> None:
        updates(*arguments)
        monkeypatch.setattr(turns, "updates", updates)
        house.core.house.agents["one"].running -= 1
        house.core.house.sessions[name].mailbox.clear()
        raise AssertionError("for a test")

    monkeypatch.setattr(turns, "updates", breaks_late)
    house.handle(ActorSaid(b"one", Updates(1, name, 2, 3, body)))

    assert ["failed"] * 3 == house.endings()
    role = house.core.house.agents["one"]
    assert (0, 0) == (role.running, role.queued)
    invariants.of_house(house.core.house)
    assert State.RUNNING is house.state("one")
    house.handle(ActorSaid(b"one", Updates(4, "a session that nobody knows", 2, 1, body)))
    assert not [each for each in house.effects if isinstance(each, Kill)], "what it said before was counted"
    house.prompt("one")
    assert QUARANTINED in [each.frame.code for each in house.effects if isinstance(each, TellClient)]  # type: ignore[union-attr]


def test_a_breach_that_nobody_noticed_is_found_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    name = play_one(house)
    ended = turns.ended

    def forgets_the_next(*arguments: Any) -> None:
        ended(*arguments)
        house.core.house.agents["one"].first.playing.pop(name)

    monkeypatch.setattr(turns, "ended", forgets_the_next)
    house.handle(ActorSaid(b"one", Ended(1, name, 2, "end_turn")))

    assert ["failed"] * 3 == house.endings()
    assert "nobody watches" in house.core.house.sessions[name].quarantined


@pytest.mark.parametrize("frame", ["prompt", "open"])
def test_a_request_that_broke_is_carried_out_when_it_is_said_again(frame: str, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    request: Prompt | Open = Open("again", "one", "/")
    if frame == "prompt":
        request = Prompt("again", house.sessions["one"], pack([{"type": "text", "text": "x"}]))
    remember = getattr(requests, f"remember_{frame}")

    def breaks_late(*arguments: Any) -> None:
        monkeypatch.setattr(requests, f"remember_{frame}", remember)
        remember(*arguments)
        raise AssertionError("for a test")

    monkeypatch.setattr(requests, f"remember_{frame}", breaks_late)
    house.handle(ClientSaid(CLIENT, request))
    assert [] == [row for each in house.effects if isinstance(each, Record) for row in each.rows]
    house.handle(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))
    house.handle(ClientSaid(CLIENT, request))

    rows = [row for each in house.effects if isinstance(each, Record) for row in each.rows]
    assert 1 == sum(isinstance(row, TurnRow | SessionRow) and row.request == "again" for row in rows)
    (answer,) = [each.frame for each in house.effects if isinstance(each, TellClient)]
    assert isinstance(answer, Accepted | Opened)
    invariants.of_house(house.core.house)


def test_an_exit_that_breaks_half_way_settles_every_turn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    play_one(house)
    house.handle(ClientSaid(CLIENT, Open("another", "one", "/")))
    (other,) = {session.id for session in house.core.house.sessions.values()} - set(house.sessions.values())
    house.handle(ClientSaid(CLIENT, Prompt("there", other, pack([{"type": "text", "text": "x"}]))))
    settle, settled = losses.settle, list[str]()

    def breaks_at_the_second(*arguments: Any) -> None:
        settled.append(arguments[1].id)
        if len(settled) == 2:
            raise AssertionError("for a test")
        settle(*arguments)

    monkeypatch.setattr(losses, "settle", breaks_at_the_second)
    house.handle(Exited("one", 1, 7, -9, shown=[(house.sessions["one"], 2)]))
    endings = house.endings()
    invariants.of_house(house.core.house)

    assert State.FATAL is house.state("one")
    assert ["interrupted", *["failed"] * 3] == endings
    invariants.of_house(house.core.house)
