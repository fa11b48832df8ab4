"""The core: events and the time in, effects out. Pure.

It reads no clock, opens no file, starts no process, and does not know how the log is
written. A broken invariant (`AssertionError`) in one session sets that session apart with
its story; anywhere else it ends the supervisor, and the keeper starts the next one.
"""

import signal
from collections import defaultdict
from random import Random
from typing import assert_never

from understudy.protocol.environments import parts_of
from understudy.protocol.errors import SHUTTING_DOWN
from understudy.protocol.frames import (
    Goodbye,
    Ping,
    Recorded,
)
from understudy.protocol.news import ClientSilent, HouseIdle, PeerStuck
from understudy.supervisor.core import (
    actors,
    asks,
    at_rest,
    calls,
    casting,
    clients,
    control,
    departed,
    flow,
    follows,
    invariants,
    limits,
    lives,
    looks,
    losses,
    places,
    quarantine,
    requests,
    rests,
    starts,
    turns,
)
from understudy.supervisor.core.agent import Agent
from understudy.supervisor.core.events import (
    ActorSaid,
    ActorUnreachable,
    ClientLost,
    ClientSaid,
    Committed,
    Effect,
    EntriesRead,
    EnvironmentKept,
    EpochRow,
    Event,
    Exited,
    Finish,
    Kill,
    LogFailed,
    MarkRow,
    NotRead,
    RequestRead,
    RestRow,
    Sampled,
    SessionRead,
    SessionsRead,
    ShutdownAsked,
    Spawned,
    SpawnFailed,
    Suspended,
    Ticked,
    Unreadable,
)
from understudy.supervisor.core.house import House
from understudy.supervisor.core.launches import Launch
from understudy.supervisor.core.life import Actor, Reason, State, Why
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.restored import Restored, Shown
from understudy.supervisor.core.restoring import take_back
from understudy.supervisor.core.specs import AgentSpec, HouseSpec

PING_EVERY_S = 10.0  # So often all are asked whether they are there.
SILENT_S_MAX = 60.0  # A client that was silent for so long is forgotten.
RETURN_S = 5.0  # So long, after a fall of ours, actors and clients have to come back before anybody is taken for gone.


class Core:
    """The supervisor's decisions. `handle` takes what happened, `deadline` says when to come back at the latest."""

    def __init__(
        self,
        spec: HouseSpec,
        restored: Restored,
        shown: Shown,
        random: Random,
        living: list[Spawned],
        now: float,
        wall: float,
        epoch: int = 1,
        generation: int = 1,
        pid: int = 0,
        life: str = "",
    ) -> None:
        self.house = House(spec, random, epoch, generation, pid, life, now=now, wall=wall, idle_since=now)
        self._left = list(shown)
        self.house.epochs = restored.epochs
        launched = {agent.name for agent in spec.agents if not agent.launch}
        self._elsewhere = [Spawned(*each, 0, 0) for each in shown if each[0] not in launched]
        told = {each.actor for each in living if (each.actor, each.epoch) in restored.cast or each.plays is not None}
        oldest: dict[str, int] = {}
        for each in living:
            if each.actor not in told:
                oldest[each.actor] = min(each.epoch, oldest.get(each.actor, each.epoch))
        self._oldest = set(oldest.items())
        self._stopped = {name for name, when in restored.stopped.items() if when == life}
        stood = defaultdict[str, dict[str, RestRow]](dict)
        for key, row in restored.rests.items():
            if row.life == life:
                stood[key.partition("/")[0]][key] = row
        for agent_spec in spec.agents:
            self._add(agent_spec, stood[agent_spec.name])
        for agent in self.house.agents.values():
            for name in agent.spec.after:
                self.house.agents[name].awaited = True
        casts = {(each.actor, each.epoch): self._cast_of(each, restored) for each in living}
        playing = defaultdict[str, list[Spawned]](list)
        for each in living:
            playing[casts[each.actor, each.epoch][0]].append(each)
        spares = {each.actor for each in playing[""]}
        firsts = {name: epoch for (_, epoch), (name, place) in casts.items() if place == 1}
        self._resting = {
            name
            for name, each in self.house.agents.items()
            if rests.resting(each, firsts.get(name), each.launch.name in spares)
        }
        for process in sorted(living, key=lambda each: each.epoch):
            number = restored.marks.get((process.actor, process.epoch), 0)
            self._adopt(process, number, *casts[process.actor, process.epoch])
        for name, agent in self.house.agents.items():
            self._lie_down(agent, playing[name])
        for name, launch in self.house.launches.items():
            launch.epoch = restored.epochs.get(name, 0)
        for each in living:  # Who lives may have been started so late that the log did not hear of it.
            if each.actor in self.house.launches:
                launch = self.house.launches[each.actor]
                launch.epoch = max(each.epoch, launch.epoch)
        if living:
            self.house.return_due = now + RETURN_S
        take_back(self.house, restored, shown)

    def _add(self, spec: AgentSpec, stood: dict[str, RestRow]) -> None:
        """Set up one agent, and the launch that bears its name. `stood`: how its actors were written down."""
        house = self.house
        restarts = Restarts(spec.restart, house.random)
        name = spec.launch or spec.name
        if not spec.launch:
            launch = house.launches[name] = Launch(name, spec, restarts)
            launch.understudies = [Actor(name, spec, house.touch, since=house.now) for _ in range(spec.understudies)]
        launch = house.launches[name]
        launch.agents[spec.name] = None
        agent = house.agents[spec.name] = Agent(spec, launch, restarts, digest=rests.digest(spec))
        places.added(house, agent, 1)
        agent.rests.update(stood)
        for row in stood.values():
            rests.take_budget(agent, row)

    def _lie_down(self, agent: Agent, living: list[Spawned]) -> None:
        """Let those be at rest who are to stay so. `living`: the processes that play the agent."""
        if agent.name in self._resting:
            rests.rest(self.house, agent, agent.first, agent.rests[agent.name])
        for place, row in rests.left_over(agent, living):
            taken = any(each.place == place for each in agent.actors)
            launch = self._launch_of(agent, row.launch or agent.launch.name)
            actor = places.added(self.house, agent, agent.free_place() if taken else place, launch)
            rests.rest(self.house, agent, actor, row)

    def _cast_of(self, process: Spawned, restored: Restored) -> tuple[str, int]:
        """Return whom a process of an earlier supervisor's plays, and where: by the log, or by what it was started for.

        Of those of whom an older version tells nothing, the one with the lowest epoch plays.
        """
        written = restored.cast.get((process.actor, process.epoch))
        if written is not None:
            return written
        if process.plays is not None:
            return process.plays, process.place
        return (process.actor, 1) if (process.actor, process.epoch) in self._oldest else ("", 0)

    def _adopt(self, process: Spawned, number: int, plays: str, place: int) -> None:
        """Expect an actor back, in its place; it is ended when there is none for it."""
        house = self.house
        departed.expected(house, process, plays)
        agent = house.agents.get(plays)
        launch = house.launches.get(process.actor) if agent is None else self._launch_of(agent, process.actor)
        if launch is None or not (agent or launch.agents):  # It stood by for agents that left the configuration.
            self._elsewhere.append(process)
            house.effects.append(Kill(process.actor, process.epoch, signal.SIGKILL))
            return
        stays = agent is None or not agent.departed
        actor: Actor | None
        if agent is None:
            actor = next((each for each in launch.understudies if not each.lives), None)
            if actor is None:
                actor, stays = Actor(launch.name, launch.spec, house.touch, since=house.now), False
                launch.understudies.append(actor)
        elif launch is not places.launch_for(house, agent, parts_of(launch.name)[1]):
            # It was launched so before the configuration changed: what it has of the agent is settled once it is gone.
            actor, stays = places.added(house, agent, agent.free_place(), launch), False
        elif launch is not agent.launch:
            taken = any(each.place == place for each in agent.actors)
            actor = places.added(house, agent, agent.free_place() if taken else place, launch)
        else:
            there = {each.place: each for each in agent.actors}
            actor = there.get(place)
            if actor is None or actor.lives or plays in self._resting:
                actor = places.added(house, agent, agent.free_place() if place in there else place)
            stays = stays and actor.place <= (agent.places_max if agent.spec.sessions_per_actor else 1)
        launch.know(actor, process.epoch)
        grace_s = house.spec.orphan_grace_s + RETURN_S
        actor.adopt(process, number, grace_s, house.now, rests.running_since(agent, actor.name, process))
        actor.leaves = not stays

    def _launch_of(self, agent: Agent, name: str) -> Launch:
        """Return the launch of that name, of one that plays the agent, or did before the configuration changed."""
        house = self.house
        owner, environment = parts_of(name)
        if owner == agent.launch.name:
            return places.launch_for(house, agent, environment)
        if name not in house.launches:
            house.launches[name] = Launch(name, agent.launch.spec, agent.restarts)
        return house.launches[name]

    def start(self, now: float, wall: float) -> list[Effect]:
        """Start the cast, but what is at rest, lazy, and whom a person has stopped; return the first effects."""
        house = self.house
        house.now, house.wall = now, wall
        for launch in house.launches.values():
            if launch.epoch:  # The log may not have heard of it: see `Shell`.
                lives = launch.known.get(launch.epoch)
                told = (
                    (0, 0)
                    if lives is None or not lives.lives
                    else (lives.pid, lives.started, None, lives.agent, lives.place)
                )
                house.record(EpochRow(launch.name, launch.epoch, *told))
        leaving = [each for each in house.actors() if each.leaves and each.agent not in house.departed]
        for surplus in [each for each in leaving if not house.turns_of(each)]:
            house.effects.extend(surplus.leave(now))
        departed.start(house)
        for name, agent in house.agents.items():
            if agent.departed:
                continue
            if name in self._stopped:
                agent.by_person = True
                for each in agent.actors:
                    places.stop(house, each, Why(Reason.STOPPED, "stopped by a person"))
                rests.stopped(agent)
            elif name in self._resting:
                casting.after_fall(house, agent, agent.first)
            elif not agent.is_lazy or agent.waiting.get(""):
                agent.first.want()
            elif agent.first.state is State.STOPPED:
                agent.first.why = Why(Reason.IDLE, "lazy: a prompt starts it")
        for launch in house.launches.values():
            casting.prepare(house, launch)
            casting.dismiss(house, launch)
        for process in self._elsewhere:  # Their agents may be back one day: these epochs are taken.
            house.record(EpochRow(process.actor, process.epoch, process.pid, process.started))
        for actor, epoch in self._left:
            house.forget_marks(actor, epoch)
        self._end_step()
        return house.close_step()

    def deadline(self) -> float:
        """Return the monotonic time at which `Ticked` is due at the latest."""
        house = self.house
        if house.replan:
            # What is overdue already is due now: a tick is late only against what was promised, see `looks`.
            house.due = max(house.now, min([house.dues.first(), *self._dues()]))
            house.replan = False
        return house.due

    def _dues(self) -> list[float]:
        """Return when the house itself has to be looked at again."""
        house = self.house
        dues = [house.next_ping]
        dues.extend(turn.cancel_due for turn in house.cancels.values() if turn.cancel_due is not None)
        if house.spec.idle_exit_s and not house.clients and not house.stopping:
            dues.append(house.idle_since + house.spec.idle_exit_s)
        if house.return_due is not None:
            dues.append(house.return_due)
        return dues

    def _end_step(self) -> None:
        """Of the actors that this step touched: who plays, who starts, how they stand, and when to look at them again."""
        house = self.house
        casting.let_in(house)
        casting.succeed(house)
        if not house.stopping:
            starts.ask(house)
        rests.record(house)
        for actor in house.touched:
            looks.plan(house, actor)
        house.touched.clear()

    def handle(self, events: list[Event], now: float, wall: float) -> list[Effect]:
        """Apply `events`, which happened together; return what the shell must do, in order.

        `now` is monotonic seconds, for decisions; `wall` seconds since 1970, to be recorded.
        """
        house = self.house
        assert now >= house.now, "the clock went back"
        house.now, house.wall = now, wall
        for event in events:
            self._guarded(event)
        if house.shutdown_asked:
            hurry, house.shutdown_asked, house.hurry_asked = house.hurry_asked, False, False
            self._shut_down(hurry)
        if house.replan and (house.spec.actors_max or house.spec.memory_mb) and not house.stopping:
            limits.balance(house)
        if house.budget.freed:
            flow.go_on(house)
        if house.touched or house.freed:
            self._end_step()
        for acked in house.acks:
            house.record(MarkRow(acked.launch, acked.epoch, acked.number))
            house.tell_actor(acked, Recorded(acked.number), house.after, lazily=True)
        house.acks.clear()
        if house.waits:
            control.answer(house)
        if house.departed:
            departed.forget(house)
        self._finish_if_over()
        if house.grew:
            house.grew = requests.let_go(house) | at_rest.let_go(house)
        return house.close_step()

    def _guarded(self, event: Event) -> None:
        """Handle one event. What breaks in one session or agent takes that one out of play; at a client's frame, the client."""
        house = self.house
        if type(event) is Committed:  # It is about all: there is no one to take out of play.
            self._dispatch(event)
            return
        before = quarantine.before(house, event)
        try:
            self._dispatch(event)
            if before.session is not None:
                invariants.of_session(house, before.session)
        except Exception as error:
            before.give_back(house)
            if isinstance(event, ClientSaid) and quarantine.is_sound(house, before.session):
                clients.failed(house, event, error)
                return
            if not quarantine.contain(house, event, before.played, f"{type(error).__name__}: {error}"):
                raise

    def _dispatch(self, event: Event) -> None:
        house = self.house
        match event:
            case ActorSaid():
                actors.said(house, event.peer, event.frame)
            case EnvironmentKept():
                clients.kept(house, event)
            case ClientSaid():
                clients.said(house, event.peer, event.frame)
            case Committed(ticket=ticket):
                self._committed(ticket)
            case EntriesRead():
                follows.read(house, event)
            case SessionRead(found=row):
                at_rest.take_in(house, row)
            case RequestRead():
                requests.read(house, event)
            case NotRead(said=said, reason=reason, passes=passes):
                if isinstance(said, ClientSaid):
                    clients.not_read(house, said, reason, passes)
                else:
                    actors.not_read(house, said, reason, passes)
            case SessionsRead(found=rows):
                house.listed = rows
            case Unreadable():
                losses.unreadable(house, event)
            case ClientLost(peer=peer):
                clients.lost(house, peer)
            case ActorUnreachable(peer=peer):
                # Its exit is on the way, or its next hello: only these prove anything.
                flow.unreachable(house, peer)
            case Spawned() | SpawnFailed() | Exited() | Suspended() | Sampled():
                launch = house.launches.get(event.actor)
                if launch is not None:
                    lives.reported(house, launch, event)
                elif isinstance(event, Exited):  # Of an agent that left the configuration.
                    house.forget_marks(event.actor, event.epoch)
            case LogFailed(reason=reason):
                house.log_failure = reason
                house.log_failed_at = house.now if house.log_failed_at is None else house.log_failed_at
            case ShutdownAsked(hurry=hurry):
                self._shut_down(hurry)
            case Ticked():
                self._ticked()
            case _:
                assert_never(event)

    def _committed(self, ticket: int) -> None:
        house = self.house
        house.committed = ticket
        house.log_failed_at, house.log_failure = None, ""
        follows.feed(house)
        turns.handed(house)
        if house.cancels:
            turns.cancels_sent(house)

    def _shut_down(self, hurry: bool) -> None:
        house = self.house
        if not house.stopping:
            house.stopping = True
            for name in house.agents:
                calls.refuse(house, name, SHUTTING_DOWN, "the house is shutting down")
        elif not hurry:
            return
        for actor in list(house.actors()):
            if hurry:
                house.carry_out(actor.stop(house.now))
                house.carry_out(actor.kill(Why(Reason.STOPPED, "the house was told to hurry"), house.now))
            else:
                places.end(house, actor)

    def _finish_if_over(self) -> None:
        house = self.house
        if house.reload_asked and not house.stopping and not house.finished and not house.unfed:
            house.finished = True
            house.effects.append(Finish(reload=True))
        if not house.stopping or house.finished:
            return
        if not house.tally.living:
            house.finished = True
            for peer in house.clients:
                house.tell(peer, Goodbye("the house is shut down"), house.after)
            house.effects.append(Finish())

    def _ticked(self) -> None:
        house = self.house
        house.replan = True
        for (name, number), turn in list(house.cancels.items()):
            if turn.cancel_due is not None and house.now >= turn.cancel_due:
                turn.cancel_due = None
                its = house.sessions[name].actor
                if its is not None:
                    why = Why(Reason.DEAF, f"did not cancel turn {number} of {name} in time", (name, number))
                    house.carry_out(its.kill(why, house.now))
        looks.ticked(house, ping_idle=house.now >= house.next_ping)
        self._see_idle()
        if house.return_due is not None and house.now >= house.return_due:
            house.return_due = None
            asks.give_up_on(house, None)
        if house.now >= house.next_ping:
            house.next_ping = house.now + PING_EVERY_S
            self._ping()

    def _see_idle(self) -> None:
        """End a house that nobody needs: no client is there, and no turn is played but those that wait for an answer."""
        house, idle_s = self.house, self.house.spec.idle_exit_s
        if not idle_s or house.clients or house.stopping or house.now < house.idle_since + idle_s:
            return
        for actor in house.actors():
            queued = actor.agent and house.agents[actor.agent].queued
            comes = actor.state in (State.STARTING, State.BACKOFF)
            if (queued and comes) or any(not session.asks for session, _ in house.turns_of(actor)):
                house.idle_since = house.now
                return
        house.announce(HouseIdle(idle_s))
        house.shutdown_asked = True

    def _ping(self) -> None:
        """Ask every silent client; one that a send cannot reach comes back as `ClientLost`."""
        house = self.house
        if house.budget.crowded:
            self._give_up_still()
        for client in list(house.clients.values()):
            if not client.pinged:
                client.pinged = True
                house.tell(client.peer, Ping())
            elif house.now - client.heard > SILENT_S_MAX:
                house.announce(ClientSilent(client.name or client.id, house.now - client.heard))
                clients.lost(house, client.peer)

    def _give_up_still(self) -> None:
        """The house is full of what some do not take: give those up, the one with most first, until there is room."""
        house = self.house
        for peer in list(house.budget.still(house.now)):
            if house.budget.roomy:
                return
            size_mb = house.budget.windows[peer].under_way / (1 << 20)
            client, its = house.clients.get(peer), house.peers.get(peer)
            name = f"client {client.name or client.id}" if client is not None else f"agent {its.name if its else ''}"
            house.announce(PeerStuck(name, size_mb))
            if client is not None:
                clients.lost(house, peer)
            else:
                flow.unreachable(house, peer)
