"""`make bench`: each figure beside its floor, interleaved in the same run. Prints a table and writes `bench/results.json`.

Absolute figures move with the machine; the ratio is what counts.
"""

import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.floors import ForkHellos, TwoHops, median
from understudy.protocol.client import Client, Session, connect
from understudy.supervisor.starting import start_in_background

BODY = "x" * 64
ROUNDS = 5
ASKS = 200
SESSIONS = 128
KILLS = 40
KILL_EVERY_S = 0.1  # An agent that falls more often is in a crash loop; of those the budget takes care.
PEERS = {"xoscar": 3.0, "ray": 8.0}  # How many times their rate is the target.
ROOT = Path(__file__).parent.parent
CONFIG = """
[agent.careful]
driver = "scripted"
restart = { intensity = 100000, backoff_min_s = 0.0001, backoff_max_s = 0.0001 }
[agent.doubled]
driver = "scripted"
understudies = 1
restart = { intensity = 100000, backoff_min_s = 0.0001, backoff_max_s = 0.0001 }
[agent.retrying]
driver = "scripted"
on_crash = "retry"
"""


class Peers:
    """The peers that `make peers` has set up, each in a process of its own; none of them without it."""

    def __enter__(self) -> "Peers":
        python = ROOT / ".peers" / "bin" / "python"
        self._rates: dict[str, list[float]] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        if not python.exists():
            print("peers are left out: `make peers` installs them", file=sys.stderr)
            return self
        for name in PEERS:
            print(f"starting {name} ...", file=sys.stderr)
            command = [str(python), str(ROOT / "bench" / "peers" / f"{name}_asks.py")]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert process.stdout is not None
            if not any(line == "ready\n" for line in process.stdout):
                print(f"{name} does not run: left out", file=sys.stderr)
                continue
            self._processes[name], self._rates[name] = process, []
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def once(self) -> None:
        """Run one round of each."""
        for name, process in self._processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("again\n")
            process.stdin.flush()
            self._rates[name].append(float(process.stdout.readline()))

    def figures(self) -> list[tuple[str, float, list[float]]]:
        """Return (name, times its rate that is the target, calls a second of each round)."""
        return [(name, PEERS[name], rates) for name, rates in self._rates.items()]


def seconds(command: list[str], stdin: str = "") -> float:
    """Return how long a command takes (with `stdin`: until its first line of output)."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if stdin:
            process.stdin.write(stdin.encode())
            process.stdin.flush()
            process.stdout.readline()
            taken = time.perf_counter() - began
            process.stdin.close()
            return taken
        process.stdin.close()
        process.stdout.read()
        process.wait()
    return time.perf_counter() - began


def commands(place: list[str]) -> list[dict[str, Any]]:
    """Time `understudy acp` (to its answer) and `understudy status` against a bare Python."""
    program = str(Path(sys.executable).with_name("understudy"))
    hello = '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}\n'
    bare, acp, status = [], [], []
    for _ in range(3 * ROUNDS):
        bare.append(seconds([sys.executable, "-c", "pass"]))
        acp.append(seconds([program, "acp", *place], hello))
        status.append(seconds([program, "status", *place]))
    rows = []
    for name, values in (("acp answers initialize", acp), ("status", status)):
        rows.append(row(name, "ms", 1000 * median(values), "python -c pass", 1000 * median(bare), "at most 6"))
    return rows


def row(name: str, unit: str, ours: float, floor_name: str, floor: float, target: str) -> dict[str, Any]:
    """Return one line of the table."""
    return {
        "what": name, "unit": unit, "ours": round(ours, 1), "floor": floor_name, "floor_value": round(floor, 1),
        "ratio": round(ours / floor, 2), "target": target,
    }  # fmt: skip


async def asks(client: Client, folder: str) -> list[dict[str, Any]]:
    """One ask after the other, against raw two hops."""
    sessions = {name: await client.open(name, "/tmp") for name in ("careful", "retrying")}
    ours: dict[str, list[float]] = {name: [] for name in sessions}
    floor: list[float] = []
    device_floor: list[float] = []
    with TwoHops(folder) as hops, TwoHops(folder, device=True) as device:
        for _ in range(ROUNDS):
            for _ in range(ASKS):
                began = time.perf_counter()
                hops.ask(BODY.encode())
                floor.append(time.perf_counter() - began)
            for _ in range(ASKS):
                began = time.perf_counter()
                device.ask(BODY.encode())
                device_floor.append(time.perf_counter() - began)
            for name, session in sessions.items():
                for _ in range(ASKS):
                    began = time.perf_counter()
                    await session.ask(BODY)
                    ours[name].append(time.perf_counter() - began)
    two = 1e6 * median(floor)
    return [
        row("ask, no handshake", "us", 1e6 * median(ours["retrying"]), "raw two hops", two, "at most 2"),
        row("ask, with handshake", "us", 1e6 * median(ours["careful"]), "raw two hops", two, "at most 3"),
        row(
            "ask, no handshake", "us", 1e6 * median(ours["retrying"]), "GIL-free device", 1e6 * median(device_floor), ""
        ),
    ]


async def asks_at_once(client: Client, folder: str) -> list[dict[str, Any]]:
    """Many asks under way, against raw two hops and the peers."""
    sessions = [await client.open("retrying", "/tmp") for _ in range(SESSIONS)]
    ours, floor = [], []
    with TwoHops(folder) as hops, Peers() as peers:
        for _ in range(ROUNDS):
            floor.append(hops.pipelined(BODY.encode(), 10_000, SESSIONS))
            ours.append(await pipelined(sessions))
            peers.once()
    return [
        row("asks pipelined", "1/s", median(ours), "raw two hops", median(floor), ""),
        *(
            row("asks pipelined", "1/s", median(ours), name, median(rates), f"at least {target:g}")
            for name, target, rates in peers.figures()
        ),
    ]


async def pipelined(sessions: list[Session]) -> float:
    """Return asks a second with one under way in each session."""

    async def some(session: Session) -> None:
        for _ in range(10):
            await session.ask(BODY)

    began = time.perf_counter()
    await asyncio.gather(*(some(session) for session in sessions))
    return 10 * len(sessions) / (time.perf_counter() - began)


async def updates(client: Client, folder: str) -> list[dict[str, Any]]:
    """Updates from one actor to one follower, recorded, against raw two hops with frames of the same size."""
    session = await client.open("careful", "/tmp")
    rates, floor = [], []
    with TwoHops(folder) as hops:
        for _ in range(ROUNDS):
            turn = await session.prompt("[[stream 20000 0]]")
            began, seen = 0.0, 0
            async for item in session.follow(turn.number):
                if item.kind == "update":
                    began = began or time.perf_counter()
                    seen += 1
                elif item.kind == "ended":
                    break
            rates.append(seen / (time.perf_counter() - began))
            floor.append(hops.pipelined(BODY.encode(), 10_000, 128))
    return [row("updates to a follower", "1/s", median(rates), "raw two hops", median(floor), "at least 0.5")]


async def running(client: Client, name: str) -> int:
    """Return the actor's pid once it runs, and its understudy if it has one."""
    while True:
        rows = [each for each in await client.verb("status") if each["name"].partition("~")[0] == name]
        if all(each["state"] == "RUNNING" for each in rows):
            return int(rows[0]["pid"])


async def kills(client: Client, floor: ForkHellos) -> list[dict[str, Any]]:
    """SIGKILL of an actor -> a new prompt answered, against fork of a warm Python with a ZeroMQ hello."""
    taken: dict[str, list[float]] = {"careful": [], "doubled": []}
    floor_ms = []
    sessions = {name: await client.open(name, "/tmp") for name in taken}
    for _ in range(KILLS):
        floor_ms.append(floor.once_ms())
        for name, session in sessions.items():
            await session.ask("ready?")
            pid = await running(client, name)
            await asyncio.sleep(KILL_EVERY_S)
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while True:
                turn = await session.prompt("back?")
                if (await turn.ending()).reason == "end_turn":
                    break
            taken[name].append(1000 * (time.perf_counter() - began))
    rows = (("SIGKILL to answer", "careful", "at most 2.5"), ("the same, with an understudy", "doubled", ""))
    return [row(what, "ms", median(taken[name]), "fork and hello", median(floor_ms), most) for what, name, most in rows]


def commit() -> str:
    """Return the commit that is measured."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


async def main() -> int:
    """Run everything."""
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
        runtime_dir, state_dir = f"{folder}/run", f"{folder}/state"
        Path(folder, "understudy.toml").write_text(CONFIG)
        start_in_background(f"{folder}/understudy.toml", runtime_dir, state_dir)
        with ForkHellos(folder) as forks:
            async with connect(runtime_dir) as client:
                print("measuring ...", file=sys.stderr, flush=True)
                rows = commands(["--runtime-dir", runtime_dir, "--state-dir", state_dir])
                rows += await asks(client, folder)
                rows += await updates(client, folder)
                rows += await kills(client, forks)
                rows += await asks_at_once(client, folder)  # Last: Ray is never quite idle.
        place = ["--runtime-dir", runtime_dir, "--state-dir", state_dir]
        await asyncio.to_thread(seconds, [sys.executable, "-m", "understudy", "shutdown", *place])
    print(f"{'what':<30}{'ours':>12} {'unit':<5}{'floor':>12}  {'ratio':>6}  target")
    for each in rows:
        print(
            f"{each['what']:<30}{each['ours']:>12} {each['unit']:<5}{each['floor_value']:>12}  {each['ratio']:>6}"
            f"  {each['target']} ({each['floor']})"
        )
    about = {
        "commit": commit(),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
        "asks": ASKS,
    }
    Path(__file__).with_name("results.json").write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
