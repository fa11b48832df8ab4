"""A small ACP agent to fall: streams as its prompt says, and writes down each prompt it really got.

usage: agent.py LEDGER. `[[stream N MS]]` in a prompt streams N pieces, MS milliseconds apart; without, one.
It imports nothing of ours: it is any agent's program.
"""

import json
import os
import re
import sys
import threading
from typing import Any

STREAM = re.compile(r"\[\[stream (\d+) (\d+)\]\]")
LEDGER = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
WRITING = threading.Lock()
CANCELLED: set[str] = set()


def send(message: dict[str, Any]) -> None:
    """Write one line."""
    with WRITING:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def play(number: object, params: dict[str, Any]) -> None:
    """Play one prompt."""
    session, text = params["sessionId"], params["prompt"][0]["text"]
    found = STREAM.search(text)
    count, pause_ms = (int(found[1]), int(found[2])) if found else (1, 0)
    pause = threading.Event()
    for at in range(count):
        if session in CANCELLED:
            CANCELLED.discard(session)
            send({"id": number, "result": {"stopReason": "cancelled"}})
            return
        chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": f"{at} "}}
        send({"method": "session/update", "params": {"sessionId": session, "update": chunk}})
        pause.wait(pause_ms / 1000)
    send({"id": number, "result": {"stopReason": "end_turn"}})


def serve(message: dict[str, Any]) -> None:
    """Answer one message."""
    method, number, params = message.get("method"), message.get("id"), message.get("params")
    if method == "initialize":
        send({"id": number, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}})
    elif method == "session/new":
        send({"id": number, "result": {"sessionId": f"theirs-{os.getpid()}-{number}"}})
    elif method == "session/load":
        send({"id": number, "result": {}})
    elif method == "session/prompt":
        assert params is not None
        CANCELLED.discard(params["sessionId"])
        threading.Thread(target=play, args=(number, params), daemon=True).start()
    elif method == "session/cancel":
        assert params is not None
        CANCELLED.add(params["sessionId"])


def main() -> None:
    """Serve until stdin closes. What has been read is written down before anything else is done with it."""
    rest = b""
    while piece := os.read(0, 1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        messages = [json.loads(line) for line in lines]
        for message in messages:
            if message.get("method") == "session/prompt":
                os.write(LEDGER, json.dumps({"text": message["params"]["prompt"][0]["text"]}).encode() + b"\n")
        for message in messages:
            serve(message)


if __name__ == "__main__":
    main()
