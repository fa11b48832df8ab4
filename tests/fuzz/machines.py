"""The pure machines of both ends and safe mode's answers under fire: whatever comes, and whatever their users want said."""

from random import Random
from typing import Any

from tests.fuzz.making import BODIES, Live, Maker, pick
from understudy.protocol.backstage import Backstage, TurnHanded
from understudy.protocol.client_machine import ClientMachine
from understudy.protocol.doors import decode_each, encode_or_fault, wrong_with
from understudy.protocol.errors import LocalError
from understudy.protocol.frames import (
    Answer,
    Call,
    Cancel,
    Fault,
    FrameError,
    FromActor,
    FromClient,
    Open,
    Part,
    Prompt,
    ToActor,
    ToClient,
    Verb,
    Welcome,
)
from understudy.protocol.items import items
from understudy.protocol.messages import decode, decoder
from understudy.protocol.standing import Standing
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.shell.safe import answer

ODD_VALUES: list[Any] = [
    {"sessionUpdate": "x", "content": {"type": "text", "text": "fine"}},
    {"sessionUpdate": "x", "text": "half \ud83d of it"},
    {"big": 1 << 70, "\udce9": [1e999, -1e999]},
    {"nan": float("nan")},
    {"bytes": b"x"},
    {1: 2},
    {"set": {1, 2}},
    {"self": object()},
    ["no map"],
    "text",
    None,
    7,
]
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
ODD_VALUES += [{"deep": DEEP}, DEEP]
ODD_WORDS = ["end_turn", "x" * 300, "half \ud83d", "", "é" * 20_000]


def readable(message: bytes, side: Any) -> list[Any]:
    """Return the frames in `message` that the end behind `side` would hear."""
    try:
        frames: list[Any] = list(decode(message, decoder(side)))
    except FrameError:
        frames = decode_each(message, side)
    return [each for each in frames if not isinstance(each, FrameError | Part)]


def see_sendable(frames: list[Any], side: Any) -> None:
    """Assert that the other end takes all of `frames` as they are."""
    messages, complaints = encode_or_fault(frames)
    assert not complaints, complaints
    heard = [each for message in messages for each in decode(message, decoder(side))]
    assert heard == frames or any(isinstance(each, Part) for each in heard)


class FuzzedActor:
    """The actor's machine; its supervisor says anything, its driver wants anything said."""

    def __init__(self, random: Random) -> None:
        self._random, self._live = random, Live()
        self._maker = Maker(ToActor, random, self._live)
        self._machine = Backstage("a", 1, 7)
        self._turns: list[tuple[str, int]] = []
        self.taken = 0

    def step(self) -> None:
        """Let one thing happen."""
        random, machine = self._random, self._machine
        if machine.standing is Standing.REFUSED:
            machine, self._turns = Backstage("a", 1, 7), []
            self._machine = machine
        if machine.standing is Standing.DOWN or random.random() < 0.01:
            machine.disconnected()
            machine.connected()
            self._receive(Welcome(1, 1))
        frames = [self._maker.fields() for _ in range(pick(random, (1, 3, 6)))]
        for message in self._maker.message(*frames):
            for frame in readable(message, ToActor):
                self.taken += 1
                if not isinstance(frame, Fault) or random.random() < 0.1:
                    self._receive(frame)
        self._speak()
        see_sendable(list(self._machine.frames_to_send()), FromActor)

    def _receive(self, frame: Any) -> None:
        for happening in self._machine.receive(frame):
            if isinstance(happening, TurnHanded):
                self._turns.append((happening.handover.session, happening.handover.turn))

    def _speak(self) -> None:
        random, machine = self._random, self._machine
        value, word = pick(random, ODD_VALUES), pick(random, ODD_WORDS)
        session, turn = pick(random, self._turns) if self._turns else ("s", 0)
        try:
            match int(random.random() * 8):
                case 0 | 1:
                    machine.say(session, turn, value)
                case 2:
                    machine.ask(session, turn, word, value, public=random.random() < 0.5)
                case 3:
                    machine.remember(session, value)
                case 4:
                    machine.answer_call("c1", value)
                case 5:
                    machine.refuse_call("c1", word, word, value)
                case 6 if self._turns:
                    self._turns.remove((session, turn))
                    machine.end(
                        session, turn, word, pick(random, [None, {"text": word}, {"code": word, "detail": value}])
                    )
                case _:
                    machine.leave(word)
        except LocalError:
            pass


class FuzzedClient:
    """The client's machine; its house says anything, its user asks for anything."""

    def __init__(self, random: Random) -> None:
        self._random, self._live = random, Live()
        self._maker = Maker(ToClient, random, self._live)
        self._machine = ClientMachine("me")
        self._live.values["follow"] = [1, 2, 3]
        self.taken = 0

    def step(self) -> None:
        """Let one thing happen."""
        random = self._random
        if self._machine.standing is Standing.REFUSED:
            self._machine = ClientMachine("me")
        if self._machine.standing is Standing.DOWN:
            self._machine.connected()
            self._machine.receive(Welcome(1, 1))
        elif random.random() < 0.01:
            self._machine.disconnected()
            return
        frames = [self._maker.fields() for _ in range(pick(random, (1, 3, 6)))]
        for message in self._maker.message(*frames):
            for frame in readable(message, ToClient):
                self.taken += 1
                for happening in self._machine.receive(frame):
                    for entry in getattr(happening, "entries", ()):
                        items(entry, 1)
        self._want()
        see_sendable(list(self._machine.frames_to_send()), FromClient)

    def _want(self) -> None:
        random, machine = self._random, self._machine
        name, word = f"r{self.taken}.{random.random()}", pick(random, ODD_WORDS)
        frame: Any = pick(
            random,
            (
                Open(name, "a", word, pick(random, BODIES)),
                Prompt(name, "s", pick(random, BODIES), [word]),
                Cancel(name, "s", 1),
                Call(name, "s", word, pick(random, BODIES)),
                Verb(name, "status"),
                Answer("s", f"q{random.random()}", pick(random, BODIES), word),
            ),
        )
        if wrong_with(frame) is not None:
            return
        if isinstance(frame, Answer):
            machine.answer(frame)
        elif len(machine.pending) < 50:
            machine.request(frame)
            self._live.learn("request", name)
        else:
            machine.abandon(next(iter(machine.pending)))
        if random.random() < 0.1:
            number = machine.follow("s", 1)
            self._live.learn("follow", number, 3)
            if number > 3:
                machine.unfollow(number - 3)


class FuzzedSafeMode:
    """Safe mode's answers: each request has one."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._maker = Maker(FromClient, random, Live())
        self._house = HouseSpec((), "/nowhere", "/nowhere")
        self.taken = 0

    def step(self) -> None:
        """Let one thing happen."""
        frames = [self._maker.fields() for _ in range(4)]
        for message in self._maker.message(*frames):
            for frame in readable(message, FromClient):
                self.taken += 1
                said = answer(self._house, frame)
                asked = getattr(frame, "request", "")
                assert not asked or getattr(said, "request", "") == asked, (frame, said)
                if said is not None:
                    see_sendable([said], ToClient)
