"""What the log gives back at start. Pure."""

from dataclasses import dataclass, field

from understudy.protocol.frames import Entry


@dataclass(frozen=True, slots=True)
class RestoredSession:
    """A session; `last` is its last number."""

    session: str
    agent: str
    cwd: str
    opening: bytes
    memory: bytes
    request: str
    last: int
    opened_at: float


@dataclass(frozen=True, slots=True)
class RestoredTurn:
    """A turn without an ending; `state` as in `TurnRow`, `body` its prompt's content blocks.

    `client`: who prompted. `told`: when it has started, its `asked`, `answered` and `requeued` entries, in order.
    """

    session: str
    turn: int
    state: str
    request: str
    serves: list[str]
    body: bytes
    client: str = ""
    told: list[Entry] = field(default_factory=list[Entry])


@dataclass(frozen=True, slots=True)
class Restored:
    """Everything the core needs to go on. `requests`: request -> (session, turn), the newest ones.

    `marks`: (actor, epoch) -> the last number of its that is recorded. `stopped`: an agent that a person stopped ->
    the life of the house (see `House`) in which that was.
    """

    sessions: list[RestoredSession] = field(default_factory=list[RestoredSession])
    turns: list[RestoredTurn] = field(default_factory=list[RestoredTurn])
    requests: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    epochs: dict[str, int] = field(default_factory=dict[str, int])
    marks: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    stopped: dict[str, str] = field(default_factory=dict[str, str])
