"""The desk for tests of the core: clients, actors and the log in the test's hand."""

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
    ToClient,
    Verb,
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
    EnvironmentKept,
    Event,
    Exited,
    KeepEnvironment,
    Kill,
    Record,
    Row,
    Sampled,
    Spawn,
    Spawned,
    TellActor,
    TellClient,
    Ticked,
)
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec
from understudy.supervisor.core.status import status_rows

CLIENT = b"client"


class Desk:
    """A core, with a client at the desk. Its log commits at once unless `stuck`; whoever is spawned is ready at once unless
    `late`. The rest: as of `Core`, and of `HouseSpec`.
    """

    def __init__(
        self,
        *agents: AgentSpec,
        restored: Restored | None = None,
        living: Sequence[Spawned] = (),
        life: str = "",
        seed: int = 1,
        late: bool = False,
        **house: Any,
    ) -> None:
        spec = HouseSpec(agents, "/r", "/s", **house)
        self.core = Core(spec, restored or Restored(), {}, Random(seed), list(living), 0.0, 0.0, life=life)
        self.now = 0.0
        self.late, self.stuck = late, False
        self.keeps: bool = True  # An environment, by its values.
        self.ticket = 0
        self.effects: list[Effect] = []
        self.rows: list[Row] = []
        self.entries: list[Entry] = []
        self.told: list[ToClient] = []
        self.to_actor: list[tuple[bytes, Frame]] = []
        self.news: list[News] = []
        self.spawned: list[tuple[str, int]] = []
        self.living: set[tuple[str, int]] = set()  # Of those that were spawned.
        self.killed: list[tuple[str, int]] = []
        self.sessions: dict[str, str] = {}  # The last one of each agent.
        self._run(self.core.start(0.0, 0.0))
        self.hello(CLIENT, "c")

    def tell(self, *events: Event, after_s: float = 0.0) -> list[Effect]:
        """Let `events` happen together; return all effects, also of what comes of them at once."""
        self.now += after_s
        before = len(self.effects)
        self.living.difference_update((each.actor, each.epoch) for each in events if isinstance(each, Exited))
        self._run(self.core.handle(list(events), self.now, 0.0))
        return self.effects[before:]

    def _run(self, effects: list[Effect]) -> None:
        ready: list[Event] = []
        self.effects.extend(effects)
        for effect in effects:
            match effect:
                case Record(ticket=ticket, rows=rows):
                    self.ticket = ticket
                    self.rows.extend(rows)
                    self.entries.extend(row for row in rows if isinstance(row, Entry))
                case TellClient(frame=frame):
                    self.told.append(frame)
                case TellActor(peer=peer, frame=frame):
                    self.to_actor.append((peer, frame))
                case Spawn(actor=actor, epoch=epoch):
                    self.spawned.append((actor, epoch))
                    self.living.add((actor, epoch))
                    if not self.late:
                        ready.append(self._up(actor, epoch))
                case Kill(actor=actor, epoch=epoch):
                    self.killed.append((actor, epoch))
                case KeepEnvironment(peer=peer, frame=frame):
                    variables = "".join(frame.env.values())
                    frame = msgspec.structs.replace(frame, env={})
                    kept = EnvironmentKept(peer, frame, f"{variables}{effect.cwd}", variables)
                    ready.append(kept if self.keeps else EnvironmentKept(peer, frame, error="the disk is full"))
                case Announce(news=news):
                    self.news.append(news)
                case _:
                    pass
        if self.ticket > self.core.house.committed and not self.stuck:
            ready.insert(0, Committed(self.ticket))
        for event in ready:
            self.tell(event)

    def tick(self, after_s: float = 1.0) -> None:
        self.tell(Ticked(), after_s=after_s)

    # --- clients ---

    def hello(self, peer: bytes, client: str) -> list[Effect]:
        return self.tell(ClientSaid(peer, Hello(PROTOCOL_VERSION, client)))

    def ask(self, frame: FromClient, peer: bytes = CLIENT) -> ToClient:
        """Say `frame` as a client; return the answer."""
        before = len(self.told)
        self.tell(ClientSaid(peer, frame))
        return self.told[before]

    def open(self, agent: str = "a", **env: str) -> str:
        opened = self.ask(Open(f"o{len(self.told)}", agent, "/", env=env))
        assert isinstance(opened, Opened), opened
        self.sessions[agent] = opened.session
        return opened.session

    def prompt(self, session: str) -> ToClient:
        return self.ask(Prompt(f"p{len(self.told)}", session, pack([{"type": "text", "text": "hello"}])))

    def verb(self, verb: str, *names: str) -> list[Effect]:
        """Say a verb that may be answered later."""
        return self.tell(ClientSaid(CLIENT, Verb(f"v{len(self.effects)}", verb, pack({"names": names or ("a",)}))))

    def refused(self, frame: FromClient) -> str:
        fault = self.ask(frame)
        assert isinstance(fault, Fault), fault
        assert "limit_reached" == fault.code
        return fault.text

    # --- actors ---

    def _up(self, actor: str, epoch: int) -> ActorSaid:
        return ActorSaid(peer_of(actor, epoch), ActorHello(BACKSTAGE_VERSION, actor, epoch, 100 + epoch))

    def up(self, actor: str = "a", epoch: int = 1) -> None:
        """Let one that was spawned `late` be ready."""
        self.tell(Spawned(actor, epoch, 100 + epoch, 1))
        self.tell(self._up(actor, epoch))

    def said(self, frame: FromActor, actor: str = "a", epoch: int = 1) -> list[Effect]:
        return self.tell(ActorSaid(peer_of(actor, epoch), frame))

    def exit(self, actor: str, epoch: int, status: int = 0, survivors: int = 0) -> list[Effect]:
        return self.tell(Exited(actor, epoch, 100 + epoch, status, survivors=survivors, shown=[]))

    def use(self, **memory_mb: float) -> None:
        """Measure: `a1=100` is a#1."""
        self.tell(*(Sampled(name[:-1], int(name[-1]), used, 10) for name, used in memory_mb.items()))

    # --- how it stands ---

    def actor(self, name: str = "a") -> Actor:
        return self.core.house.agents[name].first

    def state(self, name: str = "a") -> State:
        return self.actor(name).state

    def endings(self) -> list[str]:
        """Return how turns ended, in order."""
        return [unpack(each.body)["reason"] for each in self.entries if each.kind == "ended"]

    @property
    def warned(self) -> list[str]:
        """What the house's own log says."""
        return [str(each) for each in self.news]

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


def two() -> Desk:
    """Return a desk with two agents, and a session of each."""
    desk = Desk(agent("one"), agent("two"))
    for name in ("one", "two"):
        desk.open(name)
    return desk


def playing(spec: AgentSpec, **house: Any) -> tuple[Desk, str]:
    """Return a desk where turn 2 of a session runs."""
    desk = Desk(spec, **house)
    session = desk.open()
    desk.prompt(session)
    desk.said(Begin(session, 2))
    return desk, session
