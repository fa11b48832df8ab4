"""An agent: who plays it, who plays which of its sessions, and what waits for it. Pure.

Who plays is recorded before a turn is handed over: see `casting`.
"""

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from understudy.supervisor.core.events import RestRow
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, State
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.sessions import Session
from understudy.supervisor.core.specs import AgentSpec

GIVEN_UP = (State.FATAL, State.UNKNOWN)  # Nobody is to come there for the sake of work that waits.
GONE = "no longer in the configuration"
# So long stays who was launched for the sake of some sessions, unless the agent says otherwise.
OWN_IDLE_STOP_S = 600.0
OCCUPIED = (State.STARTING, State.RUNNING, State.STOPPING, State.BACKOFF, State.FATAL)


@dataclass(slots=True, eq=False)
class Agent:
    """One agent. `actors`: by their places; the first is always there. `sessions`: how many it has.

    `restarts`: the budget of its first place, `beside`: those of others: a session at which one actor falls again and again
    does not cost the others theirs.
    `launch`: how it is launched; `own`: how it is for sessions with an environment of their own, by that. What is kept by
    environment has what concerns all others under "".
    """

    spec: AgentSpec
    launch: Launch
    restarts: Restarts
    actors: list[Actor] = field(default_factory=list[Actor])
    beside: dict[int, Restarts] = field(default_factory=dict[int, Restarts])
    own: dict[str, Launch] = field(default_factory=dict[str, Launch])
    running: int = 0
    queued: int = 0
    sessions: int = 0
    question_bytes: int = 0  # Of the open questions that only one client can answer.
    # By environment: sessions with turns that wait, since when (for their first turn, or since the one before it ended), the
    # oldest first.
    waiting: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    by_person: bool = False  # A person stopped it: it stays so until a person starts it.
    apart: str = ""  # Why it is set apart: an invariant of ours broke about it. A person's start ends that.
    departed: bool = False  # It left the configuration while something of it was under way: see `departed`.
    held_by: dict[str, int] = field(default_factory=dict[str, int])  # By environment: who wants its actors to stay up.
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
        most = self.spec.actors_max if self.spec.sessions_per_actor or self.own else 1
        return max(2 if self.own else 1, most)

    @property
    def is_lazy(self) -> bool:
        """Whether nobody plays it before a prompt needs it."""
        return self.spec.lazy and not self.awaited

    def may_rest(self, environment: str = "") -> bool:
        """Return whether nobody need play it there while there is nothing to do."""
        rests = bool(environment) or ((self.spec.lazy or self.spec.idle_stop_s > 0) and not self.awaited)
        return rests and not self.held_by.get(environment)

    def idle_stop_s(self, environment: str) -> float:
        """Return after how long without work its actors there are ended; 0: they stay."""
        return self.spec.idle_stop_s or (OWN_IDLE_STOP_S if environment else 0.0)

    def holds_by_name(self, environment: str) -> bool:
        """Return whether an actor that plays a session there has that for itself until it is gone."""
        return bool(environment or self.spec.sessions_per_actor)

    def waits(self, session: Session, now: float) -> None:
        """Turns of the session wait, from now on if they did not before."""
        self.waiting.setdefault(session.environment, {}).setdefault(session.id, now)

    def waits_no_more(self, session: Session) -> None:
        """None does any more."""
        names = self.waiting.get(session.environment, {})
        names.pop(session.id, None)
        if not names:
            self.waiting.pop(session.environment, None)

    def waits_since(self, session: Session) -> float:
        """Return since when turns of the session wait, infinity when none does."""
        return self.waiting.get(session.environment, {}).get(session.id, math.inf)

    def all_waiting(self, without: Container[str] = ()) -> Iterator[str]:
        """Yield all sessions with turns, the oldest first, but of environments that are put into `without` on the way."""
        lines = []
        for environment, names in self.waiting.items():
            rest = iter(list(names.items()))
            name, since = next(rest)
            lines.append((since, name, environment, rest))
        heapify(lines)
        while lines:
            _, name, environment, rest = heappop(lines)
            if environment not in without:
                yield name
                following = next(rest, None)
                if following is not None:
                    heappush(lines, (following[1], following[0], environment, rest))

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

    def has_place(self, environment: str = "") -> bool:
        """Return whether one more actor may play it there. The first place is kept for one that is launched as the agent."""
        if not environment and not _is_taken(self.first, ""):
            return True
        most = max(2, self.spec.actors_max) if environment else self.spec.actors_max
        return 1 + sum(_is_taken(each, environment) for each in self.actors[1:]) < most

    def places_for(self, environment: str) -> list[Actor]:
        """Return the actors one of whom may be ended for the sake of sessions there."""
        return self.actors[1:] if environment else self.actors

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


def _is_taken(actor: Actor, environment: str) -> bool:
    """Return whether the actor has its place. One of whom something is left keeps it only from those who may play with it."""
    left = actor.state is State.UNKNOWN and actor.environment == environment
    return actor.state in OCCUPIED or left or actor.starts or actor.hindered is not None
