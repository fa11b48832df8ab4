"""The socketpair between keeper and supervisor: what crosses it, and the supervisor's end."""

import contextlib
import socket
from typing import Final

import msgspec

from understudy.supervisor.core.events import FromKeeper, ToKeeper

MESSAGE_BYTES_MAX: Final = 1 << 16

encode = msgspec.msgpack.Encoder().encode
_from_keeper: msgspec.msgpack.Decoder[FromKeeper] = msgspec.msgpack.Decoder(FromKeeper)
_to_keeper: msgspec.msgpack.Decoder[ToKeeper] = msgspec.msgpack.Decoder(ToKeeper)


def read_messages(link: socket.socket) -> list[FromKeeper] | None:
    """Return what the keeper has reported; None when it is gone. For the supervisor."""
    messages: list[FromKeeper] = []
    while True:
        try:
            message = link.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return messages
        except OSError:
            return None
        if not message:
            return messages or None
        messages.append(_from_keeper.decode(message))


def read_requests(link: socket.socket) -> list[ToKeeper]:
    """Return what the supervisor asks for; its end shows in its exit. For the keeper."""
    requests: list[ToKeeper] = []
    with contextlib.suppress(OSError):
        while message := link.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT):
            requests.append(_to_keeper.decode(message))
    return requests


def send(link: socket.socket, message: ToKeeper) -> None:
    """Ask the keeper for something. A keeper that is gone shows in `read_messages`. For the supervisor."""
    with contextlib.suppress(OSError):
        link.sendall(encode(message))


def send_if_room(link: socket.socket, message: ToKeeper) -> None:
    """As `send`, but leave it when the keeper reads nothing (it is stopped, say): that must not stop the supervisor."""
    with contextlib.suppress(OSError):
        link.send(encode(message), socket.MSG_DONTWAIT)
