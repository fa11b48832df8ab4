"""A client's connection to its house, over all the sockets that it takes: it mends itself until it is told to stop.

It moves frames between the socket and the machine (`client_machine`), and hands on what the machine says has happened.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import zmq

from understudy.protocol.client_machine import (
    ClientMachine,
    Happening,
    HelloDeferred,
    HelloRefused,
    Unheard,
    Welcomed,
)
from understudy.protocol.dealer import Dealer
from understudy.protocol.errors import NO_HELLO
from understudy.protocol.frames import Frame, ToClient

RETRY_S = 0.02
RETRY_S_MAX = 1.0
WELCOME_S_MAX = 2.0  # After so long without a welcome a new socket is tried. Each is given twice the time
PATIENCE_S_MAX = 64.0  # of the one before: those that a stopped house does not accept fill its backlog.
DEFERRED_S = 0.5  # The pause, doubled each time, before a house is tried again that was full,
DEFERRED_S_MAX = 30.0
UNREAD_S = 0.25  # and the pause after something that one of the two could not read.
SILENT_S = 25.0  # A house that knows us says something every 10 s.
FLUSH_MS = 100


class Reconnecting:
    """Keeps `machine` connected to the house at `address`; `on_happenings` gets what comes of it."""

    def __init__(self, machine: ClientMachine, address: str, on_happenings: Callable[[list[Happening]], None]) -> None:
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._random = Random()
        self._machine, self._address, self._on_happenings = machine, address, on_happenings
        self._context: zmq.Context[Any] = zmq.Context()
        self._dealer: Dealer | None = None
        self._retry_s, self._deferred_s, self._patience_s = RETRY_S, DEFERRED_S, WELCOME_S_MAX
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False
        self._stopped = False

    def connect(self) -> None:
        """Begin: from now on there is a socket, or soon the next one."""
        self._dealer = Dealer(self._context, self._address, ToClient, self._take, lambda _: self._broken())
        self._machine.connected()
        self.flush()
        self._wake_in(self._patience_s, self._no_welcome)

    def flush(self) -> None:
        """Send what the machine has to say."""
        if self._dealer is not None:
            frames: list[Frame] = list(self._machine.frames_to_send())
            self._dealer.send(frames)

    async def close(self) -> None:
        """Leave, and let what was said last leave too."""
        self._stopped = True
        self._wake_in(None)
        self.flush()
        if self._dealer is not None:
            self._dealer.close(flush_ms=FLUSH_MS)
        self.up.clear()
        self.down.set()
        try:  # In another thread, for a house that is stopped does not take the goodbye and this waits for it.
            ending = self._loop.run_in_executor(None, self._context.term)
        except RuntimeError:  # The interpreter ends, and begins no thread any more.
            self._context.term()
        else:
            await ending

    def _no_welcome(self) -> None:
        self._patience_s = min(2 * self._patience_s, PATIENCE_S_MAX)
        self._begin_anew()

    def _begin_anew(self, pause_s: float = 0.0) -> None:
        """This socket is of no use: make another."""
        if self._dealer is not None:
            self._dealer.close()
            self._broken(pause_s)

    def _broken(self, pause_s: float = 0.0) -> None:
        self.up.clear()
        self.down.set()
        dealer, self._dealer = self._dealer, None
        if dealer is not None and dealer.garbage:
            pause_s = UNREAD_S
            self._happen(self._machine.misread(dealer.garbage))
        self._happen(self._machine.disconnected())
        # At a random moment, because many clients may have lost the same house at once.
        self._wake_in(max(pause_s, self._retry_s) * self._random.uniform(0.5, 1.0), self.connect)
        self._retry_s = min(self._retry_s * 1.5, RETRY_S_MAX)

    def _wake_in(self, seconds: float | None, call: Callable[[], None] | None = None) -> None:
        """Set the one timer: for the next socket, for the welcome, or for a sign of life."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None and call is not None and not self._stopped:
            self._timer = self._loop.call_later(seconds, call)

    def _take(self, frames: list[Frame]) -> None:
        self._heard = True
        for frame in frames:
            if happenings := self._machine.receive(frame):  # type: ignore[arg-type]
                self._happen(happenings)
        self.flush()

    def _happen(self, happenings: list[Happening]) -> None:
        self._on_happenings(happenings)
        for happening in happenings:
            match happening:
                case Welcomed():
                    self._retry_s, self._deferred_s, self._patience_s = RETRY_S, DEFERRED_S, WELCOME_S_MAX
                    self._wake_in(SILENT_S, self._beat)
                    self.down.clear()
                    self.up.set()
                case HelloRefused():
                    self._stopped = True
                    self._begin_anew()
                case HelloDeferred():
                    pause_s, self._deferred_s = self._deferred_s, min(2 * self._deferred_s, DEFERRED_S_MAX)
                    self._begin_anew(pause_s)
                case Unheard(fault=fault):
                    self._begin_anew(0.0 if fault.code == NO_HELLO else UNREAD_S)
                case _:
                    pass

    def _beat(self) -> None:
        """Ask a house that has said nothing for long: one that has forgotten us says so."""
        if not self._heard:
            self._machine.ask_whether_known()
            self.flush()
        self._heard = False
        self._wake_in(SILENT_S, self._beat)
