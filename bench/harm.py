"""Rounds of one fault each, in a loaded house: how soon it is detected, how soon somebody answers again."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import zmq

from bench.restarts import answered
from understudy.protocol.client import Client, Session, Turn
from understudy.protocol.paths import gateway_address
from understudy.protocol.processes import children
from understudy.supervisor.chaos.cast import FILES, MEMORY_MB
from understudy.supervisor.chaos.ledger import Accepted, history, judge
from understudy.supervisor.chaos.proc import actors_of, of_supervisor, strays, supervisor_of

SESSIONS = 3
MOMENT_S_MIN = 0.005
MOMENT_S_MAX = 0.04
STOPPED_S = 0.1
REST_S = 0.1
SETTLED_S = 1.0  # Then the keeper's blank is connected, too.
QUIET_S_MAX = 5.0
SETTLE_S = 60.0
PROMPT = "[[stream 40 2]]"
Strike = Callable[[], Awaitable[None]]


@dataclass
class Figures:
    """What one kind of fault did. `detect_ms` is empty where nothing is to be detected."""

    what: str
    detected_by: str
    detect_ms: list[float] = field(default_factory=list[float])
    again_ms: list[float] = field(default_factory=list[float])
    accepted: Accepted = field(default_factory=Accepted)
    processes_left: int = 0
    descriptors_leaked: int = 0


class Harm:
    """All kinds of faults in one house, a round of each at a time."""

    def __init__(self, client: Client, keeper: int, ledger: Path, random: Random) -> None:
        self._client, self._keeper, self._ledger, self._random = client, keeper, ledger, random
        self._at_rest: list[str] = []
        self._sessions: dict[str, list[Session]] = {}
        self._losses: list[asyncio.Task[float]] = []
        self._made = 0
        self.kinds: dict[str, tuple[Figures, str, Callable[[Figures], Awaitable[None]]]] = {
            "kill": (Figures("actor killed", "`lost` in the log"), "rehearsal", self._killed(signal.SIGKILL)),
            "program": (Figures("agent's program killed", "`lost` in the log"), "program", self._program_killed),
            "segv": (Figures("actor: SIGSEGV", "`lost` in the log"), "rehearsal", self._killed(signal.SIGSEGV)),
            "stop": (Figures("actor stopped, and continued", ""), "rehearsal", self._stopped),
            "memory": (Figures("actor out of memory", "the turn's ending"), "rehearsal", self._memory),
            "files": (Figures("actor out of descriptors", "the turn's ending"), "rehearsal", self._files),
            "supervisor": (Figures("supervisor killed", "the client"), "rehearsal", self._supervisor_killed),
            "garbage": (Figures("garbage on the gateway", "the fault's answer"), "rehearsal", self._garbage),
        }

    async def prepare(self) -> None:
        """Open the sessions: those under load, and one that sees whether somebody answers."""
        for agent in ("rehearsal", "program"):
            self._sessions[agent] = [await self._client.open(agent, "/tmp") for _ in range(SESSIONS + 1)]
            await answered(self._sessions[agent][-1])
        await asyncio.sleep(SETTLED_S)
        self._at_rest = of_supervisor(self._keeper)

    async def once(self, name: str) -> None:
        """One fault at a random moment of running turns, with others queued behind; then all endings, and quiet."""
        figures, agent, strike = self.kinds[name]
        loaded = self._sessions[agent][:-1]
        running = [await self._prompt(figures, session, PROMPT) for session in loaded]
        queued = [await self._prompt(figures, session, PROMPT) for session in loaded]
        self._losses = [asyncio.create_task(lost(turn)) for turn in running]
        await asyncio.sleep(self._random.uniform(MOMENT_S_MIN, MOMENT_S_MAX))
        await strike(figures)
        for turn in running + queued:
            await turn.ending()
        for task in self._losses:
            task.cancel()
        await self._quiet(figures)
        await asyncio.sleep(REST_S)

    async def rows(self, runtime_dir: str) -> list[dict[str, object]]:
        """Return what each kind of fault did, judged by the ledgers."""
        found = []
        for name, (figures, _, _) in self.kinds.items():
            verdict = judge(figures.accepted, await history(runtime_dir, figures.accepted, SETTLE_S), self._ledger)
            found.append(
                {
                    "fault": name, "what": figures.what, "detected_by": figures.detected_by,
                    "number": len(figures.again_ms), "detect_ms": figures.detect_ms, "again_ms": figures.again_ms,
                    "accepted": verdict.accepted, "endings": dict(verdict.reasons), "lost": verdict.lost,
                    "endings_doubled": verdict.endings_doubled, "begun_twice": verdict.begun_twice,
                    "interrupted_queued": verdict.interrupted_queued, "unseen": verdict.unseen,
                    "processes_left": figures.processes_left, "descriptors_leaked": figures.descriptors_leaked,
                    "findings": verdict.findings,
                }
            )  # fmt: skip
        return found

    # --- one fault each ---

    def _killed(self, number: signal.Signals) -> Callable[[Figures], Awaitable[None]]:
        async def strike(figures: Figures) -> None:
            await self._fall(figures, "rehearsal", actors_of(self._keeper, "rehearsal")[0], number)

        return strike

    async def _program_killed(self, figures: Figures) -> None:
        (actor,) = actors_of(self._keeper, "program")
        await self._fall(figures, "program", children(actor)[0], signal.SIGKILL)

    async def _fall(self, figures: Figures, agent: str, victim: int, number: signal.Signals) -> None:
        began = time.perf_counter()
        os.kill(victim, number)
        again = asyncio.create_task(answered(self._sessions[agent][-1]))
        done, _ = await asyncio.wait(self._losses, return_when=asyncio.FIRST_COMPLETED, timeout=QUIET_S_MAX)
        figures.detect_ms += [1000 * (min(task.result() for task in done) - began)] if done else []
        await again
        figures.again_ms.append(1000 * (time.perf_counter() - began))

    async def _stopped(self, figures: Figures) -> None:
        (actor,) = actors_of(self._keeper, "rehearsal")
        os.kill(actor, signal.SIGSTOP)
        again = asyncio.create_task(answered(self._sessions["rehearsal"][-1]))
        await asyncio.sleep(STOPPED_S)
        began = time.perf_counter()
        os.kill(actor, signal.SIGCONT)
        await again
        figures.again_ms.append(1000 * (time.perf_counter() - began))

    async def _memory(self, figures: Figures) -> None:
        await self._overdrawn(figures, f"[[memory {2 * MEMORY_MB}]]")

    async def _files(self, figures: Figures) -> None:
        await self._overdrawn(figures, f"[[files {4 * FILES}]]")

    async def _overdrawn(self, figures: Figures, directive: str) -> None:
        session = self._sessions["rehearsal"][-1]
        began = time.perf_counter()
        turn = await self._prompt(figures, session, directive)
        ending = await turn.ending()
        assert ending.reason != "end_turn", f"{directive} is within the agent's limits"
        figures.detect_ms.append(1000 * (time.perf_counter() - began))
        await answered(session)
        figures.again_ms.append(1000 * (time.perf_counter() - began))

    async def _supervisor_killed(self, figures: Figures) -> None:
        victim = supervisor_of(self._keeper)
        down = asyncio.create_task(self._client.down.wait())
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        again = asyncio.create_task(answered(self._sessions["rehearsal"][-1]))
        await down
        figures.detect_ms.append(1000 * (time.perf_counter() - began))
        await again
        figures.again_ms.append(1000 * (time.perf_counter() - began))

    async def _garbage(self, figures: Figures) -> None:
        began = time.perf_counter()
        again = asyncio.create_task(answered(self._sessions["rehearsal"][-1]))
        noise = self._random.randbytes(200)
        figures.detect_ms.append(await asyncio.to_thread(refused_ms, self._client.runtime_dir, noise))
        await again
        figures.again_ms.append(1000 * (time.perf_counter() - began))

    # --- the rest ---

    async def _prompt(self, figures: Figures, session: Session, directives: str) -> Turn:
        self._made += 1
        text = f"{self._made} {directives}"
        turn = await session.prompt(text)
        figures.accepted.turns[session.id, turn.number] = text
        return turn

    async def _quiet(self, figures: Figures) -> None:
        """Count what is left once nothing runs any more."""
        before = self._at_rest
        until = time.monotonic() + QUIET_S_MAX
        while True:
            living = {int(row["pid"]) for row in await self._client.verb("status") if row["pid"]}
            left = strays(self._keeper, living)
            after = of_supervisor(self._keeper)
            if (not left and len(after) <= len(before)) or time.monotonic() > until:
                break
            await asyncio.sleep(0.01)
        figures.processes_left += len(left)
        figures.descriptors_leaked += max(0, len(after) - len(before))
        if left or len(after) > len(before):
            print(f"{figures.what}: left {left}, more open {sorted(set(after) - set(before))}", file=sys.stderr)


async def lost(turn: Turn) -> float:
    """Return when the client sees that the actor of a running turn is lost."""
    async for item in turn.session.follow(turn.number):
        if item.kind == "lost":
            return time.perf_counter()
    raise AssertionError("a follow does not end by itself")


def refused_ms(runtime_dir: str, noise: bytes) -> float:
    """Send noise; return how long until the house says that it is no frame."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        began = time.perf_counter()
        dealer.connect(gateway_address(runtime_dir))
        dealer.send(noise)
        assert dealer.poll(int(1000 * QUIET_S_MAX)), "garbage was not answered"
        return 1000 * (time.perf_counter() - began)
