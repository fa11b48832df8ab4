"""What the core wants done, from its decision to the world. Pure; shell and simulator run the same.

Records are gathered and written together, in the order of their tickets. What says after which ticket it may be
carried out is held until the log has that; whatever else waits, it is released once its own ticket is there.
"""

from understudy.supervisor.core.events import (
    Announce,
    Committed,
    Effect,
    Finish,
    ForgetMarks,
    KeepEnvironment,
    Kill,
    ReadEntries,
    Record,
    Spawn,
    TellActor,
    TellClient,
)

Held = TellClient | TellActor | ForgetMarks
Act = Held | Spawn | Kill | ReadEntries | KeepEnvironment | Announce | Finish


class Outbox:
    """The effects of one supervisor that are not carried out yet. `committed`: the last ticket in the log."""

    def __init__(self) -> None:
        self.committed = 0
        self.records: list[Record] = []
        self._held: list[Held] = []

    def take(self, effect: Effect) -> Act | None:
        """Return what is to be carried out now, None when it is kept: a record, or what waits for one."""
        # By the exact type: `isinstance` takes ten times as long to tell what is none.
        if type(effect) is TellClient or type(effect) is TellActor or type(effect) is ForgetMarks:
            if effect.after <= self.committed:
                return effect
            self._held.append(effect)
            return None
        if isinstance(effect, Record):
            self.records.append(effect)
            return None
        return effect

    def written(self, count: int) -> tuple[list[Held], Committed]:
        """The first `count` records are in the log: return what is to be carried out, and the core's event after it."""
        self.committed = self.records[count - 1].ticket
        del self.records[:count]
        released = [each for each in self._held if each.after <= self.committed]
        if len(released) == len(self._held):
            self._held = []
        else:
            self._held = [each for each in self._held if each.after > self.committed]
        return released, Committed(self.committed)
