"""What one actor's news costs in a house of many: nobody is looked at or counted who has nothing to do with it."""

from random import Random
from typing import Any

import pytest

from tests.core.test_control import calls
from tests.desk import Desk, agent
from understudy.protocol.frames import BACKSTAGE_VERSION, ActorHello
from understudy.supervisor.core.dues import Dues
from understudy.supervisor.core.events import ActorSaid, Exited, Ticked
from understudy.supervisor.core.life import Actor
from understudy.supervisor.core.specs import AgentSpec


def actor(name: str) -> Actor:
    return Actor(name, AgentSpec(name))


def test_each_comes_once_at_the_earliest_that_was_said_of_it() -> None:
    dues, (early, late) = Dues(), (actor("early"), actor("late"))
    dues.put(late, 5.0)
    dues.put(early, 3.0)
    dues.put(early, 4.0)
    dues.put(early, 2.0)

    assert (2.0, []) == (dues.first(), dues.take(1.9))
    assert [early] == dues.take(4.9)
    assert (5.0, 5.0, float("inf")) == (dues.first(), dues.of(late), dues.of(early))
    assert [late] == dues.take(5.0)
    assert (float("inf"), []) == (dues.first(), dues.take(99.0))


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_missed_and_what_is_outdated_does_not_pile_up(seed: int) -> None:
    random, dues = Random(seed), Dues()
    cast = [actor(f"a{at}") for at in range(10)]
    expected: dict[Actor, float] = {}
    for now in range(2_000):
        for each in random.sample(cast, 3):
            due = now + random.expovariate(0.05)
            dues.put(each, due)
            expected[each] = min(due, expected.get(each, due))
        assert min(expected.values()) == dues.first()
        taken = dues.take(now)
        assert {each for each, due in expected.items() if due <= now} == set(taken)
        for each in taken:
            del expected[each]
        for each in cast:  # As one does that falls and starts again.
            dues.put(each, dues.of(each) - 0.001 if each in expected else now + 1_000.0)
            expected[each] = dues.of(each)
    assert len(dues._heap) <= 2 * len(cast) + 65  # noqa: SLF001 (its bound is a promise)


def test_a_tick_looks_at_who_is_due_and_not_at_all() -> None:
    """But when all are asked whether they are there."""

    def cost(count: int) -> int:
        core = Desk(*(agent(f"a{at:04}") for at in range(count)), late=True).core
        for at in range(count - 1):
            hello = ActorHello(BACKSTAGE_VERSION, f"a{at:04}", 1, 7)
            core.handle([ActorSaid(b"p%d" % at, hello)], 0.0, 0.0)
        core.house.next_ping = 1e6
        core.handle([Ticked()], core.deadline(), 0.0)  # So long a start may take: the last one did not come.
        core.handle([Exited(f"a{count - 1:04}", 1, 0, -9)], core.house.now, 0.0)
        return calls(lambda: core.handle([Ticked()], core.deadline(), 0.0))  # Nor did the next.

    assert cost(300) <= cost(10) + 5


@pytest.mark.parametrize("limit", [{"actors_max": 1_000}, {"memory_mb": 1_000_000}], ids=str)
def test_within_the_limits_of_the_house_nobody_is_counted_again_for_a_hello_or_a_sample(limit: dict[str, Any]) -> None:
    def cost(count: int) -> int:
        names = [f"a{at:04}" for at in range(count)]
        desk = Desk(*map(agent, names), late=True, **limit)
        for name in names[:-1]:
            desk.up(name)
        return calls(lambda: desk.up(names[-1])) + calls(lambda: desk.use(a00001=50.0))

    assert cost(300) <= cost(10) + 5
