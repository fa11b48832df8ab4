"""Logs for tests: a session, entries for it, and what opens logs."""

from collections.abc import Callable

from understudy.protocol.frames import Entry, pack
from understudy.supervisor.core.events import SessionRow
from understudy.supervisor.log.log import Log

SESSION = SessionRow("s1", "rehearsal", "/tmp", b"", "open-1")
Opener = Callable[..., Log]  # Of a log at a path, with a boot's id.


def known(log: Log, session: str) -> tuple[int, bytes]:
    """Return the session's last number, and what is remembered for it."""
    found = log.session(session)
    assert found is not None, f"there is no session {session}"
    return found.last, found.memory


def entry(first: int, last: int = 0, kind: str = "update", turn: int = 1) -> Entry:
    return Entry("s1", first, last or first, turn, kind, pack({"content": [first]}), 1.5)
