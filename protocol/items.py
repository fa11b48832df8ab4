"""What a session's log holds, one number at a time, as users of the client library see it. Pure."""

from dataclasses import dataclass
from typing import Any

from understudy.protocol.frames import Entry, unpack


@dataclass(frozen=True, slots=True)
class Item:
    """One numbered thing of a session: an entry, or one update of an entry that holds several."""

    session: str
    number: int
    turn: int
    kind: str
    body: Any
    time: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended: `reason`, and `body` with `text` for people where there is something to say."""

    reason: str
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """What to tell a person, "" after a normal end."""
        return str(self.body.get("text", ""))


def items(entry: Entry, number: int = 0) -> list[Item]:
    """Return the items of `entry` from `number` on."""
    body = unpack(entry.body)
    if entry.kind != "update":
        return [Item(entry.session, entry.first, entry.turn, entry.kind, body, entry.time)]
    return [
        Item(entry.session, entry.first + at, entry.turn, entry.kind, update, entry.time)
        for at, update in enumerate(body)
        if entry.first + at >= number
    ]
