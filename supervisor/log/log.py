"""The numbered log: SQLite behind a journal, one writer, one commit for everything that happened together.

A commit is an append to the journal; `tend` moves what was committed into SQLite, many commits in one transaction.
It never decides and never repairs silently: what cannot be read or written is a `LogError`
that names the file, the reason and the remedy.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TypeVar

import msgspec

from understudy.protocol.frames import Entry
from understudy.protocol.shown import boot_id as this_boot
from understudy.supervisor.core.at_rest import NotReadError
from understudy.supervisor.core.events import Record, RestoredSession, SessionRow
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.directories import is_full
from understudy.supervisor.formats import SCHEMA_VERSION
from understudy.supervisor.log.journal import Journal, JournalError
from understudy.supervisor.log.keys import Keys
from understudy.supervisor.log.mounts import mounts, network_warning
from understudy.supervisor.log.pending import OtherRow, Pending
from understudy.supervisor.log.recall import DamageError, Recall
from understudy.supervisor.log.schema import INDEXES, MIGRATIONS

PENDING_ROWS_DUE = 4096  # So much waits for SQLite at the most before `due` says so: some milliseconds of work.
PENDING_BYTES_DUE = 1 << 20
PENDING_BYTES_MAX = 16 << 20  # SQLite takes nothing: from here on commits fail.
WAL_BYTES_MIN = 4 << 20  # From this size of the write-ahead log on, a checkpoint is due each time it has doubled.
WAL_BYTES_MAX = 32 << 20  # From this on the writer ends what the checkpoint's thread left over: see `Log.tend`.
PASSES_MAX = 3  # A pass copies what was written during the one before: they get shorter.

REMEDIES = (
    ("SQLITE_NOTADB", "; move it away to start with an empty one"),
    ("SQLITE_CORRUPT", "; move it away to start with an empty one, and check the disk"),
    ("SQLITE_FULL", "; free some space on its disk"),
    ("SQLITE_READONLY", "; make the file and its folder writable, or use another --state-dir"),
    ("SQLITE_CANTOPEN", "; make the file and its folder writable, or use another --state-dir"),
    ("SQLITE_BUSY", "; another process writes to it: end that one"),
    ("SQLITE_IOERR", "; check the disk"),
)
OS_REMEDIES = {
    errno.ENOSPC: "; free some space on its disk",
    errno.EDQUOT: "; free some space: the quota is used up",
    errno.EACCES: "; make the file and its folder writable, or use another --state-dir",
    errno.EROFS: "; make the file and its folder writable, or use another --state-dir",
    errno.EIO: "; check the disk",
}
Read = TypeVar("Read")
_encode = msgspec.msgpack.Encoder().encode


class LogError(NotReadError):
    """The log cannot be opened, read or written; the text names the file, the reason and the remedy.

    `passes`: the reason is one that goes away, so that to try again later is of use.
    """


class _Page(msgspec.Struct, array_like=True, gc=False):
    """What one commit wrote."""

    entries: list[Entry]
    rows: list[OtherRow]


_decoder = msgspec.msgpack.Decoder(_Page)


class Log:
    """The log of one house, opened for its only writer."""

    def __init__(self, path: str, boot_id: str = "") -> None:
        """Open or make the log at `path`. Raises `LogError`. `boot_id`: of this boot, for tests."""
        self._path = path
        self.warnings = network_warning(path, mounts())
        self._checkpointing: threading.Thread | None = None
        self._wal_bytes_then = 0
        self._closed = False
        self._pending = Pending()
        try:
            self._writer = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        except sqlite3.Error as error:
            raise self._error(error) from error
        try:
            self._writer.execute("PRAGMA page_size = 2048")  # Small commits dirty few bytes of several pages.
            version = self._known_version()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")
            self._writer.execute("PRAGMA journal_size_limit = 0")  # So that the file's size tells what is in it.
            self._writer.create_function("segment", 7, lambda *entry: _encode([entry]), deterministic=True)
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                self._writer.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
            self._writer.executescript(INDEXES)
            self._keys = Keys(self._writer)
            self._recall = Recall(self._writer, self._pending, self._keys)
            self._journal = Journal(os.path.splitext(path)[0] + ".journal")  # noqa: PTH122
            self._replay()
            self.boot_id = boot_id or this_boot()
            self._start()
            self._apply()
            # From here on a lock of another process is an error to try again, not a wait of the whole house.
            self._writer.execute("PRAGMA busy_timeout = 50")
        except JournalError as error:
            self._writer.close()
            raise LogError(f"{error}: move it away with {path}, or use another --state-dir") from error
        except (sqlite3.Error, OSError) as error:
            self._writer.close()
            raise self._error(error) from error
        except LogError:
            self._writer.close()
            raise

    def commit(self, records: list[Record]) -> None:
        """Write all rows of `records`, all or none; raise `LogError` and write nothing if that fails."""
        if self._journal.size > PENDING_BYTES_MAX:
            self.tend()
        entries: list[Entry] = []
        rows: list[OtherRow] = []
        made: dict[str, None] = {}
        try:
            for record in records:
                for row in record.rows:
                    if type(row) is Entry:
                        if row.session not in made and self._keys.get(row.session) is None:
                            raise KeyError(row.session)
                        entries.append(row)
                    else:
                        if type(row) is SessionRow:
                            made[row.session] = None
                        rows.append(row)  # type: ignore[arg-type]
            self._journal.append(self._sequence + 1, _encode(_Page(entries, rows)))
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        self._sequence += 1
        self._take(entries, rows)

    @property
    def due(self) -> bool:
        """Whether `tend` should be called now rather than when there is time."""
        return self._pending.count >= PENDING_ROWS_DUE or self._journal.size >= PENDING_BYTES_DUE

    def read(self, session: str, number: int, bytes_max: int) -> list[Entry]:
        """Return the entries of `session` from `number` on, in order, up to `bytes_max` of bodies but at least one."""
        return self._of_session(session, lambda: self._recall.entries(session, number, bytes_max))

    def prompt(self, session: str, turn: int) -> bytes:
        """Return the content blocks of the prompt that names the turn, as msgpack."""
        return self._of_session(session, lambda: self._recall.prompt(session, turn))

    def opening(self, session: str) -> bytes:
        """Return the body of the session's Open frame."""
        return self._of_session(session, lambda: self._recall.opening(session))

    def memory(self, session: str) -> bytes:
        """Return what a driver wants remembered for the session, b"" for nothing."""
        return self._of_session(session, lambda: self._recall.memory(session))

    def session(self, session: str) -> RestoredSession | None:
        """Return a session, None when there is none; of a larger opening or memory than `BLOB_BYTES_MAX` only its size."""
        return self._of_session(session, lambda: self._recall.session(session))

    def newest(self, before: str, count: int) -> list[RestoredSession]:
        """Return the `count` newest sessions, or those opened before the session `before`, without opening and memory."""
        return self._of_session("", lambda: self._recall.newest(before, count))

    def opened(self, request: str) -> tuple[str, bytes] | None:
        """Return which session the request opened, and the request's digest; None when it opened none."""
        return self._of_session("", lambda: self._recall.opened(request))

    def accepted(self, session: str, request: str) -> tuple[int, bytes] | None:
        """Return as which turn of the session the request was accepted, and its digest; None when it was not."""
        return self._of_session(session, lambda: self._recall.accepted(session, request))

    def _of_session(self, session: str, read: Callable[[], Read]) -> Read:
        try:
            return read()
        except sqlite3.Error as error:
            raise self._error(error) from error
        except DamageError as error:
            what = f": session {session}" if session else ""
            raise LogError(f"the log {self._path}{what} is damaged: {error}; check the disk") from error

    def restore(self) -> Restored:
        """Return everything the core needs to go on; of a large prompt, opening or memory only its size."""
        try:
            self._apply()
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        return self._of_session("", self._recall.everything)

    def environments(self) -> set[str]:
        """Return the names of the environments that sessions brought."""
        try:
            self._apply()
            return self._recall.environments()
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error

    def has_ended(self, actor: str, epoch: int) -> bool:
        """Return whether the end of actor#epoch is recorded; as `restore`, before the first commit."""
        try:
            return self._recall.has_ended(actor, epoch)
        except sqlite3.Error as error:
            raise self._error(error) from error

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log."""
        try:
            return os.stat(self._path + "-wal").st_size  # noqa: PTH116 (after every commit: pathlib takes five times as long)
        except OSError:
            return 0

    def tend(self) -> None:
        """Move what is committed into SQLite; raise `LogError` when that fails, and keep it.

        Checkpoint when that is due, in a thread of its own. While commits go on without a pause the thread never reaches
        the end of the write-ahead log, which then cannot begin anew and grows for ever. Past `WAL_BYTES_MAX` the writer
        itself does the little that is left.
        """
        try:
            self._apply()
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        if self._checkpointing is not None:
            if self._checkpointing.is_alive():
                return
            self._checkpointing = None
            if self.wal_bytes >= WAL_BYTES_MAX:
                with suppress(sqlite3.Error):  # A full disk, say: commits tell, and a later one tries again.
                    _checkpoint(self._writer)
            return
        wal_bytes = self.wal_bytes
        if wal_bytes < self._wal_bytes_then:
            self._wal_bytes_then = 0  # It began anew.
        if wal_bytes < max(WAL_BYTES_MIN, 2 * self._wal_bytes_then):
            return
        self._wal_bytes_then = wal_bytes
        self._checkpointing = threading.Thread(target=self._copy_to_main_file, name="checkpoint", daemon=True)
        self._checkpointing.start()

    def close(self) -> None:
        """Put everything into the main file, synced, and mark the log as closed in order."""
        if self._closed:
            return
        self._closed = True
        if self._checkpointing is not None:
            self._checkpointing.join()
        with suppress(sqlite3.Error, OSError):  # What was not marked as closed in order is seen at the next start.
            self._apply()
            self._writer.execute("PRAGMA synchronous = FULL")
            self._put("clean", "1")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._writer.close()
        self._journal.close()

    def _known_version(self) -> int:
        """Return the schema version of the file, 0 for an empty one, before anything is written to it."""
        version = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise LogError(
                f"the log {self._path} has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
                "a newer understudy wrote it; use that one, or another --state-dir"
            )
        if version == 0 and self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LogError(f"{self._path} is a database of another program: move it away, or use another --state-dir")
        return version

    def _start(self) -> None:
        boot_id = self.boot_id
        meta = dict(self._writer.execute("SELECT key, value FROM meta"))
        self.generation = int(meta.get("generation", 1))
        same_boot = meta.get("boot_id") == boot_id
        was_open = meta.get("clean") == "0"
        if (was_open and not same_boot) or self._journal.damage:
            self.generation += 1  # The machine stopped under us: the last commits may not have reached the disk.
        self.epoch = int(meta.get("epoch", 0)) + 1
        # That the log is open must be on the disk before anything else is: a power loss would take both, and the
        # next start find a log that was closed in order. After a kill it is there already, and a start is quick.
        synced = not (was_open and same_boot)
        if synced:
            self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.execute(  # Not by age: of an actor and its understudies the oldest plays.
            "DELETE FROM marks WHERE (SELECT status FROM epochs AS e"
            " WHERE e.actor = marks.actor AND e.epoch = marks.epoch) IS NOT NULL"
        )
        self._writer.execute(
            "DELETE FROM holds WHERE (SELECT status FROM epochs AS e"
            " WHERE e.actor = holds.launch AND e.epoch = holds.epoch) IS NOT NULL"
        )
        for key, value in (
            ("generation", self.generation),
            ("epoch", self.epoch),
            ("boot_id", boot_id),
            ("clean", 0),
        ):
            self._put(key, str(value))
        self._writer.execute("COMMIT")
        if synced:
            self._writer.execute("PRAGMA synchronous = NORMAL")
            _checkpoint(self._writer)

    def _replay(self) -> None:
        """Take what the journal has and SQLite has not."""
        found = self._writer.execute("SELECT value FROM meta WHERE key = 'applied'").fetchone()
        self._applied = self._sequence = int(found[0]) if found else 0
        for sequence, payload in self._journal.replay(self._applied):
            try:
                page = _decoder.decode(payload)
            except msgspec.MsgspecError as error:
                raise JournalError(f"{self._journal.path}: another version of understudy wrote it ({error})") from error
            self._take(page.entries, page.rows)
            self._sequence = sequence
        if self._journal.damage:
            self.warnings.append(self._journal.damage)

    def _take(self, entries: list[Entry], rows: list[OtherRow]) -> None:
        """Count as committed what the journal has."""
        for row in rows:
            if type(row) is SessionRow:
                self._keys.make(row.session)
        self._pending.take(entries, rows)

    def _apply(self) -> None:
        """Move what is committed from the journal into SQLite, in one transaction."""
        writer = self._writer
        if self._sequence != self._applied:
            try:
                writer.execute("BEGIN IMMEDIATE")
                self._pending.write(writer, self._keys)
                self._put("applied", str(self._sequence))
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise
            self._applied = self._sequence
            self._pending.clear()
            self._keys.written()
        self._journal.clear()

    def _error(self, error: sqlite3.Error | OSError) -> LogError:
        if isinstance(error, OSError):
            remedy = OS_REMEDIES.get(error.errno or 0, "")
            text = f"the log {error.filename or self._path}: {error.strerror}{remedy}"
            return LogError(text, error.errno in (errno.ENOSPC, errno.EDQUOT))
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_IOERR") and is_full(self._path):
            name = "SQLITE_FULL"  # No room for its shared memory, say.
        remedy = next((text for prefix, text in REMEDIES if name.startswith(prefix)), "")
        return LogError(f"the log {self._path}: {error}{remedy}", name.startswith(("SQLITE_FULL", "SQLITE_BUSY")))

    def _put(self, key: str, value: str) -> None:
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _copy_to_main_file(self) -> None:
        with (
            suppress(sqlite3.Error),  # A full disk, say: commits tell, and a later one tries again.
            closing(sqlite3.connect(self._path, isolation_level=None, timeout=0.0)) as connection,
        ):
            before = -1
            for _ in range(PASSES_MAX):
                frames = _checkpoint(connection)
                if frames == before:
                    break
                before = frames


def _checkpoint(connection: sqlite3.Connection) -> int:
    """Copy to the main file what no reader holds up; return how many pages the write-ahead log had."""
    return int(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
