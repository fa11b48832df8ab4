"""Updates that came before the answer that names their session. Pure."""

import json
from typing import Any

UPDATES_MAX = 1000  # Of all sessions together, as the bytes are.
BYTES_MAX = 4 << 20


class Early:
    """Keeps them until the session is known, or nobody waits for one any more."""

    def __init__(self) -> None:
        self._updates: dict[str, list[tuple[dict[str, Any], int]]] = {}
        self._count = 0
        self._size = 0

    def keep(self, session: str, update: dict[str, Any]) -> None:
        """Keep an update of the agent's `session`, if there is room."""
        size = len(session) + len(json.dumps(update))
        if self._count < UPDATES_MAX and self._size + size <= BYTES_MAX:
            self._updates.setdefault(session, []).append((update, size))
            self._count += 1
            self._size += size

    def take(self, session: str) -> list[dict[str, Any]]:
        """Return the updates of a session in their order, once."""
        taken = self._updates.pop(session, [])
        self._count -= len(taken)
        self._size -= sum(size for _, size in taken)
        return [update for update, _ in taken]

    def clear(self) -> None:
        """Forget all."""
        self._updates, self._count, self._size = {}, 0, 0
