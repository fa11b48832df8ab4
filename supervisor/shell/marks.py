"""The files in which actors mark what they show their agents, as the supervisor sees them. Decides nothing.

They lie beside the log, in the house's state. Actors of the version before write theirs into the runtime folder, and
unsigned: such a file counts only for an actor that lived when this supervisor began, whose exit the keeper reports.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from understudy.protocol.shown import read_shown, shown_path, whose
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.core.restored import Shown


class Marks:
    """The marks of one house. `living`: the actors that lived when this supervisor began."""

    def __init__(self, state_dir: str, runtime_dir: str, living: Iterable[Spawned]) -> None:
        self._state_dir, self._runtime_dir = state_dir, runtime_dir
        self._inherited = {(each.actor, each.epoch) for each in living}

    def left(self) -> Shown:
        """Return, for each actor#epoch that left a file and is dead, what it had shown; None: any turn of its."""
        for key in _whose_files(self._runtime_dir):
            if key not in self._inherited:
                self._remove(self._runtime_dir, *key)
        return {
            key: read_shown(shown_path(self._state_dir, *key))
            for key in _whose_files(self._state_dir)
            if key not in self._inherited
        }

    def of(self, actor: str, epoch: int) -> set[tuple[str, int]] | None:
        """Return what an actor that is dead now had shown, None when that is not known."""
        path = shown_path(self._state_dir, actor, epoch)
        if (actor, epoch) in self._inherited and not os.path.lexists(path):
            return read_shown(shown_path(self._runtime_dir, actor, epoch), is_signed=False)
        return read_shown(path)

    def forget(self, actor: str, epoch: int) -> None:
        """No turn of the actor's is open: remove its file. One that cannot be removed says what the log says, too."""
        for folder in (self._state_dir, self._runtime_dir):
            self._remove(folder, actor, epoch)

    def _remove(self, folder: str, actor: str, epoch: int) -> None:
        with contextlib.suppress(OSError):
            os.unlink(shown_path(folder, actor, epoch))  # noqa: PTH108


def _whose_files(folder: str) -> list[tuple[str, int]]:
    """Return whose files lie there; none when that cannot be read: then nothing is known of anybody."""
    try:
        found = [whose(path.name) for path in Path(folder, "shown").iterdir()]
    except OSError:
        return []
    return [(actor, epoch) for actor, epoch in found if epoch]
