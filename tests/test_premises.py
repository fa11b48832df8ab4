"""The folders of a house, and the record of who lives in it."""

import os
from pathlib import Path

import pytest

from understudy.supervisor.core.events import Spawned
from understudy.supervisor.premises import Premises


@pytest.mark.parametrize("torn", ["", "98", "98 76\0\0\0", "\0\0\0\0"])
def test_a_record_that_a_full_disk_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, torn: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    Path(state, "actors").write_text(f"12 34 mark/a#1\n{torn}")

    premises = Premises(str(tmp_path / "run"), str(state))

    assert [Spawned("", 0, 12, 34)] == premises.left
    for descriptor in premises.descriptors:
        os.close(descriptor)
