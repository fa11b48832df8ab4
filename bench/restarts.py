"""SIGKILL -> running or answering again: ours, the floors and the peers, interleaved in one run."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.floors import ForkHellos, TwoHops, death_ms
from bench.peers.watchers import PEERS, installed
from understudy.protocol.client import Client, Session
from understudy.supervisor.chaos.proc import actors_of, children, supervisor_of

ROUNDS = 20
BODY = b"x" * 64
ANSWERS = "until a prompt is answered"
SPEAKS = "until the program speaks"


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
    """Prompt until a turn ends well."""
    while True:
        turn = await session.prompt("back?")
        if (await turn.ending()).reason == "end_turn":
            return


async def ours_ms(session: Session, find: Callable[[], int]) -> float:
    """Kill what `find` finds in a quiet house; return how long until a prompt is answered."""
    await answered(session)
    await asyncio.sleep(0.1)
    victim = find()
    began = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    await answered(session)
    return 1000 * (time.perf_counter() - began)


async def measure(client: Client, keeper: int, forks: ForkHellos, folder: str) -> list[dict[str, Any]]:
    """Return one map for each row: name, what is waited for, all values in ms."""
    sessions = {name: await client.open(name, "/tmp") for name in ("rehearsal", "program")}
    victims: dict[str, tuple[str, Callable[[], int]]] = {
        "understudy: actor": ("rehearsal", lambda: actors_of(keeper, "rehearsal")[0]),
        "understudy: agent's program": ("program", lambda: children(actors_of(keeper, "program")[0])[0]),
        "understudy: supervisor": ("rehearsal", lambda: supervisor_of(keeper)),
    }
    values: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        hops = stack.enter_context(TwoHops(folder))
        peers: dict[tuple[str, str], Callable[[], float]] = {}
        for name, watcher in installed(folder).items():
            try:
                peers[name, SPEAKS] = stack.enter_context(watcher).once_ms
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        if (PEERS / "bin" / "python").exists():
            try:
                peers["Ray actor", ANSWERS] = stack.enter_context(Ray()).once_ms
            except OSError as error:
                print(f"ray is left out: {error}", file=sys.stderr)

        def floor() -> float:
            died = death_ms()
            began = time.perf_counter()
            hops.ask(BODY)
            return died + 1000 * (time.perf_counter() - began)

        floors = {("floor: pidfd readable + one ask", "-"): floor, ("floor: fork and hello", "-"): forks.once_ms}
        for _ in range(ROUNDS):
            for key, once in (floors | peers).items():
                values.setdefault(key, []).append(await asyncio.to_thread(once))
            for name, (agent, find) in victims.items():
                values.setdefault((name, ANSWERS), []).append(await ours_ms(sessions[agent], find))
    return [{"what": name, "until": until, "ms": taken} for (name, until), taken in values.items()]
