"""A desk for tests of the core: two agents that run, a session of each, and a log that never fails."""

from random import Random

from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    PROTOCOL_VERSION,
    ActorHello,
    Entry,
    Hello,
    Open,
    Prompt,
    pack,
    unpack,
)
from understudy.supervisor.core.child import State
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import ActorSaid, ClientSaid, Committed, Effect, Event, Record, Spawned
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec

CLIENT = b"client"


class House:
    """A core with two agents that run, a session of each, and a log that never fails."""

    def __init__(self) -> None:
        spec = HouseSpec((AgentSpec("one"), AgentSpec("two")), "", "")
        self.core = Core(spec, Restored(), {}, Random(1), [], 0.0, 0.0)
        self.effects: list[Effect] = []
        self._take(self.core.start(0.0, 0.0))
        for name in ("one", "two"):
            self.handle(Spawned(name, 1, 7, 7))
            self.handle(ActorSaid(name.encode(), ActorHello(BACKSTAGE_VERSION, name, 1, 7)))
        self.handle(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))
        for name in ("one", "two"):
            self.handle(ClientSaid(CLIENT, Open(f"open {name}", name, "/")))
        self.sessions = {session.agent: session.id for session in self.core.house.sessions.values()}

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and commit what it records; return all effects."""
        self.effects = []
        self._take(self.core.handle([event], 0.0, 0.0))
        return self.effects

    def _take(self, effects: list[Effect]) -> None:
        while effects:
            self.effects.extend(effects)
            tickets = [each.ticket for each in effects if isinstance(each, Record)]
            effects = self.core.handle([Committed(tickets[-1])], 0.0, 0.0) if tickets else []

    def prompt(self, agent: str) -> None:
        self.handle(
            ClientSaid(CLIENT, Prompt(f"p{agent}", self.sessions[agent], pack([{"type": "text", "text": "x"}])))
        )

    def state(self, agent: str) -> State:
        return self.core.house.roles[agent].child.state

    def endings(self) -> list[str]:
        rows = [row for each in self.effects if isinstance(each, Record) for row in each.rows]
        return [unpack(row.body)["reason"] for row in rows if isinstance(row, Entry) and row.kind == "ended"]
