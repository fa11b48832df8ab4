"""Launches: what actors are started as, and the understudies that stand by for every agent that is launched so. Pure."""

from dataclasses import dataclass, field

from understudy.supervisor.core.life import STAYING, Actor, State
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.specs import AgentSpec


@dataclass(slots=True, eq=False)
class Launch:
    """Program, environment, folder, files and limits, as the agent has them whose `name` it bears.

    `epoch`: the last one that was given out; with the launch's name it names an incarnation, for life. `restarts`: the
    budget of its understudies, that agent's.
    """

    name: str
    spec: AgentSpec
    restarts: Restarts
    epoch: int = 0
    understudies: list[Actor] = field(default_factory=list[Actor])
    agents: dict[str, None] = field(default_factory=dict[str, None])  # That are launched so.
    known: dict[int, Actor] = field(default_factory=dict[int, Actor])  # By the epochs that they have, or had last.
    understudy_mb: float = 0.0  # The most that an understudy had which was dismissed.

    def next_epoch(self, actor: Actor) -> int:
        """Give out the next epoch, to `actor`."""
        self.epoch += 1
        self.know(actor, self.epoch)
        return self.epoch

    def know(self, actor: Actor, epoch: int) -> None:
        """From here on `epoch` names an incarnation of `actor`, and its last one none any more."""
        self.known.pop(actor.epoch, None)
        self.known[epoch] = actor

    def forget(self, actor: Actor) -> None:
        """Nothing of the actor lives, nor is there a place for it."""
        self.known.pop(actor.epoch, None)
        if actor in self.understudies:
            self.understudies.remove(actor)

    def heir(self) -> Actor | None:
        """Return the understudy that would take over now: one that is ready before others, then the oldest."""
        living = [
            each for each in self.understudies if each.state in STAYING and not (each.heard.silent or each.leaves)
        ]
        return min(living, key=lambda each: (each.state is not State.RUNNING, each.epoch), default=None)
