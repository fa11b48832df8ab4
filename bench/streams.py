"""The supervisor is SIGKILLed under streaming agents: what is lost or doubled, and when followers hear more."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from bench.restarts import RESTART
from bench.stage import Stage, house, progress
from understudy.protocol.client import Session
from understudy.supervisor.chaos.proc import supervisor_of

ROUNDS = 100
STREAMS = 10
PAUSE_MS = 5
BETWEEN_S_MIN, BETWEEN_S_MAX = 0.4, 0.8
WORDS_MAX = 1_000_000
SEED = 20261121


@dataclass(slots=True)
class Stream:
    """One agent that counts, and what its follower has heard."""

    session: Session
    number: int = 0
    word: int = 0
    wrong: int = 0
    first: asyncio.Future[float] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def listen(self, down: asyncio.Event) -> None:
        """Count every number and word that is not the next one; tell of the first after the connection broke."""
        turn = await self.session.prompt(f"[[stream {WORDS_MAX} {PAUSE_MS}]]")
        self.number = turn.number - 1
        async for item in self.session.follow(turn.number):
            self.wrong += item.number != self.number + 1
            self.number = item.number
            if item.kind == "update":
                for word in item.body["content"]["text"].split():
                    self.wrong += int(word) != self.word + 1
                    self.word = int(word)
            elif item.kind in ("lost", "ended", "requeued"):
                self.wrong += 1
            if down.is_set() and not self.first.done():
                self.first.set_result(time.perf_counter())


async def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Return how long each follower waited, in ms, and what was wrong."""
    config = "".join(f'[agent.s{at}]\ndriver = "scripted"\n{RESTART}\n' for at in range(STREAMS))
    async with house(folder / "streams", config) as stage:
        return await _measure(stage, rounds)


async def _measure(stage: Stage, rounds: int) -> dict[str, Any]:
    random, client = Random(SEED), stage.client
    streams = [Stream(await client.open(f"s{at}", "/tmp")) for at in range(STREAMS)]
    heard = asyncio.Event()  # Set from the moment that the connection to the killed supervisor is broken.
    listeners = [asyncio.create_task(each.listen(heard)) for each in streams]
    pids = {row["name"]: row["pid"] for row in await _all_running(stage)}
    silent_ms: list[float] = []
    tell = progress("supervisor falls under streams", rounds)
    for at in range(rounds):
        await asyncio.sleep(random.uniform(BETWEEN_S_MIN, BETWEEN_S_MAX))
        for stream in streams:
            stream.first = asyncio.get_running_loop().create_future()
        client.down.clear()
        began = time.perf_counter()
        os.kill(supervisor_of(stage.keeper), signal.SIGKILL)
        await client.down.wait()
        heard.set()
        silent_ms += [1000 * (await stream.first - began) for stream in streams]
        heard.clear()
        tell(at + 1)
    rows = await _all_running(stage)
    for listener in listeners:
        listener.cancel()
    results = await asyncio.gather(*listeners, return_exceptions=True)
    return {
        "kills": rounds, "streams": STREAMS, "silent_ms": silent_ms,
        "entries": sum(stream.word for stream in streams),
        "lost_or_doubled": sum(stream.wrong for stream in streams),
        "other_processes": sum(row["pid"] != pids[row["name"]] or row["restarts"] for row in rows),
        "failures": [repr(each) for each in results if not isinstance(each, asyncio.CancelledError)],
    }  # fmt: skip


async def _all_running(stage: Stage) -> list[dict[str, Any]]:
    """Return the status once every agent is RUNNING."""
    for at in range(STREAMS):
        await stage.running(f"s{at}")
    return await stage.rows()
