"""What is committed and not in SQLite's tables yet: found by its session, and moved there in one go."""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable

import msgspec

from understudy.protocol.frames import Entry
from understudy.protocol.sizes import NUMBER_BITS
from understudy.supervisor.core.events import (
    EpochRow,
    HoldRow,
    MarkRow,
    MemoryRow,
    RestRow,
    SessionRow,
    StopRow,
    TurnRow,
)
from understudy.supervisor.log.keys import Keys

SEGMENT_BYTES_MAX = 1 << 17  # More than this of bodies begins another segment.
STOPPED = "stopped:"  # The keys in `meta` of agents that a person stopped.

OtherRow = SessionRow | MemoryRow | TurnRow | MarkRow | HoldRow | EpochRow | StopRow | RestRow
_encode = msgspec.msgpack.Encoder().encode


class Pending:
    """The commits that the journal has and the tables have not. `count`: how many rows and entries."""

    def __init__(self) -> None:
        self.count = 0
        self.sessions: dict[str, SessionRow] = {}
        self.opens: dict[str, SessionRow] = {}  # By the request.
        self.prompts: dict[tuple[str, str], TurnRow] = {}  # By session and request.
        self.memories: dict[str, bytes] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._rows: list[OtherRow] = []

    def take(self, entries: list[Entry], rows: list[OtherRow]) -> None:
        """Add what one commit wrote."""
        for entry in entries:
            self._entries.setdefault(entry.session, []).append(entry)
        for row in rows:
            if type(row) is TurnRow:
                if row.request:
                    self.prompts[row.session, row.request] = row
            elif type(row) is SessionRow:
                self.sessions[row.session] = self.opens[row.request] = row
            elif type(row) is MemoryRow:
                self.memories[row.session] = row.memory
        self._rows.extend(rows)
        self.count += len(entries) + len(rows)

    def since(self, session: str, number: int) -> Iterable[Entry]:
        """Yield the session's entries that reach `number` or beyond."""
        found = self._entries.get(session, [])
        for at in range(bisect_left(found, number, key=lambda entry: entry.last), len(found)):
            yield found[at]

    def last(self, session: str) -> int:
        """Return the session's last number, 0 when no entry of its is here."""
        found = self._entries.get(session)
        return found[-1].last if found else 0

    def clear(self) -> None:
        """The tables have it all."""
        self.count = 0
        for each in (self.sessions, self.opens, self.prompts, self.memories, self._entries, self._rows):
            each.clear()

    def write(self, writer: sqlite3.Connection, keys: Keys) -> None:
        """Write it into the tables; `keys`: session -> its key there. The caller makes it one transaction.

        A segment's key: the session's key, then its first number in `NUMBER_BITS`.
        """
        writer.executemany(
            "INSERT INTO segments VALUES (?, ?, ?)",
            [
                (keys[each[0].session] << NUMBER_BITS | each[0].first, each[-1].last, _encode(each))
                for entries in self._entries.values()
                for each in _segments(entries)
            ],
        )
        made: dict[tuple[str, int], TurnRow] = {}
        turns: dict[tuple[str, int], TurnRow] = {}
        for row in self._rows:
            if type(row) is TurnRow:
                turns[row.session, row.turn] = row  # Of several in one transaction the last counts.
                if row.request:
                    made[row.session, row.turn] = row
            else:
                _write_row(writer, keys, row)
        new = [(row, turns.pop(at)) for at, row in made.items()]
        writer.executemany(
            "INSERT INTO turns (session, turn, state, request, serves, client, epoch, digest, size, launch)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    keys[r.session],
                    r.turn,
                    now.state.value,
                    r.request,
                    _encode(r.serves),
                    r.client,
                    now.epoch,
                    r.digest,
                    r.size,
                    now.launch,
                )
                for r, now in new
            ],
        )
        writer.executemany(
            "UPDATE turns SET state = ?, epoch = ?, launch = ? WHERE session = ? AND turn = ? AND state <> 'ended'",
            [(row.state.value, row.epoch, row.launch, keys[row.session], row.turn) for row in turns.values()],
        )


def _write_row(writer: sqlite3.Connection, keys: Keys, row: OtherRow) -> None:
    match row:
        case MarkRow():
            writer.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (row.actor, row.epoch, row.n))
        case SessionRow():
            writer.execute(
                "INSERT INTO sessions (id, session, agent, cwd, opening, memory, request, opened_at, digest, environment)"
                " VALUES (?, ?, ?, ?, ?, x'', ?, ?, ?, ?)",
                (
                    keys[row.session],
                    row.session,
                    row.agent,
                    row.cwd,
                    row.opening,
                    row.request,
                    row.opened_at,
                    row.digest,
                    row.environment,
                ),
            )
        case MemoryRow():
            writer.execute("UPDATE sessions SET memory = ? WHERE id = ?", (row.memory, keys[row.session]))
        case HoldRow():
            writer.execute("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (keys[row.session], row.launch, row.epoch))
        case EpochRow():
            values = (row.actor, row.epoch, row.pid, row.started, row.status, row.plays, row.place)
            writer.execute(  # What has ended stays so, also for a start that writes down which epochs are taken.
                "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET pid = excluded.pid,"
                " started = excluded.started, status = coalesce(excluded.status, status),"
                " place = CASE WHEN excluded.plays IS NULL THEN place ELSE excluded.place END,"
                " plays = coalesce(excluded.plays, plays)",
                values,
            )
        case StopRow():
            stopped_in = row.life if row.stopped else ""
            writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (STOPPED + row.agent, stopped_in))
        case RestRow():
            writer.execute("INSERT OR REPLACE INTO rests VALUES (?, ?)", (row.agent, _encode(row)))
        case TurnRow():
            raise AssertionError("turns are written together")


def _segments(entries: list[Entry]) -> Iterable[list[Entry]]:
    """Yield the entries of one session in order, no more than about `SEGMENT_BYTES_MAX` at once."""
    segment: list[Entry] = []
    size = 0
    for entry in entries:
        if size > SEGMENT_BYTES_MAX:
            yield segment
            segment, size = [], 0
        segment.append(entry)
        size += len(entry.body)
    yield segment
