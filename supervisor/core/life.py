"""The life of one actor's process, from its start until nothing of it lives. Pure; it knows no other actor.

`TABLE` is the machine: what becomes of each state by each step. A pair that is not in it is a mistake of ours.

    STOPPED   -> STARTING  started, adopted
    STOPPED   -> STOPPED   held
    STOPPED   -> BACKOFF   prepared
    STOPPED   -> EXITED    retired
    STOPPED   -> FATAL     given_up
    STOPPED   -> UNKNOWN   survived
    STARTING  -> RUNNING   ready
    STARTING  -> STOPPING  asked, set_apart
    STARTING  -> BACKOFF   fell
    STARTING  -> EXITED    retired
    STARTING  -> FATAL     given_up
    STARTING  -> UNKNOWN   survived
    RUNNING   -> STOPPING  asked, set_apart
    RUNNING   -> BACKOFF   fell
    RUNNING   -> EXITED    retired
    RUNNING   -> FATAL     given_up
    RUNNING   -> UNKNOWN   survived
    BACKOFF   -> STARTING  started
    BACKOFF   -> STOPPED   held, asked
    BACKOFF   -> FATAL     given_up
    STOPPING  -> FATAL     given_up
    STOPPING  -> UNKNOWN   survived
    STOPPING  -> STOPPED   ended
    STOPPING  -> STOPPING  set_apart
    EXITED    -> STARTING  started
    EXITED    -> STOPPED   held, asked
    EXITED    -> BACKOFF   fell
    EXITED    -> FATAL     given_up
    FATAL     -> STARTING  started
    FATAL     -> STOPPED   held, asked
    FATAL     -> FATAL     given_up
    UNKNOWN   -> STARTING  started
    UNKNOWN   -> STOPPED   held
"""

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from understudy.protocol.environments import parts_of
from understudy.protocol.frames import ActorHello
from understudy.supervisor.core.events import Kill, Spawn, Spawned
from understudy.supervisor.core.specs import AgentSpec

STORY_LINES_MAX = 64
GOODBYE_S_MAX = 3.0  # An actor kills its program when the grace is over, and then has so long to end itself.


class State(Enum):
    """supervisord's names, with its meanings."""

    STOPPED = "STOPPED"  # Never started, waits for others to start it, or was stopped.
    STARTING = "STARTING"  # Its process is made, or exists and is not ready.
    RUNNING = "RUNNING"  # It said that it is ready.
    BACKOFF = "BACKOFF"  # It fell, and waits to start again.
    STOPPING = "STOPPING"  # It was asked to end, and something of it may live.
    EXITED = "EXITED"  # It ended, and by its policy is not to come back.
    FATAL = "FATAL"  # It fell more often than its budget allows.
    UNKNOWN = "UNKNOWN"  # Something of it could not be ended, so another must not start.


class Step(Enum):
    """What happens to an actor."""

    STARTED = "nothing hinders its start"
    HELD = "something hinders its start"
    PREPARED = "to be an understudy, soon"
    ADOPTED = "works on from an earlier supervisor"
    READY = "says hello, ready"
    ASKED = "is to end"
    FELL = "is gone, and comes back"
    RETIRED = "is gone, not to come back"
    GIVEN_UP = "is gone, too often"
    ENDED = "is gone, as asked"
    SURVIVED = "is not gone whole"
    SET_APART = "an invariant broke about it"


_AT_REST = (State.STOPPED, State.BACKOFF, State.EXITED, State.FATAL, State.UNKNOWN)
_UP = (State.STARTING, State.RUNNING)
TABLE: dict[tuple[State, Step], State] = {
    **{(state, Step.STARTED): State.STARTING for state in _AT_REST},
    **{(state, Step.HELD): State.STOPPED for state in _AT_REST},
    (State.STOPPED, Step.PREPARED): State.BACKOFF,
    (State.STOPPED, Step.ADOPTED): State.STARTING,
    (State.STARTING, Step.READY): State.RUNNING,
    **{(state, Step.ASKED): State.STOPPING for state in _UP},
    **{(state, Step.ASKED): State.STOPPED for state in (State.BACKOFF, State.EXITED, State.FATAL)},
    **{(state, Step.FELL): State.BACKOFF for state in (*_UP, State.EXITED)},
    **{(state, Step.RETIRED): State.EXITED for state in (*_UP, State.STOPPED)},  # STOPPED: the log says so,
    **{(state, Step.GIVEN_UP): State.FATAL for state in State},  # also here,
    **{(state, Step.SURVIVED): State.UNKNOWN for state in (*_UP, State.STOPPING, State.STOPPED)},  # and here.
    (State.STOPPING, Step.ENDED): State.STOPPED,
    **{(state, Step.SET_APART): State.STOPPING for state in (*_UP, State.STOPPING)},
}
del TABLE[State.UNKNOWN, Step.GIVEN_UP]  # Something of it lives: that matters more.

LEAVES = "more actors live than the configuration has places for"
LIVING = (State.STARTING, State.RUNNING, State.STOPPING)
AT_REST = (State.STOPPED, State.EXITED, State.FATAL, State.UNKNOWN)
STAYING = (State.STARTING, State.RUNNING)


def diagram() -> str:
    """Return the table in words: for each state, where which steps lead."""
    lines = []
    for state in State:
        ways: dict[State, list[str]] = {}
        for (at, step), to in TABLE.items():
            if at is state:
                ways.setdefault(to, []).append(step.name.lower())
        lines += [f"    {state.name:<9} -> {to.name:<9} {', '.join(steps)}" for to, steps in ways.items()]
    return "\n".join(lines)


class Reason(Enum):
    """Why an actor is as it is, for whoever must tell one from another: texts are for people."""

    NONE = "none"
    WAITS = "waits"  # Something hinders its start, or it waits for its time.
    LATE = "late"  # It was not ready in time, or did not come back.
    DEAF = "deaf"  # It did not cancel a turn in time.
    LIMIT = "limit"
    HANGS = "hangs"
    ENDED = "ended"  # It ended by itself, or by somebody's signal.
    NO_PROCESS = "no process"
    STOPPED = "stopped"
    IDLE = "idle"
    APART = "apart"
    LEFT = "left"  # Something of it could not be ended.
    FAULTY = "faulty"  # It said what it must not.


UNTIL_STARTED = (Reason.WAITS, Reason.IDLE, Reason.STOPPED)  # Why nobody plays: not true any more of one that starts.


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, in words for people. `turn`: the session and number of the turn that it is about. `then`: what is to come
    of it, which is not true any more once that has come.
    """

    reason: Reason = Reason.NONE
    text: str = ""
    turn: tuple[str, int] | None = None
    then: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.then}" if self.then else self.text


class Hindrance(Enum):
    """What a start waits for."""

    OTHERS = "others"  # Agents that it starts after,
    ENDING = "ending"  # one of its own that is on its way out,
    PLAYERS = "players"  # as an understudy: those that play,
    ROOM = "room"  # a place within the limits of the house.


class InvalidStepError(AssertionError):
    """A step that nothing may take; the text has the actor's story."""


@dataclass(slots=True)
class Heard:
    """When the actor was last heard, and since when a ping of ours waits for its answer.

    `welcome`: the ticket after which its hello is answered. Before that it answers nothing. `doubted`: it was suspended,
    and what it says may be from before.
    """

    at: float = 0.0
    welcome: int = 0
    pinged: float | None = None
    silent: bool = False
    doubted: bool = False


@dataclass(slots=True, eq=False)
class Actor:
    """One actor: at most one process of it lives at any time; its launch and `epoch` name which (0: none was started yet).

    `agent`: whom it plays, in which `place` (from 1 on); "" while it is an understudy. `changed` is called when it stands
    otherwise than before.
    """

    launch: str
    spec: AgentSpec  # Of its launch.
    changed: "Callable[[Actor], None]" = lambda _: None
    agent: str = ""
    place: int = 0
    epoch: int = 0
    state: State = State.STOPPED
    since: float = 0.0
    why: Why = Why()
    due: float | None = None
    story: deque[str] = field(default_factory=lambda: deque[str](maxlen=STORY_LINES_MAX))
    # Its process.
    pid: int = 0
    started: int = 0
    ran_from: float = 0.0
    returning: bool = False  # It outlived its supervisor and has not said hello to this one yet,
    running_since: float | None = None  # which had it RUNNING since then.
    terminated: bool = False
    last_words: Why | None = None
    memory_mb: float = 0.0
    files: int = 0
    # Its connection.
    peer: bytes | None = None
    connection: int = 0  # Which of its connections that is.
    heard: Heard = field(default_factory=Heard)
    number: int = 0  # The last number of this epoch that is recorded or on its way into the log.
    # What is to become of it.
    starts: bool = False  # It is to start as soon as nothing hinders it.
    wanted: bool = False  # When it ends as it was asked to, it is to start again.
    hindered: Hindrance | None = None  # By that, when it was asked last.
    leaves: bool = False  # There is no place for it any more: once nothing of it lives it is forgotten.
    vain: int = 0  # Its last starts, in a row, after which it was not ready.
    cannot_start: bool = False  # Its last start failed, and so will the next unless somebody mends something.
    # What it plays.
    playing: dict[str, None] = field(default_factory=dict[str, None])  # Sessions; may still hold some without a turn.
    # Where few may be: the sessions that its program knows, or is to know, with the epoch of which that is recorded.
    holds: dict[str, int] = field(default_factory=dict[str, int])
    resuming: dict[str, None] = field(default_factory=dict[str, None])  # Whose turns are to be handed over once more.
    # (session, ask) -> Whose answers wait for room on the way to it.
    ungiven: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])
    played: bool = False  # A turn was handed over to this incarnation.
    idle_from: float = 0.0  # It was last seen with something to do.
    environment: str = field(init=False)  # Of the sessions for which it was launched, "" for its agent's own.

    def __post_init__(self) -> None:
        self.environment = parts_of(self.launch)[1]

    @property
    def name(self) -> str:
        """The agent's name, with the place when that is not the first; of an understudy the launch's."""
        if not self.agent:
            return self.launch
        return self.agent if self.place == 1 else f"{self.agent}/{self.place}"

    @property
    def title(self) -> str:
        """The name and epoch, as messages show them."""
        return f"{self.name}#{self.epoch}"

    @property
    def lives(self) -> bool:
        """Whether something of it may live."""
        return self.state in LIVING

    @property
    def hopeless(self) -> str:
        """Why the next start will fail, too, unless somebody mends something; "" when it may not."""
        if not self.cannot_start or self.state is not State.BACKOFF:
            return ""
        return f"{self.why}; it is tried again in the background"

    # --- starting ---

    def want(self) -> None:
        """Somebody wants it: it is to start unless it lives or is about to."""
        self.wanted = True
        self.starts = self.starts or self.state in AT_REST
        self.changed(self)

    def start(self, epoch: int, now: float) -> Spawn:
        """Nothing hinders it: its process is to be made, as `epoch`."""
        self._to(Step.STARTED)
        self.epoch, self.starts, self.hindered = epoch, False, None
        self.number, self.connection, self.peer, self.pid, self.ran_from = 0, 0, None, 0, now
        self.returning = self.played = self.cannot_start = False
        self.heard = Heard(now)
        self.why = Why() if self.why.reason in UNTIL_STARTED else replace(self.why, then="")
        self._take(Step.STARTED, now, Why(text="starting"), now + self.spec.start_timeout_s)
        return Spawn(self.launch, epoch, self.spec.name, self.agent, self.place)

    def held(self, by: Hindrance, why: Why, now: float) -> None:
        """Something hinders its start."""
        waited, self.hindered = self.hindered is not None, by
        if not (waited and self.state is State.STOPPED):
            self._take(Step.HELD, now, why)
        elif self.why != why:
            self.why = why
            self.changed(self)

    def prepare(self, after_s: float, now: float) -> None:
        """Start it in a while, as an understudy: first comes whoever plays."""
        if self.state is State.STOPPED and not self.starts:
            self.wanted = True
            why = Why(Reason.WAITS, "an understudy, about to start")
            self._take(Step.PREPARED, now, why, now + after_s)

    def adopt(self, living: Spawned, number: int, grace_s: float, now: float, running_since: float | None) -> None:
        """A process of an earlier supervisor's works on: expect its hello. `number`: its last one in the log."""
        self._to(Step.ADOPTED)
        self.epoch, self.pid, self.started = living.epoch, living.pid, living.started
        self.number, self.returning, self.played, self.wanted = number, True, True, True
        self.running_since = running_since
        self.ran_from = now if running_since is None else running_since
        due = now + max(grace_s, self.spec.start_timeout_s)
        self._take(Step.ADOPTED, now, Why(text="works on; expected back"), due)

    def spawned(self, event: Spawned, now: float) -> None:
        """The keeper forked it."""
        if event.epoch == self.epoch and self.lives:
            self.pid, self.started, self.ran_from = event.pid, event.started, now

    def greeted(self, hello: ActorHello, peer: bytes, now: float) -> bool:
        """Take the actor's hello on connection `peer`; return False for another incarnation's, or a late one."""
        if hello.epoch != self.epoch or self.state not in STAYING:
            return False
        if hello.connection <= self.connection:
            return False
        if self.pid and hello.pid != self.pid:  # Of another house, which was killed on the same runtime folder.
            return False
        self.peer, self.connection = peer, hello.connection
        self.pid = self.pid or hello.pid  # The keeper's word may come later.
        if self.state is State.STARTING and hello.ready:
            self._take(Step.READY, now, Why(text="back" if self.returning else "ready"))
            if self.returning and self.running_since is not None:
                self.since = self.running_since
            self.returning, self.idle_from, self.vain = False, now, 0
        return True

    # --- ending ---

    def stop(self, now: float, why: Why | None = None) -> list[Kill]:
        """Nobody wants it any more. The caller has asked a connected actor to end; a silent one is terminated."""
        self.wanted = self.starts = False
        self.hindered = None
        match self.state:
            case State.STARTING | State.RUNNING:
                due = now + self.spec.stop_grace_s + GOODBYE_S_MAX
                self._take(Step.ASKED, now, why or Why(Reason.STOPPED, "asked to stop"), due)
                self.terminated = self.peer is None
                return [Kill(self.launch, self.epoch, signal.SIGTERM)] if self.terminated else []
            case State.BACKOFF:
                self._take(Step.ASKED, now, why or Why(Reason.STOPPED, "stopped while it waited to start again"))
            case State.FATAL | State.EXITED:
                self._take(Step.ASKED, now, why or Why(Reason.STOPPED, f"stopped; before that: {self.why}"))
            case State.STOPPED:
                self.why = why or self.why
                self.changed(self)
            case State.UNKNOWN | State.STOPPING:
                self.changed(self)
        return []

    def set_apart(self, why: Why, gone: bool, now: float) -> list[Kill]:
        """An invariant of ours broke about it: end it, and start it no more by itself. `gone`: nothing of it lives."""
        self.wanted = self.starts = self.returning = False
        self.hindered = None
        if self.state is State.UNKNOWN:
            self.changed(self)
            return []  # Something of it lives: that matters more.
        if gone or not self.lives:
            self.peer, self.pid = None, 0
            self._take(Step.GIVEN_UP, now, why)
            return []
        self._take(Step.SET_APART, now, why)
        return [Kill(self.launch, self.epoch, signal.SIGKILL)]

    def leave(self, now: float) -> list[Kill]:
        """There is no place for it: it is ended, and nobody is started in its place until it is gone."""
        self.leaves = True
        kills = self.stop(now, Why(Reason.STOPPED, LEAVES))
        return [*kills, *([Kill(self.launch, self.epoch, signal.SIGKILL)] if self.lives else [])]

    def kill(self, why: Why, now: float) -> list[Kill]:
        """End it at once, for `why`; it comes back by its policy when it is wanted."""
        if not self.lives:
            return []
        self.why, self.due = why, None
        self.story.append(f"{now:.3f} killed: {why}")
        return [Kill(self.launch, self.epoch, signal.SIGKILL)]

    def gone(self, step: Step, now: float, why: Why, due: float | None = None) -> None:
        """Nothing of the incarnation lives any more, or (SURVIVED) not all of it could be ended. `due`: of its next start."""
        self.peer, self.pid, self.last_words, self.memory_mb, self.files = None, 0, None, 0.0, 0
        self.resuming.clear()
        self.ungiven.clear()
        self._take(step, now, why, due)
        self.starts = (step is Step.FELL and due is not None and due <= now) or (step is Step.ENDED and self.wanted)

    def rest(self, step: Step, why: Why, since: float, due: float | None) -> None:
        """It was at rest before this supervisor came."""
        self._take(step, since, why, due)
        self.ran_from = since

    def ticked(self, now: float) -> list[Kill]:
        """A deadline may have passed."""
        if self.due is None or now < self.due:
            return []
        match self.state:
            case State.BACKOFF | State.FATAL:
                self.starts, self.due = True, None
                self.changed(self)
                return []
            case State.STARTING:
                waited = f"within {now - self.since:.0f} s"
                text = f"did not come back {waited}" if self.returning else f"was not ready {waited}"
                return self.kill(Why(Reason.LATE, text), now)
            case State.STOPPING:
                # Asked, waited; now the group, whatever it is doing.
                self.due = None
                return [Kill(self.launch, self.epoch, signal.SIGKILL)]
            case State.RUNNING | State.STOPPED | State.EXITED | State.UNKNOWN:
                raise AssertionError(f"{self.title}: nothing is due while {self.state.name}")

    def why_exit(self, status: int) -> Why:
        """Say how it ended."""
        if self.last_words is not None:
            return self.last_words
        if self.why.reason in (Reason.LATE, Reason.DEAF):
            return self.why
        if status >= 0:
            return Why(Reason.ENDED, f"exited with status {status}")
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return Why(Reason.ENDED, f"killed by {name}")

    def _to(self, step: Step) -> State:
        to = TABLE.get((self.state, step))
        if to is None:
            raise InvalidStepError(f"{self.title} is {self.state.name}: {step.value}; {' | '.join(self.story)}")
        return to

    def _take(self, step: Step, now: float, why: Why, due: float | None = None) -> None:
        to = self._to(step)
        self.story.append(f"{now:.3f} {self.title} {self.state.name} -> {to.name}: {why}")
        if to not in STAYING:
            self.why = why
        self.state, self.since, self.due = to, now, due
        self.changed(self)
