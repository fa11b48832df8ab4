"""The keeper: parent of everything. It forks, reaps and reports; it decides nothing.

Single-threaded, without a ZeroMQ context, the actor code loaded: fork is safe and quick.
A subreaper, so exit statuses are true and strays come home. `Exited` is reported only when
the actor's group is killed and its strays are swept.
"""

import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, assert_never

from setproctitle import setproctitle

from understudy.actors.actor import Role
from understudy.actors.rehearsal import rehearse_often
from understudy.protocol import processes
from understudy.protocol.mark import ACTOR, BLANK, MARK_VARIABLE, SUPERVISOR, mark_of
from understudy.protocol.prctl import become_subreaper
from understudy.protocol.stderr import say
from understudy.supervisor import link
from understudy.supervisor.core.events import (
    Alive,
    Exited,
    FromKeeper,
    Kill,
    Noted,
    Ready,
    ShutdownAsked,
    Spawn,
    Spawned,
    SpawnFailed,
    Stopped,
)
from understudy.supervisor.core.specs import AgentSpec, HouseSpec
from understudy.supervisor.core.succession import Next, Succession
from understudy.supervisor.keeper import reload
from understudy.supervisor.keeper.blanks import Blanks
from understudy.supervisor.keeper.cgroups import Groups
from understudy.supervisor.keeper.children import Process, close_others, fork
from understudy.supervisor.keeper.folders import Folders
from understudy.supervisor.keeper.wakeup import NOTED, Wakeup

SWEEP_S_MAX = 2.0
SWEEP_POLL_MS = 2
REQUESTS_AT_ONCE = 8  # A start takes milliseconds: in between the supervisor hears who lives and who ended.
EXITS_MAX = 1_000  # Of which no supervisor has said yet that they are in the log.

Supervise = Callable[[HouseSpec, socket.socket, list[Spawned], str], int]
SuperviseSafely = Callable[[HouseSpec, socket.socket], int]
Receive = Callable[[], tuple[Role, str]]
Act = Callable[[Receive, HouseSpec, int | None], int]


@dataclass(slots=True)
class _Living:
    """An actor's process, or what is left of its tree."""

    spawned: Spawned
    process: Process
    mark: str
    status: int | None = None
    swept: set[int] = field(default_factory=set[int])
    sweep_until: float = 0.0


@dataclass(slots=True, repr=False)  # signal.signal makes a repr of each handler that it replaces: of the whole house.
class Keeper:
    """Keeps one house. `supervise`, `supervise_safely` and `act` are what its children run."""

    house: HouseSpec
    supervise: Supervise
    supervise_safely: SuperviseSafely
    act: Act
    _link: socket.socket = field(init=False)
    _supervisor: Process | None = None
    _starts_at: float | None = None  # A failed start is tried again then.
    _blanks: Blanks = field(default_factory=Blanks)
    _noted: bool = True
    _actors: dict[int, _Living] = field(default_factory=dict[int, _Living])
    _exits: dict[tuple[str, int], reload.Exit] = field(default_factory=dict[tuple[str, int], reload.Exit])
    _queue: deque[bytes] = field(default_factory=deque[bytes])
    _hung_up: bool = False
    _succession: Succession = field(default_factory=Succession)
    _specs: dict[str, AgentSpec] = field(default_factory=dict[str, AgentSpec])
    _not_ours: set[int] = field(default_factory=set[int])
    _folders: Folders = field(init=False)
    _groups: Groups = field(default_factory=Groups.of_house)
    _wakeup: Wakeup = field(init=False)

    def run(self, inherited: reload.Inherited | None = None) -> int:
        """Open the house and keep it until it is shut down; return the exit status. Raises `HouseError`."""
        self._specs = {agent.name: agent for agent in self.house.agents}
        become_subreaper()
        self._folders = Folders(
            self.house.runtime_dir, self.house.state_dir, inherited.descriptors if inherited else None
        )
        if inherited:
            self._inherit(inherited)
        else:
            if left := self._end_all(self._folders.left):
                _say(f"{left} process(es) of an earlier run could not be ended")
            self._not_ours = set(processes.own_children(set()))  # Of a shell that became us.
            self._groups.clear(self._folders.house_id)
        self._note_actors()
        reload.hold_signals()
        rehearse_often(self.house)
        self._wakeup = Wakeup(self._report_told)
        reload.release_signals()
        setproctitle("understudy: keeper")
        gc.collect()
        gc.freeze()
        try:
            self._start_supervisor()
            status = None
            while status is None:
                status = self._turn()
        finally:  # Whatever broke here: nobody else would end what lives.
            self._end_rest()
        return status

    # --- the loop ---

    def _turn(self) -> int | None:
        """Wait for something and deal with it; return the exit status once the house is over."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._supervisor is not None and not self._hung_up:
            poll.register(self._link, select.POLLIN | (select.POLLOUT if self._queue else 0))
        for descriptor, events in poll.poll(self._wait_ms()):
            if descriptor == self._wakeup.fileno():
                self._wakeup.empty()
            elif events & select.POLLIN:
                self._requests()
            elif events & select.POLLHUP:
                self._hung_up = True  # It is ending: its exit is what we wait for now.
        if self._wakeup.told > 2:
            _say("told three times: killing everything")
            return 1
        self._reap()
        if dead := [actor for actor in self._actors.values() if actor.status is not None]:
            self._sweep(dead)
        self._write()
        if not self._noted:
            self._note_actors()
        if self._blanks.due_ms() == 0.0 and not self._wakeup.told:
            self._blanks.fork(self._be_actor)
            self._rehearse()
        if self._succession.hangs(time.monotonic()) and self._supervisor is not None:
            _say("the supervisor hangs: ending it")
            self._supervisor.kill()
        return self._see_supervisor()

    def _wait_ms(self) -> float | None:
        if any(actor.status is not None for actor in self._actors.values()):
            return SWEEP_POLL_MS
        if self._supervisor is None and self._starts_at is None:
            return 0.0  # It could not be forked.
        now, dues = time.monotonic(), (self._succession.watch_due, self._starts_at)
        waits_ms = [max(0.0, 1000 * (due - now)) for due in dues if due is not None]
        blank_ms = None if self._wakeup.told else self._blanks.due_ms()
        return min([*waits_ms, *([] if blank_ms is None else [blank_ms])], default=None)

    def _report_told(self) -> None:
        self._report(ShutdownAsked(hurry=self._wakeup.told > 1))

    def _requests(self) -> None:
        requests = link.read_requests(self._link, REQUESTS_AT_ONCE)
        if requests:
            self._succession.alive(time.monotonic())  # Its word for that waits behind what it asks for.
        for request in requests:
            match request:
                case Spawn():
                    self._spawn(request)
                case Kill():
                    self._kill(request)
                case Ready():
                    self._succession.ready(time.monotonic())
                    self._blanks.want()
                case Alive():
                    pass
                case Noted(actor=actor, epoch=epoch):
                    self._exits.pop((actor, epoch), None)
                case _:
                    assert_never(request)

    def _spawn(self, request: Spawn) -> None:
        spec = self._specs[request.agent]
        title = f"{request.actor}#{request.epoch}"
        mark = f"{self._folders.house_id}/{title}"
        role = self._role(spec, request)
        process = self._blanks.give((role, mark)) or fork(self._be_actor, lambda: (role, mark))
        if isinstance(process, str):
            self._report(SpawnFailed(request.actor, request.epoch, process))
            return
        spawned = Spawned(request.actor, request.epoch, process.pid, processes.start_ticks(process.pid))
        self._actors[process.pid] = _Living(spawned, process, mark)
        self._report(spawned)
        self._noted = False

    def _role(self, spec: AgentSpec, request: Spawn) -> Role:
        return Role(
            name=request.actor,
            epoch=request.epoch,
            command=spec.command,
            cwd=spec.cwd,
            env=spec.env,
            memory_mb=spec.memory_mb,
            data_limit_mb=spec.data_limit_mb,
            files=spec.files,
            options={**spec.options, "driver": spec.driver, "play": spec.play, "start_s": spec.start_s},
            log=str(Path(self.house.state_dir, "agents", f"{spec.name}.log")),
            stop_grace_s=spec.stop_grace_s,
        )

    def _rehearse(self) -> None:
        """Go through what a death takes: after a fork the first write to each page costs a copy of it."""
        for spec in self.house.agents[:1]:
            pickle.dumps((self._role(spec, Spawn(spec.name, 0, spec.name)), spec.name))
        link.encode(Exited("", 0, 0, -signal.SIGKILL))
        link.encode(Spawned("", 0, 0, processes.start_ticks(os.getpid())))
        self._unknown_children()
        self._note_actors()

    def _be_actor(self, receive: Receive, waits_at: int | None = None) -> NoReturn:
        os.setsid()
        self._leave_keeper([] if waits_at is None else [waits_at])
        setproctitle(BLANK)

        def marked() -> tuple[Role, str]:
            role, mark = receive()
            os.environ[MARK_VARIABLE] = mark
            self._groups.enter(mark, role.memory_mb)
            setproctitle(f"{ACTOR}{role.name}#{role.epoch}")
            return role, mark

        try:
            status = self.act(marked, self.house, waits_at)
        except EOFError:  # The keeper is gone, or needs no blank any more.
            status = 0
        sys.exit(status)

    def _be_supervisor(self, theirs: socket.socket, living: list[Spawned]) -> NoReturn:
        os.setsid()  # A terminal's Ctrl-C is the keeper's to hear.
        os.umask(0o077)  # The log and the sockets are for nobody else. What agents make is their own affair.
        self._leave_keeper([theirs.fileno(), *self._folders.descriptors], NOTED)
        if self._succession.safe:
            setproctitle(f"{SUPERVISOR} in safe mode")
            sys.exit(self.supervise_safely(self.house, theirs))
        setproctitle(SUPERVISOR)
        sys.exit(self.supervise(self.house, theirs, living, self._folders.house_id))

    def _leave_keeper(self, kept: list[int], ignored: tuple[signal.Signals, ...] = ()) -> None:
        """Undo in a fresh child what only the keeper wants; of its descriptors leave only those that are `kept`."""
        self._wakeup.leave(ignored)
        self._blanks.dismiss()
        self._link.close()
        close_others(kept)

    def _kill(self, request: Kill) -> None:
        for pid, actor in self._actors.items():
            if (actor.spawned.actor, actor.spawned.epoch) == (request.actor, request.epoch) and actor.status is None:
                if request.signal == signal.SIGKILL:
                    processes.kill_group(pid)
                processes.kill(pid, request.signal)

    def _note_actors(self) -> None:
        """Write down who lives, for the keeper that finds us killed."""
        self._noted = True
        try:
            self._folders.note((a.spawned.pid, a.spawned.started, a.mark) for a in self._actors.values())
        except OSError as error:  # A full disk must not stop a restart.
            _say(f"the record of actors cannot be written: {error.strerror}")

    # --- reaping ---

    def _reap(self) -> None:
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if seen is None:
                break
            actor = self._actors.get(seen.si_pid)
            if actor is not None and actor.status is None:
                actor.status = actor.process.poll()
                actor.sweep_until = time.monotonic() + SWEEP_S_MAX
            elif self._supervisor is not None and seen.si_pid == self._supervisor.pid:
                self._supervisor.poll()  # See `_see_supervisor`.
            elif seen.si_pid == self._blanks.pid:
                self._blanks.see_ended()
            else:
                os.waitpid(seen.si_pid, 0)  # A stray that came home.
        self._see_stopped()

    def _see_stopped(self) -> None:
        """Report the actors that a signal has stopped since."""
        with contextlib.suppress(ChildProcessError):
            while seen := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG):
                stopped = self._actors.get(seen.si_pid)
                if stopped is not None:
                    self._report(Stopped(stopped.spawned.actor, stopped.spawned.epoch))

    def _sweep(self, dead: list[_Living]) -> None:
        """End what is left of the trees of dead actors; report each of which nothing is."""
        found: list[set[int]] = []
        for actor in dead:
            processes.kill_group(actor.spawned.pid)
            found.append(set(self._groups.end(actor.mark)))
        # Each is looked at once: a living agent may have left thousands here.
        unknown = [(pid, session, mark_of(pid)) for pid, session in self._unknown_children().items()]
        for actor, strays in zip(dead, found, strict=True):
            pid, status = actor.spawned.pid, actor.status
            assert status is not None
            strays |= {child for child, session, mark in unknown if actor.mark == mark or pid == session}
            actor.swept |= {stray for stray in strays if processes.kill(stray, signal.SIGKILL)}
            late = time.monotonic() > actor.sweep_until
            if (strays or processes.kill_group(pid)) and not late:
                continue
            del self._actors[pid]
            name, epoch, survivors = actor.spawned.actor, actor.spawned.epoch, len(strays) if late else 0
            oom_kills = self._groups.remove(actor.mark)
            exited = Exited(name, epoch, pid, status, len(actor.swept), survivors, oom_kills=oom_kills)
            self._report(exited)
            self._exits[name, epoch] = reload.Exit(actor.spawned, exited)
            if len(self._exits) > EXITS_MAX:
                del self._exits[next(iter(self._exits))]
            self._noted = False

    def _unknown_children(self) -> dict[int, int]:
        known = {pid for pid, actor in self._actors.items() if actor.status is None}
        if self._supervisor is not None:
            known.add(self._supervisor.pid)
        if self._blanks.pid is not None:
            known.add(self._blanks.pid)
        return processes.own_children(known)

    # --- the supervisor ---

    def _start_supervisor(self) -> None:
        try:
            self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            _say(f"there can be no supervisor now: {error}")
            self._starts_at = None
            return
        self._link.setblocking(False)
        self._queue.clear()
        living = [actor.spawned for actor in self._actors.values()]
        for spawned in living if self._succession.safe else []:
            self._kill(Kill(spawned.actor, spawned.epoch, signal.SIGKILL))
        for each in self._exits.values():  # The last one may not have got to hear of it, or to write it down.
            living.append(each.spawned)
            self._report(each.exited)
        self._hung_up, self._starts_at = False, None
        process = fork(self._be_supervisor, theirs, living)
        theirs.close()
        if isinstance(process, str):
            _say(f"the supervisor could not be forked: {process}")
            self._supervisor = None
            return
        self._supervisor = process
        if self._wakeup.told:
            self._report_told()

    def _see_supervisor(self) -> int | None:
        """Start a fallen supervisor again, in a while if starts fail; return the exit status when the house is over."""
        if self._starts_at is not None:
            if self._wakeup.told or time.monotonic() >= self._starts_at:
                self._start_supervisor()
            return None
        process = self._supervisor
        status = process.poll() if process is not None else -signal.SIGKILL
        if status is None:
            return None
        self._link.close()
        self._supervisor = None
        following, wait_s = self._succession.ended(status, time.monotonic())
        if following is Next.END or (self._wakeup.told and following is not Next.RELOAD):
            return 0 if status == 0 else 1
        if following is Next.RELOAD:
            self._reload()
        else:
            _say(f"the supervisor ended (status {status}); {following.value}")
        self._starts_at = time.monotonic() + wait_s
        if not wait_s:
            self._start_supervisor()
        return None

    def _reload(self) -> None:
        """Become the program that is installed now; go on as we are if that fails, or if the house is to end."""
        reload.hold_signals()
        if self._wakeup.told:
            reload.release_signals()
            return
        self._blanks.dismiss()
        actors = [reload.Actor(a.spawned, a.mark, a.status, list(a.swept)) for a in self._actors.values()]
        descriptors, exits = self._folders.descriptors, list(self._exits.values())
        left = reload.Inherited(reload.VERSION, self.house, descriptors, actors, list(self._not_ours), exits)
        try:
            reload.become(list(self.house.command), left)
        except Exception as error:  # noqa: BLE001 (whatever it is, the house goes on)
            _say(f"cannot reload, going on as before: {error}")
        reload.release_signals()

    def _inherit(self, inherited: reload.Inherited) -> None:
        self._succession.served = True  # The house did, before.
        self._not_ours = set(inherited.not_ours)
        self._exits = {(each.spawned.actor, each.spawned.epoch): each for each in inherited.exits}
        for actor in inherited.actors:
            process = Process(actor.spawned.pid, actor.status)
            self._actors[actor.spawned.pid] = _Living(
                actor.spawned, process, actor.mark, actor.status, set(actor.ended), time.monotonic() + SWEEP_S_MAX
            )

    def _end_rest(self) -> None:
        """End whatever still lives, at the end of the house."""
        self._blanks.dismiss()
        if self._supervisor is not None:
            processes.kill(self._supervisor.pid, signal.SIGKILL)
        living = [actor.spawned for actor in self._actors.values()]
        until = time.monotonic() + SWEEP_S_MAX
        self._end_all(living)
        while time.monotonic() < until:
            # Now a child that bears no mark can only be a stray that dropped it.
            strays = processes.own_children(self._not_ours)
            for stray in strays:
                processes.kill(stray, signal.SIGKILL)
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    if not strays:
                        break
                    time.sleep(processes.POLL_S)
            except ChildProcessError:
                break
        self._groups.clear(self._folders.house_id)
        self._folders.clear()

    def _end_all(self, living: list[Spawned]) -> int:
        return processes.end_all(self._folders.house_id, [(each.pid, each.started) for each in living])

    def _report(self, message: FromKeeper) -> None:
        self._queue.append(link.encode(message))

    def _write(self) -> None:
        while self._queue and self._supervisor is not None:
            try:
                self._link.send(self._queue[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._queue.clear()  # It is gone: the next one is told who lives.
                return
            self._queue.popleft()


def _say(text: str) -> None:
    say(f"keeper: {text}")


def load_actors(drivers: set[str]) -> Act:
    """Load what actors with these `drivers` run, and return it. Raises whatever a broken module raises."""
    from understudy.actors import entry

    for driver in drivers & {"acp", "program", "scripted"}:
        importlib.import_module(f"understudy.actors.drivers.{driver}")
    return entry.main
