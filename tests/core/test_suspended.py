"""An actor that a signal has suspended is silent, whatever of it is still on its way."""

import pytest

from tests.desk import peer_of, two
from understudy.protocol.frames import Pong, Result
from understudy.supervisor.core.events import ActorSaid, Event, Suspended, Ticked
from understudy.supervisor.core.hangs import ANSWER_S_MAX

PONG = ActorSaid(peer_of("one", 1), Pong())
OTHER = ActorSaid(peer_of("one", 1), Result("c99"))


@pytest.mark.parametrize("late", [[], [PONG], [OTHER], [OTHER, PONG]], ids=["nothing", "pong", "other", "both"])
@pytest.mark.parametrize("asked", [True, False])
def test_what_an_actor_said_before_it_was_suspended_proves_nothing(late: list[Event], asked: bool) -> None:
    core = two().core
    link = core.house.agents["one"].first.heard
    core.handle([Ticked()], 1.0, 1.0)  # The ping that all get now and then.
    if not asked:
        core.handle([PONG], 1.0, 1.0)
    assert (link.pinged == 1.0) is asked

    for at, event in enumerate([Suspended("one", 1), *late]):
        core.handle([event], 1.1 + at / 10, 1.0)
    core.deadline()
    core.handle([Ticked()], 1.5 + ANSWER_S_MAX, 1.0)

    assert link.silent


def test_one_that_goes_on_is_not_silent() -> None:
    core = two().core
    link = core.house.agents["one"].first.heard
    core.handle([Suspended("one", 1)], 1.0, 1.0)

    for at in (1.1, 1.2):
        core.handle([PONG], at, 1.0)

    assert (None, False) == (link.pinged, link.silent)
