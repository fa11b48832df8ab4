"""A hundred agents: what they cost while nothing happens, and how soon all are back when all crash at once."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import zmq

from bench.restarts import RESTART, answered
from bench.stage import Stage, house, progress
from understudy.protocol.frames import PROTOCOL_VERSION, Hello, Ping, ToClient, Welcome
from understudy.protocol.messages import decode, decoder, encode
from understudy.protocol.paths import gateway_address
from understudy.protocol.processes import parents, title
from understudy.supervisor.chaos.proc import supervisor_of

AGENTS = 100
CRASHES = 5
IDLE_S = 25.0
SETTLE_S = 4.0
PING_EVERY_S = 0.005
CONTEXT = multiprocessing.get_context("spawn")


async def measure(folder: Path, crashes: int, idle_s: float) -> dict[str, Any]:
    """Return the idle cost in percent of a core, and for each crash of all: until all answered, and the stalls."""
    config = "".join(f'[agent.a{at:02}]\ndriver = "scripted"\n{RESTART}\n' for at in range(AGENTS))
    watch = folder / "long"
    async with house(folder / "crowd", config, watch) as stage:
        sessions = [await stage.client.open(f"a{at:02}", "/tmp") for at in range(AGENTS)]
        await asyncio.gather(*map(answered, sessions))
        idle = await _idle(stage, idle_s)
        rounds = []
        tell = progress(f"{AGENTS} agents crash at once", crashes)
        for at in range(crashes):
            await asyncio.gather(*map(answered, sessions))
            await asyncio.sleep(SETTLE_S)
            watch.write_bytes(b"")
            rounds.append((*await _crash(stage, sessions), long(watch, supervisor_of(stage.keeper))))
            tell(at + 1)
    return {
        "agents": AGENTS, **idle, "all_answer_ms": [took for took, _, _ in rounds],
        "longest_ping_ms": [max(pings) for _, pings, _ in rounds],
        "longest_callback_ms": [each[0] for _, _, each in rounds],
        "longest_callback_own_ms": [each[1] for _, _, each in rounds],
    }  # fmt: skip


# --- idle ---


async def _idle(stage: Stage, idle_s: float) -> dict[str, Any]:
    await asyncio.sleep(SETTLE_S)
    print(f"  idle for {idle_s:g} s ...", flush=True)
    with_client = await cost(stage.keeper, idle_s)
    return {"idle_s": idle_s, "idle_percent_by_part": with_client, "idle_percent": sum(with_client.values())}


async def cost(keeper: int, for_s: float) -> dict[str, float]:
    """Return the share of a core that the house's processes take while nobody wants anything, one client connected."""
    before, began = _spent(keeper), time.monotonic()
    await asyncio.sleep(for_s)
    spent, took_s = _spent(keeper), time.monotonic() - began
    found: dict[str, float] = {}
    for task, (part, taken) in spent.items():
        found[part] = found.get(part, 0.0) + 100e-9 * (taken - before.get(task, (part, 0))[1]) / took_s
    return {part: round(percent, 3) for part, percent in found.items()}


def spent_s(keeper: int) -> dict[str, float]:
    """Return the processor time that each part of the house has taken, in s."""
    found: dict[str, float] = {}
    for part, taken in _spent(keeper).values():
        found[part] = found.get(part, 0.0) + 1e-9 * taken
    return found


def _spent(keeper: int) -> dict[int, tuple[str, int]]:
    """Return for each thread of the house what it is part of, and the processor time that it has taken in ns."""
    found: dict[int, tuple[str, int]] = {}
    for pid, parent in parents().items():
        if keeper not in (pid, parent):
            continue
        part = title(pid).removeprefix("understudy: ").split(" ")[0] if pid != keeper else "keeper"
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                found[int(task)] = (part, int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]))
    return found


# --- all at once ---


async def _crash(stage: Stage, sessions: list[Any]) -> tuple[float, list[float]]:
    """Kill them all; return after how many ms each has answered, and the round trips of a ping meanwhile."""
    victims = [int(row["pid"]) for row in await stage.rows()]
    ours, theirs = CONTEXT.Pipe()
    pinger = CONTEXT.Process(target=ping, args=(theirs, stage.runtime_dir))
    pinger.start()
    await asyncio.to_thread(ours.recv)
    began = time.perf_counter()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    await asyncio.gather(*map(answered, sessions))
    took_ms = 1000 * (time.perf_counter() - began)
    ours.send("end")
    stalls: list[float] = await asyncio.to_thread(ours.recv)
    pinger.join()
    return took_ms, stalls


def long(path: Path, pid: int) -> tuple[float, float]:
    """Return how long the longest callback of the process took, and the most that one worked itself, in ms."""
    lines = [line.split() for line in path.read_text().splitlines()]
    found = [(float(took), float(own)) for which, took, own in lines if int(which) == pid]
    return max((took for took, _ in found), default=0.0), max((own for _, own in found), default=0.0)


def ping(pipe: Any, runtime_dir: str) -> None:
    """In a process of its own: ping the house all the time; at the end tell how long each answer took, in ms."""
    frames = decoder(ToClient)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(gateway_address(runtime_dir))
        dealer.send(encode([Hello(PROTOCOL_VERSION, f"ping-{os.getpid()}")])[0])
        assert isinstance(decode(dealer.recv(), frames)[0], Welcome)
        question = encode([Ping()])[0]
        pipe.send("ready")
        taken: list[float] = []
        while not pipe.poll(PING_EVERY_S):
            began = time.perf_counter()
            dealer.send(question)
            dealer.recv()
            taken.append(1000 * (time.perf_counter() - began))
        pipe.send(taken)
