"""The supervisor's double: its loop around the core, which sees whether what the core wants may be."""

import signal
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import msgspec

from tests.simulator.disk import Health
from tests.simulator.keeper import Keeper
from tests.simulator.promises import Promises
from tests.simulator.scene import Scene
from understudy.protocol.environments import parts_of
from understudy.protocol.frames import ActorCall, Call, CancelTurn, Fault, Frame, Handover, Prompt, Stop, Verb
from understudy.protocol.news import AgentSetApart, SessionSetApart
from understudy.supervisor.core import at_rest
from understudy.supervisor.core.budget import Limits
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    ActorUnreachable,
    Announce,
    ClientLost,
    ClientSaid,
    Effect,
    EntriesRead,
    EnvironmentKept,
    Event,
    Exited,
    Finish,
    ForgetMarks,
    KeepEnvironment,
    Kill,
    LogFailed,
    ReadEntries,
    Record,
    Spawn,
    Spawned,
    SpawnFailed,
    TellActor,
    TellClient,
)
from understudy.supervisor.core.life import Actor as Cast
from understudy.supervisor.core.life import Reason, State
from understudy.supervisor.core.outbox import Act, Outbox
from understudy.supervisor.core.specs import Comeback, RestartPolicy

SOON_S = 0.1  # In one schedule of two sessions give their places to others so soon.
TIGHT = Limits(1500, 600, 4000, 500, 20, 200)  # What waits for room in one schedule of three.


class FellError(Exception):
    """The supervisor was killed in the middle of a step."""


@dataclass(slots=True)
class Budget:
    """An account of its own of the restarts in one place, on a clock that goes only while its actors run."""

    clock: float = 0.0
    granted: list[float] = field(default_factory=list[float])

    def is_spent(self, ran_s: float, policy: RestartPolicy) -> bool:
        """Count a fall after `ran_s`; return whether it is one too many."""
        self.clock += ran_s
        recent = sum(at > self.clock - policy.period_s for at in self.granted)
        if recent < policy.intensity:
            self.granted.append(self.clock)
        return recent >= policy.intensity


class Fragile(Core):
    """The core, in which something breaks once it has done all, as a mistake of ours would."""

    broken: set[str]  # The sessions in which it did.
    breaks = False
    broke = False  # The event that is handled.
    choosy = False  # It breaks only where an event has to do with more than its own turn.

    def _dispatch(self, event: Event) -> None:
        super()._dispatch(event)
        frame = event.frame if isinstance(event, ActorSaid) else None
        of_session = getattr(frame, "session", "") in self.house.sessions
        of_agent = isinstance(event, Exited) and event.actor in self.house.launches
        if self.breaks and (of_session or of_agent) and (self._is_wide(frame) or not self.choosy):
            self.breaks, self.broke = False, True
            self.broken.add(getattr(frame, "session", ""))
            raise AssertionError("broken by the schedule")

    def _is_wide(self, frame: Frame | None) -> bool:
        """Return whether what `frame` did let a turn of another session through, or a call of its session waits."""
        session = getattr(frame, "session", "")
        admitted = any(each.id != session for each in self.house.admitted)
        return admitted or any(each.session == session for each in self.house.calls.values())


@dataclass(eq=False, slots=True)
class Supervisor:
    """One incarnation of the supervisor. What it had not committed falls with it."""

    scene: Scene
    promises: Promises
    keeper: Keeper
    core: Fragile
    inbox: list[Event] = field(default_factory=list[Event])
    outbox: Outbox = field(default_factory=Outbox)
    budgets: dict[str, Budget] = field(default_factory=dict[str, Budget])
    unaccounted: set[str] = field(default_factory=set[str])  # Set apart once: nobody knows what of that counts.
    began: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])  # When who began to run.
    fuse: int = -1  # So many effects are carried out before it is killed; negative: none is lit.
    newest: dict[str, int] = field(default_factory=dict[str, int])  # The epochs that it was told of.
    wanted: int = 0  # The last ticket before a client wanted something: an agent that ended by then may start.
    halted_until: float = 0.0
    finished: bool = False

    @property
    def is_halted(self) -> bool:
        """Whether it is stopped (SIGSTOP)."""
        return self.scene.now < self.halted_until

    def deadline(self) -> float:
        """Return when the core is to be woken."""
        return self.core.deadline()

    def begin(self) -> None:
        """Carry out what a start takes."""
        effects = self.core.start(self.scene.now, self.scene.wall)
        for effect in effects:
            if isinstance(effect, Kill) and effect.signal == signal.SIGKILL:
                had = self.keeper.actors.get((effect.actor, effect.epoch))
                open_turns = set(had.plays if had is not None else ()) & set(self.scene.disk.turns)
                lost = [turn for turn in open_turns - set(self.promises.endings) if turn[0] not in self.promises.broken]
                assert not lost, f"{effect} at a start, in the midst of {lost}"
        self.run(effects)

    def handle(self) -> None:
        """Give the core what has come: what came together at once, but each fall alone, to keep its account."""
        events, self.inbox = self.inbox, []
        together: list[Event] = []
        for event in events:
            if isinstance(event, Exited | SpawnFailed):
                self._step(together)
                self._fall(event)
                together = []
            else:
                together.append(event)
        self._step(together)

    def _step(self, events: list[Event]) -> None:
        if not events:
            return
        before, shown, unknown = self._fatal(), self._states(), self._unknown()
        known = set(self.core.house.actors())
        self.began |= {(each.actor, each.epoch): self.scene.now for each in events if isinstance(each, Spawned)}
        ticket = self.core.house.ticket
        named = at_rest.with_past(self.core.house, events, self.scene.disk)
        effects = self.core.handle(named, self.scene.now, self.scene.wall)
        if any(isinstance(each, ClientSaid) and isinstance(each.frame, Verb | Prompt | Call) for each in events):
            # A person may start whom he wants; what a client asks for may be cancelled again in the same step.
            self.promises.ended.clear()
            self.wanted = ticket
        if any(isinstance(each, ClientSaid) for each in events):
            after = self._fatal()
            for name in before:
                if after[name] < before[name]:
                    self.budgets[name] = Budget()  # Somebody asked for it: it is forgiven.
        new = {each.name for each in self.core.house.actors() if each.agent and each not in known}
        for name in (before.keys() - self._fatal().keys()) | new:
            self.budgets.pop(name, None)  # There is no such place any more, or another has it.
        if len(events) == 1:
            self._see_refusals(effects)
            self._see_idle(effects)
        if not any(isinstance(each, ClientSaid) and isinstance(each.frame, Verb) for each in events):
            assert unknown <= self._unknown(), f"something of {unknown} lives, and it is started beside that"
        if self._states() != shown:
            actors = self.core.house.actors()
            self.scene.say(", ".join(f"{each.title}{each.agent and '!'} {each.state.value}" for each in actors))
        self.run(effects)

    def _unknown(self) -> set[str]:
        """Return the agents of whom something lives that could not be ended."""
        return {name for name, agent in self.core.house.agents.items() if agent.first.state is State.UNKNOWN}

    def _see_refusals(self, effects: list[Effect]) -> None:
        for effect in effects:
            if (
                isinstance(effect, TellClient)
                and isinstance(effect.frame, Fault)
                and effect.frame.code == "limit_reached"
            ):
                agents = self.core.house.agents.values()
                full = any(agent.queued >= agent.spec.queued_turns_max for agent in agents)
                assert full, f"{effect.frame}, though no queue is full"

    def _see_idle(self, effects: list[Effect]) -> None:
        """See that nobody is stopped for idleness while something waits for him."""
        for effect in effects:
            if not (isinstance(effect, TellActor) and isinstance(effect.frame, Stop)):
                continue
            actor = self._actor(*self.scene.whose[effect.peer])
            if actor is not None and actor.why.reason is Reason.IDLE and actor.agent:
                agent = self.core.house.agents[actor.agent]
                few = agent.spec.sessions_per_actor
                own = parts_of(actor.launch)[1]
                all_of = {name: since for names in agent.waiting.values() for name, since in names.items()}
                mine = agent.waiting.get(own, {})
                waits = {name: since for name, since in mine.items() if not few or name in actor.holds}
                others = [since for name, since in all_of.items() if name not in waits]
                others += [each.since for each in self.core.house.calls.values() if each.agent == agent.name]
                longest = min(others, default=self.scene.now)
                fair = self.scene.now - longest >= self.core.house.yields_after_s and longest < min(
                    waits.values(), default=0
                )
                assert fair or not waits, f"{actor.title} is stopped for idleness, and {waits} wait for it"

    def _states(self) -> list[tuple[int, State]]:
        """Return who plays and who stands by, in which state."""
        return [(each.epoch, each.state) for each in self.core.house.actors()]

    def _fatal(self) -> Counter[str]:
        """Return whom we count restarts for, with how many of it are FATAL."""
        found: Counter[str] = Counter()
        for each in self.core.house.actors():
            found[each.name] += each.state is State.FATAL
        return found

    def _fall(self, fall: Exited | SpawnFailed) -> None:
        actor = self._actor(fall.actor, fall.epoch)
        whose = fall.actor if actor is None else actor.name
        is_fatal = self._is_one_too_many(fall, actor, whose)
        budget = self.budgets.get(whose)
        self.core.broke = False
        self._step([fall])
        if self.core.broke:
            self.unaccounted.add(whose.partition("/")[0])
        if is_fatal is not None and actor is not None and whose.partition("/")[0] not in self.unaccounted:
            text = f"{fall.actor}#{fall.epoch} fell at {self.scene.now:.3f}, now {actor.state}; {budget}"
            assert (actor.state is State.FATAL) is is_fatal, text

    def _actor(self, launch: str, epoch: int) -> Cast | None:
        """Return the actor whose incarnation that is."""
        there = self.core.house.launches.get(launch)
        return there.known.get(epoch) if there is not None else None

    def _is_one_too_many(self, fall: Exited | SpawnFailed, actor: Cast | None, whose: str) -> bool | None:
        """Return whether this fall is one too many, by our own account; None when it does not count."""
        if actor is None or actor.state not in (State.STARTING, State.RUNNING):
            return None
        if (isinstance(fall, Exited) and fall.survivors) or actor.environment:
            return None  # Who was launched for some sessions gives up sooner, when no start of his succeeds.
        policy = self.core.house.agents[whose.partition("/")[0]].spec.restart
        if policy.policy is not Comeback.PERMANENT:
            return None
        budget = self.budgets.setdefault(whose, Budget())
        return budget.is_spent(self.scene.now - self.began[fall.actor, fall.epoch], policy)

    def run(self, effects: list[Effect]) -> None:
        """Carry out effects in order, unless it is killed meanwhile."""
        for effect in effects:
            self._burn()
            if isinstance(effect, Record):
                self.scene.tell("record", effect.rows)
            due = self.outbox.take(effect)
            if due is not None:
                self._act(due)

    def _burn(self) -> None:
        if self.fuse == 0:
            raise FellError
        self.fuse -= self.fuse > 0

    def _act(self, effect: Act) -> None:
        match effect:
            case TellClient() | TellActor():
                self._send(effect)
            case ForgetMarks(actor=actor, epoch=epoch):
                self.scene.files.pop((actor, epoch), None)
            case Spawn():
                self.began[effect.actor, effect.epoch] = self.scene.now
                self._see_leave(effect)
                living = [each.epoch for each in self.keeper.living() if each.name == effect.actor]
                living += [
                    each.epoch
                    for each in self.keeper.requests
                    if isinstance(each, Spawn) and each.actor == effect.actor
                ]
                self.promises.spawned(effect.actor, effect.epoch, living, self.newest.get(effect.actor, 0))
                self.keeper.requests.append(effect)
            case KeepEnvironment(peer=peer, frame=frame):
                self.scene.environments.add(frame.env["E"])
                frame = msgspec.structs.replace(frame, env={})
                self.inbox.append(EnvironmentKept(peer, frame, effect.frame.env["E"]))
            case Kill():
                self._judge(effect)
                self.keeper.requests.append(effect)
            case ReadEntries():
                entries = self.scene.disk.read(effect.session, effect.number, effect.bytes_max)
                self.inbox.append(EntriesRead(effect.peer, effect.follow, entries, effect.serial))
            case Announce(news=SessionSetApart(why=why) | AgentSetApart(why=why)):
                assert "broken by the schedule" in why, why
            case Announce():
                pass
            case Finish():
                self.finished = True

    def _see_leave(self, spawn: Spawn) -> None:
        """See that the spawn is wanted. (It may be stopped in the very step that started it.)"""
        house = self.core.house
        most = house.spec.actors_max
        living = [each for each in house.actors() if each.lives]
        assert not most or len(living) <= most, f"{len(living)} live, {most} may, and another is spawned"
        actor = self._actor(spawn.actor, spawn.epoch)
        if actor is not None and actor.state is not State.STOPPING:
            assert not house.stopping, f"{actor.title} is spawned while the house shuts down"
            served = [
                house.agents[name] for name in ([spawn.plays] if spawn.plays else house.launches[spawn.actor].agents)
            ]
            assert not all(each.by_person for each in served), f"{actor.title} is spawned, though a person stopped it"
        if actor is not None and actor.state is not State.STOPPING and spawn.plays:
            agent = house.agents[spawn.plays]
            ended = self.promises.ended.get(actor.name) == house.life
            wanted = agent.queued or agent.running or any(each.agent == spawn.plays for each in house.calls.values())
            assert not ended or wanted, f"{actor.title} is spawned, though it had ended and nobody wants it"
            self.promises.ended.pop(actor.name, None)

    def _judge(self, kill: Kill) -> None:
        """See that nobody is killed for a cancel that it had no time for."""
        actor = self._actor(kill.actor, kill.epoch)  # None: its agent left the configuration.
        if actor is not None and actor.why.reason is Reason.DEAF and actor.why.turn is not None:
            self.promises.killed_for_cancel(kill.actor, kill.epoch, actor.why.turn, self.scene.now)

    def _send(self, effect: TellClient | TellActor) -> None:
        if isinstance(effect.frame, CancelTurn):
            turn = (effect.frame.session, effect.frame.turn)
            self.promises.cancel_sent[*self.scene.whose[effect.peer], turn] = self.scene.now
        if isinstance(effect.frame, Stop) and self.core.house.log_failed_at is None:
            actor = self._actor(*self.scene.whose[effect.peer])
            if actor is not None and actor.why.reason is Reason.IDLE:
                self.promises.idled(actor.launch, actor.epoch)
        wire = self.scene.wires.get(effect.peer)
        if wire is not None and isinstance(effect, TellActor) and isinstance(effect.frame, Fault):
            self._see_refused(*self.scene.whose[effect.peer])
        if wire is not None:
            wire.down.append(self._complete(effect) if isinstance(effect, TellActor) else effect.frame)
        elif isinstance(effect, TellActor):
            self.inbox.append(ActorUnreachable(effect.peer))
        else:
            self.inbox.append(ClientLost(effect.peer))

    def _complete(self, effect: TellActor) -> Frame:
        """Return the frame with what it misses, from the log."""
        frame, disk = effect.frame, self.scene.disk
        if not effect.missing:
            return frame
        assert isinstance(frame, Handover | ActorCall), frame
        found: dict[str, bytes] = {}
        for name in effect.missing:
            if name == "opening":
                found[name] = disk.sessions[frame.session].opening
            elif name == "memory":
                found[name] = disk.memories[frame.session]
            elif isinstance(frame, Handover):
                found[name] = disk.content(frame.session, frame.turn)
        return msgspec.structs.replace(frame, **found)

    def _see_refused(self, actor: str, epoch: int) -> None:
        known = self._actor(actor, epoch)
        expected = known is not None and known.state in (State.STARTING, State.RUNNING)
        assert not expected, f"{actor}#{epoch} is refused, though it is expected"

    def commit(self) -> None:
        """Write what waits for it, or the first part; release what waited, and tell the core."""
        if self.scene.disk.health is Health.FULL:
            self.inbox.append(LogFailed("full"))
            return
        records = self.outbox.records
        count = len(records) if self.scene.random.random() < 0.8 else self.scene.random.randint(1, len(records))
        for record in records[:count]:
            self.promises.committed(record, self.scene.now, self.wanted)
        released, committed = self.outbox.written(count)
        for each in released:
            self._burn()
            self._act(each)
        self.inbox.append(committed)

    def hear_keeper(self) -> None:
        """Take the keeper's next report; with an exit, what the dead actor's agent may have seen."""
        report = self.keeper.reports.popleft()
        if isinstance(report, Exited):
            shown = self.scene.shown((report.actor, report.epoch))
            report = Exited(
                report.actor,
                report.epoch,
                report.pid,
                report.status,
                report.swept,
                report.survivors,
                None if shown is None else sorted(shown),
            )
        self.inbox.append(report)


def supervise(
    scene: Scene, promises: Promises, keeper: Keeper, living: list[Spawned], start: int, life: str
) -> Supervisor:
    """Start a supervisor: from the log, the files that dead actors left, and the keeper's word on who lives."""
    restored = scene.disk.restore()
    alive = {(each.actor, each.epoch) for each in living}
    shown = {key: scene.shown(key) for key in scene.files if key not in alive}
    for actor, epoch in shown:
        restored.epochs[actor] = max(epoch, restored.epochs.get(actor, 0))
    random = Random(scene.random.random())
    core = Fragile(
        scene.cast.spec, restored, shown, random, living, scene.now, scene.wall, start, scene.boot, life=life
    )
    core.broken, core.choosy = promises.broken, scene.seed % 2 == 1
    if scene.seed % 3 == 0:
        core.house.budget.limits = TIGHT
    if scene.seed % 4 < 2:  # What is at rest goes at once, or nearly.
        core.house.sessions_kept_max = core.house.requests_kept_max = scene.seed % 4
    if scene.seed % 2 == 0:
        core.house.yields_after_s = SOON_S
    newest = {each.actor: each.epoch for each in sorted(living, key=lambda each: each.epoch)}
    supervisor = Supervisor(scene, promises, keeper, core, newest=newest)
    digests = {name: agent.digest for name, agent in core.house.agents.items()}
    for row in restored.rests.values():
        agent = row.agent.partition("/")[0]
        if row.life == life and row.digest == digests.get(agent):  # Else it is set up anew, and begins anew.
            supervisor.budgets[row.agent] = Budget(row.ran_s, list(row.granted))
    for each in living:
        plays, place = restored.cast.get((each.actor, each.epoch), (each.plays, each.place))
        written = restored.rests.get(f"{plays}/{place}" if place > 1 else str(plays))
        ran = written is not None and (written.life, written.state, written.epoch) == (life, "RUNNING", each.epoch)
        supervisor.began[each.actor, each.epoch] = written.since if ran and written is not None else scene.now
    _see_places(core, restored.cast, living)
    scene.bound = True
    return supervisor


def _see_places(core: Core, cast: dict[tuple[str, int], tuple[str, int]], living: list[Spawned]) -> None:
    """See that each that lives is who it was, in the place that it had, if there is one for it."""
    for each in living:
        plays, place = cast.get((each.actor, each.epoch), (each.plays, each.place))
        agent, launch = core.house.agents.get(plays or ""), core.house.launches.get(each.actor)
        if agent is None or launch is None or launch not in (agent.launch, *agent.own.values()):
            continue
        if place > agent.places_max:
            continue
        actor = launch.known[each.epoch]
        found = (actor.agent, actor.place)
        assert found == (plays, place), f"{each.actor}#{each.epoch} was {plays} in place {place}, and is now {found}"
        if actor.environment and not agent.departed:
            assert not actor.leaves, f"{each.actor}#{each.epoch} is ended by a start, though it has its place"
