"""A client with nothing but a socket: what it measures is the house's time, not the library's."""

import os
import time
from itertools import count
from typing import Any

import zmq

from understudy.protocol.frames import PROTOCOL_VERSION, Goodbye, Hello, ToClient, Welcome
from understudy.protocol.messages import decode, decoder, encode
from understudy.protocol.paths import gateway_address

_names = count(1)
_frames = decoder(ToClient)


class Stranger:
    """A new client of the house at `runtime_dir`. It waits for a house that is not there yet."""

    def __init__(self, runtime_dir: str) -> None:
        context: zmq.Context[Any] = zmq.Context.instance()
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.immediate = True  # Nothing is sent to who is about to be killed, say.
        self._socket.reconnect_ivl = 1
        self._address = gateway_address(runtime_dir)

    def greet_ms(self) -> float:
        """Connect and say hello; return after how long the answer came."""
        began = time.perf_counter()
        self._socket.connect(self._address)
        self._socket.send(encode([Hello(PROTOCOL_VERSION, f"stranger-{os.getpid()}-{next(_names)}")])[0])
        assert isinstance(decode(self._socket.recv(), _frames)[0], Welcome)
        return 1000 * (time.perf_counter() - began)

    def close(self) -> None:
        """Say goodbye and close."""
        self._socket.send(encode([Goodbye()])[0])
        self._socket.close(100)
