"""Makes frames of one side from what their own definitions say: right, nearly right, at and over each bound, and garbage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import inspect

from understudy.protocol.frames import PART_BYTES, Frame, Part, pack
from understudy.protocol.sizes import NESTING_MAX

Picked = TypeVar("Picked")
TEXT = [{"type": "text", "text": "hello"}]
BODIES = [
    pack(TEXT),
    pack([{"type": "text", "text": "é" * 300}, {"type": "resource", "resource": {"uri": "file:///x", "text": "y"}}]),
    pack({"text": "said", "detail": [1, 2.5, None, True, {"deep": [[[]]]}]}),
    pack({"names": ["a"]}),
    pack({"names": ["a", "b"], "signal": 10}),
    pack({"names": ["all"], "hurry": True, "session": "s"}),
    pack([{"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "u"}}]),
    pack([{"sessionUpdate": "x"}] * 7),
    pack({}),
    pack(None),
    b"",
    b"\x91" * (NESTING_MAX - 1) + b"\x90",
    b"\x91\x81\xa1x" + b"\x91" * (NESTING_MAX - 3) + b"\x90",
]
ODD_BODIES = [
    b"\x91" * NESTING_MAX + b"\x90",
    b"\x91" * 960 + b"\x90",
    b"\x81\xa1k" * 40_000 + b"\xc0",
    pack(math.nan),
    pack([math.inf]),
    pack({"names": ["a"], "signal": math.inf}),
    pack({"names": 7, "signal": "x"}),
    pack({"names": ["x" * 65] * 3}),
    pack({1: 2}),
    pack([b"bytes"]),
    b"\xa3\xed\xb3\xa9",
    b"\xc1",
    b"\x90\x90",
    b"\xdd\xff\xff\xff\xff",
    b"\x92\x01",
    b"\xd4\x01\x01",
    b"\x91\x81\xa4text\xa3\xed\xa0\x80",
    pack([{"type": "text", "text": " "}]),
    pack([]),
]
SMALL = [0, 1, 1, 2, 3, 70]
ODD_TEXTS = ["", "é☃", "x" * 60]
WRONG_TYPES: list[Any] = [
    None,
    True,
    -1,
    7,
    2**63,
    2**64 - 1,
    0.5,
    math.nan,
    math.inf,
    "",
    "x",
    b"",
    b"x",
    [],
    [[]],
    {},
]


def pick(random: Random, options: Sequence[Picked]) -> Picked:
    """Return one of `options`; `Random.choice` takes four times as long."""
    return options[int(random.random() * len(options))]


@dataclass(slots=True)
class Live:
    """What the one under fire knows at the moment, so that frames reach deep. By a field's name."""

    values: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])

    def learn(self, name: str, value: Any, most: int = 40) -> None:
        """Keep `value` among the newest ones of its kind."""
        known = self.values.setdefault(name, [])
        known.append(value)
        del known[:-most]


class Maker:
    """Makes messages for one side of a socket: `FromClient`, `ToClient`, `FromActor` or `ToActor`."""

    def __init__(self, side: Any, random: Random, live: Live) -> None:
        self._random, self._live = random, live
        self._types: list[Any] = [inspect.type_info(kind) for kind in get_args(side) if kind is not Part]
        self._by_tag = {each.tag: each for each in self._types}

    def fields(self, tag: str = "") -> dict[str, Any]:
        """Return one frame as a map: of the type `tag`, or of any."""
        random = self._random
        return self._map(self._by_tag.get(tag) or pick(random, self._types))

    def message(self, *frames: dict[str, Any]) -> list[bytes]:
        """Return the messages that carry `frames`, now and then damaged on the way or in parts."""
        random = self._random
        packed = [pack(each) for each in frames]
        if random.random() < 0.005:
            return [random.randbytes(random.randrange(60))]
        if random.random() < 0.01:
            return self._in_parts(random.choice(packed))
        message = bytes([0x90 + len(packed)]) + b"".join(packed)
        return [self._damaged(message) if random.random() < 0.03 else message]

    def _map(self, kind: Any) -> dict[str, Any]:
        frame = {kind.tag_field: kind.tag}
        for each in kind.fields:
            if each.required or self._random.random() < 0.6:
                frame[each.name] = self._value(each.name, each.type)
        if self._random.random() < 0.01:
            frame.pop(self._random.choice(list(frame)))
        if self._random.random() < 0.01:
            frame["grown"] = [1]
        return frame

    def _value(self, name: str, kind: Any) -> Any:
        random, chance = self._random, self._random.random()
        known = self._live.values.get(name)
        if chance < 0.85 and known:
            return pick(random, known)
        if chance < 0.01:
            return pick(random, WRONG_TYPES)
        if chance < 0.02 and not isinstance(kind, inspect.BytesType | inspect.ListType):
            return at_bound(kind, over=True)
        if chance < 0.04 and not isinstance(kind, inspect.BytesType | inspect.ListType):
            return at_bound(kind, over=False)
        return self._fresh(name, kind)

    def _fresh(self, name: str, kind: Any) -> Any:
        random = self._random
        match kind:
            case inspect.StrType():
                return f"{name}{int(random.random() * 30)}" if random.random() < 0.9 else pick(random, ODD_TEXTS)
            case inspect.IntType():
                return pick(random, SMALL)
            case inspect.FloatType():
                return random.choice((0.0, 1.5, 60.0))
            case inspect.BoolType():
                return random.random() < 0.7
            case inspect.BytesType():
                return pick(random, BODIES if random.random() < 0.9 else ODD_BODIES)
            case inspect.ListType(item_type=item):
                return [self._fresh(name, item) for _ in range(random.choice((0, 0, 1, 2)))]
            case inspect.DictType(key_type=key, value_type=value):
                count = random.choice((0, 0, 0, 1, 2))
                return {self._fresh("V", key): self._fresh(name, value) for _ in range(count)}
            case inspect.StructType(fields=fields):  # An entry, which travels as an array.
                return [self._value(each.name, each.type) for each in fields]
            case _:
                raise AssertionError(f"a field of a kind that no fuzzer makes: {name}: {kind}")

    def _damaged(self, message: bytes) -> bytes:
        random, bytes_left = self._random, bytearray(message)
        for _ in range(random.choice((1, 1, 3))):
            at = random.randrange(len(bytes_left))
            match random.randrange(4):
                case 0:
                    bytes_left[at] = random.randrange(256)
                case 1:
                    bytes_left[at] ^= 1 << random.randrange(8)
                case 2:
                    del bytes_left[at:]
                    bytes_left += b"\xc0"
                case _:
                    bytes_left[at:at] = random.randbytes(2)
        return bytes(bytes_left)

    def _in_parts(self, frame: bytes) -> list[bytes]:
        """Cut a frame into parts; now and then one is lost, empty, or holds a part itself."""
        random = self._random
        step = random.choice((len(frame) // 2 + 1, PART_BYTES))
        pieces = [frame[at : at + step] for at in range(0, len(frame), step)]
        if random.random() < 0.2:
            pieces[-1] = pack({"type": "part", "last": True, "piece": b"\xc0"})
        if random.random() < 0.2:
            pieces.insert(0, b"")
        if random.random() < 0.1:
            pieces.pop()
        return [
            pack([{"type": "part", "last": at == len(pieces) - 1, "piece": piece}]) for at, piece in enumerate(pieces)
        ]


def at_bound(kind: Any, over: bool) -> Any:
    """Return the largest value of a field's type, or with `over` the smallest that is too large."""
    match kind:
        case inspect.StrType(max_length=int(most)):
            return "x" * (most + over)
        case inspect.BytesType(max_length=int(most)):
            return bytes(most + over)
        case inspect.IntType(le=int(most)):
            return most + over
        case inspect.FloatType(le=float(most)):
            return math.nextafter(most, math.inf) if over else most
        case inspect.ListType(item_type=item, max_length=int(most)):
            return [_plain(item)] * (most + over)
        case inspect.DictType(max_length=int(most)):
            return {f"V{at}": "x" for at in range(most + over)}
        case inspect.BoolType():
            return 2 if over else True
        case _:
            raise AssertionError(f"a field without a bound: {kind}")


def _plain(kind: Any) -> Any:
    return ["s", 1, 1, 1, "note", b"", 0.0] if isinstance(kind, inspect.StructType) else "x"


def as_map(frame: Frame) -> dict[str, Any]:
    """Return a frame as the map that it travels as."""
    return dict(msgspec.msgpack.decode(pack(frame)))
