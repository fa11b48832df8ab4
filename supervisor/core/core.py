"""The core: events and the time in, effects out. Pure.

It reads no clock, opens no file, starts no process, and does not know how the log is
written. A broken invariant (`AssertionError`) in one session sets that session apart with
its story; anywhere else it ends the supervisor, and the keeper starts the next one.
"""

import signal
from functools import partial
from random import Random
from typing import assert_never

from understudy.protocol.errors import SHUTTING_DOWN
from understudy.protocol.frames import (
    Goodbye,
    Ping,
    Recorded,
    Stop,
)
from understudy.supervisor.core import (
    actors,
    asks,
    calls,
    casting,
    clients,
    control,
    flow,
    follows,
    hangs,
    invariants,
    limits,
    lives,
    losses,
    quarantine,
    rests,
    turns,
)
from understudy.supervisor.core.child import LIVING, Child, Line, State
from understudy.supervisor.core.events import (
    ActorSaid,
    ActorUnreachable,
    ClientLost,
    ClientSaid,
    Committed,
    Effect,
    EntriesRead,
    EpochRow,
    Event,
    Exited,
    Finish,
    Kill,
    LogFailed,
    MarkRow,
    Sampled,
    ShutdownAsked,
    Spawned,
    SpawnFailed,
    Stopped,
    Ticked,
    Unreadable,
)
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.restored import Restored, Shown
from understudy.supervisor.core.restoring import take_back
from understudy.supervisor.core.specs import HouseSpec

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
        self._elsewhere = [
            Spawned(*each, 0, 0) for each in shown if each[0] not in {agent.name for agent in spec.agents}
        ]
        self._stopped = {name for name, when in restored.stopped.items() if when == life}
        for agent in spec.agents:
            # Who lives may have been started so late that the log did not hear of it.
            epochs = [restored.epochs.get(agent.name, 0), *(each.epoch for each in living if each.actor == agent.name)]
            line = Line(max(epochs), Restarts(agent.restart, random), touch=partial(self.house.touch, agent.name))
            line.touch()
            line.actors = actors = [Child(agent.name, agent, line, since=now) for _ in range(1 + agent.understudies)]
            line.player = actors[0]
            for child in actors:
                child.no_room = lambda each: limits.no_room(self.house, each)
            role = self.house.roles[agent.name] = Role(actors[0], actors[1:], digest=rests.digest(agent))
            row = restored.rests.get(agent.name)
            if row is not None and row.life == life:
                rests.take_budget(role, row)
        for agent in spec.agents:
            actors = self.house.roles[agent.name].actors
            for line in (self.house.roles[name].child.line for name in agent.after):
                line.dependents.extend(actors)
                for child in actors:
                    child.others.append(line)
        of = {name: [each for each in living if each.actor == name] for name in self.house.roles}
        self._resting = {name for name, role in self.house.roles.items() if rests.resting(role, of[name])}
        for process in sorted(living, key=lambda each: each.epoch):
            self._adopt(process, restored.marks.get((process.actor, process.epoch), 0))
        if living:
            self.house.return_due = now + RETURN_S
        take_back(self.house, restored, shown)

    def _adopt(self, process: Spawned, number: int) -> None:
        """Expect an actor back; an agent at rest stays so beside its understudies."""
        house = self.house
        role = house.roles.get(process.actor)
        if role is None:
            self._elsewhere.append(process)
            house.effects.append(Kill(process.actor, process.epoch, signal.SIGKILL))
            return
        places = role.understudies if process.actor in self._resting else role.actors
        child = next((each for each in places if each.state is State.STOPPED), None) or role.added(house.now)
        grace_s = house.spec.orphan_grace_s + RETURN_S
        child.adopt(process, number, grace_s, house.now, rests.running_since(role, process))
        if role.actors.index(child) > child.spec.understudies:
            house.effects.extend(child.end_surplus(house.now))

    def start(self, now: float, wall: float) -> list[Effect]:
        """Start the cast, but what is at rest and whom a person has stopped; return the first effects."""
        house = self.house
        house.now, house.wall = now, wall
        for name, role in house.roles.items():
            newest = role.child.line.epoch
            lives = role.of_epoch(newest)
            if newest:  # The log may not have heard of it: see `Shell`.
                house.record(EpochRow(name, newest, *((lives.pid, lives.started) if lives else (0, 0))))
            if name in self._resting:
                rests.rest(role)
            if name in self._stopped:
                for each in role.actors:
                    house.carry_out(each.stay_stopped(now))
                rests.stopped(role)
            elif name in self._resting:
                casting.after_fall(house, role)
            else:
                house.carry_out(role.child.start(now))
        for process in self._elsewhere:  # Their agents may be back one day: these epochs are taken.
            house.record(EpochRow(process.actor, process.epoch, process.pid, process.started))
        for actor, epoch in self._left:
            house.forget_marks(actor, epoch)
        self._see_touched()
        return house.close_step()

    def deadline(self) -> float:
        """Return the monotonic time at which `Ticked` is due at the latest."""
        house = self.house
        if house.replan:
            dues = [house.due]
            if house.recount:
                dues = [due for role in house.roles.values() for due in dues_of(house, role)]
            # What is overdue already is due now: a tick is late only against what was promised, see `hangs`.
            house.due = max(house.now, min([*dues, *self._dues()]))
            house.replan = house.recount = False
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

    def _see_touched(self) -> None:
        """Of the agents that this step touched: write down how they stand, and see when to look at them again."""
        house = self.house
        rests.record(house)
        for name in house.touched:
            house.due = min([house.due, *dues_of(house, house.roles[name])])
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
        for name in house.acks:
            child = house.roles[name].child
            house.record(MarkRow(name, child.epoch, child.number))
            house.tell_actor(child, Recorded(child.number), house.after, lazily=True)
        house.acks.clear()
        if house.waits:
            control.answer(house)
        if house.budget.freed:
            flow.go_on(house)
        self._finish_if_over()
        if house.touched:
            self._see_touched()
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
            case ClientSaid():
                clients.said(house, event.peer, event.frame)
            case Committed(ticket=ticket):
                self._committed(ticket)
            case EntriesRead():
                follows.read(house, event)
            case Unreadable():
                losses.unreadable(house, event)
            case ClientLost(peer=peer):
                clients.lost(house, peer)
            case ActorUnreachable(peer=peer):
                # Its exit is on the way, or its next hello: only these prove anything.
                flow.unreachable(house, peer)
            case Spawned() | SpawnFailed() | Exited() | Stopped() | Sampled():
                role = house.roles.get(event.actor)
                if role is not None:
                    lives.reported(house, role, event)
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
            for name in house.roles:
                calls.refuse(house, name, SHUTTING_DOWN, "the house is shutting down", sent=False)
        elif not hurry:
            return
        for child in [child for role in house.roles.values() for child in role.actors]:
            if hurry:
                house.carry_out(child.stop(house.now))
                house.carry_out(child.kill("the house was told to hurry", house.now))
                continue
            if child.state is State.RUNNING:
                house.tell_actor(child, Stop(child.spec.stop_grace_s), house.after_if_written)
            house.carry_out(child.stop(house.now))

    def _finish_if_over(self) -> None:
        house = self.house
        if house.reload_asked and not house.stopping and not house.finished and not house.unfed:
            house.finished = True
            house.effects.append(Finish(reload=True))
        if not house.stopping or house.finished:
            return
        if all(child.state not in LIVING for role in house.roles.values() for child in role.actors):
            house.finished = True
            for peer in house.clients:
                house.tell(peer, Goodbye("the house is shut down"), house.after)
            house.effects.append(Finish())

    def _ticked(self) -> None:
        house = self.house
        house.replan = house.recount = True
        for role in house.roles.values():
            for child in role.actors:
                house.carry_out(child.ticked(house.now))
            casting.spawned_beside(house, role)
        for (name, number), turn in list(house.cancels.items()):
            if turn.cancel_due is not None and house.now >= turn.cancel_due:
                turn.cancel_due = None
                child = house.roles[house.sessions[name].agent].child
                house.carry_out(child.kill(f"did not cancel turn {number} of {name} in time", house.now))
        house.carry_out(hangs.ticked(house, ping_idle=house.now >= house.next_ping))
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
        for role in house.roles.values():
            starts = role.child.state in (State.STARTING, State.BACKOFF)
            if (role.queued and starts) or any(not session.asks for session, _ in role.turns()):
                house.idle_since = house.now
                return
        house.warn(f"no client for {idle_s:g} s: the house ends")
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
                house.warn(
                    f"client {client.name or client.id} was silent for {house.now - client.heard:.0f} s: forgotten"
                )
                clients.lost(house, client.peer)

    def _give_up_still(self) -> None:
        """The house is full of what some do not take: give those up, the one with most first, until there is room."""
        house = self.house
        for peer in list(house.budget.still(house.now)):
            if house.budget.roomy:
                return
            size_mb = house.budget.windows[peer].under_way / (1 << 20)
            client = house.clients.get(peer)
            name = f"client {client.name or client.id}" if client is not None else f"agent {house.peers.get(peer)}"
            house.warn(f"{name} does not take {size_mb:.1f} MB, and others wait for room: the connection is given up")
            if client is not None:
                clients.lost(house, peer)
            else:
                flow.unreachable(house, peer)


def dues_of(house: House, role: Role) -> list[float]:
    """Return when the actors of an agent, and its turns, have to be looked at again."""
    return [*(each.due for each in role.actors if each.due is not None), *hangs.dues(house, role)]
