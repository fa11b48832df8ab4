"""Which actors come back, when, and what their starts wait for: every policy, in any order of events."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.desk import CLIENT, Desk
from understudy.protocol.frames import PROTOCOL_VERSION, ActorHello, Pong
from understudy.supervisor.core import invariants, rests
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import ActorSaid, ClientSaid, Effect, Event, Exited, RestRow, Spawned
from understudy.supervisor.core.life import State
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, Comeback, HouseSpec, RestartPolicy


class Cast(Desk):
    """A desk for agents without understudies, whose actors are ready when the test says so."""

    def __init__(self, *agents: AgentSpec, seed: int = 1) -> None:
        super().__init__(*agents, seed=seed, late=True)

    def tell(self, *events: Event, after_s: float = 0.0) -> list[Effect]:
        effects = super().tell(*events, after_s=after_s)
        assert len(self.living) == len({name for name, _ in self.living}), f"two of one live: {self.living}"
        invariants.of_house(self.core.house)
        return effects

    def run(self, name: str = "a") -> None:
        """Bring it to RUNNING."""
        self.up(name, self.actor(name).epoch)

    def end(self, status: int = 1, name: str = "a", survivors: int = 0) -> None:
        self.exit(name, self.actor(name).epoch, status, survivors)

    def at(self, now: float) -> None:
        self.tell(ClientSaid(CLIENT, Pong()))  # Or it would be forgotten.
        self.tick(now - self.now)

    def due(self) -> None:
        """Let the time come for which it waits."""
        due = self.actor().due
        assert due is not None
        self.at(max(due, self.now))


def cast(policy: RestartPolicy | None = None, seed: int = 1) -> Cast:
    return Cast(AgentSpec("a", restart=policy or RestartPolicy()), seed=seed)


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
    made = cast(RestartPolicy(policy, expected=(0, 3)))
    made.run()
    if stopped:
        made.verb("stop")

    made.end(status)

    assert made.state() is (State.STOPPED if stopped else state)


def test_the_first_restart_is_immediate_the_next_waits_and_a_stable_time_forgets() -> None:
    made = cast(RestartPolicy(stable_s=30.0, backoff_min_s=1.0))
    made.at(1.0)
    made.end()
    states = [made.state()]
    made.at(2.0)
    made.end()
    states.append(made.state())
    made.due()
    made.run()
    made.at(made.now + 100.0)
    made.end()

    assert [State.STARTING, State.BACKOFF, State.STARTING] == [*states, made.state()]


@pytest.mark.parametrize(("retry_s", "after"), [(0.0, State.FATAL), (60.0, State.STARTING)])
def test_fatal_is_left_slowly_or_never(retry_s: float, after: State) -> None:
    made = cast(RestartPolicy(intensity=0, fatal_retry_s=retry_s))
    made.at(1.0)
    made.end()
    assert made.state() is State.FATAL

    made.at(61.0)

    assert made.state() is after


def test_it_starts_only_when_the_named_ones_run() -> None:
    made = Cast(AgentSpec("b"), AgentSpec("a", after=("b",)))

    assert "starts when RUNNING: b (STARTING)" == str(made.actor().why)
    assert [("b", 1)] == made.spawned
    made.run("b")
    assert [("b", 1), ("a", 1)] == made.spawned
    made.run()
    assert [("b", 1), ("a", 1)] == made.spawned


def test_one_that_could_not_be_ended_is_not_started_beside_what_is_left() -> None:
    made = cast()
    made.end(survivors=2)

    assert made.state() is State.UNKNOWN
    assert "understudy start a" in str(made.actor().why)
    assert [("a", 1)] == made.spawned


def test_an_exited_one_that_is_needed_again_keeps_to_its_budget() -> None:
    made = cast(RestartPolicy(Comeback.TEMPORARY, intensity=1))
    made.prompt(made.open())
    made.end(0)
    first = made.state()
    made.end(0)

    assert (State.STARTING, State.FATAL) == (first, made.state())


def test_who_was_started_after_the_last_had_ended_is_taken_back_in_its_place_though_its_start_is_not_in_the_log() -> (
    None
):
    spec = AgentSpec("a", sessions_per_actor=1, actors_max=2)
    ended = RestRow("a", "", "EXITED", "exited with status 0", 0.0, epoch=1, digest=rests.digest(spec))
    restored = Restored(epochs={"a": 1}, rests={"a": ended})

    core = Core(HouseSpec((spec,), "/r", "/s"), restored, {}, Random(1), [Spawned("a", 2, 2, 2, "a", 1)], 0.0, 0.0)

    assert [("a#2", State.STARTING)] == [(each.title, each.state) for each in core.house.actors()]


def test_whoever_is_taken_back_and_exits_before_its_hello_is_judged_once() -> None:
    """A transient one with an understudy: it is not to return, and nobody takes over for one that is done."""
    spec = AgentSpec("a", understudies=1, restart=RestartPolicy(Comeback.TRANSIENT))
    living = [Spawned("a", 1, 1, 1, "a", 1), Spawned("a", 2, 2, 2, "", 0)]
    core = Core(HouseSpec((spec,), "/r", "/s"), Restored(), {}, Random(1), living, 0.0, 0.0)
    core.start(0.0, 0.0)
    core.handle([ActorSaid(b"2", ActorHello(PROTOCOL_VERSION, "a", 2, 2))], 0.0, 0.0)

    core.handle([Exited("a", 1, 1, 0, shown=[])], 0.0, 0.0)

    assert (State.EXITED, 1) == (core.house.agents["a"].first.state, core.house.agents["a"].first.epoch)


def falls_until_fatal(policy: RestartPolicy, ran_s: list[float], seed: int) -> int:
    """Let it run for each of `ran_s` in turn, and fall; return at which fall it gave up, 0 for never."""
    made = cast(policy, seed)
    for number, ran in enumerate(ran_s, 1):
        made.run()
        made.now += ran
        made.end()
        if made.state() is State.FATAL:
            return number
        if made.state() is State.BACKOFF:
            made.due()
    return 0


RAN = st.lists(st.sampled_from([0.0, 0.0, 0.1, 3.0, 7.0, 40.0, 100.0]), min_size=1, max_size=40)


@given(RAN, st.integers(0, 6), st.integers(), st.integers())
def test_who_gives_up_is_no_matter_of_luck(ran_s: list[float], intensity: int, one: int, other: int) -> None:
    policy = RestartPolicy(intensity=intensity, period_s=60.05)  # No sum of those: at the very edge, rounding decides.

    first, second = (falls_until_fatal(policy, ran_s, seed) for seed in (one, other))

    assert first == second


@given(st.integers(0, 20), st.integers())
def test_one_that_never_runs_gives_up_when_its_budget_is_spent(intensity: int, seed: int) -> None:
    assert intensity + 1 == falls_until_fatal(RestartPolicy(intensity=intensity), [0.0] * 30, seed)


@given(
    st.sampled_from(Comeback),
    st.floats(0, 100),
    st.lists(st.sampled_from(["start", "run", "stop", "exit 0", "exit 1", "tick", "prompt", "restart"]), max_size=40),
)
def test_at_most_one_process_lives_whatever_happens(policy: Comeback, retry_s: float, steps: list[str]) -> None:
    made = cast(RestartPolicy(policy, intensity=3, fatal_retry_s=retry_s))
    for step in steps:
        made.now += 1.0
        actor = made.actor()
        match step:
            case "start" | "stop" | "restart":
                made.verb(step)
            case "run":
                made.run()
            case "exit 0" | "exit 1" if actor.lives:
                made.end(int(step[-1]))
            case "tick":
                made.at(made.now if actor.due is None else max(made.now, actor.due))
            case "prompt":
                made.prompt(made.open())
            case _:
                continue
        assert actor.lives == (("a", actor.epoch) in made.living)
