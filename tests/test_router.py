"""The one way to touch a ROUTER: whoever is given up there is told, and what was its is given back."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Fault,
    Frame,
    FromClient,
    Goodbye,
    Hello,
    Part,
    Prompt,
    ToClient,
    Unfollow,
    Welcome,
    decode,
    decoder,
    encode,
)
from understudy.supervisor import parts, sockets, unread
from understudy.supervisor.sockets import Router

MIB = 1 << 20
WAIT_S_MAX = 20


class Ends:
    """A router that knows everybody who said hello, and a bare client of it."""

    def __init__(self, folder: Path) -> None:
        self.told = asyncio.Event()
        self.heard: list[Frame] = []
        self.steps: list[int] = []
        self.lost: list[bytes] = []
        self.known: set[bytes] = set()
        self.context: zmq.Context[Any] = zmq.Context()
        address = f"ipc://{folder}/gateway"
        self.router = Router(
            self.context,
            address,
            FromClient,
            str(folder),
            self._hear,
            self._lose,
            lambda: None,
            self.known.__contains__,
            lambda _: None,
        )
        self.client: Any = self.context.socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 1)):
            self.client.setsockopt(option, value)
        self.client.connect(address)

    def _hear(self, peer: bytes, frames: list[Frame]) -> None:
        self.steps.append(len(frames))
        self.heard.extend(frames)
        self.told.set()
        if isinstance(frames[0], Hello):
            self.known.add(peer)
            self.router.send(peer, Welcome(PROTOCOL_VERSION, 1))

    def _lose(self, peer: bytes) -> None:
        self.lost.append(peer)
        self.told.set()
        self.known.discard(peer)

    def send(self, *frames: Frame) -> None:
        for message in encode(frames):
            self.client.send(message)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds`, which rests on what the router told."""
        async with asyncio.timeout(WAIT_S_MAX):
            while not holds():
                self.told.clear()
                await self.told.wait()

    async def answer(self) -> Frame:
        assert await asyncio.to_thread(self.client.poll, 1000 * WAIT_S_MAX), "no answer"
        return decode(self.client.recv(), decoder(ToClient))[0]

    def close(self) -> None:
        self.router.close()
        self.client.close(0)
        self.context.destroy(0)


def play(folder: Path, scene: Callable[[Ends], Coroutine[Any, Any, None]]) -> None:
    """Play a scene with two ends; they are closed however it goes."""

    async def main() -> None:
        with closing(Ends(folder)) as ends:
            await scene(ends)

    asyncio.run(main())


def test_a_large_frame_for_which_there_is_no_room_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "UNFINISHED_BYTES_MAX", 2 * MIB)
    prompt = Prompt("r", "s", b"\x91\x80")

    async def scene(ends: Ends) -> None:
        ends.send(Hello(PROTOCOL_VERSION, "c"))
        assert isinstance(await ends.answer(), Welcome)
        ends.send(*(Part(last=False, piece=b"x" * 500_000) for _ in range(6)))
        await ends.until(lambda: bool(ends.lost))

        ends.send(prompt)  # Not heard: it may rest on what was lost.
        fault = await ends.answer()
        assert isinstance(fault, Fault)
        assert "no_hello" == fault.code
        assert 1 == len(ends.heard)
        ends.send(Hello(PROTOCOL_VERSION, "c"), prompt)
        await ends.until(lambda: len(ends.heard) == 3)

    play(tmp_path, scene)


def test_a_peer_that_takes_nothing_is_given_up_at_a_bound_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "STUCK_BYTES_MAX", 4 * MIB)

    async def scene(ends: Ends) -> None:
        ends.send(Hello(PROTOCOL_VERSION, "c"))
        assert isinstance(await ends.answer(), Welcome)
        (peer,) = ends.known
        sent = 0
        while not ends.lost:
            ends.router.send(peer, Fault("x", "y" * 5_000, "", b"\xc5\xff\xff" + bytes(65_535)))
            ends.router.flush()
            sent += 1
            assert sent < 2_000, "130 MB wait for a peer that takes nothing"
            await asyncio.sleep(0)
        assert [peer] == ends.lost

    play(tmp_path, scene)


def test_the_connection_of_a_peer_that_does_not_read_ends_when_too_much_waits_in_libzmq_and_it_may_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNREAD_BYTES_MAX", 1 * MIB)
    monkeypatch.setattr(sockets, "UNREAD_BYTES_THEN", MIB // 2)
    monkeypatch.setattr(unread, "LOOK_EVERY_BYTES", MIB // 4)
    fault = Fault("x", "y", "", b"\xc5\xff\xff" + bytes(65_535))

    async def play() -> None:
        ends = Ends(tmp_path)
        ends.send(Hello(PROTOCOL_VERSION, "silent"))
        assert isinstance(await ends.answer(), Welcome)
        reader: Any = ends.context.socket(zmq.DEALER)
        reader.linger = 0
        reader.connect(f"ipc://{tmp_path}/gateway")
        reader.send(encode([Hello(PROTOCOL_VERSION, "reads")])[0])
        await ends.until(lambda: len(ends.known) == 2 and bool(reader.poll(0)))
        reader.recv()
        silent, reads = sorted(ends.known)  # As they came.
        sent = 0
        while not ends.lost:
            for peer in (silent, reads):
                ends.router.send(peer, fault)
            ends.router.flush()
            sent += 1
            assert sent <= sockets.MESSAGES_SENT_MAX, "libzmq takes no more: nothing else ends the connection"
            await ends.until(lambda: bool(reader.poll(0)))
            assert [fault] == decode(reader.recv(), decoder(ToClient))
        assert [silent] == ends.lost

        while ends.client.poll(1):  # What the kernel had.
            ends.client.recv()
        ends.send(Hello(PROTOCOL_VERSION, "silent"))
        await ends.until(lambda: len(ends.known) == 2)
        assert silent not in ends.known
        assert isinstance(await ends.answer(), Welcome)
        reader.close(0)
        ends.close()

    asyncio.run(play())


def test_a_message_of_thousands_of_frames_is_taken_bit_by_bit_in_order_and_lets_others_through(tmp_path: Path) -> None:
    count = 10_000

    async def scene(ends: Ends) -> None:
        other: Any
        with ends.context.socket(zmq.DEALER) as other:
            other.linger = 0
            other.connect(f"ipc://{tmp_path}/gateway")
            ends.send(Hello(PROTOCOL_VERSION, "c"))
            assert isinstance(await ends.answer(), Welcome)
            other.send(encode([Goodbye("connected")])[0])
            await ends.until(lambda: len(ends.heard) > 1)
            ends.send(*(Unfollow(number) for number in range(count)))
            ends.send(Unfollow(count))
            other.send(encode([Goodbye()])[0])
            await ends.until(lambda: len(ends.heard) == count + 4)

            assert list(range(count + 1)) == [each.follow for each in ends.heard if isinstance(each, Unfollow)]
            assert Goodbye() in ends.heard[:-1]
            assert sockets.FRAMES_AT_ONCE >= max(ends.steps)

    play(tmp_path, scene)
