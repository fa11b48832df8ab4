"""One connection to a house's socket: a fresh DEALER each time, read and written on the event loop.

It moves frames and notices that the connection broke; it decides nothing. The file descriptor
of a ZeroMQ socket is edge-triggered: EVENTS is looked at again after every send and receive.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.backend import zmq_poll
from zmq.utils.monitor import recv_monitor_message

from understudy.protocol.frames import MESSAGE_BYTES_MAX, ActorHello, Frame, FrameError, Hello, Part, Ping, Pong, merged
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.owners import see_socket
from understudy.protocol.window import Window

MESSAGES_PER_DRAIN = 64
# Plain numbers: the enumerations of pyzmq cost more than the calls that take them.
EVENTS, POLLIN, NOBLOCK = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK)
OPTIONS = (
    (int(zmq.LINGER), 0),
    (int(zmq.MAXMSGSIZE), MESSAGE_BYTES_MAX),
    (int(zmq.SNDHWM), 0),
    # An hour: not by itself while we live, or what it held would reach the next supervisor before our hello. But -1,
    # never, makes libzmq drop what has come and is not read yet when the connection breaks.
    (int(zmq.RECONNECT_IVL), 3_600_000),
)
PING_FRAME = Ping()
PING = encode([PING_FRAME])[0]
BROKEN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

_names = itertools.count()


class Dealer:
    """Sends and receives frames of one direction. `on_frames` gets each batch, `on_broken` at most one call."""

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        side: Any,
        on_frames: Callable[[list[Frame]], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._decoder = decoder(side)
        self._joiner = Joiner(side)
        self._on_frames = on_frames
        self._on_broken = on_broken
        self._messages: deque[tuple[bytes, int]] = deque()  # Each message, and how many pings are in it.
        self._window = Window()
        self._scheduled = False
        self.closed = False
        self.garbage = ""  # What was wrong with what the house said, when the connection was given up for that.
        self._opened = True
        try:
            self._open(context, address)
        except (OSError, zmq.ZMQError) as error:
            # Whoever made it hears of it as of any other end, and tries again. Until then nothing is written.
            self._opened, self._scheduled = False, True
            self._loop.call_soon(self._break, str(error.strerror))

    def _open(self, context: zmq.Context[Any], address: str) -> None:
        see_socket(address.removeprefix("ipc://"))
        self._socket = socket = context.socket(zmq.DEALER)
        monitor: zmq.Socket[bytes] | None = None
        try:
            for option, value in OPTIONS:  # Not as attributes: pyzmq looks in each class for them first.
                socket.set(option, value)
            # A name of its own: pyzmq would name it by a descriptor, which the one before may have had.
            self._monitor = monitor = socket.get_monitor_socket(BROKEN, f"inproc://monitor-{next(_names)}")
            socket.connect(address)  # It does not block; that nobody listens, the monitor says.
        except zmq.ZMQError:
            if monitor is not None:
                monitor.close(0)
            socket.close(0)
            raise
        self._poll = [(self._socket, POLLIN)]
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._loop.add_reader(self._monitor.fileno(), self._changed)
        # Until EVENTS is read once, its descriptor does not wake anybody. Not here: who makes this would hear that it broke
        # before they have it.
        self._loop.call_soon(self._changed)

    def attend(self, on_frames: Callable[[list[Frame]], None], on_broken: Callable[[str], None]) -> None:
        """Let somebody else hear what comes from now on."""
        self._on_frames, self._on_broken = on_frames, on_broken

    def send(self, frames: list[Frame]) -> None:
        """Send `frames` in order: the first of a turn of the loop at once, more at its end, together."""
        if frames and not self.closed:
            if isinstance(frames[0], Hello | ActorHello):  # What was said before is said again behind it, or forgotten.
                self._messages.clear()
                self._window = Window()
            pings = frames.count(PING_FRAME) if Ping in map(type, frames) else 0
            messages = encode(frames)
            if pings and len(messages) > 1:
                for frame in frames:
                    self._queue(encode([frame]), int(type(frame) is Ping))
            else:
                self._queue(messages, pings)
            if not self._scheduled:
                self._write()
                self._schedule()

    def _queue(self, messages: list[bytes], pings: int) -> None:
        for message in messages:
            before, had = self._messages[-1] if self._messages else (b"", 0)
            joined = merged(before, message) if before else None
            if joined is None:
                self._messages.append((message, pings))
            else:
                self._messages[-1] = joined, had + pings

    def close(self, flush_ms: int = 0) -> None:
        """Close the connection; give what was sent `flush_ms` to leave."""
        if self.closed:
            return
        if not self._opened:
            self.closed = True
            return
        self._write(is_end=True)
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(flush_ms)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        self._scheduled = False
        if self.closed:
            return
        self._write()
        self._scheduled = True  # What is sent from here on goes out below.
        try:
            for _ in range(MESSAGES_PER_DRAIN):
                if self._is_closed() or not zmq_poll(self._poll, 0):
                    break
                self._take(self._socket.recv(NOBLOCK))
        finally:  # Also when whoever took a message failed at it: the next one is not to blame.
            self._scheduled = False
            if not self._is_closed():
                self._write()
                if zmq_poll(self._poll, 0):
                    self._schedule()

    def _is_closed(self) -> bool:
        return self.closed

    def _take(self, message: bytes) -> None:
        try:
            frames = decode(message, self._decoder)
            types = set(map(type, frames))
            if Part in types:
                joined = [self._joiner.add(each) if isinstance(each, Part) else each for each in frames]
                frames = [each for each in joined if each is not None]
        except FrameError as error:
            self.garbage = f"the house sent what is no frame: {error}"
            self._break(self.garbage)
            return
        if Pong in types:
            frames = self._window.without_its_pongs(frames)
        if frames:
            self._on_frames(frames)

    def _write(self, is_end: bool = False) -> None:
        while self._messages and (is_end or self._window.open):
            try:
                self._socket.send(self._messages[0][0], NOBLOCK)
                if self._window.said(*self._messages.popleft()):
                    self._socket.send(PING, NOBLOCK)
            except zmq.Again:
                return

    def _changed(self) -> None:
        while not self.closed and self._monitor.get(EVENTS) & POLLIN:
            recv_monitor_message(self._monitor, zmq.NOBLOCK)
            while not self._is_closed() and zmq_poll(self._poll, 0):
                self._take(self._socket.recv(NOBLOCK))  # What came before the end counts.
            self._break("the connection to the house broke")

    def _break(self, why: str) -> None:
        if not self.closed:
            self.close()
            self._on_broken(why)
