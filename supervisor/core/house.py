"""Everything the core knows, and the few ways to change the log and speak. Pure.

`House` belongs to one `Core`; `clients`, `turns` and `follows` are functions over it.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from understudy.protocol.bodies import fit
from understudy.protocol.frames import ActorCall, Entry, Fault, Handover, Ping, ToActor, ToClient
from understudy.protocol.sizes import TEXT_CHARACTERS_MAX
from understudy.supervisor.core.budget import Body, Budget, weight
from understudy.supervisor.core.child import LIVING, Child, State
from understudy.supervisor.core.events import (
    Effect,
    EpochRow,
    ForgetMarks,
    Kill,
    Record,
    RestRow,
    Row,
    Spawn,
    TellActor,
    TellClient,
    Warn,
)
from understudy.supervisor.core.open_calls import OpenCalls
from understudy.supervisor.core.sessions import Session, Turn
from understudy.supervisor.core.specs import HouseSpec

OPENS_MAX = 100_000  # Requests remembered for a repeat; the oldest is forgotten first,
PROMPTS_MAX = 100_000  # each kind by itself.
CLIENTS_MAX = 4_000
CALLS_MAX = 10_000
SESSIONS_MAX = 100_000
FOLLOWS_PER_CLIENT_MAX = 4_096
WARNING_CHARACTERS_MAX = 2_000
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
    """A verb that is answered when its actors (with their epochs when it came) have reached its state.

    `under_way`: one of them that had not when it was looked at last.
    """

    peer: bytes
    request: str
    verb: str
    epochs: dict[str, int]
    under_way: str = ""


@dataclass(slots=True)
class Role:
    """An agent: the actor that plays it, its understudies, the turns that run, and the sessions that wait, oldest first.

    Of all that live, `child` has the lowest epoch: so a supervisor that takes them back knows who plays.
    """

    child: Child
    understudies: list[Child] = field(default_factory=list[Child])
    running: int = 0
    queued: int = 0
    sessions: int = 0
    question_bytes: int = 0  # Of the open questions that only one client can answer.
    waiting: dict[str, None] = field(default_factory=dict[str, None])
    resuming: dict[str, None] = field(default_factory=dict[str, None])  # Whose turns are to be handed over once more.
    # (session, ask) -> Whose answers wait for room on the way to the actor.
    ungiven: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])
    playing: dict[str, Session] = field(default_factory=dict[str, Session])  # May still hold some without a turn.
    digest: str = ""  # Of its configuration.
    rest: RestRow | None = None  # How it was written down last, in this life of the house.

    @property
    def actors(self) -> list[Child]:
        """Whoever plays, then the understudies."""
        return [self.child, *self.understudies] if self.understudies else [self.child]

    def turns(self) -> list[tuple[Session, Turn]]:
        """Return the turns that its actor has."""
        found = []
        for name, session in list(self.playing.items()):
            if session.current is None:
                del self.playing[name]
            else:
                found.append((session, session.current))
        return found

    def of_peer(self, peer: bytes) -> Child | None:
        """Return the actor whose connection that is."""
        if self.child.peer == peer:
            return self.child
        return next((each for each in self.understudies if each.peer == peer), None)

    def of_epoch(self, epoch: int) -> Child | None:
        """Return the actor whose incarnation that is."""
        return next((each for each in self.actors if each.epoch == epoch), None)

    def promote(self) -> bool:
        """Let the oldest understudy play from now on; the fallen becomes one. Return False without any.

        One that is on its way out is waited for: a younger one that played beside it would be taken for its understudy.
        """
        living = [each for each in self.understudies if each.state in LIVING]
        heir = min(living, key=lambda each: each.epoch, default=None)
        if heir is None or heir.state is State.STOPPING or heir.link.silent:
            return False
        self.understudies.remove(heir)
        self.understudies.append(self.child)
        self.child = heir.line.player = heir
        heir.line.touch()
        return True

    def added(self, now: float) -> Child:
        """Return another actor, for a process that the configuration has no place for."""
        child = Child(self.child.name, self.child.spec, self.child.line, since=now)
        self.understudies.append(child)
        child.line.actors.append(child)
        return child

    def gone(self, child: Child) -> None:
        """Nothing of a surplus actor lives any more: nor is there a place for it."""
        self.understudies.remove(child)
        child.line.actors.remove(child)

    def plays(self, session: Session) -> None:
        """Count the session's turn as running, and as one to watch."""
        self.running += 1
        self.playing[session.id] = session


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
    roles: dict[str, Role] = field(default_factory=dict[str, Role])
    sessions: dict[str, Session] = field(default_factory=dict[str, Session])
    clients: dict[bytes, Client] = field(default_factory=dict[bytes, Client])
    # See `requests`. Of a plain dict the oldest is found by a walk over all that were forgotten before it.
    opens: OrderedDict[str, tuple[str, bytes]] = field(default_factory=OrderedDict[str, tuple[str, bytes]])
    prompts: OrderedDict[tuple[str, str], tuple[int, bytes]] = field(
        default_factory=OrderedDict[tuple[str, str], tuple[int, bytes]]
    )
    calls: OpenCalls = field(default_factory=OpenCalls)
    waits: list[Wait] = field(default_factory=list[Wait])
    peers: dict[bytes, str] = field(default_factory=dict[bytes, str])
    acks: dict[str, None] = field(default_factory=dict[str, None])
    cancels: dict[tuple[str, int], Turn] = field(default_factory=dict[tuple[str, int], Turn])
    handing: deque[tuple[int, Turn]] = field(default_factory=deque[tuple[int, Turn]])  # Until they are on their way.
    unfed: deque[tuple[int, Entry]] = field(default_factory=deque[tuple[int, Entry]])
    unfed_bytes: int = 0  # Of their bodies.
    unsettled: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])  # Actors whose turns wait in the log.
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
    next_ping: float = 0.0
    return_due: float | None = None  # Until then clients and actors of the last supervisor are expected back.
    due: float = 0.0
    replan: bool = True  # Something may have changed what `due` and the limits depend on,
    recount: bool = True  # for many agents at once.
    touched: dict[str, None] = field(default_factory=dict[str, None])  # Agents that may stand otherwise than before.
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

    def touch(self, agent: str) -> None:
        """Something of the agent changed: look at it when the step ends."""
        self.touched[agent] = None

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
        """Take a child's effects; a spawn is recorded, so that its epoch is never given out again."""
        self.replan = True
        for effect in effects:
            if isinstance(effect, Spawn):
                self.record(EpochRow(effect.actor, effect.epoch, 0, 0))
            self.effects.append(effect)

    def count(self, child: Child, number: int) -> None:
        """The actor's numbers up to `number` are on their way into the log: acknowledge them once they are there."""
        child.number = number
        self.acks[child.name] = None

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

    def tell_actor(self, child: Child, frame: ToActor, after: int = 0, lazily: bool = False) -> None:
        """Send `frame` to the actor's connection, if it has one."""
        if child.peer is not None:
            after = after if after > self.committed else 0
            self.effects.append(TellActor(child.peer, frame, after, lazily))
            if type(frame) is Ping:
                self.budget.pinged(child.peer, after, self.committed, self.now)
            elif self.budget.said(child.peer, weight(frame)):
                self.tell_actor(child, Ping(), self.after)

    def hand(self, child: Child, frame: Handover | ActorCall, **bodies: Body) -> None:
        """Send `frame` with `bodies` (by their fields) once what is being gathered is committed.

        What of them is not kept is read from the log when the frame goes out: one of all that wait is in memory.
        """
        if child.peer is None:
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
        self.effects.append(TellActor(child.peer, replace(frame, **kept), after, missing=tuple(missing)))
        if self.budget.said(child.peer, size):
            self.tell_actor(child, Ping(), self.after)

    def forget_marks(self, actor: str, epoch: int) -> None:
        """Forget what actor#epoch had shown, once what was made of its turns is committed; or a crash runs them twice.

        Nothing was made of those that only the log has: of an agent that left the configuration, say.
        """
        if (actor, epoch) not in self.unsettled:
            self.effects.append(ForgetMarks(actor, epoch, self.after))

    def warn(self, text: str) -> None:
        """Write a line to the house's own log."""
        self.effects.append(Warn(text[:WARNING_CHARACTERS_MAX]))
