"""`understudy acp`: the ACP agent that an editor starts on stdin and stdout.

A client like any other: it crashes alone. `initialize` is answered from constants before anything
heavy is imported, because editors wait for it. stdout carries protocol lines and nothing else.
"""

import json
import os
import sys
from typing import Any

from understudy import __version__

READ_BYTES = 1 << 16
READ_BYTES_MAX = 1 << 20  # An `initialize` that is longer is answered as any request is.
CAPABILITIES = {
    "protocolVersion": 1,
    "agentCapabilities": {
        "loadSession": True,
        "promptCapabilities": {"image": True, "audio": True, "embeddedContext": True},
        "mcpCapabilities": {"http": True, "sse": True},
        "sessionCapabilities": {"list": {}, "resume": {}, "close": {}},
    },
    "agentInfo": {"name": "understudy", "title": "Understudy", "version": __version__},
    "authMethods": [],
}


def main(agent: str, runtime_dir: str, state_dir: str, config: str) -> int:
    """Serve one editor until it closes stdin; return the exit status. Empty arguments mean the defaults."""
    if os.isatty(0):
        print(
            "understudy acp speaks JSON with an editor, which starts it (see the README); Ctrl-C ends it",
            file=sys.stderr,
        )
    client_capabilities, rest = _first_answer()
    if rest is None:
        return 0
    import asyncio

    from understudy.supervisor.edges.bridge import Bridge

    bridge = Bridge(agent, runtime_dir, state_dir, config, CAPABILITIES, client_capabilities)
    return asyncio.run(bridge.run(rest))


def _first_answer() -> tuple[dict[str, Any], bytes | None]:
    """Answer `initialize` if it comes first; return the editor's capabilities and what else was read (None: EOF)."""
    read = bytearray()
    piece = b""
    while b"\n" not in piece and len(read) < READ_BYTES_MAX:
        piece = os.read(0, READ_BYTES)
        if not piece:
            return {}, None
        read += piece
    first, _, rest = bytes(read).partition(b"\n")
    try:
        message = json.loads(first)
    except (ValueError, RecursionError):
        return {}, bytes(read)  # Whoever reads the other lines answers this one.
    if not isinstance(message, dict) or message.get("method") != "initialize" or not _is_id(message.get("id")):
        return {}, bytes(read)
    answer = {"jsonrpc": "2.0", "id": message["id"], "result": CAPABILITIES}
    sys.stdout.buffer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    sys.stdout.buffer.flush()
    params = message.get("params")
    capabilities = params.get("clientCapabilities") if isinstance(params, dict) else None
    return capabilities if isinstance(capabilities, dict) else {}, rest


def _is_id(value: Any) -> bool:
    """Return whether an answer can bear `value` as its id here; what is odd is for the reader of all lines."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isprintable())
