"""The keys that sessions have in the tables: of those that were wanted of late in memory, of all others in the tables."""

import sqlite3

KEYS_KEPT_MAX = 20_000


class Keys:
    """Session -> its key. Every method but `make` and `written` may raise `sqlite3.Error`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._query = connection.execute
        self._kept: dict[str, int] = {}
        self._new: dict[str, int] = {}  # Of sessions that are not in the tables yet.
        self._next = 1 + self._query("SELECT coalesce(max(id), 0) FROM sessions").fetchone()[0]

    def __getitem__(self, session: str) -> int:
        key = self.get(session)
        if key is None:
            raise KeyError(session)
        return key

    def get(self, session: str) -> int | None:
        """Return the key of a session, None when there is no such session."""
        key = self._kept.get(session)
        if key is None:
            key = self._new.get(session)
        if key is None:
            found = self._query("SELECT id FROM sessions WHERE session = ?", (session,)).fetchone()
            if found is not None:
                key = int(found[0])
                self._keep({session: key})
        return key

    def make(self, session: str) -> None:
        """Give a new session its key."""
        self._new[session] = self._next
        self._next += 1

    def written(self) -> None:
        """The tables have all sessions."""
        self._keep(self._new)
        self._new = {}

    def _keep(self, keys: dict[str, int]) -> None:
        if len(self._kept) + len(keys) > KEYS_KEPT_MAX:
            self._kept.clear()  # Those that are wanted are soon found again.
        self._kept.update(keys)
