"""The core: events and the time in, effects out. Pure.

It reads no clock, opens no file, starts no process, and does not know how the log is
written. A broken invariant (`AssertionError`) in one session sets that session apart with
its story; anywhere else it ends the supervisor, and the keeper starts the next one.
"""

import signal
from random import Random
from typing import assert_never

from understudy.protocol.errors import ACTOR_LOST, SHUTTING_DOWN, VERSION_MISMATCH
from understudy.protocol.frames import (
    BACKSTAGE_VERSION,
    ActorHello,
    Ask,
    Begin,
    Ended,
    Fault,
    FrameError,
    FromActor,
    Go,
    Goodbye,
    Part,
    Ping,
    Pong,
    Recorded,
    Remember,
    Result,
    Stop,
    Updates,
    Welcome,
)
from understudy.supervisor.core import casting, clients, control, follows, hangs, limits, quarantine, turns
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
    TellActor,
    Ticked,
)
from understudy.supervisor.core.house import House, Role
from understudy.supervisor.core.restart import Restarts
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.sessions import Session, Turn, TurnState
from understudy.supervisor.core.specs import HouseSpec, OnCrash

PING_EVERY_S = 10.0
SILENT_S_MAX = 60.0
RETURN_S = 5.0


class Core:
    """The supervisor's decisions. `handle` takes what happened, `deadline` says when to come back at the latest."""

    def __init__(
        self,
        spec: HouseSpec,
        restored: Restored,
        shown: set[tuple[str, int]] | None,
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
        self._stopped = {name for name, when in restored.stopped.items() if when == life}
        for agent in spec.agents:
            # Who lives may have been started so late that the log did not hear of it.
            epochs = [restored.epochs.get(agent.name, 0), *(each.epoch for each in living if each.actor == agent.name)]
            line = Line(max(epochs), Restarts(agent.restart, random))
            line.actors = actors = [Child(agent.name, agent, line, since=now) for _ in range(1 + agent.understudies)]
            line.player = actors[0]
            for child in actors:
                child.no_room = lambda each: limits.no_room(self.house, each)
            self.house.roles[agent.name] = Role(actors[0], actors[1:])
        for agent in spec.agents:
            lines = [self.house.roles[name].child.line for name in agent.after]
            for child in self.house.roles[agent.name].actors:
                child.others.extend(lines)
        for process in sorted(living, key=lambda each: each.epoch):
            role = self.house.roles.get(process.actor)
            free = [child for child in role.actors if child.state is State.STOPPED] if role else []
            if not free:
                self.house.effects.append(Kill(process.actor, process.epoch, signal.SIGKILL))
                continue
            number = restored.marks.get((process.actor, process.epoch), 0)
            free[0].adopt(process, number, spec.orphan_grace_s + RETURN_S, now)
        if living:
            self.house.return_due = now + RETURN_S
        self._restore(restored, shown)

    def start(self, now: float, wall: float) -> list[Effect]:
        """Start the cast, but whom a person has stopped; return the first effects."""
        house = self.house
        house.now, house.wall = now, wall
        for name, role in house.roles.items():
            newest = role.child.line.epoch
            lives = role.of_epoch(newest)
            if newest:  # The log may not have heard of it: see `Shell`.
                house.record(EpochRow(name, newest, *((lives.pid, lives.started) if lives else (0, 0))))
            if name in self._stopped:
                for each in role.actors:
                    house.carry_out(each.stay_stopped(now))
            else:
                house.carry_out(role.child.start(now))
        return house.close_step()

    def deadline(self) -> float:
        """Return the monotonic time at which `Ticked` is due at the latest."""
        house = self.house
        if not house.replan:
            return house.due
        house.replan = False
        dues = [each.due for role in house.roles.values() for each in role.actors if each.due is not None]
        dues.extend(turn.cancel_due for turn in house.cancels.values() if turn.cancel_due is not None)
        if house.spec.idle_exit_s and not house.clients and not house.stopping:
            dues.append(house.idle_since + house.spec.idle_exit_s)
        if house.return_due is not None:
            dues.append(house.return_due)
        dues.extend(hangs.dues(house))
        # What is overdue already is due now: a tick is late only against what was promised, see `hangs`.
        house.due = max(house.now, min([*dues, house.next_ping]))
        return house.due

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
        self._finish_if_over()
        return house.close_step()

    def _restore(self, restored: Restored, shown: set[tuple[str, int]] | None) -> None:
        house = self.house
        for row in restored.sessions:
            session = Session(row.session, row.agent, row.cwd, row.opening, row.memory, row.last, row.last)
            session.opened_at = row.opened_at
            house.sessions[row.session] = session
            if session.agent in house.roles:
                house.roles[session.agent].sessions += 1
        for request, (name, number) in restored.requests.items():
            house.requests[request] = (name, number)
        for open_turn in restored.turns:
            session = house.sessions[open_turn.session]
            role = house.roles.get(session.agent)
            if role is None:
                continue  # Its agent left the configuration; it waits in the log until it is back.
            turn = Turn(open_turn.turn, open_turn.body, open_turn.serves, open_turn.client)
            if open_turn.state == turns.CONTINUED:
                turn.body = turns.CONTINUATION
            if open_turn.state not in turns.HANDED_STATES:
                turns.enqueue(house, session, turn)
                continue
            session.current, turn.since = turn, house.now
            turn.state = TurnState.HANDED if open_turn.state == turns.WITHDRAWN else TurnState.RUNNING
            if open_turn.state != "started":
                turns.mark_cancelled(house, session, turn)
            for entry in open_turn.told:
                turns.restore_entry(house, session, turn, entry)
            turn.unmarked = role.child.spec.on_crash is OnCrash.RETRY
            role.plays(session)
            # While an actor lives it may still be shown: then its exit settles it, unless one before it had shown it.
            if role.child.state is State.STOPPED or (shown is not None and (session.id, turn.number) in shown):
                turns.settle(house, role, session, turn, "the supervisor ended while this turn ran", shown)

    def _guarded(self, event: Event) -> None:
        """Handle one event; a broken invariant or a bad body in one session or agent takes that one out of play."""
        house = self.house
        rows, effects, unfed = len(house.rows), len(house.effects), len(house.unfed)
        try:
            self._dispatch(event)
        except (AssertionError, FrameError) as error:
            quarantine.take_back(house, rows, effects, unfed)
            if not quarantine.contain(house, event, f"{type(error).__name__}: {error}"):
                raise

    def _dispatch(self, event: Event) -> None:
        house = self.house
        match event:
            case ClientSaid(peer=peer, frame=frame):
                clients.said(house, peer, frame)
            case ActorSaid(peer=peer, frame=frame):
                self._actor_said(peer, frame)
            case Committed(ticket=ticket):
                self._committed(ticket)
            case EntriesRead():
                follows.read(house, event)
            case ClientLost(peer=peer):
                clients.lost(house, peer)
            case ActorUnreachable(peer=peer):
                # Its exit is on the way, or its next hello: only these prove anything.
                house.peers.pop(peer, None)
            case Spawned() | SpawnFailed() | Exited() | Stopped() | Sampled():
                role = house.roles.get(event.actor)
                if role is not None:  # Else it is of an agent that left the configuration.
                    self._of_actor(role, event)
            case LogFailed(reason=reason):
                house.log_failure = reason
                house.log_failed_at = house.now if house.log_failed_at is None else house.log_failed_at
            case ShutdownAsked(hurry=hurry):
                self._shut_down(hurry)
            case Ticked():
                self._ticked()
            case _:
                assert_never(event)

    def _of_actor(self, role: Role, event: Spawned | SpawnFailed | Exited | Stopped | Sampled) -> None:
        house = self.house
        child = role.of_epoch(event.epoch)
        match event:
            case Spawned():
                self._spawned(role, event)
            case SpawnFailed(reason=reason):
                if child is not None:
                    self._spawn_failed(role, child, reason)
                casting.after_fall(house, role)
            case Exited():
                if child is not None:
                    self._exited(role, child, event)
            case Stopped():
                if child is not None:
                    hangs.stopped(house, child)
            case Sampled():
                if child is not None:
                    house.carry_out(limits.sampled(house, role, child, event))
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

    def _spawned(self, role: Role, event: Spawned) -> None:
        house = self.house
        for child in role.actors:
            child.spawned(event, house.now)
        house.record(EpochRow(event.actor, event.epoch, event.pid, event.started))

    def _spawn_failed(self, role: Role, child: Child, reason: str) -> None:
        returns = child.line.restarts.returns(None) and child.state is not State.STOPPING
        replaced = child is role.child and returns and role.promote()
        self.house.carry_out(child.failed_to_spawn(child.epoch, reason, self.house.now))
        if replaced and role.child.state is State.RUNNING:
            casting.go_on(self.house, role)

    def _exited(self, role: Role, child: Child, event: Exited) -> None:
        house = self.house
        plays = child is role.child
        ran_s = house.now - child.ran_from
        if event.oom_kills:
            limit = f"memory: limit {child.spec.memory_mb} MB"
            child.last_words = f"{limit}, and the kernel ended {event.oom_kills} process(es) that wanted more"
        how = child.last_words or child.why_exit(event.status)
        if child.peer is not None:
            house.peers.pop(child.peer, None)
        house.record(EpochRow(event.actor, event.epoch, event.pid, child.started, event.status))
        what = f"agent {child.spec.name} ({child.title}, pid {event.pid}) fell after {ran_s:.1f} s: {how}"
        if event.swept:
            what += f"; {event.swept} more process(es) of it were ended"
        if event.survivors:
            house.warn(f"{child.title}: {event.survivors} process(es) could not be ended")
        returns = child.line.restarts.returns(event.status) and not event.survivors
        was_stopped = child.state is State.STOPPING
        replaced = plays and returns and not was_stopped and role.promote()
        house.carry_out(child.exited(event, house.now, 0.0 if plays and not replaced else casting.UNDERSTUDY_AFTER_S))
        if replaced:
            what += f"; its understudy {role.child.title} takes over"
        if child.state is State.STOPPED and role.child.state is State.RUNNING and not house.stopping:
            child.prepare(casting.UNDERSTUDY_AFTER_S, house.now)
        if plays:
            shown = None if event.shown is None else set(event.shown)
            turns.actor_lost(house, role, what, shown, was_stopped)
        if replaced and role.child.state is State.RUNNING:
            casting.go_on(house, role)
        if not house.stopping:
            house.warn(f"{what}; now {child.state.value}" if plays else f"understudy: {what}")
        casting.after_fall(house, role)

    def _actor_said(self, peer: bytes, frame: FromActor) -> None:
        house = self.house
        if isinstance(frame, ActorHello):
            self._actor_hello(peer, frame)
            return
        role = house.roles.get(house.peers.get(peer, ""))
        child = next((each for each in role.actors if each.peer == peer), None) if role is not None else None
        if role is None or child is None:
            return  # A dead letter: nothing of an older incarnation has an effect.
        hangs.heard(house, role, child)
        match frame:
            case Updates() | Ended() | Ask() | Remember() | Begin():
                if child is role.child:
                    self._of_turn(role, frame)
            case Result() | Fault():
                turns.called(house, frame)
            case Goodbye(reason=reason):
                child.last_words = reason
                house.tell_actor(child, Goodbye())
            case Ping():
                house.tell_actor(child, Pong())
            case Pong():
                pass
            case Part():
                raise AssertionError("parts are joined before they come here")
            case _:
                assert_never(frame)

    def _of_turn(self, role: Role, frame: Updates | Ended | Ask | Remember | Begin) -> None:
        house, child = self.house, role.child
        session = house.sessions.get(frame.session)
        if session is None or session.agent != child.spec.name or session.quarantined:
            if not isinstance(frame, Begin):
                child.number = max(child.number, frame.n)
                house.acks[child.name] = None
            return
        if not isinstance(frame, Begin) and frame.n > child.number + 1:
            # It lost something that it had not had acknowledged: nothing it says can be trusted.
            self.house.carry_out(child.kill(f"said number {frame.n} after {child.number}", house.now))
            return
        hangs.progressed(house, session)
        match frame:
            case Updates():
                turns.updates(house, session, frame, child)
            case Ended():
                turns.ended(house, session, frame, child)
            case Begin():
                turns.begin(house, session, frame, child)
            case Ask():
                turns.ask(house, session, frame, child)
            case Remember():
                turns.remember(house, session, frame, child)
            case _:
                assert_never(frame)

    def _actor_hello(self, peer: bytes, frame: ActorHello) -> None:
        house = self.house
        role = house.roles.get(frame.actor)
        if frame.version not in (BACKSTAGE_VERSION, BACKSTAGE_VERSION - 1) or role is None:
            house.warn(f"hello of {frame.actor}#{frame.epoch}, version {frame.version}: not one of ours")
            self._refuse_actor(peer, f"backstage version {BACKSTAGE_VERSION} here, {frame.version} there")
            return
        child = role.of_epoch(frame.epoch) or role.child
        before, resumed = child.peer, child.state is State.RUNNING or child.returning
        if not child.greeted(frame, peer, house.now):
            self._refuse_actor(
                peer, f"{frame.actor}#{frame.epoch} is not expected: {child.title} is {child.state.value}"
            )
            return
        house.replan = True
        if before is not None:
            house.peers.pop(before, None)
        house.peers[peer] = child.name
        house.tell_actor(
            child, Welcome(frame.version, house.epoch, house.generation, house.pid, child.number), house.after
        )
        hangs.greeted(house, child)
        if child is not role.child or child.state is not State.RUNNING:
            return
        if resumed:
            self._resume(role)
        casting.go_on(house, role)

    def _refuse_actor(self, peer: bytes, text: str) -> None:
        self.house.effects.append(TellActor(peer, Fault(VERSION_MISMATCH, text)))

    def _resume(self, role: Role) -> None:
        """The actor has a new connection: say again what may have been lost with the old one."""
        house, child = self.house, role.child
        text = f"the connection to {child.title} broke meanwhile; it may have been carried out"
        turns.refuse_calls(house, child.spec.name, ACTOR_LOST, text, sent=True)
        for session in house.sessions.values():
            turn = session.current
            if session.agent != child.spec.name or turn is None:
                continue
            if turn.state is TurnState.HANDED or turn.cancelled:
                turns.hand_over(house, session, turn, child, go=False)
            elif turn.start_ticket:
                house.tell_actor(child, Go(session.id, turn.number), turn.start_ticket)
            else:
                turns.hand_over(house, session, turn, child, go=True)
            if turn.cancelled:
                turns.tell_cancel(house, session, turn, child)

    def _shut_down(self, hurry: bool) -> None:
        house = self.house
        if not house.stopping:
            house.stopping = True
            for name in house.roles:
                turns.refuse_calls(house, name, SHUTTING_DOWN, "the house is shutting down", sent=False)
        elif not hurry:
            return
        for child in [child for role in house.roles.values() for child in role.actors]:
            if hurry:
                self.house.carry_out(child.stop(house.now))
                self.house.carry_out(child.kill("the house was told to hurry", house.now))
                continue
            if child.state is State.RUNNING:
                house.tell_actor(child, Stop(child.spec.stop_grace_s), house.after_if_written)
            self.house.carry_out(child.stop(house.now))

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
        house.replan = True
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
        idle_s = house.spec.idle_exit_s
        if idle_s and not house.clients and not house.stopping and house.now >= house.idle_since + idle_s:
            house.warn(f"no client for {idle_s:g} s: the house ends")
            house.shutdown_asked = True
        if house.return_due is not None and house.now >= house.return_due:
            house.return_due = None
            turns.give_up_on(house, None)
        if house.now >= house.next_ping:
            house.next_ping = house.now + PING_EVERY_S
            self._ping()

    def _ping(self) -> None:
        """Ask every silent client; one that a send cannot reach comes back as `ClientLost`."""
        house = self.house
        for client in list(house.clients.values()):
            if not client.pinged:
                client.pinged = True
                house.tell(client.peer, Ping())
            elif house.now - client.heard > SILENT_S_MAX:
                house.warn(
                    f"client {client.name or client.id} was silent for {house.now - client.heard:.0f} s: forgotten"
                )
                clients.lost(house, client.peer)
