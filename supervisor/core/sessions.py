"""Sessions, their mailboxes, turns, asks and followers: what the core remembers of them. Pure."""

from dataclasses import dataclass
from enum import Enum

import msgspec

from understudy.protocol.frames import Answer, Ask, Entry, pack
from understudy.supervisor.core.budget import Body
from understudy.supervisor.core.life import Actor

HANDOVERS_MAX = 5  # A turn that costs this many actors before it begins ends as `failed`.
RETRIES_MAX = 3

PROMPT_HEAD = b"\x81\xa7content"  # Before the content blocks in a prompt's body: a map with this one key.
CONTINUATION = pack(
    [
        {
            "type": "text",
            "text": "You were interrupted while you worked on the last request, and your process was started again. "
            "Look at what you have done already, and go on from there; do not repeat what is done.",
        }
    ]
)
NOTHING = Body()
CONTINUED_BODY = Body(len(CONTINUATION), CONTINUATION)


class TurnState(Enum):
    """Where a turn is. Only RUNNING turns can have been seen by an agent."""

    QUEUED = "queued"
    HANDED = "handed over"
    BEGUN = "begun"
    RUNNING = "running"


class Turn(msgspec.Struct, eq=False, gc=False):
    """One prompt and what becomes of it; `number` is the number of its prompt entry."""

    number: int
    body: Body
    serves: list[str]
    client: str = ""  # Who prompted, by the id that outlives its connections.
    state: TurnState = TurnState.QUEUED
    continues: bool = False  # Its agent is asked to go on, instead of being given the prompt again.
    start_ticket: int = 0
    launch: str = ""
    epoch: int = 0  # With the launch: of the actor that has it.
    handovers: int = 0
    retries: int = 0
    cancelled: bool = False
    unmarked: bool = False  # Handed over without the handshake: nobody marks when the agent sees it.
    cancel_ticket: int = 0  # Its cancel goes to the actor once this is committed; 0: it has gone, or there is none.
    cancel_due: float | None = None
    # When it was put where it is; once it is handed over: when that was on its way, None while that waits for the log.
    since: float | None = 0.0
    progressed: float = 0.0  # When it had its last entry or answer.
    quiet_told: bool = False
    over_told: bool = False
    wait_told: bool = False  # Of why no actor takes it.


@dataclass(slots=True)
class Follower:
    """One client's place in one session."""

    peer: bytes
    follow: int
    next: int
    credit: int
    serial: int = 0  # No two followers have the same.
    wants: int = 0  # So large is the next entry, for which there was no room.
    caught_up: bool = False
    holds: bool = False  # Its client wants that the agent stays up.


@dataclass(slots=True)
class OpenAsk:
    """A question of the agent that waits for its one answer. `frame`: for one client only, to be said again to it."""

    turn: int
    method: str
    since: float
    frame: Ask | None = None
    peer: bytes | None = None  # The connection on which it was said to that client.

    @property
    def public(self) -> bool:
        """Whether it is recorded and anybody may answer."""
        return self.frame is None


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given, kept until the actor certainly has it.

    It went out once `ticket` was committed, after the `serial`th ping to the actor's connection `peer`.
    """

    answer: Answer
    peer: bytes | None = None
    serial: int = 0
    ticket: int = 0


class Session(msgspec.Struct, eq=False):
    """One conversation. `last`: the last number given out; `recorded`: the last one that is committed.

    `actor`: who plays it while a turn of its runs; where an actor plays few sessions only, as long as that knows it.
    """

    id: str
    agent: str
    cwd: str
    opening: Body = NOTHING
    memory: Body = NOTHING
    last: int = 0
    recorded: int = 0
    opened_at: float = 0.0
    mailbox: list[Turn] = []  # Of an empty deque each would cost half a KB.
    current: Turn | None = None
    actor: Actor | None = None
    asks: dict[str, OpenAsk] = {}
    answers: dict[str, Given] = {}  # Of the current turn.
    followers: dict[tuple[bytes, int], Follower] = {}
    dropped: int = 0  # What was said and not recorded, of which nobody is told yet how much it was.
    quarantined: str = ""
    past: bool = False  # Requests of its may be in the log only.
    environment: str = ""  # What it brought, by the name under which that is kept: who plays it was launched so.

    def bytes_to_hand(self, body_bytes: int) -> int:
        """Return how many bytes an actor gets with a body of so many: what the session is known by goes with it."""
        return body_bytes + self.opening.size + self.memory.size

    def entry(self, kind: str, turn: int, body: bytes, wall: float, count: int = 1) -> Entry:
        """Return the next entry, of `count` numbers."""
        first = self.last + 1
        self.last = first + count - 1
        return Entry(self.id, first, self.last, turn, kind, body, wall)
