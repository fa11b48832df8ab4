"""A fixed share of the fuzzing in every run of the tests; `python -m tests.fuzz` plays on for as long as is wanted."""

import pytest

from tests.fuzz.__main__ import play


@pytest.mark.parametrize("seed", range(6))
def test_no_frame_breaks_anything_and_each_request_has_one_answer(seed: int) -> None:
    assert play(seed, 10_000) >= 10_000
