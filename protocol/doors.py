"""The check at the door, the same on both sides of it: what one end sends, the other takes. Pure.

A client's library asks `wrong_with` before it sends; the house's decoder and `wrong_with_body` check the same again.
What comes in and is no frame, and what is to go out and cannot, becomes a fault for whoever waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, assert_never

import msgspec

from understudy.protocol import bodies, environments, verbs
from understudy.protocol.codec import UNREADABLE_ERRORS, array, encoded, pack, refusal, request_in
from understudy.protocol.errors import BAD_FRAME, LIMIT_REACHED, UNKNOWN_VERB
from understudy.protocol.frames import (
    Accepted,
    Answer,
    Call,
    Cancel,
    Credit,
    Entries,
    Fault,
    Follow,
    Frame,
    FrameError,
    FromClient,
    Goodbye,
    Hello,
    Open,
    Opened,
    Part,
    Ping,
    Pong,
    Prompt,
    Result,
    Unfollow,
    Verb,
)
from understudy.protocol.messages import decoder, encode
from understudy.protocol.sizes import (
    ENTRY_BYTES_MAX,
    FRAMES_PER_MESSAGE_MAX,
    ID_CHARACTERS_MAX,
    MESSAGE_BYTES_MAX,
    OPENING_BYTES_MAX,
    TEXT_CHARACTERS_MAX,
    VERB_BYTES_MAX,
)

LARGE_BYTES = 1 << 12
_from_client = decoder(FromClient).decode
# By frame: what its body is called in an error, its bound in bytes, and its shape.
_BODIES: dict[type, tuple[str, int, bodies.Shape]] = {
    Prompt: ("the prompt", ENTRY_BYTES_MAX, "blocks"),
    Answer: ("the answer", ENTRY_BYTES_MAX, "any"),
    Call: ("the body of the call", ENTRY_BYTES_MAX, "any"),
    Open: ("what opens the session", OPENING_BYTES_MAX, "map"),
    Verb: ("the body of the verb", VERB_BYTES_MAX, "map"),
}
_pieces = msgspec.msgpack.Decoder(Annotated[list[msgspec.Raw], msgspec.Meta(max_length=FRAMES_PER_MESSAGE_MAX)])


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a frame is not taken: a code, and a text that names the place and the remedy."""

    code: str
    text: str


def wrong_with(frame: FromClient) -> Wrong | None:
    """Return what is wrong with a client's frame before it is sent, None when nothing is."""
    wrong = wrong_with_body(frame)
    if wrong is not None:
        return wrong
    if len(getattr(frame, "body", b"")) > LARGE_BYTES:
        frame = msgspec.structs.replace(frame, body=b"")  # The body was looked at above.
    try:
        _from_client(b"\x91" + encoded(frame))
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        return Wrong(BAD_FRAME, f"the {_type(frame)} cannot be sent: {refusal(error)}")
    except UNREADABLE_ERRORS as error:
        return Wrong(LIMIT_REACHED, f"the {_type(frame)} cannot be sent: {str(error).replace('$[0]', '$')}")
    return None


def wrong_with_body(frame: FromClient) -> Wrong | None:
    """Return what is wrong with the body or the variables of a client's frame, None when nothing is.

    Its other fields are the decoder's.
    """
    bound = _BODIES.get(type(frame))
    if bound is None:
        return None
    what, most, shape = bound
    body: bytes = frame.body  # type: ignore[union-attr]
    if len(body) > most:
        return Wrong(
            LIMIT_REACHED, f"{what} has {len(body)} bytes; the limit is {most}: put it into a file and name that"
        )
    if wrong := bodies.wrong_with(body, shape):
        return Wrong(BAD_FRAME, f"{what}: {wrong}")
    if isinstance(frame, Open) and (wrong := environments.wrong_with(frame.env)):
        return Wrong(BAD_FRAME, wrong)
    return None


def asked(verb: str, body: bytes) -> verbs.Asked | Wrong:
    """Return what a verb asks, or why it is refused."""
    kind = verbs.VERBS.get(verb)
    if kind is None:
        return Wrong(UNKNOWN_VERB, f"this house knows no verb {verb!r}; it knows: {', '.join(sorted(verbs.VERBS))}")
    try:
        found: verbs.Asked | None = verbs.decoder(kind | None).decode(body) if body else None
    except UNREADABLE_ERRORS as error:
        return Wrong(BAD_FRAME, f"the body of {verb}: {error}")
    return found or kind()


def packed_answer(answer: object) -> bytes:
    """Return the answer to a verb as the body of a `Result`; a path that is no text is mended."""
    try:
        return pack(answer)
    except (UnicodeEncodeError, OverflowError):
        return bodies.fit(msgspec.to_builtins(answer))


def about(frame: FromClient) -> str:
    """Return what a fault for `frame` names, "" when nobody waits for anything."""
    match frame:
        case Answer(ask=ask):
            return f"answer:{ask}"
        case Follow(follow=number) | Credit(follow=number):
            return f"follow:{number}"
        case (
            Open(request=request)
            | Prompt(request=request)
            | Cancel(request=request)
            | Call(request=request)
            | Verb(request=request)
        ):
            return request
        case Hello() | Unfollow() | Ping() | Pong() | Goodbye() | Part():
            return ""
        case _:
            assert_never(frame)


def decode_each(message: bytes, side: Any) -> list[Frame | FrameError]:
    """Return the frames of a message that `decode` refuses, and in the place of each that is none its own error."""
    if len(message) > MESSAGE_BYTES_MAX:
        return [FrameError(f"a message of {len(message)} bytes; the limit is {MESSAGE_BYTES_MAX}")]
    try:
        pieces = _pieces.decode(message)
    except UNREADABLE_ERRORS as error:
        return [FrameError(str(error))]
    frames: list[Frame | FrameError] = []
    for piece in pieces:
        try:
            frames.extend(decoder(side).decode(b"\x91" + bytes(piece)))
        except UNREADABLE_ERRORS as error:
            frames.append(FrameError(str(error), request_in(bytes(piece))))
    return frames


def chopped(message: bytes, frames_max: int) -> list[bytes]:
    """Return messages of up to `frames_max` frames each that say together what `message` says.

    It is left as it is when it has no more, or cannot be read. The frames are not opened.
    """
    first = message[0] if message else 0
    count = first - 0x90 if 0x90 <= first <= 0x9F else int.from_bytes(message[1 : 3 if first == 0xDC else 5], "big")
    if count <= frames_max or not (0x90 <= first <= 0x9F or first in (0xDC, 0xDD)):
        return [message]
    try:
        pieces = _pieces.decode(message)
    except UNREADABLE_ERRORS:
        return [message]
    return [array(pieces[at : at + frames_max]) for at in range(0, len(pieces), frames_max)]


def encode_or_fault(frames: Sequence[Frame]) -> tuple[list[bytes], list[str]]:
    """As `encode`, but in the place of a frame that cannot be sent goes a fault to whoever waits for it.

    Also returns a line about each of those.
    """
    try:
        return encode(frames), []
    except FrameError:
        messages: list[bytes] = []
        complaints: list[str] = []
        for frame in frames:
            try:
                messages.extend(encode([frame]))
            except FrameError as error:
                complaints.append(f"a frame of type {_type(frame)} was not sent: {error}")
                instead = _instead(frame, str(error))
                messages.extend(encode([instead]) if instead is not None else [])
        return messages, complaints


def _instead(frame: Frame, why: str) -> Fault | None:
    """Return what to tell a client that waits for `frame`, which cannot be sent; None when nobody does."""
    match frame:
        case Entries(follow=follow):
            code, request = LIMIT_REACHED, f"follow:{follow}"
        case Opened(request=request) | Accepted(request=request) | Result(request=request):
            code = LIMIT_REACHED
        case Fault(code=code, text=why, request=request):
            pass
        case _:
            return None
    return Fault(code, bodies.clipped(why, TEXT_CHARACTERS_MAX), bodies.clipped(request, ID_CHARACTERS_MAX + 20))


def _type(frame: Frame) -> str:
    return str(type(frame).__struct_config__.tag)
