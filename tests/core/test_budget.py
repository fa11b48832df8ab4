"""What is under way to a peer, counted by pings, and which bodies are kept."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from tests.desk import Desk, agent
from understudy.protocol.frames import Entries, ToActor, ToClient
from understudy.supervisor.core.budget import FRAME_BYTES, Body, Budget, Limits, weight

A, B = b"a", b"b"
LIMITS = Limits(1000, 100, 2000, 50, 20, 50)


def budget() -> Budget:
    made = Budget(LIMITS)
    made.open(A)
    made.open(B)
    return made


def test_a_pong_says_that_all_before_its_ping_was_taken() -> None:
    made = budget()
    assert not made.said(A, 40)
    assert made.said(A, 40)  # So much that a ping is due.
    made.pinged(A, 0, 0, 1.0)
    made.said(A, 7)
    made.ponged(A)

    assert 7 == made.windows[A].under_way == made.under_way
    assert made.ponged(A) is None


def test_what_is_large_waits_while_the_window_is_full() -> None:
    made = budget()
    assert made.room(A, 10**6)  # One at least.
    made.said(A, 1000)
    made.pinged(A, 0, 0, 1.0)

    assert not made.room(A)
    assert made.room(B)
    made.ponged(A)
    assert made.room(A)


def test_when_much_is_under_way_to_all_each_has_a_small_share_of_its_own() -> None:
    made = budget()
    made.said(A, 5000)
    made.pinged(A, 0, 0, 1.0)

    assert made.crowded
    assert made.room(B, 100)
    assert not made.room(B, 101)
    assert not made.room(A)
    made.ponged(A)
    assert made.freed
    assert made.room(B, 101)


def test_whoever_takes_nothing_for_long_is_named_the_one_with_most_first() -> None:
    made = budget()
    for peer, size in ((A, 500), (B, 5000)):
        made.said(peer, size)
        made.pinged(peer, 0, 0, 1.0)

    assert [] == list(made.still(11.0))
    assert [B, A] == list(made.still(11.1))


def test_a_connection_that_is_gone_gives_back_what_was_under_way() -> None:
    made = budget()
    made.said(A, 5000)
    made.close(A)

    assert (0, False, True) == (made.under_way, made.crowded, made.freed)
    assert not made.said(A, 5)
    assert 0 == made.under_way


def test_a_ping_that_waits_for_the_log_is_answered_behind_one_that_does_not() -> None:
    made = budget()
    made.said(A, 60)
    made.pinged(A, 3, 0, 1.0)  # Behind what goes out once 3 is committed,
    made.pinged(A, 0, 0, 1.0)  # and one that goes out at once.

    first, second = made.ponged(A), made.ponged(A)
    assert first is not None
    assert second is not None
    assert [(2, 0), (1, 60)] == [(each.serial, each.size) for each in (first, second)]


@given(st.lists(st.sampled_from(["say", "say much", "ping", "late", "commit", "pong", "close", "open"])))
def test_bytes_under_way_are_always_somebodys(steps: list[str]) -> None:
    made, committed, ticket = budget(), 0, 0
    for step in steps:
        match step:
            case "say" | "say much":
                made.said(A, 9 if step == "say" else 900)
            case "ping":
                made.pinged(A, 0, committed, 0.0)
            case "late":
                ticket += 1
                made.pinged(A, ticket, committed, 0.0)
            case "commit":
                committed = ticket
            case "pong":
                made.ponged(A)
            case "close":
                made.close(A)
            case _:
                made.open(A)
        for window in made.windows.values():
            assert window.under_way == window.behind + sum(ping.size for ping in window.pings) >= 0
            assert [ping.ticket for ping in window.pings] == sorted(ping.ticket for ping in window.pings)
        assert made.under_way == sum(window.under_way for window in made.windows.values())


@pytest.mark.parametrize(
    ("content", "size", "kept"),
    [(b"", 0, Body()), (b"x" * 20, 0, Body(20, b"x" * 20)), (b"x" * 21, 0, Body(21, None)), (b"", 7, Body(7, None))],
    ids=["nothing", "small", "large", "left in the log"],
)
def test_a_body_is_kept_when_it_is_small(content: bytes, size: int, kept: Body) -> None:
    assert kept == budget().keep(content, size)


def test_no_more_bodies_are_kept_than_there_is_room_for() -> None:
    made = budget()
    bodies = [made.keep(bytes(20)) for _ in range(3)]

    assert [bytes(20), bytes(20), None] == [body.kept for body in bodies]
    for body in bodies:
        made.let_go(body)
    assert 0 == made.kept


@given(st.lists(st.tuples(st.sampled_from([A, B, b"nobody"]), st.integers(0, 400)), max_size=40))
def test_what_is_spent_is_what_had_room_and_was_said(sizes: list[tuple[bytes, int]]) -> None:
    at_once, in_turn = budget(), budget()
    for peer, size in sizes:
        there_is_room = in_turn.room(peer, size)
        if there_is_room:
            in_turn.said(peer, size)

        assert there_is_room == at_once.spend(peer, size)
        assert in_turn == at_once


def test_those_who_take_nothing_are_given_up_until_there_is_room_for_a_while() -> None:
    desk = Desk(agent())
    budget, clients = desk.core.house.budget, desk.core.house.clients
    budget.limits = Limits(share_bytes=1_000, under_way_bytes_max=10_000)
    for number in range(5):
        peer = b"%d" % number
        desk.hello(peer, f"still {number}")
        budget.said(peer, 2_500)
        budget.pinged(peer, 0, 0, 0.0)
    assert budget.crowded

    desk.tick(11.0)

    assert budget.roomy
    assert 1 == sum(each.id.startswith("still") for each in clients.values())


@pytest.mark.parametrize(
    "kind", [each for each in dict.fromkeys(get_args(ToClient) + get_args(ToActor)) if each is not Entries]
)
def test_all_that_can_be_long_in_a_frame_is_counted(kind: Any) -> None:
    values: dict[str, Any] = {}
    long = 0
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        match field.type:
            case inspect.BytesType():
                values[field.name], long = bytes(1000), long + 1
            case inspect.StrType(max_length=int(most)):
                values[field.name], long = "x" * (1000 * (most >= 10_000)), long + (most >= 10_000)
            case inspect.ListType():
                values[field.name] = []
            case _:
                values[field.name] = 1

    assert FRAME_BYTES + 1000 * long == weight(kind(**values))
