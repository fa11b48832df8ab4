"""Each process SIGKILLed in mid-turn, again and again, at random moments; judged by ledgers outside the log."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.house import RealHouse, wait_until
from tests.faults.promises import kept
from understudy.protocol.client import Client, connect
from understudy.protocol.processes import children, stat
from understudy.supervisor import chaos
from understudy.supervisor.chaos.ledger import Accepted

ROUNDS = int(os.environ.get("UNDERSTUDY_FAULT_ROUNDS", "20"))
SESSIONS = 4
POLICY = "restart = { intensity = 100000, backoff_min_s = 0.001, backoff_max_s = 0.005 }\n"


def scripted(folder: Path) -> str:
    return f'[agent.rehearsal]\ndriver = "scripted"\n{POLICY}options = {{ ledger = "{folder}/ledger" }}\n'


def program(folder: Path) -> str:
    agent = chaos.__path__[0] + "/agent.py"
    return f'[agent.rehearsal]\ndriver = "acp"\n{POLICY}command = ["{sys.executable}", "-S", "{agent}", "{folder}/ledger"]\n'


async def rounds(
    house: RealHouse,
    text: str,
    find: Callable[[], int],
    moments: random.Random,
    again: Callable[[], None] | None = None,
    count: int = ROUNDS,
) -> Accepted:
    """In each round: prompts in several sessions, a kill at a random moment, all endings awaited."""
    accepted = Accepted()
    async with connect(house.runtime_dir, wait_s=20) as client:
        sessions = [await client.open("rehearsal", "/tmp") for _ in range(SESSIONS)]
        for at in range(count):
            await one_round(
                client, [session.id for session in sessions], f"r{at} {text}", accepted, find, moments, again
            )
    return accepted


async def one_round(
    client: Client,
    sessions: list[str],
    text: str,
    accepted: Accepted,
    find: Callable[[], int],
    moments: random.Random,
    again: Callable[[], None] | None,
) -> None:
    async def turn(name: str) -> None:
        whole = f"{name} {text}"
        made = await client.session(name).prompt(whole)
        accepted.turns[name, made.number] = whole
        await made.ending()

    victim = await asyncio.to_thread(find)  # First, so that the moment of the kill is random.

    async def murder() -> None:
        await asyncio.sleep(moments.uniform(0.0, 0.03))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if again is not None:
            await asyncio.to_thread(again)

    work: list[Awaitable[None]] = [turn(name) for name in sessions]
    async with asyncio.timeout(60):
        await asyncio.gather(murder(), *work)


@pytest.mark.faults
@pytest.mark.timeout(280)
@pytest.mark.parametrize("victim", ["actor", "program", "supervisor", "keeper"])
def test_nothing_is_lost_or_run_twice_whatever_is_killed(tmp_path: Path, victim: str) -> None:
    moments = random.Random(20261121)
    house = RealHouse(tmp_path, program(tmp_path) if victim == "program" else scripted(tmp_path))
    house.start()

    def find() -> int:
        assert house.keeper is not None
        if victim == "keeper":
            return house.keeper.pid
        if victim == "supervisor":
            return house.supervisor()
        actor = house.pid()
        if victim == "program":
            wait_until(lambda: bool(children(actor)) or stat(actor) is None, "the program of the actor")
            return next(iter(children(actor)), actor)
        return actor

    def again() -> None:
        assert house.keeper is not None
        house.keeper.wait()
        wait_until(lambda: not house.left(), "the house to end after its keeper")
        house.start()

    text = "[[stream 5 2]]"
    count = max(1, ROUNDS // 4) if victim == "keeper" else ROUNDS  # Each of these costs a start of the house.
    try:
        accepted = asyncio.run(rounds(house, text, find, moments, again if victim == "keeper" else None, count))
        reasons = kept(house.runtime_dir, accepted, tmp_path / "ledger")
        print(f"{victim}: {count} kills, {len(accepted.turns)} turns: {dict(reasons)}")
        assert count * SESSIONS == len(accepted.turns)
        house.stop()
        house.start()
    finally:
        house.stop()


@pytest.mark.faults
@pytest.mark.timeout(280)
def test_a_client_killed_in_mid_turn_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    moments = random.Random(7)
    house = RealHouse(tmp_path, scripted(tmp_path))
    house.start()
    accepted = Accepted()
    load = Path(__file__).with_name("load.py")
    try:
        for at in range(max(1, ROUNDS // 4)):
            ledger = tmp_path / f"accepted-{at}"
            clients = [
                subprocess.Popen([sys.executable, str(load), house.runtime_dir, str(ledger), "rehearsal", f"c{at}.{n}"])
                for n in range(4)
            ]
            wait_until(partial(_has_accepted, ledger), "accepted prompts")
            for client in clients:
                let_pass(moments.uniform(0.0, 0.03))
                client.kill()
                client.wait()
            for line in ledger.read_text().splitlines():
                session, turn, text = json.loads(line)
                accepted.turns[session, turn] = text

        reasons = kept(house.runtime_dir, accepted, tmp_path / "ledger")
        print(f"client: {4 * max(1, ROUNDS // 4)} kills, {len(accepted.turns)} turns: {dict(reasons)}")

        assert {"end_turn", "unseen"} == set(reasons)
    finally:
        house.stop()


def _has_accepted(ledger: Path) -> bool:
    return ledger.exists() and ledger.stat().st_size > 200


def let_pass(seconds: float) -> None:
    """Let a random moment pass: the kill must hit anywhere in the turn."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "a moment")
