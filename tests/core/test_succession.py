"""What the keeper does when a supervisor ends; decided in pure code."""

import signal

import pytest

from understudy.supervisor.core.succession import (
    BACKOFF_S_MAX,
    FAILED_SAFE_STARTS_MAX,
    FAILED_STARTS_MAX,
    LATE_S_MAX,
    LATER_S,
    SILENT_S_MAX,
    STABLE_S,
    STATUS_HOPELESS,
    STATUS_LATER,
    STATUS_RELOAD,
    STATUS_TRY_AGAIN,
    Next,
    Succession,
)


def failed(succession: Succession, times: int) -> list[Next]:
    """Let so many starts fail."""
    return [succession.ended(1, 0.0)[0] for _ in range(times)]


def test_three_failed_starts_mean_safe_mode() -> None:
    assert [Next.START, Next.START, Next.START_SAFE] == failed(Succession(), FAILED_STARTS_MAX)


@pytest.mark.parametrize(
    ("status", "lived_s", "following"),
    [
        (1, 0.1, Next.START_SAFE),  # It serves, and a client crashes it again and again.
        (-signal.SIGSEGV, 0.1, Next.START_SAFE),
        (1, STABLE_S, Next.START),
        (-signal.SIGKILL, 0.1, Next.START),  # Somebody outside did it.
    ],
)
def test_a_crash_soon_after_the_start_is_a_failed_start(status: int, lived_s: float, following: Next) -> None:
    succession = Succession()
    now, last = 0.0, Next.START

    for _ in range(FAILED_STARTS_MAX):
        succession.ready(now)
        now += lived_s
        last, _ = succession.ended(status, now)

    assert following is last


def test_a_supervisor_that_waits_for_the_disk_is_no_failed_start_once_the_house_has_served() -> None:
    succession = Succession()
    first = succession.ended(STATUS_LATER, 0.0)
    succession.ready(0.0)

    later = [succession.ended(STATUS_LATER, STABLE_S) for _ in range(10 * FAILED_STARTS_MAX)]

    assert (Next.END, 0.0) == first
    assert {(Next.START, LATER_S)} == set(later)
    assert [Next.START, Next.START, Next.START_SAFE] == failed(succession, FAILED_STARTS_MAX)


def test_a_stable_supervisor_makes_good_for_failed_starts() -> None:
    succession = Succession()
    failed(succession, FAILED_STARTS_MAX - 1)
    succession.ready(0.0)

    assert (Next.START, 0.0) == succession.ended(1, STABLE_S)
    assert Next.START is succession.ended(1, STABLE_S)[0]


def test_safe_mode_makes_way_for_one_start_in_earnest_at_a_time() -> None:
    succession = Succession()
    failed(succession, FAILED_STARTS_MAX)
    succession.ready(0.0)

    assert Next.START is succession.ended(STATUS_TRY_AGAIN, 60.0)[0]
    assert Next.START_SAFE is succession.ended(1, 61.0)[0]


def test_a_safe_mode_that_cannot_start_either_ends_the_house_in_the_end() -> None:
    succession = Succession()
    failed(succession, FAILED_STARTS_MAX)

    assert Next.START_SAFE is succession.ended(1, 0.0)[0]
    assert Next.END is failed(succession, FAILED_SAFE_STARTS_MAX)[-1]


def test_waits_grow_to_a_bound() -> None:
    succession = Succession()

    waits = [succession.ended(1, 0.0)[1] for _ in range(FAILED_STARTS_MAX + FAILED_SAFE_STARTS_MAX)]

    assert sorted(waits[:-1]) == waits[:-1]  # After the last one the house ends.
    assert 0.0 == waits[0]
    assert BACKOFF_S_MAX == waits[-2]


def test_a_silent_supervisor_hangs_and_is_ended_once() -> None:
    succession = Succession()
    succession.alive(0.0)
    looks = [succession.hangs(now) for now in (0.0, SILENT_S_MAX - 0.1, SILENT_S_MAX, SILENT_S_MAX + 0.1)]

    assert [False, False, True, False] == looks
    assert succession.watch_due is None


def test_one_is_not_held_to_a_time_in_which_the_keeper_stood_still_too() -> None:
    succession = Succession()
    succession.alive(0.0)
    late = SILENT_S_MAX + LATE_S_MAX + 0.1

    assert not succession.hangs(late)
    assert late + SILENT_S_MAX == succession.watch_due


def test_one_that_never_said_that_it_is_alive_is_not_watched() -> None:
    assert not Succession().hangs(1e9)


@pytest.mark.parametrize(
    ("served", "status", "following"),
    [
        (False, 0, Next.END),
        (False, STATUS_HOPELESS, Next.END),  # The person who started it reads why.
        (True, STATUS_HOPELESS, Next.START),
        (True, STATUS_RELOAD, Next.RELOAD),
    ],
)
def test_what_a_status_means(served: bool, status: int, following: Next) -> None:
    assert following is Succession(served=served).ended(status, 0.0)[0]
