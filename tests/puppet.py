"""An ACP agent for tests of what passes through: what it offers and asks is more than the rehearsal agent has.

A session in a folder named `locked` needs authentication. A prompt is one of: `read PATH`, `deny`, `hold`,
`stubborn` (ends when it is cancelled twice), `deaf` (never).
"""

import json
import sys
from typing import Any

MODES = {"currentModeId": "slow", "availableModes": [{"id": "slow", "name": "Slow"}, {"id": "fast", "name": "Fast"}]}
AUTH = {"code": -32000, "message": "Authentication required", "data": {"url": "x"}}


def send(**message: Any) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def update(session: str, **what: Any) -> None:
    """Send one update."""
    send(method="session/update", params={"sessionId": session, "update": what})


def say(session: str, text: str) -> None:
    """Send a piece of text."""
    update(session, sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})


def serve(method: str, number: Any, params: dict[str, Any]) -> None:
    """Answer one request."""
    session = params.get("sessionId", "theirs")
    match method:
        case "initialize":
            send(id=number, result={"protocolVersion": 1, "agentCapabilities": {"loadSession": True}})
        case "session/new" if params["cwd"].endswith("locked"):
            send(id=number, error=AUTH)
        case "session/new":
            session = f"theirs-{number}"
            update(session, sessionUpdate="available_commands_update", availableCommands=[])
            send(id=number, result={"sessionId": session, "modes": MODES, "unheardOf": {"a": 1}})
        case "session/set_mode":
            update(session, sessionUpdate="current_mode_update", currentModeId=params["modeId"])
            send(id=number, result=None)
        case "session/load":
            send(id=number, result={"modes": MODES})
        case "_puppet/echo":
            send(id=number, result={"heard": params["words"]})
        case "session/prompt":
            prompt(session, number, params["prompt"][0]["text"])
        case _:
            send(id=number, error={"code": -32601, "message": method})


HELD: dict[str, tuple[Any, int]] = {}  # session -> its prompt, and how many more cancels it takes to end that
CANCELS = {"hold": 1, "stubborn": 2, "deaf": 1_000_000}
READING: dict[str, tuple[str, Any]] = {}


def prompt(session: str, number: Any, text: str) -> None:
    """Play one prompt."""
    word, _, rest = text.partition(" ")
    match word:
        case "read":
            READING[f"r{number}"] = (session, number)
            send(id=f"r{number}", method="fs/read_text_file", params={"sessionId": session, "path": rest, "line": 3})
        case "deny":
            send(id=number, error=AUTH)
        case "hold" | "stubborn" | "deaf":
            HELD[session] = number, CANCELS[word]
            say(session, "holding")
        case _:
            say(session, text)
            send(id=number, result={"stopReason": "max_tokens"})


def cancel(session: str) -> None:
    """Hear a cancel; end the prompt when it was the last one that takes."""
    if session in HELD:
        held, more = HELD[session][0], HELD[session][1] - 1
        HELD[session] = held, more
        say(session, "cancel heard")
        if more == 0:
            del HELD[session]
            send(id=held, result={"stopReason": "cancelled"})


def main() -> None:
    """Serve until stdin closes."""
    for line in sys.stdin:
        message = json.loads(line)
        method, number, params = message.get("method"), message.get("id"), message.get("params")
        if method == "session/cancel":
            cancel(params["sessionId"])
        elif method is not None:
            serve(method, number, params)
        elif number in READING:
            session, turn = READING.pop(number)
            say(session, f"read: {message.get('result', {}).get('content', message.get('error'))}")
            send(id=turn, result={"stopReason": "end_turn"})


if __name__ == "__main__":
    main()
