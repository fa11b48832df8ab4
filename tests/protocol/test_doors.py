"""The check at the door: each field of each frame at, under and over its bound; what one end sends, the other takes."""

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from tests.fuzz.making import at_bound
from understudy.protocol import bodies, doors
from understudy.protocol.backstage import Backstage
from understudy.protocol.doors import about, decode_each, encode_or_fault, wrong_with, wrong_with_body
from understudy.protocol.errors import BAD_FRAME, LIMIT_REACHED, LocalError
from understudy.protocol.frames import (
    MESSAGE_BYTES_MAX,
    Answer,
    Ask,
    Call,
    Ended,
    Entries,
    Entry,
    Fault,
    Follow,
    Frame,
    FrameError,
    FromActor,
    FromClient,
    Goodbye,
    Handover,
    Open,
    Part,
    Ping,
    Prompt,
    Result,
    ToActor,
    ToClient,
    Updates,
    Verb,
    Welcome,
    pack,
    unpack,
)
from understudy.protocol.items import items
from understudy.protocol.mending import mended
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.sizes import (
    BODY_BYTES_MAX,
    ENTRY_BYTES_MAX,
    NESTING_MAX,
    PATH_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    RESULT_BYTES_MAX,
    TEXT_CHARACTERS_MAX,
)

SIDES = [FromClient, ToClient, FromActor, ToActor]
TEXT = pack([{"type": "text", "text": "x"}])
FIELDS = [
    pytest.param(side, kind, field, id=f"{side_name}-{kind.__name__}-{field.name}")
    for side_name, side in zip(("FromClient", "ToClient", "FromActor", "ToActor"), SIDES, strict=True)
    for kind in get_args(side)
    for field in inspect.type_info(kind).fields  # type: ignore[attr-defined]
]


def least(kind: Any) -> Any:
    """Return the smallest value of a field's type."""
    match kind:
        case inspect.StrType(min_length=least):
            return "x" * (least or 0)
        case inspect.BytesType(min_length=least):
            return b"x" * (least or 0)
        case inspect.IntType(ge=int(low)) | inspect.FloatType(ge=float(low)):
            return low
        case inspect.ListType():
            return []
        case inspect.DictType():
            return {}
        case _:
            return False


def plain(kind: Any) -> dict[str, Any]:
    """Return a frame's smallest map."""
    info: Any = inspect.type_info(kind)
    return {"type": info.tag} | {field.name: least(field.type) for field in info.fields if field.required}


def taken(side: Any, frame: dict[str, Any]) -> str:
    """Return "" when the side's decoder takes the frame, else why it does not. A large one goes in parts, as it would."""
    try:
        whole = pack(frame)
        if len(whole) < MESSAGE_BYTES_MAX:
            decode(pack([frame]), decoder(side))
        else:
            Joiner(side).add(Part(last=True, piece=whole))
    except FrameError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("side", "kind", "field"), FIELDS)
def test_a_field_is_taken_at_its_bounds_and_refused_beyond_with_its_place(side: Any, kind: Any, field: Any) -> None:
    frame = plain(kind)

    assert "" == taken(side, {**frame, field.name: least(field.type)})
    assert "" == taken(side, {**frame, field.name: at_bound(field.type, over=False)})
    assert f".{field.name}`" in taken(side, {**frame, field.name: at_bound(field.type, over=True)})


@pytest.mark.parametrize(("side", "kind", "field"), FIELDS)
def test_a_field_under_its_bound_or_of_another_kind_is_refused_with_its_place(side: Any, kind: Any, field: Any) -> None:
    frame = plain(kind)
    match field.type:
        case inspect.IntType(ge=int(low)):
            wrong: list[Any] = [low - 1, 0.5, math.inf, "1", None]
        case inspect.FloatType(ge=float(low)):
            wrong = [math.nextafter(low, -math.inf), math.inf, -math.inf, math.nan, "1", None]
        case inspect.StrType(min_length=low):
            wrong = ["x" * (low - 1)] if low else []
            wrong += [7, b"x", None]
        case inspect.BytesType(min_length=low):
            wrong = [bytes(low - 1)] if low else []
            wrong += [7, None]
        case inspect.DictType():
            wrong = [7, []]
            for inner in ({"x": 7}, {7: "x"}):
                assert f".{field.name}" in taken(side, {**frame, field.name: inner})
        case _:
            wrong = [7, {}]

    for value in wrong:
        assert f".{field.name}`" in taken(side, {**frame, field.name: value}), value


def test_a_text_that_is_no_utf8_is_refused_in_every_field() -> None:
    whole = pack([plain(Open) | {"request": "r", "cwd": "@@@"}]).replace(b"@@@", b"\xed\xb3\xa9")

    with pytest.raises(FrameError, match="utf-8"):
        decode(whole, decoder(FromClient))
    (error,) = decode_each(whole, FromClient)
    assert isinstance(error, FrameError)
    assert "r" == error.request


# --- both ends agree ---

texts = st.text(st.characters(), max_size=5) | st.sampled_from(["x" * 200, "x" * 201, "half \ud83d", ""])
numbers = st.sampled_from([0, 1, 2**40 - 1, 2**40, -1, 2**64])
packed = st.sampled_from(
    [b"", TEXT, pack({}), pack(None), pack(math.nan), pack([b"x"]), b"\xc1", b"\x90\x90", pack({"n": [1, 2, {}]})]
) | st.recursive(st.none() | st.integers(0, 9) | st.floats() | texts, lambda inner: st.lists(inner, max_size=3)).map(
    lambda value: bodies.fit(value)
)
wanted = (
    st.builds(Open, request=texts, agent=texts, cwd=texts, body=packed, env=st.dictionaries(texts, texts, max_size=2))
    | st.builds(Prompt, request=texts, session=texts, body=packed, serves=st.lists(texts, max_size=2))
    | st.builds(Call, request=texts, session=texts, method=texts, body=packed)
    | st.builds(Answer, session=texts, ask=texts, body=packed, error=texts)
    | st.builds(Verb, request=texts, verb=texts, body=packed)
    | st.builds(Follow, follow=numbers, session=texts, number=numbers, credit=numbers)
)


@given(wanted)
def test_what_a_client_is_let_send_the_house_takes_and_nothing_else(frame: Any) -> None:
    try:
        (message,) = encode([frame])
        (heard,) = decode(message, decoder(FromClient))
        refused = wrong_with_body(heard) is not None  # type: ignore[arg-type]
    except FrameError:
        refused = True

    assert refused is (wrong_with(frame) is not None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(anything, anything, st.text(st.characters(), max_size=300))
def test_whatever_json_holds_an_actor_can_say_and_the_house_takes(said: Any, asked: Any, word: str) -> None:
    machine = playing()
    machine.say("s", 1, {"sessionUpdate": "x", "value": said})
    machine.ask("s", 1, "m", asked, public=True)
    machine.end("s", 1, word, {"text": said})
    machine.leave(word)

    frames = machine.frames_to_send()
    heard = [each for message in encode(frames) for each in decode(message, decoder(FromActor))]

    assert frames == heard
    assert [""] * 3 == [bodies.wrong_with(each.body) for each in heard if isinstance(each, Updates | Ask | Ended)]


def playing() -> Backstage:
    machine = Backstage("a", 1, 7)
    machine.connected()
    machine.frames_to_send()
    machine.receive(Welcome(1, 1))
    machine.receive(Handover("s", 1, "/", TEXT, go=True))
    return machine


@given(anything)
def test_what_was_accepted_can_be_read_back(value: Any) -> None:
    body = pack(mended(value))

    assert "" == bodies.wrong_with(body)
    assert unpack(body) == unpack(pack(unpack(body)))


# --- weighing, parts, faults ---


@pytest.mark.parametrize(
    ("side", "frame"),
    [
        (FromClient, Prompt("r", "s", TEXT, ["x" * 200] * 100)),
        (FromClient, Open("r", "a", "☃" * PATH_CHARACTERS_MAX, bytes(4 << 20))),
        (ToClient, Entries(1, [Entry("s", at, at, 1, "k" * 200, b"", 0.0) for at in range(9_000)])),
        (ToClient, Fault("c", "☃" * TEXT_CHARACTERS_MAX, "r", bytes(ENTRY_BYTES_MAX))),
        (ToClient, Result("é" * 200, bytes(RESULT_BYTES_MAX))),
        (ToActor, Handover("s", 1, "☃" * 4096, bytes(16 << 20), bytes(4 << 20), bytes(4 << 20), ["m" * 200] * 100)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Frame) else "",
)
def test_a_frame_is_weighed_as_it_is_encoded(side: Any, frame: Frame) -> None:
    messages = encode([Ping(), frame, Ping()])
    joiner = Joiner(side)
    frames = [each for message in messages for each in decode(message, decoder(side))]
    whole = [joiner.add(each) if isinstance(each, Part) else each for each in frames]

    assert max(map(len, messages)) <= MESSAGE_BYTES_MAX
    assert [Ping(), frame, Ping()] == [each for each in whole if each is not None]


def test_a_part_in_a_part_a_part_of_nothing_and_another_sides_frame_are_no_frames() -> None:
    inner = pack({"type": "part", "last": True, "piece": b"\xc0"})
    for piece in (inner, pack({"type": "updates", "request": "r"}), b"\xc1"):
        with pytest.raises(FrameError):
            Joiner(FromClient).add(Part(last=True, piece=piece))
    with pytest.raises(FrameError, match="length >= 1"):
        decode(pack([{"type": "part", "last": False, "piece": b""}]), decoder(FromClient))


def test_what_cannot_be_read_names_who_waits_and_takes_no_other_frame_with_it() -> None:
    good = plain(Verb) | {"request": "good", "verb": "status"}
    bad = [
        good | {"request": "bad", "verb": 7},
        {"type": "answer", "session": "s", "ask": "q", "error": "x" * 20_000},
        {"type": "follow", "follow": 9, "session": None},
        {"type": "prompt", "request": "x" * 201},
        7,
    ]
    frames = decode_each(pack([good, *bad, good]), FromClient)

    assert [Verb("good", "status")] * 2 == [frames[0], frames[-1]]
    assert ["bad", "answer:q", "follow:9", "", ""] == [getattr(each, "request", None) for each in frames[1:-1]]
    with pytest.raises(FrameError) as failure:
        Joiner(FromClient).add(Part(last=True, piece=pack(bad[0])))
    assert "bad" == failure.value.request


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (Result("r", bytes(BODY_BYTES_MAX)), (LIMIT_REACHED, "r")),
        (Entries(7, [Entry("s", 1, 1, 1, "note", bytes(BODY_BYTES_MAX), 0.0)]), (LIMIT_REACHED, "follow:7")),
        (Fault("code", "half \ud83d", "r"), ("code", "r")),
    ],
)
def test_what_cannot_be_sent_is_told_to_whoever_asked(frame: Frame, told: tuple[str, str]) -> None:
    messages, complaints = encode_or_fault([Ping(), frame, Ping()])
    heard = [each for message in messages for each in decode(message, decoder(ToClient))]

    assert [Ping(), Ping()] == [heard[0], heard[2]]
    assert isinstance(heard[1], Fault)
    assert told == (heard[1].code, heard[1].request)
    assert 1 == len(complaints)


def test_what_an_actor_cannot_be_told_is_left_out() -> None:
    assert ([], 1) == (lambda sent: (sent[0], len(sent[1])))(encode_or_fault([Handover("s", 1, "\udce9", b"")]))


def test_each_frame_that_somebody_waits_for_can_be_named() -> None:
    assert ["r", "answer:q", "follow:3", ""] == [
        about(each) for each in (Verb("r", "status"), Answer("s", "q"), Follow(3, "s"), Ping())
    ]


# --- the actor's side ---


def test_what_was_mended_is_told_once_in_a_turn() -> None:
    machine = playing()
    machine.say("s", 1, {"a": "half \ud83d", "b": math.nan, "c": 1 << 70})
    first = machine.frames_to_send()
    machine.say("s", 1, {"a": math.inf})
    second = machine.frames_to_send()

    assert [(True, [{"a": "half \ufffd", "b": None, "c": str(1 << 70)}])] == [
        (each.mended, unpack(each.body)) for each in first if isinstance(each, Updates)
    ]
    assert [False] == [each.mended for each in second if isinstance(each, Updates)]


DEEP: Any = "x"
for _ in range(NESTING_MAX + 1):
    DEEP = [DEEP]


@pytest.mark.parametrize("update", [{"a": DEEP}, {"a": b"x"}, {1: 2}, {"a": object()}, "text", {"a": "x" * (17 << 20)}])
def test_what_no_editor_could_be_shown_is_refused_to_the_agent(update: Any) -> None:
    machine = playing()

    with pytest.raises(LocalError):
        machine.say("s", 1, update)
    assert [] == machine.frames_to_send()


@pytest.mark.parametrize(
    "body", [{"text": DEEP}, {"text": b"x"}, {"text": "x" * (17 << 20), "code": "c" * 300}, {1: 2}]
)
@pytest.mark.parametrize("reason", ["x" * (2 << 20), "half \ud83d"])
def test_an_ending_is_never_left_unsaid(reason: str, body: Any) -> None:
    machine = playing()
    machine.end("s", 1, reason, body)
    machine.refuse_call("c1", reason, reason, body)
    machine.leave(reason)

    heard = [each for message in encode(machine.frames_to_send()) for each in decode(message, decoder(FromActor))]

    assert [Ended, Fault, Goodbye] == [type(each) for each in heard]
    assert isinstance(heard[0], Ended)
    assert len(heard[0].reason) <= REASON_CHARACTERS_MAX
    assert "dropped" in unpack(heard[0].body)["text"]


# --- who reads ---


@pytest.mark.parametrize(
    "body", [b"\xc1", pack(7), pack([1, 2]), pack([{}]), b"\x91" * 5000, b"\x92\x80\xa3\xed\xa0\x80"]
)
def test_a_reader_reads_on_past_what_nobody_can_read(body: bytes) -> None:
    found = items(Entry("s", 4, 5, 1, "update", body, 0.0), 5)

    assert [5] == [item.number for item in found]
    assert "unreadable" == found[0].body["sessionUpdate"]


@pytest.mark.parametrize("frame", [Follow(1, "s"), Verb("v", "status"), Prompt("p", "s", TEXT)])
def test_a_door_lets_a_good_frame_through(frame: Any) -> None:
    assert wrong_with(frame) is None


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (Prompt("r", "s", bytes(ENTRY_BYTES_MAX + 1)), "the prompt has 16777217 bytes"),
        (Answer("s", "q", bytes(ENTRY_BYTES_MAX + 1)), "the answer has 16777217 bytes"),
        (Call("r", "s", "m", bytes(ENTRY_BYTES_MAX + 1)), "the body of the call has 16777217 bytes"),
        (Open("r", "a", "/", bytes((4 << 20) + 1)), "what opens the session has 4194305 bytes"),
        (Verb("r", "status", bytes((1 << 18) + 1)), "the body of the verb has 262145 bytes"),
    ],
    ids=["prompt", "answer", "call", "open", "verb"],
)
def test_a_body_over_its_bound_is_refused_at_both_ends_with_its_size(frame: Any, said: str) -> None:
    joiner = Joiner(FromClient)
    parts = [each for message in encode([frame]) for each in decode(message, decoder(FromClient))]
    (heard,) = [whole for part in parts if (whole := joiner.add(part) if isinstance(part, Part) else part)]

    for wrong in (wrong_with(frame), wrong_with_body(heard)):  # type: ignore[arg-type]
        assert wrong is not None
        assert (LIMIT_REACHED, True) == (wrong.code, wrong.text.startswith(said))


def test_a_wrong_frame_is_refused_before_it_is_sent_with_its_place_and_a_code() -> None:
    long = wrong_with(Open("r", "a", "x" * 1_100_000))
    odd = wrong_with(Prompt("r", "s", pack([{"type": "text", "n": math.inf}])))
    half = wrong_with(Answer("s", "q", error="half \ud83d"))

    assert long is not None
    assert (LIMIT_REACHED, True) == (long.code, "length <= 4096 - at `$.cwd`" in long.text)
    assert odd is not None
    assert (BAD_FRAME, "the prompt: a number that is not finite - at $[0].n") == (odd.code, odd.text)
    assert half is not None
    assert (BAD_FRAME, True) == (half.code, "'half \\ud83d' is no text" in half.text)


@pytest.mark.parametrize("kind", [each for each in get_args(FromClient) if "body" in each.__struct_fields__])
def test_every_body_that_a_client_sends_is_looked_at(kind: type) -> None:
    assert kind in doors._BODIES  # noqa: SLF001


@pytest.mark.parametrize(
    "kind", [each for each in get_args(ToClient) if {"request", "follow"} & {*each.__struct_fields__}]
)
def test_whoever_waits_for_what_cannot_be_sent_is_told(kind: Any) -> None:
    values = {"request": "r", "follow": 7, "entries": [], "turn": 1}
    fault = doors._instead(kind(**{name: values.get(name, "x") for name in kind.__struct_fields__}), "too large")  # noqa: SLF001

    assert fault is not None
    assert fault.request == ("follow:7" if kind is Entries else "r")
