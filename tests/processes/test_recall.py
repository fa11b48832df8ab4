"""What is large is read from the log when it is wanted, and what cannot be read is told of its session only."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.logs import Opener
from understudy.protocol.frames import Entry, pack
from understudy.supervisor.core.events import LogState, MemoryRow, Record, RestRow, SessionRow, TurnRow
from understudy.supervisor.core.sessions import PROMPT_HEAD
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
