import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.protocol.frames import (
    BODY_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Entries,
    Entry,
    Frame,
    FrameError,
    FromActor,
    FromClient,
    Part,
    Ping,
    Prompt,
    ToActor,
    ToClient,
    Updates,
    pack,
    unpack,
)
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.sizes import ID_CHARACTERS_MAX, NUMBER_MAX

SIDES = [FromClient, ToClient, FromActor, ToActor]
ids = st.text(min_size=1, max_size=ID_CHARACTERS_MAX)
prompts = st.builds(Prompt, request=ids, session=ids, body=st.binary(), serves=st.lists(ids, max_size=3))
updates = st.builds(
    Updates,
    n=st.integers(1, 2**62),
    session=ids,
    turn=st.integers(0, NUMBER_MAX),
    count=st.integers(1, 512),
    body=st.binary(),
)


@given(st.lists(prompts))
def test_decode_inverts_encode_for_clients(frames: list[Frame]) -> None:
    by = decoder(FromClient)

    assert frames == [frame for message in encode(frames) for frame in decode(message, by)]


@given(st.lists(updates))
def test_decode_inverts_encode_for_actors(frames: list[Frame]) -> None:
    by = decoder(FromActor)

    assert frames == [frame for message in encode(frames) for frame in decode(message, by)]


@pytest.mark.parametrize("side", SIDES)
@given(data=st.binary())
def test_decode_of_any_bytes_is_frames_or_a_frame_error(side: object, data: bytes) -> None:
    try:
        decode(data, decoder(side))
    except FrameError:
        pass


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner)))
def test_decode_of_any_msgpack_is_frames_or_a_frame_error(value: object) -> None:
    try:
        decode(pack(value) if not isinstance(value, int) or -(2**63) <= value < 2**64 else b"", decoder(FromClient))
    except (FrameError, OverflowError):
        pass


def test_deep_nesting_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        decode(b"\x91" * 100_000, decoder(FromClient))


def test_a_huge_announced_length_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        decode(b"\xdd\xff\xff\xff\xff", decoder(FromClient))


def test_decode_refuses_an_oversized_message_before_parsing_it() -> None:
    with pytest.raises(FrameError, match="the limit is"):
        decode(b"\x00" * (MESSAGE_BYTES_MAX + 1), decoder(FromClient))


def test_unknown_fields_are_ignored() -> None:
    assert [Ping()] == decode(pack([{"type": "ping", "grown": 1}]), decoder(FromClient))


def test_a_large_frame_travels_in_parts_and_is_joined() -> None:
    frame = Prompt("r", "s", b"x" * (5 << 20))
    messages = encode([frame])
    joiner = Joiner(FromClient)
    parts = [part for message in messages for part in decode(message, decoder(FromClient))]

    joined = [joiner.add(part) for part in parts if isinstance(part, Part)]

    assert all(len(message) <= MESSAGE_BYTES_MAX for message in messages)
    assert [frame] == [each for each in joined if each is not None]


def test_parts_as_large_as_earlier_versions_send_them_are_understood() -> None:
    packed = pack({"type": "prompt", "request": "r", "session": "s", "body": b"x" * (1 << 20)})
    joiner = Joiner(FromClient)
    joined: list[Frame | None] = []
    for at in range(0, len(packed), 1 << 19):
        piece = packed[at : at + (1 << 19)]
        message = pack([{"type": "part", "last": at + (1 << 19) >= len(packed), "piece": piece}])
        joined += [joiner.add(part) for part in decode(message, decoder(FromClient)) if isinstance(part, Part)]

    assert [None, None, Prompt("r", "s", b"x" * (1 << 20))] == joined


def test_many_large_entries_never_make_a_message_over_the_limit() -> None:
    entries = [Entry("s", at, at, 1, "update", b"y" * 300_000, 0.0) for at in range(1, 9)]

    assert all(len(message) <= MESSAGE_BYTES_MAX for message in encode([Entries(1, entries)]))


def test_a_frame_over_the_bound_is_refused() -> None:
    with pytest.raises(FrameError, match="the limit is"):
        encode([Prompt("r", "s", b"x" * (BODY_BYTES_MAX + 1))])


def test_parts_over_the_bound_are_refused_and_forgotten() -> None:
    joiner = Joiner(FromClient)
    for _ in range(BODY_BYTES_MAX >> 19):
        joiner.add(Part(False, b"x" * (1 << 19)))
    with pytest.raises(FrameError, match="in parts"):
        joiner.add(Part(False, b"x"))

    assert 0 == joiner.size


def test_garbage_in_a_body_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        unpack(b"\xc1")
