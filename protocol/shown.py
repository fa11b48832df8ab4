"""Which turns an actor has shown to its agent: a small file that outlives the actor, whatever kills it.

The actor writes a turn's slot just before the agent may see it; the supervisor reads the file when
nothing of the actor lives any more. A turn that stands in no slot was not seen by any agent and may
be handed over again. Slots are reused once the turn's ending is recorded: the file is as large as the most turns
that ran at once, or had endings under way.
"""

import contextlib
import os
from pathlib import Path

SLOT_BYTES = 64


def shown_path(runtime_dir: str, actor: str, epoch: int) -> str:
    """Return the path of the file of actor#epoch."""
    return f"{runtime_dir}/shown/{actor.replace('/', '%')}#{epoch}"


def whose(name: str) -> tuple[str, int]:
    """Return the actor and the epoch that a file of `shown_path` belongs to, by its name; epoch 0 for another file."""
    actor, _, epoch = name.rpartition("#")
    return (actor.replace("%", "/"), int(epoch)) if actor and epoch.isdigit() else (name, 0)


class ShownFile:
    """The writing side, in the actor."""

    def __init__(self, descriptor: int) -> None:
        """Write to the empty file that is open as `descriptor`."""
        self._file = descriptor
        self._slots: dict[tuple[str, int], int] = {}
        self._free: list[int] = []

    @classmethod
    def of_actor(cls, runtime_dir: str, actor: str, epoch: int) -> "ShownFile":
        """Make the file of actor#epoch. Raises `OSError`: without it no turn may be shown."""
        Path(runtime_dir, "shown").mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return cls(os.open(shown_path(runtime_dir, actor, epoch), flags, 0o600))

    def show(self, session: str, turn: int) -> None:
        """Write that the agent is about to see the turn. Raises `OSError`: then it must not."""
        assert (session, turn) not in self._slots, f"turn {turn} of {session} is shown twice"
        slot = self._free.pop() if self._free else len(self._slots)
        self._slots[session, turn] = slot
        line = f"{session} {turn}".encode().ljust(SLOT_BYTES - 1) + b"\n"
        assert len(line) == SLOT_BYTES, f"session id {session!r} is too long"
        os.pwrite(self._file, line, slot * SLOT_BYTES)

    def withdraw(self, session: str, turn: int) -> None:
        """The agent is gone and certainly had not got the turn."""
        slot = self._slots.get((session, turn))
        if slot is not None:
            with contextlib.suppress(OSError):  # It stays marked: the turn is then reported as interrupted.
                os.pwrite(self._file, b" " * (SLOT_BYTES - 1) + b"\n", slot * SLOT_BYTES)

    def over(self, session: str, turn: int) -> None:
        """The turn's ending is in the log: its slot may be used again. Not before, or the turn is run twice."""
        slot = self._slots.pop((session, turn), None)
        if slot is not None:
            self._free.append(slot)


def read_shown(path: str) -> set[tuple[str, int]] | None:
    """Return the turns that stand in the file; None when there is none to be read (then any may have been shown)."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return None
    found: set[tuple[str, int]] = set()
    for line in text.splitlines():
        session, _, turn = line.rstrip().rpartition(" ")
        with contextlib.suppress(ValueError):
            found.add((session, int(turn)))
    return found
