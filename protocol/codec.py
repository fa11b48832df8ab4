"""msgpack as bytes: bodies packed and unpacked, messages put together. Pure. It knows no frame."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from understudy.protocol.sizes import PART_BYTES, Id, Number, RequestId

PIECE_BYTES = 1 << 16
UNREADABLE_ERRORS = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError)

encoded = msgspec.msgpack.Encoder().encode
_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_whole = msgspec.msgpack.Decoder(msgspec.Raw)
_items = msgspec.msgpack.Decoder(list[msgspec.Raw])


class FrameError(Exception):
    """The bytes are no message of ours. The peer is at fault. `request`: what they were about, as a `Fault` names it."""

    def __init__(self, text: str, request: str = "") -> None:
        super().__init__(text)
        self.request = request


def request_in(frame: bytes) -> str:
    """Return what a frame that cannot be read is about, as a `Fault` names it; "" when it does not tell."""
    try:
        fields = _fields.decode(frame)
        match msgspec.msgpack.decode(fields["type"], type=str):
            case "answer":
                return f"answer:{msgspec.msgpack.decode(fields['ask'], type=Id)}"
            case "follow":
                return f"follow:{msgspec.msgpack.decode(fields['follow'], type=Number)}"
            case _:
                return msgspec.msgpack.decode(fields["request"], type=RequestId)
    except (KeyError, *UNREADABLE_ERRORS):
        return ""


def merged(one: bytes, other: bytes) -> bytes | None:
    """Return two messages of `encode` as one; None when that would have more than 15 frames or `PART_BYTES`."""
    count = one[0] + other[0] - 2 * 0x90  # The first byte of a msgpack array of up to 15 items.
    if count > 15 or one[0] > 0x9F or other[0] > 0x9F or len(one) + len(other) > PART_BYTES:
        return None
    return bytes((0x90 + count,)) + one[1:] + other[1:]


def array(packed: Sequence[bytes | msgspec.Raw]) -> bytes:
    """Return the msgpack array of items that are packed already (at most 65,535)."""
    count = len(packed)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(packed)


def holds(body: bytes, count: int) -> bool:
    """Return whether `body` is a packed array of so many items (at most 65,535). The items are not opened."""
    try:
        _whole.decode(body)
    except UNREADABLE_ERRORS:
        return False
    first = body[0]
    return (first - 0x90 if first <= 0x9F else int.from_bytes(body[1:3], "big") if first == 0xDC else -1) == count


def sliced(body: bytes, start: int, end: int) -> bytes:
    """Return the packed array of the items from `start` up to `end` of one that `holds` knows; they are not opened."""
    return array([bytes(item) for item in _items.decode(body)[start:end]])


def refusal(error: Exception) -> str:
    """Say why something could not be packed."""
    if not isinstance(error, UnicodeEncodeError):
        return str(error)
    return f"{error.object[max(0, error.start - 20) : error.end]!a} is no text: its end is no character of UTF-8"


def pieces_of(text: bytes | memoryview) -> Iterator[str]:
    """Yield a text in UTF-8 bit by bit: one wide character makes four bytes of each. Raises `UnicodeDecodeError`."""
    at, size = 0, len(text)
    while at < size:
        end = min(at + PIECE_BYTES, size)
        while at < end < size and text[end] & 0xC0 == 0x80:  # Not within a character.
            end -= 1
        if end == at:
            end = size  # It is no UTF-8, as decoding it tells.
        yield str(text[at:end], "utf-8")
        at = end


def pack(body: object) -> bytes:
    """Return `body` (anything msgpack holds) as the bytes of a `body` field."""
    return encoded(body)


def unpack(body: bytes) -> Any:
    """Return what `pack` was given; None for b""; raise `FrameError` if it is no msgpack."""
    if not body:
        return None
    try:
        return msgspec.msgpack.decode(body)
    except UNREADABLE_ERRORS as error:
        raise FrameError(str(error)) from error
