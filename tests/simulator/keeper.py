"""The keeper's double: it forks, reaps and reports, in its own time."""

import signal
from collections import deque
from dataclasses import dataclass, field

from tests.simulator.actors import Actor, Phase
from tests.simulator.promises import Promises
from tests.simulator.scene import Scene
from understudy.protocol.environments import parts_of
from understudy.supervisor.core.events import Exited, FromKeeper, Kill, Spawn, Spawned, SpawnFailed

STOP_GRACE_S = 5.0


@dataclass(eq=False, slots=True)
class Keeper:
    """Parent of everything: `actors` are those it has not reported as exited."""

    scene: Scene
    promises: Promises
    actors: dict[tuple[str, int], Actor] = field(default_factory=dict[tuple[str, int], Actor])
    requests: deque[Spawn | Kill] = field(default_factory=deque[Spawn | Kill])
    reports: deque[FromKeeper] = field(default_factory=deque[FromKeeper])
    fork_fails: bool = False
    start_fails: bool = False
    leaves_process: bool = False
    pids: int = 0

    def living(self) -> list[Actor]:
        """Return the actors whose process exists."""
        return [actor for actor in self.actors.values() if actor.lives]

    def has_work(self) -> bool:
        """Whether it would do something now."""
        return bool(self.requests) or any(not actor.lives for actor in self.actors.values())

    def work(self) -> None:
        """Carry out one request, or report one death."""
        if self.requests:
            request = self.requests.popleft()
            if isinstance(request, Spawn):
                self._spawn(request)
            else:
                self._kill(request)
            return
        dead = next((actor for actor in self.actors.values() if not actor.lives), None)
        if dead is not None:
            del self.actors[dead.name, dead.epoch]
            self.promises.reap(dead.name, dead.epoch)
            survivors, self.leaves_process = int(self.leaves_process), False
            self.reports.append(Exited(dead.name, dead.epoch, dead.pid, dead.status, 0, survivors))

    def supervisor_died(self) -> list[Spawned]:
        """Read what it had still asked for, as far as that had left it; return whom the next one is told of."""
        for _ in range(self.scene.random.randrange(len(self.requests) + 1)):
            self.work()
        self.requests.clear()
        self.reports.clear()
        return [
            Spawned(each.name, each.epoch, each.pid, 1, each.plays_agent, each.place) for each in self.actors.values()
        ]

    def end_everything(self) -> None:
        """The keeper itself is dead, or the house ends: nothing of it lives, and nobody is told."""
        for actor in self.living():
            actor.die(-signal.SIGKILL)
        self.actors.clear()
        self.promises.opened.clear()
        self.requests.clear()
        self.reports.clear()

    def _spawn(self, request: Spawn) -> None:
        if self.fork_fails:
            self.fork_fails = False
            self.reports.append(SpawnFailed(request.actor, request.epoch, "no memory"))
            return
        own = parts_of(request.actor)[1]
        assert not own or own in self.scene.environments, f"{request.actor} is started in what nobody kept"
        self.pids += 1
        fails, self.start_fails = self.start_fails, False
        actor = Actor(
            self.scene,
            self.promises,
            request.actor,
            request.epoch,
            self.pids,
            request.plays,
            request.place,
            fails,
            self.scene.seed % 2 == 0,
        )
        self.actors[request.actor, request.epoch] = actor
        self.reports.append(Spawned(request.actor, request.epoch, self.pids, 1, request.plays, request.place))

    def _kill(self, request: Kill) -> None:
        actor = self.actors.get((request.actor, request.epoch))
        if actor is None or not actor.lives:
            return
        if request.signal == signal.SIGKILL:
            actor.die(-signal.SIGKILL)
        elif actor.phase is Phase.FORKED:
            actor.die(-request.signal)
        else:
            actor.stop(STOP_GRACE_S)
