"""Who plays an agent, and which understudy takes over for whom."""

import math
from random import Random

from understudy.protocol.frames import PROTOCOL_VERSION, ActorHello, Handover, Hello, Open, Prompt, Verb, pack
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    ClientSaid,
    Committed,
    Effect,
    EpochRow,
    Exited,
    Record,
    Spawn,
    Spawned,
    SpawnFailed,
    TellActor,
    Ticked,
)
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec, RestartPolicy

CLIENT = b"client"
LOOSE = RestartPolicy(intensity=100)


class Desk:
    """A core with one agent `a`; every record is committed at once unless `stuck`."""

    def __init__(self, understudies: int = 0, restored: Restored | None = None, life: str = "") -> None:
        spec = HouseSpec((AgentSpec("a", understudies=understudies, restart=LOOSE, turn_timeout_s=5.0),), "/r", "/s")
        self.now = 0.0
        self.stuck = False
        self.pending = 0
        self.spawned: list[int] = []
        self.core = Core(spec, restored or Restored(), {}, Random(1), [], 0.0, 0.0, life=life)
        self._take(self.core.start(0.0, 0.0))
        self.client(Hello(PROTOCOL_VERSION, "me"))

    @property
    def agent(self) -> Agent:
        return self.core.house.agents["a"]

    @property
    def understudies(self) -> list[Actor]:
        return self.core.house.launches["a"].understudies

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Record):
                self.pending = effect.ticket
            elif isinstance(effect, Spawn):
                self.spawned.append(effect.epoch)
        if self.pending > self.core.house.committed and not self.stuck:
            self._take(self.core.handle([Committed(self.pending)], self.now, 0.0))

    def tell(self, *events: object) -> None:
        self._take(self.core.handle(list(events), self.now, 0.0))  # type: ignore[arg-type]

    def client(self, frame: object) -> None:
        self.tell(ClientSaid(CLIENT, frame))  # type: ignore[arg-type]

    def verb(self, verb: str) -> None:
        self.client(Verb(f"v{self.now}", verb, pack({"names": ["a"]})))

    def up(self, epoch: int) -> None:
        self.tell(Spawned("a", epoch, epoch, 1))
        self.tell(ActorSaid(b"%d" % epoch, ActorHello(PROTOCOL_VERSION, "a", epoch, epoch)))

    def exits(self, epoch: int, status: int = -9) -> None:
        self.tell(Exited("a", epoch, epoch, status))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Ticked())

    def cast(self) -> list[tuple[int, str]]:
        """Return who plays and who stands by, with epochs."""
        return [(each.epoch, each.state.value) for each in [*self.agent.actors, *self.understudies]]


def three() -> Desk:
    """Return a desk whose actor #1 plays, with understudies #2 and #3."""
    desk = Desk(understudies=2)
    desk.up(1)
    desk.wait(0.1)
    desk.up(2)
    desk.up(3)
    return desk


def test_the_oldest_understudy_takes_over() -> None:
    desk = three()
    desk.exits(1)

    assert [(2, "RUNNING"), (3, "RUNNING")] == desk.cast()[:2]


def test_one_that_is_silent_is_passed_over() -> None:
    desk = three()
    oldest = desk.core.house.launches["a"].known[2]
    oldest.heard.silent = True
    desk.exits(1)

    assert (State.RUNNING, (3, "RUNNING")) == (oldest.state, desk.cast()[0])


def test_one_that_is_ready_takes_over_before_an_older_one_that_is_not() -> None:
    desk = Desk(understudies=2)
    desk.up(1)
    desk.wait(0.1)
    desk.up(3)
    desk.exits(1)

    assert (3, "RUNNING") == desk.cast()[0]


def test_whom_an_understudy_plays_is_recorded_before_it_is_handed_anything() -> None:
    desk = three()
    desk.client(Open("o", "a", "/"))
    (session,) = desk.core.house.sessions.values()
    desk.client(Prompt("p", session.id, pack([{"type": "text", "text": "hello"}])))
    effects = desk.core.handle([Exited("a", 1, 1, -9, shown=[])], desk.now, 0.0)

    (record,) = [each for each in effects if isinstance(each, Record)]
    assert ("a", 1) in [(row.plays, row.place) for row in record.rows if isinstance(row, EpochRow) and row.epoch == 2]
    handed = [each.after for each in effects if isinstance(each, TellActor) and isinstance(each.frame, Handover)]
    assert [record.ticket] == handed


def test_an_actor_that_is_started_anew_is_not_silent_because_the_one_before_was() -> None:
    desk = three()
    desk.understudies[0].heard.silent = True
    desk.exits(2)
    desk.wait(0.1)

    assert [4] == desk.spawned[3:]
    assert [False, False] == [each.heard.silent for each in desk.understudies]


def test_a_person_starts_an_understudy_rather_than_another_beside_it() -> None:
    desk = three()
    desk.tell(Exited("a", 1, 1, -9, survivors=1))
    stood = desk.cast()
    desk.verb("start")

    assert (1, "UNKNOWN") == stood[0]
    assert (2, "RUNNING") == desk.cast()[0]


def test_a_fork_that_fails_lets_an_understudy_take_over() -> None:
    desk = Desk(understudies=2)
    desk.up(1)
    desk.wait(0.1)
    desk.exits(1)
    before = desk.cast()[0]
    desk.up(3)
    desk.tell(SpawnFailed("a", 2, "no memory"))

    assert (2, "STARTING") == before
    assert (3, "RUNNING") == desk.cast()[0]


def test_a_start_ends_a_stop_for_understudies_as_well() -> None:
    desk = Desk(understudies=1, restored=Restored(stopped={"a": "this"}), life="this")
    stopped = desk.cast()
    desk.verb("start")
    desk.up(1)
    desk.wait(0.1)
    desk.up(2)

    assert [(0, "STOPPED"), (0, "STOPPED")] == stopped
    assert [(1, "RUNNING"), (2, "RUNNING")] == desk.cast()


def test_a_turns_time_counts_from_when_its_hand_over_is_recorded() -> None:
    desk = Desk()
    desk.up(1)
    desk.client(Open("o", "a", "/"))
    (session,) = desk.core.house.sessions.values()
    desk.stuck = True
    desk.client(Prompt("p", session.id, pack([{"type": "text", "text": "hello"}])))
    assert session.current is not None
    waiting = session.current.since
    desk.stuck = False
    desk.wait(3.0)

    assert (math.inf, 3.0) == (waiting, session.current.since)
