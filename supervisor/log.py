"""The numbered log: SQLite, one writer, one transaction for everything that happened together.

It never decides and never repairs silently: what cannot be read or written is a `LogError`
that names the file, the reason and the remedy.
"""

import sqlite3
import threading
from pathlib import Path

import msgspec

from understudy.protocol.frames import Entry
from understudy.supervisor.core.events import (
    EpochRow,
    MarkRow,
    MemoryRow,
    Record,
    SessionRow,
    TurnRow,
)
from understudy.supervisor.core.house import REQUESTS_MAX
from understudy.supervisor.core.restored import Restored, RestoredSession, RestoredTurn

WAL_PAGES_MAX = 1024  # 4 MiB: past that a checkpoint is due.
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs")

MIGRATIONS = (
    """
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
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)


class LogError(Exception):
    """The log cannot be opened, read or written; the text names the file, the reason and the remedy."""


class Log:
    """The log of one house, opened for its only writer."""

    def __init__(self, path: str, boot_id: str = "") -> None:
        """Open or make the log at `path`. Raises `LogError`. `boot_id`: of this boot, for tests."""
        self._path = path
        self.warnings = _network_warning(path)
        self._keys: dict[str, int] = {}
        self._tending: threading.Thread | None = None
        self._commits = 0
        try:
            self._writer = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            self._writer.execute("PRAGMA page_size = 2048")  # Small commits dirty few bytes of several pages.
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")
            self._migrate()
            self._start(boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip())
            self._keys = dict(self._writer.execute("SELECT session, id FROM sessions"))
            self._next_key = 1 + max(self._keys.values(), default=0)
        except sqlite3.Error as error:
            raise LogError(
                f"the log {path} cannot be opened: {error}; move it away to start with an empty one"
            ) from error

    def commit(self, records: list[Record]) -> None:
        """Write all rows of `records` in one transaction; raise `LogError` and write nothing if that fails."""
        writer = self._writer
        added: list[str] = []
        try:
            writer.execute("BEGIN IMMEDIATE")
            for rows in _runs(records):
                self._write(rows, added)
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            for name in added:
                del self._keys[name]
            raise LogError(f"{self._path}: {error}") from error
        self._commits += 1

    def read(self, session: str, number: int, bytes_max: int) -> list[Entry]:
        """Return the entries of `session` from `number` on, in order, up to `bytes_max` of bodies but at least one."""
        key = self._keys.get(session)
        if key is None:
            return []
        entries: list[Entry] = []
        size = 0
        try:
            # `number` may lie inside a range: begin with the entry that holds it.
            rows = self._writer.execute(
                "SELECT first, last, turn, kind, body, time FROM entries WHERE session = ?1 AND first >= coalesce("
                "(SELECT max(first) FROM entries WHERE session = ?1 AND first <= ?2), 0) ORDER BY first",
                (key, number),
            )
            for first, last, turn, kind, body, time in rows:
                if last < number:
                    continue
                entries.append(Entry(session, first, last, turn, kind, body, time))
                size += len(body)
                if size >= bytes_max:
                    break
            rows.close()
        except sqlite3.Error as error:
            raise LogError(f"{self._path}: {error}") from error
        return entries

    def restore(self) -> Restored:
        """Return everything the core needs to go on."""
        try:
            return self._restore()
        except sqlite3.Error as error:
            raise LogError(f"{self._path}: {error}") from error

    def tend(self) -> None:
        """Checkpoint in a thread of its own when that is due; never waits."""
        if self._commits < WAL_PAGES_MAX or (self._tending is not None and self._tending.is_alive()):
            return
        self._commits = 0
        self._tending = threading.Thread(target=self._checkpoint, name="checkpoint", daemon=True)
        self._tending.start()

    def close(self) -> None:
        """Put everything into the main file, synced, and mark the log as closed in order."""
        if self._tending is not None:
            self._tending.join()
        try:
            self._writer.execute("PRAGMA synchronous = FULL")
            self._put("clean", "1")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # It stays marked as not closed in order: the next start sees to that.
        self._writer.close()

    def _migrate(self) -> None:
        version = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise LogError(
                f"the log {self._path} has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
                "a newer understudy wrote it; use that one, or another --state-dir"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._writer.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")

    def _start(self, boot_id: str) -> None:
        meta = dict(self._writer.execute("SELECT key, value FROM meta"))
        self.generation = int(meta.get("generation", 1))
        if meta.get("clean") == "0" and meta.get("boot_id") != boot_id:
            self.generation += 1  # The machine stopped under us: the last commits may not have reached the disk.
        self.epoch = int(meta.get("epoch", 0)) + 1
        self._writer.execute("BEGIN IMMEDIATE")
        for key, value in (
            ("generation", self.generation),
            ("epoch", self.epoch),
            ("boot_id", boot_id),
            ("clean", 0),
        ):
            self._put(key, str(value))
        self._writer.execute("COMMIT")

    def _put(self, key: str, value: str) -> None:
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _write(self, rows: list[object], added: list[str]) -> None:
        keys, many = self._keys, self._writer.executemany
        match rows[0]:
            case Entry():
                many(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(keys[r.session], r.first, r.last, r.turn, r.kind, r.body, r.time) for r in rows],  # type: ignore[attr-defined]
                )
            case TurnRow():
                self._write_turns(rows)  # type: ignore[arg-type]
            case MarkRow():
                newest = {(r.actor, r.epoch): r.n for r in rows}  # type: ignore[attr-defined]
                many("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", [(*key, n) for key, n in newest.items()])
            case SessionRow():
                for row in rows:
                    assert isinstance(row, SessionRow)
                    keys[row.session] = self._next_key
                    added.append(row.session)
                    self._next_key += 1
                many(
                    "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, x'', ?, (julianday('now') - 2440587.5) * 86400.0)",
                    [(keys[r.session], r.session, r.agent, r.cwd, r.opening, r.request) for r in rows],  # type: ignore[attr-defined]
                )
            case MemoryRow():
                many(
                    "UPDATE sessions SET memory = ? WHERE id = ?",
                    [(r.memory, keys[r.session]) for r in rows],  # type: ignore[attr-defined]
                )
            case EpochRow():
                many(
                    "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?)",
                    [(r.actor, r.epoch, r.pid, r.started, r.status) for r in rows],  # type: ignore[attr-defined]
                )
            case other:
                raise AssertionError(f"the log has no table for {type(other).__name__}")

    def _write_turns(self, rows: list[TurnRow]) -> None:
        keys, many = self._keys, self._writer.executemany
        made = [r for r in rows if r.request]
        moved = [r for r in rows if not r.request]
        if made:
            many(
                "INSERT INTO turns (session, turn, state, request, serves) VALUES (?, ?, ?, ?, ?)",
                [(keys[r.session], r.turn, r.state, r.request, msgspec.msgpack.encode(r.serves)) for r in made],
            )
        if moved:
            many(
                "UPDATE turns SET state = ? WHERE session = ? AND turn = ?",
                [(r.state, keys[r.session], r.turn) for r in moved],
            )

    def _restore(self) -> Restored:
        query = self._writer.execute
        sessions = [
            RestoredSession(*row)
            for row in query(
                "SELECT session, agent, cwd, opening, memory, request, coalesce("
                "(SELECT last FROM entries WHERE session = s.id ORDER BY first DESC LIMIT 1), 0), opened_at "
                "FROM sessions s ORDER BY id"
            )
        ]
        turns = [
            RestoredTurn(session, turn, state, request, msgspec.msgpack.decode(serves), _content(body))
            for session, turn, state, request, serves, body in query(
                "SELECT s.session, t.turn, t.state, t.request, t.serves, e.body FROM turns t "
                "JOIN sessions s ON s.id = t.session JOIN entries e ON e.session = t.session AND e.first = t.turn "
                "WHERE t.state <> 'ended' ORDER BY t.session, t.turn"
            )
        ]
        requests = {row.request: (row.session, 0) for row in sessions[-REQUESTS_MAX:]}
        newest = query(
            "SELECT t.request, s.session, t.turn FROM turns t JOIN sessions s ON s.id = t.session "
            "ORDER BY t.id DESC LIMIT ?",
            (max(0, REQUESTS_MAX - len(requests)),),
        ).fetchall()
        requests.update((request, (session, turn)) for request, session, turn in reversed(newest))
        epochs = dict(query("SELECT actor, max(epoch) FROM epochs GROUP BY actor"))
        return Restored(sessions, turns, requests, epochs)

    def _checkpoint(self) -> None:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=0.0)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            connection.close()
        except sqlite3.Error:
            pass  # The next one will do.


def _runs(records: list[Record]) -> list[list[object]]:
    """Return all rows gathered by type. Rows of one type keep their order; sessions come first, entries refer to them."""
    gathered: dict[type, list[object]] = {SessionRow: []}
    for record in records:
        for row in record.rows:
            gathered.setdefault(type(row), []).append(row)
    return [rows for rows in gathered.values() if rows]


def _content(body: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.decode(body)["content"])


def _network_warning(path: str) -> list[str]:
    """Return a warning when `path` lies on a network file system, where SQLite's locks and WAL do not hold."""
    folder = Path(path).resolve()
    best = ("", "")
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return []
    for line in mounts:
        _, mount, kind, *_ = line.split(" ")
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    if best[1] not in NETWORK_FILE_SYSTEMS:
        return []
    return [f"the log {path} lies on a network file system ({best[1]} at {best[0]}): choose a local --state-dir"]
