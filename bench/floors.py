"""The floors: what the machine does without us, in processes of their own.

`two_hops`: client DEALER -> ROUTER hub ROUTER -> DEALER echo and back, asyncio-free, GIL-bound hub.
"""

import multiprocessing
import os
import signal
import statistics
import time
from typing import Any

import zmq

CONTEXT = multiprocessing.get_context("fork")


def _hub(front: str, back: str) -> None:
    context: zmq.Context[Any] = zmq.Context()
    clients, echoes = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    clients.bind(front)
    echoes.bind(back)
    echo = echoes.recv_multipart()[0]
    poller = zmq.Poller()
    poller.register(clients, zmq.POLLIN)
    poller.register(echoes, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if clients in ready:
            client, body = clients.recv_multipart()
            echoes.send_multipart([echo, client, body])
        if echoes in ready:
            _, client, body = echoes.recv_multipart()
            clients.send_multipart([client, body])


def _echo(back: str) -> None:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(back)
    socket.send(b"hello")
    while True:
        socket.send_multipart(socket.recv_multipart())


class TwoHops:
    """A raw hub and an echo, started by entering; `ask` is one round trip."""

    def __init__(self, folder: str) -> None:
        self._front, self._back = f"ipc://{folder}/floor-front", f"ipc://{folder}/floor-back"

    def __enter__(self) -> "TwoHops":
        self._processes = [
            CONTEXT.Process(target=_hub, args=(self._front, self._back), daemon=True),
            CONTEXT.Process(target=_echo, args=(self._back,), daemon=True),
        ]
        for process in self._processes:
            process.start()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(self._front)
        self.ask(b"x")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(0)
        self._context.term()
        for process in self._processes:
            process.terminate()
            process.join()

    def ask(self, body: bytes) -> bytes:
        """Send and wait for the echo."""
        self._socket.send(body)
        return self._socket.recv()

    def pipelined(self, body: bytes, count: int, window: int) -> float:
        """Return round trips a second with `window` under way."""
        began = time.perf_counter()
        for _ in range(window):
            self._socket.send(body)
        for _ in range(count - window):
            self._socket.recv()
            self._socket.send(body)
        for _ in range(window):
            self._socket.recv()
        return count / (time.perf_counter() - began)


def _warm(address: str) -> None:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(address)
    socket.send(b"hello")
    signal.pause()


def fork_hellos_ms(folder: str, count: int) -> list[float]:
    """Return how long SIGKILL -> reaped -> fork of this warm Python -> its ZeroMQ hello takes, in ms.

    Must be called in a process without threads or a ZeroMQ context of its own: it makes one child for that.
    """
    parent, child = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_fork_hellos, args=(child, f"ipc://{folder}/floor-fork", count))
    process.start()
    result: list[float] = parent.recv()
    process.join()
    return result


def _fork_hellos(pipe: Any, address: str, count: int) -> None:
    listener_end, forker_end = CONTEXT.Pipe()
    forker = CONTEXT.Process(target=_forker, args=(forker_end, address))
    forker.start()
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(address)
    taken: list[float] = []
    for at in range(count + 1):
        began = time.perf_counter()
        listener_end.send("again")
        router.recv_multipart()
        if at:  # The first has nothing to kill.
            taken.append(1000 * (time.perf_counter() - began))
    listener_end.send("end")
    forker.join()
    pipe.send(taken)
    os._exit(0)


def _forker(pipe: Any, address: str) -> None:
    pid = 0
    while pipe.recv() == "again":
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        pid = os.fork()
        if not pid:
            _warm(address)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)
