"""The cast that chaos plays with when no house is named: two agents that cost nothing and keep one ledger."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from understudy.supervisor.config.config import load

AGENT = str(Path(__file__).with_name("agent.py"))
MEMORY_MB = 200
FILES = 64
CAST = """
[agent.rehearsal]
driver = "scripted"
memory = "{memory_mb} MB"
files = {files}
restart = {{ intensity = 100000, backoff_min_s = 0.001, backoff_max_s = 0.005 }}
options = {{ ledger = {ledger} }}
[agent.program]
driver = "acp"
command = [{python}, "-S", {agent}, {ledger}]
restart = {{ intensity = 100000, backoff_min_s = 0.001, backoff_max_s = 0.005 }}
"""


@dataclass(frozen=True, slots=True)
class Player:
    """An agent that chaos may load. `scripted`: it follows all directives; `ledger`: what it appends to, "" for nothing."""

    name: str
    scripted: bool
    ledger: str


def write_cast(folder: str) -> tuple[str, Path]:
    """Write the configuration into `folder`; return its path and the ledger's."""
    config, ledger = Path(folder, "understudy.toml"), Path(folder, "ledger")
    texts = {"ledger": str(ledger), "python": sys.executable, "agent": AGENT}
    quoted = {name: json.dumps(text) for name, text in texts.items()}
    config.write_text(CAST.format(**quoted, memory_mb=MEMORY_MB, files=FILES))
    return str(config), ledger


def players(config: str | None, runtime_dir: str, state_dir: str) -> list[Player]:
    """Return the agents of a configuration that chaos may load. Raises `ConfigError`.

    Real ones cost money, and one that retries may begin a turn twice.
    """
    found: list[Player] = []
    for agent in load(config, runtime_dir, state_dir, os.environ).agents:
        scripted = agent.driver == "scripted"
        if agent.on_crash.value == "interrupt" and (scripted or AGENT in agent.command):
            ledger = str(agent.options.get("ledger", "")) if scripted else agent.command[-1]
            found.append(Player(agent.name, scripted, ledger))
    return found


def ledger_of(playing: list[Player]) -> Path | None:
    """Return the file that all of them append to, None when there is no such."""
    paths = {each.ledger for each in playing}
    path = paths.pop() if len(paths) == 1 else ""
    return Path(path) if path else None
