"""What every part of the world shares: the clocks, chance, the story, the disk and the wires."""

from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random

from tests.simulator.cast import Cast
from tests.simulator.disk import Disk
from understudy.protocol.frames import Frame

STORY_LINES_MAX = 80


@dataclass(eq=False, slots=True)
class Wire:
    """One connection: what is on its way up to the house, and down from it. It stands still until `held_until`."""

    peer: bytes
    actor: tuple[str, int] | None
    up: deque[Frame] = field(default_factory=deque[Frame])
    down: deque[Frame] = field(default_factory=deque[Frame])
    open: bool = True
    held_until: float = 0.0

    @property
    def of_actor(self) -> bool:
        """Whether an actor made it, or a client."""
        return self.actor is not None


@dataclass(slots=True)
class Marks:
    """What an actor had shown to its agent, in the file that it made in a `boot` of the machine."""

    boot: int
    slots: list[tuple[str, int]]


@dataclass(slots=True)
class Scene:
    """One seed's world, as far as all of it is concerned. `bound`: a supervisor's sockets are there to connect to."""

    seed: int
    cast: Cast
    random: Random
    weather: Random  # Chance of its own for the wall clock: it must decide nothing else.
    disk: Disk = field(default_factory=Disk)
    now: float = 0.0
    wall: float = 1_700_000_000.0
    bound: bool = True
    faulty: bool = True  # Until the schedule is over; then everything heals.
    wires: dict[bytes, Wire] = field(default_factory=dict[bytes, Wire])
    late: list[Wire] = field(default_factory=list[Wire])  # Their far end is gone; what it sent may still arrive.
    boot: int = 1  # Of the machine.
    environments: set[str] = field(default_factory=set[str])  # That are kept.
    files: dict[tuple[str, int], Marks] = field(default_factory=dict[tuple[str, int], Marks])
    faults: Counter[str] = field(default_factory=Counter[str])
    story: deque[str] = field(default_factory=lambda: deque[str](maxlen=STORY_LINES_MAX))
    whose: dict[bytes, tuple[str, int]] = field(default_factory=dict[bytes, tuple[str, int]])  # Also those cut by now.
    peers: int = 0
    frames_too: bool = False  # Tell every frame: for one schedule that is played again.

    def shown(self, actor: tuple[str, int]) -> set[tuple[str, int]] | None:
        """Return what a dead actor had shown; None when nobody knows: there is no file, or one of another boot."""
        marks = self.files.get(actor)
        return set(marks.slots) if marks is not None and marks.boot == self.boot else None

    def tell(self, text: str, frame: object) -> None:
        """Add a frame to the story, when it is to have them."""
        if self.frames_too:
            self.say(f"    {text} {frame!r}"[:300])

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.now:8.3f} {text}")

    def connect(self, actor: tuple[str, int] | None) -> Wire:
        """Return a fresh connection to the house, of an actor or of a client."""
        self.peers += 1
        wire = Wire(self.peers.to_bytes(4, "big"), actor)
        self.wires[wire.peer] = wire
        if actor is not None:
            self.whose[wire.peer] = actor
        return wire

    def cut(self, wire: Wire) -> None:
        """The connection is gone: what was on its way down is lost, and of what was on its way up the last part."""
        if self.wires.pop(wire.peer, None) is None:
            return
        wire.open = False
        wire.down.clear()
        for _ in range(self.random.choice((0, 0, 1, len(wire.up)))):
            if wire.up:
                wire.up.pop()
        if wire.up:
            wire.held_until = self.now + self.random.uniform(0.0, self.cast.patience_s)
            self.late.append(wire)

    def cut_all(self) -> None:
        """The house's sockets are gone with everything in them."""
        for wire in self.wires.values():
            wire.open = False
            wire.down.clear()
        self.wires.clear()
        self.late.clear()
