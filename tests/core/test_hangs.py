"""Hangs: what is noticed of them, and what is done; decided in pure code, and played with real processes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.faults.house import RealHouse, wait_until
from understudy.protocol.frames import Ping, unpack
from understudy.supervisor.core import hangs, looks, turns
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import Kill, TellActor, Ticked
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.sessions import NOTHING, OpenAsk, Session, Turn, TurnState
from understudy.supervisor.core.specs import AgentSpec, HouseSpec, OnHang


def a_house(turn_timeout_s: float = 0.0, quiet_timeout_s: float = 0.0, on_hang: OnHang = OnHang.TELL) -> House:
    """Return a house in which one turn runs since 0."""
    spec = AgentSpec("one", turn_timeout_s=turn_timeout_s, quiet_timeout_s=quiet_timeout_s, on_hang=on_hang)
    house = House(HouseSpec((spec,), "", ""), Random(1))
    restarts = Restarts(spec.restart, Random(1))
    actor = Actor("one", spec, house.touch, "one", 1, epoch=1, state=State.RUNNING, peer=b"peer")
    house.launches["one"] = launch = Launch("one", spec, restarts, 1, known={1: actor})
    house.agents["one"] = agent = Agent(spec, launch, restarts, [actor])
    turn = Turn(1, NOTHING, [], state=TurnState.RUNNING, launch="one", epoch=1)
    house.sessions["s"] = session = Session("s", "one", "", NOTHING, current=turn)
    turns.plays(house, session, agent, actor)
    return house


def one(house: House) -> Actor:
    return house.agents["one"].first


def rest(house: House) -> None:
    """Let no turn be there."""
    house.sessions["s"].current = None
    one(house).playing.clear()


def tick(house: House, now: float, ping_idle: bool = False) -> list[Kill]:
    """Let it be `now`, as promised to the house."""
    house.now = now
    return hangs.ticked(house, house.actors(), ping_idle, late=False)


def notes(house: House) -> list[str]:
    return [unpack(entry.body)["text"] for _, entry in house.unfed if entry.kind == "note"]


def pings(house: House) -> int:
    return sum(isinstance(each, TellActor) and isinstance(each.frame, Ping) for each in house.effects)


def test_a_silent_actor_with_turns_is_asked_once_and_told_of_once() -> None:
    house = a_house()

    for now in (0.9, 1.0, 1.5, 2.75, 4.0):
        tick(house, now)

    assert 1 == pings(house)
    assert ["one#1 hangs: not a frame of it for 2.8 s, nor an answer to a ping; cancel the turn, or wait"] == notes(
        house
    )


def test_an_actor_whose_welcome_waits_for_the_log_is_not_asked_and_not_taken_for_hung() -> None:
    house = a_house()
    house.ticket = 1
    hangs.greeted(house, one(house))

    for now in (1.0, 5.0, 12.0):
        assert [] == tick(house, now, ping_idle=True)
    assert 0 == pings(house)
    assert [] == hangs.dues(house, one(house))

    house.committed = 1
    tick(house, 13.0)
    assert 1 == pings(house)


def test_any_frame_proves_the_link_and_the_return_is_told() -> None:
    house = a_house()
    tick(house, 1.0)
    hangs.heard(house, one(house), is_pong=False)
    tick(house, 2.9)
    tick(house, 4.7)
    hangs.heard(house, one(house), is_pong=False)

    assert 2 == pings(house)
    assert "one#1 is heard again, after 3.7 s of silence" == notes(house)[-1]


def test_an_idle_actor_is_asked_only_with_all() -> None:
    house = a_house()
    rest(house)

    tick(house, 5.0)
    before = pings(house)
    tick(house, 10.0, ping_idle=True)

    assert (0, 1) == (before, pings(house))
    assert [10.0 + hangs.ANSWER_S_MAX] == hangs.dues(house, one(house))


def test_one_that_a_signal_suspended_is_asked_at_once_idle_or_not() -> None:
    house = a_house()
    rest(house)

    hangs.suspended(house, one(house))
    tick(house, hangs.ANSWER_S_MAX)

    assert 1 == pings(house)
    assert one(house).heard.silent


def test_one_that_hangs_without_work_is_ended_when_work_comes() -> None:
    house = a_house()
    session = house.sessions["s"]
    turn = session.current
    rest(house)
    hangs.suspended(house, one(house))
    assert [] == tick(house, hangs.ANSWER_S_MAX)

    assert turn is not None
    session.current, turn.state = turn, TurnState.HANDED
    turns.plays(house, session, house.agents["one"], one(house))

    assert [Kill("one", 1, signal.SIGKILL)] == tick(house, 5.0)


def test_an_understudy_that_hangs_is_ended_whatever_is_done_about_others() -> None:
    house = a_house()
    launch = house.launches["one"]
    spare = Actor("one", launch.spec, house.touch, epoch=2, state=State.RUNNING, peer=b"spare")
    launch.understudies.append(spare)

    hangs.suspended(house, spare)
    kills = tick(house, hangs.ANSWER_S_MAX)

    assert [Kill("one", 2, signal.SIGKILL)] == kills
    assert launch.heir() is None


def test_one_that_hangs_before_it_began_anything_is_ended_whatever_is_done_about_others() -> None:
    house = a_house()
    turn = house.sessions["s"].current
    assert turn is not None
    turn.state = TurnState.HANDED

    hangs.suspended(house, one(house))

    assert [Kill("one", 1, signal.SIGKILL)] == tick(house, hangs.ANSWER_S_MAX)


def test_our_own_delay_is_not_held_against_an_actor() -> None:
    house = a_house()
    tick(house, 1.0)
    house.now = 60.0

    hangs.ticked(house, house.actors(), ping_idle=False, late=True)

    assert [] == notes(house)
    assert [60.0 + hangs.ANSWER_S_MAX] == hangs.dues(house, one(house))


def test_quiet_is_not_counted_while_somebody_is_asked_or_the_log_cannot_write() -> None:
    house = a_house(quiet_timeout_s=5.0)
    session = house.sessions["s"]
    session.asks["a"] = OpenAsk(1, "m", 0.0)
    tick(house, 6.0)
    session.asks.clear()
    house.log_failed_at = 1.0
    tick(house, 6.5)
    before = notes(house)
    house.log_failed_at = None
    tick(house, 7.0)

    assert ([], ["turn 1 is quiet for 7.0 s; quiet_timeout_s is 5; cancel the turn, or wait"]) == (before, notes(house))


def test_a_turn_may_be_quiet_again_after_progress() -> None:
    house = a_house(quiet_timeout_s=1.0)
    tick(house, 1.0)
    hangs.progressed(house, house.sessions["s"])
    tick(house, 1.5)
    tick(house, 2.0)

    assert 2 == len(notes(house))


@pytest.mark.parametrize(("what", "killed", "cancelled"), [
    (OnHang.TELL, 0, False), (OnHang.CANCEL, 0, True), (OnHang.RESTART, 1, False),
])  # fmt: skip
def test_a_turn_over_its_time_is_told_cancelled_or_restarted(what: OnHang, killed: int, cancelled: bool) -> None:
    house = a_house(turn_timeout_s=3.0, on_hang=what)
    turn = house.sessions["s"].current
    assert turn is not None

    kills = [*tick(house, 2.9), *tick(house, 3.0)]

    assert (killed, cancelled) == (len(kills), turn.cancelled)
    assert notes(house)[-1].startswith("turn 1 takes 3.0 s; turn_timeout_s is 3")


@contextmanager
def playing(folder: Path, settings: str, prompt: str) -> Iterator[tuple[RealHouse, "subprocess.Popen[str]"]]:
    """Yield a real house whose one agent plays `prompt`."""
    with RealHouse(folder, f'[agent.rehearsal]\ndriver = "scripted"\n{settings}\n') as house:
        command = house.command("prompt", "rehearsal", "--json", prompt)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as said:
            yield house, said
            said.kill()


def until(said: "subprocess.Popen[str]", kind: str) -> dict[str, str]:
    """Read until an entry of `kind`; return its body."""
    assert said.stdout is not None
    for line in said.stdout:
        entry = json.loads(line)
        if entry["kind"] == kind:
            return dict(entry["body"], reason=entry.get("reason", ""))
    raise AssertionError(f"no {kind}")


def test_a_stopped_actor_is_noticed_shown_and_heard_again(tmp_path: Path) -> None:
    with playing(tmp_path, "", "[[say in]] [[sleep 60000]]") as (house, said):
        until(said, "update")
        pid = house.pid()
        os.kill(pid, signal.SIGSTOP)

        assert "hangs" in until(said, "note")["text"]
        (row,) = house.rows()
        assert row["link"].startswith("silent for ")
        assert "silent for" in row["waiting_for"]
        os.kill(pid, signal.SIGCONT)
        assert "heard again" in until(said, "note")["text"]
        wait_until(lambda: house.rows()[0]["link"] == "", "the link to be well")


def test_a_stopped_actor_without_work_is_noticed_too(tmp_path: Path) -> None:
    with RealHouse(tmp_path) as house:
        pid = house.pid()
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: house.rows()[0]["link"] != "", "the silence to be noticed", hangs.ANSWER_S_MAX + 5)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: house.rows()[0]["link"] == "", "the link to be well")
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: house.rows()[0]["link"] != "", "the silence to be noticed", hangs.ANSWER_S_MAX + 5)
        assert "hello\n" == house.run("prompt", "rehearsal", "hello").stdout
        assert pid != house.pid()


def test_a_stopped_understudy_is_replaced(tmp_path: Path) -> None:
    with RealHouse(tmp_path, "[agent.rehearsal]\ndriver = 'scripted'\nunderstudies = 1\n") as house:
        first = house.pid("rehearsal~1")
        os.kill(first, signal.SIGSTOP)
        wait_until(lambda: house.pid("rehearsal~1") != first, "another understudy")

        assert not Path(f"/proc/{first}").exists()


def test_a_stopped_understudy_that_takes_over_gives_way_to_one_that_plays(tmp_path: Path) -> None:
    with RealHouse(tmp_path, "[agent.rehearsal]\ndriver = 'scripted'\nunderstudies = 1\n") as house:
        spare, player = house.pid("rehearsal~1"), house.pid()
        os.kill(spare, signal.SIGSTOP)
        os.kill(player, signal.SIGKILL)

        assert "hello\n" == house.run("prompt", "rehearsal", "hello").stdout
        assert house.pid() not in (spare, player)


@pytest.mark.parametrize(("directive", "what", "reason"), [
    ("[[spin]]", "cancel", "cancelled"), ("[[hang]]", "restart", "interrupted"),
])  # fmt: skip
def test_a_hanging_actor_is_ended_and_the_next_prompt_answered(
    tmp_path: Path, directive: str, what: str, reason: str
) -> None:
    settings = f'on_hang = "{what}"\ncancel_grace_s = 0.1'
    with playing(tmp_path, settings, f"[[say in]] {directive}") as (house, said):
        assert "hangs" in until(said, "note")["text"]
        ended = until(said, "ended")

        assert reason == ended["reason"]
        assert "hello\n" == house.run("prompt", "rehearsal", "hello").stdout


def test_a_quiet_turn_is_cancelled_politely(tmp_path: Path) -> None:
    settings = 'on_hang = "cancel"\nquiet_timeout_s = 0.2'
    with playing(tmp_path, settings, "[[say in]] [[sleep 60000]]") as (house, said):
        pid = house.pid()
        assert "quiet" in until(said, "note")["text"]

        assert "cancelled" == until(said, "ended")["reason"]
        assert pid == house.pid()


def test_a_look_that_came_late_is_followed_by_one_that_is_not() -> None:
    spec = HouseSpec((AgentSpec("one"),), "", "")
    core = Core(spec, Restored(), {}, Random(1), [], 0.0, 0.0)
    house = a_house(quiet_timeout_s=1.0)
    core.house.agents, core.house.launches = house.agents, house.launches
    core.house.sessions["s"] = house.sessions["s"]
    core.house.next_ping = 60.0
    looks.plan(core.house, one(core.house))
    first = core.deadline()

    core.handle([Ticked()], 30.0, 0.0)  # The machine stood still.
    before = notes(core.house)
    core.handle([Ticked()], core.deadline(), 0.0)

    assert (1.0, []) == (first, before)
    assert any("is quiet" in each for each in notes(core.house))
