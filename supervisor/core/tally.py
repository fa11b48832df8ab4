"""How many actors live, what memory they have, and who waits for room: counted when one changes, not when it is asked. Pure."""

from dataclasses import dataclass, field

from understudy.supervisor.core.life import STAYING, Actor, Hindrance

NOTHING = (0, 0, 0)


@dataclass(slots=True)
class Tally:
    """Of all actors of a house. `living`: of whom something may live; `staying`: who of them are not on their way out."""

    living: int = 0
    staying: int = 0
    living_kb: int = 0  # Whole ones: what is added is taken off again.
    staying_kb: int = 0
    crowded: dict[Actor, None] = field(default_factory=dict[Actor, None])  # Those that play and wait for room.
    _counted: dict[Actor, tuple[int, int, int]] = field(default_factory=dict[Actor, tuple[int, int, int]])

    def see(self, actor: Actor) -> None:
        """Count the actor as it stands now, in place of how it stood."""
        stood = self._counted.pop(actor, NOTHING)
        stands = (int(actor.lives), int(actor.state in STAYING), round(1024 * actor.memory_mb))
        if stands != NOTHING:
            self._counted[actor] = stands
        for (lives, stays, kb), sign in ((stood, -1), (stands, 1)):
            self.living += sign * lives
            self.staying += sign * stays
            self.living_kb += sign * lives * kb
            self.staying_kb += sign * stays * kb
        if actor.agent and actor.hindered is Hindrance.ROOM:
            self.crowded[actor] = None
        else:
            self.crowded.pop(actor, None)
