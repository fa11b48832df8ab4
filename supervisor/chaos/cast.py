"""The cast that chaos plays with when no house is named: two agents that cost nothing and keep one ledger."""

import json
import sys
from pathlib import Path

from understudy.supervisor.core.specs import AgentSpec, OnCrash

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


def write_cast(folder: str) -> tuple[str, Path]:
    """Write the configuration into `folder`; return its path and the ledger's."""
    config, ledger = Path(folder, "understudy.toml"), Path(folder, "ledger")
    texts = {"ledger": str(ledger), "python": sys.executable, "agent": AGENT}
    quoted = {name: json.dumps(text) for name, text in texts.items()}
    config.write_text(CAST.format(**quoted, memory_mb=MEMORY_MB, files=FILES))
    return str(config), ledger


def may_play(agent: AgentSpec) -> bool:
    """Return whether chaos may load an agent: real ones cost money, and one that retries may begin a turn twice."""
    return agent.on_crash is OnCrash.INTERRUPT and (agent.driver == "scripted" or AGENT in agent.command)


def ledger_of(agents: list[AgentSpec]) -> Path | None:
    """Return the file that all `agents` append to, None when there is no such."""
    paths = {agent.command[-1] if AGENT in agent.command else str(agent.options.get("ledger", "")) for agent in agents}
    path = paths.pop() if len(paths) == 1 else ""
    return Path(path) if path else None
