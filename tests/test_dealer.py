"""One connection: what was sent on it before it broke arrives."""

import asyncio
from pathlib import Path
from typing import Any

import zmq

from understudy.protocol.dealer import Dealer
from understudy.protocol.frames import Frame, Goodbye, Ping, ToClient, encode

ROUNDS = 20


async def last_words(folder: Path) -> list[Frame]:
    """Return what a client hears of a house that says two things and is gone before the client looks."""
    address = f"ipc://{folder}/socket"
    house: zmq.Context[Any] = zmq.Context()
    router = house.socket(zmq.ROUTER)
    router.bind(address)
    heard: list[Frame] = []
    broken = asyncio.Event()
    context: zmq.Context[Any] = zmq.Context()
    dealer = Dealer(context, address, ToClient, heard.extend, lambda _: broken.set())
    dealer.send([Ping()])
    peer, _ = router.recv_multipart()
    for frame in (Ping(), Goodbye("the end")):
        router.send_multipart([peer, encode([frame])[0]])
    house.destroy(linger=1000)  # It blocks this loop until all of that is on its way.
    await broken.wait()
    context.destroy(0)
    return heard


def test_what_came_before_the_end_is_heard(tmp_path: Path) -> None:
    for _ in range(ROUNDS):
        assert [Ping(), Goodbye("the end")] == asyncio.run(last_words(tmp_path))
