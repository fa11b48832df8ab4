"""Many agents: how soon all of them run, who is answered meanwhile, and what they cost while nothing happens."""

import asyncio
import contextlib
import mmap
import multiprocessing
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.crowd import cost, spent_s
from bench.stage import house
from bench.targets import p99
from bench.wire import Stranger
from understudy.protocol.client import Session
from understudy.supervisor.chaos.proc import actors_of

SMALL = 10
ASKS, BLOCKS = 150, 12
SETTLE_S, IDLE_S = 3.0, 22.0  # Long enough for two rounds of pings, and for a look at everybody's memory.
STARTED_S_MAX = 120.0
HELLO_EVERY_S = 0.05
LOOKED_AT = 20
FRESH_BYTES = 256 << 20
PLAYER = """
from understudy.actors.actor import Actor, Turn


class Player(Actor):
    async def play(self, turn: Turn) -> str:
        await turn.say(turn.text)
        return "end_turn"
"""
CONTEXT = multiprocessing.get_context("spawn")


async def measure(folder: Path, count: int) -> dict[str, float]:
    """Return the figures of a house with `count` Python agents, its asks beside those of a house of ten."""
    (folder / "player.py").write_text(PLAYER)
    ours, theirs = CONTEXT.Pipe()
    greeter = CONTEXT.Process(target=greet, args=(theirs, str(folder / "many" / "run")))
    greeter.start()
    try:
        await asyncio.to_thread(ours.recv)
        async with house(folder / "small", config(folder, SMALL)) as small:
            await small.client.verb("start", {"names": ["all"]})
            near = await small.client.open("a0000", str(folder))
            began = time.monotonic()
            async with house(folder / "many", config(folder, count), wait=False) as many:
                await asyncio.wait_for(many.client.verb("start", {"names": ["all"]}), STARTED_S_MAX)
                running_s, spent = time.monotonic() - began, spent_s(many.keeper)
                page_us = await asyncio.to_thread(fresh_page_us)
                ours.send("end")
                first, up, hellos = await asyncio.to_thread(ours.recv)
                rows = await many.rows()
                assert [row["state"] for row in rows] == ["RUNNING"] * count
                await asyncio.sleep(SETTLE_S)
                parts = await cost(many.keeper, IDLE_S)
                far = await many.client.open("a0001", str(folder))
                asks = await _asks(near, far)
                memory = [private_mb(pid) for at in range(LOOKED_AT) for pid in actors_of(many.keeper, f"a{at:04}")]
    finally:
        greeter.terminate()
        greeter.join()
    return {
        "running_s": running_s, "up_ms": 1000 * (up - began), "first_ms": first, "slowest_hello_ms": max(hellos),
        "hello_ms": median(hellos), **{f"start_{part}_ms": 1000 * taken / count for part, taken in spent.items()},
        "start_ms": 1000 * sum(spent.values()) / count, "idle_percent": sum(parts.values()), "private_mb": mean(memory),
        **{f"idle_{part}_percent": percent for part, percent in parts.items()},
        "ask_small_ms": median(asks[0]), "ask_small_p99_ms": p99(asks[0]), "ask_ms": median(asks[1]),
        "ask_p99_ms": p99(asks[1]), "fresh_page_us": page_us,
    }  # fmt: skip


def config(folder: Path, count: int) -> str:
    """Return a cast of so many Python agents."""
    agent = f'driver = "python"\nplay = "player:Player"\ncwd = "{folder}"\nsessions_max = 100000\n'
    return "".join(f"[agent.a{at:04}]\n{agent}" for at in range(count))


async def _asks(near: Session, far: Session) -> tuple[list[float], list[float]]:
    """Ask in turns, here and there; return how long each took, in ms."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(BLOCKS):
        for session, found in zip((near, far), taken, strict=True):
            await session.ask("again?")
            for _ in range(ASKS):
                began = time.perf_counter()
                await session.ask("x" * 64)
                found.append(1000 * (time.perf_counter() - began))
    return taken


def greet(pipe: Any, runtime_dir: str) -> None:
    """In a process of its own: say hello as soon as the house has a socket, and as another every while.

    At the end tell how long the first answer took, when it came (monotonic), and how long each took, in ms.
    """
    pipe.send("ready")
    path = Path(runtime_dir, "gateway.sock")
    while not path.exists():
        time.sleep(0.0005)
    taken: list[float] = []
    up = 0.0
    while not pipe.poll(HELLO_EVERY_S if taken else 0):
        with contextlib.closing(Stranger(runtime_dir)) as stranger:
            taken.append(stranger.greet_ms())
            up = up or time.monotonic()
    pipe.send((taken[0], up, taken))


def fresh_page_us() -> float:
    """Return what it costs a processor here and now to get a page of memory: a hypervisor may have to find it first."""
    with mmap.mmap(-1, FRESH_BYTES) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        began = time.thread_time()
        for at in range(0, FRESH_BYTES, mmap.PAGESIZE):
            memory[at] = 1
        return 1e6 * (time.thread_time() - began) * mmap.PAGESIZE / FRESH_BYTES


def private_mb(pid: int) -> float:
    """Return the memory that only this process has."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) / 1024
    return 0.0
