"""Everything the core knows, and the few ways to change the log and speak. Pure.

`House` belongs to one `Core`; `clients`, `turns` and `follows` are functions over it.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from understudy.protocol.bodies import fit
from understudy.protocol.frames import ActorCall, Entry, Fault, Handover, Ping, ToActor, ToClient
from understudy.protocol.news import News
from understudy.protocol.sizes import TEXT_CHARACTERS_MAX
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.budget import Body, Budget, weight
from understudy.supervisor.core.dues import Dues
from understudy.supervisor.core.events import (
    Announce,
    Effect,
    EpochRow,
    ForgetMarks,
    Kill,
    Record,
    RestoredSession,
    Row,
    Spawn,
    TellActor,
    TellClient,
)
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor
from understudy.supervisor.core.open_calls import OpenCalls
from understudy.supervisor.core.sessions import Session, Turn
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.core.tally import Tally

REQUESTS_KEPT_MAX = 20_000  # Of opens, and of prompts: the log knows all.
CLIENTS_MAX = 4_000
CALLS_MAX = 10_000
SESSIONS_MAX = 100_000
SESSIONS_KEPT_MAX = 10_000  # When more are in memory, those at rest go.
FOLLOWS_PER_CLIENT_MAX = 4_096
YIELDS_AFTER_S = 10.0  # A session that waits for a place so long has the next that a turn leaves: see `places`.
PING_BUSY_EVERY_S = 1.0  # So long may an actor with turns be silent before it is asked.


@dataclass(slots=True)
class Client:
    """One connection that said hello."""

    peer: bytes
    id: str
    name: str
    connection: int = 0  # Which of the client's connections that is.
    follows: dict[int, str] = field(default_factory=dict[int, str])
    behind: dict[int, None] = field(default_factory=dict[int, None])  # Follows that are to be read for, in this order,
    reading: bool = False  # one at a time.
    unasked: bool = False  # A question waits for room on the way to it.
    pinged: bool = False
    heard: float = 0.0


@dataclass(slots=True)
class Wait:
    """A verb that is answered when the actors of its agents (with their epochs when it came) have reached its state.

    `at`: the place of one that had not when it was looked at last.
    """

    peer: bytes
    request: str
    verb: str
    epochs: list[tuple[str, int]]
    at: int = 0


@dataclass(slots=True)
class House:
    """The core's state. `ticket`: the last one given out; `committed`: the last one in the log.

    `life`: names the keeper's process. What a person stopped stays so while it lives, whoever supervises.
    """

    spec: HouseSpec
    random: Random
    epoch: int = 1
    generation: int = 1
    pid: int = 0
    life: str = ""
    agents: dict[str, Agent] = field(default_factory=dict[str, Agent])
    launches: dict[str, Launch] = field(default_factory=dict[str, Launch])
    departed: dict[str, None] = field(default_factory=dict[str, None])  # Agents that left the configuration.
    epochs: dict[str, int] = field(default_factory=dict[str, int])  # The last, of launches that may come again.
    # Those that are in memory: see `at_rest`. Of a plain dict the oldest is found by a walk over all that went before it.
    sessions: OrderedDict[str, Session] = field(default_factory=OrderedDict[str, Session])
    session_count: int = 0  # Of those in the log, too.
    sessions_kept_max: int = SESSIONS_KEPT_MAX
    taken_in: int = 0  # Sessions, since some were let go last.
    grew: bool = False  # Sessions or requests came into memory, and too many may be there.
    # For the next event, which asks for them.
    listed: list[RestoredSession] = field(default_factory=list[RestoredSession])
    clients: dict[bytes, Client] = field(default_factory=dict[bytes, Client])
    # See `requests`.
    requests_kept_max: int = REQUESTS_KEPT_MAX
    opens: OrderedDict[str, tuple[str, bytes]] = field(default_factory=OrderedDict[str, tuple[str, bytes]])
    prompts: OrderedDict[tuple[str, str], tuple[int, bytes]] = field(
        default_factory=OrderedDict[tuple[str, str], tuple[int, bytes]]
    )
    calls: OpenCalls = field(default_factory=OpenCalls)
    waits: list[Wait] = field(default_factory=list[Wait])
    peers: dict[bytes, Actor] = field(default_factory=dict[bytes, Actor])
    acks: dict[Actor, None] = field(default_factory=dict[Actor, None])
    cancels: dict[tuple[str, int], Turn] = field(default_factory=dict[tuple[str, int], Turn])
    handing: deque[tuple[int, Turn]] = field(default_factory=deque[tuple[int, Turn]])  # Until they are on their way.
    unfed: deque[tuple[int, Entry]] = field(default_factory=deque[tuple[int, Entry]])
    unfed_bytes: int = 0  # Of their bodies.
    ticket: int = 0
    committed: int = 0
    calls_made: int = 0
    follows_made: int = 0
    memory_over: str = ""  # Why the gate is shut for everybody.
    refused: dict[str, float] = field(default_factory=dict[str, float])  # Limit -> when to tell of it again.
    log_failed_at: float | None = None
    log_failure: str = ""
    shutdown_asked: bool = False
    reload_asked: bool = False
    hurry_asked: bool = False
    stopping: bool = False
    finished: bool = False
    idle_since: float = 0.0
    yields_after_s: float = YIELDS_AFTER_S
    next_ping: float = 0.0
    return_due: float | None = None  # Until then clients and actors of the last supervisor are expected back.
    due: float = 0.0
    dues: Dues = field(default_factory=Dues)  # Of actors; see `looks`.
    tally: Tally = field(default_factory=Tally)
    replan: bool = True  # Something may have changed what `due` and the limits depend on.
    touched: dict[Actor, None] = field(default_factory=dict[Actor, None])  # They may stand otherwise than before.
    # Who waits to start, by what it waits for: an agent's name, a launch's understudies (`~NAME`), room (``).
    held: dict[str, dict[Actor, None]] = field(default_factory=dict[str, dict[Actor, None]])
    freed: bool = False  # Somebody left: there may be room for one who waits for it.
    now: float = 0.0
    wall: float = 0.0
    admitted: list[Session] = field(default_factory=list[Session])  # Whose turns this event let through the gate.
    budget: Budget = field(default_factory=Budget)
    rows: list[Row] = field(default_factory=list[Row])
    effects: list[Effect] = field(default_factory=list[Effect])

    @property
    def after(self) -> int:
        """The ticket of the rows that are being gathered, to hold effects until they are committed."""
        return self.ticket + 1 if self.rows else self.ticket

    @property
    def after_if_written(self) -> int:
        """As `after`; while the log cannot be written, now: for what must not wait for the disk."""
        return self.after if self.log_failed_at is None else 0

    def touch(self, actor: Actor) -> None:
        """Something of the actor changed: look at it when the step ends."""
        self.tally.see(actor)
        self.touched[actor] = None
        self.replan = True

    def look_within(self, actor: Actor, wait_s: float) -> None:
        """See that the actor is looked at soon, whatever else becomes of it."""
        due = self.now + wait_s
        self.dues.put(actor, due)
        self.due = min(self.due, due)

    def actors(self) -> Iterator[Actor]:
        """Yield all actors: those that play, then those that stand by."""
        for agent in self.agents.values():
            yield from agent.actors
        for launch in self.launches.values():
            yield from launch.understudies

    def has(self, actor: Actor) -> bool:
        """Return whether the actor is one of the house's: of some that were there is no more to be seen to."""
        if not actor.agent:
            return actor in self.launches[actor.launch].understudies
        agent = self.agents.get(actor.agent)  # None: it had left the configuration, and all that it played is over.
        return agent is not None and actor in agent.actors

    def turns_of(self, actor: Actor) -> list[tuple[Session, Turn]]:
        """Return the turns that an actor has."""
        found = []
        for name in list(actor.playing):
            session = self.sessions.get(name)
            if session is None or session.current is None or session.actor is not actor:
                del actor.playing[name]
            else:
                found.append((session, session.current))
        return found

    def record(self, row: Row) -> int:
        """Add a row to this step's record; return its ticket."""
        self.rows.append(row)
        return self.ticket + 1

    def write(self, session: Session, kind: str, turn: int, body: object) -> int:
        """Record one entry with `body`; return the ticket."""
        return self.enter(session.entry(kind, turn, fit(body), self.wall))

    def enter(self, entry: Entry) -> int:
        """Record `entry`, and remember to feed it to followers once it is committed."""
        ticket = self.record(entry)
        self.unfed.append((ticket, entry))
        self.unfed_bytes += len(entry.body)
        return ticket

    def carry_out(self, effects: Sequence[Spawn | Kill]) -> None:
        """Take an actor's effects; a spawn is recorded, so that its epoch is never given out again."""
        self.replan = True
        for effect in effects:
            if isinstance(effect, Spawn):
                self.record(EpochRow(effect.actor, effect.epoch, 0, 0, None, effect.plays, effect.place))
            self.effects.append(effect)

    def cast(self, actor: Actor) -> None:
        """Record whom a living actor plays from now on, in the same commit as what it is handed first."""
        self.record(EpochRow(actor.launch, actor.epoch, actor.pid, actor.started, None, actor.agent, actor.place))

    def count(self, actor: Actor, number: int) -> None:
        """The actor's numbers up to `number` are on their way into the log: acknowledge them once they are there."""
        actor.number = number
        self.acks[actor] = None

    def close_step(self) -> list[Effect]:
        """Return this step's effects, its record first."""
        effects = self.effects
        if self.rows:
            self.ticket += 1
            effects.insert(0, Record(self.ticket, self.rows))
            self.rows = []
        self.effects = []
        return effects

    def tell(self, peer: bytes, frame: ToClient, after: int = 0, lazily: bool = False) -> None:
        """Send `frame` to a client once `after` is committed."""
        after = after if after > self.committed else 0
        self.effects.append(TellClient(peer, frame, after, lazily))
        if type(frame) is Ping:
            self.budget.pinged(peer, after, self.committed, self.now)
        elif self.budget.said(peer, weight(frame)):
            self.tell(peer, Ping(), self.after)

    def room(self, peer: bytes | None, size: int = 0) -> bool:
        """Return whether something large, of `size` bytes when that is known, may go to a peer; else see that it is told."""
        if self.budget.room(peer, size):
            return True
        if peer is not None and self.budget.unasked(peer):
            after = self.after if self.after > self.committed else 0
            self.effects.append((TellClient if peer in self.clients else TellActor)(peer, Ping(), after))
            self.budget.pinged(peer, after, self.committed, self.now)
        return False

    def peer_of(self, client: str) -> bytes | None:
        """Return the newest connection of a client, None when it has none."""
        return next((each.peer for each in reversed(self.clients.values()) if each.id == client), None)

    def fault(self, peer: bytes, code: str, text: str, request: str = "", body: bytes = b"") -> None:
        """Refuse something of a client's."""
        self.tell(peer, Fault(code, text[:TEXT_CHARACTERS_MAX], request, body))

    def tell_actor(self, actor: Actor, frame: ToActor, after: int = 0, lazily: bool = False) -> None:
        """Send `frame` to the actor's connection, if it has one."""
        if actor.peer is not None:
            after = after if after > self.committed else 0
            self.effects.append(TellActor(actor.peer, frame, after, lazily))
            if type(frame) is Ping:
                self.budget.pinged(actor.peer, after, self.committed, self.now)
            elif self.budget.said(actor.peer, weight(frame)):
                self.tell_actor(actor, Ping(), self.after)

    def hand(self, actor: Actor, frame: Handover | ActorCall, **bodies: Body) -> None:
        """Send `frame` with `bodies` (by their fields) once what is being gathered is committed.

        What of them is not kept is read from the log when the frame goes out: one of all that wait is in memory.
        """
        if actor.peer is None:
            return
        size = weight(frame)
        kept: dict[str, bytes] = {}
        missing: list[str] = []
        for name, body in bodies.items():
            size += body.size
            if body.kept is None:
                missing.append(name)
            else:
                kept[name] = body.kept
        after = self.after if self.after > self.committed else 0
        self.effects.append(TellActor(actor.peer, replace(frame, **kept), after, missing=tuple(missing)))
        if self.budget.said(actor.peer, size):
            self.tell_actor(actor, Ping(), self.after)

    def forget_marks(self, actor: str, epoch: int) -> None:
        """Forget what actor#epoch had shown, once what was made of its turns is committed; or a crash runs them twice."""
        self.effects.append(ForgetMarks(actor, epoch, self.after))

    def announce(self, news: News) -> None:
        """Have it written to the house's own log."""
        self.effects.append(Announce(news))

    def note(self, session: Session, turn: int, news: News) -> None:
        """Record what happened in its session, for whoever follows that."""
        self.write(session, "note", turn, news.body())
