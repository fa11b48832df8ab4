"""Messages: frames as the bytes that cross a socket. Pure: no I/O, no clock.

A message is one msgpack array of frames. Decoding checks every field: what comes out is well formed, or `FrameError` is
raised. A frame larger than `PART_BYTES` travels as `Part`s and is joined by `Joiner`.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args

import msgspec

from understudy.protocol.codec import UNREADABLE_ERRORS, FrameError, array, encoded, refusal, request_in
from understudy.protocol.frames import Frame, Part
from understudy.protocol.sizes import (
    BODY_BYTES_MAX,
    FRAMES_PER_MESSAGE,
    FRAMES_PER_MESSAGE_MAX,
    MESSAGE_BYTES_MAX,
    PART_BYTES,
)


@cache
def decoder(side: Any) -> "msgspec.msgpack.Decoder[list[Frame]]":
    """Return the decoder for one direction: `FromClient`, `ToClient`, `FromActor` or `ToActor`."""
    frames: Any = Annotated[list[side], msgspec.Meta(max_length=FRAMES_PER_MESSAGE_MAX)]
    return msgspec.msgpack.Decoder(frames)


@cache
def _joined_decoder(side: Any) -> "msgspec.msgpack.Decoder[Frame]":
    """Return the decoder for a frame that came in parts: it is never a part itself."""
    frame: Any = Union[tuple(each for each in get_args(side) if each is not Part)]  # noqa: UP007
    return msgspec.msgpack.Decoder(frame)


def decode(message: bytes, by: "msgspec.msgpack.Decoder[list[Frame]]") -> list[Frame]:
    """Return the frames of a message; raise `FrameError` if it is none."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise FrameError(f"a message of {len(message)} bytes; the limit is {MESSAGE_BYTES_MAX}")
    try:
        return by.decode(message)
    except UNREADABLE_ERRORS as error:
        raise FrameError(str(error)) from error


def encode(frames: Sequence[Frame]) -> list[bytes]:
    """Return the messages that carry `frames` in order; raise `FrameError` for what no message can carry."""
    try:
        if len(frames) == 1:
            whole = encoded(frames[0])
            return [b"\x91" + whole] if len(whole) <= PART_BYTES else list(_parts(whole))
        whole = encoded(frames)
        if len(whole) <= PART_BYTES and len(frames) <= FRAMES_PER_MESSAGE:
            return [whole]
        del whole  # It may be large, and is packed again piece by piece.
        return list(_batches(map(encoded, frames)))
    except (UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise FrameError(f"this cannot be sent: {refusal(error)}") from error


def _batches(packed: Iterable[bytes]) -> Iterable[bytes]:
    """Yield messages of as many frames as fit, and the parts of a frame that alone is too large."""
    batch: list[bytes] = []
    size = 0
    for frame in packed:
        if batch and (size + len(frame) > PART_BYTES or len(batch) == FRAMES_PER_MESSAGE):
            yield array(batch)
            batch, size = [], 0
        if len(frame) > PART_BYTES:
            yield from _parts(frame)
        else:
            batch.append(frame)
            size += len(frame)
    if batch:
        yield array(batch)


def _parts(whole: bytes) -> Iterable[bytes]:
    if len(whole) > BODY_BYTES_MAX:
        raise FrameError(f"a frame of {len(whole)} bytes; the limit is {BODY_BYTES_MAX}")
    view = memoryview(whole)
    for at in range(0, len(whole), PART_BYTES):
        piece = view[at : at + PART_BYTES]
        yield b"".join((_PART_HEADS[at + PART_BYTES >= len(whole)], len(piece).to_bytes(4, "big"), piece))


# What precedes the piece's length in a message with one part. To pack such a message would copy the piece once more.
_PART_HEADS = [encoded([Part(last, b"")])[:-2] + b"\xc6" for last in (False, True)]


class Joiner:
    """Puts the parts from one peer together again."""

    def __init__(self, side: Any) -> None:
        self._side = side
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, part: Part) -> Frame | None:
        """Return the frame that `part` completes, else None; raise `FrameError` if it is too large or no frame."""
        self._pieces.append(part.piece)
        self.size += len(part.piece)
        if self.size > BODY_BYTES_MAX:
            self.clear()
            raise FrameError(f"a frame of more than {BODY_BYTES_MAX} bytes in parts")
        if not part.last:
            return None
        whole = b"".join(self._pieces)
        self.clear()
        try:
            return _joined_decoder(self._side).decode(whole)
        except UNREADABLE_ERRORS as error:
            raise FrameError(str(error), request_in(whole)) from error

    def clear(self) -> None:
        """Forget the pieces of a frame that will not be completed."""
        self._pieces, self.size = [], 0
