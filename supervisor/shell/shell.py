"""The supervisor's loop: readiness -> events -> core -> effects. One thread decides and acts; no locks, no policy.

Effects run in order; `core.outbox` holds those that wait for the log.
"""

import asyncio
import gc
import os
import resource
import socket
import time
import traceback
from random import Random
from typing import Any

import msgspec
import zmq

from understudy.protocol.frames import Frame, FromActor, FromClient
from understudy.protocol.news import KeeperGone, LogDoubtful, LogStalled, LogWritten, News
from understudy.protocol.paths import backstage_address, gateway_address
from understudy.protocol.processes import end_all, start_ticks
from understudy.protocol.stderr import say
from understudy.supervisor import pair
from understudy.supervisor.core import at_rest, invariants
from understudy.supervisor.core.core import Core
from understudy.supervisor.core.events import (
    ActorSaid,
    ActorUnreachable,
    Alive,
    Announce,
    ClientLost,
    ClientSaid,
    Effect,
    Event,
    Exited,
    Finish,
    ForgetMarks,
    KeepEnvironment,
    Kill,
    LogFailed,
    Noted,
    ReadEntries,
    Ready,
    Spawn,
    Spawned,
    TellActor,
    TellClient,
    Ticked,
)
from understudy.supervisor.core.outbox import Act, Outbox
from understudy.supervisor.core.restored import Restored
from understudy.supervisor.core.specs import HouseSpec
from understudy.supervisor.core.succession import ALIVE_EVERY_S, STATUS_HOPELESS, STATUS_LATER, STATUS_RELOAD
from understudy.supervisor.log.log import Log, LogError
from understudy.supervisor.shell import heap
from understudy.supervisor.shell.environments import Environments
from understudy.supervisor.shell.marks import Marks
from understudy.supervisor.shell.read_back import LOG_RETRY_S, ReadBack
from understudy.supervisor.shell.safe import forget_fall, note_fall
from understudy.supervisor.shell.sockets import Router
from understudy.supervisor.shell.watch import Watch

TEND_S = 0.1
NEWS_PER_S_MAX = 20


class Shell:
    """Runs one `Core` in the world."""

    def __init__(self, house: HouseSpec, keeper: socket.socket, living: list[Spawned], house_id: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._keeper = keeper
        self._to_keeper = pair.ToKeeperQueue(keeper)
        self._house_id = house_id
        # First of all: who comes back connects while the log is read, and is heard right after.
        self._backstage, self._gateway = self._open_sockets(house.runtime_dir, house.state_dir)
        restored = self._open_log(os.path.join(house.state_dir, "log.sqlite"))  # noqa: PTH118
        # Whose end the last supervisor may not have heard of counts as living: the keeper tells of it again.
        living = [each for each in living if not self._log.has_ended(each.actor, each.epoch)]
        self._living = {(each.actor, each.epoch): each for each in living}
        self._marks = Marks(house.state_dir, house.runtime_dir, living)
        shown = self._marks.left()
        for actor, epoch in shown:  # A spawn that the log did not get to hear of counts as well.
            restored.epochs[actor] = max(epoch, restored.epochs.get(actor, 0))
        self._core = Core(
            house,
            restored,
            shown,
            Random(os.urandom(16)),
            living,
            time.monotonic(),
            _wall(),
            self._log.epoch,
            self._log.generation,
            os.getpid(),
            f"{self._log.boot_id}/{os.getppid()}/{start_ticks(os.getppid())}",
        )
        self._read_back = ReadBack(self._log, self._backstage, self.push, self._is_there, self._announce)
        self._environments = Environments(house.state_dir, self._log.environments)
        self._events: list[Event] = []
        self._asserts = invariants.VARIABLE in os.environ
        self._scheduled = False
        self._outbox = Outbox()
        self._tended = 0
        self._tending: asyncio.TimerHandle | None = None
        self._tend_failed = self._tend_now = False
        self._retrying: asyncio.TimerHandle | None = None
        self._failing_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._announced_at = 0.0
        self._announced = 0
        self.status = asyncio.get_running_loop().create_future()
        self._loop.add_reader(keeper.fileno(), self._from_keeper)
        for warning in self._log.warnings:
            self._announce(LogDoubtful(warning))
        self._run(self._core.start(time.monotonic(), _wall()))
        self._to_keeper.send(Ready())
        self._watch = Watch(self._core.house, house_id, self._living, self.push)
        self._say_alive()

    def _open_log(self, path: str) -> Restored:
        try:
            self._log = Log(path)
            return self._log.restore()
        except LogError:
            self._gateway.close()
            self._backstage.close()
            raise

    def _is_there(self, client: bytes) -> bool:
        return client in self._core.house.clients

    def _say_alive(self) -> None:
        self._to_keeper.send_if_room(Alive())
        heap.trim()  # Connections may have ended, with what waited for them.
        self._loop.call_later(ALIVE_EVERY_S, self._say_alive)

    def _open_sockets(self, runtime_dir: str, state_dir: str) -> tuple[Router, Router]:
        self._context = context = zmq.Context()
        backstage = Router(
            context,
            backstage_address(runtime_dir),
            FromActor,
            state_dir,
            self._from_actor,
            lambda peer: self.push(ActorUnreachable(peer)),
            self._drained,
            self._untaken,
            self._announce,
        )
        gateway = Router(
            context,
            gateway_address(runtime_dir),
            FromClient,
            state_dir,
            self._from_client,
            lambda peer: self.push(ClientLost(peer)),
            self._drained,
            self._untaken,
            self._announce,
        )
        return backstage, gateway

    # --- events ---

    def push(self, event: Event) -> None:
        """Give the core an event in the next step."""
        self._events.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._step)

    def _untaken(self, peer: bytes) -> int | None:
        window = self._core.house.budget.windows.get(peer)
        return None if window is None else window.under_way

    def _drained(self) -> None:
        """A socket gave what it had: act on it in this same turn of the loop."""
        if self._events:
            self._step()

    def _from_client(self, peer: bytes, frames: list[Frame]) -> None:
        self._events.extend(ClientSaid(peer, frame) for frame in frames)  # type: ignore[arg-type]

    def _from_actor(self, peer: bytes, frames: list[Frame]) -> None:
        self._events.extend(ActorSaid(peer, frame) for frame in frames)  # type: ignore[arg-type]

    def _from_keeper(self) -> None:
        messages = pair.read_messages(self._keeper)
        if messages is None:
            self._keeper_died()
            return
        for message in messages:
            match message:
                case Spawned():
                    self._living[message.actor, message.epoch] = message
                    self.push(message)
                case Exited():
                    self._living.pop((message.actor, message.epoch), None)
                    self.push(self._with_shown(message))
                case _:
                    self.push(message)

    def _with_shown(self, event: Exited) -> Exited:
        """Add which turns the dead actor's agent may have seen."""
        shown = self._marks.of(event.actor, event.epoch)
        return msgspec.structs.replace(event, shown=None if shown is None else sorted(shown))

    def _keeper_died(self) -> None:
        """Without a keeper nobody reaps: end everything in order; the next start goes on from the log."""
        self._loop.remove_reader(self._keeper.fileno())
        self._to_keeper.close()
        self._announce(KeeperGone())
        end_all(self._house_id, [(each.pid, each.started) for each in self._living.values()])
        self._finish(1)

    # --- steps ---

    def _step(self) -> None:
        self._scheduled = False
        events, self._events = self._events, []
        if not events or self.status.done():  # What comes after the end is said again to the next supervisor.
            return
        events = at_rest.with_past(self._core.house, events, self._log)
        effects = self._core.handle(events, time.monotonic(), _wall())
        events.clear()  # What is large is held by its effects from here on.
        if self._asserts:
            invariants.of_house(self._core.house)
        self._run(effects)

    def _run(self, effects: list[Effect]) -> None:
        while effects:
            for effect in effects:
                due = self._outbox.take(effect)
                if due is not None:
                    self._act(due)
            effects = self._commit()
        self._backstage.flush()
        self._gateway.flush()
        self._set_timer()
        if self._tending is None and self._outbox.committed != self._tended:
            self._tending = self._loop.call_later(TEND_S, self._tend)
        if self._log.due and not self._tend_failed and not self._tend_now:
            self._tend_now = True
            self._loop.call_soon(self._tend)  # Others have their turn in between.

    def _act(self, effect: Act) -> None:
        match effect:
            case TellClient():
                self._gateway.send(effect.peer, effect.frame, effect.lazily)
            case TellActor():
                self._read_back.tell(effect)
            case ReadEntries():
                self._read_back.read(effect)
            case KeepEnvironment():
                self.push(self._environments.keep(effect))
            case Spawn() | Kill():
                self._to_keeper.send(effect)
            case ForgetMarks(actor=actor, epoch=epoch):
                self._marks.forget(actor, epoch)
                self._to_keeper.send(Noted(actor, epoch))
            case Announce(news=news):
                self._loop.call_soon(self._announce, news)  # First what somebody waits for.
            case Finish(reload=reload):
                self._loop.call_soon(self._finish, STATUS_RELOAD if reload else 0)

    def _commit(self) -> list[Effect]:
        """Write what is to be recorded, release what waited for it, and tell the core."""
        records = self._outbox.records
        if not records or self._retrying is not None:
            return []
        try:
            self._log.commit(records)
        except LogError as error:
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                self._announce(LogStalled(str(error)))
            self._retrying = self._loop.call_later(LOG_RETRY_S, self._try_again)
            return self._core.handle([LogFailed(str(error))], time.monotonic(), _wall())
        if self._failing_since is not None:
            self._announce(LogWritten(time.monotonic() - self._failing_since))
            self._failing_since = None
        released, committed = self._outbox.written(len(records))
        for effect in released:
            self._act(effect)
        return self._core.handle([committed], time.monotonic(), _wall())

    def _tend(self) -> None:
        """Move what is committed into the log's tables, when nobody waits for it."""
        if self.status.done():
            return
        if self._tending is not None:
            self._tending.cancel()
        self._tend_now = False
        try:
            self._log.tend()
        except LogError as error:
            if not self._tend_failed and self._failing_since is None:
                self._announce(LogStalled(str(error), tables=True))
            self._tend_failed = True
            self._tending = self._loop.call_later(LOG_RETRY_S, self._tend)
        else:
            self._tended, self._tend_failed, self._tending = self._outbox.committed, False, None

    def _try_again(self) -> None:
        self._retrying = None
        if self.status.done():
            return
        self._run(self._commit())

    def _set_timer(self) -> None:
        due = self._core.deadline()
        if self._timer is not None and due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(max(due, self._loop.time()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.push(Ticked())

    def _announce(self, news: News) -> None:
        """Write a line to stderr, at most `NEWS_PER_S_MAX` in a second; the rest is counted."""
        now = time.monotonic()
        if now - self._announced_at >= 1.0:
            if self._announced > NEWS_PER_S_MAX:
                say(f"{self._announced - NEWS_PER_S_MAX} more lines like these were left out")
            self._announced_at, self._announced = now, 0
        self._announced += 1
        if self._announced <= NEWS_PER_S_MAX:
            say(str(news))

    def fall(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What broke in a callback ends the supervisor: it may be half done, and the next one goes on from the log."""
        error = context.get("exception")
        if error is None or self.status.done():
            loop.default_exception_handler(context)
        else:
            self.status.set_exception(error)

    def _finish(self, status: int) -> None:
        if not self.status.done():
            self._gateway.close(200)
            self._backstage.close()
            if self._tending is not None:
                self._tending.cancel()
            self._log.close()
            self._context.term()  # It sends what is due, as long as `close` says: the process would end before.
            self.status.set_result(status)


def _wall() -> float:
    return time.time()  # noqa: TID251 (only ever recorded)


def _tune() -> None:
    """Take all descriptors there are (libzmq aborts without), and collect garbage seldom: little of it is cyclic."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    heap.tune()


def main(house: HouseSpec, keeper: socket.socket, living: list[Spawned], house_id: str) -> int:
    """Be the supervisor until the house is shut down; return its exit status. Called in the keeper's fork."""
    _tune()
    forget_fall(house.runtime_dir)

    async def run() -> int:
        shell = Shell(house, keeper, living, house_id)
        asyncio.get_running_loop().set_exception_handler(shell.fall)
        return int(await shell.status)

    try:
        return asyncio.run(run())
    except LogError as error:
        note_fall(house.runtime_dir, str(error))
        say(str(error))
        return STATUS_LATER if error.passes else STATUS_HOPELESS
    except Exception:
        note_fall(house.runtime_dir, traceback.format_exc())
        raise
