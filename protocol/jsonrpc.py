"""The lines of JSON-RPC 2.0 in newline-delimited JSON, as ACP speaks it. Pure.

Unknown fields pass through unharmed: params and results are whatever JSON holds. A parser
never raises to its caller: a line is a message or a fault.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from understudy.protocol.mending import mended, whole_characters
from understudy.protocol.sizes import NESTING_MAX

LINE_BYTES_MAX = 32 << 20
LARGE_LINE_BYTES = 1 << 12
BATCH_MAX = 1_000
HEAD_BYTES = 1 << 10  # Where the id of a request is looked for in a line that cannot be read.
MESSAGE_CHARACTERS_MAX = 10_000  # The text of an error.
CODES = range(-(2**31), 2**31)

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

BOM = b"\xef\xbb\xbf"
DIGITS_MAX = 18
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
HEAD = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*([0-9]{1,18}|"[ !#-\[\]-~]{1,100}")\s*,'
    rb'\s*"(method|result|error)"'
)


class JsonRpcError(Exception):
    """An error answer, of ours or of the other side."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Request:
    """Wants an answer with the same id. `odd`: what was mended in it, for people; `size`: of its line, if that is large."""

    id: Id
    method: str
    params: Any
    odd: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Notification:
    """Wants none. `odd`: what was mended in it, for people."""

    method: str
    params: Any
    odd: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `error` is None or a map with code and message. `id` None: to nothing that could be named."""

    id: Id
    result: Any
    error: Any


@dataclass(frozen=True, slots=True)
class LineFault:
    """A line that is no message: what to answer. `lost`: it was one, but larger or deeper than can be read."""

    id: Id
    code: int
    text: str
    lost: bool = False


Message = Request | Notification | Response | LineFault


class Lines:
    """Cuts bytes into lines. A line over `LINE_BYTES_MAX` is dropped and reported once."""

    def __init__(self, mend: bool = False) -> None:
        """`mend`: make fit what is odd, as for an agent; else it is passed on, and whoever cannot hold it refuses it."""
        self._mend = mend
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[Message]:
        """Return the messages that `piece` completes."""
        found: list[Message] = []
        *ends, rest = piece.split(b"\n")
        for end in ends:
            if end or self._size:
                self._add(end)
                found.extend(self._whole())
        self._add(rest)
        return found

    def _add(self, piece: bytes) -> None:
        before, self._size = self._size, self._size + len(piece)
        if self._size <= LINE_BYTES_MAX:
            self._pieces.append(piece)
        elif before <= LINE_BYTES_MAX:
            self._pieces = [b"".join([*self._pieces, piece])[:HEAD_BYTES]]

    def _whole(self) -> list[Message]:
        line, size = b"".join(self._pieces), self._size
        self._pieces, self._size = [], 0
        if size > LINE_BYTES_MAX:
            return [_unread(line, f"a line of {size} bytes; the limit is {LINE_BYTES_MAX}", lost=True)]
        found = parse(line, self._mend) if line.strip() else []
        if size <= LARGE_LINE_BYTES:
            return found
        each_has = size // max(1, len(found))
        return [replace(each, size=each_has) if isinstance(each, Request) else each for each in found]


def parse(line: bytes, mend: bool = False) -> list[Message]:
    """Return the message of a line (several for a batch)."""
    odd = set[str]()
    try:
        value = _mended(line, odd) if mend else _STRICT.decode(line.removeprefix(BOM).decode())
    except RecursionError:
        return [_unread(line, "nested too deep", lost=True)]
    except ValueError as error:
        return [_unread(line, f"no JSON: {error}", lost=False)]
    many = len(value) if isinstance(value, list) else 0
    if many > BATCH_MAX:
        return [LineFault(None, INVALID_REQUEST, f"{many} messages in one batch; the limit is {BATCH_MAX}", lost=True)]
    found = [_message(each) for each in value] if many else [_message(value)]
    if not odd:
        return found
    words = ", ".join(sorted(odd))
    return [replace(each, odd=words) if isinstance(each, Request | Notification) else each for each in found]


def _mended(line: bytes, odd: set[str]) -> Any:
    line = line.removeprefix(BOM)
    try:
        whole = line.decode()
    except UnicodeDecodeError:
        odd.add("bytes that are no text")
        whole = line.decode(errors="replace")
    try:
        value = _FIT.decode(whole)
    except _UnfitError:
        return mended(json.loads(whole, parse_int=_integer), odd)
    # Looking into each value of each line would cost more than reading it.
    if SURROGATE.search(whole) or whole.count("[") + whole.count("{") > NESTING_MAX:
        value = mended(value, odd)
    return value


class _UnfitError(ValueError):
    """A number that not everybody can hold."""


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _UnfitError(f"{digits[:DIGITS_MAX]} is no finite number")
    return number


def _fit_integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise _UnfitError("an integer of many digits")
    return int(digits)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < 100 * DIGITS_MAX else math.inf  # int() refuses digits by the thousand.


def _no_number(name: str) -> None:
    raise _UnfitError(f"{name} is no number")


_STRICT = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number)
_FIT = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number, parse_int=_fit_integer)


def _unread(line: bytes, text: str, lost: bool) -> Message:
    """Return what becomes of a line that cannot be read: if it begins like an answer, whoever waits for that is told."""
    head = HEAD.match(line[:HEAD_BYTES])
    if head is None:
        return LineFault(None, PARSE_ERROR, text, lost)
    number: Id = json.loads(head[1])
    if head[2] == b"method":
        return LineFault(number, PARSE_ERROR, text, lost)
    return Response(number, None, {"code": INTERNAL_ERROR, "message": f"the answer cannot be read: {text}"})


def _message(value: Any) -> Message:
    if not isinstance(value, dict):
        return LineFault(None, INVALID_REQUEST, "a message is a JSON object")
    number = value.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str | None):
        return LineFault(None, INVALID_REQUEST, "an id is a number or a text")
    if isinstance(number, str) and number != whole_characters(number):
        return LineFault(None, INVALID_REQUEST, "an id that is no text: it holds half a character")
    method = value.get("method")
    if isinstance(method, str):
        params = value.get("params", {})
        return Request(number, method, params) if "id" in value else Notification(method, params)
    if method is None and ("result" in value or "error" in value):
        return Response(number, value.get("result"), value.get("error"))
    return LineFault(number, INVALID_REQUEST, "neither a request nor an answer")


def line(message: dict[str, Any]) -> bytes:
    """Return the line of a message; what JSON does not hold is made fit."""
    try:
        return _line(message)
    except (TypeError, ValueError, RecursionError):
        return _line(mended(message))


def _line(message: dict[str, Any]) -> bytes:
    whole = {"jsonrpc": "2.0", **message}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def error_of(body: Any) -> JsonRpcError:
    """Return the error of an answer, whatever the other side put there."""
    if not isinstance(body, dict):
        return JsonRpcError(INTERNAL_ERROR, f"an error that is no object but of type {type(body).__name__}")
    code, message = body.get("code"), body.get("message")
    if isinstance(code, bool) or not isinstance(code, int) or code not in CODES:
        code = INTERNAL_ERROR
    words = message[:MESSAGE_CHARACTERS_MAX] if isinstance(message, str) else "an error without a message"
    return JsonRpcError(code, words, body.get("data"))


def error_body(error: JsonRpcError) -> dict[str, Any]:
    """Return the `error` member for `error`."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    return body if error.data is None else {**body, "data": error.data}
