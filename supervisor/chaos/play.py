"""One chaos run: load and faults together, then quiet, then the verdict."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from understudy.protocol.client import connect
from understudy.protocol.verbs import Status
from understudy.supervisor.chaos.faults import Fault, Stage
from understudy.supervisor.chaos.ledger import Verdict, history, judge
from understudy.supervisor.chaos.load import CONNECT_S_MAX, Load
from understudy.supervisor.chaos.proc import keeper_of, of_supervisor, strays

SETTLE_S = 30.0
QUIET_S_MAX = 10.0
BETWEEN_S_MIN = 0.02
BETWEEN_S_MAX = 0.5
BETWEEN_SUPERVISORS_S = 1.0  # A house whose supervisor has not come up since the last fault rightly waits longer.
STORY_MAX = 10_000
QUIET_S = 0.5
POLL_S = 0.02

Told = Callable[["Report", Load, float], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: the house, who plays in it, which faults, for how long, from which seed.

    `asking`: those of `agents` that follow directives. `ledger`: what the agents append to; None: nothing.
    """

    runtime_dir: str
    state_dir: str
    agents: tuple[str, ...]
    asking: tuple[str, ...]
    ledger: Path | None
    faults: tuple[Fault, ...]
    for_s: float
    seed: int


@dataclass
class Report:
    """What was done and what became of it. `story`: (seconds since the beginning, fault, what was done)."""

    plan: Plan
    done: Counter[str] = field(default_factory=Counter[str])
    without_victim: Counter[str] = field(default_factory=Counter[str])
    story: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])
    refused: Counter[str] = field(default_factory=Counter[str])
    verdict: Verdict = field(default_factory=Verdict)
    processes_left: int = 0
    descriptors_leaked: int = 0
    asserted: int = 0  # Breaches of our own invariants that the house told of.

    def broken(self) -> dict[str, int]:
        """Return how often each promise was broken: all must be zero."""
        return {
            "accepted turns lost": self.verdict.lost,
            "endings doubled": self.verdict.endings_doubled,
            "prompts begun twice": self.verdict.begun_twice,
            "interrupted while still queued": self.verdict.interrupted_queued,
            "processes left": self.processes_left,
            "descriptors leaked": self.descriptors_leaked,
            "own invariants broken": self.asserted,
        }

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.broken().values())

    def left_behind(self, found: list[str], when: str) -> None:
        """Count processes that should not be there."""
        self.processes_left += len(found)
        for each in found:
            self.verdict.find(f"{when}: process {each} is left")

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return {
            "seed": self.plan.seed,
            "for_s": self.plan.for_s,
            "faults": {fault.value: self.done[fault.value] for fault in self.plan.faults},
            "without_victim": dict(self.without_victim),
            "accepted": self.verdict.accepted,
            "endings": dict(self.verdict.reasons),
            "unseen": self.verdict.unseen,
            "refused": dict(self.refused),
            "ledger": self.verdict.ledger,
            "broken": self.broken(),
            "kept": self.kept,
            "findings": self.verdict.findings,
            "story": [list(each) for each in self.story],
        }


async def play(plan: Plan, told: Told) -> Report:
    """Carry out the plan on a house that answers; `told` is called each second. Raises `LocalError` without a house."""
    report = Report(plan)
    load = Load(plan.runtime_dir, plan.agents, plan.asking, plan.seed)
    keeper = keeper_of(plan.runtime_dir)
    before = await _at_rest(plan, keeper, None)
    stage = Stage(plan.runtime_dir, plan.state_dir, keeper, plan.agents, plan.asking)
    async with load.playing(SETTLE_S), stage.curtain():
        began = time.monotonic()
        ticking = asyncio.create_task(_tick(report, load, began, told))
        try:
            await _strike(plan, stage, load, report, began)
        finally:
            ticking.cancel()
    report.refused = load.refused
    found = await history(plan.runtime_dir, load.accepted, SETTLE_S)
    report.verdict = judge(load.accepted, found, plan.ledger)
    report.left_behind(await _strays(plan, keeper), "in the running house")
    await _judge_descriptors(plan, keeper, before, report)
    return report


async def _tick(report: Report, load: Load, began: float, told: Told) -> None:
    while True:
        await asyncio.sleep(1.0)
        told(report, load, time.monotonic() - began)


async def _strike(plan: Plan, stage: Stage, load: Load, report: Report, began: float) -> None:
    """Strike at random moments, each kind of fault as often as the others, until the time is over."""
    random = Random(plan.seed)
    deck: list[Fault] = []
    number, supervisor_due = 0, 0.0

    async def strike(fault: Fault, own: Random) -> None:
        at_s = time.monotonic() - began
        what = await stage.strike(fault, load, own)
        (report.done if what is not None else report.without_victim)[fault.value] += 1
        if len(report.story) < STORY_MAX:
            report.story.append((round(at_s, 3), fault.value, what or "no victim"))

    async with asyncio.TaskGroup() as strikes:
        while (now := time.monotonic() - began) < plan.for_s:
            if not deck:
                deck = random.sample(plan.faults, len(plan.faults))
            fault = deck.pop()
            pause_s = random.uniform(BETWEEN_S_MIN, BETWEEN_S_MAX)
            if fault is Fault.SUPERVISOR:
                pause_s = max(pause_s, supervisor_due - now)
                supervisor_due = now + pause_s + BETWEEN_SUPERVISORS_S
            await asyncio.sleep(min(pause_s, plan.for_s - now))
            number += 1
            strikes.create_task(strike(fault, Random(f"{plan.seed} {number}")))


async def _at_rest(plan: Plan, keeper: int, bound: int | None) -> list[str]:
    """Return the supervisor's own descriptors once each agent has answered and no client is there.

    Connections close a little later, and the keeper's next blank makes one: wait until there are at most `bound`, or
    (None) until nothing changes any more for a while.
    """
    async with connect(plan.runtime_dir, "chaos", wait_s=CONNECT_S_MAX) as client:
        for agent in plan.agents:
            session = await client.open(agent, "/tmp")
            await (await session.prompt(f"{session.id} at rest")).ending()
    until = time.monotonic() + QUIET_S_MAX
    quiet_until = time.monotonic() + QUIET_S
    found = of_supervisor(keeper)
    while time.monotonic() < (until if bound is not None else min(until, quiet_until)):
        if bound is not None and len(found) <= bound:
            break
        await asyncio.sleep(POLL_S)
        before, found = found, of_supervisor(keeper)
        if len(found) != len(before):
            quiet_until = time.monotonic() + QUIET_S
    return found


async def _judge_descriptors(plan: Plan, keeper: int, before: list[str], report: Report) -> None:
    """Compare with the beginning, in the same state."""
    after = await _at_rest(plan, keeper, len(before))
    report.descriptors_leaked = max(0, len(after) - len(before))
    if report.descriptors_leaked:
        more = _kinds(after) - _kinds(before)
        report.verdict.find(f"the supervisor holds {len(after)} descriptors, {len(before)} before: {dict(more)} more")


def _kinds(descriptors: Iterable[str]) -> Counter[str]:
    return Counter(each.partition(":[")[0] for each in descriptors)


async def _strays(plan: Plan, keeper: int) -> list[str]:
    """Return the processes under the keeper that belong to nobody, once there are none or it has taken too long."""
    until = time.monotonic() + QUIET_S_MAX
    async with connect(plan.runtime_dir, "chaos", wait_s=CONNECT_S_MAX) as client:
        while True:
            living = {row.pid for row in await client.verb(Status()) if row.pid}
            found = strays(keeper, living)
            if not found or time.monotonic() > until:
                return found
            await asyncio.sleep(POLL_S)
