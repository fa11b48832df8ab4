"""A core without sockets under fire: clients and actors that say anything, a log that is slow now and then, deaths.

It takes messages as the sockets do, and sees that nothing breaks: no exception, no invariant, no frame that the other
end would not take, one answer for each request.
"""

from collections import Counter, defaultdict, deque
from random import Random
from typing import Any, get_args

import msgspec

from tests.fuzz.making import Live, Maker, as_map, pick
from understudy.protocol.doors import decode_each, encode_or_fault
from understudy.protocol.errors import NO_HELLO
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    PROTOCOL_VERSION,
    Accepted,
    ActorCall,
    ActorHello,
    Ask,
    CancelTurn,
    Entry,
    Fault,
    Frame,
    FrameError,
    FromActor,
    FromClient,
    Goodbye,
    Handover,
    Hello,
    Opened,
    Part,
    Result,
    Stop,
    ToActor,
    ToClient,
    pack,
    unpack,
)
from understudy.protocol.messages import Joiner, decode, decoder
from understudy.protocol.news import AgentSetApart, ClientBroke, SessionSetApart
from understudy.protocol.verbs import VERBS
from understudy.supervisor.core import invariants
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    Announce,
    ClientLost,
    ClientSaid,
    Effect,
    EntriesRead,
    EnvironmentKept,
    Event,
    Exited,
    Finish,
    ForgetMarks,
    KeepEnvironment,
    Kill,
    LogFailed,
    ReadEntries,
    ShutdownAsked,
    Spawn,
    Spawned,
    TellActor,
    TellClient,
    Ticked,
)
from understudy.supervisor.core.outbox import Outbox
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec, OnCrash, RestartPolicy

PEERS = [b"client%d" % number for number in range(6)]
REQUESTS = tuple(kind.__struct_config__.tag for kind in get_args(FromClient) if "request" in kind.__struct_fields__)
SEEN_WHOLE_EVERY = 50
SESSIONS = 30
ENDS = ("shutdown", "reload")  # Verbs after which the house takes nothing more.
HOW_MANY = (1, 1, 2, 5)
CLIENTS_SAY = (
    *(
        "prompt",
        "prompt",
        "prompt",
        "prompt",
        "open",
        "cancel",
        "answer",
        "answer",
        "call",
        "follow",
        "follow",
        "credit",
    ),
    *("unfollow", "verb", "verb", "ping", "pong", ""),
)
ACTORS_SAY = ("begin", "begin", "updates", "updates", "ended", "ask", "remember", "result", "")


class FuzzedHouse:
    """One house, from its start to its end, under the fire of `random`."""

    def __init__(self, random: Random) -> None:
        self._random = random
        often = RestartPolicy(intensity=10**6, backoff_max_s=0.3)
        agents = (
            AgentSpec("a", restart=often, turns_max=4, queued_turns_max=20, understudies=1),
            AgentSpec("b", restart=often, on_crash=OnCrash.RETRY, entries_max=300),
            AgentSpec("c", restart=often, on_crash=OnCrash.CONTINUE, quiet_timeout_s=30.0),
        )
        spec = HouseSpec(agents, "/r", "/s", command=("understudy",))
        self.core = Core(spec, Restored(), {}, Random(random.random()), [], 0.0, 0.0)
        self._outbox = Outbox()
        self._log: defaultdict[str, list[Entry]] = defaultdict(list)
        self._now = 0.0
        self._finished = self._handling = False
        self._inbox: deque[list[Event]] = deque()
        self._living: set[tuple[str, int]] = set()
        self._live = Live()
        self._clients = Maker(FromClient, random, self._live)
        self._acting: dict[bytes, tuple[str, int]] = {}  # The connections of actors.
        self._actors: dict[bytes, Maker] = {}
        self._turns: defaultdict[bytes, dict[tuple[str, int], None]] = defaultdict(dict)
        self._joiners: dict[bytes, Joiner] = {}
        self._waiting: Counter[tuple[bytes, str]] = Counter()
        self._late: Counter[tuple[bytes, str]] = Counter()  # Answers that nobody waits for any more, and that may come.
        self._since_hello: Counter[tuple[bytes, str]] | None = None  # Of these, what this message says after a hello.
        self.taken = 0
        for name in ("agent", "actor"):
            self._live.values[name] = ["a", "b", "c"]
        self._live.values["version"] = [PROTOCOL_VERSION]
        self._live.values["verb"] = [*(each for each in VERBS if each not in ENDS), "x"]
        self._live.values["method"] = ["ready", "session/set_mode"]
        self._carry_out(self.core.start(0.0, 0.0))

    # --- what happens ---

    def step(self) -> None:
        """Let one thing happen."""
        random, chance = self._random, self._random.random()
        if chance < 0.66:
            self._client_speaks(random.choice(PEERS))
        elif chance < 0.95 and self._acting:
            self._actor_speaks(random.choice(list(self._acting)))
        elif chance < 0.97:
            self._now += random.choice((0.01, 0.3, 3.0))
            self._handle(Ticked())
        elif chance < 0.975:
            self._lose(random.choice(PEERS))
        elif chance < 0.98 and self._acting:
            peer = random.choice(list(self._acting))
            self._exit(*self._acting[peer])
        elif chance < 0.985:
            self._handle(LogFailed("full"))
        self._commit()
        if self.taken % SEEN_WHOLE_EVERY == 0:
            invariants.of_house(self.core.house)

    def end(self) -> None:
        """Shut the house down: whoever waits for anything is told."""
        self._handle(ShutdownAsked())
        for _ in range(1000):
            if self._finished:
                break
            for actor in list(self.core.house.actors()):
                if actor.lives:
                    self._exit(actor.launch, actor.epoch)
            self._now += 1.0
            self._handle(Ticked())
            self._commit(whole=True)
        assert self._finished, "the house does not end"
        self._commit(whole=True)
        invariants.of_house(self.core.house)
        open_ones = {key: count for key, count in self._waiting.items() if count > 0}
        assert not open_ones, f"requests without an answer: {open_ones}"

    def _client_speaks(self, peer: bytes) -> None:
        random, maker = self._random, self._clients
        if peer not in self.core.house.clients and random.random() < 0.7:
            frames = [as_map(Hello(PROTOCOL_VERSION, f"id{random.randrange(4)}", 1, "n", self._connection()))]
        else:
            frames = [maker.fields(pick(random, CLIENTS_SAY)) for _ in range(pick(random, HOW_MANY))]
        for frame in frames:
            if frame.get("type") == "open" and len(self.core.house.sessions) >= SESSIONS:
                frame["agent"] = "nobody"
            if frame.get("type") in REQUESTS and random.random() < 0.9:
                frame["request"] = f"r{self.taken}.{random.randrange(1000)}"
        for message in maker.message(*frames):
            self._take(peer, message, FromClient)

    def _connection(self) -> int:
        return self._random.choice((0, self.taken))

    def _actor_speaks(self, peer: bytes) -> None:
        random, maker = self._random, self._actors[peer]
        name, epoch = self._acting[peer]
        actor = self.core.house.launches[name].known.get(epoch)
        number = actor.number + 1 if actor is not None else 1
        frames: list[dict[str, Any]] = []
        for _ in range(pick(random, HOW_MANY)):
            turns = list(self._turns[peer])
            frame = maker.fields(pick(random, ACTORS_SAY))
            if frame.get("type") == "actor_hello":
                continue
            if turns and random.random() < 0.95:
                frame["session"], turn = random.choice(turns)
                if "turn" in frame:
                    frame["turn"] = turn
            if "n" in frame and random.random() < 0.95:
                frame["n"] = number
                if frame.get("type") == "updates" and random.random() < 0.9:
                    count = random.choice((1, 2, 7))
                    frame["count"], frame["body"] = count, pack([{"sessionUpdate": "u"}] * count)
                count = frame.get("count", 1)
                number += count if isinstance(count, int) and 0 < count < 1000 else 1
            frames.append(frame)
        for message in maker.message(*frames) if frames else ():
            self._take(peer, message, FromActor)

    # --- as the sockets do it ---

    def _take(self, peer: bytes, message: bytes, side: Any) -> None:
        try:
            frames: list[Frame | FrameError] = list(decode(message, decoder(side)))
        except FrameError:
            frames = decode_each(message, side)
        events: list[Event] = []
        for frame in frames:
            self.taken += 1
            whole = self._whole(peer, frame, side)
            if isinstance(whole, FrameError):
                assert len(whole.request) <= 220, whole.request
            elif whole is not None:
                events.append(ClientSaid(peer, whole) if side is FromClient else ActorSaid(peer, whole))  # type: ignore[arg-type]
                if side is FromClient:
                    self._expect(peer, whole)
        if events:
            self._handle(*events)

    def _whole(self, peer: bytes, frame: Frame | FrameError, side: Any) -> Frame | FrameError | None:
        if not isinstance(frame, Part):
            return frame
        try:
            return self._joiners.setdefault(peer, Joiner(side)).add(frame)
        except FrameError as error:
            return error

    def _expect(self, peer: bytes, frame: Frame) -> None:
        if isinstance(frame, Hello | Goodbye):
            self._since_hello = Counter() if isinstance(frame, Hello) else None
        elif type(frame).__struct_config__.tag in REQUESTS:
            key = (peer, frame.request)  # type: ignore[union-attr]
            self._waiting[key] += 1
            if self._since_hello is not None:
                self._since_hello[key] += 1

    def _forget(self, peer: bytes) -> None:
        """Nobody waits any more for the answers to what the peer said before its last hello."""
        for key in [key for key in self._waiting if key[0] == peer]:
            self._late[key] += self._waiting.pop(key)
        for key, count in (self._since_hello or {}).items():
            if key[0] == peer:
                self._waiting[key] = count

    def _lose(self, peer: bytes) -> None:
        self._forget(peer)
        self._handle(ClientLost(peer))

    def _handle(self, *events: Event) -> None:
        """Let the core handle `events` in one step, and then what follows from each step of its own."""
        self._inbox.append(list(events))
        if self._handling:
            return
        self._handling = True
        while self._inbox and not self._finished:
            known = dict(self.core.house.clients)
            effects = self.core.handle(self._inbox.popleft(), self._now, self._now)
            for peer, client in known.items():
                if self.core.house.clients.get(peer) is not client:
                    self._forget(peer)
            self._carry_out(effects)
            self._since_hello = None
        self._handling = False

    def _exit(self, name: str, epoch: int) -> None:
        if (name, epoch) not in self._living:
            return
        self._living.remove((name, epoch))
        peers = [peer for peer, acting in self._acting.items() if acting == (name, epoch)]
        shown: list[tuple[str, int]] = []
        for peer in peers:
            del self._acting[peer], self._actors[peer]
            shown = [turn for turn in self._turns.pop(peer, {}) if self._random.random() < 0.5]
        self._handle(Exited(name, epoch, 7, -9, shown=shown))

    # --- effects ---

    def _commit(self, whole: bool = False) -> None:
        while self._outbox.records and (whole or self._random.random() < 0.8):
            count = len(self._outbox.records)
            for record in self._outbox.records:
                for row in record.rows:
                    if isinstance(row, Entry):
                        self._log[row.session].append(row)
            released, committed = self._outbox.written(count)
            self._carry_out(list(released))
            self._handle(committed)
            if self._finished:
                return

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            act = self._outbox.take(effect)
            match act:
                case TellClient(peer=peer, frame=frame):
                    self._see_sendable(frame, ToClient)
                    self._heard(peer, frame)
                case TellActor(peer=peer, frame=frame):
                    self._see_sendable(frame, ToActor)
                    self._to_actor(peer, frame)
                case Spawn(actor=actor, epoch=epoch):
                    self._spawn(actor, epoch)
                case Kill(actor=actor, epoch=epoch):
                    self._exit(actor, epoch)
                case KeepEnvironment(peer=by, frame=opening):
                    kept = msgspec.structs.replace(opening, env={})
                    self._handle(EnvironmentKept(by, kept, f"{len(opening.env)}"))
                case ReadEntries():
                    self._read(act)
                case Finish():
                    self._finished = True
                case Announce(news=news):
                    assert not isinstance(news, SessionSetApart | AgentSetApart | ClientBroke), news
                case None | ForgetMarks():
                    pass

    def _read(self, effect: ReadEntries) -> None:
        found: list[Entry] = []
        size = 0
        for entry in self._log[effect.session]:
            if entry.last >= effect.number and size < effect.bytes_max:
                found.append(entry)
                size += len(entry.body)
        self._handle(EntriesRead(effect.peer, effect.follow, found, effect.serial))

    def _spawn(self, actor: str, epoch: int) -> None:
        peer = f"{actor}{epoch}".encode()
        self._living.add((actor, epoch))
        self._handle(Spawned(actor, epoch, 7, 7))
        self._acting[peer] = (actor, epoch)
        self._actors[peer] = Maker(FromActor, self._random, self._live)
        self._handle(ActorSaid(peer, ActorHello(BACKSTAGE_VERSION, actor, epoch, 7)))

    def _see_sendable(self, frame: Frame, side: Any) -> None:
        messages, complaints = encode_or_fault([frame])
        assert not complaints, complaints
        frames = [each for message in messages for each in decode(message, decoder(side))]
        assert frames == [frame] or isinstance(frames[0], Part), (frames, frame)

    def _heard(self, peer: bytes, frame: Frame) -> None:
        match frame:
            case Opened(session=session):
                self._live.learn("session", session)
            case Accepted(turn=turn):
                self._live.learn("turn", turn, 10)
            case Ask(ask=ask):
                self._live.learn("ask", ask)
            case _:
                pass
        if isinstance(frame, Fault) and frame.code == NO_HELLO:  # Once, for all that was said without one.
            self._forget(peer)
        elif isinstance(frame, Opened | Accepted | Result | Fault) and frame.request:
            key = (peer, frame.request)
            if key in self._waiting and (self._waiting[key] > 0 or not self._late[key]):
                assert self._waiting[key] > 0, f"{frame} is one answer too many"
                self._waiting[key] -= 1
            elif self._late[key] > 0:
                self._late[key] -= 1

    def _to_actor(self, peer: bytes, frame: Frame) -> None:
        match frame:
            case Handover(session=session, turn=turn):
                self._turns[peer][session, turn] = None
                unpack(frame.body)
            case CancelTurn(session=session, turn=turn):
                self._turns[peer].pop((session, turn), None)
            case ActorCall(request=request):
                self._live.learn("request", request, 5)
            case Stop():
                if peer in self._acting and self._random.random() < 0.7:
                    self._exit(*self._acting[peer])
            case _:
                pass
