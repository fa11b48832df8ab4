"""A house for tests of the client library that says exactly what the test wants: a gateway, and nothing behind it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import zmq

from understudy.protocol.frames import PROTOCOL_VERSION, Fault, Frame, FromClient, Hello, Part, Ping, Pong, Welcome
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.paths import gateway_address

WAIT_S_MAX = 20.0

Said = Callable[[Frame], list[Any]]


class FalseHouse:
    """Answers each frame with what `answer` returns for it: frames, or bytes as they are; [] to a frame without one.

    Hellos and pings it answers itself unless `answer` does. `heard` is everything that was said, over all connections.
    """

    def __init__(self, folder: Path) -> None:
        self.runtime_dir = str(folder / "run")
        Path(self.runtime_dir).mkdir(mode=0o700)
        self.heard: list[Frame] = []
        self.generation = 1
        self.times_opened = 0
        self.answer: Said = lambda _: []
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._peer = b""
        self._joiners: dict[bytes, Joiner] = {}
        self._told = asyncio.Event()

    def open(self) -> None:
        """Listen."""
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(gateway_address(self.runtime_dir))
        self.times_opened += 1
        asyncio.get_running_loop().add_reader(self._socket.FD, self._listen)

    def fall(self) -> None:
        """Break all connections, as a death does; `open` is the next one."""
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket.FD)
        self._socket.close(0)
        self._socket = None

    def say(self, *frames: Any) -> None:
        """Say something to whoever spoke last."""
        assert self._socket is not None
        for frame in frames:
            for message in [frame] if isinstance(frame, bytes) else encode([frame]):
                self._socket.send_multipart([self._peer, message])
        asyncio.get_running_loop().call_soon(
            self._listen
        )  # A send takes away the sign that there is something to hear.

    def count(self, kind: type[Frame]) -> int:
        """Return how often such a frame was heard."""
        return sum(isinstance(each, kind) for each in self.heard)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds`, which rests on what was heard."""
        async with asyncio.timeout(WAIT_S_MAX):
            while not holds():
                self._told.clear()
                await self._told.wait()

    def close(self) -> None:
        """End."""
        if self._socket is not None:
            self.fall()
        self._context.destroy(0)

    def _listen(self) -> None:
        while self._socket is not None and self._socket.poll(0):
            self._peer, message = self._socket.recv_multipart()
            for frame in decode(message, decoder(FromClient)):
                joiner = self._joiners.setdefault(self._peer, Joiner(FromClient))
                whole = joiner.add(frame) if isinstance(frame, Part) else frame
                if whole is not None:
                    self._hear(whole)

    def _hear(self, frame: Frame) -> None:
        self.heard.append(frame)
        self._told.set()
        said = self.answer(frame)
        if not said and isinstance(frame, Hello):
            said = [Welcome(PROTOCOL_VERSION, 1, self.generation)]
        elif not said and isinstance(frame, Ping):
            said = [Pong()]
        if self._socket is not None:
            self.say(*said)


@contextmanager
def false_house(folder: Path) -> Iterator[FalseHouse]:
    """Give one that listens."""
    house = FalseHouse(folder)
    try:
        house.open()
        yield house
    finally:
        house.close()


def refused(frame: Frame, code: str) -> Fault:
    """Return the fault that names this frame's request."""
    return Fault(code, "because", getattr(frame, "request", ""))


def fill_backlog(path: str, held: ExitStack) -> None:
    """Take all places that a Unix socket, which accepts nothing, has for connections, until `held` lets them go."""
    while True:
        connection = held.enter_context(socket.socket(socket.AF_UNIX))
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BlockingIOError:
            return
