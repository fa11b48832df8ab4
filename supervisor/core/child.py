"""The life of one actor, from spawn to reaped. Pure.

Every (state, event) pair is decided here; what it means for sessions is decided in `core`.

    STOPPED --start--> STARTING --hello--> RUNNING --exit--> BACKOFF --due--> STARTING
                          |                   |                 |--budget--> FATAL --start, retry--> STARTING
                          |                   |                 `--not to come back--> EXITED --start--> STARTING
                          `--exit, timeout----+--stop--> STOPPING --exit--> STOPPED
"""

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from understudy.protocol.frames import ActorHello
from understudy.supervisor.core.events import Exited, Kill, Spawn, Spawned
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.specs import AgentSpec

STORY_LINES_MAX = 64
CANNOT_START = (126, 127)  # What an actor, or a shell, exits with when there is no such program, or none to be run.
GOODBYE_S_MAX = 3.0  # An actor kills its program when the grace is over, and then has so long to end itself.


class State(Enum):
    """supervisord's names, with its meanings."""

    STOPPED = "STOPPED"  # Never started, waits for those it starts after, or was stopped.
    STARTING = "STARTING"  # Its process is made, or exists and is not ready.
    RUNNING = "RUNNING"  # It said that it is ready.
    BACKOFF = "BACKOFF"  # It fell, and waits to start again.
    STOPPING = "STOPPING"  # It was asked to end, and something of it may live.
    EXITED = "EXITED"  # It ended, and by its policy is not to come back.
    FATAL = "FATAL"  # It fell more often than its budget allows.
    UNKNOWN = "UNKNOWN"  # Something of it could not be ended, so another must not start.


LIVING = (State.STARTING, State.RUNNING, State.STOPPING)
AT_REST = (State.STOPPED, State.EXITED, State.FATAL, State.UNKNOWN)


@dataclass(slots=True)
class Line:
    """What the actors of one agent share: the last epoch that was given out, and the budget of restarts."""

    epoch: int
    restarts: Restarts
    player: "Child | None" = None
    actors: list["Child"] = field(default_factory=list["Child"])
    dependents: list["Child"] = field(default_factory=list["Child"])  # Of other agents, that start after this one.
    touch: "Callable[[], None]" = lambda: None  # To be called when something of it stands otherwise than before.
    understudy_mb: float = 0.0  # The most that an understudy had which was dismissed.


@dataclass(slots=True)
class Link:
    """When the actor was last heard, and since when a ping of ours waits for its answer.

    `welcome`: the ticket after which its hello is answered. Before that it answers nothing. `doubted`: it was stopped,
    and what it says may be from before.
    """

    heard: float = 0.0
    welcome: int = 0
    pinged: float | None = None
    silent: bool = False
    doubted: bool = False


@dataclass(slots=True)
class Child:
    """One actor: at most one process of it lives at any time, and `epoch` names which (0: none was started yet)."""

    name: str
    spec: AgentSpec
    line: Line
    epoch: int = 0
    state: State = State.STOPPED
    since: float = 0.0
    pid: int = 0
    started: int = 0
    peer: bytes | None = None
    link: Link = field(default_factory=Link)
    connection: int = 0  # Which of its connections that is.
    number: int = 0  # The last number of this epoch that is recorded or on its way into the log.
    why: str = ""
    last_words: str = ""
    due: float | None = None
    wanted: bool = True
    story: deque[str] = field(default_factory=lambda: deque[str](maxlen=STORY_LINES_MAX))
    ran_from: float = 0.0
    returning: bool = False  # It outlived its supervisor and has not said hello to this one yet,
    running_since: float | None = None  # which had it RUNNING since then.
    terminated: bool = False
    memory_mb: float = 0.0
    files: int = 0
    others: list[Line] = field(default_factory=list[Line])  # It starts only while their players are RUNNING.
    no_room: "Callable[[Child], str]" = lambda _: ""  # Says why it may not start now, by the limits of the house.
    held: bool = False  # It waits for one or the other,
    crowded: bool = False  # for room.
    played: bool = False  # A turn was handed over to this incarnation.
    by_person: bool = False  # A person stopped it: it stays so until a person starts it.
    cannot_start: bool = False  # Its last start failed, and so will the next unless somebody mends something.
    surplus: bool = False  # The configuration has no place for it any more: it is ended, and does not come back.
    apart: str = ""  # Why it is set apart: an invariant of ours broke about it. A person's start ends that.

    @property
    def title(self) -> str:
        """The name and epoch, as `ps` shows them."""
        return f"{self.name}#{self.epoch}"

    @property
    def hopeless(self) -> str:
        """Why the next start will fail, too, unless somebody mends something; "" when it may not."""
        if not self.cannot_start or self.state is not State.BACKOFF:
            return ""
        return f"{self.why}; it is tried again in the background"

    def start(self, now: float) -> list[Spawn]:
        """Somebody wants the actor: start it unless it lives or is about to."""
        self.wanted, self.apart = True, ""
        self.line.touch()
        if self.state is State.FATAL:
            self.line.restarts.forgive()
        return self._spawn(now) if self.state in AT_REST else []

    def released(self, now: float) -> list[Spawn]:
        """Another actor is RUNNING now, or has made room: start if this one waited for it."""
        return self._spawn(now) if self.held else []

    def recalled(self, now: float) -> list[Spawn]:
        """It ended and was not to come back, but turns wait for it: the same policy as for one that fell."""
        return self._fell(now) if self.state is State.EXITED else []

    def prepare(self, after_s: float, now: float) -> None:
        """Start it in a while, as an understudy: first comes whoever plays."""
        if self.state is State.STOPPED:
            self.wanted, self.held, self.crowded = True, False, False
            self._enter(State.BACKOFF, now, "an understudy, about to start", now + after_s)

    def adopt(self, living: Spawned, number: int, grace_s: float, now: float, running_since: float | None) -> None:
        """A process of an earlier supervisor's works on: expect its hello. `number`: its last one in the log."""
        assert self.state is State.STOPPED, f"{self.name} adopted while {self.state.name}"
        self.epoch, self.pid, self.started = living.epoch, living.pid, living.started
        self.number, self.returning, self.played = number, True, True
        self.running_since = running_since
        self.ran_from = now if running_since is None else running_since
        self._enter(State.STARTING, now, "works on; expected back", now + max(grace_s, self.spec.start_timeout_s))

    def spawned(self, event: Spawned, now: float) -> None:
        """The keeper forked it."""
        if event.epoch != self.epoch or self.state not in LIVING:
            return
        self.pid, self.started, self.ran_from = event.pid, event.started, now

    def greeted(self, hello: ActorHello, peer: bytes, now: float) -> bool:
        """Take the actor's hello on connection `peer`; return False for another incarnation's, or a late one."""
        if hello.epoch != self.epoch or self.state not in (State.STARTING, State.RUNNING):
            return False
        if hello.connection <= self.connection:
            return False
        if self.pid and hello.pid != self.pid:  # Of another house, which was killed on the same runtime folder.
            return False
        self.peer, self.connection = peer, hello.connection
        self.pid = self.pid or hello.pid  # The keeper's word may come later.
        if self.state is State.STARTING and hello.ready:
            self._enter(State.RUNNING, now, "back" if self.returning else "ready")
            if self.returning and self.running_since is not None:
                self.since = self.running_since
            self.returning = False
        return True

    def stop(self, now: float) -> list[Kill]:
        """Nobody wants it any more. The caller has asked a connected actor to end; a silent one is terminated."""
        self.wanted = self.held = self.crowded = False
        match self.state:
            case State.STARTING | State.RUNNING:
                self._enter(State.STOPPING, now, "asked to stop", now + self.spec.stop_grace_s + GOODBYE_S_MAX)
                self.terminated = self.peer is None
                return [Kill(self.name, self.epoch, signal.SIGTERM)] if self.terminated else []
            case State.BACKOFF:
                self._enter(State.STOPPED, now, "stopped while it waited to start again")
            case State.FATAL | State.EXITED:
                self.line.restarts.forgive()
                self._enter(State.STOPPED, now, f"stopped; before that: {self.why}")
            case State.STOPPED | State.UNKNOWN | State.STOPPING:
                pass
        return []

    def set_apart(self, why: str, gone: bool, now: float) -> list[Kill]:
        """An invariant of ours broke about it: end it, and start it no more by itself. `gone`: nothing of it lives."""
        self.apart = f"set apart: {why}; understudy restart {self.name}"
        self.wanted = self.held = self.crowded = self.returning = False
        if self.state is State.UNKNOWN and not gone:
            return []  # Something of it lives: that matters more.
        if gone or self.state not in LIVING:
            self.peer, self.pid = None, 0
            self._enter(State.FATAL, now, self.apart)
            return []
        self._enter(State.STOPPING, now, self.apart)
        return [Kill(self.name, self.epoch, signal.SIGKILL)]

    def rest(self, state: State, why: str, since: float, apart: bool) -> None:
        """It was at rest before this supervisor came."""
        assert self.state is State.STOPPED, f"{self.name} is to rest while {self.state.name}"
        retry_s = self.spec.restart.fatal_retry_s if state is State.FATAL and not apart else 0.0
        self._enter(state, since, why, since + retry_s if retry_s else None)
        self.ran_from, self.apart = since, why if apart else ""

    def end_surplus(self, now: float) -> list[Kill]:
        """There is no place for it: nobody is started in another's until it is gone."""
        self.surplus, self.wanted = True, False
        self._enter(State.STOPPING, now, "more actors live than the configuration has places for")
        return [Kill(self.name, self.epoch, signal.SIGKILL)]

    def stay_stopped(self, now: float) -> list[Kill]:
        """A person stopped it before this supervisor came; what is left of it, if anything, is still to end."""
        self.by_person = True
        self.line.touch()
        if self.state is not State.UNKNOWN:
            self.why = "stopped by a person"
        return self.stop(now)

    def kill(self, why: str, now: float) -> list[Kill]:
        """End it at once, for `why`; it comes back by its policy when it is wanted."""
        if self.state not in LIVING:
            return []
        self.why = why
        self.story.append(f"{now:.3f} killed: {why}")
        self.due = None
        return [Kill(self.name, self.epoch, signal.SIGKILL)]

    def exited(self, event: Exited, now: float, wait_s_min: float = 0.0) -> list[Spawn]:
        """Nothing of the incarnation lives any more. `wait_s_min`: nobody waits for the next, so long at least."""
        if event.epoch != self.epoch:
            return []
        assert self.state in LIVING, f"{self.title} exited while {self.state.name}"
        stopping, comes_back = self.state is State.STOPPING, self.comes_back(event)
        self.cannot_start = self.state is State.STARTING and event.status in CANNOT_START
        self.why = self.last_words or self.why_exit(event.status)
        self.peer, self.pid, self.last_words, self.memory_mb, self.files = None, 0, "", 0.0, 0
        if event.survivors:
            remedy = f"end them, then: understudy start {self.name}"
            self._enter(State.UNKNOWN, now, f"{event.survivors} process(es) of it could not be ended: {remedy}")
            return []
        if self.apart:
            self._enter(State.FATAL, now, self.apart)
            return []
        if stopping:
            return self._stopped(now)
        return self._fell(now, wait_s_min) if comes_back else self._exited(now)

    def comes_back(self, event: Exited) -> bool:
        """Return whether another is to be started after that end, by its policy."""
        stays_away = event.survivors or self.apart or self.state is State.STOPPING
        return not stays_away and self.line.restarts.returns(event.status)

    def failed_to_spawn(self, epoch: int, reason: str, now: float) -> list[Spawn]:
        """There is no process: the same policy as for one that fell."""
        if epoch != self.epoch or self.state not in LIVING:
            return []
        self.why = f"could not be forked: {reason}"
        if self.state is State.STOPPING:
            return self._stopped(now)
        return self._fell(now) if self.line.restarts.returns(None) else self._exited(now)

    def ticked(self, now: float) -> list[Spawn | Kill]:
        """A deadline may have passed."""
        if self.due is None or now < self.due:
            return []
        match self.state:
            case State.BACKOFF | State.FATAL:
                return [*self._spawn(now)]
            case State.STARTING:
                waited = f"within {now - self.since:.0f} s"
                return [*self.kill(f"did not come back {waited}" if self.returning else f"was not ready {waited}", now)]
            case State.STOPPING:
                # Asked, waited; now the group, whatever it is doing.
                self.due = None
                return [Kill(self.name, self.epoch, signal.SIGKILL)]
            case State.RUNNING | State.STOPPED | State.EXITED | State.UNKNOWN:
                raise AssertionError(f"{self.title}: nothing is due while {self.state.name}")

    def why_exit(self, status: int) -> str:
        """Say in words how it ended."""
        if self.why.startswith(("was not ready", "did not come back")):
            return self.why
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
            return f"killed by {name}"
        return f"exited with status {status}"

    def _spawn(self, now: float) -> list[Spawn]:
        waited = self.held
        missing = [
            f"{line.player.name} ({line.player.state.value})"
            for line in (*self.others, self.line)  # An understudy starts after whoever plays: see `Role`.
            if line.player is not None and line.player is not self and line.player.state is not State.RUNNING
        ]
        # Beside an older one it would not be taken for the player, should a supervisor find both: see `Role`.
        plays = self.line.player is self
        ending = [each.title for each in self.line.actors if plays and each is not self and each.state in LIVING]
        if missing:
            why = f"starts when RUNNING: {', '.join(missing)}"
        elif ending:
            why = f"starts when ended: {', '.join(ending)}"
        else:
            why = self.no_room(self)
        self.held, self.crowded = bool(why), bool(why) and not (missing or ending)
        if why:
            if waited and self.state is State.STOPPED:
                self.why = why
                self.line.touch()
            else:
                self._enter(State.STOPPED, now, why)
            return []
        self.line.epoch += 1
        self.epoch = self.line.epoch
        self.number, self.connection, self.peer, self.pid, self.ran_from = 0, 0, None, 0, now
        self.returning = self.played = self.cannot_start = False
        self.link = Link(now)
        self._enter(State.STARTING, now, "starting", now + self.spec.start_timeout_s)
        return [Spawn(self.name, self.epoch, self.spec.name)]

    def _stopped(self, now: float) -> list[Spawn]:
        self._enter(State.STOPPED, now, self.why)
        return self._spawn(now) if self.wanted else []

    def _exited(self, now: float) -> list[Spawn]:
        self._enter(State.EXITED, now, self.why)
        return []

    def _fell(self, now: float, wait_s_min: float = 0.0) -> list[Spawn]:
        wait_s = self.line.restarts.fell(now - self.ran_from)
        if wait_s is None:
            policy = self.spec.restart
            self._enter(
                State.FATAL,
                now,
                f"{self.why}; gave up after {policy.intensity} restarts within {policy.period_s:g} s of running",
                now + policy.fatal_retry_s if policy.fatal_retry_s else None,
            )
            return []
        wait_s = max(wait_s, wait_s_min)
        if wait_s == 0.0:
            return self._spawn(now)
        self._enter(State.BACKOFF, now, f"{self.why}; next start in {wait_s:.1f} s", now + wait_s)
        return []

    def _enter(self, state: State, now: float, why: str, due: float | None = None) -> None:
        self.story.append(f"{now:.3f} {self.title} {self.state.name} -> {state.name}: {why}")
        if state is not State.RUNNING and state is not State.STARTING:
            self.why = why
        self.state, self.since, self.due = state, now, due
        self.line.touch()
