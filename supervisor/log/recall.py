"""What a log gives back: a session's entries, what belongs to it, and at a start everything that the core needs.

Nothing large is given back at a start: it is read when it is wanted. A session that cannot be read is given back
with its damage; the others are whole.
"""

import sqlite3
from contextlib import suppress

import msgspec

from understudy.protocol.frames import Entry
from understudy.protocol.sizes import NUMBER_BITS, NUMBER_MAX
from understudy.supervisor.core.events import LogState, RestRow
from understudy.supervisor.core.house import OPENS_MAX, PROMPTS_MAX
from understudy.supervisor.core.restored import Restored, RestoredSession, RestoredTurn
from understudy.supervisor.core.sessions import PROMPT_HEAD
from understudy.supervisor.log.pending import STOPPED, Pending
from understudy.supervisor.log.schema import TOLD, TOLD_QUERY

PROMPT_BYTES_MAX = 64 << 10  # A larger prompt is not given back at a start,
BLOB_BYTES_MAX = 4 << 10  # nor a larger opening or memory.

SESSIONS = (
    "SELECT session, agent, cwd, CASE WHEN length(opening) <= ? THEN opening ELSE x'' END,"
    " CASE WHEN length(memory) <= ? THEN memory ELSE x'' END, request, coalesce("
    f"(SELECT last FROM segments WHERE id BETWEEN s.id << {NUMBER_BITS} AND (s.id + 1 << {NUMBER_BITS}) - 1"
    " ORDER BY id DESC LIMIT 1), 0),"
    " opened_at, length(opening), length(memory), digest FROM sessions s ORDER BY id"
)
OPEN_TURNS = (
    "SELECT s.session, t.turn, t.state, t.request, t.serves, t.client, t.epoch, t.size, t.launch FROM turns t"
    " JOIN sessions s ON s.id = t.session WHERE t.state <> 'ended' ORDER BY t.session, t.turn"
)
PROMPTS = "SELECT session, request, turn, digest FROM turns ORDER BY id DESC LIMIT ?"
CAST = "SELECT actor, epoch, plays, place FROM epochs WHERE status IS NULL AND plays IS NOT NULL"
HOLDS = "SELECT s.session, h.launch, h.epoch FROM holds h JOIN sessions s ON s.id = h.session"

_decode_segment = msgspec.msgpack.Decoder(list[Entry]).decode


class DamageError(Exception):
    """What is stored of a session cannot be read; the text says what."""


class Recall:
    """The reading side of a log: its `connection`, what is `pending`, and `keys`: session -> its key in the tables."""

    def __init__(self, connection: sqlite3.Connection, pending: Pending, keys: dict[str, int]) -> None:
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

    def opening(self, session: str) -> bytes:
        """Return the body of the session's Open frame, b"" for a session that is not known."""
        pending = self._pending.openings.get(session)
        return self._blob("opening", session) if pending is None else pending

    def memory(self, session: str) -> bytes:
        """Return what a driver wants remembered for the session, b"" for nothing."""
        pending = self._pending.memories.get(session)
        return self._blob("memory", session) if pending is None else pending

    def _blob(self, column: str, session: str) -> bytes:
        found = self._query(f"SELECT {column} FROM sessions WHERE session = ?", (session,)).fetchone()
        return found[0] if found else b""

    def has_ended(self, actor: str, epoch: int) -> bool:
        """Return whether the end of actor#epoch is recorded. Nothing is pending."""
        ended = "SELECT 1 FROM epochs WHERE actor = ? AND epoch = ? AND status IS NOT NULL"
        return self._query(ended, (actor, epoch)).fetchone() is not None

    def everything(self, prompt_bytes_max: int, blob_bytes_max: int) -> Restored:
        """Return what the core needs to go on; of what is larger than the two bounds only its size. Nothing is pending."""
        query = self._query
        rows = query(SESSIONS, (blob_bytes_max, blob_bytes_max)).fetchall()
        sessions = [RestoredSession(*row[:-1]) for row in rows]
        names = {key: session for session, key in self._keys.items()}
        prompts = query(PROMPTS, (PROMPTS_MAX,)).fetchall()
        turns: list[RestoredTurn] = []
        damaged: dict[str, str] = {}
        for row in query(OPEN_TURNS).fetchall():
            try:
                turns.append(self._turn(row, prompt_bytes_max))
            except (DamageError, msgspec.MsgspecError) as error:
                damaged[row[0]] = f"turn {row[1]} cannot be read from the log: {error}"
                state = LogState.STARTED  # Whether an agent has seen it nobody can tell.
                turns.append(RestoredTurn(row[0], row[1], state, row[3], [], b"", epoch=row[6], launch=row[8]))
        if damaged:
            sessions = [msgspec.structs.replace(each, damage=damaged.get(each.session, "")) for each in sessions]
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
            {row[5]: (row[0], row[-1]) for row in rows[-OPENS_MAX:]},
            {(names[key], request): (turn, digest) for key, request, turn, digest in reversed(prompts)},
            dict(query("SELECT actor, max(epoch) FROM epochs GROUP BY actor")),
            {(actor, epoch): n for actor, epoch, n in query("SELECT actor, epoch, n FROM marks")},
            {(actor, epoch): (plays, place) for actor, epoch, plays, place in query(CAST)},
            {session: (launch, epoch) for session, launch, epoch in query(HOLDS)},
            stopped,
            rests,
        )

    def _turn(self, row: tuple[str, int, str, str, bytes, str, int, int, str], bytes_max: int) -> RestoredTurn:
        """Return an open turn with its prompt and, when it has started, its questions."""
        session, turn, written, request, serves, client, epoch, size, launch = row
        try:
            state = LogState(written)
        except ValueError as error:
            raise DamageError(f"its state is {written!r:.50}") from error
        body = self.prompt(session, turn) if size <= bytes_max else b""  # Older versions wrote no size.
        size = max(size, len(body))
        told: list[Entry] = []
        if state in (LogState.STARTED, LogState.CANCELLING):
            base = self._keys[session] << NUMBER_BITS
            for (segment,) in self._query(TOLD_QUERY, (turn, base, base | NUMBER_MAX)):
                told.extend(each for each in _entries_of(segment) if each.turn == turn and each.kind in TOLD)
        names = msgspec.msgpack.decode(serves, type=list[str])
        return RestoredTurn(
            session, turn, state, request, names, body if size <= bytes_max else b"", client, told, epoch, size, launch
        )


def _entries_of(segment: bytes) -> list[Entry]:
    try:
        return _decode_segment(segment)
    except msgspec.MsgspecError as error:
        raise DamageError(f"entries of it are damaged ({error})") from error
