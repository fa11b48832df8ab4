"""An editor for tests: starts `understudy acp`, speaks JSON-RPC to its stdin and stdout, keeps every line of both."""

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.house import RealHouse

WAIT_S_MAX = 60.0
EVERYTHING = {"fs": {"readTextFile": True, "writeTextFile": True}, "terminal": True}


class Editor:
    """One editor. Requests of the agent's are answered by `serve`: a result, an error, or None for no answer."""

    def __init__(
        self,
        command: list[str],
        serve: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None,
        **environ: str,
    ) -> None:
        self.lines: list[bytes] = []  # Marked as tests.agents.schema wants them.
        self.got: list[dict[str, Any]] = []
        self.serve = serve
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environ},
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        self._rest = b""
        self._next = 0

    def __enter__(self) -> "Editor":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> int:
        """Close its stdin and return its exit status."""
        if not self.stdin.closed:
            self.stdin.close()
        try:
            return self.process.wait(WAIT_S_MAX)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.stdout.close()
            self.stderr.close()

    def resident_mb(self) -> float:
        """Return the memory of the program that it started."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def write(self, line: bytes) -> None:
        """Send a line as it is."""
        self.lines.append(b">" + line)
        self.stdin.write(line + b"\n")

    def notify(self, method: str, **params: Any) -> None:
        """Send a notification."""
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def send(self, method: str, **params: Any) -> int:
        """Send a request; return its id."""
        number, self._next = self._next, self._next + 1
        self.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())
        return number

    def read(self) -> dict[str, Any]:
        """Return the next message, and serve it if it is a request."""
        deadline = time.monotonic() + WAIT_S_MAX
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.stdout], [], [], max(left, 0))
            assert ready, f"nothing came in {WAIT_S_MAX:g} s; got: {self.got[-5:]}"
            piece = os.read(self.stdout.fileno(), 1 << 16)
            assert piece, f"it ended: {self.stderr.read().decode()[-2000:]}"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        self.lines.append(b"<" + line)
        message: dict[str, Any] = json.loads(line)
        self.got.append(message)
        if "method" in message and "id" in message:
            answer = self.serve(message)
            if answer is not None:
                self.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}).encode())
        return message

    def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read until a message `holds`; return it."""
        while True:
            message = self.read()
            if holds(message):
                return message

    def answer(self, number: int) -> dict[str, Any]:
        """Return the answer to the request `number`: the whole message."""
        found = [each for each in self.got if "method" not in each and each.get("id") == number]
        return found[0] if found else self.until(lambda each: "method" not in each and each.get("id") == number)

    def ask(self, method: str, **params: Any) -> Any:
        """Send a request and return its result."""
        answer = self.answer(self.send(method, **params))
        assert "result" in answer, f"{method}: {answer}"
        return answer["result"]

    def error(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and return its error."""
        error: dict[str, Any] = self.answer(self.send(method, **params)).get("error", {})
        assert error, f"{method} was answered without an error"
        return error

    def new(self, cwd: str = "/tmp") -> str:
        """Initialize if that is to be done, and open a session."""
        if not self.got:
            self.ask("initialize", protocolVersion=1, clientCapabilities=EVERYTHING)
        return str(self.ask("session/new", cwd=cwd, mcpServers=[])["sessionId"])

    def prompt(self, session: str, text: str) -> int:
        """Send a prompt; return the request's id."""
        return self.send("session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])

    def play(self, session: str, text: str) -> str:
        """Send a prompt and return its stop reason."""
        answer = self.answer(self.prompt(session, text))
        assert "result" in answer, answer
        return str(answer["result"]["stopReason"])

    def updates(self, session: str = "") -> list[dict[str, Any]]:
        """Return the updates that came."""
        return [
            each["params"]["update"]
            for each in self.got
            if each.get("method") == "session/update" and session in ("", each["params"]["sessionId"])
        ]

    def text(self, session: str = "", kind: str = "agent_message_chunk") -> str:
        """Return the text of the updates that came."""
        return "".join(each["content"]["text"] for each in self.updates(session) if each["sessionUpdate"] == kind)


Start = Callable[..., Editor]  # Starts an editor of an agent, the scripted one by default.


@contextmanager
def editors(house: RealHouse) -> Iterator[Start]:
    """Give what starts editors of the house; they must end by themselves with status 0 when their stdin closes."""
    started: list[Editor] = []

    def start(agent: str = "rehearsal", **options: Any) -> Editor:
        started.append(Editor(house.command("acp", "--agent", agent), **options))
        return started[-1]

    yield start
    assert [0] * len(started) == [editor.close() for editor in started]


def says(text: str) -> Callable[[dict[str, Any]], bool]:
    """Return whether a message is an update that says `text`."""

    def holds(message: dict[str, Any]) -> bool:
        content = message.get("params", {}).get("update", {}).get("content")
        return isinstance(content, dict) and text in content.get("text", "")

    return holds


def asks(method: str) -> Callable[[dict[str, Any]], bool]:
    """Return whether a message is the request `method`."""
    return lambda message: message.get("method") == method


def allow(message: dict[str, Any]) -> dict[str, Any]:
    """Answer a permission request as a willing person would."""
    return {"result": {"outcome": {"outcome": "selected", "optionId": message["params"]["options"][0]["optionId"]}}}
