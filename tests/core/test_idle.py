"""When a house that ends by itself ends: nobody is there, and no turn is played but those that wait for an answer."""

from random import Random

from tests.desk import CLIENT
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    PROTOCOL_VERSION,
    ActorHello,
    Ask,
    Begin,
    Ended,
    Goodbye,
    Hello,
    Open,
    Prompt,
    pack,
)
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import ActorSaid, ClientSaid, Committed, Event, Record, Spawned, Ticked
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import AgentSpec, HouseSpec

IDLE_S = 600.0


class Idle:
    """A house that ends after `IDLE_S`; its one turn runs, and its client has left at 1.0."""

    def __init__(self) -> None:
        spec = HouseSpec((AgentSpec("one"),), "", "", idle_exit_s=IDLE_S)
        self.core = Core(spec, Restored(), {}, Random(1), [], 0.0, 0.0)
        self.core.start(0.0, 0.0)
        hello = ActorHello(BACKSTAGE_VERSION, "one", 1, 7)
        self.at(
            0.0, Spawned("one", 1, 7, 7), ActorSaid(b"one", hello), ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c"))
        )
        self.at(0.0, ClientSaid(CLIENT, Open("o", "one", "/")))
        (self.session,) = self.core.house.sessions.values()
        self.at(0.0, ClientSaid(CLIENT, Prompt("p", self.session.id, pack([{"type": "text", "text": "x"}]))))
        turn = self.session.current
        assert turn is not None
        self.turn = turn.number
        self.at(0.5, ActorSaid(b"one", Begin(self.session.id, self.turn)))
        self.at(1.0, ClientSaid(CLIENT, Goodbye("")))

    def at(self, now: float, *events: Event) -> None:
        effects = self.core.handle(list(events), now, now)
        tickets = [each.ticket for each in effects if isinstance(each, Record)]
        if tickets:
            self.at(now, Committed(tickets[-1]))

    def ends_at(self, now: float) -> bool:
        self.at(now, Ticked())
        return self.core.house.stopping


def test_a_turn_that_runs_is_not_interrupted_because_its_client_left() -> None:
    house = Idle()

    assert not house.ends_at(1.0 + IDLE_S)
    assert not house.ends_at(1.0 + 2 * IDLE_S)
    house.at(1500.0, ActorSaid(b"one", Ended(1, house.session.id, house.turn, "end_turn", pack({}))))
    assert not house.ends_at(1500.0 + IDLE_S - 1.0)
    assert house.ends_at(1500.0 + IDLE_S)


def test_a_turn_that_waits_for_an_answer_keeps_no_house_from_its_end() -> None:
    house = Idle()
    house.at(2.0, ActorSaid(b"one", Ask(1, house.session.id, house.turn, "a", "session/request_permission", pack({}))))

    assert house.ends_at(1.0 + IDLE_S)
