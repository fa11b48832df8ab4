"""Connections of one client: what comes late on an earlier one has no effect."""

from tests.desk import CLIENT, Desk, two
from understudy.protocol.errors import NO_HELLO
from understudy.protocol.frames import PROTOCOL_VERSION, Cancel, Fault, Hello, Welcome
from understudy.supervisor.core.events import ClientSaid, TellClient

LATER = b"the same client's next connection"


def told(desk: Desk, peer: bytes, frame: Hello | Cancel) -> list[object]:
    effects = desk.tell(ClientSaid(peer, frame))
    return [each.frame for each in effects if isinstance(each, TellClient) and each.peer == peer]


def test_what_comes_on_an_earlier_connection_of_a_client_is_not_carried_out() -> None:
    desk = two()
    told(desk, CLIENT, Hello(PROTOCOL_VERSION, "x", connection=1))
    told(desk, LATER, Hello(PROTOCOL_VERSION, "x", connection=2))
    desk.prompt(desk.sessions["one"])

    answers = told(desk, CLIENT, Cancel("late", desk.sessions["one"]))

    assert [NO_HELLO] == [each.code for each in answers if isinstance(each, Fault)]
    assert not any(session.current and session.current.cancelled for session in desk.core.house.sessions.values())


def test_a_hello_that_is_late_takes_no_connection_away() -> None:
    desk = two()
    told(desk, LATER, Hello(PROTOCOL_VERSION, "x", connection=2))

    assert [] == told(desk, CLIENT + b"2", Hello(PROTOCOL_VERSION, "x", connection=1))
    assert LATER in desk.core.house.clients


def test_clients_that_do_not_count_their_connections_may_have_several() -> None:
    desk = two()
    for peer in (b"one", b"other"):
        answers = told(desk, peer, Hello(PROTOCOL_VERSION, "y"))
        assert any(isinstance(each, Welcome) for each in answers)

    assert {b"one", b"other"} <= set(desk.core.house.clients)
