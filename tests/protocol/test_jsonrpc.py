"""Lines and conversations of JSON-RPC, with whatever the other side may write."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.protocol.connection import REQUEST_BYTES, SERVED_BYTES_MAX, Connection
from understudy.protocol.jsonrpc import (
    BATCH_MAX,
    CANCELLED,
    HEAD_BYTES,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LINE_BYTES_MAX,
    PARSE_ERROR,
    JsonRpcError,
    LineFault,
    Lines,
    Message,
    Notification,
    Request,
    Response,
    error_of,
    line,
    parse,
)
from understudy.protocol.mending import CHARACTERS, INTEGER, NESTING, NUMBER, THING, mended
from understudy.protocol.sizes import NESTING_MAX

SURROGATE = chr(0xD800)
TOO_DEEP = b"[" * 100_000 + b"]" * 100_000  # For every Python's json: that of 3.13 reads 5,000 levels.


def nested(depth: int) -> Any:
    body: Any = 0
    for _ in range(depth):
        body = [body]
    return body


# --- lines ------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=6)), st.data())
def test_lines_are_the_same_however_they_are_cut(texts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(text + b"\n" for text in texts)
    at = data.draw(st.integers(0, len(whole)))
    cut = Lines()

    assert Lines().feed(whole) == cut.feed(whole[:at]) + cut.feed(whole[at:])


def test_a_line_over_the_limit_is_told_once_and_the_next_is_read() -> None:
    lines, found = Lines(), list[Message]()
    for _ in range(33):
        found += lines.feed(b"x" * (1 << 20))

    found += lines.feed(b'\n{"method":"m"}\n')

    text = f"a line of {33 << 20} bytes; the limit is {LINE_BYTES_MAX}"
    assert [LineFault(None, PARSE_ERROR, text, lost=True), Notification("m", {})] == found


@pytest.mark.parametrize(
    ("head", "number"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"m"', 7),
        (b'{"id":"a b","method":"m"', "a b"),
        (b'{"ID":7,"method":"m"', None),
    ],
)
def test_a_request_too_long_to_read_is_refused_by_its_id_where_that_comes_first(head: bytes, number: Any) -> None:
    (fault,) = Lines().feed(head + b',"params":"' + b"x" * LINE_BYTES_MAX + b'"}\n')

    assert isinstance(fault, LineFault)
    assert number == fault.id


@pytest.mark.parametrize("result", [TOO_DEEP, b'"' + b"x" * LINE_BYTES_MAX + b'"'])
def test_an_answer_that_cannot_be_read_is_told_to_whoever_waits_for_it(result: bytes) -> None:
    (answer,) = Lines(mend=True).feed(b'{"jsonrpc":"2.0","id":3,"result":' + result + b"}\n")

    assert isinstance(answer, Response)
    assert (3, INTERNAL_ERROR) == (answer.id, answer.error["code"])
    assert answer.error["message"].startswith("the answer cannot be read: ")


@pytest.mark.parametrize(
    "text",
    [
        TOO_DEEP,
        b'{"id":' + b"9" * 5000 + b',"method":"m"}',
        b'{"a":NaN}',
        b'{"a":-1e999}',
        b'"\xff"',
    ],
    ids=["deep", "5000 digits", "NaN", "1e999", "no UTF-8"],
)
def test_what_is_no_json_from_an_editor_is_a_fault(text: bytes) -> None:
    (fault,) = parse(text)

    assert isinstance(fault, LineFault)
    assert (None, PARSE_ERROR) == (fault.id, fault.code)


@pytest.mark.parametrize(
    ("text", "params", "odd"),
    [
        (b"[1e999, NaN, -Infinity, 1.5]", [None, None, None, 1.5], NUMBER),
        (b"[18446744073709551615, 18446744073709551616]", [2**64 - 1, "18446744073709551616"], INTEGER),
        (b"[" + b"9" * 5000 + b"]", [None], NUMBER),
        (b'["\\ud83d\\ude00 \\ud83d", "\\\\ud800"]', ["\U0001f600 \ufffd", "\\ud800"], CHARACTERS),
        (b'["\xff\xfe"]', ["\ufffd\ufffd"], "bytes that are no text"),
        (b"[" * 480 + b"]" * 480, None, NESTING),
        (b'{"a": [1, "b", null, true]}', {"a": [1, "b", None, True]}, ""),
    ],
)
def test_what_an_agent_says_is_made_fit_and_noted(text: bytes, params: Any, odd: str) -> None:
    (request,) = parse(b'{"id":1,"method":"m","params":' + text + b"}", mend=True)

    assert isinstance(request, Request)
    assert odd == request.odd
    assert params in (None, request.params)


def test_an_id_that_is_half_a_character_is_refused() -> None:
    assert [LineFault] == [type(each) for each in parse(b'{"id":"\\ud800","method":"m"}')]


# --- what is made fit -------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers() | st.floats(), inner),
)


@given(ANYTHING)
def test_what_was_mended_is_json_and_stays_as_it_is(body: Any) -> None:
    fit = mended(body)

    assert fit == json.loads(json.dumps(fit, allow_nan=False, ensure_ascii=False).encode())
    assert fit == mended(fit)


@pytest.mark.parametrize(
    ("body", "fit", "odd"),
    [
        (float("inf"), None, {NUMBER}),
        (2**64, str(2**64), {INTEGER}),
        (-(2**63), -(2**63), set()),
        (1 << 5000, "an integer of 5001 bits", {INTEGER}),
        (f"a{SURROGATE}b", "a\ufffdb", {CHARACTERS}),
        ({7: "x"}, {"7": "x"}, {THING}),
        ({SURROGATE: (b"x",)}, {"\ufffd": [None]}, {CHARACTERS, THING}),
        (nested(NESTING_MAX), nested(NESTING_MAX), set()),
    ],
)
def test_made_fit(body: Any, fit: Any, odd: set[str]) -> None:
    found = set[str]()

    assert (fit, odd) == (mended(body, found), found)


def test_what_is_nested_too_deep_ends_in_nothing() -> None:
    found = set[str]()
    body = mended(nested(100_000), found)
    depth = 0
    while isinstance(body, list):
        (body,) = body
        depth += 1

    assert (NESTING_MAX, None, {NESTING}) == (depth, body, found)


@pytest.mark.parametrize("result", [float("nan"), SURROGATE, b"x", nested(5000), {(1, 2): 3}, object()])
def test_every_line_is_json(result: Any) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert 1 == json.loads(line({"id": 1, "result": result}).decode(), parse_constant=refuse)["id"]


@pytest.mark.parametrize(
    ("body", "code"),
    [({"code": 5}, 5), ({"code": True}, INTERNAL_ERROR), ({"code": 2**40}, INTERNAL_ERROR), ("odd", INTERNAL_ERROR)],
)
def test_an_error_of_any_shape_is_an_error(body: Any, code: int) -> None:
    assert code == error_of(body).code


def test_an_errors_message_is_bounded() -> None:
    assert 10_000 == len(error_of({"code": 1, "message": "x" * 2_000_000}).message)


# --- conversations ----------------------------------------------------------------


class Desk:
    """A connection, and what it says. A request `wait` waits until it is cancelled; others are answered with their params."""

    def __init__(self, agent: bool = False, served_bytes_max: int = SERVED_BYTES_MAX) -> None:
        self.said: list[dict[str, Any]] = []
        self.notes: list[tuple[Any, str]] = []
        self.heard: list[Any] = []
        self.begun = 0
        note = self._note if agent else None
        self.connection = Connection(self._send, self._serve, self._hear, note, served_bytes_max)

    def _send(self, line: bytes) -> None:
        self.said.append(json.loads(line))

    async def _serve(self, method: str, params: Any) -> Any:
        self.begun += 1
        if method == "wait":
            await asyncio.Event().wait()
        if method == "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                return "in order"
        return params

    async def _hear(self, method: str, params: Any) -> None:
        self.heard.append((method, params))

    async def _note(self, params: Any, text: str) -> None:
        self.notes.append((params, text))

    async def feed(self, *messages: dict[str, Any]) -> None:
        await self.connection.feed(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        for _ in range(5):
            await asyncio.sleep(0)


def run(act: Callable[[Desk], Any], agent: bool = False, served_bytes_max: int = SERVED_BYTES_MAX) -> Desk:
    async def inner() -> Desk:
        desk = Desk(agent, served_bytes_max)
        await act(desk)
        desk.connection.close("over")
        return desk

    return asyncio.run(inner())


def cancel(number: Any) -> dict[str, Any]:
    return {"method": "$/cancel_request", "params": {"requestId": number}}


@pytest.mark.parametrize("method", ["wait", "echo"])
def test_a_request_with_its_cancel_in_the_same_read_is_answered(method: str) -> None:
    desk = run(lambda desk: desk.feed({"id": 1, "method": method}, cancel(1)))

    (answer,) = desk.said
    assert (1, 1) == (answer["id"], desk.begun)
    assert CANCELLED == answer.get("error", {"code": CANCELLED})["code"]


def test_large_requests_are_refused_while_too_many_bytes_of_them_are_unanswered() -> None:
    async def play(desk: Desk) -> None:
        for number in range(5):
            await desk.feed({"id": number, "method": "wait", "params": {"text": "x" * 40_000}})
        await desk.feed({"id": 5, "method": "echo"}, cancel(0))
        await desk.feed({"id": 6, "method": "wait", "params": {"text": "x" * 40_000}})

    desk = run(play, served_bytes_max=150_000)
    refused = {each["id"] for each in desk.said if "unanswered already" in each.get("error", {}).get("message", "")}
    assert {2, 3, 4} == refused
    assert 4 == desk.begun


def test_a_second_cancel_does_not_break_off_what_the_first_set_going() -> None:
    desk = run(lambda desk: desk.feed({"id": 1, "method": "stubborn"}, cancel(1), cancel(1)))

    assert [(1, "in order")] == [(said["id"], said.get("result")) for said in desk.said]


@pytest.mark.parametrize("number", [[], {}, None, True, 1.0, "1", 10**30])
def test_a_cancel_of_nothing_that_runs_is_ignored(number: Any) -> None:
    desk = run(lambda desk: desk.feed({"id": 1, "method": "wait"}, cancel(number), {"method": "next"}))

    assert ([], [("next", {})]) == (desk.said, desk.heard)


def test_two_requests_with_one_id_are_both_answered_and_both_cancelled() -> None:
    desk = run(lambda desk: desk.feed(*[{"id": "d", "method": "wait"}] * 2, cancel("d")))

    assert [("d", CANCELLED)] * 2 == [(said["id"], said["error"]["code"]) for said in desk.said]


def test_more_unanswered_requests_than_the_limit_are_refused() -> None:
    count = SERVED_BYTES_MAX // REQUEST_BYTES
    desk = run(lambda desk: desk.feed(*({"id": at, "method": "wait"} for at in range(count + 1))))

    assert [(count, INVALID_REQUEST)] == [(said["id"], said["error"]["code"]) for said in desk.said]


def test_however_many_requests_come_at_once_those_that_can_be_answered_are() -> None:
    count = 3 * SERVED_BYTES_MAX // REQUEST_BYTES

    desk = run(lambda desk: desk.feed(*({"id": at, "method": "echo"} for at in range(count))))

    assert [{}] * count == [said.get("result") for said in desk.said]


def test_one_request_is_served_however_large_it_is() -> None:
    desk = run(lambda desk: desk.feed({"id": 1, "method": "echo", "params": "x" * 200_000}), served_bytes_max=100_000)

    assert [200_000] == [len(said["result"]) for said in desk.said]


def test_what_an_agent_said_oddly_is_noted_with_its_params() -> None:
    async def act(desk: Desk) -> None:
        await desk.feed({"method": "m", "params": {"a": float("inf")}}, {"id": 1, "method": "m", "params": [2**70]})
        await desk.connection.feed(b'{"method":"m","x":"' + b"x" * LINE_BYTES_MAX + b'"}\n')

    desk = run(act, agent=True)

    mended_ = [
        ({"a": None}, f"{NUMBER} was mended in what the agent said"),
        ([str(2**70)], f"{INTEGER} was mended in what the agent asked"),
    ]
    assert mended_ == desk.notes[:2]
    assert (None, "what the agent said was left out: a line of") == (desk.notes[2][0], desk.notes[2][1][:43])


def test_a_request_whose_answer_cannot_be_read_fails() -> None:
    async def act(desk: Desk) -> None:
        asking = asyncio.ensure_future(desk.connection.request("m", {}))
        await asyncio.sleep(0)
        await desk.connection.feed(b'{"id":0,"result":' + TOO_DEEP + b"}\n")
        with pytest.raises(JsonRpcError, match="cannot be read: nested too deep"):
            await asking

    run(act, agent=True)


def test_a_batch_of_too_many_messages_is_refused_and_the_next_line_is_read() -> None:
    one = b'{"method":"m"},'

    fault, next_ = Lines().feed(b"[" + one * BATCH_MAX + one[:-1] + b"]\n" + one[:-1] + b"\n")

    assert isinstance(fault, LineFault)
    assert (None, INVALID_REQUEST, True) == (fault.id, fault.code, fault.lost)
    assert Notification("m", {}) == next_


def test_the_head_of_a_long_line_is_all_that_is_kept_of_it() -> None:
    lines = Lines()
    for _ in range(40):
        lines.feed(b"x" * (1 << 20))

    assert HEAD_BYTES == sum(map(len, lines._pieces))  # noqa: SLF001
