"""When a house that ends by itself ends: nobody is there, and no turn is played but those that wait for an answer."""

from tests.desk import CLIENT, Desk, agent, playing
from understudy.protocol.frames import Ask, Ended, Goodbye, pack
from understudy.supervisor.core.events import ClientSaid

IDLE_S = 600.0


def left() -> tuple[Desk, str]:
    """Return a house that ends after `IDLE_S`, and its session: turn 2 of it runs, and its client has left at 1.0."""
    desk, session = playing(agent(), idle_exit_s=IDLE_S)
    desk.tell(ClientSaid(CLIENT, Goodbye("")), after_s=1.0)
    return desk, session


def ends_at(desk: Desk, now: float) -> bool:
    desk.tick(now - desk.now)
    return desk.core.house.stopping


def test_a_turn_that_runs_is_not_interrupted_because_its_client_left() -> None:
    desk, session = left()

    assert not ends_at(desk, 1.0 + IDLE_S)
    assert not ends_at(desk, 1.0 + 2 * IDLE_S)
    desk.now = 1500.0
    desk.said(Ended(1, session, 2, "end_turn", pack({})))
    assert not ends_at(desk, 1500.0 + IDLE_S - 1.0)
    assert ends_at(desk, 1500.0 + IDLE_S)


def test_a_turn_that_waits_for_an_answer_keeps_no_house_from_its_end() -> None:
    desk, session = left()
    desk.said(Ask(1, session, 2, "a", "session/request_permission", pack({})))

    assert ends_at(desk, 1.0 + IDLE_S)
