"""What the log gives back at start. Pure."""

from dataclasses import dataclass, field

from understudy.protocol.frames import Entry
from understudy.supervisor.core.events import LogState, RestoredSession, RestRow

# Of each actor#epoch that is dead and left a file: the turns that it had shown to its agent, None: any may have been.
Shown = dict[tuple[str, int], set[tuple[str, int]] | None]


@dataclass(frozen=True, slots=True)
class RestoredTurn:
    """A turn without an ending; `state` as in `TurnRow`, `body` its prompt's content blocks, left out when `size` is large.

    `client`: who prompted. `told`: when it has started, its `asked`, `answered` and `requeued` entries, in order.
    `launch`, `epoch`: of the actor that has it; 0 when none has, or an older version wrote it. Of a turn that cannot be
    read only that and its name are here.
    """

    session: str
    turn: int
    state: LogState
    request: str
    serves: list[str]
    body: bytes
    client: str = ""
    told: list[Entry] = field(default_factory=list[Entry])
    epoch: int = 0
    size: int = 0
    launch: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """Everything the core needs to go on.

    `sessions`: those with turns that have not ended, and those that an actor's program knows. `counts`: agent -> how many
    sessions it has in all. `marks`: (actor, epoch) -> the last number of its that is recorded. `cast`: (launch, epoch) ->
    whom it plays, in which place ("": an understudy), of those that have not ended; one of whom an older version wrote is
    not among them. `holds`: session -> (launch, epoch) of the actor whose program knows it. `stopped`: an agent that a
    person stopped -> the life of the house (see `House`) in which that was. `rests`: how each agent's actors stood.
    """

    sessions: list[RestoredSession] = field(default_factory=list[RestoredSession])
    turns: list[RestoredTurn] = field(default_factory=list[RestoredTurn])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    epochs: dict[str, int] = field(default_factory=dict[str, int])
    marks: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    cast: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict[tuple[str, int], tuple[str, int]])
    holds: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    stopped: dict[str, str] = field(default_factory=dict[str, str])
    rests: dict[str, RestRow] = field(default_factory=dict[str, RestRow])
