"""The log: what is committed is read again, whatever became of the process, the disk or the machine."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.logs import SESSION, Opener, entry, known
from understudy.protocol.frames import Entry, pack
from understudy.supervisor.core.events import (
    EpochRow,
    LogState,
    MarkRow,
    MemoryRow,
    Record,
    Row,
    SessionRow,
    StopRow,
    TurnRow,
)
from understudy.supervisor.formats import SCHEMA_VERSION
from understudy.supervisor.log import log as log_module
from understudy.supervisor.log.log import LogError
from understudy.supervisor.log.mounts import network_warning

# What schema version 1 left on disks. It must load for ever: never change it.
VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, cwd TEXT NOT NULL,
    opening BLOB NOT NULL, memory BLOB NOT NULL, request TEXT NOT NULL, opened_at REAL NOT NULL
);
CREATE TABLE entries (
    session INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, turn INTEGER NOT NULL,
    kind TEXT NOT NULL, body BLOB NOT NULL, time REAL NOT NULL, PRIMARY KEY (session, first)
) WITHOUT ROWID;
CREATE TABLE turns (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL, turn INTEGER NOT NULL, state TEXT NOT NULL,
    request TEXT NOT NULL, serves BLOB NOT NULL, UNIQUE (session, turn)
);
CREATE INDEX open_turns ON turns (session, turn) WHERE state <> 'ended';
CREATE TABLE marks (actor TEXT NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (actor, epoch))
    WITHOUT ROWID;
CREATE TABLE epochs (
    actor TEXT NOT NULL, epoch INTEGER NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL,
    status INTEGER, PRIMARY KEY (actor, epoch)
) WITHOUT ROWID;
PRAGMA user_version = 1;
INSERT INTO meta VALUES ('boot_id', 'a'), ('clean', '1'), ('epoch', '7'), ('generation', '3');
INSERT INTO sessions VALUES (1, 's1', 'rehearsal', '/tmp', x'', x'6d', 'open-1', 1.5);
INSERT INTO sessions VALUES (2, 's2', 'rehearsal', '/tmp', x'', x'', 'open-2', 2.5);
INSERT INTO entries VALUES (1, 1, 1, 1, 'prompt', x'81a7636f6e74656e749101', 1.5);
INSERT INTO entries VALUES (1, 2, 9, 1, 'update', x'81a7636f6e74656e749102', 1.5);
INSERT INTO entries VALUES (2, 1, 4, 0, 'update', x'81a7636f6e74656e749101', 1.5);
INSERT INTO turns VALUES (1, 1, 1, 'started', 'r1', x'90');
INSERT INTO epochs VALUES ('rehearsal', 5, 77, 99, NULL);
"""


def test_what_is_committed_is_read_again(tmp_path: Path, open_log: Opener) -> None:
    log = open_log(str(tmp_path / "log"))
    entries = [entry(1), entry(2, 5), entry(6)]
    log.commit([Record(1, [SESSION, *entries])])

    assert entries == log.read("s1", 0, 10_000)
    assert entries[1:] == log.read("s1", 4, 10_000)
    assert entries[:1] == log.read("s1", 1, 1)


def test_a_mark_is_kept_until_its_actor_has_ended_however_many_started_after_it(
    tmp_path: Path, open_log: Opener
) -> None:
    path = str(tmp_path / "log")
    log = open_log(path)
    rows: list[Row] = [EpochRow("a", epoch, 70 + epoch, 99) for epoch in (1, 2, 3)]
    rows += [MarkRow("a", 1, 12), MarkRow("a", 2, 5), EpochRow("a", 2, 72, 99, status=-9)]
    log.commit([Record(1, rows)])
    log.close()

    open_log(path).close()  # What it forgets is seen at the next start.

    assert {("a", 1): 12} == open_log(path).restore().marks


def test_restore_gives_open_turns_and_forgets_ended_ones(tmp_path: Path, open_log: Opener) -> None:
    path = str(tmp_path / "log")
    log = open_log(path)
    rows: list[Row] = [
        SESSION,
        entry(1, kind="prompt"),
        TurnRow("s1", 1, LogState.QUEUED, "r1", ["fs/read_text_file"]),
        entry(2, kind="prompt", turn=2),
        TurnRow("s1", 2, LogState.QUEUED, "r2"),
        TurnRow("s1", 1, LogState.STARTED),
        entry(3, kind="prompt", turn=3),
        TurnRow("s1", 3, LogState.QUEUED, "r3"),
        TurnRow("s1", 3, LogState.ENDED),
        MemoryRow("s1", b"remembered"),
        EpochRow("rehearsal", 4, 77, 99),
        MarkRow("rehearsal", 4, 12),
    ]
    log.commit([Record(1, rows)])
    log.close()

    restored = open_log(path).restore()

    assert [(1, LogState.STARTED, ["fs/read_text_file"]), (2, LogState.QUEUED, [])] == [
        (turn.turn, turn.state, turn.serves) for turn in restored.turns
    ]
    assert pack([1]) == restored.turns[0].body
    assert {"rehearsal": 1} == restored.counts
    assert {"rehearsal": 4} == restored.epochs
    assert (3, b"remembered") == (restored.sessions[0].last, restored.sessions[0].memory)


def test_a_turn_that_goes_on_is_restored_with_what_was_told(tmp_path: Path, open_log: Opener) -> None:
    log = open_log(str(tmp_path / "log"))
    told = [entry(3, kind="asked"), entry(4, kind="requeued")]
    log.commit([Record(1, [SESSION, entry(1, kind="prompt"), TurnRow("s1", 1, LogState.QUEUED, "r1", [], "c1")])])
    log.commit([Record(2, [entry(2), *told, TurnRow("s1", 1, LogState.CONTINUED)])])
    waiting = log.restore().turns
    log.commit([Record(3, [TurnRow("s1", 1, LogState.STARTED)])])
    running = log.restore().turns

    assert [(LogState.CONTINUED, "c1", [])] == [(turn.state, turn.client, turn.told) for turn in waiting]
    assert [(LogState.STARTED, "c1", told)] == [(turn.state, turn.client, turn.told) for turn in running]


def test_who_was_stopped_is_restored_with_the_life_of_the_house_until_started(tmp_path: Path, open_log: Opener) -> None:
    path = str(tmp_path / "log")
    log = open_log(path)
    log.commit([Record(1, [StopRow("a", "life", True), StopRow("b", "life", True)])])
    log.tend()
    log.commit([Record(2, [StopRow("b", "life", False)])])

    assert [{"a": "life"}, {"a": "life"}] == [each.restore().stopped for each in (log, open_log(path))]


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, open_log: Opener) -> None:
    path = tmp_path / "log"
    open_log(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(LogError, match=f"schema version {SCHEMA_VERSION + 1}"):
        open_log(str(path))


def test_what_is_no_log_is_refused_with_the_remedy(tmp_path: Path, open_log: Opener) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"this is not a database" * 100)

    with pytest.raises(LogError, match="move it away"):
        open_log(str(path))
    assert path.read_bytes().startswith(b"this is not")


def test_the_generation_changes_only_when_the_machine_stopped_under_the_log(tmp_path: Path, open_log: Opener) -> None:
    path = str(tmp_path / "log")
    open_log(path, boot_id="a").close()
    after_clean_stop = open_log(path, boot_id="b")
    assert 1 == after_clean_stop.generation
    same_boot = open_log(path, boot_id="b")  # As after a SIGKILL: not closed, the machine went on.
    assert 1 == same_boot.generation

    assert 2 == open_log(path, boot_id="c").generation


def test_the_epoch_grows_with_each_start(tmp_path: Path, open_log: Opener) -> None:
    path = str(tmp_path / "log")

    assert [1, 2, 3] == [open_log(path).epoch for _ in range(3)]


def test_what_was_committed_survives_a_kill_without_a_gap(tmp_path: Path, open_log: Opener) -> None:
    script = """
import sys
from understudy.protocol.frames import Entry
from understudy.supervisor.core.events import Record, Row, SessionRow
from understudy.supervisor.log.log import Log
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

    numbers = [each.first for each in open_log(path).read("s1", 0, 10**9)]

    assert list(range(1, len(numbers) + 1)) == numbers
    assert len(numbers) >= last


def test_a_full_disk_loses_nothing_and_the_same_records_commit_later(tmp_path: Path, open_log: Opener) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        log = open_log(str(mount / "log"))
        log.commit([Record(1, [SESSION, entry(1)])])
        (mount / "ballast").write_bytes(b"x" * (7 << 19))
        records = [Record(2, [Entry("s1", 2, 2, 0, "update", b"y" * (1 << 20), 0.0)])]
        with pytest.raises(LogError, match=r"No space left.*; free some space"):
            log.commit(records)
        (mount / "ballast").unlink()

        log.commit(records)
        (mount / "ballast").write_bytes(b"x" * (5 << 19))
        with pytest.raises(LogError, match="is full; free some space"):
            log.tend()

        assert [1, 2] == [each.first for each in log.read("s1", 0, 10**9)]
        (mount / "ballast").unlink()
        log.close()
        assert [1, 2] == [each.first for each in open_log(str(mount / "log")).read("s1", 0, 10**9)]
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_log_of_schema_version_1_is_brought_up_to_date(tmp_path: Path, open_log: Opener) -> None:
    path = tmp_path / "log"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    connection.close()

    log = open_log(str(path), boot_id="b")

    assert (3, 8) == (log.generation, log.epoch)
    assert [(1, 1, "prompt"), (2, 9, "update")] == [(e.first, e.last, e.kind) for e in log.read("s1", 1, 10_000)]
    restored = log.restore()
    assert [("s1", 9, b"m"), ("s2", 4, b"")] == [(name, *known(log, name)) for name in ("s1", "s2")]
    assert [("s1", 1, LogState.STARTED, pack([1]))] == [(t.session, t.turn, t.state, t.body) for t in restored.turns]


def test_a_session_is_read_apart_from_its_neighbours(tmp_path: Path, open_log: Opener) -> None:
    log = open_log(str(tmp_path / "log"))
    names = ["s1", "s2", "s3"]
    log.commit([Record(1, [SessionRow(name, "rehearsal", "/tmp", b"", name) for name in names])])
    entries = {name: [Entry(name, n, n, 0, "update", b"x", 0.0) for n in (1, 2)] for name in names}
    log.commit([Record(2, [each for name in names for each in entries[name]])])

    assert entries == {name: log.read(name, 1, 10_000) for name in names}
    assert [] == log.read("s2", 3, 10_000)
    assert [2, 2, 2] == [known(log, name)[0] for name in names]


def test_a_record_that_cannot_be_written_leaves_nothing_and_the_log_goes_on(tmp_path: Path, open_log: Opener) -> None:
    log = open_log(str(tmp_path / "log"))
    with pytest.raises(KeyError):
        log.commit([Record(1, [SESSION, entry(1), Entry("unheard of", 1, 1, 0, "update", b"", 0.0)])])
    with pytest.raises(KeyError):
        log.commit([Record(1, [entry(1)])])  # Its session was not made either.

    log.commit([Record(1, [SESSION, entry(2)])])

    assert [2] == [each.first for each in log.read("s1", 0, 10_000)]


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, open_log: Opener) -> None:
    path = tmp_path / "log"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(LogError, match="another program"):
        open_log(str(path))
    assert before == path.read_bytes()


def test_a_lock_of_another_process_is_an_error_that_passes(tmp_path: Path, open_log: Opener) -> None:
    path = str(tmp_path / "log")
    log = open_log(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    records = [Record(1, [SESSION, entry(1)])]
    log.commit(records)
    with pytest.raises(LogError, match="another process"):
        log.tend()
    other.execute("ROLLBACK")
    other.close()

    assert 1 == len(log.read("s1", 0, 10_000))


def test_that_the_log_is_open_reaches_the_disk_before_anything_else(tmp_path: Path, open_log: Opener) -> None:
    path = tmp_path / "log"
    open_log(str(path), boot_id="a").close()
    log = open_log(str(path), boot_id="a")
    log.commit([Record(1, [SESSION, entry(1)])])
    # As after a power loss that took the whole write-ahead log.
    left = shutil.copy(path, tmp_path / "left")
    log.close()

    restarted = open_log(str(left), boot_id="b")

    assert (2, {}) == (restarted.generation, restarted.restore().counts)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "WAL_BYTES_MIN", 64 << 10)
    monkeypatch.setattr(log_module, "WAL_BYTES_MAX", 256 << 10)


@pytest.mark.usefixtures("small_steps")
def test_the_write_ahead_log_begins_anew_though_commits_never_pause(tmp_path: Path, open_log: Opener) -> None:
    log = open_log(str(tmp_path / "log"))
    log.commit([Record(1, [SESSION])])
    number = began_anew = before = 0
    while began_anew < 3:
        number += 1
        log.commit([Record(number, [entry(number)])])
        log.tend()
        began_anew += log.wal_bytes < before
        before = log.wal_bytes

    assert number == len(log.read("s1", 0, 1 << 30))


@pytest.mark.usefixtures("small_steps")
def test_a_reader_sees_one_state_and_holds_up_neither_commits_nor_the_end(tmp_path: Path, open_log: Opener) -> None:
    path = str(tmp_path / "log")
    log = open_log(path, boot_id="a")
    log.commit([Record(1, [SESSION, entry(1)])])
    log.tend()
    reader = sqlite3.connect(path, isolation_level=None)
    count = "SELECT count(*) FROM segments"
    reader.execute("BEGIN")
    seen = [reader.execute(count).fetchone()[0]]
    for number in range(2, 501):
        log.commit([Record(number, [entry(number)])])
        log.tend()
    seen.append(reader.execute(count).fetchone()[0])
    log.close()
    reader.execute("COMMIT")
    seen.append(reader.execute(count).fetchone()[0])
    reader.close()

    assert [1, 1, 500] == seen
    again = open_log(path, boot_id="b")
    assert (1, 500) == (again.generation, known(again, "s1")[0])


@pytest.mark.parametrize(
    ("mounts", "warned"),
    [
        ("/dev/vda / ext4 rw 0 0", False),
        ("/dev/vda / ext4 rw 0 0\nhost:/x /srv nfs4 rw 0 0", True),
        ("host:/x /srv nfs4 rw 0 0\n/dev/vdb /srv/state ext4 rw 0 0", False),
        ("host:/x /srv/state\\040of\\040it nfs4 rw 0 0", False),
        ("", False),
    ],
)
def test_a_network_file_system_is_warned_of(mounts: str, warned: bool) -> None:
    assert warned == bool(network_warning("/srv/state/log", mounts))
