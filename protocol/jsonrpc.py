"""JSON-RPC 2.0 in newline-delimited JSON, as ACP speaks it. `Lines` and `parse` are pure.

Unknown fields pass through unharmed: params and results are whatever JSON holds. A parser
never raises to its caller: a line is a message or a fault.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

LINE_BYTES_MAX = 32 << 20
REQUESTS_MAX = 10_000

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
CANCELLED = -32800
AUTH_REQUIRED = -32000
NOT_FOUND = -32002

CANCEL_REQUEST = "$/cancel_request"

Id = int | str | None


class JsonRpcError(Exception):
    """An error answer, of ours or of the other side."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Request:
    """Wants an answer with the same id."""

    id: Id
    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Notification:
    """Wants none."""

    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `error` is None or a map with code and message. `id` None: to nothing that could be named."""

    id: Id
    result: Any
    error: Any


@dataclass(frozen=True, slots=True)
class LineFault:
    """A line that is no message: what to answer."""

    id: Id
    code: int
    text: str


Message = Request | Notification | Response | LineFault


class Lines:
    """Cuts bytes into lines. A line over `LINE_BYTES_MAX` is dropped and reported once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._dropping = False

    def feed(self, piece: bytes) -> list[Message]:
        """Return the messages that `piece` completes."""
        found: list[Message] = []
        while piece:
            line, newline, piece = piece.partition(b"\n")
            self._size += len(line)
            if self._size > LINE_BYTES_MAX:
                self._pieces, self._dropping = [], True
            else:
                self._pieces.append(line)
            if not newline:
                break
            if self._dropping:
                found.append(
                    LineFault(None, PARSE_ERROR, f"a line of {self._size} bytes; the limit is {LINE_BYTES_MAX}")
                )
            else:
                whole = b"".join(self._pieces)
                if whole.strip():
                    found.extend(parse(whole))
            self._pieces, self._size, self._dropping = [], 0, False
        return found


def parse(line: bytes) -> list[Message]:
    """Return the message of a line (several for a batch)."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return [LineFault(None, PARSE_ERROR, f"no JSON: {error}")]
    if isinstance(value, list) and value:
        return [_message(each) for each in value]
    return [_message(value)]


def _message(value: Any) -> Message:
    if not isinstance(value, dict):
        return LineFault(None, INVALID_REQUEST, "a message is a JSON object")
    number = value.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str | None):
        return LineFault(None, INVALID_REQUEST, "an id is a number or a text")
    method = value.get("method")
    if isinstance(method, str):
        params = value.get("params", {})
        return Request(number, method, params) if "id" in value else Notification(method, params)
    if method is None and ("result" in value or "error" in value):
        return Response(number, value.get("result"), value.get("error"))
    return LineFault(number, INVALID_REQUEST, "neither a request nor an answer")


def line(message: dict[str, Any]) -> bytes:
    """Return the line of a message."""
    return (
        json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
        + b"\n"
    )


def error_body(error: JsonRpcError) -> dict[str, Any]:
    """Return the `error` member for `error`."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    return body if error.data is None else {**body, "data": error.data}


OnRequest = Callable[[str, Any], Awaitable[Any]]
OnNotification = Callable[[str, Any], Awaitable[None]]


class Connection:
    """One side of a conversation: reading never waits on a request's answer, notifications keep their order.

    `send` writes a line. `on_request` returns the result or raises `JsonRpcError`; it runs as a task
    of its own. `on_notification` is awaited before the next line is looked at: that is the backpressure,
    and it keeps an answer behind the notifications that came before it.
    """

    def __init__(self, send: Callable[[bytes], None], on_request: OnRequest, on_notification: OnNotification) -> None:
        self._send = send
        self._on_request = on_request
        self._on_notification = on_notification
        self._lines = Lines()
        self._next = 0
        self._answers: dict[Id, asyncio.Future[Any]] = {}
        self._serving: dict[Id, asyncio.Task[None]] = {}
        self.closed_reason = ""

    async def feed(self, piece: bytes) -> None:
        """Take bytes of the other side's."""
        for message in self._lines.feed(piece):
            match message:
                case Response():
                    self._answered(message)
                case Notification(method=method, params=params):
                    if method == CANCEL_REQUEST:
                        self._cancel(params)
                    else:
                        await self._on_notification(method, params)
                case Request():
                    self._serve(message)
                case LineFault(id=number, code=code, text=text):
                    self._send(line({"id": number, "error": {"code": code, "message": text}}))

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send(line({"method": method, "params": params}))

    async def request(self, method: str, params: Any) -> Any:
        """Send a request and return its result. Raises `JsonRpcError`; cancelled, it tells the other side."""
        if self.closed_reason:
            raise JsonRpcError(INTERNAL_ERROR, self.closed_reason)
        if len(self._answers) >= REQUESTS_MAX:
            raise JsonRpcError(INTERNAL_ERROR, f"{REQUESTS_MAX} requests wait for their answers")
        number, self._next = self._next, self._next + 1
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send(line({"id": number, "method": method, "params": params}))
        try:
            return await future
        except asyncio.CancelledError:
            if number in self._answers:
                self.notify(CANCEL_REQUEST, {"requestId": number})
            raise
        finally:
            self._answers.pop(number, None)

    def close(self, reason: str) -> None:
        """The other side is gone: nothing will be answered any more."""
        self.closed_reason = reason
        for future in self._answers.values():
            if not future.done():
                future.set_exception(JsonRpcError(INTERNAL_ERROR, reason))
        for task in list(self._serving.values()):
            task.cancel()

    def _answered(self, message: Response) -> None:
        future = self._answers.pop(message.id, None)
        if future is None or future.done():
            return
        error = message.error
        if error is None:
            future.set_result(message.result)
        elif isinstance(error, dict) and isinstance(error.get("code"), int):
            future.set_exception(JsonRpcError(error["code"], str(error.get("message", "")), error.get("data")))
        else:
            future.set_exception(JsonRpcError(INTERNAL_ERROR, f"an error without a code: {error!r}"))

    def _serve(self, request: Request) -> None:
        task = asyncio.ensure_future(self._answer(request))
        self._serving[request.id] = task

    async def _answer(self, request: Request) -> None:
        try:
            answer: dict[str, Any] = {"result": await self._on_request(request.method, request.params)}
        except JsonRpcError as error:
            answer = {"error": error_body(error)}
        except asyncio.CancelledError:
            answer = {"error": {"code": CANCELLED, "message": "cancelled"}}
        except Exception as error:  # noqa: BLE001 (the other side is told, whatever it was)
            answer = {"error": {"code": INTERNAL_ERROR, "message": f"{type(error).__name__}: {error}"}}
        self._serving.pop(request.id, None)
        if not self.closed_reason:
            self._send(line({"id": request.id, **answer}))

    def _cancel(self, params: Any) -> None:
        task = self._serving.get(params.get("requestId")) if isinstance(params, dict) else None
        if task is not None:
            task.cancel()
