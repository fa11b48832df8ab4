"""Bytes have owners: what a client or an actor costs the core, bounded, and given back when it leaves."""

from tests.test_limits import CLIENT, Desk, agent, peer_of
from understudy.protocol.frames import (
    PROTOCOL_VERSION,
    ActorHello,
    Entries,
    Entry,
    Fault,
    Follow,
    Goodbye,
    Hello,
    Updates,
    Verb,
    Welcome,
    pack,
)
from understudy.supervisor.core.events import ActorUnreachable, ClientSaid, EntriesRead


def followers(desk: Desk) -> int:
    return sum(len(session.followers) for session in desk.core.house.sessions.values())


def test_a_second_hello_gives_up_the_follows_and_waits_of_the_first() -> None:
    desk = Desk(agent("a", after=("b",)), agent("b"))
    session = desk.open()
    for number in range(10):
        desk.tell(ClientSaid(CLIENT, Follow(number, session)))
    assert 10 == followers(desk)
    desk.tell(ClientSaid(CLIENT, Hello(PROTOCOL_VERSION, "c")))

    assert 0 == followers(desk)
    assert isinstance(desk.told[-1], Welcome)
    desk.tell(ClientSaid(CLIENT, Follow(3, session)))
    desk.tell(ClientSaid(CLIENT, Goodbye()))
    assert 0 == followers(desk)


def test_what_a_client_waits_for_does_not_outlive_it() -> None:
    desk = Desk(agent())
    desk.tell(ClientSaid(CLIENT, Verb("v", "stop", pack({"names": ["a"]}))))
    assert 1 == len(desk.core.house.waits)
    desk.tell(ClientSaid(CLIENT, Goodbye()))

    assert [] == desk.core.house.waits


def test_a_read_that_was_under_way_for_another_follow_of_the_same_number_is_not_taken_for_this_one() -> None:
    desk = Desk(agent())
    one, other = desk.open(), desk.open()
    desk.tell(ClientSaid(CLIENT, Follow(1, one)), ClientSaid(CLIENT, Follow(1, other)))
    desk.told.clear()
    late = EntriesRead(CLIENT, 1, [Entry(one, 1, 1, 0, "opened", pack({}), 0.0)], serial=1)
    read = EntriesRead(CLIENT, 1, [Entry(other, 1, 1, 0, "opened", pack({}), 0.0)], serial=2)
    desk.tell(late, read)

    assert [other] == [entry.session for frame in desk.told if isinstance(frame, Entries) for entry in frame.entries]


def test_an_actor_that_was_given_up_is_asked_for_a_hello_and_heard_again() -> None:
    desk = Desk(agent())
    session, peer = desk.open(), peer_of("a", 1)
    desk.tell(ActorUnreachable(peer))
    desk.said(Updates(1, session, 0, 1, pack([{}])))
    where, fault = desk.to_actor[-1]

    assert isinstance(fault, Fault)
    assert (peer, "no_hello") == (where, fault.code)
    desk.said(ActorHello(PROTOCOL_VERSION, "a", 1, 101, 2))
    desk.said(Updates(1, session, 0, 1, pack([{}])))
    assert "update" == desk.entries[-1].kind
