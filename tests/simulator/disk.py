"""What is committed: the log's double, with the rules of `supervisor.log` and none of its files."""

from collections import Counter
from enum import Enum

from understudy.protocol.frames import Entry, pack, unpack
from understudy.supervisor.core.at_rest import NotReadError
from understudy.supervisor.core.events import (
    EpochRow,
    HoldRow,
    LogState,
    MarkRow,
    MemoryRow,
    Record,
    RestoredSession,
    RestRow,
    Row,
    SessionRow,
    StopRow,
    TurnRow,
)
from understudy.supervisor.core.restored import Restored, RestoredTurn

TOLD = ("asked", "answered", "requeued")


class Health(Enum):
    """What the disk does with a commit."""

    WELL = "well"
    SLOW = "slow"  # It takes its time.
    FULL = "full"  # It fails.


class Disk:
    """The committed rows. Whoever wrote them is gone or not: they stay."""

    def __init__(self) -> None:
        self.health = Health.WELL
        self.reads = 0
        self.commits: list[list[Row]] = []
        self.entries: dict[str, list[Entry]] = {}
        self.sessions: dict[str, SessionRow] = {}
        self.memories: dict[str, bytes] = {}
        self.turns: dict[tuple[str, int], TurnRow] = {}
        self.states: dict[tuple[str, int], LogState] = {}
        self.turn_actors: dict[tuple[str, int], tuple[str, int]] = {}
        self.turns_written: list[TurnRow] = []
        self.epochs: dict[str, int] = {}
        self.marks: dict[tuple[str, int], int] = {}
        self.cast: dict[tuple[str, int], tuple[str, int]] = {}  # Of those of whose end nothing is written.
        self.holds: dict[str, tuple[str, int]] = {}
        self.over: set[tuple[str, int]] = set()
        self.stopped: dict[str, str] = {}
        self.rests: dict[str, RestRow] = {}

    def lose(self, count: int) -> None:
        """The machine lost power: the last `count` commits had not reached the disk."""
        kept = self.commits[: max(0, len(self.commits) - count)]
        self.__init__()  # type: ignore[misc]
        for rows in kept:
            self.commits.append([])
            for row in rows:
                self.commit(Record(0, [row]))

    def commit(self, record: Record) -> None:
        """Take rows of the newest commit."""
        for row in record.rows:
            self.commits[-1].append(row)
            match row:
                case Entry():
                    self.entries.setdefault(row.session, []).append(row)
                case SessionRow():
                    self.sessions[row.session] = row
                case MemoryRow():
                    self.memories[row.session] = row.memory
                case TurnRow():
                    key = (row.session, row.turn)
                    self.turns_written.append(row)
                    self.turns.setdefault(key, row)
                    if self.states.get(key) is not LogState.ENDED:
                        self.states[key], self.turn_actors[key] = row.state, (row.launch, row.epoch)
                case EpochRow():
                    self.epochs[row.actor] = max(row.epoch, self.epochs.get(row.actor, 0))
                    key = (row.actor, row.epoch)
                    if row.plays is not None:
                        self.cast[key] = (row.plays, row.place)
                    if row.status is not None:
                        self.over.add(key)
                    if key in self.over:
                        self.cast.pop(key, None)
                case HoldRow():
                    self.holds[row.session] = (row.launch, row.epoch)
                case MarkRow():
                    self.marks[row.actor, row.epoch] = row.n
                case StopRow():
                    self.stopped.pop(row.agent, None)
                    if row.stopped:
                        self.stopped[row.agent] = row.life
                case RestRow():
                    self.rests[row.agent] = row

    def last(self, session: str) -> int:
        """Return the last number of a session."""
        entries = self.entries.get(session)
        return entries[-1].last if entries else 0

    def read(self, session: str, number: int, bytes_max: int) -> list[Entry]:
        """Return entries from `number` on, up to `bytes_max` of bodies but at least one."""
        found: list[Entry] = []
        size = 0
        for entry in self.entries.get(session, []):
            if entry.last >= number and size < bytes_max:
                found.append(entry)
                size += len(entry.body)
        return found

    def restore(self) -> Restored:
        """Return what a supervisor needs to go on."""
        busy = {session for (session, _), state in self.states.items() if state is not LogState.ENDED} | set(self.holds)
        sessions = [self._session(name) for name in self.sessions if name in busy]
        open_turns = sorted(key for key, state in self.states.items() if state is not LogState.ENDED)
        turns = [self._turn(self.turns[key], self.states[key]) for key in open_turns]
        return Restored(
            sessions,
            turns,
            dict(Counter(row.agent for row in self.sessions.values())),
            dict(self.epochs),
            dict(self.marks),
            dict(self.cast),
            dict(self.holds),
            dict(self.stopped),
            dict(self.rests),
        )

    # --- what it is asked while a supervisor runs: see `core.at_rest` ---

    def session(self, session: str) -> RestoredSession | None:
        """Return a session, None when there is none."""
        self._see_reads()
        return self._session(session) if session in self.sessions else None

    def newest(self, before: str, count: int) -> list[RestoredSession]:
        """Return the newest sessions, or those that were opened before the session `before`."""
        self._see_reads()
        names = list(self.sessions)
        if before:
            names = names[: names.index(before)] if before in names else []
        return [self._session(name) for name in names[::-1][:count]]

    def opened(self, request: str) -> tuple[str, bytes] | None:
        """Return which session the request opened, and its digest."""
        self._see_reads()
        found = [(row.session, row.digest) for row in self.sessions.values() if row.request == request]
        return found[-1] if found else None

    def accepted(self, session: str, request: str) -> tuple[int, bytes] | None:
        """Return as which turn of the session the request was accepted, and its digest."""
        self._see_reads()
        named = [row for row in self.turns.values() if (row.session, row.request) == (session, request)]
        return (named[-1].turn, named[-1].digest) if named else None

    def _see_reads(self) -> None:
        """Of a disk that is full not all can be read, either."""
        self.reads += 1
        if self.health is Health.FULL and self.reads % 3 == 0:
            raise NotReadError("full", passes=True)

    def _session(self, name: str) -> RestoredSession:
        row, memory = self.sessions[name], self.memories.get(name, b"")
        sizes = (len(row.opening), len(memory))
        return RestoredSession(
            name, row.agent, row.cwd, row.opening, memory, self.last(name), row.opened_at, *sizes, row.environment
        )

    def prompt(self, session: str, turn: int) -> Entry:
        """Return the entry that names the turn."""
        return next(each for each in self.entries[session] if each.first == turn)

    def content(self, session: str, turn: int) -> bytes:
        """Return the content blocks of the prompt that names the turn."""
        return pack(unpack(self.prompt(session, turn).body)["content"])

    def _turn(self, row: TurnRow, state: LogState) -> RestoredTurn:
        entries = self.entries[row.session]
        started = state in (LogState.STARTED, LogState.CANCELLING)
        told = [each for each in entries if started and each.turn == row.turn and each.kind in TOLD]
        body = self.content(row.session, row.turn)
        launch, epoch = self.turn_actors[row.session, row.turn]
        return RestoredTurn(
            row.session, row.turn, state, row.request, row.serves, body, row.client, told, epoch, row.size, launch
        )
