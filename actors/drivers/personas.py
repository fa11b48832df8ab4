"""How an ACP agent is given a persona: in a system prompt where it takes one, else before the session's first prompt. Pure."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

ABLE = "claude"  # In the names of agents that take a system prompt in the `_meta` of session/new: claude-agent-acp.
CHANGED = "the persona of this agent has changed since this session began; open another session to have it for certain"


def takes_system_prompt(initialized: dict[str, Any], way: object) -> bool:
    """Return whether the agent that so answered `initialize` takes one; `way`, "system" or "prompt", knows better."""
    if way in ("system", "prompt"):
        return way == "system"
    info = initialized.get("agentInfo")
    name = info.get("name") if isinstance(info, dict) else None
    return isinstance(name, str) and ABLE in name


def with_system_prompt(params: dict[str, Any], persona: str) -> dict[str, Any]:
    """Return what opens a session, with the persona; what the client wants of `_meta` itself goes before."""
    meta = params.get("_meta")
    return {**params, "_meta": {"systemPrompt": {"append": persona}, **(meta if isinstance(meta, dict) else {})}}


def name_of(persona: str) -> str:
    """Return what a session's memory knows a persona by, "" for none."""
    return blake2b(persona.encode(errors="replace"), digest_size=8).hexdigest() if persona else ""


@dataclass(slots=True)
class Persona:
    """What is to be said before a session's first prompt, "" for nothing. `turn`: before which it was, 0 for none yet.

    The turn is remembered when it has leave to begin: before, nobody knows whether its agent will ever see it. An actor
    that is killed in that moment leaves a session whose agent is told twice, which does less harm than never. A turn that
    is handed over again has the persona again; one that continues was seen with it.
    `known`: which one the agent had when the session was ready last (`name_of`).
    """

    text: str = ""
    turn: int = 0
    known: str = ""

    def goes_before(self, turn: int, continues: bool) -> bool:
        """Return whether it goes before the prompt of `turn`."""
        return bool(self.text) and not continues and self.turn in (0, turn)

    def was_before(self, turn: int) -> bool:
        """The agent is given the prompt of `turn`; return whether that is the first, which is to be remembered."""
        first = bool(self.text) and self.turn == 0
        self.turn = turn if first else self.turn
        return first

    def before(self, prompt: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the prompt's content with the persona before it."""
        return [{"type": "text", "text": self.text}, *prompt]
