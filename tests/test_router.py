"""The one way to touch a ROUTER: whoever is given up there is told, and what was its is given back."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    Fault,
    Frame,
    FromClient,
    Hello,
    Part,
    Prompt,
    ToClient,
    Welcome,
    decode,
    decoder,
    encode,
)
from understudy.supervisor import parts, sockets
from understudy.supervisor.sockets import Router

MIB = 1 << 20


class Ends:
    """A router that knows everybody who said hello, and a bare client of it."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[Frame] = []
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
        self.heard.extend(frames)
        if isinstance(frames[0], Hello):
            self.known.add(peer)
            self.router.send(peer, Welcome(PROTOCOL_VERSION, 1))

    def _lose(self, peer: bytes) -> None:
        self.lost.append(peer)
        self.known.discard(peer)

    def send(self, *frames: Frame) -> None:
        for message in encode(frames):
            self.client.send(message)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 (it happens in libzmq)
                await asyncio.sleep(0.001)

    async def answer(self) -> Frame:
        await self.until(lambda: bool(self.client.poll(0)))
        return decode(self.client.recv(), decoder(ToClient))[0]

    def close(self) -> None:
        self.router.close()
        self.client.close(0)
        self.context.destroy(0)


def test_a_large_frame_for_which_there_is_no_room_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "UNFINISHED_BYTES_MAX", 2 * MIB)
    prompt = Prompt("r", "s", b"\x91\x80")

    async def play() -> None:
        ends = Ends(tmp_path)
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
        ends.close()

    asyncio.run(play())


def test_a_peer_that_takes_nothing_is_given_up_at_a_bound_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "STUCK_BYTES_MAX", 4 * MIB)

    async def play() -> None:
        ends = Ends(tmp_path)
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
        ends.close()

    asyncio.run(play())
