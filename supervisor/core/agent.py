"""An agent: who plays it, who plays which of its sessions, and what waits for it. Pure.

Who plays is recorded before a turn is handed over: see `casting`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from understudy.supervisor.core.events import RestRow
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.specs import AgentSpec

GIVEN_UP = (State.FATAL, State.UNKNOWN)  # Nobody is to come there for the sake of work that waits.
GONE = "no longer in the configuration"
OCCUPIED = (State.STARTING, State.RUNNING, State.STOPPING, State.BACKOFF, *GIVEN_UP)


@dataclass(slots=True, eq=False)
class Agent:
    """One agent. `actors`: by their places; the first is always there. `sessions`: how many it has.

    `restarts`: the budget of its first place, `beside`: those of others: a session at which one actor falls again and again
    does not cost the others theirs.
    """

    spec: AgentSpec
    launch: Launch
    restarts: Restarts
    actors: list[Actor] = field(default_factory=list[Actor])
    beside: dict[int, Restarts] = field(default_factory=dict[int, Restarts])
    running: int = 0
    queued: int = 0
    sessions: int = 0
    question_bytes: int = 0  # Of the open questions that only one client can answer.
    # Sessions with turns that wait, since when (for their first turn, or since the one before it ended), the oldest first.
    waiting: dict[str, float] = field(default_factory=dict[str, float])
    by_person: bool = False  # A person stopped it: it stays so until a person starts it.
    apart: str = ""  # Why it is set apart: an invariant of ours broke about it. A person's start ends that.
    departed: bool = False  # It left the configuration while something of it was under way: see `departed`.
    held_by: int = 0  # Clients that want its actors to stay up.
    digest: str = ""  # Of its configuration.
    rests: dict[str, RestRow] = field(default_factory=dict[str, RestRow])  # How its actors were written down last.
    awaited: bool = False  # Others start after it, which therefore stays up.

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.spec.name

    @property
    def first(self) -> Actor:
        """The actor in its first place: the only one, unless sessions want more."""
        return self.actors[0]

    @property
    def stays_down(self) -> str:
        """Why work does not start it, "" when it does."""
        return GONE if self.departed else "stopped by a person" if self.by_person else self.apart

    @property
    def places_max(self) -> int:
        """How many actors may play it at once."""
        return max(1, self.spec.actors_max) if self.spec.sessions_per_actor else 1

    @property
    def is_lazy(self) -> bool:
        """Whether nobody plays it before a prompt needs it."""
        return self.spec.lazy and not self.awaited

    @property
    def may_rest(self) -> bool:
        """Whether nobody need play it while there is nothing to do."""
        return (self.spec.lazy or self.spec.idle_stop_s > 0) and not (self.awaited or self.held_by)

    def budget(self, place: int) -> Restarts:
        """Return the budget of restarts of the actor in that place; of an understudy (0) it is that of the first."""
        if place <= 1:
            return self.restarts
        if place not in self.beside:
            self.beside[place] = Restarts(self.restarts.policy, self.restarts.random)
        return self.beside[place]

    def others(self, actor: Actor) -> Iterator[Actor]:
        """Yield the other actors that play it."""
        return (each for each in self.actors if each is not actor)

    def has_place(self) -> bool:
        """Return whether one more actor may play it."""
        taken = sum(each.state in OCCUPIED or each.starts or each.hindered is not None for each in self.actors)
        return taken < self.places_max

    def free_place(self) -> int:
        """Return the lowest place that nobody has."""
        taken = {each.place for each in self.actors}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def put(self, actor: Actor) -> None:
        """Let the actor play in its place."""
        self.actors.append(actor)
        self.actors.sort(key=lambda each: each.place)

    def swap(self, actor: Actor, heir: Actor) -> None:
        """Let an understudy play in the place of `actor`, which becomes one."""
        understudies = self.launch.understudies
        heir.agent, heir.place, actor.agent, actor.place = actor.agent, actor.place, "", 0
        understudies.remove(heir)
        understudies.append(actor)
        self.actors[self.actors.index(actor)] = heir
        for each in (heir, actor):
            each.changed(each)
