"""A strict ACP agent for tests: it does what its prompt says, however odd, and refuses what its mode forbids.

It keeps its sessions in the folder `$STRICT`, but not what was set in them, and notes there every request that it gets.
A prompt is one of: `update KIND N`, `ask KIND N`, `answer JSON`, `raw LINE`, `hold`, `write` (which mode `ask` forbids).
The file `slow` in its folder has it wait at `session/load` and `session/new` while somebody has that locked; `refuse`:
it refuses what is set.
"""

import contextlib
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["STRICT"])
ODD = json.loads(os.environ.get("ODD", "{}"))  # Answers that replace ours, by method.
DEFAULTS = {"session/set_mode": "yolo", "session/set_model": "m1", "session/set_config_option": "low"}
SETS = {"session/set_mode": "modeId", "session/set_model": "modelId", "session/set_config_option": "value"}
states: dict[str, dict[str, str]] = {}


def write(line: str) -> None:
    """Write one line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def send(**message: Any) -> None:
    """Write one message."""
    write(json.dumps({"jsonrpc": "2.0", **message}))


def opened(session: str) -> dict[str, Any]:
    """Return what is current in a session."""
    state = states[session]
    return {
        "modes": {"currentModeId": state["session/set_mode"], "availableModes": []},
        "models": {"currentModelId": state["session/set_model"], "availableModels": []},
        "configOptions": [{"id": "effort", "currentValue": state["session/set_config_option"]}],
    }


def say(session: str, text: str) -> None:
    """Say a piece of text."""
    content = {"type": "text", "text": text}
    update = {"sessionUpdate": "agent_message_chunk", "content": content}
    send(method="session/update", params={"sessionId": session, "update": update})


def odd(kind: str, size: int) -> str:
    """Return JSON of an odd kind."""
    match kind:
        case "big":
            return json.dumps("x" * size)
        case "deep":
            return "[" * size + "]" * size
        case "half":
            return "[" * size + '"\\ud800"' + "]" * size
        case "digits":
            return "9" * size
        case _:
            return kind  # 1e999, NaN


def serve(method: str, number: Any, params: dict[str, Any]) -> None:
    """Answer one request."""
    session = params.get("sessionId", "")
    if method in ("session/new", "session/load"):
        (FOLDER / "opening").touch()
        with contextlib.suppress(FileNotFoundError), (FOLDER / "slow").open() as slow:
            fcntl.flock(slow, fcntl.LOCK_SH)
    if method in ODD:
        send(id=number, result=ODD[method])
        return
    match method:
        case "initialize":
            send(id=number, result={"protocolVersion": 1, "agentCapabilities": {"loadSession": True}})
        case "session/new":
            session = f"theirs-{os.getpid()}-{number}"
            states[session] = dict(DEFAULTS)
            say(session, "early ")
            send(id=number, result={"sessionId": session, **opened(session)})
        case "session/load":
            states[session] = dict(DEFAULTS)
            say(session, "REPLAYED")
            send(id=number, result=opened(session))
        case _ if method in SETS and (FOLDER / "refuse").exists():
            send(id=number, error={"code": -32000, "message": "not now"})
        case _ if method in SETS:
            states[session][method] = params[SETS[method]]
            send(id=number, result={})
        case "session/prompt":
            prompt(session, number, params["prompt"][0]["text"])
        case _:
            send(id=number, error={"code": -32601, "message": method})


def prompt(session: str, number: Any, text: str) -> None:
    """Play one prompt."""
    word, _, rest = text.partition(" ")
    kind, _, size = rest.partition(" ")
    head = '{"jsonrpc":"2.0",'
    theirs = f'"sessionId":{json.dumps(session)}'
    match word:
        case "update":
            value = odd(kind, int(size or 0))
            write(
                f'{head}"method":"session/update","params":{{{theirs},"update":{{"sessionUpdate":"odd","value":{value}}}}}}}'
            )
        case "ask":
            value = odd(kind, int(size or 0))
            write(
                f'{head}"id":"q","method":"session/request_permission","params":{{{theirs},"options":[],"value":{value}}}}}'
            )
            answer = json.loads(sys.stdin.readline())
            say(session, f"answered: {json.dumps(answer.get('error', answer.get('result')))[:500]}")
        case "answer":
            write(
                f'{head}"id":{number},"result":{rest if kind != "long" else json.dumps({"stopReason": "x" * 2_000_000})}}}'
            )
            return
        case "raw":
            write(rest if kind != "long" else '{"x":"' + "x" * (33 << 20) + '"}')
        case "hold":
            say(session, "holding")
            return
        case "write":
            say(session, "refused" if states[session]["session/set_mode"] == "ask" else "WRITTEN")
        case "state":
            say(session, " ".join(states[session].values()))
        case _:
            say(session, text)
    send(id=number, result={"stopReason": "end_turn"})


def main() -> None:
    """Serve until stdin closes."""
    with (FOLDER / "requests").open("a") as requests:
        for line in sys.stdin:
            message = json.loads(line)
            requests.write(json.dumps([os.getpid(), message.get("method"), message.get("params")]) + "\n")
            requests.flush()
            if "method" in message and "id" in message:
                serve(message["method"], message["id"], message["params"])


if __name__ == "__main__":
    main()
