"""The one way to touch a ROUTER: whoever is given up there is told, and what was its is given back."""

import asyncio
import os
import socket
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
)
from understudy.protocol.messages import decode, decoder, encode
from understudy.supervisor.shell import inbox, parts, shares, sockets, unread
from understudy.supervisor.shell.sockets import Router

MIB = 1 << 20
WAIT_S_MAX = 20


class Ends:
    """A router that knows everybody who said hello, and a bare client of it."""

    def __init__(self, folder: Path) -> None:
        self.told = asyncio.Event()
        self.hears: Callable[[list[Frame]], None] = lambda _: None  # Besides.
        self.heard: list[Frame] = []
        self.steps: list[int] = []
        self.lost: list[bytes] = []
        self.known: set[bytes] = set()
        self.untaken = 1 << 40  # Of each who is known.
        self.context: zmq.Context[Any] = zmq.Context()
        self.address = f"ipc://{folder}/gateway"
        self.router = Router(
            self.context,
            self.address,
            FromClient,
            str(folder),
            self._hear,
            self._lose,
            lambda: None,
            lambda peer: self.untaken if peer in self.known else None,
            lambda _: None,
        )
        self.clients: list[zmq.Socket[bytes]] = []
        self.client = self.connect(RCVHWM=1)

    def connect(self, **options: int) -> "zmq.Socket[bytes]":
        """Return one more client, with options by their names."""
        self.clients.append(self.context.socket(zmq.DEALER))
        for option, value in {"LINGER": 0, "SNDHWM": 0, **options}.items():
            self.clients[-1].setsockopt(getattr(zmq, option), value)
        self.clients[-1].connect(self.address)
        return self.clients[-1]

    def _hear(self, peer: bytes, frames: list[Frame]) -> None:
        self.steps.append(len(frames))
        self.heard.extend(frames)
        self.told.set()
        self.hears(frames)
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

    async def answer(self, client: "zmq.Socket[bytes] | None" = None) -> Frame:
        client = client or self.client
        assert await asyncio.to_thread(client.poll, 1000 * WAIT_S_MAX), "no answer"
        return decode(client.recv(), decoder(ToClient))[0]

    def close(self) -> None:
        self.router.close()
        for each in self.clients:
            each.close(0)
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
        ends.send(*(Part(last=False, piece=b"x" * 60_000) for _ in range(50)))
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


@pytest.fixture
def little_may_wait(monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Return a frame of which sixteen are too many to wait for all."""
    monkeypatch.setattr(sockets, "UNREAD_BYTES_MAX", MIB // 4)
    monkeypatch.setattr(sockets, "UNREAD_BYTES_THEN", MIB // 8)
    monkeypatch.setattr(unread, "LOOK_EVERY_BYTES", MIB // 16)
    return Fault("x", "y", "", b"\xc5\x40\x00" + bytes(0x4000))


@pytest.mark.parametrize("still_s", [60.0, 0.0])
def test_who_has_confirmed_what_it_was_told_keeps_its_connection_unless_it_stands_still(
    tmp_path: Path, little_may_wait: Fault, still_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "STILL_S", still_s)

    async def scene(ends: Ends) -> None:
        ends.send(Hello(PROTOCOL_VERSION, "slow"))
        assert isinstance(await ends.answer(), Welcome)
        (peer,) = ends.known
        ends.untaken = 1000
        for _ in range(sockets.MESSAGES_SENT_MAX if still_s else 1000):
            if not ends.lost:
                ends.router.send(peer, little_may_wait)
                ends.router.flush()
        assert ([] if still_s else [peer]) == ends.lost

    play(tmp_path, scene)


def test_the_connection_of_a_peer_that_does_not_read_ends_when_too_much_waits_in_libzmq_and_it_may_come_again(
    tmp_path: Path, little_may_wait: Fault
) -> None:
    fault = little_may_wait

    async def scene(ends: Ends) -> None:
        ended = ends.client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        ends.send(Hello(PROTOCOL_VERSION, "silent"))
        assert isinstance(await ends.answer(), Welcome)
        reader = ends.connect()
        reader.send(encode([Hello(PROTOCOL_VERSION, "reads")])[0])
        assert isinstance(await ends.answer(reader), Welcome)
        silent, reads = sorted(ends.known)  # As they came.
        sent = 0
        while not ends.lost:
            ends.router.send(reads, fault)
            ends.router.flush()
            assert fault == await ends.answer(reader)  # It has read all when the other's is passed on, and looked at.
            ends.router.send(silent, fault)
            ends.router.flush()
            sent += 1
            assert sent <= sockets.MESSAGES_SENT_MAX, "libzmq takes no more: nothing else ends the connection"
        assert [silent] == ends.lost

        while not ended.poll(0):
            if ends.client.poll(10):  # What is on its way comes before the end is seen.
                ends.client.recv()
        ended.close(0)
        ends.send(Hello(PROTOCOL_VERSION, "silent"))
        await ends.until(lambda: len(ends.known) == 2)
        assert silent not in ends.known
        while isinstance(said := await ends.answer(), Fault):
            pass
        assert isinstance(said, Welcome)

    play(tmp_path, scene)


def test_what_has_the_descriptor_of_a_connection_that_ended_is_left_alone_and_nothing_is_left_open(
    tmp_path: Path,
) -> None:
    class Message:
        def get(self, _: int) -> int:
            return ours.fileno()

    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "file").open("wb") as file:
        accounts = unread.Unread(1)
        accounts.heard(b"peer", Message())  # type: ignore[arg-type]
        os.dup2(file.fileno(), ours.fileno())
        before = len(os.listdir("/proc/self/fd"))
        accounts.expel(b"peer")

        assert before == len(os.listdir("/proc/self/fd"))


def test_a_message_of_thousands_of_frames_is_taken_bit_by_bit_in_order_and_lets_others_through(tmp_path: Path) -> None:
    count = 10_000

    async def scene(ends: Ends) -> None:
        other = ends.connect()

        def hears(frames: list[Frame]) -> None:
            if frames[0] == Unfollow(0):  # While the rest of that message waits, another one's comes.
                other.send(encode([Goodbye()])[0])
                assert vars(ends.router)["_socket"].poll(1000 * WAIT_S_MAX)
                ends.send(Unfollow(count))

        ends.send(Hello(PROTOCOL_VERSION, "c"))
        assert isinstance(await ends.answer(), Welcome)
        other.send(encode([Goodbye("connected")])[0])
        await ends.until(lambda: len(ends.heard) > 1)
        ends.hears = hears
        ends.send(*(Unfollow(number) for number in range(count)))
        await ends.until(lambda: len(ends.heard) == count + 4)

        assert list(range(count + 1)) == [each.follow for each in ends.heard if isinstance(each, Unfollow)]
        assert Goodbye() in ends.heard[: ends.heard.index(Unfollow(count - 1))]
        assert inbox.FRAMES_AT_ONCE >= max(ends.steps)

    play(tmp_path, scene)


def test_who_says_more_than_there_is_room_for_says_it_again_and_others_are_heard_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "BURST_S", 0.0)
    monkeypatch.setattr(shares.Shares, "is_another_active", lambda *_: True)
    monkeypatch.setattr(inbox, "BYTES_MAX", 1 << 16)
    monkeypatch.setattr(inbox, "FLOOD_BYTES_MIN", 0)

    async def scene(ends: Ends) -> None:
        other = ends.connect()
        other.send(encode([Goodbye("first")])[0])
        await ends.until(lambda: len(ends.heard) == 1)
        ends.send(Hello(PROTOCOL_VERSION, "floods"))
        assert isinstance(await ends.answer(), Welcome)
        (floods,) = ends.known
        ends.send(*(Unfollow(number) for number in range(50_000)))
        await ends.until(lambda: bool(ends.lost))
        assert {floods} == set(ends.lost)
        assert len(ends.heard) < 50_000

        other.send(encode([Goodbye("heard")])[0])
        await ends.until(lambda: Goodbye("heard") in ends.heard)
        while not isinstance(fault := await ends.answer(), Fault):
            pass
        assert "no_hello" == fault.code
        ends.send(Hello(PROTOCOL_VERSION, "floods"), Unfollow(1 << 20))
        await ends.until(lambda: Unfollow(1 << 20) in ends.heard)

    play(tmp_path, scene)


def test_of_who_takes_much_a_few_messages_are_acted_on_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares.Shares, "takes_much", lambda *_: True)
    monkeypatch.setattr(shares.Shares, "is_another_active", lambda *_: True)
    monkeypatch.setattr(shares.Shares, "wait_s", lambda *_: 0.0)
    count = 10 * sockets.FRAMES_PER_TURN

    async def scene(ends: Ends) -> None:
        steps = [0]
        ends.hears = lambda frames: steps.__setitem__(-1, steps[-1] + len(frames))
        vars(ends.router)["_on_drained"] = lambda: steps.append(0)
        ends.send(Hello(PROTOCOL_VERSION, "much"))
        assert isinstance(await ends.answer(), Welcome)
        for number in range(count):
            ends.client.send(encode([Unfollow(number)])[0])
        await ends.until(lambda: len(ends.heard) == 1 + count)

        assert list(range(count)) == [each.follow for each in ends.heard if isinstance(each, Unfollow)]
        assert 1 < max(steps) <= sockets.FRAMES_PER_TURN

    play(tmp_path, scene)
