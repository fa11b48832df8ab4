"""One verb over one short connection, without an event loop: for commands that must be quick."""

import os
import time
from typing import Any, TypeVar

import zmq

from understudy.protocol.codec import UNREADABLE_ERRORS, refusal
from understudy.protocol.errors import BAD_FRAME, CONNECTION_LOST, LocalError, RemoteError
from understudy.protocol.frames import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    Fault,
    FrameError,
    Goodbye,
    Hello,
    Part,
    Ping,
    Result,
    ToClient,
    Verb,
    pack,
    unpack,
)
from understudy.protocol.messages import Joiner, decode, decoder, encode
from understudy.protocol.paths import gateway_address, gateway_path
from understudy.protocol.presence import no_house, see_ours
from understudy.protocol.verbs import VerbBody, answer_to, name_of

A = TypeVar("A")

PING_MS = 1000  # A house that is silent for so long is pinged: one that was started meanwhile answers that it does not know us.


def verb(runtime_dir: str, asked: VerbBody[A], timeout_s: float = 5.0) -> A:
    """Carry out a verb and return its answer.

    Raises `LocalError` (connection_lost; not_ours: it is another user's) when no house answers within `timeout_s`,
    `RemoteError` for a fault: `no_hello` when the supervisor fell before it answered, and the next one is there.
    """
    if not os.path.exists(gateway_path(runtime_dir)):  # noqa: PTH110 (pathlib costs start-up time)
        raise no_house(runtime_dir)
    see_ours(runtime_dir)
    client, until = os.urandom(16).hex(), time.monotonic() + timeout_s
    name = name_of(asked)
    try:
        messages = encode([Hello(PROTOCOL_VERSION, client, os.getpid(), name), Verb(client, name, pack(asked))])
    except (FrameError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalError(BAD_FRAME, f"this cannot be sent: {refusal(error)}") from error
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 50
    socket.maxmsgsize = MESSAGE_BYTES_MAX
    socket.sndhwm = 0  # Without a bound, so that a send never blocks, not even while the house is stopped.
    try:
        socket.connect(gateway_address(runtime_dir))
        for message in messages:
            socket.send(message)
        return answer_to(asked, _answer(socket, client, until, runtime_dir))
    except (FrameError, *UNREADABLE_ERRORS) as error:
        raise RemoteError(BAD_FRAME, f"the house sent what is no frame: {error}") from error
    except zmq.ZMQError as error:
        raise LocalError(CONNECTION_LOST, f"cannot connect to {gateway_address(runtime_dir)}: {error}") from error
    finally:
        socket.close()
        context.term()


def _answer(socket: "zmq.Socket[bytes]", request: str, until: float, runtime_dir: str) -> bytes:
    by, joiner = decoder(ToClient), Joiner(ToClient)
    while (left_s := until - time.monotonic()) > 0:
        if not socket.poll(1 + int(min(1000 * left_s, PING_MS))):
            socket.send(encode([Ping()])[0])
            continue
        for got in decode(socket.recv(), by):
            frame = joiner.add(got) if isinstance(got, Part) else got
            if isinstance(frame, Result) and frame.request == request:
                socket.send(encode([Goodbye()])[0])
                return frame.body
            if isinstance(frame, Fault):
                raise RemoteError(frame.code, frame.text, unpack(frame.body))
    raise no_house(runtime_dir)
