"""What was said and waits: in the order in which each said it, counted in bytes, and nobody waits for one who floods."""

import pytest

from understudy.protocol.frames import Part
from understudy.protocol.messages import encode
from understudy.supervisor.shell import inbox, shares
from understudy.supervisor.shell.inbox import Inbox

A, B, LIGHT = b"a", b"b", b"light"
MIB = 1 << 20
PART = encode([Part(last=False, piece=b"x" * 60_000)])[0]


def flooded(owners: dict[bytes, str] | None = None) -> Inbox:
    """Return an inbox in which A took all of the time so far, and LIGHT was heard just now, at 0.0."""
    made = Inbox(lambda peer: (owners or {}).get(peer, peer))
    made.spent({LIGHT: 1}, 0.0, 0.0)
    made.spent({A: 1}, 1.0, 0.0)
    return made


def test_what_a_peer_says_waits_behind_what_it_said_before() -> None:
    made = Inbox(lambda peer: peer)
    assert not made.is_before(A, 0.0)
    made.put(A, b"first")
    made.put(A, b"second")
    made.put(B, b"other")
    assert made.is_before(A, 0.0)

    assert (A, b"first") == (made.next(0.0), made.take(A))
    made.put_back(A, [b"its rest", b"and more"])
    assert B == made.next(0.0)  # It has waited longer by now.
    assert (b"other", A) == (made.take(B), made.next(0.0))
    assert [b"its rest", b"and more", b"second"] == [made.take(A) for _ in range(3)]
    assert 0 == len(made)
    assert not made.is_before(A, 0.0)


def test_who_floods_waits_and_the_other_does_not() -> None:
    made = flooded()
    made.put(A, b"more")

    assert not made.is_before(LIGHT, 0.0)
    assert made.next(0.0) is None
    assert 0.0 < made.wait_s(0.0) <= shares.ACTIVE_S
    assert A == made.next(1.1 * shares.ACTIVE_S)
    assert inbox.FRAMES_AT_ONCE_BESIDE_OTHERS == made.at_once(A, 0.0)
    assert inbox.FRAMES_AT_ONCE == made.at_once(A, 1.1 * shares.ACTIVE_S)


def test_all_connections_of_one_owner_have_one_share() -> None:
    made = flooded({A: "it", B: "it"})

    assert made.is_before(B, 0.0)


def test_who_takes_little_does_not_wait_behind_many_connections_of_who_takes_much() -> None:
    many = [b"%d" % at for at in range(1000)]
    made = flooded({A: "it"} | dict.fromkeys(many, "it"))
    for peer in (A, *many):
        made.put(peer, b"more")
    made.put(LIGHT, b"what is left of a long message")

    assert (LIGHT, 0.0) == (made.next(0.0), made.wait_s(0.0))


@pytest.mark.parametrize("message", [PART, b"\x91\x00" * 30_000], ids=["a large frame", "many small ones"])
def test_for_whom_there_is_no_room_floods_unless_it_sends_a_large_frame(message: bytes) -> None:
    made = flooded()
    made.put(B, b"small")
    while not made.full:
        made.put(A, message)

    assert (A, 0.0) == (made.next(0.0), made.wait_s(0.0))
    assert made.floods(0.0) == ([] if message == PART else [A])
    assert [] == made.floods(1.1 * inbox.WAITS_S)  # Nobody else is there: it may as well wait.
    made.drop(A)
    assert B == made.next(0.0)


def test_of_many_connections_so_many_are_given_up_that_half_of_the_room_is_free() -> None:
    many = [b"%d" % at for at in range(100)]
    made = flooded({A: "it"} | dict.fromkeys(many, "it"))
    made.put(LIGHT, *[bytes(60_000)] * 20)
    while not made.full:
        for peer in many:
            made.put(peer, bytes(5_000))

    floods = made.floods(0.0)
    assert LIGHT not in floods
    for peer in floods:
        made.drop(peer)
    assert inbox.BYTES_MAX // 2 - 10_000 * 100 < vars(made)["_size"] <= inbox.BYTES_MAX // 2


def test_what_is_taken_or_dropped_is_not_counted_any_more() -> None:
    made = Inbox(lambda peer: peer[-1])
    for at in range(1000):
        made.put(b"%d" % at, None if at % 2 else PART)
        made.put_back(b"%d" % at, [PART] * 3)
    for at in range(0, 1000, 2):
        made.drop(b"%d" % at)
    while len(made):
        peer = made.next(0.0)
        assert peer is not None
        made.take(peer)

    assert (0, {}, {}) == (vars(made)["_size"], vars(made)["_owners"], vars(made)["_whose"])
