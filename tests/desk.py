"""Desks for tests of the core: clients and actors in the test's hand, and a log that commits at once."""

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    PROTOCOL_VERSION,
    ActorHello,
    Begin,
    Entry,
    Fault,
    Frame,
    FromActor,
    FromClient,
    Handover,
    Hello,
    Open,
    Opened,
    Prompt,
    Stop,
    pack,
    unpack,
)
from understudy.protocol.news import News
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    Announce,
    ClientSaid,
    Committed,
    Effect,
    Event,
    Exited,
    Kill,
    ReadSessions,
    Record,
    RestoredSession,
    Sampled,
    SessionsRead,
    Spawn,
    Spawned,
    TellActor,
    TellClient,
    Ticked,
)
from understudy.supervisor.core.life import State
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec
from understudy.supervisor.core.status import status_rows

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
        return self.core.house.agents[agent].first.state

    def endings(self) -> list[str]:
        rows = [row for each in self.effects if isinstance(each, Record) for row in each.rows]
        return [unpack(row.body)["reason"] for row in rows if isinstance(row, Entry) and row.kind == "ended"]


class Desk:
    """A core whose log commits at once, with a client at the desk; whoever is spawned is ready at once."""

    def __init__(
        self,
        *agents: AgentSpec,
        actors_max: int = 0,
        memory_mb: int = 0,
        restored: Restored | None = None,
        living: Sequence[Spawned] = (),
    ) -> None:
        spec = HouseSpec(agents, "/r", "/s", actors_max=actors_max, memory_mb=memory_mb)
        self.core = Core(spec, restored or Restored(), {}, Random(1), list(living), 0.0, 0.0)
        self.now = 0.0
        self.late = False  # Whether those that are spawned from here on are not ready.
        self.entries: list[Entry] = []
        self.effects: list[Effect] = []
        self.told: list[Frame] = []
        self.to_actor: list[tuple[bytes, Frame]] = []
        self.news: list[News] = []
        self.killed: list[tuple[str, int]] = []
        self._run(self.core.start(0.0, 0.0))
        self.tell(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))

    def tell(self, *events: Event, after_s: float = 0.0) -> None:
        self.now += after_s
        self._run(self.core.handle(list(events), self.now, 0.0))

    def _run(self, effects: list[Effect]) -> None:
        ready: list[Event] = []
        self.effects.extend(effects)
        for effect in effects:
            match effect:
                case Record(ticket=ticket, rows=rows):
                    self.entries.extend(row for row in rows if isinstance(row, Entry))
                    ready.append(Committed(ticket))
                case TellClient(frame=frame):
                    self.told.append(frame)
                case TellActor(peer=peer, frame=frame):
                    self.to_actor.append((peer, frame))
                case Spawn(actor=actor, epoch=epoch) if not self.late:
                    hello = ActorHello(PROTOCOL_VERSION, actor, epoch, 100 + epoch)
                    ready.append(ActorSaid(peer_of(actor, epoch), hello))
                case Kill(actor=actor, epoch=epoch):
                    self.killed.append((actor, epoch))
                case Announce(news=news):
                    self.news.append(news)
                case ReadSessions(peer=peer, request=request):
                    found = [
                        RestoredSession(each.id, each.agent, each.cwd, b"", b"", each.recorded, each.opened_at)
                        for each in reversed(self.core.house.sessions.values())
                    ]
                    ready.append(SessionsRead(peer, request, found))
                case _:
                    pass
        for event in ready:
            self.tell(event)

    @property
    def warned(self) -> list[str]:
        """What the house's own log says."""
        return [str(each) for each in self.news]

    def tick(self, after_s: float = 1.0) -> None:
        self.tell(Ticked(), after_s=after_s)

    def ask(self, frame: FromClient) -> Frame:
        """Say `frame` as the client; return the answer."""
        before = len(self.told)
        self.tell(ClientSaid(CLIENT, frame))
        return self.told[before]

    def open(self, agent: str = "a") -> str:
        opened = self.ask(Open(f"o{len(self.told)}", agent, "/"))
        assert isinstance(opened, Opened), opened
        return opened.session

    def prompt(self, session: str) -> Frame:
        return self.ask(Prompt(f"p{len(self.told)}", session, pack([{"type": "text", "text": "hello"}])))

    def refused(self, frame: FromClient) -> str:
        fault = self.ask(frame)
        assert isinstance(fault, Fault), fault
        assert "limit_reached" == fault.code
        return fault.text

    def said(self, frame: FromActor, actor: str = "a", epoch: int = 1) -> None:
        self.tell(ActorSaid(peer_of(actor, epoch), frame))

    def exit(self, actor: str, epoch: int, status: int = 0) -> None:
        self.tell(Exited(actor, epoch, 100 + epoch, status, shown=[]))

    def use(self, **memory_mb: float) -> None:
        """Measure: `a1=100` is a#1."""
        self.tell(*(Sampled(name[:-1], int(name[-1]), used, 10) for name, used in memory_mb.items()))

    def row(self, name: str) -> dict[str, Any]:
        return next(msgspec.to_builtins(row) for row in status_rows(self.core.house) if row.name == name)

    def states(self) -> dict[str, str]:
        return {row.name: row.state for row in status_rows(self.core.house)}

    def handed(self) -> list[tuple[bytes, int]]:
        return [(peer, frame.turn) for peer, frame in self.to_actor if isinstance(frame, Handover)]

    def asked_to_stop(self) -> list[bytes]:
        return [peer for peer, frame in self.to_actor if isinstance(frame, Stop)]


def peer_of(actor: str, epoch: int) -> bytes:
    return f"{actor}#{epoch}".encode()


def agent(name: str = "a", **settings: Any) -> AgentSpec:
    return AgentSpec(name, **settings)


def playing(spec: AgentSpec) -> tuple[Desk, str]:
    """Return a desk where turn 2 of a session runs."""
    desk = Desk(spec)
    session = desk.open()
    desk.prompt(session)
    desk.said(Begin(session, 2))
    return desk, session
