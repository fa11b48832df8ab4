import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.protocol.frames import Entry, pack
from understudy.supervisor.core.events import EpochRow, MarkRow, MemoryRow, Record, Row, SessionRow, TurnRow
from understudy.supervisor.log import SCHEMA_VERSION, Log, LogError

SESSION = SessionRow("s1", "rehearsal", "/tmp", b"", "open-1")


def entry(first: int, last: int = 0, kind: str = "update", turn: int = 1) -> Entry:
    return Entry("s1", first, last or first, turn, kind, pack({"content": [first]}), 1.5)


def test_what_is_committed_is_read_again(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    entries = [entry(1), entry(2, 5), entry(6)]
    log.commit([Record(1, [SESSION, *entries])])

    assert entries == log.read("s1", 0, 10_000)
    assert entries[1:] == log.read("s1", 4, 10_000)
    assert entries[:1] == log.read("s1", 1, 1)
    log.close()


def test_restore_gives_open_turns_and_forgets_ended_ones(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    log = Log(path)
    rows: list[Row] = [
        SESSION,
        entry(1, kind="prompt"),
        TurnRow("s1", 1, "queued", "r1", ["fs/read_text_file"]),
        entry(2, kind="prompt", turn=2),
        TurnRow("s1", 2, "queued", "r2"),
        TurnRow("s1", 1, "started"),
        entry(3, kind="prompt", turn=3),
        TurnRow("s1", 3, "queued", "r3"),
        TurnRow("s1", 3, "ended"),
        MemoryRow("s1", b"remembered"),
        EpochRow("rehearsal", 4, 77, 99),
        MarkRow("rehearsal", 4, 12),
    ]
    log.commit([Record(1, rows)])
    log.close()

    restored = Log(path).restore()

    assert [(1, "started", ["fs/read_text_file"]), (2, "queued", [])] == [
        (turn.turn, turn.state, turn.serves) for turn in restored.turns
    ]
    assert pack([1]) == restored.turns[0].body
    assert {"open-1": ("s1", 0), "r1": ("s1", 1), "r2": ("s1", 2), "r3": ("s1", 3)} == restored.requests
    assert {"rehearsal": 4} == restored.epochs
    assert (3, b"remembered") == (restored.sessions[0].last, restored.sessions[0].memory)


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Log(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(LogError, match=f"schema version {SCHEMA_VERSION + 1}"):
        Log(str(path))


def test_what_is_no_log_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"this is not a database" * 100)

    with pytest.raises(LogError, match="move it away"):
        Log(str(path))
    assert path.read_bytes().startswith(b"this is not")


def test_the_generation_changes_only_when_the_machine_stopped_under_the_log(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    Log(path, boot_id="a").close()
    after_clean_stop = Log(path, boot_id="b")
    assert 1 == after_clean_stop.generation
    same_boot = Log(path, boot_id="b")  # As after a SIGKILL: not closed, the machine went on.
    assert 1 == same_boot.generation

    assert 2 == Log(path, boot_id="c").generation


def test_the_epoch_grows_with_each_start(tmp_path: Path) -> None:
    path = str(tmp_path / "log")

    assert [1, 2, 3] == [Log(path).epoch for _ in range(3)]


def test_what_was_committed_survives_a_kill_without_a_gap(tmp_path: Path) -> None:
    script = """
import sys
from understudy.protocol.frames import Entry
from understudy.supervisor.core.events import Record, Row, SessionRow
from understudy.supervisor.log import Log
log = Log(sys.argv[1])
log.commit([Record(1, [SessionRow("s1", "a", "/", b"", "o")])])
for number in range(1, 10**9):
    log.commit([Record(number + 1, [Entry("s1", number, number, 0, "update", b"x" * 50, 0.0)])])
    log.tend()
    print(number, flush=True)
"""
    path = str(tmp_path / "log")
    writer = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    last = 0
    for line in writer.stdout:
        last = int(line)
        if last == 3000:
            os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()

    numbers = [each.first for each in Log(path).read("s1", 0, 10**9)]

    assert list(range(1, len(numbers) + 1)) == numbers
    assert len(numbers) >= last


def test_a_full_disk_loses_nothing_and_the_same_records_commit_later(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        log = Log(str(mount / "log"))
        log.commit([Record(1, [SESSION, entry(1)])])
        (mount / "ballast").write_bytes(b"x" * (1 << 20))
        records = [Record(2, [Entry("s1", 2, 2, 0, "update", b"y" * (1 << 20), 0.0)])]
        with pytest.raises(LogError, match="full"):
            log.commit(records)
        (mount / "ballast").unlink()

        log.commit(records)

        assert [1, 2] == [each.first for each in log.read("s1", 0, 10**9)]
        log.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
