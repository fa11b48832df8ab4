"""The gateway and the backstage: the one way to touch a ROUTER. Decides nothing.

One `send`, which coalesces until `flush`; one greedy, bounded drain. The file descriptor is edge-triggered:
EVENTS is looked at again (by `zmq_poll`) after every send and every receive, or a message sleeps.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.backend import zmq_poll

from understudy.protocol.errors import BAD_FRAME
from understudy.protocol.frames import (
    MESSAGE_BYTES_MAX,
    Fault,
    Frame,
    FrameError,
    Joiner,
    Part,
    decode,
    decoder,
    encode,
)

FRAMES_PER_DRAIN = 32  # More in a step costs less for each, but lets the others of a busy house wait for work.
LAZY_S = 0.005
# Plain numbers: the enumerations of pyzmq cost more than the calls that take them.
NOBLOCK, SNDMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
STUCK_BYTES_MAX = 16 << 20  # A peer that takes nothing while this much waits for it is given up.
JOINING_BYTES_MAX = 128 << 20  # All peers' unfinished parts together.
RETRY_S = 0.01


class Router:
    """One bound ROUTER socket.

    `on_frames(peer, frames)` and `on_lost(peer)` are called from the loop, and `on_drained()` after each drain,
    before what is due is sent; `known(peer)` says
    whether the peer said hello (only then may it send parts); `warn` gets a line for garbage.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        side: Any,
        on_frames: Callable[[bytes, list[Frame]], None],
        on_lost: Callable[[bytes], None],
        on_drained: Callable[[], None],
        known: Callable[[bytes], bool],
        warn: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._side = side
        self._decoder = decoder(side)
        self._on_frames, self._on_lost, self._known, self._warn = on_frames, on_lost, known, warn
        self._on_drained = on_drained
        self._name = address.rpartition("/")[2]
        self._outgoing: dict[bytes, list[Frame]] = {}
        self._urgent: dict[bytes, None] = {}
        self._lazy = False
        self._stuck: dict[bytes, deque[bytes]] = {}
        self._joiners: dict[bytes, Joiner] = {}
        self._scheduled = False
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_mandatory = 1
        self._socket.maxmsgsize = MESSAGE_BYTES_MAX
        self._socket.rcvhwm = 64
        self._socket.sndhwm = 1000
        self._socket.backlog = 1024
        self._poll = [(self._socket, int(zmq.POLLIN))]
        self._socket.bind(address)
        self._loop.add_reader(self._socket.fileno(), self._drain)
        self._schedule()

    def send(self, peer: bytes, frame: Frame, lazily: bool = False) -> None:
        """Send `frame` to `peer` with the next `flush`, together with all else for that peer.

        `lazily`: with the next frame that is not, or in `LAZY_S`.
        """
        self._outgoing.setdefault(peer, []).append(frame)
        if not lazily:
            self._urgent[peer] = None
        elif not self._lazy:
            self._lazy = True
            self._loop.call_later(LAZY_S, self._flush_lazy)

    def forget(self, peer: bytes) -> None:
        """The peer is gone: drop what was being put together for it."""
        self._joiners.pop(peer, None)
        self._stuck.pop(peer, None)
        self._outgoing.pop(peer, None)

    def close(self, flush_ms: int = 0) -> None:
        """Send what is due and close."""
        self.flush()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close(flush_ms)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        if self._socket.closed:
            return
        socket = self._socket
        room = FRAMES_PER_DRAIN
        while room > 0:
            if not zmq_poll(self._poll, 0):
                break
            peer = socket.recv(NOBLOCK)
            first = socket.recv(NOBLOCK, copy=False)
            more = first.more
            while more:  # Only garbage has more than one part: take it whole, or the next message is misread.
                more = socket.recv(NOBLOCK, copy=False).more
            room -= self._take(peer, None if first.more else first.bytes)
        else:
            self._schedule()
        self._on_drained()
        self.flush()

    def _take(self, peer: bytes, message: bytes | None) -> int:
        try:
            if message is None:
                raise FrameError("a message of several parts; a message has one")
            frames = decode(message, self._decoder)
            for frame in frames:
                if type(frame) is Part:
                    frames = self._joined(peer, frames)
                    break
        except FrameError as error:
            self._warn(f"{self._name}: garbage from connection {peer.hex()}: {error}")
            self.send(peer, Fault(BAD_FRAME, str(error)))
            return 1
        if frames:
            self._on_frames(peer, frames)
        return 1 + len(frames)

    def _joined(self, peer: bytes, frames: list[Frame]) -> list[Frame]:
        if not self._known(peer):
            raise FrameError("parts before the hello")
        joiner = self._joiners.setdefault(peer, Joiner(self._side))
        whole: list[Frame] = []
        for frame in frames:
            if not isinstance(frame, Part):
                whole.append(frame)
                continue
            if sum(each.size for each in self._joiners.values()) + len(frame.piece) > JOINING_BYTES_MAX:
                del self._joiners[peer]
                raise FrameError(f"more than {JOINING_BYTES_MAX} bytes of unfinished frames in the house; try again")
            joined = joiner.add(frame)
            if joined is not None:
                del self._joiners[peer]
                joiner = Joiner(self._side)
                whole.append(joined)
            self._joiners[peer] = joiner
        if not joiner.size:
            self._joiners.pop(peer, None)
        return whole

    def flush(self) -> None:
        """Send everything that is due. Whoever calls `send` outside a drain calls this before it returns to the loop."""
        if not self._urgent:
            return
        while self._urgent:
            urgent, self._urgent = self._urgent, {}
            for peer in urgent:
                frames = self._outgoing.pop(peer, None)
                if frames is None:
                    continue  # Lost meanwhile.
                stuck = self._stuck.get(peer)
                messages = deque(encode(frames))
                if stuck is not None:
                    stuck.extend(messages)
                    if sum(map(len, stuck)) > STUCK_BYTES_MAX:
                        self._lose(peer, "took nothing while the bound was reached")
                else:
                    self._send(peer, messages)
        if zmq_poll(self._poll, 0):
            self._schedule()

    def _flush_lazy(self) -> None:
        self._lazy = False
        if self._outgoing and not self._socket.closed:
            self._urgent = dict.fromkeys(self._outgoing)
            self.flush()

    def _send(self, peer: bytes, messages: deque[bytes]) -> None:
        while messages:
            try:
                self._socket.send(peer, SNDMORE)
                self._socket.send(messages[0], NOBLOCK)
            except zmq.Again:
                if not self._stuck:
                    self._loop.call_later(RETRY_S, self._retry)
                self._stuck[peer] = messages
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._lose(peer, "")
                return
            messages.popleft()

    def _retry(self) -> None:
        if self._socket.closed:
            return
        stuck, self._stuck = self._stuck, {}
        for peer, messages in stuck.items():
            self._send(peer, messages)
        self.flush()

    def _lose(self, peer: bytes, why: str) -> None:
        if why:
            self._warn(f"{self._name}: connection {peer.hex()} {why}")
        self.forget(peer)
        self._on_lost(peer)
