"""The floors: what the machine does without us, in processes of their own.

`TwoHops`: client DEALER -> ROUTER, ROUTER -> DEALER echo and back, without asyncio; the hub is Python, or (`device`)
libzmq's own proxy, which never holds the GIL.
"""

import multiprocessing
import os
import select
import signal
import statistics
import subprocess
import time
from typing import Any

import zmq

WARM_S = 0.1
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


def _device(front: str, back: str) -> None:
    context: zmq.Context[Any] = zmq.Context()
    clients, echoes = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    clients.bind(front)
    echoes.bind(back)
    zmq.proxy(clients, echoes)


def _echo(back: str, greet: bool) -> None:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(back)
    if greet:
        socket.send(b"hello")
    while True:
        socket.send_multipart(socket.recv_multipart())


class TwoHops:
    """A raw hub and an echo, started by entering; `ask` is one round trip."""

    def __init__(self, folder: str, device: bool = False) -> None:
        self._device = device
        name = f"ipc://{folder}/floor-{'device' if device else 'hub'}"
        self._front, self._back = f"{name}-front", f"{name}-back"

    def __enter__(self) -> "TwoHops":
        self._processes = [
            CONTEXT.Process(target=_device if self._device else _hub, args=(self._front, self._back), daemon=True),
            CONTEXT.Process(target=_echo, args=(self._back, not self._device), daemon=True),
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


class ForkHellos:
    """SIGKILL -> reaped -> fork of a warm Python -> its ZeroMQ hello; `once_ms` is how long one round takes.

    To be entered in a process that has no ZeroMQ context yet: its children fork.
    """

    def __init__(self, folder: str) -> None:
        self._address = f"ipc://{folder}/floor-fork"

    def __enter__(self) -> "ForkHellos":
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_fork_hellos, args=(theirs, self._address))
        self._process.start()
        self.once_ms()  # The first has nothing to kill.
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._process.join()

    def once_ms(self) -> float:
        """Do it once."""
        self._pipe.send("again")
        return float(self._pipe.recv())


def _fork_hellos(pipe: Any, address: str) -> None:
    listener_end, forker_end = CONTEXT.Pipe()
    forker = CONTEXT.Process(target=_forker, args=(forker_end, address))
    forker.start()
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(address)
    while pipe.recv() == "again":
        began = time.perf_counter()
        listener_end.send("again")
        router.recv_multipart()
        pipe.send(1000 * (time.perf_counter() - began))
    listener_end.send("end")
    forker.join()
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


class Deaths:
    """SIGKILL -> pidfd readable, of a warm Python that has a ZeroMQ connection, as an actor is and has.

    To be entered in a process that has no ZeroMQ context yet: its children fork.
    """

    def __init__(self, folder: str) -> None:
        self._address = f"ipc://{folder}/floor-death"

    def __enter__(self) -> "Deaths":
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_deaths, args=(theirs, self._address))
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._process.join()

    def once_ms(self) -> float:
        """Let one live for `WARM_S`, and kill it."""
        self._pipe.send("again")
        return float(self._pipe.recv())


def _deaths(pipe: Any, address: str) -> None:
    listener_end, forker_end = CONTEXT.Pipe()
    forker = CONTEXT.Process(target=_killer, args=(forker_end, address))
    forker.start()
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(address)
    while pipe.recv() == "again":
        listener_end.send("again")
        router.recv_multipart()
        listener_end.send("it is warm")
        pipe.send(listener_end.recv())
    listener_end.send("end")
    forker.join()
    os._exit(0)


def _killer(pipe: Any, address: str) -> None:
    while pipe.recv() == "again":
        pid = os.fork()
        if not pid:
            _warm(address)
        pipe.recv()
        time.sleep(WARM_S)
        pipe.send(death_ms(pid))
        os.waitpid(pid, 0)


def death_ms(pid: int) -> float:
    """Return how long it takes from SIGKILL of a child until its pidfd is readable."""
    pidfd = os.pidfd_open(pid)
    try:
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        select.select([pidfd], [], [])
        return 1000 * (time.perf_counter() - began)
    finally:
        os.close(pidfd)


def sleeper_death_ms() -> float:
    """Return the same for the smallest program there is, `sleep`."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        time.sleep(WARM_S)
        return death_ms(child.pid)


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)
