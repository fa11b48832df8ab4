"""`demo`: a real house with real processes, killed before the user's eyes. What it prints, it measured."""

import asyncio
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from understudy.protocol.client import Client, Session, connect
from understudy.protocol.items import Item
from understudy.protocol.processes import stat
from understudy.protocol.verbs import Shutdown, Status
from understudy.supervisor.starting import start_in_background

WIDTH = 78
AGENT = "rehearsal"


def run() -> int:
    """Play the demo; return 0 when everything was as promised."""
    with tempfile.TemporaryDirectory(prefix="understudy-demo-") as folder:
        return asyncio.run(_play(folder))


def _scene(number: int, title: str) -> None:
    print(f"\n\033[1m{number}. {title}\033[0m" if sys.stdout.isatty() else f"\n{number}. {title}", flush=True)


def _tell(text: str) -> None:
    print(f"   {text}", flush=True)


async def _play(folder: str) -> int:
    runtime_dir, state_dir = f"{folder}/run", f"{folder}/state"
    started = time.perf_counter()
    print("Understudy: coding agents as supervised actors. This is a real house, in a temporary folder.")
    _scene(1, "The cast comes up")
    house = start_in_background(None, runtime_dir, state_dir)
    async with connect(runtime_dir, name="demo") as client:
        await _status(client, 1000 * (time.perf_counter() - started))
        session = await client.open(AGENT, folder)
        numbers = await _fall(client, session, runtime_dir)
        await _log(session, numbers)
        pids = [house, *[row.pid for row in await client.verb(Status()) if row.pid]]
        assert client.welcome is not None
        pids.append(client.welcome.pid)
        _scene(7, "The house is shut down")
        await client.verb(Shutdown())
    left = await _left(pids)
    _tell(f"processes of the house left behind: {len(left)}")
    print(f"\nThe whole took {time.perf_counter() - started:.1f} s. What next:")
    _next_steps()
    return 1 if left else 0


async def _status(client: Client, took_ms: float) -> None:
    for row in await client.verb(Status()):
        _tell(f"{row.name}: {row.state}, actor {row.name}#{row.epoch}, pid {row.pid or 'not known yet'}")
    _tell(f"house up and answering after {took_ms:.0f} ms")


async def _fall(client: Client, session: Session, runtime_dir: str) -> list[int]:
    """Scenes 2 to 5; return the numbers that the client which vanished has seen in all."""
    _scene(2, "A prompt, streamed")
    _tell(f"answer: {await session.ask('[[stream 12 20]] [[say done]]')}")

    _scene(3, "The actor is killed (SIGKILL) in the middle of a turn")
    pid = (await client.verb(Status()))[0].pid
    assert pid is not None
    turn = await session.prompt("[[stream 500 10]]")
    said, killed_at = "", 0.0
    async for item in session.follow(turn.number):
        if item.kind == "update":
            said += str(item.body["content"]["text"])
            if len(said.split()) == 15:
                os.kill(pid, signal.SIGKILL)
                killed_at = time.perf_counter()
        elif item.kind == "ended":
            _tell(f"it had said: {said}")
            _tell(f"you see, {1000 * (time.perf_counter() - killed_at):.1f} ms after the kill:")
            _tell(f"  {item.body['reason']}: {item.body['text']}")
            break

    _scene(4, "The actor is back, and the next prompt is answered")
    answer = await session.ask("Are you still there?")
    row = (await client.verb(Status()))[0]
    _tell(f"answer: {answer!r}")
    _tell(f"killed -> answered: {1000 * (time.perf_counter() - killed_at):.1f} ms; it is now {AGENT}#{row.epoch}")

    _scene(5, "A client vanishes in mid-turn and comes back")
    numbers: list[int] = []
    async with connect(runtime_dir, name="visitor") as visitor:
        turn = await visitor.session(session.id).prompt("[[stream 60 10]]")
        numbers += await _numbers(visitor.session(session.id), 1, lambda item: item.number == turn.number + 20)
    _tell(f"the client saw numbers 1 to {numbers[-1]} and was gone; the turn went on without it")
    await turn_ended(client, session, turn.number)
    async with connect(runtime_dir, name="visitor") as visitor:
        again = visitor.session(session.id)
        rest = await _numbers(again, numbers[-1] + 1, lambda item: item.kind == "ended" and item.turn == turn.number)
    _tell(f"it came back, followed from {rest[0]}, and got {rest[0]} to {rest[-1]}")
    numbers += rest
    return numbers


async def turn_ended(client: Client, session: Session, number: int) -> None:
    """Wait until a turn of `session` is over."""
    async for item in client.session(session.id).follow(number):
        if item.kind == "ended" and item.turn == number:
            return


async def _numbers(session: Session, number: int, done: Callable[[Item], bool]) -> list[int]:
    seen: list[int] = []
    async for item in session.follow(number):
        seen.append(item.number)
        if done(item):
            break
    return seen


async def _log(session: Session, numbers: list[int]) -> None:
    gaps = [number for before, number in itertools.pairwise(numbers) if number != before + 1]
    _tell(f"{len(numbers)} numbers over both connections, gaps or repeats: {len(gaps)}")
    _scene(6, f"The log of session {session.id} (updates left out)")
    async for item in session.follow(1):
        if item.kind != "update":
            _tell(f"{item.number:>5}  {item.kind:<9} {_summary(item)}"[:WIDTH])
        if item.number >= numbers[-1]:
            break


def _summary(item: Item) -> str:
    if item.kind == "prompt":
        return str(item.body["content"][0]["text"])
    return str(item.body.get("reason", "")) or str(item.body.get("text", ""))


async def _left(pids: list[int]) -> list[int]:
    """Return the processes that are still there after the house had its time."""
    left = pids
    deadline = time.monotonic() + 10
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if stat(pid) is not None]
        await asyncio.sleep(0.01)
    return left


def _next_steps() -> None:
    program = Path(sys.argv[0]).absolute()
    settings = f'{{"agent_servers": {{"Understudy": {{"type": "custom", "command": "{program}", "args": ["acp"], "env": {{}}}}}}}}'
    print(f'  {program} prompt {AGENT} "hello"')
    print("  Point Zed at it: put this into settings.json, then choose Understudy as the agent")
    print(f"  {settings}")
    print("  A real agent behind it: see understudy.toml in the README")
