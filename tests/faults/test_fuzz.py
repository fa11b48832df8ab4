"""A real house under the fuzzer's fire, over its sockets: the same supervisor afterwards, others' asks answered meanwhile."""

import asyncio
from random import Random
from typing import Any

import pytest
import zmq

from tests.faults.house import RealHouse
from tests.fuzz.making import Live, Maker, as_map
from understudy.protocol.client import connect
from understudy.protocol.doors import decode_each
from understudy.protocol.frames import PROTOCOL_VERSION, FromActor, FromClient, Hello, Opened, ToClient
from understudy.protocol.paths import backstage_address, gateway_address

MESSAGES = 9_000
FRAMES_PER_CONNECTION = 500


def flood(address: str, side: Any, seed: int) -> int:
    """Send messages of a fuzzer's to one socket, over a connection after the other; return how many frames."""
    random, live, sent = Random(seed), Live(), 0
    live.values["agent"] = ["rehearsal"]
    live.values["verb"] = ["status", "sessions", "house"]
    maker = Maker(side, random, live)
    context: zmq.Context[Any] = zmq.Context()
    try:
        for connection in range(MESSAGES // FRAMES_PER_CONNECTION):
            socket = context.socket(zmq.DEALER)
            socket.linger = 1000
            socket.connect(address)
            if side is FromClient:
                socket.send(maker.message(as_map(Hello(PROTOCOL_VERSION, f"fuzz{connection}")))[0])
            for _ in range(FRAMES_PER_CONNECTION):
                frames = [maker.fields() for _ in range(random.choice((1, 2, 4)))]
                for message in maker.message(*frames):
                    socket.send(message)
                sent += len(frames)
                while socket.poll(0):
                    for heard in decode_each(socket.recv(), ToClient):
                        if isinstance(heard, Opened):
                            live.learn("session", heard.session)
            socket.close()
    finally:
        context.term()
    return sent


@pytest.mark.faults
def test_a_house_under_fire_at_both_sockets_answers_others_and_keeps_its_supervisor(house: RealHouse) -> None:
    supervisor = house.supervisor()

    async def asked_meanwhile() -> tuple[int, int]:
        async with connect(house.runtime_dir) as client:
            session = await client.open("rehearsal")
            floods = asyncio.gather(
                asyncio.to_thread(flood, gateway_address(house.runtime_dir), FromClient, 1),
                asyncio.to_thread(flood, backstage_address(house.runtime_dir), FromActor, 2),
            )
            asks = 0
            while not floods.done():
                assert "hello" == await session.ask("hello")
                asks += 1
            return sum(await floods), asks

    sent, asks = asyncio.run(asked_meanwhile())

    assert sent >= 2 * MESSAGES
    assert asks > 0
    assert supervisor == house.supervisor()
    assert "set apart" not in house.log()
    assert " broke: " not in house.log()
