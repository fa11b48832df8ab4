"""`understudy acp` and an editor that writes what it should not: it is answered in words, and the edge lives."""

import json
from collections.abc import Iterator

import pytest

from tests.editor import Start, allow, asks, editors
from tests.faults.house import RealHouse


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHouse]:
    with RealHouse(tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.fixture
def start(house: RealHouse) -> Iterator[Start]:
    with editors(house) as one:
        yield one


def line(**message: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


ODD_LINES = {
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "5000 digits": b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"initialize","params":{}}',
    "NaN": b'{"jsonrpc":"2.0","method":"session/list","params":{"cwd":NaN},"id":9}',
    "no UTF-8": b'{"jsonrpc":"2.0","method":"a\xff","id":9}',
    "endless id": b'{"jsonrpc":"2.0","id":1e999,"method":"initialize","params":{}}',
    "33 MB": b'{"x":"' + b"x" * (33 << 20) + b'"}',
}


@pytest.mark.parametrize("odd", ODD_LINES)
def test_an_odd_first_line_is_a_parse_error_and_the_next_is_answered(start: Start, odd: str) -> None:
    editor = start()

    editor.write(ODD_LINES[odd])

    fault = editor.read()
    assert (None, -32700) == (fault["id"], fault["error"]["code"])
    assert 1 == editor.ask("initialize", protocolVersion=1)["protocolVersion"]


@pytest.mark.parametrize("method", ["session/prompt", "session/list"])
def test_a_request_and_its_cancel_in_one_write_are_answered(start: Start, method: str) -> None:
    editor = start()
    session = editor.new()
    prompt = [{"type": "text", "text": "[[stream 1000 10]]"}]

    editor.write(
        line(id="both", method=method, params={"sessionId": session, "prompt": prompt})
        + b"\n"
        + line(method="$/cancel_request", params={"requestId": "both"})
    )

    answer = editor.until(lambda each: each.get("id") == "both")
    assert -32800 == answer["error"]["code"] if "error" in answer else "cancelled" == answer["result"]["stopReason"]
    assert "end_turn" == editor.play(session, "next")


def test_cancels_and_notifications_of_odd_shape_are_let_go(start: Start) -> None:
    editor = start()
    session = editor.new()

    shapes: tuple[object, ...] = ([], {"requestId": []}, {"requestId": {}}, {"sessionId": [[[]] * 50]}, 5)
    for params in shapes:
        editor.write(line(method="$/cancel_request", params=params))
        editor.write(line(method="session/cancel", params=params))
    editor.write(b'{"method":"session/cancel","params":{"sessionId":' + b"[" * 900 + b"]" * 900 + b"}}")

    assert "end_turn" == editor.play(session, "still here")


def test_two_requests_with_one_id_are_both_answered(start: Start) -> None:
    editor = start()
    session = editor.new()

    for text in ("[[sleep 50]]", "second"):
        prompt = [{"type": "text", "text": text}]
        editor.write(line(id="d", method="session/prompt", params={"sessionId": session, "prompt": prompt}))

    answers = [editor.until(lambda each: each.get("id") == "d") for _ in range(2)]
    assert ["end_turn"] * 2 == [answer["result"]["stopReason"] for answer in answers]


@pytest.mark.parametrize("value", [b"1e999", b"1180591620717411303424"], ids=["not finite", "70 bits"])
def test_an_answer_that_cannot_be_passed_on_fails_the_question_and_the_turn_goes_on(start: Start, value: bytes) -> None:
    editor = start()
    turn = editor.prompt(editor.new(), "[[ask May I?]]")
    asked = editor.until(asks("session/request_permission"))
    number = json.dumps(asked["id"]).encode()

    editor.write(b'{"jsonrpc":"2.0","id":' + number + b',"result":{"outcome":' + value + b"}}")

    assert "answer" in editor.answer(turn)["error"]["message"]


def test_a_question_is_answered_after_all_of_that(start: Start) -> None:
    editor = start(serve=allow)

    assert "end_turn" == editor.play(editor.new(), "[[ask May I?]]")
