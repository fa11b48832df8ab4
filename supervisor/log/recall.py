"""What a log gives back: a session, its entries, what a request made, and at a start what the core needs to go on.

That are the sessions with something to do: the others are read when they are named, and what is large when it is
wanted. A session with a turn that cannot be read is given back with its damage; the others are whole.
"""

import sqlite3
from contextlib import suppress
from typing import Any

import msgspec

from understudy.protocol.frames import Entry
from understudy.protocol.sizes import NUMBER_BITS, NUMBER_MAX
from understudy.supervisor.core.events import LogState, RestoredSession, RestRow, SessionRow
from understudy.supervisor.core.restored import Restored, RestoredTurn
from understudy.supervisor.core.sessions import PROMPT_HEAD
from understudy.supervisor.log.keys import Keys
from understudy.supervisor.log.pending import STOPPED, Pending
from understudy.supervisor.log.schema import TOLD, TOLD_QUERY

PROMPT_BYTES_MAX = 64 << 10  # A larger prompt is not given back at a start,
BLOB_BYTES_MAX = 64 << 10  # nor a larger opening or memory with its session.

SESSION = (
    "SELECT session, agent, cwd, CASE WHEN length(opening) <= ? THEN opening ELSE x'' END,"
    " CASE WHEN length(memory) <= ? THEN memory ELSE x'' END, coalesce("
    f"(SELECT last FROM segments WHERE id BETWEEN s.id << {NUMBER_BITS} AND (s.id + 1 << {NUMBER_BITS}) - 1"
    " ORDER BY id DESC LIMIT 1), 0),"
    " opened_at, length(opening), length(memory), environment FROM sessions s "
)
TYPES = (str, str, str, bytes, bytes, int, float, int, int, str)
BUSY = "WHERE id IN (SELECT session FROM turns WHERE state <> 'ended' UNION SELECT session FROM holds) ORDER BY id"
OPEN_TURNS = (
    "SELECT s.session, t.turn, t.state, t.request, t.serves, t.client, t.epoch, t.size, t.launch FROM turns t"
    " JOIN sessions s ON s.id = t.session WHERE t.state <> 'ended' ORDER BY t.session, t.turn"
)
PAGE = "WHERE id < ? ORDER BY id DESC LIMIT ?"
OPENED = "SELECT session, digest FROM sessions WHERE request = ? ORDER BY id DESC LIMIT 1"
ACCEPTED = "SELECT turn, digest FROM turns WHERE session = ? AND request = ? ORDER BY id DESC LIMIT 1"
COUNTS = "SELECT agent, count(*) FROM sessions GROUP BY agent"
CAST = "SELECT actor, epoch, plays, place FROM epochs WHERE status IS NULL AND plays IS NOT NULL"
HOLDS = "SELECT s.session, h.launch, h.epoch FROM holds h JOIN sessions s ON s.id = h.session"

_decode_segment = msgspec.msgpack.Decoder(list[Entry]).decode


class DamageError(Exception):
    """What is stored of a session cannot be read; the text says what."""


class Recall:
    """The reading side of a log: its `connection`, what is `pending`, and the sessions' `keys` in the tables."""

    def __init__(self, connection: sqlite3.Connection, pending: Pending, keys: Keys) -> None:
        self._query, self._pending, self._keys = connection.execute, pending, keys

    def entries(self, session: str, number: int, bytes_max: int) -> list[Entry]:
        """Return the entries of `session` from `number` on, up to `bytes_max` of bodies but at least one."""
        key = self._keys.get(session)
        if key is None:
            return []
        base = key << NUMBER_BITS
        entries: list[Entry] = []
        size = 0
        # `number` may lie inside a segment: begin with the one that holds it.
        rows = self._query(
            "SELECT entries FROM segments WHERE last >= ? AND id BETWEEN coalesce("
            "(SELECT max(id) FROM segments WHERE id BETWEEN ? AND ?), ?) AND ? ORDER BY id",
            (number, base, base | min(max(number, 0), NUMBER_MAX), base, base | NUMBER_MAX),
        )
        for (segment,) in rows:
            for entry in _entries_of(segment):
                if entry.last >= number and size < bytes_max:
                    entries.append(entry)
                    size += len(entry.body)
            if size >= bytes_max:
                rows.close()
                return entries
        for entry in self._pending.since(session, number):  # These are newer than all that SQLite has.
            if size >= bytes_max:
                break
            entries.append(entry)
            size += len(entry.body)
        return entries

    def prompt(self, session: str, turn: int) -> bytes:
        """Return the content blocks of the prompt that names the turn, as msgpack."""
        found = self.entries(session, turn, 1)
        if not found or found[0].first != turn or not found[0].body.startswith(PROMPT_HEAD):
            raise DamageError(f"the prompt of turn {turn} is not where it should be")
        return found[0].body[len(PROMPT_HEAD) :]

    def session(self, session: str) -> RestoredSession | None:
        """Return a session, None when there is none."""
        pending = self._pending.sessions.get(session)
        if pending is not None:
            return self._pending_session(pending, BLOB_BYTES_MAX)
        return next(iter(self._sessions("WHERE session = ?", (session,))), None)

    def newest(self, before: str, count: int) -> list[RestoredSession]:
        """Return the newest sessions, or those that were opened before the session `before`, without opening and memory."""
        end = (self._keys.get(before) or 0) if before else 1 << 62
        pending = self._pending.sessions.values()
        found = [self._pending_session(row, 0) for row in reversed(pending) if self._keys[row.session] < end][:count]
        return found + self._sessions(PAGE, (end, count - len(found)), 0)

    def _sessions(
        self, which: str, values: tuple[str | int, ...] = (), blob_bytes_max: int = BLOB_BYTES_MAX
    ) -> list[RestoredSession]:
        rows = self._query(SESSION + which, (blob_bytes_max, blob_bytes_max, *values)).fetchall()
        return [self._up_to_date(_session(row), blob_bytes_max) for row in rows]

    def _pending_session(self, row: SessionRow, blob_bytes_max: int) -> RestoredSession:
        size = len(row.opening)
        opening = row.opening if size <= blob_bytes_max else b""
        found = RestoredSession(
            row.session, row.agent, row.cwd, opening, b"", 0, row.opened_at, size, 0, row.environment
        )
        return self._up_to_date(found, blob_bytes_max)

    def _up_to_date(self, found: RestoredSession, blob_bytes_max: int) -> RestoredSession:
        """Add what the tables have not yet."""
        last, memory = self._pending.last(found.session), self._pending.memories.get(found.session)
        if last:
            found = msgspec.structs.replace(found, last=last)
        if memory is not None:
            kept = memory if len(memory) <= blob_bytes_max else b""
            found = msgspec.structs.replace(found, memory=kept, memory_bytes=len(memory))
        return found

    def opened(self, request: str) -> tuple[str, bytes] | None:
        """Return which session the request opened, and its digest."""
        pending = self._pending.opens.get(request)
        if pending is not None:
            return pending.session, pending.digest
        found: tuple[str, bytes] | None = self._query(OPENED, (request,)).fetchone()
        return found

    def accepted(self, session: str, request: str) -> tuple[int, bytes] | None:
        """Return as which turn of the session the request was accepted, and its digest."""
        pending = self._pending.prompts.get((session, request))
        if pending is not None:
            return pending.turn, pending.digest
        found: tuple[int, bytes] | None = self._query(ACCEPTED, (self._keys.get(session), request)).fetchone()
        return found

    def opening(self, session: str) -> bytes:
        """Return the body of the session's Open frame, b"" for a session that is not known."""
        pending = self._pending.sessions.get(session)
        return self._blob("opening", session) if pending is None else pending.opening

    def memory(self, session: str) -> bytes:
        """Return what a driver wants remembered for the session, b"" for nothing."""
        pending = self._pending.memories.get(session)
        return self._blob("memory", session) if pending is None else pending

    def _blob(self, column: str, session: str) -> bytes:
        found = self._query(f"SELECT {column} FROM sessions WHERE session = ?", (session,)).fetchone()
        return found[0] if found else b""

    def environments(self) -> set[str]:
        """Return the names of the environments that sessions brought. Nothing is pending."""
        return {name for (name,) in self._query("SELECT DISTINCT environment FROM sessions WHERE environment <> ''")}

    def has_ended(self, actor: str, epoch: int) -> bool:
        """Return whether the end of actor#epoch is recorded. Nothing is pending."""
        ended = "SELECT 1 FROM epochs WHERE actor = ? AND epoch = ? AND status IS NOT NULL"
        return self._query(ended, (actor, epoch)).fetchone() is not None

    def everything(self) -> Restored:
        """Return what the core needs to go on; of a prompt larger than `PROMPT_BYTES_MAX` only its size. Nothing is pending."""
        query = self._query
        sessions = self._sessions(BUSY)
        turns: list[RestoredTurn] = []
        damaged: dict[str, str] = {}
        for row in query(OPEN_TURNS).fetchall():
            try:
                turns.append(self._turn(row))
            except (DamageError, msgspec.MsgspecError) as error:
                damaged[row[0]] = f"turn {row[1]} cannot be read from the log: {error}"
                state = LogState.STARTED  # Whether an agent has seen it nobody can tell.
                turns.append(RestoredTurn(row[0], row[1], state, row[3], [], b"", epoch=row[6], launch=row[8]))
        if damaged:
            sessions = [
                msgspec.structs.replace(each, damage=damaged.get(each.session, each.damage)) for each in sessions
            ]
        stopped = {
            key.removeprefix(STOPPED): life
            for key, life in query("SELECT key, value FROM meta WHERE key LIKE ?", (STOPPED + "%",))
            if life
        }
        rests: dict[str, RestRow] = {}
        for agent, rest in query("SELECT * FROM rests"):
            with suppress(msgspec.MsgspecError):  # It begins anew, as one does whose configuration has changed.
                rests[agent] = msgspec.msgpack.decode(rest, type=RestRow)
        return Restored(
            sessions,
            turns,
            dict(query(COUNTS)),
            dict(query("SELECT actor, max(epoch) FROM epochs GROUP BY actor")),
            {(actor, epoch): n for actor, epoch, n in query("SELECT actor, epoch, n FROM marks")},
            {(actor, epoch): (plays, place) for actor, epoch, plays, place in query(CAST)},
            {session: (launch, epoch) for session, launch, epoch in query(HOLDS)},
            stopped,
            rests,
        )

    def _turn(self, row: tuple[str, int, str, str, bytes, str, int, int, str]) -> RestoredTurn:
        """Return an open turn with its prompt and, when it has started, its questions."""
        session, turn, written, request, serves, client, epoch, size, launch = row
        try:
            state = LogState(written)
        except ValueError as error:
            raise DamageError(f"its state is {written!r:.50}") from error
        body = self.prompt(session, turn) if size <= PROMPT_BYTES_MAX else b""  # Older versions wrote no size.
        size = max(size, len(body))
        told: list[Entry] = []
        if state in (LogState.STARTED, LogState.CANCELLING):
            base = self._keys[session] << NUMBER_BITS
            for (segment,) in self._query(TOLD_QUERY, (turn, base, base | NUMBER_MAX)):
                told.extend(each for each in _entries_of(segment) if each.turn == turn and each.kind in TOLD)
        names = msgspec.msgpack.decode(serves, type=list[str])
        kept = body if size <= PROMPT_BYTES_MAX else b""
        return RestoredTurn(session, turn, state, request, names, kept, client, told, epoch, size, launch)


def _session(row: tuple[Any, ...]) -> RestoredSession:
    """Return the session of a row; with its damage when that holds what no session has."""
    kinds = tuple(map(type, row))
    if kinds == TYPES:
        return RestoredSession(*row)
    session, agent, last = row[0], row[1], row[5]
    if (type(session), type(agent), type(last)) != (str, str, int):
        raise DamageError(f"a row of the sessions holds what none has: {row!r:.200}")
    return RestoredSession(session, agent, "", b"", b"", last, 0.0, damage="its row in the log is damaged")


def _entries_of(segment: bytes) -> list[Entry]:
    try:
        return _decode_segment(segment)
    except msgspec.MsgspecError as error:
        raise DamageError(f"entries of it are damaged ({error})") from error
