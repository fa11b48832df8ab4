"""The life of one actor: every policy, in any order of events."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.protocol.frames import PROTOCOL_VERSION, ActorHello
from understudy.supervisor.core.child import LIVING, Child, Line, State
from understudy.supervisor.core.events import Exited, Spawn, Spawned
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.specs import AgentSpec, Comeback, RestartPolicy


def child(name: str = "a", policy: RestartPolicy | None = None, others: list[Child] | None = None) -> Child:
    policy = policy or RestartPolicy()
    line = Line(0, Restarts(policy, Random(1)))
    line.player = Child(name, AgentSpec(name, restart=policy), line, others=[each.line for each in others or []])
    return line.player


def run(made: Child, now: float = 0.0) -> None:
    """Bring it to RUNNING."""
    made.greeted(ActorHello(PROTOCOL_VERSION, made.name, made.epoch, 1), b"peer", now)


def end(made: Child, status: int, now: float = 0.0, survivors: int = 0) -> list[Spawn]:
    return made.exited(Exited(made.name, made.epoch, 1, status, survivors=survivors), now)


@pytest.mark.parametrize(
    ("policy", "status", "state"),
    [
        (Comeback.PERMANENT, 0, State.STARTING),
        (Comeback.PERMANENT, 1, State.STARTING),
        (Comeback.PERMANENT, -9, State.STARTING),
        (Comeback.TRANSIENT, 0, State.EXITED),
        (Comeback.TRANSIENT, 3, State.EXITED),
        (Comeback.TRANSIENT, 1, State.STARTING),
        (Comeback.TRANSIENT, -9, State.STARTING),
        (Comeback.TEMPORARY, 0, State.EXITED),
        (Comeback.TEMPORARY, 1, State.EXITED),
        (Comeback.TEMPORARY, -9, State.EXITED),
    ],
)
@pytest.mark.parametrize("stopped", [False, True])
def test_who_comes_back(policy: Comeback, status: int, state: State, stopped: bool) -> None:
    made = child(policy=RestartPolicy(policy, expected=(0, 3)))
    made.start(0.0)
    run(made)
    if stopped:
        made.stop(1.0)

    end(made, status, 2.0)

    assert made.state is (State.STOPPED if stopped else state)


def test_the_first_restart_is_immediate_the_next_waits_and_a_stable_time_forgets() -> None:
    made = child(policy=RestartPolicy(stable_s=30.0, backoff_min_s=1.0))
    made.start(0.0)
    end(made, 1, 1.0)
    states = [made.state]
    end(made, 1, 2.0)
    states.append(made.state)
    assert made.due is not None
    made.ticked(made.due)
    run(made, made.due)
    end(made, 1, made.since + 100.0)

    assert [State.STARTING, State.BACKOFF, State.STARTING] == [*states, made.state]


@pytest.mark.parametrize(("retry_s", "after"), [(0.0, State.FATAL), (60.0, State.STARTING)])
def test_fatal_is_left_slowly_or_never(retry_s: float, after: State) -> None:
    made = child(policy=RestartPolicy(intensity=0, fatal_retry_s=retry_s))
    made.start(0.0)
    end(made, 1, 1.0)
    assert made.state is State.FATAL

    made.ticked(61.0)

    assert made.state is after


def test_it_starts_only_when_the_named_ones_run() -> None:
    other = child("b")
    made = child("a", others=[other])

    assert [] == made.start(0.0)
    assert "starts when RUNNING: b (STOPPED)" == made.why
    other.start(0.0)
    assert [] == made.released(1.0)
    run(other)
    assert [Spawn("a", 1, "a")] == made.released(2.0)
    assert [] == made.released(3.0)


def test_one_that_could_not_be_ended_is_not_started_beside_what_is_left() -> None:
    made = child()
    made.start(0.0)

    assert [] == end(made, 1, 1.0, survivors=2)
    assert made.state is State.UNKNOWN
    assert "understudy start a" in made.why


def test_an_exited_one_that_is_needed_again_keeps_to_its_budget() -> None:
    made = child(policy=RestartPolicy(Comeback.TEMPORARY, intensity=1))
    made.start(0.0)
    end(made, 0, 1.0)
    made.recalled(1.0)
    first = made.state
    end(made, 0, 2.0)
    made.recalled(2.0)

    assert (State.STARTING, State.FATAL) == (first, made.state)


def falls_until_fatal(policy: RestartPolicy, ran_s: list[float], seed: int) -> int:
    """Let it run for each of `ran_s` in turn, and fall; return at which fall it gave up, 0 for never."""
    line = Line(0, Restarts(policy, Random(seed)))
    made = Child("a", AgentSpec("a", restart=policy), line)
    line.player = made
    now = 0.0
    made.start(now)
    for number, ran in enumerate(ran_s, 1):
        run(made, now)
        now += ran
        end(made, 1, now)
        if made.state is State.FATAL:
            return number
        if made.state is State.BACKOFF and made.due is not None:
            now = made.due
            made.ticked(now)
    return 0


RAN = st.lists(st.sampled_from([0.0, 0.0, 0.1, 3.0, 7.0, 40.0, 100.0]), min_size=1, max_size=40)


@given(RAN, st.integers(0, 6), st.integers(), st.integers())
def test_who_gives_up_is_no_matter_of_luck(ran_s: list[float], intensity: int, one: int, other: int) -> None:
    policy = RestartPolicy(intensity=intensity, period_s=60.0)

    first, second = (falls_until_fatal(policy, ran_s, seed) for seed in (one, other))

    assert first == second


@given(st.integers(0, 20), st.integers())
def test_one_that_never_runs_gives_up_when_its_budget_is_spent(intensity: int, seed: int) -> None:
    assert intensity + 1 == falls_until_fatal(RestartPolicy(intensity=intensity), [0.0] * 30, seed)


@given(
    st.sampled_from(Comeback),
    st.floats(0, 100),
    st.lists(st.sampled_from(["start", "run", "stop", "exit 0", "exit 1", "tick", "recall", "kill"]), max_size=60),
)
def test_at_most_one_process_lives_whatever_happens(policy: Comeback, retry_s: float, steps: list[str]) -> None:
    made = child(policy=RestartPolicy(policy, intensity=3, fatal_retry_s=retry_s))
    now, lives = 0.0, False
    for step in steps:
        now += 1.0
        spawns: list[object] = []
        match step:
            case "start":
                spawns = [*made.start(now)]
            case "run":
                run(made, now)
            case "stop":
                made.stop(now)
            case "exit 0" | "exit 1" if made.state in LIVING:
                lives = False
                spawns = [*end(made, int(step[-1]), now)]
            case "tick":
                now = now if made.due is None else max(now, made.due)
                spawns = [each for each in made.ticked(now) if isinstance(each, Spawn)]
            case "recall":
                spawns = [*made.recalled(now)]
            case "kill":
                made.kill("for the test", now)
            case _:
                continue
        assert not (spawns and lives)
        lives = lives or bool(spawns)
        assert lives == (made.state in LIVING)


def test_the_actor_of_another_house_with_its_name_and_epoch_is_not_taken_for_it() -> None:
    made = child()
    made.start(0.0)
    made.spawned(Spawned("a", 1, 7, 7), 0.0)

    assert not made.greeted(ActorHello(PROTOCOL_VERSION, "a", 1, 8, connection=3), b"foreign", 0.0)
    assert made.greeted(ActorHello(PROTOCOL_VERSION, "a", 1, 7), b"own", 0.0)
    assert (State.RUNNING, b"own") == (made.state, made.peer)
