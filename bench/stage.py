"""A house for a part of `make faults`: started from the installed wheel, looked at, shut down, nothing left."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.protocol.client import Client, connect
from understudy.supervisor.chaos.proc import keeper_of, left
from understudy.supervisor.cli.house import run as carry_out
from understudy.supervisor.cli.parser import parse
from understudy.supervisor.starting import start_in_background

CONNECT_S_MAX = 30.0
POLL_S = 0.002
TELL_EVERY_S = 15.0
LONG_MS = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A running house: its folders, its keeper, and a client of it."""

    runtime_dir: str
    state_dir: str
    keeper: int
    client: Client

    async def rows(self) -> list[dict[str, Any]]:
        """Return the status."""
        rows: list[dict[str, Any]] = await self.client.verb("status")
        return rows

    async def running(self, agent: str) -> int:
        """Return the pid of the actor that plays `agent`, once it and its understudies are RUNNING."""
        while True:
            rows = [row for row in await self.rows() if row["name"].partition("~")[0] == agent]
            if all(row["state"] == "RUNNING" and row["pid"] for row in rows):
                return int(rows[0]["pid"])
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def house(
    folder: Path, config: str, watch: Path | None = None, long_ms: float = LONG_MS, wait: bool = True
) -> AsyncIterator[Stage]:
    """Play in a house with `config`; when the body ends it is shut down, and nothing of it may be left.

    `watch`: where callbacks of its loops that take `long_ms` or more are written down (see `bench.watched`).
    Without `wait` its status is not asked for first.
    """
    folder.mkdir(exist_ok=True)
    runtime_dir, state_dir = str(folder / "run"), str(folder / "state")
    (folder / "understudy.toml").write_text(config)
    up = ["up", "-c", str(folder / "understudy.toml"), "--runtime-dir", runtime_dir, "--state-dir", state_dir]
    if watch is not None:
        _start(["-m", "bench.watched", str(watch), str(long_ms), *up])
    elif wait:
        start_in_background(str(folder / "understudy.toml"), runtime_dir, state_dir)
    else:
        _start(["-m", "understudy", *up])
    try:
        async with connect(runtime_dir, "bench", wait_s=CONNECT_S_MAX) as client:
            yield Stage(runtime_dir, state_dir, keeper_of(runtime_dir), client)
    finally:
        place = ["--runtime-dir", runtime_dir, "--state-dir", state_dir]
        await asyncio.to_thread(carry_out, parse(["shutdown", "--hurry", *place]))
    remains = left(runtime_dir, state_dir)
    assert not remains, f"left after the house was shut down: {remains}"


def _start(command: list[str]) -> None:
    nothing = subprocess.DEVNULL
    subprocess.Popen([sys.executable, *command], stdin=nothing, stdout=nothing, stderr=nothing)


def progress(what: str, count: int) -> Callable[[int], None]:
    """Return what says how far a part is: on a terminal in one line, else now and then."""
    terminal = sys.stderr.isatty()
    told = 0.0

    def tell(at: int) -> None:
        nonlocal told
        if terminal or at == count or time.monotonic() - told > TELL_EVERY_S:
            end = "\r" if terminal and at < count else "\n"
            print(f"  {what}: {at} of {count}  ", end=end, file=sys.stderr, flush=True)
            told = time.monotonic()

    return tell
