"""The folders of a house, and the record of who lives in it."""

import os
from pathlib import Path

import pytest

from understudy.supervisor.core.events import Spawned
from understudy.supervisor.premises import HouseError, Premises


@pytest.mark.parametrize("torn", ["", "98", "98 76\0\0\0", "\0\0\0\0"])
def test_a_record_that_a_full_disk_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, torn: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    Path(state, "actors").write_text(f"12 34 mark/a#1\n{torn}")

    premises = Premises(str(tmp_path / "run"), str(state))

    assert [Spawned("", 0, 12, 34)] == premises.left
    for descriptor in premises.descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o755, 0o750])
@pytest.mark.parametrize("held", ["run", "state"])
def test_a_folder_that_others_use_is_refused_and_left_as_it_was(tmp_path: Path, held: str, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    place = {"run": str(tmp_path / "run"), "state": str(tmp_path / "state"), held: str(shared)}
    if held == "state" and not mode & 0o022:
        for descriptor in Premises(place["run"], place["state"]).descriptors:
            os.close(descriptor)
    else:
        with pytest.raises(HouseError, match=f"mode {mode:04o}: others may .* choose another with --"):
            Premises(place["run"], place["state"])
        assert [] == list(shared.iterdir())

    assert mode == shared.stat().st_mode & 0o7777


def test_what_a_crash_left_of_the_houses_name_is_no_name(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "house").write_bytes(bytes(16))

    premises = Premises(str(tmp_path / "run"), str(state))

    assert premises.house_id.isalnum()
    assert premises.house_id == (state / "house").read_text()
    for descriptor in premises.descriptors:
        os.close(descriptor)
