"""The keeper: parent of everything. It forks, reaps and reports; it decides nothing.

Single-threaded, without a ZeroMQ context, the actor code loaded: fork is safe and quick.
A subreaper, so exit statuses are true and strays come home. Here is its loop, and the supervisor's
life; `actors.py` has what becomes of actors.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, assert_never

from setproctitle import setproctitle

from understudy.protocol import processes
from understudy.protocol.mark import SUPERVISOR
from understudy.protocol.prctl import become_subreaper
from understudy.protocol.stderr import say
from understudy.supervisor import pair
from understudy.supervisor.core.events import (
    Alive,
    FromKeeper,
    Kill,
    Noted,
    Ready,
    ShutdownAsked,
    Spawn,
    Spawned,
)
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.core.succession import Next, Succession
from understudy.supervisor.keeper import reload
from understudy.supervisor.keeper.actors import SWEEP_S_MAX, Act, Actors
from understudy.supervisor.keeper.children import Process, close_others, fork
from understudy.supervisor.keeper.folders import Folders
from understudy.supervisor.keeper.wakeup import NOTED, Wakeup

SWEEP_POLL_MS = 2
REQUESTS_AT_ONCE = 16  # A start takes milliseconds: in between the supervisor hears who lives and who ended.

Supervise = Callable[[HouseSpec, socket.socket, list[Spawned], str], int]
SuperviseSafely = Callable[[HouseSpec, socket.socket], int]


@dataclass(slots=True, repr=False)  # A text of it would be one of the whole house.
class Keeper:
    """Keeps one house. `supervise`, `supervise_safely` and `act` are what its children run."""

    house: HouseSpec
    supervise: Supervise
    supervise_safely: SuperviseSafely
    act: Act
    _pair: socket.socket = field(init=False)
    _supervisor: Process | None = None
    _starts_at: float | None = None  # A failed start is tried again then.
    _actors: Actors = field(init=False)
    _queue: deque[bytes] = field(default_factory=deque[bytes])
    _hung_up: bool = False
    _succession: Succession = field(default_factory=Succession)
    _not_ours: set[int] = field(default_factory=set[int])
    _folders: Folders = field(init=False)
    _wakeup: Wakeup = field(init=False)

    def run(self, inherited: reload.Inherited | None = None) -> int:
        """Open the house and keep it until it is shut down; return the exit status. Raises `HouseError`."""
        become_subreaper()
        self._folders = Folders(
            self.house.runtime_dir, self.house.state_dir, inherited.descriptors if inherited else None
        )
        self._actors = Actors(self.house, self._folders, self.act, self._leave_keeper, self._report)
        if inherited:
            self._succession.served = True  # The house did, before.
            self._not_ours = set(inherited.not_ours)
            self._actors.inherit(inherited)
        else:
            if left := self._end_all(self._folders.left):
                _say(f"{left} process(es) of an earlier run could not be ended")
            self._not_ours = set(processes.own_children(set()))  # Of a shell that became us.
            self._actors.clear_groups()
        self._actors.note()
        reload.hold_signals()
        self._actors.rehearse()
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
            poll.register(self._pair, select.POLLIN | (select.POLLOUT if self._queue else 0))
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
        self._actors.sweep(self._known())
        self._write()
        self._actors.note()
        if self._actors.blanks.due_ms() == 0.0 and not self._wakeup.told:
            self._actors.fork_blank(self._known())
        if self._succession.hangs(time.monotonic()) and self._supervisor is not None:
            _say("the supervisor hangs: ending it")
            self._supervisor.kill()
        return self._see_supervisor()

    def _wait_ms(self) -> float | None:
        if self._actors.sweeping:
            return SWEEP_POLL_MS
        if self._supervisor is None and self._starts_at is None:
            return 0.0  # It could not be forked.
        now, dues = time.monotonic(), (self._succession.watch_due, self._starts_at)
        waits_ms = [max(0.0, 1000 * (due - now)) for due in dues if due is not None]
        blank_ms = None if self._wakeup.told else self._actors.blanks.due_ms()
        return min([*waits_ms, *([] if blank_ms is None else [blank_ms])], default=None)

    def _report_told(self) -> None:
        self._report(ShutdownAsked(hurry=self._wakeup.told > 1))

    def _requests(self) -> None:
        requests = pair.read_requests(self._pair, REQUESTS_AT_ONCE)
        if requests:
            self._succession.alive(time.monotonic())  # Its word for that waits behind what it asks for.
        spawns: list[Spawn] = []
        for request in requests:
            if isinstance(request, Spawn):
                spawns.append(request)
                continue
            self._actors.spawn(spawns)  # A kill may be of one of them.
            spawns.clear()
            match request:
                case Kill(actor=actor, epoch=epoch, signal=number):
                    self._actors.kill(actor, epoch, number)
                case Ready():
                    self._succession.ready(time.monotonic())
                    self._actors.blanks.want()
                case Alive():
                    pass
                case Noted(actor=actor, epoch=epoch):
                    self._actors.forget_exit(actor, epoch)
                case _:
                    assert_never(request)
        self._actors.spawn(spawns)

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
        self._actors.blanks.dismiss()
        self._pair.close()
        close_others(kept)

    # --- reaping ---

    def _reap(self) -> None:
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if seen is None:
                break
            if self._supervisor is not None and seen.si_pid == self._supervisor.pid:
                self._supervisor.poll()  # See `_see_supervisor`.
            elif not self._actors.see_ended(seen.si_pid):
                os.waitpid(seen.si_pid, 0)  # A stray that came home.
        self._actors.see_suspended()

    # --- the supervisor ---

    def _start_supervisor(self) -> None:
        try:
            self._pair, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            _say(f"there can be no supervisor now: {error}")
            self._starts_at = None
            return
        self._pair.setblocking(False)
        self._queue.clear()
        living = self._actors.living
        for spawned in living if self._succession.safe else []:
            self._actors.kill(spawned.actor, spawned.epoch, signal.SIGKILL)
        for each in self._actors.exits:  # The last one may not have got to hear of it, or to write it down.
            living.append(each.spawned)
            self._report(each.exited)
        self._hung_up, self._starts_at = False, None
        process = fork(lambda: self._be_supervisor(theirs, living))
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
        # The next one asks for what this one still wanted; but that it served decides what its end means.
        if any(isinstance(each, Ready) for each in pair.read_requests(self._pair, sys.maxsize)):
            self._succession.ready(time.monotonic())
        self._pair.close()
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
        self._actors.blanks.dismiss()
        actors, exits, descriptors = self._actors.leave_behind(), self._actors.exits, self._folders.descriptors
        left = reload.Inherited(reload.VERSION, self.house, descriptors, actors, list(self._not_ours), exits)
        try:
            reload.become(list(self.house.command), left)
        except Exception as error:  # noqa: BLE001 (whatever it is, the house goes on)
            _say(f"cannot reload, going on as before: {error}")
        reload.release_signals()

    def _end_rest(self) -> None:
        """End whatever still lives, at the end of the house."""
        self._actors.blanks.dismiss()
        if self._supervisor is not None:
            processes.kill(self._supervisor.pid, signal.SIGKILL)
        until = time.monotonic() + SWEEP_S_MAX
        self._end_all(self._actors.living)
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
        self._actors.clear_groups()
        self._folders.clear()

    def _known(self) -> set[int]:
        return set() if self._supervisor is None else {self._supervisor.pid}

    def _end_all(self, living: list[Spawned]) -> int:
        return processes.end_all(self._folders.house_id, [(each.pid, each.started) for each in living])

    def _report(self, message: FromKeeper) -> None:
        self._queue.append(pair.encode(message))

    def _write(self) -> None:
        while self._queue and self._supervisor is not None:
            try:
                self._pair.send(self._queue[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._queue.clear()  # It is gone: the next one is told who lives.
                return
            self._queue.popleft()


def _say(text: str) -> None:
    say(f"keeper: {text}")
