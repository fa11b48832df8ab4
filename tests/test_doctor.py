"""What `understudy doctor` finds in folders, without a house."""

from pathlib import Path

import pytest

from understudy.supervisor.cli.doctor import Finding, look
from understudy.supervisor.log import Log


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder with a log, whose name has what means something in an address."""
    folder = tmp_path / "what? #1 100%25"
    folder.mkdir()
    Log(str(folder / "log.sqlite")).close()
    return folder


def log_of(state: Path) -> Finding:
    return next(each for each in look(str(state / "run"), str(state)) if each.what == "log")


def test_a_sound_log_is_found_wherever_it_lies(state: Path) -> None:
    finding = log_of(state)

    assert "sound" in finding.found
    assert "" == finding.remedy


def test_a_journal_that_is_none_is_wrong(state: Path) -> None:
    Path(state, "log.journal").write_bytes(b"garbage " * 10)

    finding = log_of(state)

    assert "log.journal is no journal" in finding.found
    assert "--state-dir" in finding.remedy


def test_it_changes_no_file(state: Path) -> None:
    before = {path.name: path.read_bytes() for path in state.iterdir()}

    log_of(state)

    assert before == {name: Path(state, name).read_bytes() for name in before}
    assert not Path(state, "run").exists()
