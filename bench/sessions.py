"""Many sessions in the log: the start of the supervisor, a hello, the fall of an actor, and asks beside them."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from statistics import median

from bench.crowd import long, spent_s
from bench.many import PLAYER, config
from bench.stage import Stage, house
from bench.wire import Stranger
from understudy.protocol.client import Session
from understudy.supervisor.chaos.proc import supervisor_of

AGENTS = 10
ROUNDS = 7
HELLOS, ASKS = 200, 500
AT_ONCE = 256
SETTLE_S = 3.0
BESIDE_S = 0.5
LONG_MS = 0.2


async def measure(folder: Path, count: int) -> dict[str, float]:
    """Return the figures of a house with `count` sessions."""
    (folder / "player.py").write_text(PLAYER)
    watch = folder / "long"
    cast = config(folder, AGENTS).replace("cwd", "restart = { intensity = 1000, stable_s = 0.05 }\ncwd")
    async with house(folder / "house", cast, watch, LONG_MS) as stage:
        await stage.client.verb("start", {"names": ["all"]})
        for at in range(0, max(0, count - AGENTS), AT_ONCE):
            some = range(at, min(at + AT_ONCE, count - AGENTS))
            await asyncio.gather(*(stage.client.open(f"a{each % AGENTS:04}", str(folder)) for each in some))
        sessions = [await stage.client.open(f"a{at:04}", str(folder)) for at in range(AGENTS)]
        await asyncio.gather(*(session.ask("there?") for session in sessions))
        await asyncio.sleep(SETTLE_S)
        starts = [await _start(stage, sessions) for _ in range(ROUNDS)]
        hellos = [await asyncio.to_thread(_hello_ms, stage.runtime_dir) for _ in range(HELLOS)]
        asks = [await _ask_ms(sessions[1]) for _ in range(ASKS)]
        falls = [await _fall(stage, sessions, watch) for _ in range(ROUNDS)]
        supervisor_mb = _resident_mb(supervisor_of(stage.keeper))
    return {
        "start_ms": median(took for took, _ in starts), "start_worked_ms": median(worked for _, worked in starts), "hello_ms": median(hellos), "ask_ms": median(asks),
        "fall_step_ms": median(step for step, _, _ in falls), "fall_ms": median(took for _, took, _ in falls),
        "ask_meanwhile_ms": median(slowest for _, _, slowest in falls), "supervisor_mb": supervisor_mb,
    }  # fmt: skip


async def _start(stage: Stage, sessions: list[Session]) -> tuple[float, float]:
    """Kill the supervisor; return after how many ms the next one answers a stranger, and how many of them it worked."""
    os.kill(supervisor_of(stage.keeper), signal.SIGKILL)
    took_ms = await asyncio.to_thread(_hello_ms, stage.runtime_dir)
    worked_ms = 1000 * spent_s(stage.keeper)["supervisor"]
    await asyncio.gather(*(session.ask("back?") for session in sessions))
    await asyncio.sleep(SETTLE_S / 2)
    return took_ms, worked_ms


async def _fall(stage: Stage, sessions: list[Session], watch: Path) -> tuple[float, float, float]:
    """Kill an actor; return the supervisor's longest step, the time until it plays again, another's slowest ask, in ms."""
    supervisor = supervisor_of(stage.keeper)
    pid = await stage.running("a0000")
    await asyncio.sleep(BESIDE_S)
    watch.write_bytes(b"")
    asking = asyncio.ensure_future(_asks_beside(sessions[1]))
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while (await (await sessions[0].prompt("again?")).ending()).reason != "end_turn":
        pass
    took_ms = 1000 * (time.perf_counter() - began)
    slowest_ms = await asking
    return long(watch, supervisor)[0], took_ms, slowest_ms


async def _asks_beside(session: Session) -> float:
    until = time.monotonic() + BESIDE_S
    slowest = 0.0
    while time.monotonic() < until:
        slowest = max(slowest, await _ask_ms(session))
    return slowest


async def _ask_ms(session: Session) -> float:
    began = time.perf_counter()
    await session.ask("x" * 64)
    return 1000 * (time.perf_counter() - began)


def _hello_ms(runtime_dir: str) -> float:
    with contextlib.closing(Stranger(runtime_dir)) as stranger:
        return stranger.greet_ms()


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
