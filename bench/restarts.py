"""SIGKILL -> running or answering again: ours, the floors and the peers, interleaved in one run."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.floors import Deaths, ForkHellos, TwoHops, sleeper_death_ms
from bench.peers.watchers import PEERS, installed
from bench.stage import Stage, house, progress
from understudy.protocol.client import Session
from understudy.protocol.errors import RemoteError
from understudy.protocol.processes import children
from understudy.supervisor.chaos.cast import AGENT
from understudy.supervisor.chaos.proc import supervisor_of

ROUNDS = 60
OURS_PER_ROUND = 3
SLOW_PEERS_EVERY = 4  # What is not judged by a target, and takes seconds, is run in every fourth round.
REST_S = 0.1
BODY = b"x" * 64
ANSWERS = "until a prompt is answered"
SPEAKS = "until the program speaks"
CAREFUL, DOUBLED = "Python actor", "Python actor with an understudy"
PROGRAM, SUPERVISOR = "agent's program", "supervisor"
RUNIT, RUNIT_PYTHON = "runit", "runit, a Python with ZeroMQ"
FLOOR, SLEEPER_FLOOR = "floor: a warm Python's death + one ask", "floor: the death of `sleep` + one ask"
# The first restart after a stable time is immediate: 50 ms count as stable here, so that each kill is a first one.
RESTART = "restart = { intensity = 1000000, stable_s = 0.05, backoff_min_s = 0.001, backoff_max_s = 0.005 }"


def config(folder: Path) -> str:
    """Return the cast: with and without an understudy, and one that drives a program."""
    command = f'["{sys.executable}", "-S", "{AGENT}", "{folder}/ledger"]'
    return (
        f'[agent.careful]\ndriver = "scripted"\n{RESTART}\n'
        f'[agent.doubled]\ndriver = "scripted"\nunderstudies = 1\n{RESTART}\n'
        f'[agent.program]\ndriver = "acp"\ncommand = {command}\n{RESTART}\n'
    )


class Ray:
    """A Ray actor in a Python of its own."""

    def __enter__(self) -> "Ray":
        script = str(PEERS.parent / "bench" / "peers" / "ray_restarts.py")
        self._process = subprocess.Popen(
            [str(PEERS / "bin" / "python"), script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if not any(line == "ready\n" for line in self._process.stdout):
            raise OSError("ray does not run")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def once_ms(self) -> float:
        """Kill it once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line[0].isdigit():  # Ray tells of the death on the same pipe.
                return float(line)
        raise OSError("ray fell")


async def answered(session: Session) -> None:
    """Ask until an answer comes."""
    while True:
        try:
            await session.ask("back?")
        except RemoteError:
            continue
        return


async def ours_ms(session: Session, victim: int) -> float:
    """Kill `victim` in a quiet house; return how long until an ask is answered."""
    began = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    await answered(session)
    return 1000 * (time.perf_counter() - began)


async def settled(stage: Stage, session: Session, agent: str) -> int:
    """Return the pid of the agent's actor once it answers, its understudy is there and all has been quiet."""
    await answered(session)
    pid = await stage.running(agent)
    await asyncio.sleep(REST_S)
    return pid


async def measure(folder: Path, forks: ForkHellos, deaths: Deaths, rounds: int) -> list[dict[str, Any]]:
    """Return one map for each row: name, what is waited for, all values in ms."""
    values: dict[tuple[str, str], list[float]] = {}
    tell = progress("kills beside the peers, round", rounds)
    with ExitStack() as stack:
        hops = stack.enter_context(TwoHops(str(folder)))
        peers, slow = _peers(folder, stack)

        def ask_ms() -> float:
            began = time.perf_counter()
            hops.ask(BODY)
            return 1000 * (time.perf_counter() - began)

        floors: dict[tuple[str, str], Callable[[], float]] = {
            (FLOOR, "-"): lambda: deaths.once_ms() + ask_ms(),
            (SLEEPER_FLOOR, "-"): lambda: sleeper_death_ms() + ask_ms(),
            ("floor: fork and hello", "-"): forks.once_ms,
        }
        async with house(folder / "restarts", config(folder)) as stage:
            sessions = {name: await stage.client.open(name, "/tmp") for name in ("careful", "doubled", "program")}
            gc.collect()
            gc.freeze()
            for at in range(rounds):
                due = floors | peers | (slow if at % SLOW_PEERS_EVERY == 0 else {})
                for key, once in due.items():
                    values.setdefault(key, []).append(await asyncio.to_thread(once))
                for name, taken in (await _ours(stage, sessions, seldom=at % SLOW_PEERS_EVERY == 0)).items():
                    values.setdefault((name, ANSWERS), []).extend(taken)
                tell(at + 1)
    return [{"what": name, "until": until, "ms": taken} for (name, until), taken in values.items()]


async def _ours(stage: Stage, sessions: dict[str, Session], seldom: bool) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _ in range(OURS_PER_ROUND):
        for name, agent in ((CAREFUL, "careful"), (DOUBLED, "doubled")):
            victim = await settled(stage, sessions[agent], agent)
            found.setdefault(name, []).append(await ours_ms(sessions[agent], victim))
    if seldom:
        program = children(await settled(stage, sessions["program"], "program"))[0]
        found[PROGRAM] = [await ours_ms(sessions["program"], program)]
        await settled(stage, sessions["careful"], "careful")
        found[SUPERVISOR] = [await ours_ms(sessions["careful"], supervisor_of(stage.keeper))]
    return found


def _peers(folder: Path, stack: ExitStack) -> tuple[dict[tuple[str, str], Callable[[], float]], ...]:
    """Return the rounds of the peers that run here: those of every round, and the slow ones."""
    quick: dict[tuple[str, str], Callable[[], float]] = {}
    slow: dict[tuple[str, str], Callable[[], float]] = {}
    for name, watcher in installed(str(folder)).items():
        try:
            place = quick if name in (RUNIT, RUNIT_PYTHON) else slow
            place[name, SPEAKS] = stack.enter_context(watcher).once_ms
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    if not (PEERS / "bin" / "python").exists():
        print("Ray is left out: `make peers` installs it", file=sys.stderr)
        return quick, slow
    try:
        slow["Ray actor", ANSWERS] = stack.enter_context(Ray()).once_ms
    except OSError as error:
        print(f"Ray is left out: {error}", file=sys.stderr)
    return quick, slow
