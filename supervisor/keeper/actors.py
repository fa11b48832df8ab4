"""The processes of actors: forked, known by their marks, killed, reaped and swept. For the keeper; it decides nothing.

An actor has ended, and `Exited` is reported, when nothing lives of its tree: it is reaped, its group killed, its strays
are swept.
"""

import contextlib
import importlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from understudy.actors.actor import Role
from understudy.actors.rehearsal import rehearse_often
from understudy.protocol import processes
from understudy.protocol.drivers import DRIVERS
from understudy.protocol.environments import parts_of
from understudy.protocol.mark import ACTOR, BLANK, MARK_VARIABLE, mark_of
from understudy.protocol.stderr import say
from understudy.supervisor import pair
from understudy.supervisor.core.events import Exited, FromKeeper, Spawn, Spawned, SpawnFailed, Suspended
from understudy.supervisor.core.specs import AgentSpec, HouseSpec
from understudy.supervisor.keeper import reload
from understudy.supervisor.keeper.blanks import Blanks
from understudy.supervisor.keeper.cgroups import Groups
from understudy.supervisor.keeper.children import Process, fork_each
from understudy.supervisor.keeper.folders import Folders

SWEEP_S_MAX = 2.0
EXITS_MAX = 1_000  # Of which no supervisor has said yet that they are in the log.

Receive = Callable[[], tuple[Role, str]]
Act = Callable[[Receive, HouseSpec, int | None], int]


@dataclass(slots=True, eq=False)
class _Tree:
    """An actor's process, or what is left of all that descends from it."""

    spawned: Spawned
    process: Process
    mark: str
    status: int | None = None
    swept: set[int] = field(default_factory=set[int])
    sweep_until: float = 0.0


class Actors:
    """The actors of one house, and the blank that waits to be one.

    `act` is what they run; `leave` undoes in a fresh child what only the keeper wants, but for the descriptors that it is
    given; `report` tells the supervisor.
    """

    def __init__(
        self,
        house: HouseSpec,
        folders: Folders,
        act: Act,
        leave: Callable[[list[int]], None],
        report: Callable[[FromKeeper], None],
    ) -> None:
        self._house, self._folders, self._act, self._leave, self._report = house, folders, act, leave, report
        self._specs = {agent.name: agent for agent in house.agents}
        self._groups = Groups.of_house()
        self._trees: dict[int, _Tree] = {}
        self._dead: list[_Tree] = []  # Those that are reaped, and not swept yet.
        self._exits: dict[tuple[str, int], reload.Exit] = {}
        self._noted = False
        self.blanks = Blanks()

    # --- what lives ---

    def inherit(self, inherited: reload.Inherited) -> None:
        """Take over what the program before this one left."""
        self._exits = {(each.spawned.actor, each.spawned.epoch): each for each in inherited.exits}
        for actor in inherited.actors:
            process = Process(actor.spawned.pid, actor.status)
            until = time.monotonic() + SWEEP_S_MAX
            tree = _Tree(actor.spawned, process, actor.mark, actor.status, set(actor.ended), until)
            self._trees[actor.spawned.pid] = tree
            if tree.status is not None:
                self._dead.append(tree)

    def leave_behind(self) -> list[reload.Actor]:
        """Return what the next program is to inherit."""
        return [reload.Actor(a.spawned, a.mark, a.status, list(a.swept)) for a in self._trees.values()]

    @property
    def living(self) -> list[Spawned]:
        """Those that live, or of whose trees something may."""
        return [tree.spawned for tree in self._trees.values()]

    @property
    def exits(self) -> list[reload.Exit]:
        """Ends that may not be in the log yet."""
        return list(self._exits.values())

    def forget_exit(self, actor: str, epoch: int) -> None:
        """The end of actor#epoch is in the log."""
        self._exits.pop((actor, epoch), None)

    def note(self) -> None:
        """Write down who lives, for the keeper that finds us killed, unless that stands there."""
        if self._noted:
            return
        self._noted = True
        try:
            self._folders.note((a.spawned.pid, a.spawned.started, a.mark) for a in self._trees.values())
        except OSError as error:  # A full disk must not stop a restart.
            say(f"keeper: the record of actors cannot be written: {error.strerror}")

    # --- starts ---

    def spawn(self, requests: Sequence[Spawn]) -> None:
        """Start actors, and report each, or why there can be none.

        What is to be done for all of them is done before and after the forks: see `fork_each`.
        """
        given = [
            (self._role(self._specs[each.agent], each), f"{self._folders.house_id}/{each.actor}#{each.epoch}")
            for each in requests
        ]
        blank = self.blanks.give(given[0]) if given else None
        started: list[Process | str] = [] if blank is None else [blank]
        started += fork_each([partial(self._be_actor, partial(_same, each)) for each in given[len(started) :]])
        for request, (_, mark), process in zip(requests, given, started, strict=True):
            if isinstance(process, str):
                self._report(SpawnFailed(request.actor, request.epoch, process))
                continue
            ticks = processes.start_ticks(process.pid)
            spawned = Spawned(request.actor, request.epoch, process.pid, ticks, request.plays, request.place)
            self._trees[process.pid] = _Tree(spawned, process, mark)
            self._report(spawned)
            self._noted = False

    def fork_blank(self, known: set[int]) -> None:
        """Fork the next blank. `known`: children who are no actors."""
        self.blanks.fork(self._be_actor)
        self._rehearse(known)

    def rehearse(self) -> None:
        """Play what actors will, before the first fork: no child needs to learn it then."""
        rehearse_often(self._house)

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
            log=str(Path(self._house.state_dir, "agents", f"{spec.name}.log")),
            environment=parts_of(request.actor)[1],
            stop_grace_s=spec.stop_grace_s,
        )

    def _rehearse(self, known: set[int]) -> None:
        """Go through what a death takes: after a fork the first write to each page costs a copy of it."""
        for spec in self._house.agents[:1]:
            pickle.dumps((self._role(spec, Spawn(spec.name, 0, spec.name)), spec.name))
        pair.encode(Exited("", 0, 0, -signal.SIGKILL))
        pair.encode(Spawned("", 0, 0, processes.start_ticks(os.getpid())))
        self._unknown_children(known)
        self._noted = False
        self.note()

    def _be_actor(self, receive: Receive, waits_at: int | None = None) -> NoReturn:
        os.setsid()
        self._leave([] if waits_at is None else [waits_at])
        setproctitle(BLANK)

        def marked() -> tuple[Role, str]:
            role, mark = receive()
            os.environ[MARK_VARIABLE] = mark
            self._groups.enter(mark, role.memory_mb)
            setproctitle(f"{ACTOR}{role.name}#{role.epoch}")
            return role, mark

        try:
            status = self._act(marked, self._house, waits_at)
        except EOFError:  # The keeper is gone, or needs no blank any more.
            status = 0
        sys.exit(status)

    # --- ends ---

    def kill(self, actor: str, epoch: int, number: int) -> None:
        """Send a signal to actor#epoch; SIGKILL to its whole group."""
        for pid, tree in self._trees.items():
            if (tree.spawned.actor, tree.spawned.epoch) == (actor, epoch) and tree.status is None:
                if number == signal.SIGKILL:
                    processes.kill_group(pid)
                processes.kill(pid, number)

    def see_ended(self, pid: int) -> bool:
        """Reap the process if it is one of ours; return whether it is."""
        tree = self._trees.get(pid)
        if tree is not None and tree.status is None:
            tree.status = tree.process.poll()
            tree.sweep_until = time.monotonic() + SWEEP_S_MAX
            self._dead.append(tree)
        elif pid == self.blanks.pid:
            self.blanks.see_ended()
        else:
            return False
        return True

    def see_suspended(self) -> None:
        """Report those that a signal has suspended since."""
        with contextlib.suppress(ChildProcessError):
            while seen := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG):
                suspended = self._trees.get(seen.si_pid)
                if suspended is not None:
                    self._report(Suspended(suspended.spawned.actor, suspended.spawned.epoch))

    @property
    def sweeping(self) -> bool:
        """Whether something is left of one that was reaped."""
        return bool(self._dead)

    def sweep(self, known: set[int]) -> None:
        """End what is left of those that were reaped; report each of which nothing is. `known`: as for `fork_blank`."""
        if not self._dead:
            return
        dead = list(self._dead)
        found: list[set[int]] = []
        for tree in dead:
            processes.kill_group(tree.spawned.pid)
            found.append(set(self._groups.end(tree.mark)))
        # Each is looked at once: a living agent may have left thousands here.
        unknown = [(pid, session, mark_of(pid)) for pid, session in self._unknown_children(known).items()]
        for tree, strays in zip(dead, found, strict=True):
            pid = tree.spawned.pid
            strays |= {child for child, session, mark in unknown if tree.mark == mark or pid == session}
            tree.swept |= {stray for stray in strays if processes.kill(stray, signal.SIGKILL)}
            late = time.monotonic() > tree.sweep_until
            if late or not (strays or processes.kill_group(pid)):
                self._report_exit(tree, len(strays))

    def _report_exit(self, tree: _Tree, survivors: int) -> None:
        pid, name, epoch = tree.spawned.pid, tree.spawned.actor, tree.spawned.epoch
        assert tree.status is not None
        del self._trees[pid]
        self._dead.remove(tree)
        oom_kills = self._groups.remove(tree.mark)
        exited = Exited(name, epoch, pid, tree.status, len(tree.swept), survivors, oom_kills=oom_kills)
        self._report(exited)
        self._exits[name, epoch] = reload.Exit(tree.spawned, exited)
        if len(self._exits) > EXITS_MAX:
            del self._exits[next(iter(self._exits))]
        self._noted = False

    def _unknown_children(self, known: set[int]) -> dict[int, int]:
        living = {pid for pid, tree in self._trees.items() if tree.status is None}
        blank = set() if self.blanks.pid is None else {self.blanks.pid}
        return processes.own_children(living | blank | known)

    def clear_groups(self) -> None:
        """End and remove every group of the house."""
        self._groups.clear(self._folders.house_id)


def _same(given: tuple[Role, str]) -> tuple[Role, str]:
    return given


def load_actors(drivers: set[str]) -> Act:
    """Load what actors with these `drivers` run, and return it. Raises whatever a broken module raises."""
    from understudy.actors import entry

    for name in drivers:
        if home := DRIVERS[name].home:
            importlib.import_module(home.partition(":")[0])
    return entry.main
