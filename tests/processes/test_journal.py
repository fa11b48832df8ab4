"""The journal beside the log: what it alone has is found again, and what is wrong with it is told."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.logs import SESSION, Opener, entry
from understudy.supervisor.core.events import EpochRow, LogState, Record, TurnRow
from understudy.supervisor.formats import JOURNAL_HEADER
from understudy.supervisor.log.journal import HEAD, Journal
from understudy.supervisor.log.log import Log, LogError


def killed_with(path: Path, log: Log, to: Path) -> str:
    """Return the path of a copy of the log as a kill would leave it now."""
    for each in path.parent.glob(path.stem + "*"):
        shutil.copy(each, to / each.name)
    log.close()
    return str(to / path.name)


def journal_of(path: str) -> Path:
    return Path(path + ".journal")


def test_commits_that_only_the_journal_has_are_found_again_once(tmp_path: Path, open_log: Opener) -> None:
    path, to = tmp_path / "log", tmp_path / "left"
    to.mkdir()
    log = open_log(str(path))
    log.commit([Record(1, [SESSION, entry(1, kind="prompt"), TurnRow("s1", 1, LogState.QUEUED, "r1")])])
    log.tend()
    log.commit([Record(2, [TurnRow("s1", 1, LogState.STARTED), entry(2, 5), EpochRow("a", 3, 7, 9)])])
    log.commit([Record(3, [entry(6)])])
    left = killed_with(path, log, to)

    for _ in range(2):
        again = open_log(left)
        restored = again.restore()
        assert [1, 2, 6] == [each.first for each in again.read("s1", 0, 10_000)]
        assert [(1, LogState.STARTED)] == [(turn.turn, turn.state) for turn in restored.turns]
        assert {"a": 3} == restored.epochs
        assert 1 == again.generation


def test_a_journal_that_sqlite_has_already_is_not_taken_twice(tmp_path: Path, open_log: Opener) -> None:
    path, to = tmp_path / "log", tmp_path / "left"
    to.mkdir()
    log = open_log(str(path))
    log.commit([Record(1, [SESSION, entry(1)])])
    journal = journal_of(str(path)).read_bytes()
    log.tend()
    log.commit([Record(2, [entry(2)])])
    journal += journal_of(str(path)).read_bytes()[len(JOURNAL_HEADER) :]
    left = killed_with(path, log, to)
    journal_of(left).write_bytes(journal)  # As when the kill came between SQLite's commit and the journal's end.

    assert [1, 2] == [each.first for each in open_log(left).read("s1", 0, 10_000)]


@pytest.mark.parametrize("cut", [1, HEAD.size - 1, HEAD.size, HEAD.size + 1, 0])
def test_a_record_cut_short_was_never_told_and_is_dropped(tmp_path: Path, open_log: Opener, cut: int) -> None:
    path, to = tmp_path / "log", tmp_path / "left"
    to.mkdir()
    log = open_log(str(path))
    log.commit([Record(1, [SESSION, entry(1)])])
    whole = journal_of(str(path)).stat().st_size
    log.commit([Record(2, [entry(2)])])
    left = killed_with(path, log, to)
    os.truncate(journal_of(left), whole + cut)

    again = open_log(left)
    again.commit([Record(1, [entry(2)])])

    assert [1, 2] == [each.first for each in again.read("s1", 0, 10_000)]
    assert (1, []) == (again.generation, again.warnings)


@pytest.mark.parametrize("behind", [0, 1, 5])
@pytest.mark.parametrize("at", [HEAD.size + 2, 2, 1])
def test_a_damaged_journal_is_told_and_changes_the_generation(
    tmp_path: Path, open_log: Opener, at: int, behind: int
) -> None:
    """Also where a length is damaged, so that the record seems to be cut short. `behind`: how many records are."""
    path, to = tmp_path / "log", tmp_path / "left"
    to.mkdir()
    log = open_log(str(path))
    log.commit([Record(1, [SESSION, entry(1)])])
    whole = journal_of(str(path)).stat().st_size
    for number in range(2, 3 + behind):
        log.commit([Record(number, [entry(number)])])
    left = killed_with(path, log, to)
    with journal_of(left).open("r+b") as file:
        file.seek(whole + at)
        file.write(b"!!")

    again = open_log(left)

    assert [1] == [each.first for each in again.read("s1", 0, 10_000)]
    assert 2 == again.generation
    assert [f"{journal_of(left)} is damaged at byte {whole}"] == [each.split(":")[0] for each in again.warnings]


def test_what_a_failed_write_left_is_taken_back_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(tmp_path / "journal"))
    journal.append(1, b"first")
    write, cut = os.writev, os.ftruncate

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is away")

    def write_half(file: int, record: tuple[bytes, bytes]) -> int:
        monkeypatch.setattr(os, "writev", fail)
        return write(file, (record[0][:7],))

    monkeypatch.setattr(os, "writev", write_half)
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(OSError, match="away"):
        journal.append(2, b"second")
    monkeypatch.setattr(os, "writev", write)
    monkeypatch.setattr(os, "ftruncate", cut)

    journal.append(2, b"again")

    assert [(1, b"first"), (2, b"again")] == list(journal.replay(0))
    assert "" == journal.damage
    journal.close()


def test_a_journal_of_something_else_is_refused_and_left_alone(tmp_path: Path, open_log: Opener) -> None:
    path = tmp_path / "log"
    journal_of(str(path)).write_bytes(b"dear diary")

    with pytest.raises(LogError, match="move it away"):
        open_log(str(path))
    assert b"dear diary" == journal_of(str(path)).read_bytes()
