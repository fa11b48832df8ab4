"""Where a blank waits for its role: connected to the supervisor, so that the actor need not connect first."""

import asyncio
from typing import Any

import zmq

from understudy.protocol.dealer import Dealer
from understudy.protocol.frames import ToActor

RETRY_S = 0.2


class Wings:
    """Where a blank waits for its role, with a connection that is made anew whenever a supervisor falls."""

    def __init__(self, context: "zmq.Context[Any]", address: str) -> None:
        self._context, self._address = context, address
        self._dealer: Dealer | None = None
        self._retry: asyncio.TimerHandle | None = None

    async def wait(self, descriptor: int) -> Dealer | None:
        """Return the connection, None when there is none just now, once `descriptor` is readable."""
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, called.set)
        self._connect()
        await called.wait()
        loop.remove_reader(descriptor)
        if self._retry is not None:
            self._retry.cancel()
        if self._dealer is not None:
            self._dealer.attend(_ignore, _ignore)
        return self._dealer

    def _connect(self) -> None:
        self._dealer = Dealer(self._context, self._address, ToActor, _ignore, self._broken)

    def _broken(self, why: str) -> None:
        del why
        self._dealer = None
        self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._connect)


def _ignore(_: object) -> None:
    pass
