"""What is large or rests is read from the log when it is wanted; what cannot be read is told of its session only."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.logs import Opener
from understudy.protocol.frames import Entry, pack
from understudy.supervisor.core.events import (
    HoldRow,
    LogState,
    MemoryRow,
    Record,
    RestoredSession,
    RestRow,
    Row,
    SessionRow,
    TurnRow,
)
from understudy.supervisor.core.sessions import PROMPT_HEAD
from understudy.supervisor.log import keys, recall
from understudy.supervisor.log.log import Log, LogError
from understudy.supervisor.log.recall import BLOB_BYTES_MAX, PROMPT_BYTES_MAX


@pytest.fixture
def log(open_log: Opener, tmp_path: Path) -> Log:
    return open_log(str(tmp_path / "log"))


def content(characters: int) -> bytes:
    return pack([{"type": "text", "text": "x" * characters}])


def prompted(log: Log, session: str, body: bytes, opening: bytes = b"", memory: bytes = b"") -> None:
    entry = Entry(session, 1, 1, 1, "prompt", PROMPT_HEAD + body, 1.5)
    turn = TurnRow(session, 1, LogState.QUEUED, "r", size=len(body))
    log.commit([Record(1, [SessionRow(session, "a", "/", opening, session), entry, turn, MemoryRow(session, memory)])])


@pytest.mark.parametrize("is_moved", [False, True], ids=["pending", "in the tables"])
def test_a_prompt_an_opening_and_a_memory_are_read_when_wanted(log: Log, is_moved: bool) -> None:
    prompted(log, "s1", content(5), b"opening", b"memory")
    prompted(log, "s2", content(7))
    if is_moved:
        log.tend()

    assert [content(5), content(7)] == [log.prompt("s1", 1), log.prompt("s2", 1)]
    assert [b"opening", b"memory"] == [log.opening("s1"), log.memory("s1")]
    assert [b"", b""] == [log.opening("s2"), log.memory("nobody")]


def test_the_newest_memory_counts_wherever_it_lies(log: Log) -> None:
    prompted(log, "s1", content(5), memory=b"old")
    log.tend()
    log.commit([Record(2, [MemoryRow("s1", b"new")])])

    assert b"new" == log.memory("s1")


@pytest.mark.parametrize(("over", "given"), [(0, True), (1, False)])
def test_of_what_is_large_a_start_gets_the_size_only(log: Log, over: int, given: bool) -> None:
    text = PROMPT_BYTES_MAX - 100
    body = content(text + PROMPT_BYTES_MAX - len(content(text)) + over)
    blob = b"o" * (BLOB_BYTES_MAX + over)
    prompted(log, "s1", body, blob, blob)

    restored = log.restore()

    (session,), (turn,) = restored.sessions, restored.turns
    assert PROMPT_BYTES_MAX + over == turn.size
    assert (body if given else b"") == turn.body
    assert (BLOB_BYTES_MAX + over,) * 2 == (session.opening_bytes, session.memory_bytes)
    assert (blob if given else b"",) * 2 == (session.opening, session.memory)
    assert (body, blob) == (log.prompt("s1", 1), log.memory("s1"))


def test_an_older_versions_large_prompt_is_left_out_too(log: Log, tmp_path: Path) -> None:
    prompted(log, "s1", content(PROMPT_BYTES_MAX))
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute("UPDATE turns SET size = 0")

    (turn,) = log.restore().turns

    assert (b"", len(content(PROMPT_BYTES_MAX))) == (turn.body, turn.size)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM segments WHERE id >> 40 = 1", "prompt of turn 1 is not where it should be"),
        ("UPDATE segments SET entries = x'c1' WHERE id >> 40 = 1", "entries of it are damaged"),
        ("UPDATE turns SET serves = x'93' WHERE session = 1", "truncated"),
        ("UPDATE turns SET state = 'stbrted' WHERE session = 1", "its state is 'stbrted'"),
    ],
)
def test_a_session_that_cannot_be_read_comes_back_with_its_damage_and_the_others_whole(
    log: Log, tmp_path: Path, damage: str, told: str
) -> None:
    for name in ("s1", "s2"):
        prompted(log, name, content(5))
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute(damage)

    restored = log.restore()

    assert [("s1", 1), ("s2", 1)] == [(turn.session, turn.turn) for turn in restored.turns]
    assert ["turn 1 cannot be read from the log", ""] == [each.damage.partition(":")[0] for each in restored.sessions]
    assert told in restored.sessions[0].damage


def test_what_is_damaged_is_told_with_the_file_and_the_session(log: Log, tmp_path: Path) -> None:
    prompted(log, "s1", content(5))
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute("UPDATE segments SET entries = x'c1'")

    with pytest.raises(LogError, match=r"the log .*/log: session s1 is damaged: .*; check the disk"):
        log.prompt("s1", 1)


def test_how_a_line_stood_last_is_given_back(log: Log) -> None:
    log.commit([Record(1, [RestRow("a", "life", "EXITED", "done", 3.5, 2, [1.0]), RestRow("b", "life", "FATAL")])])
    log.commit([Record(2, [RestRow("b", "life", "RUNNING")])])

    expected = {"a": RestRow("a", "life", "EXITED", "done", 3.5, 2, [1.0]), "b": RestRow("b", "life", "RUNNING")}
    assert expected == log.restore().rests


def test_which_actor_has_a_turn_is_given_back(log: Log) -> None:
    prompted(log, "s1", content(5))
    prompted(log, "s2", content(5))
    log.tend()
    log.commit([Record(2, [TurnRow("s1", 1, LogState.STARTED, epoch=7)])])
    first = [turn.epoch for turn in log.restore().turns]
    log.commit([Record(3, [TurnRow("s1", 1, LogState.QUEUED)])])

    assert [7, 0] == first
    assert [0, 0] == [turn.epoch for turn in log.restore().turns]


def test_how_an_agent_stood_that_cannot_be_read_keeps_no_house_from_its_start(log: Log, tmp_path: Path) -> None:
    log.commit([Record(1, [RestRow("a", "life", ""), RestRow("b", "life", "")])])
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute("UPDATE rests SET row = x'c1' WHERE agent = 'a'")

    assert ["b"] == list(log.restore().rests)


# --- what is read when somebody names it ---


def opened(log: Log, *names: str) -> None:
    for at, name in enumerate(names):
        row = SessionRow(name, "a", f"/{at}", b"opening", f"open {name}", 1.5, b"digest")
        log.commit([Record(1, [row, news(name, 1, "opened")])])


def news(session: str, number: int, kind: str) -> Entry:
    return Entry(session, number, number, 0, kind, pack({}), 1.5)


@pytest.fixture(params=["pending", "in the tables", "both"])
def known(log: Log, request: pytest.FixtureRequest) -> Log:
    """A log with three sessions; of the second a memory and a prompt."""
    opened(log, "s1", "s2")
    if request.param != "pending":
        log.tend()
    rows: list[Row] = [MemoryRow("s2", b"memory"), TurnRow("s2", 2, LogState.QUEUED, "r", digest=b"asked")]
    log.commit([Record(2, [news("s2", 2, "prompt"), *rows, TurnRow("s2", 2, LogState.ENDED)])])
    opened(log, "s3")
    if request.param == "in the tables":
        log.tend()
    return log


def test_a_session_is_given_back_as_it_is_now(known: Log) -> None:
    assert RestoredSession("s2", "a", "/1", b"opening", b"memory", 2, 1.5, 7, 6) == known.session("s2")
    assert RestoredSession("s1", "a", "/0", b"opening", b"", 1, 1.5, 7, 0) == known.session("s1")
    assert None is known.session("s4")


def test_what_a_request_made_is_given_back(known: Log) -> None:
    assert [("s2", b"digest"), ("s3", b"digest")] == [known.opened(f"open {name}") for name in ("s2", "s3")]
    assert (2, b"asked") == known.accepted("s2", "r")
    assert [None, None, None] == [known.opened("r"), known.accepted("s1", "r"), known.accepted("s4", "r")]


def test_sessions_are_listed_in_pages_the_newest_first(known: Log) -> None:
    def page(before: str, count: int) -> list[tuple[str, int, bytes, int]]:
        return [(each.session, each.last, each.opening, each.opening_bytes) for each in known.newest(before, count)]

    assert [("s3", 1, b"", 7), ("s2", 2, b"", 7)] == page("", 2)
    assert [("s1", 1, b"", 7)] == page("s2", 2)
    assert [] == page("s1", 2) == page("nobody", 2)


def test_a_start_gives_back_what_has_something_to_do_and_how_many_sessions_there_are(known: Log) -> None:
    known.commit([Record(3, [TurnRow("s1", 9, LogState.QUEUED, "q", size=1 << 20), HoldRow("s3", "a", 1)])])

    restored = known.restore()

    assert ["s1", "s3"] == [each.session for each in restored.sessions]
    assert {"a": 3} == restored.counts


def test_keys_that_are_forgotten_are_found_again(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KEYS_KEPT_MAX", 1)
    names = [f"s{number}" for number in range(5)]
    opened(log, *names)
    log.tend()

    for name in names:
        log.commit([Record(2, [news(name, 2, "note")])])
    log.tend()

    assert [[1, 2]] * 5 == [[each.first for each in log.read(name, 1, 1000)] for name in names]


@pytest.mark.parametrize("is_busy", [False, True], ids=["at rest", "busy"])
def test_one_damaged_session_is_given_back_with_its_damage_and_the_others_whole(
    log: Log, tmp_path: Path, is_busy: bool
) -> None:
    for name in ("s1", "s2"):
        prompted(log, name, content(5)) if is_busy else opened(log, name)
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute("UPDATE sessions SET cwd = x'ff' WHERE session = 's1'")

    read = [log.session("s1"), log.session("s2")]

    damage = ["its row in the log is damaged", ""]
    assert damage == [each.damage for each in read if each is not None]
    assert damage == [each.damage for each in log.newest("", 2)][::-1]
    assert (damage if is_busy else []) == [each.damage for each in log.restore().sessions]


def test_a_row_that_names_no_session_is_told_with_the_file(log: Log, tmp_path: Path) -> None:
    opened(log, "s1")
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log", isolation_level=None)) as other:
        other.execute("UPDATE sessions SET agent = x'ff'")

    with pytest.raises(LogError, match=r"the log .*/log is damaged: a row of the sessions .*; check the disk"):
        log.newest("", 10)


@pytest.mark.parametrize(
    "query",
    [
        recall.SESSION + "WHERE session = ?",
        recall.SESSION + recall.BUSY,
        recall.SESSION + recall.PAGE,
        recall.OPENED,
        recall.ACCEPTED,
        recall.COUNTS,
    ],
    ids=["one", "busy", "page", "opened", "accepted", "counts"],
)
def test_no_query_reads_all_sessions_or_turns(log: Log, tmp_path: Path, query: str) -> None:
    """But the count, which reads an index."""
    log.tend()
    with closing(sqlite3.connect(tmp_path / "log")) as other:
        plan = [row[3] for row in other.execute("EXPLAIN QUERY PLAN " + query, ["?"] * query.count("?"))]

    indexes = ("SCAN sessions USING COVERING INDEX agents", "SCAN turns USING INDEX open_turns", "SCAN holds")
    assert [] == [step for step in plan if step.startswith("SCAN") and not step.startswith(indexes)]


def test_a_log_without_the_indexes_gets_them(open_log: Opener, tmp_path: Path) -> None:
    path = str(tmp_path / "old")
    open_log(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for name in ("opens", "prompts", "agents"):
            other.execute(f"DROP INDEX {name}")

    log = open_log(path)
    opened(log, "s1")
    log.tend()

    assert ("s1", b"digest") == log.opened("open s1")
    assert {"a": 1} == log.restore().counts
