"""The load of a chaos run: sessions that prompt, stream, ask, cancel and queue, and a list of what was accepted."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from understudy.protocol.client import Session, Turn, connect
from understudy.protocol.errors import RemoteError, UnderstudyError
from understudy.supervisor.chaos.ledger import Accepted

SESSIONS_PER_AGENT = 3
BURST_MAX = 4
CONNECT_S_MAX = 20.0
PAUSE_S_MAX = 0.05


class Load:
    """Plays sessions until it is told to stop. `accepted` is the client's own ledger; `refused`: code -> count.

    `ends`: turns whose ending the client has seen.
    """

    def __init__(self, runtime_dir: str, agents: tuple[str, ...], asking: tuple[str, ...], seed: int) -> None:
        """`asking`: those of `agents` that follow all directives; the others stream only."""
        self.runtime_dir = runtime_dir
        self.accepted = Accepted()
        self.refused: Counter[str] = Counter()
        self.ends = 0
        self._agents = agents
        self._asking = asking
        self._seed = seed
        self._made = 0
        self._special: dict[str, Session] = {}
        self._stopped = asyncio.Event()

    @asynccontextmanager
    async def playing(self, settle_s: float) -> AsyncIterator[None]:
        """Play while the body runs; then let running turns end, for `settle_s` at most."""
        async with AsyncExitStack() as stack:
            players: list[asyncio.Task[None]] = []
            for agent in self._agents:
                client = await stack.enter_async_context(connect(self.runtime_dir, "chaos", wait_s=CONNECT_S_MAX))
                self._special[agent] = await client.open(agent, "/tmp")
                for at in range(SESSIONS_PER_AGENT):
                    session = await client.open(agent, "/tmp")
                    random = Random(f"{self._seed} {agent} {at}")
                    players.append(asyncio.create_task(self._play(session, agent, random)))
                    players.append(asyncio.create_task(self._answer(session, random)))
            try:
                yield
                self._stopped.set()
                await asyncio.wait(players[::2], timeout=settle_s)
            finally:
                for player in players:
                    player.cancel()
                ended = await asyncio.gather(*players, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def direct(self, agent: str, directive: str) -> None:
        """Hand in a prompt that does harm; its promise counts like any other's."""
        await self._prompt(self._special[agent], directive)

    async def _play(self, session: Session, agent: str, random: Random) -> None:
        """One session, one turn or burst after the other."""
        while not self._stopped.is_set():
            count = random.choice((1, 1, 1, random.randint(2, BURST_MAX)))
            turns = [await self._prompt(session, self._directives(agent, random)) for _ in range(count)]
            accepted = [turn for turn in turns if turn is not None]
            for turn in accepted:
                if random.random() < 0.15:
                    await asyncio.sleep(random.uniform(0.0, 0.02))
                    with contextlib.suppress(RemoteError):
                        await turn.cancel()
            for turn in accepted:
                await turn.ending()
                self.ends += 1
            await asyncio.sleep(random.uniform(0.0, PAUSE_S_MAX))

    def _directives(self, agent: str, random: Random) -> str:
        stream = f"[[stream {random.randint(1, 20)} {random.randint(0, 5)}]]"
        return f"[[ask May I?]] {stream}" if agent in self._asking and random.random() < 0.2 else stream

    async def _prompt(self, session: Session, directives: str) -> Turn | None:
        """Hand in a prompt with a text of its own; None when the house refused it."""
        self._made += 1
        text = f"{self._seed}.{self._made} {session.id} {directives}"
        try:
            turn = await session.prompt(text)
        except RemoteError as error:
            self.refused[error.code] += 1
            return None
        self.accepted.turns[session.id, turn.number] = text
        return turn

    async def _answer(self, session: Session, random: Random) -> None:
        """Answer the agent's questions, some at once, some a little later."""
        number = 1
        while not self._stopped.is_set():
            try:
                async for item in session.follow(number):
                    number = item.number + 1
                    if item.kind == "asked":
                        await asyncio.sleep(random.choice((0.0, random.uniform(0.0, 0.05))))
                        choice = random.choice(("allow", "reject"))
                        outcome = {"outcome": {"outcome": "selected", "optionId": choice}}
                        await session.answer(item.body["ask"], outcome)
            except UnderstudyError as error:
                self.refused[error.code] += 1
                await asyncio.sleep(PAUSE_S_MAX)
