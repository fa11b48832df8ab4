"""All that an actor says reaches the log once and in order, wherever its connection is cut."""

from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.test_backstage import handover, said, welcome
from understudy.protocol.backstage import Backstage
from understudy.protocol.frames import ActorHello, Ask, Ended, FromActor, Recorded, Remember, ToActor, Updates


class Theatre:
    """A machine, a receiver that keeps what is above its last number, and a connection that can be cut."""

    def __init__(self) -> None:
        self.machine = Backstage("claude", 3, 42)
        self.said: list[object] = []
        self.heard: list[object] = []
        self.last = 0
        self.connected = False
        self.to_receiver: list[FromActor] = []
        self.to_actor: list[ToActor] = []
        self.turn = 0

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            self.machine.connected()

    def cut(self) -> None:
        """Cut the connection: what is in flight is lost, both ways."""
        if self.connected:
            self.connected = False
            self.to_receiver, self.to_actor = [], []
            self.machine.disconnected()

    def hand(self) -> None:
        self.turn += 1
        self.machine.receive(handover(turn=self.turn))

    def say(self) -> None:
        self.said.append(len(self.said))
        self.machine.say("s", self.turn, {"at": self.said[-1]})

    def ask(self) -> None:
        self.said.append(len(self.said))
        self.machine.ask("s", self.turn, "m", {"at": self.said[-1]}, public=True)

    def remember(self) -> None:
        self.said.append(len(self.said))
        self.machine.remember("s", {"at": self.said[-1]})

    def end(self) -> None:
        if self.turn:
            self.said.append(("ended", self.turn))
            self.machine.end("s", self.turn, "end_turn")
        self.hand()

    def send(self) -> None:
        self.to_receiver += self.machine.frames_to_send() if self.connected else []

    def deliver(self) -> None:
        if self.to_receiver:
            self.hear(self.to_receiver.pop(0))

    def acknowledge(self) -> None:
        if self.connected and self.last:
            self.to_actor.append(Recorded(self.last))

    def take(self) -> None:
        if self.to_actor:
            self.machine.receive(self.to_actor.pop(0))

    def hear(self, frame: FromActor) -> None:
        match frame:
            case ActorHello():
                self.to_actor.append(welcome(self.last))
            case Updates(n=n, count=count):
                assert n <= self.last + 1
                self.heard += [each["at"] for each in said(frame)][max(0, self.last + 1 - n) :]
                self.last = max(self.last, n + count - 1)
            case Ended(n=n) | Ask(n=n) | Remember(n=n):
                assert n <= self.last + 1
                if n > self.last:
                    self.heard.append(("ended", frame.turn) if isinstance(frame, Ended) else said(frame)["at"])
                self.last = max(self.last, n)
            case _:
                raise AssertionError(f"unexpected {frame}")

    def finish(self) -> None:
        """Let everything arrive over one last connection."""
        self.cut()
        self.connect()
        for _ in range(3):
            self.send()
            while self.to_receiver:
                self.deliver()
            self.acknowledge()
            while self.to_actor:
                self.take()


ACTS = [
    "connect",
    "cut",
    "hand",
    "say",
    "say",
    "say",
    "ask",
    "remember",
    "end",
    "send",
    "deliver",
    "acknowledge",
    "take",
]


@given(st.lists(st.sampled_from(ACTS), max_size=200))
def test_whatever_is_cut_and_lost_everything_is_heard_once_and_in_order(acts: list[str]) -> None:
    theatre = Theatre()

    for act in acts:
        getattr(theatre, act)()
    theatre.finish()

    assert theatre.said == theatre.heard
    assert theatre.machine.all_recorded
    assert 0 == theatre.machine.unrecorded_bytes
