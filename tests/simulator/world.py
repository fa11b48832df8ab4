"""The world of one seed: it chooses what happens next, lets the faults strike, heals, and waits for rest."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from tests.simulator.actors import Actor
from tests.simulator.cast import draw
from tests.simulator.clients import Client, Ledger
from tests.simulator.disk import Health
from tests.simulator.house import FellError, Supervisor, supervise
from tests.simulator.keeper import Keeper
from tests.simulator.promises import Promises
from tests.simulator.scene import Scene, Wire
from understudy.protocol.frames import Verb
from understudy.protocol.standing import Standing
from understudy.supervisor.core.events import ActorSaid, ClientSaid, Sampled, Spawned, Ticked
from understudy.supervisor.core.life import AT_REST, Hindrance, State
from understudy.supervisor.core.life import Actor as Cast
from understudy.supervisor.core.specs import HouseSpec

REST_STEPS_MAX = 8_000  # After the schedule: so many steps until nothing waits any more.
REST_S_MAX = 600.0
LOOK_EVERY_STEPS = 5


class World:
    """Everything that exists, for one seed. `weather`: the seed of the wall clock's jumps, which decide nothing."""

    def __init__(self, seed: int, weather: int = 0, frames_too: bool = False) -> None:
        cast, random = draw(seed)
        self.scene = Scene(seed, cast, random, Random(weather), frames_too=frames_too)
        self.promises = Promises(self.scene.disk, {agent.name: agent for agent in cast.spec.agents})
        self.keeper = Keeper(self.scene, self.promises)
        self.ledger = Ledger()
        self.made = 0
        self.clients = [self._client() for _ in range(cast.clients)]
        self.starts = self.steps = self.lives = 0
        self.away_until = 0.0
        self.disk_until = 0.0
        self.living: list[Spawned] = []
        self.whole = cast.spec  # The configuration, before anybody changed it.
        self.supervisor: Supervisor | None = None
        self._start()

    def _client(self) -> Client:
        self.made += 1
        return Client(self.scene, self.promises, self.ledger, f"c{self.made}")

    # --- the supervisor's life ---

    def _start(self) -> None:
        self.starts += 1
        self.scene.say(f"supervisor {self.starts} starts; {[each.epoch for each in self.living]} live")
        self.supervisor = supervise(
            self.scene, self.promises, self.keeper, self.living, self.starts, f"life {self.lives}"
        )
        self._run(Supervisor.begin)

    def fall(self, away_s: float = 0.0) -> None:
        """The supervisor is dead, with what it had not committed; its keeper starts the next, now or later."""
        self.scene.say("the supervisor is dead")
        self.living = self.keeper.supervisor_died()
        self.promises.forgotten_stops |= self.promises.stops
        self._close(away_s)

    def _close(self, away_s: float) -> None:
        """Nobody is there to connect to, until the next start."""
        self.supervisor, self.scene.bound = None, False
        self.scene.cut_all()
        for actor in self.keeper.living():
            actor.cut()
        for client in self.clients:
            client.cut()
        self.away_until = self.scene.now + away_s

    def reload(self, spec: HouseSpec) -> None:
        """The supervisor steps aside for one with another configuration; actors work on."""
        self.scene.say(f"reload: {[(each.name, each.understudies, each.on_crash.value) for each in spec.agents]}")
        self.fall()
        self.scene.cast = replace(self.scene.cast, spec=spec)
        self.promises.ended.clear()  # What is set up anew begins anew.
        self.promises.agents.update({agent.name: agent for agent in spec.agents})

    def end_house(self) -> None:
        """Keeper and supervisor are gone, and all actors with them; somebody starts the house again."""
        self.keeper.end_everything()
        self.lives += 1
        self.living = []
        self._close(0.0)

    def power_fails(self, lost: int) -> None:
        """The machine stops: so does everybody, and the last commits and any of the marks are gone."""
        self.scene.say(f"the power fails; {lost} commits are lost")
        self.scene.boot += 1
        for marks in self.scene.files.values():
            if self.scene.random.random() < 0.5:
                marks.slots.clear()
        self.promises.power_failed(lost)
        self.ledger.sessions = {
            name: agent for name, agent in self.ledger.sessions.items() if name in self.scene.disk.sessions
        }
        self.end_house()

    def replace(self, client: Client) -> None:
        """The client's process is dead; another one comes."""
        client.cut()
        self.clients[self.clients.index(client)] = self._client()

    def _run(self, act: Callable[[Supervisor], None]) -> None:
        """Let the supervisor act; see whether it fell over it, or is done."""
        if self.supervisor is None:
            return
        try:
            act(self.supervisor)
        except FellError:
            self.fall()
            return
        if self.supervisor.finished:
            self.scene.say("the house is shut down")
            alive = [each.title for each in self.keeper.living()]
            assert not alive, f"the house is shut down while {alive} live"
            self.end_house()

    # --- one step ---

    def step(self) -> None:
        """Let a little time pass, and one thing happen."""
        scene = self.scene
        self.steps += 1
        self._pass(scene.random.uniform(0.0, 0.02))
        choices = self._choices()
        if not choices:
            self._leap()
            return
        scene.random.choice(choices)()
        if self.supervisor is not None:
            self._run(Supervisor.handle)

    def _pass(self, seconds: float) -> None:
        self.scene.now += seconds
        self.scene.wall += seconds + (
            self.scene.weather.uniform(-1e5, 1e5) if self.scene.weather.random() < 0.01 else 0
        )

    def _choices(self) -> list[Callable[[], None]]:
        """Return what can happen now; what happens often stands there more than once."""
        scene, house = self.scene, self.supervisor
        choices: list[Callable[[], None]] = []
        if house is None:
            if scene.now >= self.away_until:
                choices.append(self._start)
        elif not house.is_halted:
            if house.inbox:
                choices.append(lambda: None)
            if self.keeper.reports:
                choices += [house.hear_keeper] * 2
            if house.outbox.records and (scene.disk.health is not Health.SLOW or scene.now >= self.disk_until):
                choices += [self._commit] * 4
            if scene.now >= house.deadline():
                choices.append(lambda: house.inbox.append(Ticked()))
        if any(self._movable()):
            choices += [self._move] * (scene.cast.pace if scene.faulty else 5)
        if self.keeper.has_work():
            choices += [self.keeper.work] * 2
        for actor in self.keeper.living():
            if actor.has_work():
                choices.append(actor.act)
        for client in self.clients:
            hungry = scene.faulty and not client.is_halted and scene.random.random() < scene.cast.appetite
            if client.has_work() or hungry:
                choices.append(client.act)
        return choices

    def _commit(self) -> None:
        self._run(Supervisor.commit)

    def _movable(self) -> Iterator[tuple[Wire, bool]]:
        """Yield the wires that have something, and whether it goes up."""
        scene, now = self.scene, self.scene.now
        listens = self.supervisor is not None and not self.supervisor.is_halted
        if listens:
            for wire in scene.late:
                if wire.held_until <= now:
                    yield wire, True
        for wire in scene.wires.values():
            if wire.held_until <= now:
                if wire.up and listens:
                    yield wire, True
                if wire.down and not self._is_halted(wire):
                    yield wire, False

    def _is_halted(self, wire: Wire) -> bool:
        if not wire.of_actor:
            return any(each.wire is wire and each.is_halted for each in self.clients)
        return any(each.wire is wire and each.halted for each in self.keeper.actors.values())

    def _move(self) -> None:
        """A few frames of one wire arrive."""
        wire, upward = self.scene.random.choice(list(self._movable()))
        for _ in range(self.scene.random.choice((1, 2, 5))):
            if upward and wire.up and self.supervisor is not None:
                said = ActorSaid if wire.of_actor else ClientSaid
                frame = wire.up.popleft()
                self.scene.tell(f"{int.from_bytes(wire.peer)} ->", frame)
                self.supervisor.inbox.append(said(wire.peer, frame))  # type: ignore[arg-type]
            elif not upward and wire.down:
                self._hear(wire)
        if wire in self.scene.late and not wire.up:
            self.scene.late.remove(wire)

    def _hear(self, wire: Wire) -> None:
        frame = wire.down.popleft()
        ends: list[Actor | Client] = [*self.keeper.living(), *self.clients]
        end = next((each for each in ends if each.wire is wire), None)
        if end is not None:
            name = end.title if isinstance(end, Actor) else end.name
            self.scene.tell(f"{int.from_bytes(wire.peer)} {name} <-", frame)
            end.hear(frame)

    def _leap(self) -> None:
        """Nothing can happen before some time has passed: let it."""
        scene, house = self.scene, self.supervisor
        dues = [actor.due() for actor in self.keeper.living()]
        dues += [wire.held_until for wire in [*scene.wires.values(), *scene.late]]
        dues += [self.disk_until, self.away_until, *(client.halted_until for client in self.clients)]
        if house is not None:
            dues += [house.halted_until, house.deadline()]
        scene.now = min([due for due in dues if due > scene.now], default=scene.now)

    # --- promises ---

    def check(self) -> None:
        """Look whether everything holds."""
        if self.supervisor is not None:
            self.promises.check(self.supervisor.core)
        # What is over waits in vain for its go, until the actor hears that it is cancelled.
        plays = [turn for actor in self.keeper.living() for turn in actor.plays if turn not in self.promises.endings]
        holders = [turn[0] for turn in plays]
        assert len(holders) == len(set(holders)), f"sessions are played twice at once: {sorted(holders)}"

    def heal(self) -> None:
        """The schedule is over: no more faults, and a person starts what rests."""
        scene = self.scene
        scene.say("--- the schedule is over ---")
        scene.faulty, scene.disk.health = False, Health.WELL
        if scene.cast.spec != self.whole:
            self.reload(self.whole)
        self.disk_until = self.away_until = scene.now
        self.keeper.fork_fails = self.keeper.start_fails = self.keeper.leaves_process = False
        for actor in self.keeper.living():
            actor.halted = False
        for client in self.clients:
            client.halted_until = scene.now
        for wire in scene.wires.values():
            wire.held_until = scene.now
        if self.supervisor is not None:
            self.supervisor.halted_until, self.supervisor.fuse = scene.now, -1
            self.supervisor.core.breaks = False
            for actor in self.keeper.living():
                self.supervisor.inbox.append(Sampled(actor.name, actor.epoch, 1.0, 1))

    def rest(self) -> None:
        """Go on until nothing waits any more."""
        self.heal()
        until = self.scene.now + REST_S_MAX
        for at in range(REST_STEPS_MAX):
            if at % LOOK_EVERY_STEPS == 0:
                if not self.waiting():
                    return
                if self.scene.now > until:
                    break
                self._wish()
            self.step()
            self.check()
        raise AssertionError(f"waits for ever: {self.waiting()}")

    def _wish(self) -> None:
        """Cancel what would play for ever, once: a cancel that is told must do. Start again what rests."""
        if self.supervisor is None:
            return
        client = self.clients[0]
        if not any(isinstance(each, Verb) for other in self.clients for each in other.machine.pending.values()):
            for name, agent in self.supervisor.core.house.agents.items():
                rests = agent.first.state in AT_REST and not agent.first.starts
                if rests and not (self._may_rest(agent.first) and not agent.queued):
                    client.verb("start", name)
                    client.flush()
        for turn, row in self.scene.disk.turns.items():
            text = self.promises.texts.get((turn[0], row.request), "")
            if turn in self.promises.endings or turn in self.ledger.healed or turn in self.promises.cancel_told:
                continue
            if not text.startswith("short") and self.supervisor.core.house.sessions[turn[0]].current is not None:
                self.ledger.healed.add(turn)
                client.cancel(*turn)
                client.flush()

    def _may_rest(self, actor: Cast) -> bool:
        """Return whether an actor need not run when nobody wants anything."""
        assert self.supervisor is not None
        spec = self.scene.cast.agent(actor.agent or actor.launch)
        if actor.place == 1:
            house = self.supervisor.core.house
            beside = any(each.state is State.RUNNING for each in house.agents[actor.agent].others(actor))
            if beside and actor.state is State.STOPPED:
                return True  # The house has no room for both.
            starts = actor.starts and actor.hindered is not Hindrance.ROOM  # For which nobody goes who only idles.
            needed = starts or any(actor.agent in each.after for each in self.scene.cast.spec.agents)
            return actor.state is State.STOPPED and (spec.lazy or bool(spec.idle_stop_s)) and not needed
        gone = actor.state in (State.FATAL, State.UNKNOWN, State.EXITED)
        return gone or actor.hindered is Hindrance.ROOM or (actor.state is State.STOPPED and self._is_quiet(actor))

    def _is_quiet(self, actor: Cast) -> bool:
        """Return whether an actor beside the first need not be there: none is asked for, or nobody runs whom it helps."""
        assert self.supervisor is not None
        house = self.supervisor.core.house
        if actor.agent:
            return not actor.starts
        agents = [house.agents[name] for name in house.launches[actor.launch].agents]
        players = [each for agent in agents for each in agent.actors if each.launch == actor.launch]
        return any(each.starts for each in players) or not any(each.state is State.RUNNING for each in players)

    def waiting(self) -> str:
        """Return what is not at rest, in words; "" when everything is."""
        house = self.supervisor.core.house if self.supervisor is not None else None
        if house is None or self.supervisor is None:
            return "a supervisor"
        open_turns = [turn for turn in self.scene.disk.turns if turn not in self.promises.endings]
        if open_turns:
            return (
                f"turns {open_turns} for their endings; {[(each, self.scene.disk.states[each]) for each in open_turns]}"
            )
        for client in self.clients:
            if not client.is_content:
                return f"{client.name} for {list(client.machine.pending.values())}, {client.seen}, {client.questions}"
        left = [*house.cancels, *house.calls, *house.waits, *house.unfed, *self.supervisor.outbox.records]
        left += [name for session in house.sessions.values() for name in [*session.asks, *session.mailbox]]
        if left:
            return f"the house for {left}"
        for each in house.actors():
            if each.state is not State.RUNNING and not self._may_rest(each):
                return f"{each.title}, {each.state.value}: {each.why}"
        for actor in self.keeper.living():
            if not actor.machine.all_recorded or actor.machine.standing is not Standing.UP:
                return f"{actor.title}, {actor.machine.standing} to be heard"
            plays = [turn for turn in actor.plays if turn[0] not in self.promises.broken]
            if plays:  # In a session that was set apart the agent may go on in vain.
                return f"{actor.title} for {plays}"
        return ""
