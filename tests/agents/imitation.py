"""An imitation of the model's API on loopback, for real agents in tests: OpenAI responses and chat completions.

Directives in the last user text steer it:
    [[call NAME {json}]]   one tool call first, then text after its result
    [[slow N]]             N chunks, a tenth of a second apart
Else it streams `IMITATION: ` and the prompt's last line.
"""

import itertools
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CALL = re.compile(r"\[\[call (\S+) (\{.*?\})\]\]", re.DOTALL)
SLOW = re.compile(r"\[\[slow (\d+)\]\]")
CHUNK_S = 0.1
RESULT_TYPES = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


def text_of(content: Any) -> str:
    """Return the text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in content or [] if isinstance(part, dict) and "text" in part)


class Plan:
    """What to answer to one request."""

    def __init__(self, body: dict[str, Any]) -> None:
        user, answered = "", False
        messages = body.get("messages") or body.get("input") or []
        for message in [{"role": "user", "content": messages}] if isinstance(messages, str) else messages:
            if message.get("type") in RESULT_TYPES or message.get("role") == "tool":
                answered = True
            elif message.get("role") == "user" and text_of(message.get("content")).strip():
                user, answered = text_of(message.get("content")), False
        names = [str(t.get("name") or (t.get("function") or {}).get("name")) for t in body.get("tools") or []]
        calls = [call for call in CALL.findall(user) if call[0] in names]
        slow = SLOW.findall(user)
        last = user.strip().splitlines()[-1] if user.strip() else ""
        self.call = calls[-1] if calls and not answered else None
        self.slow = int(slow[-1]) if slow and not answered else 0
        self.text = "IMITATION: after the tool" if answered else f"IMITATION: {last[:60]}"
        self.model = str(body.get("model", "imitation"))

    def chunks(self) -> Iterator[str]:
        """Yield the answer's pieces, slowly where that was asked for."""
        pause = threading.Event()
        for at in range(self.slow):
            pause.wait(CHUNK_S)
            yield f"c{at} "
        yield self.text


def chat(plan: Plan, number: int) -> Iterator[tuple[str, Any]]:
    """Yield the events of a streamed chat completion."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": f"chat-{number}", "object": "chat.completion.chunk", "created": 1, "model": plan.model}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return "", {**head, "choices": [choice], **({"usage": usage} if finish else {})}

    yield chunk({"role": "assistant", "content": ""})
    if plan.call:
        function = {"name": plan.call[0], "arguments": plan.call[1]}
        yield chunk({"tool_calls": [{"index": 0, "id": f"call-{number}", "type": "function", "function": function}]})
    else:
        for piece in plan.chunks():
            yield chunk({"content": piece})
    yield chunk({}, "tool_calls" if plan.call else "stop")
    yield "", "[DONE]"


def responses(plan: Plan, number: int) -> Iterator[tuple[str, Any]]:
    """Yield the events of a streamed response."""
    counter = itertools.count(1)
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    whole = {
        "id": f"resp-{number}",
        "object": "response",
        "created_at": 1,
        "model": plan.model,
        "status": "in_progress",
        "output": [],
        "tools": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
    }

    def event(kind: str, **fields: Any) -> tuple[str, Any]:
        return kind, {"type": kind, "sequence_number": next(counter), **fields}

    yield event("response.created", response=whole)
    if plan.call:
        identity = {"type": "function_call", "id": f"fc-{number}", "call_id": f"call-{number}", "name": plan.call[0]}
        item: dict[str, Any] = {**identity, "arguments": plan.call[1], "status": "completed"}
        yield event("response.output_item.added", output_index=0, item={**item, "arguments": ""})
    else:
        item = {"type": "message", "id": f"msg-{number}", "role": "assistant", "status": "in_progress", "content": []}
        yield event("response.output_item.added", output_index=0, item=item)
        said = ""
        for piece in plan.chunks():
            said += piece
            yield event("response.output_text.delta", output_index=0, content_index=0, item_id=item["id"], delta=piece)
        content = [{"type": "output_text", "text": said, "annotations": []}]
        item = {**item, "status": "completed", "content": content}
    yield event("response.output_item.done", output_index=0, item=item)
    ended = {**whole, "status": "completed", "output": [item], "usage": {**usage, **details}}
    yield event("response.completed", response=ended)


class Imitation(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    counter = itertools.count(1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        """List the one model."""
        model = {"id": "imitation", "object": "model", "created": 1, "owned_by": "tests"}
        self._json({"object": "list", "data": [model]})

    def do_POST(self) -> None:
        """Answer a completion."""
        body = json.loads(self._body() or b"{}")
        plan, number = Plan(body), next(self.counter)
        path = self.path.split("?")[0]
        if path.endswith("/responses"):
            self._stream(responses(plan, number))
        elif path.endswith("/chat/completions"):
            if body.get("stream"):
                self._stream(chat(plan, number))
            else:
                message = {"role": "assistant", "content": plan.text}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self._json({"id": f"chat-{number}", "object": "chat.completion", "created": 1, "choices": [choice]})
        else:
            self._json({})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[tuple[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for name, value in events:
                text = value if isinstance(value, str) else json.dumps(value)
                self.wfile.write((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass  # The agent was killed, or cancelled the turn.


def start() -> ThreadingHTTPServer:
    """Serve on a free port of loopback in a thread of its own; `server_address[1]` is the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Imitation)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    print(start().server_address[1], flush=True)
    sys.stdin.read()
