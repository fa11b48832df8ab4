"""Reaches the house: finds the one that runs, starts one where none does, and again when it stays away."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from understudy.protocol.client import Client, OnAsk, connect
from understudy.protocol.errors import LocalError, RemoteError
from understudy.supervisor.numbers import seconds
from understudy.supervisor.starting import IDLE_EXIT_S, UpError, ready, share

CONNECT_S_MAX = 10.0
AWAY_S_MAX = 1.0


class NoHouse(Exception):  # noqa: N818 (what it says, not what it is)
    """There is no house, and none could be started; the text says why."""


class Reach:
    """One connection of the edge `name` to the house at `runtime_dir`, mended for as long as somebody wants it.

    `on_up` is called after each reconnect, `on_away` with a text for people when the house cannot be started again.
    """

    def __init__(
        self,
        name: str,
        config: str | None,
        runtime_dir: str,
        state_dir: str,
        on_ask: OnAsk,
        on_up: Callable[[], Awaitable[None]],
        on_away: Callable[[str], None],
    ) -> None:
        self._name, self._config, self._runtime_dir, self._state_dir = name, config, runtime_dir, state_dir
        self._on_ask, self._on_up, self._on_away = on_ask, on_up, on_away
        self._stack = AsyncExitStack()
        self._connecting: asyncio.Task[Client] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._users = 0
        self._used = asyncio.Event()

    def begin(self) -> "asyncio.Task[Client]":
        """Connect, unless that is done or under way."""
        task = self._connecting
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._connecting = asyncio.ensure_future(self._connect())
            task.add_done_callback(self._tell)
        return task

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Give the client; while it is in use, a house that stays away is started again. Raises `NoHouse`."""
        self._users += 1
        self._used.set()
        try:
            yield await asyncio.shield(self.begin())
        finally:
            self._users -= 1
            if not self._users:
                self._used.clear()

    async def close(self) -> None:
        """Leave the house; it goes on."""
        for task in (self._connecting, self._keeping):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, NoHouse):
                    await task
        await self._stack.aclose()

    async def _connect(self) -> Client:
        try:
            await self._start_house()
            client = await self._stack.enter_async_context(
                connect(self._runtime_dir, name=self._name, on_ask=self._on_ask, wait_s=CONNECT_S_MAX)
            )
        except (LocalError, RemoteError) as error:
            raise NoHouse(error.text) from error
        self._keeping = asyncio.ensure_future(self._keep(client))
        return client

    def _tell(self, task: "asyncio.Task[Client]") -> None:
        """Say on stderr why there is no house: before the first request nobody waits for it."""
        if not task.cancelled() and task.exception() is not None:
            print(f"understudy {self._name}: {task.exception()}", file=sys.stderr)

    async def _keep(self, client: Client) -> None:
        """The client finds a house that comes back; one that stays away is started when it is wanted."""
        told = False
        while True:
            await client.down.wait()
            try:
                await asyncio.wait_for(client.up.wait(), AWAY_S_MAX)
            except TimeoutError:
                await self._used.wait()
                try:
                    await self._start_house()
                except NoHouse as error:
                    print(f"understudy {self._name}: {error}", file=sys.stderr)
                    if not told:
                        self._on_away(str(error))
                    told = True
            else:
                told = False
                await self._on_up()

    async def _start_house(self) -> None:
        """Start a house unless one answers. Two editors may try at once: the house's lock lets one through."""
        try:
            if await asyncio.to_thread(ready, self._runtime_dir):
                return
            idle_s = seconds(os.environ.get("UNDERSTUDY_IDLE_EXIT_S", str(IDLE_EXIT_S)))
            await asyncio.to_thread(share, self._config, self._runtime_dir, self._state_dir, idle_s)
        except ValueError as error:
            raise NoHouse(f"UNDERSTUDY_IDLE_EXIT_S: {error}") from error
        except LocalError as error:
            raise NoHouse(error.text) from error
        except UpError as error:
            raise NoHouse(str(error)) from error
