"""What was said and waits: in the order in which each said it, counted in bytes, and nobody waits for one who floods."""

import pytest

from understudy.protocol.frames import Part, Unfollow, encode
from understudy.supervisor import inbox, shares
from understudy.supervisor.inbox import Inbox

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

    assert (A, b"first") == (made.next(0.0), made.take_message(A))
    made.put_frames(A, [Unfollow(1), Unfollow(2), Unfollow(3)])
    assert B == made.next(0.0)  # It has waited longer by now.
    assert (b"other", A) == (made.take_message(B), made.next(0.0))
    assert [Unfollow(1), Unfollow(2)] == made.take_frames(A, 2, MIB)
    assert [Unfollow(3)] == made.take_frames(A, 2, 1)
    assert [] == made.take_frames(A, 2, MIB)
    assert (b"second", 0) == (made.take_message(A), len(made))
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


@pytest.mark.parametrize("message", [PART, b"\x91\x00" * 30_000], ids=["a large frame", "many small ones"])
def test_for_whom_there_is_no_room_is_a_flood_unless_it_sends_a_large_frame(message: bytes) -> None:
    made = flooded()
    made.put(B, b"small")
    while not made.full:
        made.put(A, message)

    assert (A, 0.0) == (made.next(0.0), made.wait_s(0.0))
    assert made.is_flood(A, 0.0) == (message != PART)
    assert not made.is_flood(A, 1.1 * shares.ACTIVE_S)  # Nobody else is there: it may as well wait.
    made.drop(A)
    assert B == made.next(0.0)


def test_what_is_taken_or_dropped_is_not_counted_any_more() -> None:
    made = Inbox(lambda peer: peer)
    for at in range(1000):
        made.put(b"%d" % at, None if at % 2 else PART)
        made.put_frames(b"%d" % at, [Unfollow(at)] * 3)
    for at in range(0, 1000, 2):
        made.drop(b"%d" % at)
    while (peer := made.next(0.0)) is not None:
        if not made.take_frames(peer, 2, MIB):
            made.take_message(peer)

    assert (0, 0) == (len(made), vars(made)["_size"])
