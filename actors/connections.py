"""An actor's connections to the supervisor. A blank waits for its role connected, so that the actor need not connect first."""

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

from understudy.protocol.dealer import Dealer
from understudy.protocol.frames import Frame, ToActor

RETRY_S = 0.2


class Connections:
    """Makes connections to the supervisor at `address`; while a blank waits, one is made anew whenever that falls."""

    def __init__(self, context: "zmq.Context[Any]", address: str) -> None:
        self._context, self._address = context, address
        self._spare: Dealer | None = None
        self._retry: asyncio.TimerHandle | None = None

    async def wait(self, descriptor: int) -> None:
        """Return once `descriptor` is readable."""
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, called.set)
        self._prepare()
        await called.wait()
        loop.remove_reader(descriptor)
        if self._retry is not None:
            self._retry.cancel()
        if self._spare is not None:
            self._spare.attend(_ignore, _ignore)

    def connect(self, on_frames: Callable[[list[Frame]], None], on_broken: Callable[[str], None]) -> Dealer:
        """Return a connection, at first the one that was made while nobody knew the role, if it stands."""
        spare, self._spare = self._spare, None
        if spare is None or spare.closed:
            return Dealer(self._context, self._address, ToActor, on_frames, on_broken)
        spare.attend(on_frames, on_broken)
        return spare

    def _prepare(self) -> None:
        self._spare = Dealer(self._context, self._address, ToActor, _ignore, self._broken)

    def _broken(self, why: str) -> None:
        del why
        self._spare = None
        self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._prepare)


def _ignore(_: object) -> None:
    pass
