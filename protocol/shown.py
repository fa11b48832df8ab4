"""Which turns an actor has shown to its agent: a small file that outlives the actor, whatever kills it.

The actor writes a turn's slot just before the agent may see it; the supervisor reads the file when
nothing of the actor lives any more. A turn that stands in no slot was not seen by any agent and may
be handed over again. Slots are reused once the turn's ending is recorded: the file is as large as the most turns
that ran at once, or had endings under way.

Nothing is synced: the first slot says in which boot the file was made, and that it is this very file. One of another
boot may lack what a power loss took, a copy or a backup what came later: what such a file does not say is not known.
"""

import contextlib
import errno
import os
from functools import cache
from pathlib import Path

from understudy.protocol.owners import open_ours

SLOT_BYTES = 64
FILE_BYTES_MAX = 4 << 20  # Room for 65,535 turns at once.
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
EMPTY_SLOT = b" " * (SLOT_BYTES - 1) + b"\n"


def shown_path(folder: str, actor: str, epoch: int) -> str:
    """Return the path of the file of actor#epoch; `folder`: the house's state."""
    return f"{folder}/shown/{actor.replace('/', '%')}#{epoch}"


def whose(name: str) -> tuple[str, int]:
    """Return the actor and the epoch that a file of `shown_path` belongs to, by its name; epoch 0 for another file."""
    actor, _, epoch = name.rpartition("#")
    return (actor.replace("%", "/"), int(epoch)) if actor and epoch.isdecimal() else (name, 0)


def boot_id() -> str:
    """Return what names this boot of the machine; where nothing does, no two are the same."""
    try:
        return _boot_id()
    except OSError:
        return os.urandom(16).hex()


@cache
def _boot_id() -> str:
    """Return it, read once: forked children have it then. Raises `OSError`."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class ShownFile:
    """The writing side, in the actor."""

    def __init__(self, path: str) -> None:
        """Make the file at `path`, empty; on a disk that is full now, before the first turn is shown."""
        self._path = path
        self._file: int | None = None
        self._slots: dict[tuple[str, int], int] = {}
        self._free: list[int] = []
        with contextlib.suppress(OSError):
            self._open()

    @classmethod
    def of_actor(cls, state_dir: str, actor: str, epoch: int) -> "ShownFile":
        """Make the file of actor#epoch."""
        return cls(shown_path(state_dir, actor, epoch))

    def show(self, session: str, turn: int) -> None:
        """Write that the agent is about to see the turn; again does no harm. Raises `OSError`: then it must not."""
        file = self._open() if self._file is None else self._file
        known = self._slots.get((session, turn))
        slot = known or (self._free.pop() if self._free else 1 + len(self._slots))
        try:
            _write(file, slot, f"{session} {turn}")
        except OSError:
            if known is None:
                self._free.append(slot)
            raise
        self._slots[session, turn] = slot

    def withdraw(self, session: str, turn: int) -> None:
        """The agent is gone and certainly had not got the turn."""
        slot = self._slots.get((session, turn))
        if slot is not None and self._file is not None:
            with contextlib.suppress(OSError):  # It stays marked: the turn is then reported as interrupted.
                _write(self._file, slot, "")

    def over(self, session: str, turn: int) -> None:
        """The turn's ending is in the log: its slot may be used again. Not before, or the turn is run twice."""
        slot = self._slots.pop((session, turn), None)
        if slot is not None:
            self._free.append(slot)

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        try:
            file = os.open(self._path, FLAGS, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            Path(self._path).parent.mkdir(mode=0o700, exist_ok=True)
            file = os.open(self._path, FLAGS, 0o600)
        try:
            _write(file, 0, _signature(file))
        except OSError:
            os.close(file)
            raise
        self._file = file
        return file


def read_shown(path: str, is_signed: bool = True) -> set[tuple[str, int]] | None:
    """Return the turns that stand in the file; None when that is not known: then any may have been shown.

    Not `is_signed`: the file of an actor of the version before, which wrote turns only. Its caller knows the boot.
    """
    try:
        file = open_ours(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        text = os.pread(file, FILE_BYTES_MAX + 1, 0)
        if len(text) > FILE_BYTES_MAX or len(text) % SLOT_BYTES:
            return None
        slots = [text[at : at + SLOT_BYTES] for at in range(0, len(text), SLOT_BYTES)]
        if is_signed and slots[:1] != [_slot(_signature(file))]:
            return None
        return _turns(slots[is_signed:])
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def _turns(slots: list[bytes]) -> set[tuple[str, int]]:
    """Return what stands in `slots`; raise `ValueError` for one that is torn."""
    found: set[tuple[str, int]] = set()
    for slot in slots:
        if slot == EMPTY_SLOT:
            continue
        session, _, turn = slot.rstrip().decode("ascii").rpartition(" ")
        found.add((session, int(turn)))
        if not session or slot != _slot(f"{session} {turn}"):
            raise ValueError(f"torn: {slot!r}")
    return found


def _signature(file: int) -> str:
    return f"marks {boot_id()} {os.fstat(file).st_ino}"


def _slot(text: str) -> bytes:
    slot = text.encode().ljust(SLOT_BYTES - 1) + b"\n"
    assert len(slot) == SLOT_BYTES, f"{text!r} is too long"
    return slot


def _write(file: int, slot: int, text: str) -> None:
    if os.pwrite(file, _slot(text), slot * SLOT_BYTES) != SLOT_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
