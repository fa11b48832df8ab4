"""Plays a short house of whatever version is on the path, so that its log holds one of each thing.

usage: play.py FOLDER: starts a house in FOLDER, kills all of it in mid-turn, and leaves there `expected.json`: for each
session what a client had seen. Only what every version's client library has is used. Run by `make.py`.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from understudy.protocol.client import Client, Session, Turn, connect
from understudy.protocol.errors import RemoteError
from understudy.protocol.items import Item

ENDED = {
    "several": ["hello", "[[stream 20 1]]", "[[tool look]] [[say long]] " + "x" * 5000],
    "lost": ["[[say kept]] [[sleep 50]] [[crash SIGKILL]]"],
    "failed": ["[[nobody knows this]]"],
}
CONFIG = """
[agent.rehearsal]
driver = "scripted"
restart = {{ intensity = 100 }}
[agent.puppet]
driver = "acp"
command = ["{python}", "-S", "{puppet}"]
"""


async def seen(session: Session, enough: Callable[[Item], bool]) -> list[dict[str, Any]]:
    """Return the session's items up to the one that is `enough`."""
    items: list[dict[str, Any]] = []
    async for item in session.follow(1):
        items.append({"number": item.number, "turn": item.turn, "kind": item.kind, "body": item.body})
        if enough(item):
            break
    return items


async def until(turn: Turn, kind: str) -> None:
    """Wait for an item of the turn."""
    await seen(turn.session, lambda item: (item.kind, item.turn) == (kind, turn.number))


async def play(client: Client) -> dict[str, Any]:
    """Play everything; return, by the name of what was played, its session and what was seen of it."""
    sessions: dict[str, Session] = {}
    for name, prompts in ENDED.items():
        sessions[name] = await client.open("rehearsal", "/tmp")
        for prompt in prompts:
            await (await sessions[name].prompt(prompt)).ending()
    sessions["opened"] = await client.open("rehearsal", "/tmp")
    sessions["remembered"] = await client.open("puppet", "/tmp")
    await (await sessions["remembered"].prompt("hello")).ending()
    for name in ("cancelled", "running", "asked"):
        sessions[name] = await client.open("rehearsal", "/tmp", {"mcpServers": [], "name": name})
    cancelled = await sessions["cancelled"].prompt("[[stream 100000 5]]")
    await until(cancelled, "update")
    await cancelled.cancel()
    await cancelled.ending()
    asked = await sessions["asked"].prompt("[[say before]] [[ask May I?]] [[say after]]")
    running = await sessions["running"].prompt("[[stream 100000 5]]", serves=("fs/read_text_file",))
    await sessions["running"].prompt("[[say played]]")
    await until(asked, "asked")
    await until(running, "update")
    with suppress(RemoteError):  # The first versions knew no such verb.
        await client.verb("stop", {"names": ["puppet"]})
    rows = {row["session"]: row for row in await client.verb("sessions")}
    found: dict[str, Any] = {}
    for name, each in sessions.items():
        last = int(rows[each.id]["last"])
        found[name] = {"session": each.id, "seen": await seen(each, partial(_is, last))}
    return found


def _is(number: int, item: Item) -> bool:
    return item.number >= number


def tree(pid: int) -> list[int]:
    """Return `pid` and all that descends from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in tree(int(child)))]


def main(folder: Path) -> None:
    """Play, write down, kill."""
    config = folder / "understudy.toml"
    config.write_text(CONFIG.format(python=sys.executable, puppet=Path(__file__).parent.parent / "puppet.py"))
    place = ["--runtime-dir", str(folder / "run"), "--state-dir", str(folder / "state")]
    house = subprocess.Popen([sys.executable, "-m", "understudy", "up", "-c", str(config), *place])

    async def run() -> dict[str, Any]:
        async with connect(str(folder / "run"), wait_s=20) as client:
            return await play(client)

    try:
        expected = asyncio.run(run())
    finally:
        victims = tree(house.pid)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # Nobody is to see the others die.
            for victim in victims:
                os.kill(victim, number)
        house.wait()
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
