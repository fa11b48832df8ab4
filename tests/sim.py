"""A world with a virtual clock around the unchanged pure parts: the core, actors' and clients' machines.

One seed decides everything: which frame moves next, who dies, which connection is cut, when the disk
fails. `play(seed)` raises `AssertionError` with the seed and the story when a promise is broken.
Run one again: `python -m tests.sim SEED`.
"""

import sys
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from random import Random

from understudy.protocol.backstage import Answered, Backstage, GoGiven, Link, StopAsked, TurnCancelled, TurnHanded
from understudy.protocol.follower import Arrived, Asked, Follower, Replied
from understudy.protocol.follower import Link as ClientLink
from understudy.protocol.frames import Accepted, Answer, Entry, Fault, Frame, Open, Opened, Prompt, pack, unpack
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    ActorUnreachable,
    ClientLost,
    ClientSaid,
    Committed,
    Effect,
    EntriesRead,
    EpochRow,
    Event,
    Exited,
    Kill,
    LogFailed,
    MarkRow,
    ReadEntries,
    Record,
    SessionRow,
    Spawn,
    Spawned,
    TellActor,
    TellClient,
    Ticked,
    TurnRow,
)
from understudy.supervisor.core.restored import Restored, RestoredSession, RestoredTurn
from understudy.supervisor.core.specs import AgentSpec, HouseSpec, RestartPolicy

STEPS = 200
UPDATES_PER_TURN = 4
ASK_ALL, ASK_ONE = -1, -2  # Among an agent's updates: a question for everybody, or for the client that prompted.
POLICY = RestartPolicy(intensity=10_000, backoff_min_s=0.01, backoff_max_s=0.1)
AGENT = AgentSpec("a", restart=POLICY, cancel_grace_s=1.0)
UNDERSTUDIES_MAX = 2


class Log:
    """What is committed."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.sessions: dict[str, SessionRow] = {}
        self.turns: dict[tuple[str, int], TurnRow] = {}
        self.epochs: dict[str, int] = {}
        self.marks: dict[tuple[str, int], int] = {}

    def commit(self, record: Record) -> None:
        for row in record.rows:
            match row:
                case Entry():
                    self.entries.setdefault(row.session, []).append(row)
                case SessionRow():
                    self.sessions[row.session] = row
                case TurnRow():
                    before = self.turns.get((row.session, row.turn), row)
                    self.turns[row.session, row.turn] = TurnRow(
                        row.session, row.turn, row.state, before.request, [], before.client
                    )
                case EpochRow():
                    self.epochs[row.actor] = max(row.epoch, self.epochs.get(row.actor, 0))
                case MarkRow():
                    self.marks[row.actor, row.epoch] = row.n
                case _:
                    pass

    def restore(self) -> Restored:
        sessions = [
            RestoredSession(name, row.agent, row.cwd, b"", b"", row.request, self.entries[name][-1].last, 0.0)
            for name, row in self.sessions.items()
        ]
        turns = [
            RestoredTurn(
                name, turn, row.state, row.request, [], pack(self.prompt(name, turn)), row.client, self.asks(name, turn)
            )
            for (name, turn), row in sorted(self.turns.items())
            if row.state != "ended"
        ]
        requests = {row.request: (row.session, 0) for row in self.sessions.values()}
        requests.update({row.request: key for key, row in self.turns.items()})
        return Restored(sessions, turns, requests, dict(self.epochs), dict(self.marks))

    def asks(self, session: str, turn: int) -> list[Entry]:
        return [
            each
            for each in self.entries[session]
            if each.turn == turn and each.kind in ("asked", "answered", "requeued")
        ]

    def prompt(self, session: str, turn: int) -> object:
        return next(unpack(entry.body)["content"] for entry in self.entries[session] if entry.first == turn)


@dataclass
class Actor:
    """A process with its agent inside: what it still has to do for each turn."""

    epoch: int
    pid: int
    machine: Backstage
    peer: bytes = b""
    todo: dict[tuple[str, int], deque[int]] = field(default_factory=dict)
    texts: dict[tuple[str, int], str] = field(default_factory=dict)
    shown: set[tuple[str, int]] = field(default_factory=set)
    asking: dict[str, tuple[str, int]] = field(default_factory=dict)


class World:
    """Everything that exists, for one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.story: list[str] = []
        self.log = Log()
        agent = replace(AGENT, understudies=seed % (UNDERSTUDIES_MAX + 1))
        self.spec = HouseSpec((agent,), "/r", "/s")
        self.actors: dict[int, Actor] = {}
        self.pids = 0
        self.epochs = [0]
        self.peers = 0
        self.to_core: list[tuple[bytes, deque[Frame]]] = []
        self.wires: dict[bytes, tuple[deque[Frame], deque[Frame]]] = {}
        self.owner: dict[bytes, Actor | None] = {}
        self.exits: list[Exited] = []
        self.ledger: Counter[str] = Counter()
        self.client = Follower("c")
        self.client_peer = b""
        self.asked = 0
        self.sessions: list[str] = []
        self.accepted: dict[tuple[str, int], str] = {}
        self.requests: dict[str, tuple[str, int]] = {}
        self.endings: Counter[tuple[str, int]] = Counter()
        self.reasons: dict[tuple[str, int], str] = {}
        self.seen: dict[int, int] = {}
        self.said: dict[tuple[str, int], list[int]] = {}
        self.disk = True
        self.texts: dict[str, str] = {}
        self.questions: dict[str, str] = {}
        self.served: dict[str, bool] = {}
        self.asked_all: set[str] = set()
        self.answered_all: set[str] = set()
        self.files: dict[int, set[tuple[str, int]]] = {}
        self.settled: list[int] = []
        self.start()

    # --- the supervisor's shell ---

    def start(self) -> None:
        self.records: list[Record] = []
        self.held: list[TellClient | TellActor] = []
        self.committed = 0
        living = [Spawned("a", actor.epoch, actor.pid, 1) for actor in self.actors.values()]
        self.settled = [epoch for epoch in self.files if epoch not in self.actors]
        shown = {key for epoch in self.settled for key in self.files[epoch]}
        restored = self.log.restore()
        restored.epochs["a"] = max([restored.epochs.get("a", 0), *self.files])
        self.exits = []
        self.core = Core(self.spec, restored, shown, Random(self.random.random()), living, self.now, 0.0)
        self.run(self.core.start(self.now, 0.0))

    def tell(self, event: Event) -> None:
        self.run(self.core.handle([event], self.now, 0.0))

    def run(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record():
                    self.records.append(effect)
                case TellClient() | TellActor():
                    if effect.after > self.committed:
                        self.held.append(effect)
                    else:
                        self.send(effect)
                case Spawn():
                    self.spawn(effect)
                case Kill():
                    actor = self.actors.get(effect.epoch)
                    if actor is not None:
                        self.die(actor)
                case ReadEntries():
                    entries = [each for each in self.log.entries[effect.session] if each.last >= effect.number]
                    self.tell(EntriesRead(effect.peer, effect.follow, entries[:3]))
                case _:
                    pass

    def commit(self) -> None:
        if not self.records:
            return
        if not self.disk:
            self.tell(LogFailed("full"))
            return
        for record in self.records:
            self.log.commit(record)
            self.settled += [row.epoch for row in record.rows if isinstance(row, EpochRow) and row.status is not None]
        while self.settled:
            self.files.pop(self.settled.pop(), None)
        self.committed = self.records[-1].ticket
        self.records = []
        ready = [each for each in self.held if each.after <= self.committed]
        self.held = [each for each in self.held if each.after > self.committed]
        for each in ready:
            self.send(each)
        self.tell(Committed(self.committed))

    def send(self, effect: TellClient | TellActor) -> None:
        wire = self.wires.get(effect.peer)
        if wire is not None:
            wire[1].append(effect.frame)
        else:
            self.tell(ActorUnreachable(effect.peer) if isinstance(effect, TellActor) else ClientLost(effect.peer))

    # --- processes and connections ---

    def spawn(self, effect: Spawn) -> None:
        most = 1 + self.spec.agents[0].understudies
        assert len(self.actors) < most, f"{effect.actor}#{effect.epoch} is spawned while {list(self.actors)} live"
        newest = max(*self.epochs, *self.actors, 0)
        assert effect.epoch > newest, f"epoch {effect.epoch} after {newest}"
        self.pids += 1
        actor = Actor(effect.epoch, self.pids, Backstage(effect.actor, effect.epoch, self.pids))
        self.actors[effect.epoch] = actor
        self.tell(Spawned("a", effect.epoch, actor.pid, 1))

    def connect(self, actor: Actor | None) -> bytes:
        self.peers += 1
        peer = self.peers.to_bytes(4, "big")
        self.wires[peer] = (deque(), deque())
        self.owner[peer] = actor
        if actor is not None:  # It makes its file before it connects; until then nobody has heard of its epoch.
            self.files[actor.epoch] = actor.shown
            self.epochs.append(actor.epoch)
        return peer

    def cut(self, peer: bytes) -> None:
        """The connection is gone, with what was in flight to us; what was on its way to the core may arrive."""
        wire = self.wires.pop(peer, None)
        if wire is None:
            return
        self.to_core.append((peer, wire[0]))
        actor = self.owner[peer]
        if actor is not None:
            actor.machine.disconnected()
            actor.peer = b""
        else:
            self.client.disconnected()
            self.client_peer = b""
            self.tell(ClientLost(peer))

    def die(self, actor: Actor) -> None:
        self.say(f"actor #{actor.epoch} dies")
        del self.actors[actor.epoch]
        if actor.peer:
            self.cut(actor.peer)
        self.exits.append(Exited("a", actor.epoch, actor.pid, -9, shown=sorted(actor.shown)))

    def crash(self) -> None:
        """The supervisor is killed: what it had not committed, and every connection, is gone."""
        self.say("the supervisor dies")
        for peer in list(self.wires):
            self.wires.pop(peer)
            actor = self.owner[peer]
            if actor is not None:
                actor.machine.disconnected()
                actor.peer = b""
            else:
                self.client.disconnected()
                self.client_peer = b""
        self.to_core = []
        self.start()

    # --- one step ---

    def say(self, text: str) -> None:
        self.story.append(f"{self.now:.3f} {text}")

    def step(self, faults: bool) -> None:
        self.now += self.random.uniform(0.0, 0.02)
        if faults and self.random.random() < 0.06:
            self.fault()
        chance = self.random.random()
        if chance < 0.25:
            self.commit()
        elif chance < 0.35:
            if self.now >= self.core.deadline():
                self.tell(Ticked())
        elif chance < 0.42 and self.exits:
            self.tell(self.exits.pop(0))
        elif chance < 0.55 and self.actors:
            self.act(self.random.choice(list(self.actors.values())))
        elif chance < 0.65:
            self.client_step(faults)
        else:
            for _ in range(self.random.randrange(1, 6)):  # Else little happens between two faults.
                self.move()

    def fault(self) -> None:
        match self.random.randrange(5):
            case 0 if self.actors:
                self.die(self.random.choice(list(self.actors.values())))
            case 1:
                self.crash()
            case 2 if self.client_peer:
                self.say("the client's connection is cut")
                self.cut(self.client_peer)
            case 3 if self.actors:
                actor = self.random.choice(list(self.actors.values()))
                if actor.peer:
                    self.say(f"the connection of actor #{actor.epoch} is cut")
                    self.cut(actor.peer)
            case _:
                self.disk = not self.disk

    def move(self) -> None:
        """One frame arrives somewhere."""
        waiting = [(peer, 0) for peer, wire in self.wires.items() if wire[0]]
        waiting += [(peer, 1) for peer, wire in self.wires.items() if wire[1]]
        late = [at for at, (_, frames) in enumerate(self.to_core) if frames]
        if late and self.random.random() < 0.3:
            peer, frames = self.to_core[self.random.choice(late)]
            self.deliver(peer, frames.popleft())
            return
        if not waiting:
            return
        peer, side = self.random.choice(waiting)
        if side == 0:
            self.deliver(peer, self.wires[peer][0].popleft())
            return
        frame = self.wires[peer][1].popleft()
        actor = self.owner[peer]
        if actor is None:
            self.hear(frame)
        else:
            self.play(actor, frame)

    def deliver(self, peer: bytes, frame: Frame) -> None:
        event = ClientSaid if self.owner[peer] is None else ActorSaid
        self.tell(event(peer, frame))  # type: ignore[arg-type]

    # --- the actor ---

    def act(self, actor: Actor) -> None:
        if actor.machine.link is Link.DOWN:
            actor.peer = self.connect(actor)
            actor.machine.connected()
        for key, left in list(actor.todo.items()):
            if key in actor.asking.values():
                continue
            if left and left[0] in (ASK_ALL, ASK_ONE):
                name = actor.machine.ask(*key, "may I", {}, public=left.popleft() == ASK_ALL)
                actor.asking[name] = key
            elif left:
                actor.machine.say(*key, {"at": left.popleft()})
            else:
                actor.machine.end(*key, "end_turn")
                del actor.todo[key]
        self.flush(actor)

    def flush(self, actor: Actor) -> None:
        if actor.peer:
            self.wires[actor.peer][0].extend(actor.machine.frames_to_send())

    def play(self, actor: Actor, frame: Frame) -> None:
        for happening in actor.machine.receive(frame):  # type: ignore[arg-type]
            match happening:
                case TurnHanded(handover=handover):
                    key = (handover.session, handover.turn)
                    actor.texts[key] = unpack(handover.body)[0]["text"]
                    if actor.machine.begin(*key):
                        self.show(actor, key)
                case GoGiven(session=session, turn=turn):
                    self.show(actor, (session, turn))
                case Answered(answer=answer):
                    actor.asking.pop(answer.ask, None)
                case TurnCancelled() | StopAsked():
                    raise AssertionError("nobody cancels here")
                case _:
                    pass
        self.flush(actor)

    def show(self, actor: Actor, key: tuple[str, int]) -> None:
        """The agent gets the prompt."""
        actor.shown.add(key)
        self.ledger[actor.texts[key]] += 1
        actor.todo[key] = deque(range(UPDATES_PER_TURN))
        if self.random.random() < 0.8:
            actor.todo[key].insert(2, self.random.choice((ASK_ALL, ASK_ONE)))

    # --- the client ---

    def client_step(self, faults: bool) -> None:
        if self.client.link is ClientLink.DOWN:
            self.client_peer = self.connect(None)
            self.client.connected()
        elif self.questions and self.random.random() < 0.4:
            name = self.random.choice(list(self.questions))
            self.client.answer(Answer(self.questions.pop(name), name, pack("yes")))
            if name in self.served:
                self.served[name] = True
        elif faults and self.random.random() < 0.5:
            self.asked += 1
            if len(self.sessions) < 2:
                self.client.request(Open(f"o{self.asked}", "a", "/"))
            else:
                text = f"p{self.asked}"
                session = self.random.choice(self.sessions)
                self.texts[text] = session
                self.client.request(Prompt(text, session, pack([{"type": "text", "text": text}])))
        elif self.requests and self.random.random() < 0.3:
            # An editor that came back asks again with an id that was answered before.
            text = self.random.choice(list(self.requests))
            if text not in self.client.pending:
                self.client.request(Prompt(text, self.texts[text], pack([{"type": "text", "text": text}])))
        self.client_flush()

    def client_flush(self) -> None:
        if self.client_peer:
            self.wires[self.client_peer][0].extend(self.client.frames_to_send())

    def hear(self, frame: Frame) -> None:
        for happening in self.client.receive(frame):  # type: ignore[arg-type]
            match happening:
                case Replied(frame=Opened(session=session)):
                    if session not in self.sessions:
                        self.sessions.append(session)
                        follow = self.client.follow(session, 1)
                        self.seen[follow] = 0
                case Replied(request=request, frame=Accepted(session=session, turn=turn)):
                    known = self.requests.setdefault(request, (session, turn))
                    assert known == (session, turn), f"request {request} was accepted as {known} and {(session, turn)}"
                    self.accepted[session, turn] = request
                case Replied(frame=Fault(code=code)):
                    assert code == "log_stalled", f"fault {code}"
                case Arrived():
                    self.arrived(happening)
                case Asked(ask=ask):
                    if self.served.setdefault(ask.ask, False):
                        self.client.answer(Answer(ask.session, ask.ask, pack("yes")))
                    else:
                        self.questions[ask.ask] = ask.session
                case _:
                    pass
        self.client_flush()

    def arrived(self, happening: Arrived) -> None:
        for entry in happening.entries:
            for number in range(max(entry.first, happening.number), entry.last + 1):
                assert number == self.seen[happening.follow] + 1, (
                    f"number {number} after {self.seen[happening.follow]} in follow {happening.follow}"
                )
                self.seen[happening.follow] = number
            key = (entry.session, entry.turn)
            if entry.kind == "ended":
                self.endings[key] += 1
                self.reasons[key] = unpack(entry.body)["reason"]
            elif entry.kind == "asked":
                name = unpack(entry.body)["ask"]
                assert name not in self.asked_all, f"question {name} is asked twice"
                self.asked_all.add(name)
                self.questions[name] = entry.session
            elif entry.kind == "answered":
                name = unpack(entry.body)["ask"]
                assert name not in self.answered_all, f"question {name} is answered twice"
                self.answered_all.add(name)
                self.questions.pop(name, None)
            elif entry.kind == "update":
                self.said.setdefault(key, []).extend(each["at"] for each in unpack(entry.body))
            self.client.consumed(happening.follow, len(entry.body) + 64)

    # --- promises ---

    def check(self) -> None:
        twice = [text for text, count in self.ledger.items() if count > 1]
        assert not twice, f"prompts that reached an agent twice: {twice}"
        ended_twice = [key for key, count in self.endings.items() if count > 1]
        assert not ended_twice, f"turns with two endings: {ended_twice}"
        playing = Counter(session for actor in self.actors.values() for session, _ in actor.todo)
        assert all(count == 1 for count in playing.values()), f"two turns of one session run at once: {playing}"
        for key, numbers in self.said.items():
            assert key[1] == 0 or numbers == sorted(set(numbers)), f"updates of {key}: {numbers}"
        quarantined = [session.quarantined for session in self.core.house.sessions.values() if session.quarantined]
        assert not quarantined, quarantined

    def finish(self) -> None:
        """After quiescence: every accepted turn has its one ending, truthful."""
        self.disk = True
        for _ in range(6_000):
            self.step(faults=False)
            self.check()
            if not self.client.pending and all(self.endings[key] for key in self.accepted):
                break
        for key, text in self.accepted.items():
            assert self.endings[key] == 1, f"turn {key} ({text}) has {self.endings[key]} endings"
            if self.reasons[key] == "interrupted":
                assert self.ledger[text] == 1, f"turn {key} ({text}) was interrupted, but no agent had got it"
            else:
                assert self.reasons[key] == "end_turn", f"turn {key} ended as {self.reasons[key]}"
                assert self.said[key] == list(range(UPDATES_PER_TURN)), f"turn {key} said {self.said.get(key)}"


def play(seed: int, steps: int = STEPS) -> World:
    """Play one schedule; raise `AssertionError` with the seed and the story when a promise is broken."""
    world = World(seed)
    try:
        for _ in range(steps):
            world.step(faults=True)
            world.check()
        world.finish()
    except (AssertionError, KeyError, IndexError) as error:
        story = "\n".join(world.story[-30:])
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{story}") from error
    return world


def main() -> int:
    """`SEED` plays one schedule; `FIRST COUNT` plays many and stops at the first that breaks a promise."""
    first, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for seed in range(first, first + count):
        try:
            play(seed)
        except AssertionError as error:
            sys.stdout.write(f"{error}\n")
            return 1
    sys.stdout.write(f"{count} schedules held\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
