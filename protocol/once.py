"""One verb over one short connection, without an event loop: for commands that must be quick."""

import os
import time
from typing import Any

import zmq

from understudy.protocol.away import no_house, see_ours
from understudy.protocol.errors import RemoteError
from understudy.protocol.frames import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    Fault,
    FrameError,
    Goodbye,
    Hello,
    Joiner,
    Part,
    Ping,
    Result,
    ToClient,
    Verb,
    decode,
    decoder,
    encode,
    pack,
    unpack,
)
from understudy.protocol.paths import gateway_address, gateway_path

PING_MS = 1000  # So often is a house asked that has not answered: one that has come anew says that it does not know us.


def verb(runtime_dir: str, name: str, body: Any = None, timeout_s: float = 5.0) -> Any:
    """Carry out a verb and return its result.

    Raises `LocalError` (connection_lost; not_ours: it is another user's) when no house answers within `timeout_s`, `RemoteError` for a fault:
    `no_hello` when the supervisor fell before it answered, and the next one is there.
    """
    if not os.path.exists(gateway_path(runtime_dir)):  # noqa: PTH110 (pathlib costs start-up time)
        raise no_house(runtime_dir)
    see_ours(runtime_dir)
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 50
    socket.maxmsgsize = MESSAGE_BYTES_MAX
    try:
        socket.connect(gateway_address(runtime_dir))
        client = os.urandom(16).hex()
        hello = Hello(PROTOCOL_VERSION, client, os.getpid(), name)
        for message in encode([hello, Verb(client, name, pack(body))]):
            socket.send(message)
        return _answer(socket, client, time.monotonic() + timeout_s, runtime_dir)
    finally:
        socket.close()
        context.term()


def _answer(socket: "zmq.Socket[bytes]", request: str, until: float, runtime_dir: str) -> Any:
    by, joiner = decoder(ToClient), Joiner(ToClient)
    while (left_ms := int(1000 * (until - time.monotonic()))) > 0:
        if not socket.poll(min(left_ms, PING_MS)):
            socket.send(encode([Ping()])[0])
            continue
        try:
            frames = decode(socket.recv(), by)
        except FrameError as error:
            raise RemoteError("bad_frame", f"the house sent what is no frame: {error}") from error
        for got in frames:
            frame = joiner.add(got) if isinstance(got, Part) else got
            if isinstance(frame, Result) and frame.request == request:
                socket.send(encode([Goodbye()])[0])
                return unpack(frame.body)
            if isinstance(frame, Fault):
                raise RemoteError(frame.code, frame.text, unpack(frame.body))
    raise no_house(runtime_dir)
