"""What `understudy doctor` finds in folders, without a house."""

from pathlib import Path

import pytest

from understudy.supervisor.cli import doctor
from understudy.supervisor.cli.doctor import Finding, look
from understudy.supervisor.log.log import Log


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder with a log, whose name has what means something in an address."""
    folder = tmp_path / "what? #1 100%25"
    folder.mkdir()
    Log(str(folder / "log.sqlite")).close()
    return folder


def finding(runtime_dir: Path, state: Path, what: str) -> Finding:
    return next(each for each in look(str(runtime_dir), str(state)) if each.what == what)


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


def test_a_log_that_a_full_disk_keeps_from_being_read_needs_room(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(state, "log.sqlite").write_bytes(b"garbage " * 1000)
    monkeypatch.setattr(doctor, "is_full", lambda _: True)

    assert "free some space on its disk" == log_of(state).remedy


def test_it_changes_no_file(state: Path) -> None:
    before = {path.name: path.read_bytes() for path in state.iterdir()}

    log_of(state)

    assert before == {name: Path(state, name).read_bytes() for name in before}
    assert not Path(state, "run").exists()


def test_a_folder_for_sockets_that_others_may_look_into_is_wrong(state: Path) -> None:
    run = state / "run"
    run.mkdir()
    run.chmod(0o755)

    found = finding(run, state, f"folder {run}")

    assert "mode 0755: others may look into it" in found.found
    assert f"chmod 700 {run}" in found.remedy


def test_a_log_that_others_can_read_is_wrong(state: Path) -> None:
    state.chmod(0o755)
    Path(state, "log.sqlite").chmod(0o644)

    found = finding(state / "run", state, f"folder {state}")

    assert "others can read log.sqlite" in found.found
    assert f"chmod 700 {state}" == found.remedy


def test_a_configuration_that_others_may_write_is_wrong(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "understudy.toml").write_text('[agent.a]\ndriver = "scripted"\n')
    (tmp_path / "understudy.toml").chmod(0o666)
    monkeypatch.chdir(tmp_path)

    found = finding(state / "run", state, "configuration")

    assert "mode 0666: others may write it; read it, then: chmod go-w" in found.found
    assert found.remedy
