"""What a body may hold: what JSON can hold, so deep and so much of it, in msgpack. Pure.

Bodies are opened by others than those who carry them: by the log, by whoever follows, by programs and editors behind
JSON. What `wrong_with` lets through, every one of them can read. It says what is wrong and where, and never raises.
"""

import math
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import msgspec

from understudy.protocol.codec import PIECE_BYTES, UNREADABLE_ERRORS, encoded, pack, pieces_of
from understudy.protocol.mending import mended, whole_characters
from understudy.protocol.sizes import NESTING_MAX, VALUES_MAX, Finite

Shape = Literal["any", "map", "blocks"]  # blocks: a list of maps.

QUICK_BYTES_MAX = 1 << 16  # A larger body is looked at byte by byte: decoding it could take far more memory.
QUICK_NESTING = 6  # Levels that the decoder's type describes; with each level the type doubles.
PLACE_CHARACTERS_MAX = 200
KIND_NAMES = {"map": "a map", "blocks": "a list of content blocks"}

# By a value's first byte: what it is, how many bytes of length or content follow, or the length itself.
SCALAR, FLOAT, TEXT, ARRAY, MAP, BYTES, UNKNOWN = range(7)


def _heads() -> list[tuple[int, int, int]]:
    heads = [(SCALAR, 0, 0)] * 256
    for low in range(16):
        heads[0x80 + low], heads[0x90 + low] = (MAP, 0, low), (ARRAY, 0, low)
    for low in range(32):
        heads[0xA0 + low] = (TEXT, 0, low)
    for at, kind, follow in (
        (0xC1, UNKNOWN, (0,)),
        (0xC4, BYTES, (0, 0, 0, 0, 0, 0)),
        (0xCA, FLOAT, (4, 8)),
        (0xCC, SCALAR, (1, 2, 4, 8, 1, 2, 4, 8)),
        (0xD4, BYTES, (0, 0, 0, 0, 0)),
        (0xD9, TEXT, (1, 2, 4)),
        (0xDC, ARRAY, (2, 4)),
        (0xDE, MAP, (2, 4)),
    ):
        heads[at : at + len(follow)] = [(kind, each, 0) for each in follow]
    return heads


HEADS = _heads()


def wrong_with(body: bytes, shape: Shape = "any") -> str:
    """Say what is wrong with a packed body, and where (`$` is the whole); "" when nothing is."""
    if not body:
        return "" if shape != "blocks" else f"it must be {KIND_NAMES[shape]}, and is empty"
    if len(body) <= QUICK_BYTES_MAX:
        try:
            if _has_shape(quick_decode()(body), shape):
                return ""
        except UNREADABLE_ERRORS:
            pass  # It is nested deeper than this type, or it is wrong: the thorough look tells which.
    return Look(body, shape).wrong()


class _Block(msgspec.Struct, gc=False):
    """What of a content block tells whether it asks for anything; not opened, for it may be large."""

    type: msgspec.Raw = msgspec.Raw(b"\xc0")
    text: msgspec.Raw = msgspec.Raw(b"\xa0")


_blocks = msgspec.msgpack.Decoder(list[_Block])
_TEXT_TYPE = msgspec.Raw(pack("text"))


def is_blank(blocks: bytes) -> bool:
    """Return whether content blocks, in which nothing is wrong, are none, or texts of white space only."""
    return all(map(_asks_nothing, _blocks.decode(blocks)))


def _asks_nothing(block: _Block) -> bool:
    text = memoryview(block.text)
    kind, follow, _ = HEADS[text[0]]
    return block.type == _TEXT_TYPE and kind == TEXT and all(map(str.isspace, pieces_of(text[1 + follow :])))


def packed_quickly(value: Any) -> bytes | None:
    """Return `value` packed when it is small and a quick look finds nothing wrong, else None: look thoroughly then."""
    try:
        packed = encoded(value)
        if len(packed) > QUICK_BYTES_MAX:
            return None
        quick_decode()(packed)
    except (*UNREADABLE_ERRORS, TypeError, OverflowError):
        return None
    return packed


def fit(value: Any) -> bytes:
    """Return `value` packed, mended where it cannot be as it is; raise `TypeError` for what is no JSON."""
    try:
        return pack(value)
    except (UnicodeEncodeError, OverflowError):
        return pack(mended(value))


def clipped(text: object, characters_max: int) -> str:
    """Return `text` fit to be a field: no half characters, and no more than so many."""
    return whole_characters(str(text)[:characters_max])


def too_deep() -> str:
    """Say that something is nested too deep."""
    return f"nested deeper than {NESTING_MAX} levels"


@cache
def quick_decode() -> Callable[[bytes], Any]:
    """Return what decodes nothing that is wrong: it is as quick as what decodes anything.

    It takes some milliseconds to make: whoever forks processes that will want it makes it before.
    """
    kind: Any = None | bool | int | Finite | str
    for _ in range(QUICK_NESTING):
        kind = None | bool | int | Finite | str | list[kind] | dict[str, kind]
    return msgspec.msgpack.Decoder(kind).decode


def _has_shape(value: Any, shape: Shape) -> bool:
    if shape == "map":
        return value is None or type(value) is dict
    if shape == "blocks":
        if type(value) is not list:
            return False
        for each in value:
            if type(each) is not dict:
                return False
    return True


class _WrongError(Exception):
    """Something is wrong where the look stands."""


class Look:
    """One walk over the bytes of a body: by hand, as deep as they go, and without making anything of them."""

    def __init__(self, body: bytes, shape: Shape) -> None:
        self._body = body
        self._shape = shape
        self._at = 0
        # For each container around the one at hand: the three values below.
        self._around: list[tuple[int, int, bool]] = []
        self._count = self._left = 1  # How many values the container at hand has, and has left; a map's keys count.
        self._keyed = False
        self._keys: list[str] = [""]  # The last key at each level.

    def wrong(self) -> str:
        """Walk; return what is wrong and where, or ""."""
        try:
            self._walk()
        except _WrongError as error:
            return f"{error} - at {self._place()}"
        return ""

    def _walk(self) -> None:
        body, size, values = self._body, len(self._body), 0
        while True:
            while self._left == 0:
                if not self._around:
                    if self._at != size:
                        raise _WrongError(f"{size - self._at} bytes too many")
                    return
                self._count, self._left, self._keyed = self._around.pop()
                self._keys.pop()
            self._left -= 1
            values += 1
            if values > VALUES_MAX:
                raise _WrongError(f"more than {VALUES_MAX} values")
            if self._at >= size:
                raise _WrongError("it is cut short")
            kind, follow, length = HEADS[body[self._at]]
            after = self._at + 1 + follow
            if after > size:
                raise _WrongError("it is cut short")
            if follow and kind != FLOAT and kind != SCALAR:
                length = int.from_bytes(body[self._at + 1 : after], "big")
            if self._keyed and self._left % 2 and kind != TEXT:
                raise _WrongError("the key of a map must be a text")
            if self._shape != "any" and len(self._around) < 2:
                self._see_shape(kind)
            if kind == TEXT:
                self._see_text(after, length)
                after += length
            elif kind == FLOAT:
                self._see_float(after, follow)
            elif kind >= BYTES:
                raise _WrongError("bytes: a body holds what JSON can hold" if kind == BYTES else "it is no msgpack")
            self._at = after
            if kind in (ARRAY, MAP):
                self._enter(kind, length)

    def _enter(self, kind: int, length: int) -> None:
        if len(self._around) >= NESTING_MAX:
            raise _WrongError(too_deep())
        self._around.append((self._count, self._left, self._keyed))
        self._keyed = kind == MAP
        self._count = self._left = 2 * length if self._keyed else length
        self._keys.append("")

    def _see_text(self, start: int, length: int) -> None:
        if start + length > len(self._body):
            raise _WrongError("it is cut short")
        text = memoryview(self._body)[start : start + length]
        first = ""
        try:
            if length <= PIECE_BYTES:
                first = str(text, "utf-8")
            else:
                for piece in pieces_of(text):
                    first = first or piece
        except UnicodeDecodeError as error:
            raise _WrongError("a text that is not UTF-8") from error
        if self._keyed and self._left % 2:
            self._keys[-1] = first[:PLACE_CHARACTERS_MAX]

    def _see_float(self, after: int, follow: int) -> None:
        form = ">f" if follow == 4 else ">d"
        if not math.isfinite(struct.unpack(form, self._body[after - follow : after])[0]):
            raise _WrongError("a number that is not finite")

    def _see_shape(self, kind: int) -> None:
        depth = len(self._around)
        wanted = (MAP if self._shape == "map" else ARRAY) if depth == 0 else (MAP if self._shape == "blocks" else kind)
        nothing = self._shape == "map" and kind == SCALAR and self._body == b"\xc0"
        if kind != wanted and not nothing:
            raise _WrongError(f"it must be {KIND_NAMES[self._shape]}")

    def _place(self) -> str:
        """Return the path to where the walk stands."""
        place = "$"
        levels = [*self._around[1:], (self._count, self._left, self._keyed)] if self._around else []
        for (count, left, keyed), key in zip(levels, self._keys[1:], strict=True):
            place += (f".{key}" if left % 2 == 0 else "") if keyed else f"[{count - left - 1}]"
        return place[:PLACE_CHARACTERS_MAX]
