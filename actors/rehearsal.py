"""A blank's rehearsal: one turn, played to nobody, before there is a role.

After a fork each page that is written costs a copy. A first turn writes a few hundred: more than a millisecond,
when somebody waits. It opens no connection, and what it marks as shown goes nowhere.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, cast

from understudy.actors.actor import Actor, Role, Turn
from understudy.actors.host import Host, HousePlace
from understudy.protocol.dealer import Dealer
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    ActorHello,
    Begin,
    Ended,
    Frame,
    FromActor,
    Go,
    Goodbye,
    Handover,
    Recorded,
    Stop,
    ToActor,
    Welcome,
    decode,
    decoder,
    encode,
    pack,
)
from understudy.protocol.shown import ShownFile

ROLE = Role("rehearsal", 0, (), "", {}, 0, 0, {}, "")
PROMPT = pack([{"type": "text", "text": "a rehearsal"}])


async def rehearse(house: HousePlace) -> None:
    """Play a turn from hello to goodbye."""
    try:
        await _Rehearsal(ROLE, house, "", cast("Any", _NoContext()), _NoHouse()).run()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


class _Echo(Actor):
    async def play(self, turn: Turn) -> str:
        await turn.say(turn.text)
        return "end_turn"


class _Rehearsal(Host):
    def cast(self) -> Actor:
        return _Echo(self._role, self)

    def open_shown(self) -> ShownFile:
        return _NoFile()


class _NoHouse(Dealer):
    """Answers each frame as a supervisor would, through the codec of both sides."""

    def __init__(self) -> None:
        self.closed = False
        self._from_actor, self._to_actor = decoder(FromActor), decoder(ToActor)

    def attend(self, on_frames: Callable[[list[Frame]], None], on_broken: Callable[[str], None]) -> None:
        self._on_frames, self._on_broken = on_frames, on_broken

    def send(self, frames: list[Frame]) -> None:
        for message in encode(frames) if frames else []:
            for frame in decode(message, self._from_actor):
                for answer in encode(_answers(frame)):
                    asyncio.get_running_loop().call_soon(self._on_frames, decode(answer, self._to_actor))

    def close(self, flush_ms: int = 0) -> None:
        del flush_ms
        self.closed = True


def _answers(frame: Frame) -> list[Frame]:
    match frame:
        case ActorHello():
            return [Welcome(PROTOCOL_VERSION, 1), Handover("s", 1, "/", PROMPT)]
        case Begin(session=session, turn=turn):
            return [Go(session, turn)]
        case Ended(n=n):
            return [Recorded(n), Stop(0.1)]
        case Goodbye():
            return [Goodbye()]
        case _:
            return []


class _NoFile(ShownFile):
    def __init__(self) -> None:
        self._file = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._slots = {}
        self._free = []

    def over(self, session: str, turn: int) -> None:
        super().over(session, turn)
        os.close(self._file)  # There is one turn.


class _NoContext:
    """All of a ZeroMQ context that a host needs to end."""

    def destroy(self, linger: int) -> None:
        del linger
