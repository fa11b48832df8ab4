"""Rehearsals: a turn, played to nobody, before there is a role.

After a fork each page that is written costs a copy. A first turn writes a few hundred: more than a millisecond, when
somebody waits. So a blank rehearses; and the keeper does before it forks anybody, for what Python notes down when code
runs for the first times (what it looked up where, which instructions fit) is written in each child again otherwise.
A rehearsal opens no connection, and what it marks as shown goes nowhere.
"""

import asyncio
import os
import signal
from collections.abc import Callable

from understudy.actors.actor import Actor, Role, Turn
from understudy.actors.host import Host, HousePlace
from understudy.protocol import signals
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
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
    pack,
)
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.shown import ShownFile

ROLE = Role("rehearsal", 0, (), "", {}, 0, 0, {}, "")
ROUNDS = 12  # A function is made quick at its ninth call.
PROMPT = pack([{"type": "text", "text": "a rehearsal"}])


def rehearse_often(house: HousePlace) -> None:
    """Play the turn as often as Python takes to settle. The caller holds back all signals, and runs no loop."""
    for _ in range(ROUNDS):
        asyncio.run(rehearse(house))


async def rehearse(house: HousePlace) -> None:
    """Play a turn from hello to goodbye."""
    nowhere = ShownFile(os.devnull)
    try:
        await Host(ROLE, house, "", nowhere, _Echo, _NoHouse).run()
    finally:
        signals.hear(signal.SIGTERM, signals.DEFAULT)
        nowhere.close()


class _Echo(Actor):
    async def play(self, turn: Turn) -> str:
        await turn.say(turn.text)
        return "end_turn"


class _NoHouse:
    """A connection that answers each frame as a supervisor would, through the codec of both sides."""

    def __init__(self, on_frames: Callable[[list[Frame]], None], on_broken: Callable[[str], None]) -> None:
        del on_broken
        self._on_frames = on_frames
        self._from_actor, self._to_actor = decoder(FromActor), decoder(ToActor)
        Joiner(ToActor)  # Each connection has one, and what it decodes with is made once.

    def send(self, frames: list[Frame]) -> None:
        for message in encode(frames) if frames else []:
            for frame in decode(message, self._from_actor):
                for answer in encode(_answers(frame)):
                    asyncio.get_running_loop().call_soon(self._on_frames, decode(answer, self._to_actor))

    def close(self, flush_ms: int = 0) -> None:
        pass


def _answers(frame: Frame) -> list[Frame]:
    match frame:
        case ActorHello():
            return [Welcome(BACKSTAGE_VERSION, 1), Handover("s", 1, "/", PROMPT)]
        case Begin(session=session, turn=turn):
            return [Go(session, turn)]
        case Ended(n=n):
            return [Recorded(n), Stop(0.1)]
        case Goodbye():
            return [Goodbye()]
        case _:
            return []
