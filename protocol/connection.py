"""One side of a JSON-RPC conversation: requests and their answers, both ways, in their order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from understudy.protocol.jsonrpc import (
    CANCEL_REQUEST,
    CANCELLED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Id,
    JsonRpcError,
    LineFault,
    Lines,
    Notification,
    Request,
    Response,
    error_body,
    error_of,
    line,
)

REQUESTS_MAX = 10_000  # Requests of ours that are unanswered.
# The lines of unanswered requests; each takes twice its size in memory until the house has it.
SERVED_BYTES_MAX = 40 << 20
REQUEST_BYTES = 1 << 14  # What a request costs in memory besides its line.

OnRequest = Callable[[str, Any], Awaitable[Any]]
OnNotification = Callable[[str, Any], Awaitable[None]]
OnOdd = Callable[[Any, str], Awaitable[None]]


class Connection:
    """One side of a conversation: reading never waits on a request's answer, notifications keep their order.

    `send` writes a line. `on_request` returns the result or raises `JsonRpcError`; it runs as a task
    of its own. `on_notification` is awaited before the next line is looked at: that is the backpressure,
    and it keeps an answer behind the notifications that came before it. With `on_odd` the other side is an agent,
    and what it says is made fit: `on_odd` gets the params where that was done, or None for a line that was lost,
    and a text for people. What `on_notification` or `on_odd` raises, `feed` raises. `served_bytes_max` bounds the other
    side's requests that are unanswered: another is refused.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        on_request: OnRequest,
        on_notification: OnNotification,
        on_odd: OnOdd | None = None,
        served_bytes_max: int = SERVED_BYTES_MAX,
    ) -> None:
        self._send = send
        self._on_request = on_request
        self._on_notification = on_notification
        self._on_odd = on_odd
        self._lines = Lines(mend=on_odd is not None)
        self._next = 0
        self._answers: dict[Id, asyncio.Future[Any]] = {}
        self._serving: dict[asyncio.Task[None], Id] = {}
        self._served_bytes, self._served_bytes_max = 0, served_bytes_max
        self.closed_reason = ""

    async def feed(self, piece: bytes) -> None:
        """Take bytes of the other side's."""
        for message in self._lines.feed(piece):
            match message:
                case Response():
                    self._answered(message)
                case Notification(method=method, params=params, odd=odd):
                    if method == CANCEL_REQUEST:
                        self._cancel(params)
                    else:
                        await self._on_notification(method, params)
                    await self._note(params, odd and f"{odd} was mended in what the agent said")
                case Request(params=params, odd=odd):
                    await self._serve(message)
                    await self._note(params, odd and f"{odd} was mended in what the agent asked")
                case LineFault(id=number, code=code, text=text, lost=lost):
                    self._send(line({"id": number, "error": {"code": code, "message": text}}))
                    await self._note(None, f"what the agent said was left out: {text}" if lost else "")

    async def _note(self, params: Any, text: str) -> None:
        if text and self._on_odd is not None:
            await self._on_odd(params, text)

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
        for task in self._serving:
            task.cancel()

    def _answered(self, message: Response) -> None:
        future = self._answers.pop(message.id, None)
        if future is None or future.done():
            return
        if message.error is None:
            future.set_result(message.result)
        else:
            future.set_exception(error_of(message.error))

    def _has_room(self, size: int) -> bool:
        return not self._serving or self._served_bytes + size <= self._served_bytes_max

    async def _serve(self, request: Request) -> None:
        size = REQUEST_BYTES + request.size
        for _ in range(
            2
        ):  # What came with it and can be answered at once is, and is forgotten in the loop's next turn.
            if not self._has_room(size):
                await asyncio.sleep(0)
        if not self._has_room(size):
            many = f"{len(self._serving)} requests ({self._served_bytes} bytes of {self._served_bytes_max})"
            refusal = {"code": INVALID_REQUEST, "message": f"{many} are unanswered already; ask again when some are"}
            self._send(line({"id": request.id, "error": refusal}))
            return
        task = asyncio.ensure_future(self._answer(request))
        self._serving[task] = request.id
        self._served_bytes += size
        task.add_done_callback(lambda done: self._served(done, size))

    def _served(self, task: "asyncio.Task[None]", size: int) -> None:
        del self._serving[task]
        self._served_bytes -= size

    async def _answer(self, request: Request) -> None:
        try:
            answer: dict[str, Any] = {"result": await self._on_request(request.method, request.params)}
        except JsonRpcError as error:
            answer = {"error": error_body(error)}
        except asyncio.CancelledError:
            answer = {"error": {"code": CANCELLED, "message": "cancelled"}}
        except Exception as error:  # noqa: BLE001 (the other side is told, whatever it was)
            answer = {"error": {"code": INTERNAL_ERROR, "message": f"{type(error).__name__}: {error}"}}
        if not self.closed_reason:
            self._send(line({"id": request.id, **answer}))

    def _cancel(self, params: Any) -> None:
        number = params.get("requestId") if isinstance(params, dict) else None
        for task, served in self._serving.items():
            if type(number) is type(served) and number == served:
                # Not at once: a task that has not begun would end without an answer.
                asyncio.get_running_loop().call_soon(_cancel_once, task)


def _cancel_once(task: "asyncio.Task[None]") -> None:
    """Cancel it, unless that is under way: a second cancel would break off what the first one set going."""
    if not task.cancelling():
        task.cancel()
