"""Who lets others go first: who takes much, while somebody is active who does not."""

from collections.abc import Hashable

import pytest

from understudy.supervisor.shell import shares
from understudy.supervisor.shell.shares import Shares

STEP_S = 0.0003  # What one step of whoever takes all it can takes.


def played(made: Shares, light: Hashable, greedy: list[Hashable], seconds: float) -> dict[Hashable, float]:
    """Play a loop in which `light` says something each millisecond, and the others whenever they may.

    Return how many seconds each took; `light` never waits.
    """
    now, due = 0.0, 0.0
    took: dict[Hashable, float] = dict.fromkeys([light, *greedy], 0.0)
    while now < seconds:
        if now >= due:
            assert 0.0 == made.wait_s(light, now)
            made.spent(light, 0.0002, now := now + 0.0002)
            took[light] += 0.0002
            due = now + 0.0008
        waits = {each: made.wait_s(each, now) for each in greedy}
        ready = next((each for each in sorted(greedy, key=took.__getitem__) if not waits[each]), None)
        if ready is None:
            now = min(due, now + max(1e-6, min(waits.values())))
        else:
            made.spent(ready, STEP_S, now := now + STEP_S, more=True)
            took[ready] += STEP_S
    return took


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_those_who_take_much_have_one_share_together_while_one_is_active_who_does_not(count: int) -> None:
    greedy: list[Hashable] = [f"greedy {at}" for at in range(count)]
    took = played(Shares(), "light", greedy, 4.0)
    bursts = count * (shares.BURST_AT_FIRST_S + 2 * STEP_S)

    assert sum(took[each] for each in greedy) <= 4.0 * shares.SHARE + bursts


def test_who_is_alone_has_all_of_the_time() -> None:
    made, now = Shares(), 0.0
    for _ in range(1000):
        assert 0.0 == made.wait_s("alone", now)
        made.spent("alone", STEP_S, now := now + STEP_S)


def test_nobody_waits_for_others_who_take_much_too_or_have_nothing_more_to_say() -> None:
    made, now = Shares(), 0.0
    made.spent("light", STEP_S, now)
    for _ in range(50):
        for each in ("one", "other"):
            made.spent(each, STEP_S, now := now + STEP_S)
    assert 0.0 == made.wait_s("one", now)
    made.spent("light", STEP_S, now)
    made.spent("one", STEP_S, now)
    assert 0.0 < made.wait_s("one", now) <= shares.ACTIVE_S
    assert 0.0 == made.wait_s("one", now + 1.1 * shares.ACTIVE_S)


def test_who_took_much_and_rests_is_one_of_the_others_again() -> None:
    made = Shares()
    made.spent("light", STEP_S, 0.0)
    made.spent("greedy", 10.0, 0.0)
    made.spent("light", STEP_S, 0.4)
    assert made.wait_s("greedy", 0.4)
    made.spent("light", STEP_S, 2.0)
    assert 0.0 == made.wait_s("greedy", 2.0)
    made.spent("greedy", STEP_S, 2.0)
    assert made.is_another_active("light", 2.0)


def test_of_a_bounded_number_of_connections_the_use_is_known() -> None:
    made = Shares()
    for at in range(3 * shares.OWNERS_MAX):
        made.spent(at, 1.0, float(at))

    assert shares.OWNERS_MAX == len(vars(made)["_debts"])
    assert shares.OWNERS_MAX >= len(vars(made)["_much"])


def test_who_could_not_be_heard_during_a_long_step_is_not_taken_for_silent() -> None:
    made = Shares()
    made.spent("light", STEP_S, 0.0)
    made.spent("greedy", 10 * shares.ACTIVE_S, 10 * shares.ACTIVE_S, more=True)
    now = 10.9 * shares.ACTIVE_S

    assert made.wait_s("greedy", now) > 0.0
