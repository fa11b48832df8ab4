"""What an actor marks as shown, and what of it is believed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from understudy.protocol import shown
from understudy.protocol.shown import SLOT_BYTES, ShownFile, read_shown, shown_path, whose
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.shell.marks import Marks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an actor that has shown two turns and withdrawn a third."""
    made = ShownFile.of_actor(str(tmp_path), "a", 1)
    for turn in (1, 2, 3):
        made.show("s", turn)
    made.withdraw("s", 3)
    made.close()
    return Path(shown_path(str(tmp_path), "a", 1))


def test_what_was_shown_is_known(path: Path) -> None:
    assert {("s", 1), ("s", 2)} == read_shown(str(path))


def test_an_actor_that_has_shown_nothing_is_known_to(tmp_path: Path) -> None:
    ShownFile.of_actor(str(tmp_path), "a/2", 1).close()

    assert set() == read_shown(shown_path(str(tmp_path), "a/2", 1))


def test_a_slot_is_used_again_once_the_turn_is_over(tmp_path: Path) -> None:
    made = ShownFile.of_actor(str(tmp_path), "a", 1)
    for turn in range(1, 10):
        made.show("s", turn)
        made.over("s", turn)
    made.show("t", 1)
    made.close()

    path = shown_path(str(tmp_path), "a", 1)
    assert (2 * SLOT_BYTES, {("t", 1)}) == (Path(path).stat().st_size, read_shown(path))


def test_a_turn_that_is_shown_again_is_marked_once_and_after_it_was_withdrawn_too(tmp_path: Path) -> None:
    made = ShownFile.of_actor(str(tmp_path), "a", 1)
    made.show("s", 1)
    made.show("s", 1)
    made.withdraw("s", 1)
    made.show("s", 1)
    shown_once = read_shown(shown_path(str(tmp_path), "a", 1))
    made.over("s", 1)
    made.show("t", 1)
    made.close()

    path = shown_path(str(tmp_path), "a", 1)
    assert {("s", 1)} == shown_once
    assert (2 * SLOT_BYTES, {("t", 1)}) == (Path(path).stat().st_size, read_shown(path))


def of_another_boot(path: Path) -> None:
    text = path.read_bytes()
    boot = shown.boot_id().encode()
    path.write_bytes(text.replace(boot, bytes(reversed(boot))))


def copied(path: Path) -> None:
    """As a backup that was restored, or another house's copy."""
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def torn(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * SLOT_BYTES)
        file.write(b"s 2\0\0")


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "spoil",
    [
        of_another_boot,
        copied,
        torn,
        linked,
        replaced_by_a_pipe,
        Path.unlink,
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, SLOT_BYTES + 5),
        lambda path: path.chmod(0) if os.geteuid() else path.unlink(),
    ],
    ids=["another boot", "a copy", "torn", "a link", "a pipe", "missing", "empty", "cut short", "unreadable"],
)
def test_what_cannot_be_believed_is_not_known(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)

    assert read_shown(str(path)) is None


def test_a_file_that_cannot_be_made_now_is_made_before_a_turn_is_shown(tmp_path: Path) -> None:
    (tmp_path / "shown").write_text("in the way")
    made = ShownFile.of_actor(str(tmp_path), "a", 1)
    with pytest.raises(OSError, match="exists"):
        made.show("s", 1)
    (tmp_path / "shown").unlink()

    made.show("s", 1)
    made.close()

    assert {("s", 1)} == read_shown(shown_path(str(tmp_path), "a", 1))


def test_what_could_not_be_marked_takes_no_slot(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = ShownFile.of_actor(str(tmp_path), "a", 2)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda *_: 0)
        with pytest.raises(OSError, match="No space"):
            made.show("s", 1)
    made.show("s", 2)
    made.close()

    assert {("s", 2)} == read_shown(str(path.with_name("a#2")))


@pytest.mark.parametrize(
    ("name", "expected"), [("a%2#7", ("a/2", 7)), ("a#b", ("a#b", 0)), ("#7", ("#7", 0)), ("a#²", ("a#²", 0))]
)
def test_a_file_tells_by_its_name_whose_it_is(name: str, expected: tuple[str, int]) -> None:
    assert expected == whose(name)


# --- what the supervisor finds ----------------------------------------------------


def an_old_file(folder: Path, epoch: int) -> Path:
    """As an actor of the version before writes it."""
    path = Path(shown_path(str(folder), "a", epoch))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"s 1".ljust(SLOT_BYTES - 1) + b"\n")
    return path


def test_only_the_dead_are_given_back_and_forgotten_files_are_gone(tmp_path: Path) -> None:
    for epoch in (1, 2):
        ShownFile.of_actor(str(tmp_path), "a", epoch).close()
    (tmp_path / "shown" / "notes").write_text("not ours")
    marks = Marks(str(tmp_path), str(tmp_path / "run"), [Spawned("a", 2, 7, 7)])

    assert {("a", 1): set()} == marks.left()
    marks.forget("a", 1)
    marks.forget("a", 1)
    assert {} == marks.left()
    assert set() == marks.of("a", 2)


def test_an_actor_of_the_version_before_that_outlived_the_reload_is_believed(tmp_path: Path) -> None:
    path = an_old_file(tmp_path / "run", 1)
    marks = Marks(str(tmp_path), str(tmp_path / "run"), [Spawned("a", 1, 7, 7)])

    assert ({}, {("s", 1)}) == (marks.left(), marks.of("a", 1))
    marks.forget("a", 1)
    assert not path.exists()


def test_what_an_earlier_version_left_of_the_dead_counts_for_nothing(tmp_path: Path) -> None:
    path = an_old_file(tmp_path / "run", 1)
    marks = Marks(str(tmp_path), str(tmp_path / "run"), [])

    assert ({}, None) == (marks.left(), marks.of("a", 1))
    assert not path.exists()
