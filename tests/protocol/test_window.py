"""What is under way to a house that has not acted on it has a bound; its pings are its own affair."""

import asyncio
from pathlib import Path
from typing import Any

import zmq

from understudy.protocol import window
from understudy.protocol.dealer import Dealer
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Frame,
    FromClient,
    Goodbye,
    Hello,
    Ping,
    Pong,
    Prompt,
    ToClient,
    Welcome,
)
from understudy.protocol.messages import decode, decoder, encode
from understudy.protocol.window import Window

WAIT_S_MAX = 20
PROMPT = Prompt("r", "s", b"x" * 50_000)


def test_so_much_may_be_under_way_and_each_answer_makes_room() -> None:
    made, pings = Window(), 0
    while made.open:
        pings += made.said(b"x" * 10_000, 0)
    assert window.UNDER_WAY_BYTES_MAX // window.PING_EVERY_BYTES - 1 == pings
    assert [] == made.without_its_pongs([Pong()])
    assert made.open


def test_answers_are_told_apart_by_their_order() -> None:
    made = Window()
    made.said(b"small", 1)
    assert made.said(b"x" * window.PING_EVERY_BYTES, 0)
    made.said(b"small", 2)

    assert [Pong(), Pong()] == made.without_its_pongs([Pong(), Pong(), Pong()])
    assert [Pong(), Welcome(1, 1)] == made.without_its_pongs([Pong(), Welcome(1, 1)])
    assert [Pong()] == made.without_its_pongs([Pong()])  # Nobody asked: somebody else may know why.


class House:
    """A house that answers only when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.rcvhwm = 0
        self.address = f"ipc://{folder}/house"
        self.socket.bind(self.address)
        self.peer = b""

    async def heard(self, until: int) -> list[Frame]:
        """Return the next `until` frames; fewer when nothing more comes."""
        frames: list[Frame] = []
        while len(frames) < until:
            wait_ms = 200 if frames else 1000 * WAIT_S_MAX
            if not await asyncio.to_thread(lambda: self.socket.poll(wait_ms)):  # noqa: B023 (it is waited for)
                break
            self.peer, message = self.socket.recv_multipart()
            frames += decode(message, decoder(FromClient))
        return frames

    def say(self, *frames: Frame) -> None:
        self.socket.send_multipart([self.peer, encode(frames)[0]])


def test_a_house_that_is_behind_is_told_no_more_until_it_answers_or_is_greeted_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        house = House(tmp_path)
        heard: list[Frame] = []
        greeted = asyncio.Event()

        def hear(frames: list[Frame]) -> None:
            heard.extend(frames)
            if Welcome(PROTOCOL_VERSION, 1) in frames:
                greeted.set()

        dealer = Dealer(house.context, house.address, ToClient, hear, lambda _: None)
        try:
            dealer.send([Hello(PROTOCOL_VERSION, "c")])
            for _ in range(100):
                dealer.send([PROMPT])
            dealer.send([Ping()])
            dealer.send([Goodbye("the last")])
            frames = await house.heard(1000)
            sent = frames.count(PROMPT)
            assert sent * 50_000 < window.UNDER_WAY_BYTES_MAX + 100_000
            while Goodbye("the last") not in frames:
                house.say(*[Pong()] * frames.count(Ping()))
                frames = await house.heard(1)
                sent += frames.count(PROMPT)
            house.say(*[Pong()] * frames.count(Ping()), Welcome(PROTOCOL_VERSION, 1))
            async with asyncio.timeout(WAIT_S_MAX):
                await greeted.wait()
            assert 100 == sent
            assert [Pong(), Welcome(PROTOCOL_VERSION, 1)] == heard  # Only that for which the user asked.

            for _ in range(100):
                dealer.send([PROMPT])
            assert (await house.heard(1000)).count(PROMPT) < 100
            dealer.send([Hello(PROTOCOL_VERSION, "c"), Ping()])
            assert [Hello(PROTOCOL_VERSION, "c"), Ping()] == await house.heard(2)
            for _ in range(100):
                dealer.send([PROMPT])
            dealer.send([Goodbye("the end")])
            dealer.close(flush_ms=1000 * WAIT_S_MAX)  # Then all goes, whether it was acted on or not.
            frames = [each for each in await house.heard(1000) if each != Ping()]
            assert [*[PROMPT] * 100, Goodbye("the end")] == frames
        finally:
            dealer.close()
            house.context.destroy(0)

    asyncio.run(scene())
