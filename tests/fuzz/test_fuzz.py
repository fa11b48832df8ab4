"""A fixed share of the fuzzing in every run of the tests; `python -m tests.fuzz` plays on for as long as is wanted."""

from random import Random

import pytest

from tests.fuzz.__main__ import play
from tests.fuzz.house import FuzzedHouse


@pytest.mark.parametrize("seed", range(6))
def test_no_frame_breaks_anything_and_each_request_has_one_answer(seed: int) -> None:
    assert play(seed, 10_000) >= 10_000


def test_the_seed_of_a_fuzzer_tells_all() -> None:
    one, other = (FuzzedHouse(Random(7)) for _ in range(2))
    for _ in range(300):
        one.step()
        other.step()

    assert one.taken == other.taken
    assert one.core.house.ticket == other.core.house.ticket
