"""Connections of one client: what comes late on an earlier one has no effect."""

from tests.desk import CLIENT, House
from understudy.protocol.errors import NO_HELLO
from understudy.protocol.frames import PROTOCOL_VERSION, Cancel, Fault, Hello, Welcome
from understudy.supervisor.core.events import ClientSaid, TellClient

LATER = b"the same client's next connection"


def told(house: House, peer: bytes, frame: Hello | Cancel) -> list[object]:
    effects = house.handle(ClientSaid(peer, frame))
    return [each.frame for each in effects if isinstance(each, TellClient) and each.peer == peer]


def test_what_comes_on_an_earlier_connection_of_a_client_is_not_carried_out() -> None:
    house = House()
    told(house, CLIENT, Hello(PROTOCOL_VERSION, "x", connection=1))
    told(house, LATER, Hello(PROTOCOL_VERSION, "x", connection=2))
    house.prompt("one")

    answers = told(house, CLIENT, Cancel("late", house.sessions["one"]))

    assert [NO_HELLO] == [each.code for each in answers if isinstance(each, Fault)]
    assert not any(session.current and session.current.cancelled for session in house.core.house.sessions.values())


def test_a_hello_that_is_late_takes_no_connection_away() -> None:
    house = House()
    told(house, LATER, Hello(PROTOCOL_VERSION, "x", connection=2))

    assert [] == told(house, CLIENT + b"2", Hello(PROTOCOL_VERSION, "x", connection=1))
    assert LATER in house.core.house.clients


def test_clients_that_do_not_count_their_connections_may_have_several() -> None:
    house = House()
    for peer in (b"one", b"other"):
        answers = told(house, peer, Hello(PROTOCOL_VERSION, "y"))
        assert any(isinstance(each, Welcome) for each in answers)

    assert {b"one", b"other"} <= set(house.core.house.clients)
