"""The gateway and the backstage: the one way to touch a ROUTER. Decides nothing.

One `send`, which coalesces until `flush`; one greedy, bounded drain. The file descriptor is edge-triggered:
EVENTS is looked at again (by `zmq_poll`) after every send and every receive, or a message sleeps.

libzmq's marks are small: what a peer does not take waits here, counted together with what libzmq still holds, and is
dropped when the peer is given up: its connection ends then, or libzmq would hold its share for as long as it likes.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import zmq
from zmq.backend import zmq_poll

from understudy.protocol.bodies import clipped
from understudy.protocol.doors import chopped, decode_each, encode_or_fault
from understudy.protocol.errors import BAD_FRAME, NO_HELLO
from understudy.protocol.frames import (
    BODY_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    ActorHello,
    Fault,
    Frame,
    FrameError,
    Goodbye,
    Hello,
    Part,
)
from understudy.protocol.messages import decode, decoder
from understudy.protocol.news import ConnectionGivenUp, FrameRefused, FrameUnsendable, News
from understudy.protocol.sizes import TEXT_CHARACTERS_MAX
from understudy.supervisor.shell.inbox import Inbox
from understudy.supervisor.shell.parts import Parts
from understudy.supervisor.shell.unread import Unread

FRAMES_PER_DRAIN = 32  # More in a step costs less for each, but lets the others of a busy house wait for work.
FRAMES_PER_TURN = 8  # Of who takes much, whose messages have steps of their own.
BYTES_PER_DRAIN = 1 << 16  # To look at a body may take a microsecond for each two bytes.
BYTES_PER_FRAME = 1 << 11  # So many bytes take about as long as a small frame.
LAZY_S = 0.005
# Plain numbers: the enumerations of pyzmq cost more than the calls that take them.
NOBLOCK, SNDMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
MESSAGES_SENT_MAX = 32  # So many libzmq holds for a peer,
MESSAGES_RECEIVED_MAX = 16  # and so many of a peer for us. Smaller ones cost an ask a tenth of its time and more.
STUCK_BYTES_MAX = BODY_BYTES_MAX + (8 << 20)  # A peer that takes nothing while this much waits for it is given up.
STUCK_STRANGER_BYTES_MAX = 1 << 16  # The same of a peer that did not say hello, or was forgotten.
UNREAD_BYTES_MAX = 36 << 20  # All peers together, here and in libzmq: who has not gone on for the longest is given up,
UNREAD_BYTES_THEN = 20 << 20  # until so much is left.
EXPELLED_S = 30.0  # What comes so long from a connection that was ended had come before: a peer returns as another.
RETRY_S, RETRIED, RETRIED_BY_THE_WAY = 0.01, 64, 4
TEND_S = 1.0
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 1.0  # After it an end whose frame had to be dropped is asked to say it again.


@dataclass(slots=True)
class _Stuck:
    """What waits for one peer: messages, their bytes, and since when it has taken nothing."""

    messages: deque[bytes]
    size: int
    since: float


class Router:
    """One bound ROUTER socket.

    `on_frames(peer, frames)` and `on_lost(peer)` are called from the loop, and `on_drained()` after each drain, before
    what is due is sent; `untaken(peer)` says how many bytes the peer was told and has not confirmed, None when it did not
    say hello (only who did may send parts); `announce` is told of garbage. Frames in parts lie in `folder` until they
    are whole.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        side: Any,
        folder: str,
        on_frames: Callable[[bytes, list[Frame]], None],
        on_lost: Callable[[bytes], None],
        on_drained: Callable[[], None],
        untaken: Callable[[bytes], int | None],
        announce: Callable[[News], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._side, self._decoder = side, decoder(side)
        self._parts = Parts(side, folder)
        self._on_frames, self._on_lost, self._untaken, self._announce = on_frames, on_lost, untaken, announce
        self._on_drained = on_drained
        self._name = address.rpartition("/")[2]
        self._unread = Unread(MESSAGES_SENT_MAX)
        self._inbox = Inbox(self._unread.owner)
        self._serving: asyncio.Handle | None = None
        self._outgoing: dict[bytes, list[Frame]] = {}
        self._urgent: dict[bytes, None] = {}
        self._lazy = False
        self._stuck: dict[bytes, _Stuck] = {}
        self._stuck_bytes = 0
        self._retrying = self._tending = False
        self._pausing: dict[bytes, None] = {}
        self._expelled: dict[bytes, None] = {}
        self._random = Random(os.urandom(16))
        self._scheduled = self._stopped = False
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_mandatory = 1
        self._socket.maxmsgsize = MESSAGE_BYTES_MAX
        self._socket.rcvhwm = MESSAGES_RECEIVED_MAX
        self._socket.sndhwm = MESSAGES_SENT_MAX
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

    def close(self, flush_ms: int = 0) -> None:
        """Send what is due and close; peers that have no room for it have `flush_ms` to make some."""
        self.flush()
        until = time.monotonic() + flush_ms / 1000
        while any(map(self._known, self._stuck)) and time.monotonic() < until:
            time.sleep(RETRY_S)  # The loop is at its end: nobody else waits for it.
            self._retry(len(self._stuck))
        self._loop.remove_reader(self._socket.fileno())
        self._parts.close()
        self._socket.close(flush_ms)

    # --- receiving ---

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        if self._socket.closed:
            return
        socket, began = self._socket, self._loop.time()
        room, bytes_room = FRAMES_PER_DRAIN, BYTES_PER_DRAIN
        served: dict[bytes, int] = {}
        while room > 0 and bytes_room > 0 and not self._inbox.full:
            if not zmq_poll(self._poll, 0):
                break
            peer = socket.recv(NOBLOCK)
            first = socket.recv(NOBLOCK, copy=False)
            more = first.more
            while more:  # Only garbage has more than one part: take it whole, or the next message is misread.
                more = socket.recv(NOBLOCK, copy=False).more
            bytes_room -= len(first)
            if peer in self._expelled:
                bytes_room -= BYTES_PER_DRAIN >> 10
                continue
            if peer not in self._unread:
                self._unread.heard(peer, first)
            message = None if first.more else first.bytes
            taken = 1
            if peer not in self._pausing and self._inbox.is_before(peer, began):
                self._inbox.put(peer, message)
            else:
                taken = self._take(peer, message)
            room -= taken
            served[peer] = served.get(peer, 0) + taken + len(first) // BYTES_PER_FRAME
        else:
            if self._inbox.full:
                self._stopped = True  # Until `_serve` has made room.
            else:
                self._schedule()
        self._done(served, began)
        if self._stuck:
            self._retry(RETRIED_BY_THE_WAY)  # Somebody may have taken something: that wakes us, too.

    def _done(self, served: dict[bytes, int], began: float) -> None:
        """Act on what was heard since `began`, and send what is due."""
        self._on_drained()
        self.flush()
        now = self._loop.time()
        self._inbox.spent(served, now - began, now)
        if self._inbox:
            self._serve_soon(self._inbox.wait_s(now))

    def _serve_soon(self, wait_s: float) -> None:
        if self._serving is not None and (wait_s or not isinstance(self._serving, asyncio.TimerHandle)):
            return
        if self._serving is not None:
            self._serving.cancel()
        self._serving = self._loop.call_later(wait_s, self._serve) if wait_s else self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Take a little of what waits in the inbox."""
        self._serving = None
        if self._socket.closed:
            return
        if self._stopped:
            self._stopped = False
            self._schedule()
        if not self._inbox:
            return  # Who had something in it is gone.
        began = self._loop.time()
        for peer in self._inbox.floods(began):
            self._let_go(peer, "says more than there is room for")
        taken, whose = 0, self._inbox.next(began)
        while whose is not None and taken < FRAMES_PER_TURN:
            message = self._inbox.take(whose)
            taken += self._take(whose, message) + len(message or b"") // BYTES_PER_FRAME
            if not self._inbox or self._inbox.next(began) != whose:
                break
        self._done({whose: 1} if whose is not None else {}, began)

    def _take(self, peer: bytes, message: bytes | None) -> int:
        """Pass on what a message says, or the first of it when that is much; return about how many frames that were."""
        if message is not None and message[:1] > b"\x9f":  # Else it has no more than 15 frames.
            pieces = chopped(message, self._inbox.at_once(peer, self._loop.time()))
            if len(pieces) > 1:
                self._inbox.put_back(peer, pieces[1:])
                taken = self._take(peer, pieces[0])
                if peer in self._pausing:  # It does not begin with a hello: none of it is heard.
                    self._inbox.drop(peer)
                return taken
        try:
            if message is None:
                raise FrameError("a message of several parts; a message has one")
            frames = decode(message, self._decoder)
        except FrameError as error:
            frames = self._readable(peer, [error] if message is None else decode_each(message, self._side))
        if self._pausing and not self._is_back(peer, frames):
            return 1
        taken = 1 + len(frames)
        if not _WITH_PARTS.isdisjoint(map(type, frames)):
            whole = len(self._parts)
            frames = self._joined(peer, frames)
            if len(self._parts) < whole:  # A large one: in a step of its own.
                taken = FRAMES_PER_DRAIN
        if frames:
            self._on_frames(peer, frames)
        return taken

    def _joined(self, peer: bytes, frames: list[Frame]) -> list[Frame]:
        """Return `frames` with what their parts complete; whoever says hello or goodbye gives up what is unfinished."""
        whole: list[Frame] = []
        for frame in frames:
            if not isinstance(frame, Part):
                if isinstance(frame, Hello | ActorHello | Goodbye):
                    self._parts.drop(peer)
                whole.append(frame)
                continue
            if not self._known(peer):
                self._let_go(peer, "sends parts of a frame, and did not say hello or was forgotten")
                break
            try:
                joined = self._parts.add(peer, frame, self._loop.time())
            except FrameError as error:
                self._refuse(peer, error)
                continue
            except OSError as error:
                self._let_go(peer, f"sends a large frame, and there is no room for it: {error}")
                break
            if joined is not None:
                whole.append(joined)
        self._make_room()
        return whole

    def _readable(self, peer: bytes, frames: Iterable[Frame | FrameError]) -> list[Frame]:
        """Return the frames among `frames`; the peer is told of what is none."""
        readable: list[Frame] = []
        for frame in frames:
            if isinstance(frame, FrameError):
                self._refuse(peer, frame)
            else:
                readable.append(frame)
        return readable

    def _refuse(self, peer: bytes, error: FrameError) -> None:
        self._announce(FrameRefused(self._name, peer.hex(), str(error)))
        self.send(peer, Fault(BAD_FRAME, clipped(error, TEXT_CHARACTERS_MAX), error.request))

    def _encoded(self, frames: list[Frame]) -> list[bytes]:
        messages, complaints = encode_or_fault(frames)
        for complaint in complaints:
            self._announce(FrameUnsendable(self._name, complaint))
        return messages

    def _make_room(self) -> None:
        while (peer := self._parts.excess()) is not None:
            self._let_go(peer, "has not finished a large frame while there was no room for all")
        if len(self._parts):
            self._tend_soon()

    def _let_go(self, peer: bytes, why: str) -> None:
        """Some of what the peer said is lost: hear it again from its next hello on, for which it is asked in a while."""
        self._lose(peer, why)
        self._inbox.drop(peer)
        self._pausing[peer] = None
        self._loop.call_later(self._random.uniform(PAUSE_S_MIN, PAUSE_S_MAX), self._ask_again, peer)

    def _known(self, peer: bytes) -> bool:
        return self._untaken(peer) is not None

    def _ask_again(self, peer: bytes) -> None:
        if self._pausing.pop(peer, b"") is None and not self._socket.closed:
            self.send(peer, Fault(NO_HELLO, "a frame in parts was dropped: say hello again, and what is unanswered"))
            self.flush()

    def _is_back(self, peer: bytes, frames: list[Frame]) -> bool:
        """Return whether the peer is to be heard: it is one of those that wait for nothing, or says hello."""
        if peer not in self._pausing:
            return True
        if not frames or not isinstance(frames[0], Hello | ActorHello):
            return False
        del self._pausing[peer]
        return True

    # --- sending ---

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
                messages = deque(self._encoded(frames))
                if stuck is not None:
                    self._wait(peer, stuck, messages)
                else:
                    self._send(peer, messages)
        if self._unread.due:
            self._look()
        if zmq_poll(self._poll, 0):
            self._schedule()

    def _flush_lazy(self) -> None:
        self._lazy = False
        if self._outgoing and not self._socket.closed:
            self._urgent = dict.fromkeys(self._outgoing)
            self.flush()

    def _send(self, peer: bytes, messages: deque[bytes]) -> None:
        if not self._pass_on(peer, messages):
            return
        stuck = self._stuck[peer] = _Stuck(deque(), 0, self._loop.time())
        self._wait(peer, stuck, messages)
        if not self._retrying:
            self._retrying = True
            self._loop.call_later(RETRY_S, self._retry_later)
        self._tend_soon()

    def _pass_on(self, peer: bytes, messages: deque[bytes]) -> bool:
        """Give `messages` to libzmq as far as the peer has room; return whether some are left."""
        while messages:
            try:
                self._socket.send(peer, SNDMORE)
                self._socket.send(messages[0], NOBLOCK)
            except zmq.Again:
                return True
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                messages.clear()
                self._lose(peer, "")
                return False
            self._unread.passed(peer, len(messages.popleft()))
        return False

    def _wait(self, peer: bytes, stuck: _Stuck, messages: deque[bytes]) -> None:
        """Keep what the peer has no room for, within the bounds: of the peer, then of all."""
        size = sum(map(len, messages))
        stuck.messages.extend(messages)
        stuck.size += size
        self._stuck_bytes += size
        if stuck.size > (STUCK_BYTES_MAX if self._known(peer) else STUCK_STRANGER_BYTES_MAX):
            self._expel(peer, f"took nothing while {stuck.size} bytes waited for it")
        if self._stuck_bytes + self._unread.waiting_bytes > UNREAD_BYTES_MAX:
            self._look()

    def _look(self) -> None:
        """See what waits for all, and give up those who have not gone on for the longest while it is too much."""
        waiting = self._unread.look(self._loop.time(), self._untaken)
        total = self._stuck_bytes + self._unread.waiting_bytes
        if total <= UNREAD_BYTES_MAX:
            return
        for peer, stuck in self._stuck.items():
            since, size = waiting.get(peer, (stuck.since, 0))
            waiting[peer] = max(since, stuck.since), size + stuck.size
        for peer in sorted(waiting, key=lambda each: waiting[each][0]):
            self._expel(peer, f"has not read for the longest while {total} bytes wait for all")
            total -= waiting[peer][1]
            if total <= UNREAD_BYTES_THEN:
                return

    def _retry(self, most: int) -> None:
        """Give libzmq what it has room for now, of `most` peers, in turns: each that has none costs microseconds."""
        for peer, stuck in list(islice(self._stuck.items(), most)):
            del self._stuck[peer]
            self._stuck[peer] = stuck
            before = len(stuck.messages)
            held = self._pass_on(peer, stuck.messages)
            if len(stuck.messages) == before or peer not in self._stuck:
                continue
            size = sum(map(len, stuck.messages))
            self._stuck_bytes -= stuck.size - size
            stuck.size, stuck.since = size, self._loop.time()
            if not held:
                del self._stuck[peer]

    def _retry_later(self) -> None:
        self._retrying = False
        if self._socket.closed:
            return
        self._retry(RETRIED)
        if self._stuck:
            self._retrying = True
            self._loop.call_later(RETRY_S, self._retry_later)
        if zmq_poll(self._poll, 0):
            self._schedule()

    # --- who is gone ---

    def _tend_soon(self) -> None:
        if not self._tending:
            self._tending = True
            self._loop.call_later(TEND_S, self._tend)

    def _tend(self) -> None:
        """Give back what belonged to peers that are gone, or that stand still with a frame half said."""
        self._tending = False
        if self._socket.closed:
            return
        for peer in [peer for peer in self._parts.peers() if not self._known(peer)]:
            self._parts.drop(peer)
        for peer in self._parts.still(self._loop.time()):
            self._let_go(peer, "has not gone on with a large frame")
        for peer, stuck in list(self._stuck.items()):
            if stuck.size > STUCK_STRANGER_BYTES_MAX and not self._known(peer):
                self._expel(peer, "")
        if self._stuck:
            self._look()
        if self._parts or self._stuck:
            self._tend_soon()

    def _expel(self, peer: bytes, why: str) -> None:
        """Give up a peer that does not read: its connection ends, and what waited for it is given back.

        libzmq does so only when all that has come from the peer was taken: that is let go.
        """
        self._unread.expel(peer)
        self._expelled[peer] = None
        self._loop.call_later(EXPELLED_S, self._expelled.pop, peer, None)
        self._lose(peer, why)
        self._inbox.drop(peer)

    def _lose(self, peer: bytes, why: str) -> None:
        if why:
            self._announce(ConnectionGivenUp(self._name, peer.hex(), why))
        self._forget(peer)
        self._on_lost(peer)

    def _forget(self, peer: bytes) -> None:
        self._parts.drop(peer)
        self._outgoing.pop(peer, None)
        stuck = self._stuck.pop(peer, None)
        if stuck is not None:
            self._stuck_bytes -= stuck.size


_WITH_PARTS = frozenset((Part, Hello, ActorHello, Goodbye))  # What begins, goes on with or ends a frame in parts.
