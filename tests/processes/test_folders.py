"""The folders of a house, and the record of who lives in it."""

import os
import shutil
from pathlib import Path

import pytest

from understudy.protocol.shown import boot_id
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.keeper.folders import Folders, HouseError


@pytest.mark.parametrize("torn", ["", "98", "98 76\0\0\0", "\0\0\0\0"])
def test_a_record_that_a_full_disk_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, torn: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    Path(state, "actors").write_text(f"12 34 mark/a#1\n{torn}")

    folders = Folders(str(tmp_path / "run"), str(state))

    assert [Spawned("", 0, 12, 34)] == folders.left
    for descriptor in folders.descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o755, 0o750])
@pytest.mark.parametrize("held", ["run", "state"])
def test_a_folder_that_others_use_is_refused_and_left_as_it_was(tmp_path: Path, held: str, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    place = {"run": str(tmp_path / "run"), "state": str(tmp_path / "state"), held: str(shared)}
    if held == "state" and not mode & 0o022:
        for descriptor in Folders(place["run"], place["state"]).descriptors:
            os.close(descriptor)
    else:
        with pytest.raises(HouseError, match=f"mode {mode:04o}: others may .* choose another with --"):
            Folders(place["run"], place["state"])
        assert [] == list(shared.iterdir())

    assert mode == shared.stat().st_mode & 0o7777


def opened(folder: Path) -> Folders:
    """Open the folders in `folder` as a start does, and leave them as a SIGKILL does."""
    folders = Folders(str(folder / "run"), str(folder / "state"))
    folders.note([(12, 34, f"{folders.house_id}/a#1")])
    for descriptor in folders.descriptors:
        os.close(descriptor)
    return folders


def test_who_stood_in_the_record_is_found_by_the_next_start(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)

    assert ([], [Spawned("", 0, 12, 34)]) == (first.left, second.left)
    assert first.house_id == second.house_id


def test_the_record_of_another_boot_names_nobody(tmp_path: Path) -> None:
    opened(tmp_path)
    record = tmp_path / "state" / "actors"
    record.write_text(record.read_text().replace(boot_id(), "0" * 36))

    assert [] == opened(tmp_path).left


def test_a_copy_of_the_state_folder_is_another_house_and_leaves_the_first_ones_processes_alone(tmp_path: Path) -> None:
    first = opened(tmp_path)
    (tmp_path / "copy").mkdir()
    shutil.copytree(tmp_path / "state", tmp_path / "copy" / "state")

    copy = opened(tmp_path / "copy")

    assert [] == copy.left
    assert first.house_id != copy.house_id
    assert copy.house_id == opened(tmp_path / "copy").house_id


def test_a_house_of_an_earlier_version_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "house").write_text("0123456789abcdef")

    assert ["0123456789abcdef"] * 2 == [opened(tmp_path).house_id for _ in range(2)]


@pytest.mark.parametrize("torn", ["", "\0" * 16, "0123\0 7"])
def test_what_a_crash_left_of_a_name_is_none(tmp_path: Path, torn: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "house").write_text(torn)

    first = opened(tmp_path).house_id

    assert 16 == len(first)
    assert first == opened(tmp_path).house_id
