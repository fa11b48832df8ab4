"""What a body may hold: whatever else is in it is found, with its place, however large or deep it is."""

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.protocol import bodies
from understudy.protocol.frames import pack, unpack
from understudy.protocol.sizes import NESTING_MAX, VALUES_MAX


def nested(levels: int) -> bytes:
    return b"\x91" * (levels - 1) + b"\x90"


@pytest.mark.parametrize("under", [0, 600])
def test_nesting_is_counted_however_deep_the_caller_stands(under: int) -> None:
    def at_depth(left: int, look: Callable[[], str]) -> str:
        return at_depth(left - 1, look) if left else look()

    deepest = sys.getrecursionlimit() - 250 if under else 0

    assert "" == at_depth(deepest, lambda: bodies.wrong_with(nested(NESTING_MAX)))
    assert "deeper than 64" in at_depth(deepest, lambda: bodies.wrong_with(nested(NESTING_MAX + 1)))
    assert "deeper than 64" in at_depth(deepest, lambda: bodies.wrong_with(nested(1_000_000)))
    assert "" != at_depth(deepest, lambda: str(unpack(b"\x81\xa7content" + nested(NESTING_MAX))))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (pack({"a": [1, {"b": math.nan}]}), "a number that is not finite - at $.a[1].b"),
        (pack([0.5, -math.inf]), "a number that is not finite - at $[1]"),
        (b"\x91\xca\x7f\x80\x00\x00", "a number that is not finite - at $[0]"),
        (pack({"a": {"b": b"x"}}), "bytes: a body holds what JSON can hold - at $.a.b"),
        (b"\x91\xd4\x01\x01", "bytes: a body holds what JSON can hold - at $[0]"),
        (pack([{1: 2}]), "the key of a map must be a text - at $[0]"),
        (b"\x91\xa3\xed\xb3\xa9", "a text that is not UTF-8 - at $[0]"),
        (b"\x90\x90", "1 bytes too many - at $"),
        (b"\x92\x01", "it is cut short - at $[1]"),
        (b"\xc1", "it is no msgpack - at $"),
        (b"\xdd" + (VALUES_MAX).to_bytes(4, "big") + b"\x01" * VALUES_MAX, "more than 250000 values - at $[249999]"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_with_its_place(body: bytes, said: str) -> None:
    assert said == bodies.wrong_with(body)


@pytest.mark.parametrize(
    "body", [pack(2**64 - 1), pack(-(2**63)), pack([1.5, None, True]), pack({"é": "☃"}), b"", pack(sys.float_info.max)]
)
def test_what_json_holds_in_64_bits_is_a_body(body: bytes) -> None:
    assert "" == bodies.wrong_with(body)


@given(st.binary(max_size=60), st.sampled_from(["any", "map", "blocks"]))
def test_the_quick_look_and_the_thorough_one_agree(body: bytes, shape: bodies.Shape) -> None:
    thorough = bodies.Look(body, shape).wrong() if body else bodies.wrong_with(body, shape)

    assert (thorough == "") is (bodies.wrong_with(body, shape) == "")


def test_a_large_body_is_looked_at_without_making_anything_of_it() -> None:
    assert "" == bodies.wrong_with(pack([{"type": "text", "text": "x" * (15 << 20)}]), "blocks")
    assert "values" in bodies.wrong_with(b"\xdd" + (16 << 20).to_bytes(4, "big") + b"\x90" * (16 << 20))


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize(
    ("block", "blank"),
    [
        ({"type": "text", "text": " \n\u3000"}, True),
        ({"type": "text", "text": " \n\u3000 x"}, False),
        ({"type": "text", "text": 5}, False),
        ({"type": "image", "text": " "}, False),
        ({}, False),
    ],
)
def test_a_prompt_of_white_space_only_is_found_blank_however_large_it_is(
    block: dict[str, Any], blank: bool, size: int
) -> None:
    blocks = [{"type": "text", "text": "\u3000" * size}, {"type": "text"}, block]

    assert blank is bodies.is_blank(pack(blocks))


@pytest.mark.parametrize("wide", ["\U0001f600", "\u20ac"])
@pytest.mark.parametrize("lead", range(4))
def test_a_large_text_is_looked_at_bit_by_bit_wherever_its_characters_lie(wide: str, lead: int) -> None:
    whole = pack(["x" * lead + wide * 50_000])

    assert "" == bodies.wrong_with(whole)
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0x40
    assert "UTF-8" in bodies.wrong_with(bytes(broken))
    assert "UTF-8" in bodies.wrong_with(whole[:-1] + b"\xf0")
