"""Who plays in one schedule, and which faults may strike: drawn from the seed, so that each looks at other corners."""

from dataclasses import dataclass, replace
from random import Random

from understudy.supervisor.core.specs import AgentSpec, Comeback, HouseSpec, OnCrash, OnHang, RestartPolicy

LOOSE = RestartPolicy(intensity=10_000, backoff_min_s=0.01, backoff_max_s=0.1, stable_s=1.0)
POLICIES = (*[Comeback.PERMANENT] * 4, Comeback.TRANSIENT, Comeback.TEMPORARY)
KINDS = (
    "actor killed",
    "actor stopped",
    "actor goes on",
    "program ends",
    "start fails",
    "fork fails",
    "process left over",
    "supervisor killed",
    "supervisor killed between two effects",
    "supervisor stopped",
    "supervisor stays away",
    "house falls",
    "power fails",
    "shutdown",
    "actor cut off",
    "client cut off",
    "client stopped",
    "client killed",
    "frames delayed",
    "disk slow",
    "disk full",
    "disk well",
    "time leaps",
    "wall clock jumps",
    "agent stopped by a person",
    "agent restarted by a person",
    "agent started by a person",
    "our code breaks",
    "reload",
    "memory seen",
)
COMMON = ("actor killed", "supervisor killed", "supervisor killed between two effects", "actor cut off", "disk well")


@dataclass(frozen=True, slots=True)
class Cast:
    """The configuration of one schedule.

    `window`: a follower's credit in bytes. `heavy`: updates are large. `prompts`: their kinds. `patience_s`: so late
    may come what was sent on a connection that is gone. `pace`: how often frames arrive, beside all else that happens. `appetite`: how often clients want
    something more.
    """

    spec: HouseSpec
    weights: dict[str, float]
    fault_rate: float
    clients: int
    sessions: int
    window: int
    heavy: bool
    prompts: tuple[str, ...]
    patience_s: float
    pace: int
    appetite: float
    environments: int  # So many of them sessions bring, now and then.

    def agent(self, name: str) -> AgentSpec:
        """Return the agent of that name."""
        return next(each for each in self.spec.agents if each.name == name)


def draw(seed: int) -> tuple[Cast, Random]:
    """Return the cast of a seed and its faults, and the chance that decides what happens."""
    random = Random(seed)
    first = _agent(random, "a")
    agents = [first]
    if random.random() < 0.2:
        agents.append(_agent(random, "b", after=("a",) if random.random() < 0.5 else ()))
    agents = [_varied(each, Random(random.random())) for each in agents]
    if random.random() < 0.3:  # One that is launched as the first.
        agents.append(replace(_agent(random, "c"), launch="a", understudies=0, lazy=random.random() < 0.5))
    agents = _with_personas(agents, Random(f"personas {seed}"))
    struck = {
        *random.sample(KINDS, random.choice((2, 4, 8, len(KINDS)))),
        *(k for k in COMMON if random.random() < 0.7),
    }
    weights = {kind: random.random() for kind in KINDS if kind in struck}  # In the order of KINDS: a set has none.
    cast = Cast(
        HouseSpec(
            tuple(agents),
            "/r",
            "/s",
            orphan_grace_s=3.0,
            actors_max=random.choice((0, 0, len(agents), len(agents) + 1)),
            memory_mb=random.choice((0, 0, 100)),
        ),
        weights,
        random.choice((0.03, 0.06, 0.12)),
        clients=random.choice((1, 1, 2)),
        sessions=random.choice((1, 2, 2, 3)),
        window=random.choice((1, 200, 1000, 1 << 20)),
        heavy=random.random() < 0.02,
        prompts=random.choice((("short",), ("short", "short", "short", "endless", "hang"))),
        patience_s=random.choice((0.0, 0.1, 0.5)),
        pace=random.choice((1, 2, 5)),
        appetite=random.choice((0.1, 0.2, 0.5)),
        environments=Random(-1 - seed).choice((0, 0, 0, 0, 1, 2)),
    )
    return cast, random


def changed(spec: HouseSpec, random: Random) -> HouseSpec:
    """Return another configuration of the same house: agents leave it, or are set up anew."""
    agents = [each for each in spec.agents if random.random() < 0.7] or [random.choice(spec.agents)]
    names = {each.name for each in agents}
    agents = [each for each in agents if not each.launch or each.launch in names] or [spec.agents[0]]
    return replace(
        spec,
        agents=tuple(
            replace(
                each,
                after=tuple(name for name in each.after if name in names),
                understudies=random.choice((each.understudies, 0, 1)),
                on_crash=random.choice((each.on_crash, OnCrash.INTERRUPT)),
                turns_max=random.choice((each.turns_max, 1)),
            )
            for each in agents
        ),
    )


def _with_personas(agents: list[AgentSpec], random: Random) -> list[AgentSpec]:
    """Return the agents, some of them with a persona."""
    return [replace(each, persona=f"be {each.name}" if random.random() < 0.25 else "") for each in agents]


def _varied(spec: AgentSpec, random: Random) -> AgentSpec:
    """Return the agent as one that more than one actor may play, or none, now and then."""
    several = random.random() < 0.35
    return replace(
        spec,
        sessions_per_actor=random.choice((1, 1, 2)) if several else 0,
        actors_max=random.choice((1, 2, 3)),
        lazy=random.random() < 0.15 and spec.name not in ("a",),
        idle_stop_s=random.choice((0.0, 0.0, 0.0, 0.5, 2.0)),
    )


def _agent(random: Random, name: str, after: tuple[str, ...] = ()) -> AgentSpec:
    tight = RestartPolicy(
        intensity=random.choice((1, 2, 3)),
        period_s=random.choice((0.5, 2.0, 5.0)),
        backoff_min_s=0.01,
        backoff_max_s=0.1,
        stable_s=random.choice((0.3, 1.0)),
        fatal_retry_s=random.choice((0.0, 0.5)),
    )
    return AgentSpec(
        name,
        restart=replace(tight if random.random() < 0.25 else LOOSE, policy=random.choice(POLICIES)),
        on_crash=random.choice((OnCrash.INTERRUPT, OnCrash.INTERRUPT, OnCrash.CONTINUE, OnCrash.RETRY)),
        understudies=random.choice((0, 0, 1, 2)),
        memory_mb=random.choice((0, 0, 60)),
        memory_soft_mb=random.choice((0, 0, 0, 40)),
        after=after,
        turns_max=random.choice((1, 1, 2, 1000)),
        queued_turns_max=random.choice((2, 10_000, 10_000)),
        start_timeout_s=2.0,
        stop_grace_s=1.0,
        cancel_grace_s=1.0,
        turn_timeout_s=random.choice((0.0, 0.0, 4.0)),
        quiet_timeout_s=random.choice((0.0, 0.0, 3.0)),
        on_hang=random.choice((OnHang.TELL, OnHang.TELL, OnHang.CANCEL, OnHang.RESTART)),
    )
