"""Any ACP agent as a program of the actor: one process that holds all sessions.

It translates ids and keeps order; what it says to the program is constant, so that a warm
program can be initialised before any client is there. When the program is gone, the actor ends.
"""

import array
import asyncio
import collections
import contextlib
import fcntl
import os
import subprocess
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.actors.actor import Actor, ActorError, Role, SessionPlan, Turn, Voice, cannot_start
from understudy.actors.drivers.terminals import LocalClient
from understudy.actors.limits import exit_code, program_preexec
from understudy.protocol.connection import Connection
from understudy.protocol.jsonrpc import INTERNAL_ERROR, METHOD_NOT_FOUND, JsonRpcError
from understudy.protocol.owners import open_ours

READ_BYTES = 1 << 18
STDERR_BYTES_MAX = 10 << 20
STDERR_LINES_KEPT = 20
INITIALIZE_S_MAX = 55.0
TERMINATE_SHARE = 0.9  # Of the grace: by then an agent that heeds the end of its stdin has ended.
CLIENT = {
    "protocolVersion": 1,
    "clientCapabilities": {"fs": {"readTextFile": True, "writeTextFile": True}, "terminal": True},
    "clientInfo": {"name": "understudy", "title": "Understudy", "version": "0.1.0"},
}
PERMISSION = "session/request_permission"


@dataclass(slots=True)
class _Session:
    """A session of ours in the program: its id there, what its opening gave, the turn that runs."""

    ours: str
    theirs: str
    cwd: str
    opened: dict[str, Any]
    turn: Turn | None = None
    quiet: bool = False
    asks: set["asyncio.Future[Any]"] = field(default_factory=set)


class AcpProgram(Actor):
    """Drives an ACP agent over its stdin and stdout."""

    begins_itself = True

    def __init__(self, role: Role, voice: Voice) -> None:
        super().__init__(role, voice)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection = Connection(self._send, self._on_request, self._on_notification)
        self._initialized: dict[str, Any] = {}
        self._sessions: dict[str, _Session] = {}
        self._by_theirs: dict[str, _Session] = {}
        self._early: dict[str, list[dict[str, Any]]] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._local = LocalClient(role.memory_mb, role.files)
        self._last_lines: collections.deque[str] = collections.deque(maxlen=STDERR_LINES_KEPT)
        self._stdout: asyncio.StreamReader | None = None
        self._out: asyncio.StreamWriter | None = None
        self._stdin = -1
        self._written = 0
        self._unread = 0
        self._tasks: list[asyncio.Task[None]] = []

    # --- the program ---

    async def start(self) -> None:
        """Start the program and initialize it."""
        role = self.role
        try:
            # Popen in this, the main thread: the program's death signal follows the thread that made it.
            self._process = process = subprocess.Popen(
                role.command,
                cwd=role.cwd or None,
                env={**os.environ, **role.env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=program_preexec(role.memory_mb, role.files),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise cannot_start(role, error) from error
        self.program_pid = process.pid
        self._stdin = os.dup(_given(process.stdin).fileno())  # Outlives the pipe's closing, to see what was left.
        loop = asyncio.get_running_loop()
        self._stdout = asyncio.StreamReader(limit=READ_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(_given(self._stdout)), _given(process.stdout))
        stderr = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stderr), _given(process.stderr))
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, _given(process.stdin))
        self._out = asyncio.StreamWriter(transport, protocol, None, loop)
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._drain(stderr))]
        request = asyncio.ensure_future(self._connection.request("initialize", CLIENT))
        try:
            self._initialized = await asyncio.wait_for(request, INITIALIZE_S_MAX)
        except TimeoutError as error:
            raise ActorError(f"agent {role.name}: no answer to initialize within {INITIALIZE_S_MAX:g} s") from error
        except JsonRpcError as error:
            raise ActorError(f"agent {role.name}: {self.end_reason or f'initialize: {error.message}'}") from error

    async def stop(self, grace_s: float) -> None:
        """Close its stdin, wait, terminate, kill. One that ends at the end of its stdin may take nearly all the time."""
        process = self._process
        if process is None:
            return
        self._local.close()
        if self._out is not None and self._stdin >= 0:
            self._out.close()
            os.close(self._stdin)  # Else the program would not see the end.
            self._stdin = -1
        for share, ask in ((TERMINATE_SHARE, process.terminate), (1.0 - TERMINATE_SHARE, process.kill)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace_s * share)
                return
            ask()
        await self.ended.wait()

    def _send(self, line: bytes) -> None:
        if self._out is not None:
            self._written += len(line)
            if self._out.is_closing():
                self._unread += len(line)
            else:
                self._out.write(line)

    async def _read(self) -> None:
        reader = _given(self._stdout)
        while piece := await reader.read(READ_BYTES):
            await self._connection.feed(piece)
        process = _given(self._process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        await asyncio.wait(self._tasks[1:], timeout=0.2)
        status = process.poll()
        self._unread += self._bytes_unread()
        self.end_status = exit_code(status)
        how = "closed its output" if status is None else f"ended ({_status(status)})"
        words = "\n".join(self._last_lines)
        self.end_reason = f"the program {self.role.command[0]} {how}" + (f"; its last words:\n{words}" if words else "")
        self.ended.set()
        self._connection.close(self.end_reason)

    def _bytes_unread(self) -> int:
        """Return how many bytes that were said to the program it never read: in the pipe, or not even there."""
        count = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._stdin, termios.FIONREAD, count)
        buffered: int = _given(self._out).transport.get_write_buffer_size()
        return count[0] + buffered

    async def _drain(self, stderr: asyncio.StreamReader) -> None:
        """Read stderr always; write it to the agent's log, which is bounded; drop it when that fails."""
        path = Path(self.role.log)
        while piece := await stderr.read(READ_BYTES):
            self._last_lines.extend(piece.decode(errors="replace").splitlines()[-STDERR_LINES_KEPT:])
            with contextlib.suppress(OSError):
                if path.exists() and path.stat().st_size > STDERR_BYTES_MAX:
                    path.replace(path.with_suffix(".log.1"))
                with open(path, "ab", opener=open_ours) as log:
                    log.write(piece)

    # --- sessions ---

    async def _ready(self, plan: SessionPlan) -> _Session:
        lock = self._opening.setdefault(plan.session, asyncio.Lock())
        async with lock:
            session = self._sessions.get(plan.session)
            if session is None:
                session = await self._open(plan)
            return session

    async def _open(self, plan: SessionPlan) -> _Session:
        params = {"mcpServers": [], **plan.opening, "cwd": plan.cwd}
        before = plan.memory.get("session") if isinstance(plan.memory, dict) else None
        if before is not None:
            loaded = await self._load(plan, before, params)
            if loaded is not None:
                return loaded
        try:
            opened = await self._connection.request("session/new", params)
        except JsonRpcError as error:
            raise _actor_error(error) from error
        session = _Session(plan.session, str(opened["sessionId"]), plan.cwd, opened)
        self._add(session)
        self.voice.remember(plan.session, {"session": session.theirs, "opened": opened})
        if before is not None:
            text = "[understudy] the agent could not load this session: it has forgotten what was said before."
            await self.voice.say(plan.session, 0, _chunk(text))
        for update in self._early.pop(session.theirs, []):
            await self.voice.say(plan.session, 0, update)
        return session

    async def _load(self, plan: SessionPlan, theirs: str, params: dict[str, Any]) -> _Session | None:
        capabilities = self._initialized.get("agentCapabilities") or {}
        method = "session/load" if capabilities.get("loadSession") else ""
        if not method and "resume" in (capabilities.get("sessionCapabilities") or {}):
            method = "session/resume"
        if not method:
            return None
        # What it replays is in the log already.
        session = _Session(plan.session, theirs, plan.cwd, dict(plan.memory.get("opened") or {}), quiet=True)
        self._add(session)
        try:
            loaded = await self._connection.request(method, {**params, "sessionId": theirs})
        except JsonRpcError:
            if self.ended.is_set():
                raise ActorError(self.end_reason) from None
            del self._sessions[plan.session], self._by_theirs[theirs]
            return None
        session.quiet = False
        session.opened.update(loaded or {})
        return session

    def _add(self, session: _Session) -> None:
        self._sessions[session.ours] = session
        self._by_theirs[session.theirs] = session

    # --- turns and calls ---

    async def play(self, turn: Turn) -> str:
        """Make the session ready, begin, prompt."""
        session = await self._ready(turn.plan)
        if turn.cancelled.is_set():
            return "cancelled"
        await turn.begin()
        if self._process is None or self._process.poll() is not None:
            await self._gone()
        turn.show()
        session.turn = turn
        before = self._written
        try:
            answer = await self._connection.request(
                "session/prompt", {"sessionId": session.theirs, "prompt": turn.content}
            )
        except JsonRpcError as error:
            if self.ended.is_set():
                if before >= self._written - self._unread:
                    turn.withdraw()  # The whole prompt still lies in the pipe.
                await self._gone()
            raise _actor_error(error) from error
        finally:
            session.turn = None
        return str(answer.get("stopReason", "end_turn")) if isinstance(answer, dict) else "end_turn"

    async def _gone(self) -> None:
        """The program is gone: the actor ends, and the supervisor settles the turn."""
        await self.ended.wait()
        raise ActorError(self.end_reason)

    async def cancel(self, turn: Turn) -> bool:
        """Tell the program; what it asks meanwhile is answered as cancelled."""
        session = self._sessions.get(turn.session)
        if session is None or session.turn is not turn:
            return False
        for ask in list(session.asks):
            ask.cancel()
        self._connection.notify("session/cancel", {"sessionId": session.theirs})
        return True

    async def call(self, plan: SessionPlan, method: str, body: Any) -> Any:
        """`ready`: what the opening gave; else forward the request to the program."""
        session = await self._ready(plan)
        if method == "ready":
            return {"opened": session.opened, "agent": self._initialized}
        params = {**(body or {}), "sessionId": session.theirs}
        try:
            return await self._connection.request(method, params)
        except JsonRpcError as error:
            raise _actor_error(error) from error

    # --- what the program says ---

    async def _on_notification(self, method: str, params: Any) -> None:
        if method != "session/update" or not isinstance(params, dict):
            return
        theirs, update = str(params.get("sessionId")), params.get("update")
        if not isinstance(update, dict):
            return
        session = self._by_theirs.get(theirs)
        if session is None:
            early = self._early.setdefault(theirs, [])
            if len(early) < 1000:
                early.append(update)
        elif not session.quiet:
            await self.voice.say(session.ours, session.turn.number if session.turn else 0, update)

    async def _on_request(self, method: str, params: Any) -> Any:
        if not isinstance(params, dict):
            raise JsonRpcError(METHOD_NOT_FOUND, f"nobody here serves {method}")
        session = self._by_theirs.get(str(params.get("sessionId")))
        turn = session.turn if session is not None else None
        if session is None or turn is None:
            return await self._local.serve(method, params, session.cwd if session else "")
        params = {**params, "sessionId": session.ours}
        if method == PERMISSION:
            return await self._permission(session, turn, params)
        if method in turn.serves:
            try:
                return await turn.ask(method, params, public=False)
            except ActorError as error:
                raise _rpc_error(error) from error
        return await self._local.serve(method, params, session.cwd)

    async def _permission(self, session: _Session, turn: Turn, params: dict[str, Any]) -> Any:
        cancelled = {"outcome": {"outcome": "cancelled"}}
        if turn.cancelled.is_set():
            return cancelled
        ask = asyncio.ensure_future(turn.ask(PERMISSION, params))
        session.asks.add(ask)
        try:
            return await ask
        except asyncio.CancelledError:
            return cancelled
        except ActorError as error:
            raise _rpc_error(error) from error
        finally:
            session.asks.discard(ask)


def _actor_error(error: JsonRpcError) -> ActorError:
    return ActorError(error.message, detail={"code": error.code, "message": error.message, "data": error.data})


def _rpc_error(error: ActorError) -> JsonRpcError:
    detail = error.detail if isinstance(error.detail, dict) else {}
    return JsonRpcError(int(detail.get("code", INTERNAL_ERROR)), error.text, detail.get("data"))


def _chunk(text: str) -> dict[str, Any]:
    return {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}


def _status(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}"


def _given(thing: Any) -> Any:
    assert thing is not None
    return thing
