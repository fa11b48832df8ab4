"""The socketpair between keeper and supervisor: what crosses it, and the supervisor's end."""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Final

import msgspec

from understudy.supervisor.core.events import FromKeeper, ToKeeper

MESSAGE_BYTES_MAX: Final = 1 << 16

encode = msgspec.msgpack.Encoder().encode
_from_keeper: msgspec.msgpack.Decoder[FromKeeper] = msgspec.msgpack.Decoder(FromKeeper)
_to_keeper: msgspec.msgpack.Decoder[ToKeeper] = msgspec.msgpack.Decoder(ToKeeper)


def read_messages(end: socket.socket) -> list[FromKeeper] | None:
    """Return what the keeper has reported; None when it is gone. For the supervisor."""
    messages: list[FromKeeper] = []
    while True:
        try:
            message = end.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return messages
        except OSError:
            return None
        if not message:
            return messages or None
        messages.append(_from_keeper.decode(message))


def read_requests(end: socket.socket, most: int) -> list[ToKeeper]:
    """Return what the supervisor asks for, up to so many requests; its end shows in its exit. For the keeper."""
    requests: list[ToKeeper] = []
    with contextlib.suppress(OSError):
        while len(requests) < most and (message := end.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)):
            requests.append(_to_keeper.decode(message))
    return requests


def send_if_room(end: socket.socket, message: ToKeeper) -> bool:
    """Tell the keeper something; return False when it reads nothing now. One that is gone shows in `read_messages`."""
    try:
        end.send(encode(message), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class ToKeeperQueue:
    """What the supervisor asks the keeper for, in order: it never waits for it, for a fork may take milliseconds."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._waiting: deque[ToKeeper] = deque()

    def send(self, message: ToKeeper) -> None:
        """Ask for something, behind what was asked before."""
        if self._waiting or not send_if_room(self._end, message):
            if not self._waiting:
                asyncio.get_running_loop().add_writer(self._end.fileno(), self._go_on)
            self._waiting.append(message)

    def send_if_room(self, message: ToKeeper) -> None:
        """Ask for something, or leave it."""
        if not self._waiting:
            send_if_room(self._end, message)

    def close(self) -> None:
        """The keeper is gone."""
        self._waiting.clear()
        asyncio.get_running_loop().remove_writer(self._end.fileno())

    def _go_on(self) -> None:
        while self._waiting and send_if_room(self._end, self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting:
            asyncio.get_running_loop().remove_writer(self._end.fileno())
