"""What a session's log holds, one number at a time, as users of the client library see it. Pure."""

from dataclasses import dataclass
from typing import Any

from understudy.protocol.frames import Entry, FrameError, unpack
from understudy.protocol.sizes import UPDATES_PER_FRAME_MAX


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
    """Return the items of `entry` from `number` on. What cannot be read says so: it is no reason to read no further."""
    try:
        body = unpack(entry.body)
    except FrameError as error:
        body = unreadable(str(error))
    if entry.kind != "update":
        return [Item(entry.session, entry.first, entry.turn, entry.kind, body, entry.time)]
    count = min(entry.last - entry.first + 1, UPDATES_PER_FRAME_MAX)
    if type(body) is not list or len(body) != count:
        body = [unreadable(f"{count} updates were announced")] * count
    return [
        Item(entry.session, entry.first + at, entry.turn, entry.kind, update, entry.time)
        if type(update) is dict
        else Item(entry.session, entry.first + at, entry.turn, entry.kind, unreadable("no map"), entry.time)
        for at, update in enumerate(body)
        if entry.first + at >= number
    ]


def unreadable(why: str) -> dict[str, Any]:
    """Return what stands in the place of an update that nobody can read."""
    return {"sessionUpdate": "unreadable", "text": f"this cannot be read: {why}"}
