"""Hosts one actor: connects, says hello, plays turns, says goodbye.

It decides nothing about restarts; the conversation itself is `protocol.backstage`'s.
"""

import asyncio
import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from understudy.actors.actor import Actor, ActorError, Role, SessionPlan, Turn
from understudy.actors.contained import contained, fault, stop_reason, words
from understudy.actors.playing import FLUSH_S_MAX, Playing
from understudy.protocol import processes, signals
from understudy.protocol.backstage import (
    Answered,
    Backstage,
    Called,
    Cue,
    EndRecorded,
    Freed,
    GoGiven,
    LinkRefused,
    StopAsked,
    TurnCancelled,
    TurnHanded,
)
from understudy.protocol.errors import AGENT_ERROR, BAD_FRAME, UnderstudyError
from understudy.protocol.frames import ActorCall, Answer, Frame, FrameError, Handover, unpack
from understudy.protocol.shown import ShownFile
from understudy.protocol.standing import Standing
from understudy.protocol.stderr import write_line

RETRY_S = 0.02
RETRY_S_MAX = 1.0
FLUSH_MS = 500
GOODBYE_S_MAX = 0.5
CLOCK_S = 0.001  # The loop may call a timer so much too early.
CANCEL_SHARE = 0.1  # The share of the grace in which turns may end before the program is told to.
KILLED_S_MAX = 0.5  # What a driver gets after the grace to kill its program and see its end.


class HousePlace(Protocol):
    """What an actor needs to know of its house."""

    @property
    def runtime_dir(self) -> str:
        """Where the backstage socket lies."""

    @property
    def state_dir(self) -> str:
        """Where what an actor marks outlives it."""

    @property
    def orphan_grace_s(self) -> float:
        """How long to go on without a supervisor."""


class Connection(Protocol):
    """What carries frames to the supervisor; see `Dealer`."""

    def send(self, frames: list[Frame]) -> None:
        """Send `frames` in order."""

    def close(self, flush_ms: int = 0) -> None:
        """Close it; give what was sent `flush_ms` to leave."""


Cast = Callable[[Role, Any], Actor]
Connect = Callable[[Callable[[list[Frame]], None], Callable[[str], None]], Connection]


class Host:
    """Hosts one actor. It is the actor's `Voice`."""

    def __init__(
        self, role: Role, house: HousePlace, mark: str, shown: ShownFile, cast: Cast, connect: Connect
    ) -> None:
        """`cast` makes the actor that plays `role`; `connect` makes a connection to the supervisor."""
        self._role = role
        self._house = house
        self._mark = mark
        self._keeper = os.getppid()
        self._machine = Backstage(role.name, role.epoch, os.getpid())
        self._connect_to, self._cast, self._shown = connect, cast, shown
        self._connection: Connection | None = None
        self._retry_s = RETRY_S
        self._playing = Playing(house.orphan_grace_s)
        self._freed = asyncio.Event()
        self._goes: dict[tuple[str, int], asyncio.Event] = {}
        self._turns: dict[tuple[str, int], tuple[Turn, asyncio.Task[None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._asks: dict[str, asyncio.Future[Any]] = {}
        self._stop: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._orphaned = False
        self._send_scheduled = False
        self._actor: Actor | None = None

    # --- the life of the process ---

    async def run(self) -> int:
        """Play until told to stop or until the program is gone; return the exit status."""
        loop = asyncio.get_running_loop()

        def told(*_: object) -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: it has ended already.
                loop.call_soon_threadsafe(self._ask_stop, self._role.stop_grace_s)

        signals.hear(signal.SIGTERM, told)
        try:
            self._actor = actor = self._cast(self._role, self)
            if not await self._start_or_stop(actor):
                return await self._stop_in_order(actor, self._stop.result())
        except UnderstudyError as error:
            return await self._fail(error.text, getattr(error, "status", 0))
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 (what a user's class raises is the reason)
            _complain(traceback.format_exc())
            return await self._fail(f"could not start: {words(error)}")
        self._playing.takes_turns = True
        self._connect()
        ended = asyncio.ensure_future(actor.ended.wait())
        waiting: set[asyncio.Future[Any]] = {ended, self._stop}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.done():
            return await self._leave(actor.end_reason or "the program ended", actor.end_status)
        ended.cancel()
        return await self._stop_in_order(actor, self._stop.result())

    async def _start_or_stop(self, actor: Actor) -> bool:
        """Start the actor; return False when it was told to stop first."""
        starting = asyncio.ensure_future(contained(actor.start))
        waiting: set[asyncio.Future[Any]] = {starting, self._stop}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.wait({starting})
        return False

    async def _stop_in_order(self, actor: Actor, grace_s: float) -> int:
        """Cancel the turns and stop the program. Both have all of `grace_s`; the program is told a little later."""
        self._playing.stop()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        tasks = [task for _, task in self._turns.values()]
        tasks += [asyncio.ensure_future(self._cancel(*playing)) for playing in self._turns.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s * CANCEL_SHARE)
        try:
            left_s = max(0.0, until - loop.time())
            await asyncio.wait_for(contained(actor.stop, left_s), left_s + KILLED_S_MAX)
        except TimeoutError:
            _complain(f"{self._role.name}: did not stop within {grace_s:g} s")
        except Exception:  # noqa: BLE001 (a user's class that cannot stop is ended all the same)
            _complain(traceback.format_exc())
        if late := [task for task in tasks if not task.done()]:
            await asyncio.wait(late, timeout=max(0.0, until - loop.time()))
        if self._orphaned:
            self._end_tree()
        return await self._leave("stopped", status=0)

    async def _fail(self, reason: str, status: int = 0) -> int:
        """Say why it could not start, and end."""
        self._machine.ready = False
        self._connect()
        return await self._leave(reason, status or (1 if self._actor is None else self._actor.end_status))

    async def _leave(self, reason: str, status: int) -> int:
        """Say goodbye once everything said is recorded, within a bound."""
        self._playing.takes_turns = False
        with contextlib.suppress(TimeoutError):  # The supervisor is away: the turn ends as interrupted.
            await asyncio.wait_for(self._all_recorded(), FLUSH_S_MAX)
        self._machine.leave(reason)
        with contextlib.suppress(TimeoutError):  # The keeper may have told of our end already: then nobody answers.
            await asyncio.wait_for(self._parted(), GOODBYE_S_MAX)
        if self._connection is not None:
            self._connection.close(flush_ms=FLUSH_MS)
        return status

    async def _parted(self) -> None:
        self._flush()
        while not self._machine.parted and self._machine.standing is Standing.UP:
            self._freed.clear()
            await self._freed.wait()

    async def _all_recorded(self) -> None:
        while not self._machine.all_recorded or self._machine.standing is Standing.GREETING:
            self._freed.clear()
            self._flush()
            await self._freed.wait()

    def _ask_stop(self, grace_s: float) -> None:
        if not self._stop.done():
            self._playing.stop()
            self._stop.set_result(grace_s)

    def _end_tree(self) -> None:
        """Nobody sweeps after us: end what we started, and our own group with us."""
        for pid in processes.marked(self._mark):
            processes.kill(pid, signal.SIGKILL)
        processes.kill_group(os.getpgid(0))

    # --- the connection ---

    def _connect(self) -> None:
        if self._connection is not None or self._orphaned:
            return
        self._connection = self._connect_to(self._take, self._broken)
        self._machine.connected()
        self._flush()

    def _broken(self, why: str) -> None:
        del why
        loop = asyncio.get_running_loop()
        self._connection = None
        self._machine.disconnected()
        if self._playing.orphan_due is None:
            self._playing.lost(loop.time())
            loop.call_later(self._house.orphan_grace_s, self._see_orphaned)
        loop.call_later(self._retry_s, self._connect)
        self._retry_s = min(self._retry_s * 1.5, RETRY_S_MAX)

    def _see_orphaned(self) -> None:
        due = self._playing.orphan_due
        # Otherwise the supervisor was found meanwhile, and lost again.
        if due is not None and asyncio.get_running_loop().time() >= due - CLOCK_S:
            self._orphaned = True
            self._ask_stop(self._role.stop_grace_s)

    def _flush(self) -> None:
        if self._connection is not None:
            frames: list[Frame] = list(self._machine.frames_to_send())
            self._connection.send(frames)

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._act(self._machine.receive(frame))  # type: ignore[arg-type]
        if self._machine.standing is Standing.UP:
            self._playing.found()
            self._retry_s = RETRY_S
        self._flush()

    def _act(self, cues: list[Cue]) -> None:
        for cue in cues:
            match cue:
                case Freed():
                    self._freed.set()
                case EndRecorded(session=session, turn=turn):
                    self._shown.over(session, turn)
                case TurnHanded(handover=handover):
                    # One that is not taken was seen by nobody, and goes to the next incarnation.
                    if self._playing.takes_turns:
                        self._hand(handover)
                case GoGiven(session=session, turn=turn):
                    if self._playing.may_go((session, turn)):
                        self._goes.pop((session, turn)).set()
                case TurnCancelled(session=session, turn=number):
                    self._cancel_soon(session, number)
                case Answered(answer=answer):
                    future = self._asks.pop(answer.ask, None)
                    if future is not None and not future.done():
                        _settle(future, answer)
                case Called(call=call):
                    if self._playing.takes_turns:
                        self._start(self._answer_call(call))
                case StopAsked(grace_s=grace_s):
                    self._ask_stop(grace_s)
                case LinkRefused(text=text):
                    _complain(f"{self._role.name}#{self._role.epoch}: refused: {text}")
                    self._orphaned = True
                    self._ask_stop(0.0)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # --- turns ---

    def _hand(self, handover: Handover) -> None:
        opening, memory = unpack(handover.opening) or {}, unpack(handover.memory)
        plan = SessionPlan(handover.session, handover.cwd, opening, memory, handover.persona)
        content = unpack(handover.body)
        turn = Turn(plan, handover.turn, content, frozenset(handover.serves), self, continues=handover.continues)
        task = asyncio.ensure_future(self._play(turn))
        self._turns[turn.session, turn.number] = (turn, task)

    async def _play(self, turn: Turn) -> None:
        assert self._actor is not None
        body: dict[str, Any] = {}
        try:
            if not self._actor.begins_itself:
                await turn.begin()
                turn.show()
            reason = stop_reason(self._actor, await contained(self._actor.play, turn))
        except asyncio.CancelledError:
            reason = "cancelled"
        except Exception as error:  # noqa: BLE001 (whatever a user's class raises ends the turn, visibly)
            reason, body = "failed", _told(error)
        key = (turn.session, turn.number)
        del self._turns[key]
        self._goes.pop(key, None)
        if self._playing.ended(key, reason, self._actor.ended.is_set()):
            self._machine.end(*key, reason, body)
            self._flush()

    def _cancel_soon(self, session: str, number: int) -> None:
        playing = self._turns.get((session, number))
        if playing is not None:
            self._playing.cancel((session, number))
            self._start(self._cancel(*playing))

    async def _cancel(self, turn: Turn, task: "asyncio.Task[None]") -> None:
        assert self._actor is not None
        turn.cancelled.set()
        try:
            understood = bool(await contained(self._actor.cancel, turn))
        except Exception:  # noqa: BLE001 (whatever a user's class raises: the coroutine is cancelled instead)
            _complain(traceback.format_exc())
            understood = False
        if self._playing.breaks_off((turn.session, turn.number), understood):
            task.cancel()

    async def _answer_call(self, call: ActorCall) -> None:
        assert self._actor is not None
        try:
            if not call.session:
                self._signal_program(call)
            else:
                opening, memory = unpack(call.opening) or {}, unpack(call.memory)
                plan = SessionPlan(call.session, call.cwd, opening, memory, call.persona)
                answer = await contained(self._actor.call, plan, call.method, unpack(call.body))
                self._machine.answer_call(call.request, answer)
        except Exception as error:  # noqa: BLE001 (whatever a user's class raises refuses the call)
            self._machine.refuse_call(call.request, **_told(error))
        self._flush()

    def _signal_program(self, call: ActorCall) -> None:
        """Send the program (ourselves, when there is none) a signal for a person."""
        assert self._actor is not None
        if processes.kill(self._actor.program_pid or os.getpid(), int(unpack(call.body))):
            self._machine.answer_call(call.request, None)
        else:
            self._machine.refuse_call(call.request, AGENT_ERROR, f"the program of {self._role.name} is gone", None)

    # --- the actor's voice ---

    async def say(self, session: str, turn: int, update: dict[str, Any]) -> None:
        """Queue one update; wait while too much is unrecorded."""
        self._machine.say(session, turn, update)
        if self._connection is not None:
            self._send_soon()
        while not self._machine.may_speak:
            self._freed.clear()
            await self._freed.wait()

    async def ask(self, session: str, turn: int, method: str, body: Any, public: bool) -> Any:
        """Return the answer; raise `ActorError` if nobody can answer."""
        name = self._machine.ask(session, turn, method, body, public)
        future = self._asks[name] = asyncio.get_running_loop().create_future()
        self._flush()
        try:
            return await future
        finally:
            self._asks.pop(name, None)

    async def begin(self, session: str, turn: int) -> None:
        """Return when the turn may be given to the agent."""
        if self._machine.begin(session, turn):
            return
        go = self._goes[session, turn] = asyncio.Event()
        self._playing.waits((session, turn))
        self._flush()
        await go.wait()

    def show(self, session: str, turn: int) -> None:
        """Mark that the agent is about to see the turn."""
        try:
            self._shown.show(session, turn)
        except OSError as error:
            raise ActorError(f"{self._house.state_dir} cannot be written: {error}; nothing was run") from error

    def withdraw(self, session: str, turn: int) -> None:
        """Take the mark back."""
        self._shown.withdraw(session, turn)

    def remember(self, session: str, body: Any) -> None:
        """Keep `body` for the session across actors."""
        self._machine.remember(session, body)
        self._flush()

    def _send_soon(self) -> None:
        if not self._send_scheduled:
            self._send_scheduled = True
            asyncio.get_running_loop().call_soon(self._send_now)

    def _send_now(self) -> None:
        self._send_scheduled = False
        self._flush()


def _settle(future: "asyncio.Future[Any]", answer: Answer) -> None:
    """Give a question its answer."""
    try:
        body = unpack(answer.body)
    except FrameError as error:
        future.set_exception(ActorError(f"the answer to {answer.ask} is no msgpack: {error}", code=BAD_FRAME))
        return
    if answer.error:
        future.set_exception(ActorError(answer.error, detail=body))
    else:
        future.set_result(body)


def _told(error: Exception) -> dict[str, Any]:
    """Return what is told of an exception; what nobody meant to raise is in the house's log as a whole."""
    if not isinstance(error, UnderstudyError):
        _complain(traceback.format_exc())
    return fault(error)


def _complain(text: str) -> None:
    """Write to the house's log, which may be full, or a pipe that nobody reads: then it is lost, and nothing else."""
    for line in text.splitlines():
        write_line(line)
