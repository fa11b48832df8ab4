"""What the command line waits for, told while it waits. `start`, `stop` and `restart` show each name as it gets there."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator

from understudy.protocol.client import Client, connect
from understudy.protocol.errors import UnderstudyError
from understudy.protocol.verbs import AgentStatus, Outcome, Restart, Start, Status, Stop

LOOK_S = 0.1
SIGN_S = 1.0  # After so long a wait shows what it waits for,
SIGN_AGAIN_S = 10.0  # and again.
VERBS: dict[str, type[Start | Stop | Restart]] = {"start": Start, "stop": Stop, "restart": Restart}
NOT_RUNNING = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")


def control(place: str, verb: str, names: list[str], timeout_s: float, waits: bool) -> int:
    """Carry out `verb` on `names`; return the exit status. Raises `LocalError`, `RemoteError`."""
    return asyncio.run(_control(place, verb, names, timeout_s, waits))


async def _control(place: str, verb: str, names: list[str], timeout_s: float, waits: bool) -> int:
    async with connect(place, name=verb) as client:
        before = {row.name: row.epoch for row in await client.verb(Status())}
        doing = asyncio.ensure_future(client.verb(VERBS[verb](names)))
        watch = _Watch(client, verb, sorted(before) if names == ["all"] else names, before)
        try:
            if not waits:
                await client.verb(Status())  # What was said before it has been heard by then.
                return 0 if not doing.done() else watch.done(await doing)
            until = asyncio.get_running_loop().time() + timeout_s
            while not doing.done():
                left_s = until - asyncio.get_running_loop().time()
                if left_s <= 0:
                    text = f"not done within {timeout_s:g} s, it goes on: {watch.waiting}"
                    print(f"understudy: {text}", file=sys.stderr)
                    return 1
                await asyncio.wait({doing}, timeout=min(LOOK_S, left_s))
                if not doing.done():
                    await watch.look()
            return watch.done(await doing)
        finally:
            doing.cancel()


class Waits:
    """Says on stderr, while a turn of `agent` shows nothing, what keeps it waiting. An agent that works may be silent."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._told_at = asyncio.get_running_loop().time() - SIGN_AGAIN_S + SIGN_S

    def heard(self) -> None:
        """Something of the turn was shown."""
        self._told_at = asyncio.get_running_loop().time()

    async def tell(self, client: Client) -> None:
        """Look and tell until cancelled. A house that is away is told of elsewhere."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(LOOK_S, self._told_at + SIGN_AGAIN_S - loop.time()))
            if loop.time() - self._told_at < SIGN_AGAIN_S:
                continue
            self.heard()
            with contextlib.suppress(UnderstudyError):
                for row in await client.verb(Status()):
                    waiting_for = row.waiting_for if row.name == self._agent else ""
                    if waiting_for and not waiting_for.startswith("an answer"):  # Questions are shown by themselves.
                        print(f"\nunderstudy: waiting for {waiting_for}", file=sys.stderr)


class _Watch:
    """What the status tells of `names` meanwhile. `before`: the epochs when the verb was asked for."""

    def __init__(self, client: Client, verb: str, names: list[str], before: dict[str, int]) -> None:
        self._client, self._verb, self._names, self._before = client, verb, names, before
        self._shown: set[str] = set()
        self._told = ""
        self._tell_at = asyncio.get_running_loop().time() + SIGN_S
        self.waiting = ", ".join(names)

    async def look(self) -> None:
        """Show who has got there, and, after a while, who has not."""
        try:
            rows = await asyncio.wait_for(self._client.verb(Status()), SIGN_S)
        except TimeoutError:
            self.waiting = "the house does not answer"
        else:
            self.waiting = "; ".join(self._see(rows))
        now = asyncio.get_running_loop().time()
        if self.waiting and now >= self._tell_at and self.waiting != self._told:
            self._told, self._tell_at = self.waiting, now + SIGN_S
            print(f"understudy: waiting: {self.waiting}", file=sys.stderr)

    def _see(self, rows: list[AgentStatus]) -> Iterator[str]:
        for row in rows:
            if row.name not in self._names or row.name in self._shown:
                continue
            if self._is_there(row):
                self._show(row.name, row.state)
            else:
                before = "before that: " if row.state == "STARTING" else ""
                yield f"{row.name} is {row.state}" + (f" ({before}{row.why})" if row.why else "")

    def done(self, rows: list[Outcome]) -> int:
        """Show what was not shown yet; return the exit status."""
        for row in rows:
            if row.error:
                print(f"understudy: {row.name}: {row.error}", file=sys.stderr)
            elif row.name not in self._shown:
                self._show(row.name, row.state)
        return int(any(row.error for row in rows))

    def _is_there(self, row: AgentStatus) -> bool:
        if self._verb == "stop":
            return row.state in NOT_RUNNING
        return row.state == "RUNNING" and (self._verb == "start" or row.epoch > self._before.get(row.name, 0))

    def _show(self, name: str, state: str) -> None:
        self._shown.add(name)
        print(f"{name}: {state}", flush=True)
