"""Clients: the unchanged machine of their side, and a person or program that prompts, answers, cancels and reads."""

from collections import Counter, deque
from dataclasses import dataclass, field

from tests.simulator.promises import Promises
from tests.simulator.scene import Scene, Wire
from understudy.protocol.client_machine import Arrived, Asked, ClientMachine, FollowEnded, Replied, Unheard, cost
from understudy.protocol.frames import (
    Accepted,
    Answer,
    Call,
    Cancel,
    Fault,
    Frame,
    Open,
    Opened,
    Prompt,
    Result,
    Verb,
    pack,
    unpack,
)
from understudy.protocol.standing import Standing

REFUSALS = (
    "log_stalled",
    "limit_reached",
    "shutting_down",
    "connection_lost",
    "actor_lost",
    "agent_failed",
    "quarantined",
    "unknown_session",
    "unknown_agent",
    "generation_changed",
)


@dataclass(slots=True)
class Ledger:
    """What all clients know together: the sessions, the prompts, how many requests were made."""

    sessions: dict[str, str] = field(default_factory=dict[str, str])  # session -> agent
    prompts: Counter[str] = field(default_factory=Counter[str])  # How many were handed in, for each session.
    opens: int = 0
    requests: int = 0
    healed: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])  # Cancelled after the schedule.


@dataclass(eq=False, slots=True)
class Client:
    """One client process."""

    scene: Scene
    promises: Promises
    ledger: Ledger
    name: str
    machine: ClientMachine = field(init=False)
    wire: Wire | None = None
    follows: dict[str, int] = field(default_factory=dict[str, int])
    seen: dict[int, int] = field(default_factory=dict[int, int])
    unread: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    questions: dict[str, str] = field(default_factory=dict[str, str])
    served: dict[str, bool] = field(default_factory=dict[str, bool])
    cancels: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])  # What was asked for.
    reused: set[str] = field(default_factory=set[str])  # Ids under way that another prompt had.
    connections: int = 0
    halted_until: float = 0.0  # It is stopped (SIGSTOP) until then.

    def __post_init__(self) -> None:
        self.machine = ClientMachine(self.name)

    @property
    def is_halted(self) -> bool:
        """Whether it is stopped."""
        return self.scene.now < self.halted_until

    def has_work(self) -> bool:
        """Whether it would do something now that no fault is to come."""
        if self.is_halted:
            return False
        return (self.wire is None and self.scene.bound) or bool(self.questions or self.unread or self._missing())

    def _missing(self) -> list[str]:
        """Return the sessions that it does not follow and wants to. In some schedules nobody looks before the end: then they rest."""
        looks = self.scene.seed % 4 or not self.scene.faulty
        return [session for session in self.ledger.sessions if session not in self.follows] if looks else []

    def act(self) -> None:
        """Do one thing."""
        random, scene = self.scene.random, self.scene
        if self.wire is None:
            if scene.bound:
                self.wire = scene.connect(None)
                self.connections += 1
                self.machine.connected()
        elif self.unread and random.random() < 0.5:
            self._read()
        elif self.questions and random.random() < 0.5:
            self._answer(random.choice(list(self.questions)))
        elif missing := self._missing():
            follow = self.follows[missing[0]] = self.machine.follow(missing[0], 1, self.scene.cast.window)
            self.seen[follow] = 0
        elif scene.faulty:
            self._ask()
        self.flush()

    def _ask(self) -> None:
        random, ledger = self.scene.random, self.ledger
        ledger.requests += 1
        name, chance = f"{self.name}.{ledger.requests}", random.random()
        if len(ledger.sessions) < self.scene.cast.sessions:
            if not any(isinstance(each, Open) for each in self.machine.pending.values()):
                agent = random.choice(self.scene.cast.spec.agents).name
                ledger.opens += 1
                several = 1 + self.scene.cast.environments
                brings = {"E": f"e{ledger.opens % several}"} if ledger.opens % several else {}
                self.promises.brings(f"r{ledger.opens}", brings.get("E", ""))
                self._request(Open(f"r{ledger.opens}", agent, "/", env=brings))
            return
        session = random.choice(list(ledger.sessions))
        if chance < 0.5:
            # The ids are the same in every session, of whichever client, and those of the opens.
            ledger.prompts[session] += 1
            self._prompt(session, f"r{ledger.prompts[session]}", f"{random.choice(self.scene.cast.prompts)} {name}")
        elif chance < 0.65:
            turns = [turn for at, turn in self.promises.accepted if at == session]
            self.cancel(session, random.choice([*turns[-3:], 0]))
        elif chance < 0.68:
            self.machine.request(Call(name, session, "ready"))
        elif chance < 0.72:
            if not any(isinstance(each, Call) and each.body for each in self.machine.pending.values()):
                mode = f"{ledger.requests:06}"
                self.promises.set_mode(session, mode)
                self.machine.request(Call(name, session, "session/set_mode", pack({"modeId": mode})))
        elif self.promises.requests and chance < 0.8:
            # An editor that came back asks again with an id that was answered before.
            again = random.choice(list(self.promises.requests))
            self._prompt(*again, self.promises.texts[again])
        elif self.promises.requests and chance < 0.82:
            # One that counts wrong gives an id to another prompt.
            again = random.choice(list(self.promises.requests))
            if self._prompt(*again, f"other {name}"):
                self.reused.add(again[1])

    def _prompt(self, session: str, request: str, text: str) -> bool:
        """Hand in a prompt, unless the client has something else of that id under way; return whether it did."""
        if request in self.machine.pending:
            return False
        self.ledger.requests += 1
        self.promises.prompt((session, request), text, self.name, self.ledger.requests)
        self._request(Prompt(request, session, pack([{"type": "text", "text": text}])))
        return True

    def _request(self, frame: Open | Prompt) -> None:
        if frame.request not in self.machine.pending:
            self.machine.request(frame)

    def cancel(self, session: str, turn: int) -> None:
        """Ask for a cancel."""
        self.ledger.requests += 1
        request = f"{self.name}.{self.ledger.requests}"
        self.promises.cancel((self.name, self.ledger.requests), session, turn)
        self.cancels[request] = (session, turn)
        self.machine.request(Cancel(request, session, turn))

    def verb(self, verb: str, name: str) -> None:
        """A person asks for something of an agent."""
        self.ledger.requests += 1
        self.machine.request(Verb(f"{self.name}.{self.ledger.requests}", verb, pack({"names": [name]})))

    def _answer(self, name: str) -> None:
        self.machine.answer(Answer(self.questions.pop(name), name, pack(f"yes of {self.name}")))
        if name in self.served:
            self.served[name] = True

    def _read(self) -> None:
        follow, size = self.unread.popleft()
        self.machine.consumed(follow, size)

    # --- what it hears ---

    def hear(self, frame: Frame) -> None:
        """Take one frame of the house's."""
        asked = self.machine.pending.get(getattr(frame, "request", ""))
        for happening in self.machine.receive(frame):  # type: ignore[arg-type]
            match happening:
                case Replied(frame=Opened(session=session)):
                    assert isinstance(asked, Open)
                    self.ledger.sessions[session] = asked.agent
                case Replied(frame=Accepted() as accepted):
                    loose = (accepted.session, accepted.request) in self.promises.loose
                    reused = accepted.request in self.reused and not loose
                    assert not reused, f"{accepted}, though it named another prompt before"
                    self.reused.discard(accepted.request)
                    self.promises.accept(accepted)
                case Replied(request=request, frame=Fault(code="request_reused")):
                    assert isinstance(asked, Prompt)
                    loose = (asked.session, request) in self.promises.loose
                    assert request in self.reused or loose, f"{asked} is said to name another prompt"
                    self.reused.discard(request)
                case Replied(frame=Result() as result) if isinstance(asked, Cancel):
                    self.promises.told_cancelled(asked.session, asked.turn, unpack(result.body)["cancelled"])
                case Replied(frame=Result()) if isinstance(asked, Call) and asked.body:
                    self.promises.mode_is_set(asked.session, unpack(asked.body)["modeId"])
                case Replied(request=request, frame=Fault(code="generation_changed")):
                    self.ledger.healed.discard(self.cancels.get(request, ("", 0)))  # It is to be asked for again.
                case Replied(request=request, frame=Fault(code=code, text=text)):
                    self.reused.discard(request)
                    assert code in REFUSALS, f"{asked} is refused with {code}: {text}"
                case FollowEnded(follow=follow, fault=fault) if fault.code in self._gone(follow):
                    self._begin_anew(follow)
                case FollowEnded(fault=fault):
                    raise AssertionError(f"{self.name} cannot follow: {fault}")
                case Unheard():
                    self.cut()
                case Arrived():
                    self._arrived(happening)
                case Asked(ask=ask):
                    if self.served.setdefault(ask.ask, False):
                        self.machine.answer(Answer(ask.session, ask.ask, pack(f"yes of {self.name}")))
                    else:
                        self.questions[ask.ask] = ask.session
                case _:
                    pass
        self.flush()

    def _arrived(self, happening: Arrived) -> None:
        follow = happening.follow
        for entry in happening.entries:
            self.promises.arrive(entry)
            for number in range(max(entry.first, happening.number), entry.last + 1):
                assert number == self.seen[follow] + 1, f"number {number} after {self.seen[follow]} in {entry.session}"
                self.seen[follow] = number
            if entry.kind == "asked":
                self.questions[unpack(entry.body)["ask"]] = entry.session
            elif entry.kind == "answered":
                self.questions.pop(unpack(entry.body)["ask"], None)
            self.unread.append((follow, cost(entry)))
        place = self.machine.places[follow]
        limit = place.window + self.promises.largest * (1 + self.connections)
        assert place.unconsumed <= limit, f"{self.name} was sent {place.unconsumed} bytes; its credit is {place.window}"

    def _gone(self, follow: int) -> tuple[str, ...]:
        """Return with which faults a follow may end: the power failed."""
        session = next(name for name, number in self.follows.items() if number == follow)
        lost = session not in self.promises.disk.sessions
        return ("generation_changed", "unknown_session", "beyond_the_log") if lost else ("generation_changed",)

    def _begin_anew(self, follow: int) -> None:
        """What it has seen may be lost: it reads the session again, from the first number."""
        del self.seen[follow]
        self.follows = {session: number for session, number in self.follows.items() if number != follow}
        self.questions.clear()
        self.served.clear()
        self.unread = deque(each for each in self.unread if each[0] != follow)

    # --- its life ---

    def cut(self) -> None:
        """Its connection is gone, and it sees that."""
        wire, self.wire = self.wire, None
        if wire is not None:
            self.scene.cut(wire)
            self.machine.disconnected()

    def flush(self) -> None:
        """Send what is to be sent."""
        if self.wire is not None:
            self.wire.up.extend(self.machine.frames_to_send())

    @property
    def is_content(self) -> bool:
        """Whether it waits for nothing, and has seen all there is."""
        if self.machine.standing is not Standing.UP or self.machine.pending or self.questions:
            return False
        ends = self.promises.disk.entries
        return all(session in ends and self.seen[at] == ends[session][-1].last for session, at in self.follows.items())
