"""The real opencode with an understudy: SIGKILL until the spare, which has answered `initialize`, owns the agent.

Without a model: it talks to the imitation of `tests/agents`. `make agents` installs it.
"""

import asyncio
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench.restarts import RESTART, answered
from bench.stage import Stage, house, progress
from tests.agents.imitation import start as start_imitation
from tests.agents.run import AGENTS, configure
from understudy.protocol.client import Session
from understudy.protocol.processes import children

ROUNDS = 15
PROGRAM = AGENTS / "node_modules" / ".bin" / "opencode"
READY_S_MAX = 60.0
REST_S = 0.3


async def measure(folder: Path, rounds: int) -> dict[str, Any] | None:
    """Return the times in ms, None where opencode is not installed."""
    if not PROGRAM.exists():
        print("opencode is left out: `make agents` installs it", file=sys.stderr)
        return None
    server = start_imitation()
    try:
        configure(folder, server.server_address[1])
        text = (folder / "understudy.toml").read_text()
        config = f"[agent.opencode]{text.partition('[agent.opencode]')[2]}understudies = 1\n{RESTART}\n"
        async with house(folder / "opencode", config) as stage:
            return await _measure(stage, str(folder / "project"), rounds)
    finally:
        server.shutdown()


async def _measure(stage: Stage, project: str, rounds: int) -> dict[str, Any]:
    names = ("program_owned_ms", "actor_owned_ms", "program_dead_ms", "actor_dead_ms", "again_ms")
    found: dict[str, list[float]] = {name: [] for name in names}
    session = await stage.client.open("opencode", project)
    tell = progress("opencode falls", 2 * rounds)
    for at in range(2 * rounds):
        actor, spare = await _both(stage, session)
        which, program = ("program", "actor")[at % 2], children(actor)[0]
        dying = asyncio.create_task(asyncio.to_thread(dead_at, program))
        await asyncio.sleep(REST_S)
        began = time.perf_counter()
        os.kill(program if which == "program" else actor, signal.SIGKILL)
        await owned_by(stage, spare)
        found[f"{which}_owned_ms"].append(1000 * (time.perf_counter() - began))
        found[f"{which}_dead_ms"].append(1000 * (await dying - began))
        await answered(session)  # The spare loads the session first.
        found["again_ms"].append(1000 * (time.perf_counter() - began))
        tell(at + 1)
    return found


async def _both(stage: Stage, session: Session) -> tuple[int, int]:
    """Return the pids of the actor and its spare once both are up and all has been quiet."""
    async with asyncio.timeout(READY_S_MAX):
        await answered(session)
        actor = await stage.running("opencode")
    await asyncio.sleep(REST_S)
    return actor, int((await stage.rows())[1]["pid"])


async def owned_by(stage: Stage, spare: int) -> None:
    """Return once the status says that `spare` plays."""
    while True:
        row = (await stage.rows())[0]
        if row["pid"] == spare and row["state"] == "RUNNING":
            return


def dead_at(pid: int) -> float:
    """Return when the process was dead. Blocks until it is."""
    pidfd = os.pidfd_open(pid)
    try:
        select.select([pidfd], [], [])
        return time.perf_counter()
    finally:
        os.close(pidfd)
