"""Any ACP agent as a program of the actor: one process that holds all sessions.

It translates ids and keeps order; what it says to the program is constant, so that a warm
program can be initialised before any client is there. When the program is gone, the actor ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from understudy.actors.actor import Actor, ActorError, Role, SessionPlan, Turn, Voice
from understudy.actors.contained import fault
from understudy.actors.drivers.early import Early
from understudy.actors.drivers.personas import CHANGED, Persona, name_of, takes_system_prompt, with_system_prompt
from understudy.actors.drivers.piped import Piped
from understudy.actors.drivers.settings import Setting, Settings, setting_of, shown
from understudy.actors.drivers.terminals import LocalClient
from understudy.protocol.acp import PERMISSION, told
from understudy.protocol.connection import Connection
from understudy.protocol.jsonrpc import INVALID_PARAMS, JsonRpcError, error_of
from understudy.protocol.sizes import REASON_CHARACTERS_MAX

INITIALIZE_S_MAX = 55.0
ASKED_BYTES_MAX = 32 << 20
ID_CHARACTERS_MAX = 1000
DOUBT = "does it speak ACP?"
NOTES_MAX = 100  # Of what was odd in one turn: each is told once.
PROTOCOL_VERSION = 1
CLIENT = {
    "protocolVersion": PROTOCOL_VERSION,
    "clientCapabilities": {"fs": {"readTextFile": True, "writeTextFile": True}, "terminal": True},
    "clientInfo": {"name": "understudy", "title": "Understudy", "version": "0.1.0"},
}


@dataclass(slots=True)
class _Session:
    """A session of ours in the program: its id there, what its opening gave, what was set, the turn that runs.

    `quiet`: what it replays is in the log already. `early`: what came before its id was known goes first.
    """

    ours: str
    theirs: str
    cwd: str
    opened: dict[str, Any]
    settings: Settings
    quiet: bool = False
    early: bool = False
    turn: Turn | None = None
    asks: set["asyncio.Future[Any]"] = field(default_factory=set)
    noted: set[str] = field(default_factory=set)
    persona: Persona = field(default_factory=Persona)


@dataclass(slots=True)
class _Door:
    """One at a time makes a session ready or sets something in it; `waiting`: how many want to."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class AcpProgram(Actor):
    """Drives an ACP agent over its stdin and stdout."""

    begins_itself = True

    def __init__(self, role: Role, voice: Voice) -> None:
        super().__init__(role, voice)
        self._connection = Connection(
            self._send, self._on_request, self._on_notification, self._on_odd, ASKED_BYTES_MAX
        )
        self._program = Piped(role, self._connection.feed, self._on_end)
        self._capabilities: dict[str, Any] = {}
        self._initialized: dict[str, Any] = {}
        self._takes_system_prompt = False
        self._sessions: dict[str, _Session] = {}
        self._by_theirs: dict[str, _Session] = {}
        self._early = Early()
        self._opening = 0
        self._doors: dict[str, _Door] = {}
        self._local = LocalClient(role.data_limit_mb, role.files, self._program.room)

    # --- the program ---

    async def start(self) -> None:
        """Start the program and initialize it."""
        await self._program.start()
        self.program_pid = self._program.pid
        who = f"agent {self.role.name}"
        request = asyncio.ensure_future(self._connection.request("initialize", CLIENT))
        try:
            answer = await asyncio.wait_for(request, INITIALIZE_S_MAX)
        except TimeoutError as error:
            raise ActorError(f"{who}: no answer to initialize within {INITIALIZE_S_MAX:g} s; {DOUBT}") from error
        except JsonRpcError as error:
            why = f"it ended before it answered initialize ({DOUBT}): {self.end_reason}"
            raise ActorError(f"{who}: {why if self.end_reason else f'initialize: {error.message}; {DOUBT}'}") from error
        if not isinstance(answer, dict):
            raise ActorError(f"{who}: its answer to initialize is no object; {DOUBT}")
        version = answer.get("protocolVersion")
        if version != PROTOCOL_VERSION or isinstance(version, bool):
            text = f"it speaks version {version!r:.50} of ACP, understudy speaks {PROTOCOL_VERSION}"
            raise ActorError(f"{who}: {text}: install a version of the agent that does, too")
        self._initialized = answer
        self._capabilities = _table(answer.get("agentCapabilities"))
        self._takes_system_prompt = takes_system_prompt(answer, self.role.options.get("persona"))

    async def stop(self, grace_s: float) -> None:
        """End the program in order, and what it started in terminals."""
        self._local.close()
        await self._program.stop(grace_s)

    def _send(self, line: bytes) -> None:
        self._program.send(line)

    def _on_end(self) -> None:
        self.end_status, self.end_reason = self._program.status, self._program.reason
        self.ended.set()
        self._connection.close(self.end_reason)

    # --- sessions ---

    @contextlib.asynccontextmanager
    async def _alone(self, session: str) -> AsyncIterator[None]:
        door = self._doors.setdefault(session, _Door())
        door.waiting += 1
        try:
            async with door.lock:
                yield
        finally:
            door.waiting -= 1
            if not door.waiting:
                del self._doors[session]

    async def _ready(self, plan: SessionPlan) -> _Session:
        """Return the session as its agent's process has it, and as it was set. Raises `ActorError`."""
        async with self._alone(plan.session):
            session = await self._opened(plan)
            await self._see_persona(session, name_of(plan.persona))
            await self._set_again(session)
            return session

    async def _opened(self, plan: SessionPlan) -> _Session:
        """Return the session, loaded or made anew; left by an exception, it is as if nobody had asked for it."""
        session = self._sessions.get(plan.session)
        if session is not None:
            return session
        memory = _table(plan.memory)
        params = {"mcpServers": [], **plan.opening, "cwd": plan.cwd}
        if plan.persona and self._takes_system_prompt:
            params = with_system_prompt(params, plan.persona)
        before = memory.get("session")
        if isinstance(before, str):
            loaded = await self._load(plan, before, params)
            if loaded is not None:
                return loaded
        self._opening += 1
        try:
            opened = await self._connection.request("session/new", params)
            session = _Session(plan.session, self._new_id(opened), plan.cwd, opened, Settings(memory.get("settings")))
            session.persona.text = "" if self._takes_system_prompt else plan.persona
            session.persona.known = name_of(plan.persona)
            session.settings.begin_with(opened)
            self._remember(session)
            self._add(session)
            await self._say_early(session, forgotten=before is not None)
        except JsonRpcError as error:
            raise _actor_error(error) from error
        finally:
            self._opening -= 1
            if not self._opening:
                self._early.clear()
        return session

    def _new_id(self, opened: Any) -> str:
        """Return the agent's id of a new session; raise `ActorError` when it gave none that can be used."""
        theirs = opened.get("sessionId") if isinstance(opened, dict) else None
        if not isinstance(theirs, str) or not 0 < len(theirs) <= ID_CHARACTERS_MAX:
            raise ActorError("the agent's answer to session/new has no sessionId of 1 to 1000 characters")
        self._see_free(theirs)
        return theirs

    def _see_free(self, theirs: str) -> None:
        if theirs in self._by_theirs:
            text = f"the agent gave one id ({theirs!r:.100}) to two sessions; what they said would be mixed"
            raise ActorError(f"{text}: open another session")

    async def _say_early(self, session: _Session, forgotten: bool) -> None:
        """Say what came before the answer that named the session; what comes meanwhile waits behind it."""
        session.early = True
        try:
            if forgotten:
                await self._tell(
                    session, "the agent could not load this session: it has forgotten what was said before"
                )
            while early := self._early.take(session.theirs):
                for update in early:
                    await self._say(session, update)
        finally:
            session.early = False

    async def _load(self, plan: SessionPlan, theirs: str, params: dict[str, Any]) -> _Session | None:
        """Return the session as its agent loaded it, None if it cannot."""
        method = "session/load" if self._capabilities.get("loadSession") else ""
        if not method and "resume" in _table(self._capabilities.get("sessionCapabilities")):
            method = "session/resume"
        if not method:
            return None
        self._see_free(theirs)
        memory = _table(plan.memory)
        opened, settings = dict(_table(memory.get("opened"))), Settings(memory.get("settings"))
        session = _Session(plan.session, theirs, plan.cwd, opened, settings, quiet=True)
        self._add(session)
        loaded: dict[str, Any] | None = None
        try:
            loaded = _table(await self._connection.request(method, {**params, "sessionId": theirs}))
        except JsonRpcError:
            if self.ended.is_set():
                raise ActorError(self.end_reason) from None
            return None
        finally:
            if loaded is None:
                del self._sessions[plan.session], self._by_theirs[theirs]
        session.quiet = False
        said = memory.get("persona_turn")
        session.persona.text = "" if self._takes_system_prompt else plan.persona
        session.persona.turn = said if isinstance(said, int) else 0
        session.persona.known = str(memory.get("persona", ""))
        session.opened.update(loaded)
        session.settings.begin_with(loaded)
        return session

    def _add(self, session: _Session) -> None:
        self._sessions[session.ours] = session
        self._by_theirs[session.theirs] = session

    def _remember(self, session: _Session) -> None:
        """Have what the next process needs kept; what the opening gave is left out when it is too much."""
        memory: dict[str, Any] = {"session": session.theirs, "opened": session.opened}
        if settings := session.settings.to_remember():
            memory["settings"] = settings
        if session.persona.turn:
            memory["persona_turn"] = session.persona.turn
        if session.persona.known:
            memory["persona"] = session.persona.known
        try:
            self.voice.remember(session.ours, memory)
        except Exception:  # noqa: BLE001 (whatever it is: once more with less)
            self.voice.remember(session.ours, {**memory, "opened": {}})

    async def _see_persona(self, session: _Session, now: str) -> None:
        """Tell, once, that the agent has another persona by `now` than it had when the session was ready last."""
        before = session.persona.known
        if before != now:
            session.persona.known = now
            self._remember(session)
            if before:
                await self._tell(session, CHANGED)

    async def _set_again(self, session: _Session) -> None:
        """Set what was set before the agent was started anew; raise `ActorError` if it refuses, for nothing may run then."""
        while session.settings.pending:
            setting = session.settings.pending[0]
            try:
                await self._set(session, setting)
            except JsonRpcError as error:
                if self.ended.is_set():
                    raise ActorError(self.end_reason) from None
                raise ActorError(
                    f"nothing was run: {setting.words} was set in this session, and the agent, started anew, refuses "
                    f"to set it again ({error.message:.1000}); set it again, or another one, or open another session"
                ) from error

    async def _set(self, session: _Session, setting: Setting) -> Any:
        answer = await self._connection.request(setting.method, {**setting.params, "sessionId": session.theirs})
        session.settings.make(setting)
        session.opened = shown(session.opened, setting, answer)
        return answer

    # --- turns and calls ---

    async def play(self, turn: Turn) -> str:
        """Make the session ready, begin, prompt."""
        session = await self._ready(turn.plan)
        if turn.cancelled.is_set():
            return "cancelled"
        first = session.persona.goes_before(turn.number, turn.continues)
        await turn.begin()
        if not self._program.runs:
            await self._gone()
        if session.persona.was_before(turn.number):
            self._remember(session)
        turn.show()
        session.turn = turn
        session.noted.clear()
        before = self._program.written
        prompt = session.persona.before(turn.content) if first else turn.content
        try:
            answer = await self._connection.request("session/prompt", {"sessionId": session.theirs, "prompt": prompt})
        except JsonRpcError as error:
            if self.ended.is_set():
                if before >= self._program.written - self._program.unread:
                    turn.withdraw()  # The whole prompt still lay in the pipe.
                    if first:
                        session.persona.turn = 0
                        self._remember(session)
                await self._gone()
            raise _actor_error(error) from error
        finally:
            session.turn = None
        return _stop_reason(answer)

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
        if method == "ready":
            return await self._call_ready(plan)
        if not isinstance(body, dict | None):
            raise ActorError(f"{method}: the body must be a map of parameters")
        params = body or {}
        setting = setting_of(method, params)
        try:
            if setting is not None:
                return await self._call_set(plan, setting)
            session = await self._ready(plan)
            return await self._connection.request(method, {**params, "sessionId": session.theirs})
        except JsonRpcError as error:
            raise _actor_error(error) from error

    async def _call_ready(self, plan: SessionPlan) -> Any:
        async with self._alone(plan.session):
            session = await self._opened(plan)
            try:
                await self._set_again(session)
            except ActorError as error:  # Whoever opens it can set it again, and is told so.
                await self._tell(session, error.text)
        return {"opened": session.opened, "agent": self._initialized}

    async def _call_set(self, plan: SessionPlan, setting: Setting) -> Any:
        """Set something; what the agent accepted is remembered before the answer is told."""
        async with self._alone(plan.session):
            session = await self._opened(plan)
            why = session.settings.why_not(setting)
            if why:
                raise ActorError(f"{setting.words} cannot be remembered, and was not set: {why}")
            answer = await self._set(session, setting)
            self._remember(session)
            return answer

    # --- what the program says ---

    async def _say(self, session: _Session, update: dict[str, Any]) -> None:
        """Pass on an update; one that cannot be sent is left out, and the session tells."""
        try:
            await self.voice.say(session.ours, session.turn.number if session.turn else 0, update)
        except Exception as error:  # noqa: BLE001 (whatever it is: the other sessions are listened to)
            kind = update.get("sessionUpdate")
            await self._tell(session, f"an update of the agent's ({kind!r:.100}) was left out: {fault(error)['text']}")

    async def _tell(self, session: _Session, text: str) -> None:
        await self.voice.say(session.ours, session.turn.number if session.turn else 0, told(text))

    async def _on_notification(self, method: str, params: Any) -> None:
        if method != "session/update" or not isinstance(params, dict):
            return
        theirs, update = params.get("sessionId"), params.get("update")
        if not isinstance(theirs, str) or not isinstance(update, dict):
            return
        session = self._by_theirs.get(theirs)
        if session is None or session.early:
            if self._opening:
                self._early.keep(theirs, update)
        elif not session.quiet:
            await self._say(session, update)

    async def _on_odd(self, params: Any, text: str) -> None:
        """Tell in the session (of a line that was lost, in all that play) what was mended or left out."""
        session = self._session_of(params)
        sessions = [each for each in self._sessions.values() if each.turn] if session is None else [session]
        for each in sessions:
            if not each.quiet and text not in each.noted and len(each.noted) < NOTES_MAX:
                each.noted.add(text)
                await self._tell(each, text)

    def _session_of(self, params: Any) -> _Session | None:
        theirs = _table(params).get("sessionId")
        return self._by_theirs.get(theirs) if isinstance(theirs, str) else None

    async def _on_request(self, method: str, params: Any) -> Any:
        if not isinstance(params, dict):
            raise JsonRpcError(INVALID_PARAMS, f"{method[:100]}: params must be an object")
        session = self._session_of(params)
        turn = session.turn if session is not None else None
        if session is None or turn is None:
            return await self._local.serve(method, params, session.cwd if session else "")
        params = {**params, "sessionId": session.ours}
        if method == PERMISSION:
            return await self._permission(session, turn, params)
        if method in turn.serves:
            return await self._asked(session, turn, method, params, public=False)
        return await self._local.serve(method, params, session.cwd)

    async def _asked(self, session: _Session, turn: Turn, method: str, params: dict[str, Any], public: bool) -> Any:
        try:
            return await turn.ask(method, params, public)
        except ActorError as error:
            raise error_of({**_table(error.detail), "message": error.text}) from error
        except Exception as error:
            text = f"a question of the agent's ({method[:100]}) was left out: {fault(error)['text']}"
            await self._tell(session, text)
            raise JsonRpcError(INVALID_PARAMS, text) from error

    async def _permission(self, session: _Session, turn: Turn, params: dict[str, Any]) -> Any:
        cancelled = {"outcome": {"outcome": "cancelled"}}
        if turn.cancelled.is_set():
            return cancelled
        ask = asyncio.ensure_future(self._asked(session, turn, PERMISSION, params, public=True))
        session.asks.add(ask)
        try:
            return await ask
        except asyncio.CancelledError:
            return cancelled
        finally:
            session.asks.discard(ask)


def _stop_reason(answer: Any) -> str:
    """Return the stop reason of an answer to `session/prompt` (without one: `end_turn`); raise `ActorError` for no reason."""
    reason = _table(answer).get("stopReason", "end_turn")
    if isinstance(reason, str) and reason.isprintable() and 0 < len(reason) <= REASON_CHARACTERS_MAX:
        return reason
    what = f"a text of {len(reason)} characters" if isinstance(reason, str) else "no text"
    raise ActorError(f"the agent ended the turn, but its stopReason is {what}: what it did may be incomplete")


def _actor_error(error: JsonRpcError) -> ActorError:
    return ActorError(error.message, detail={"code": error.code, "message": error.message, "data": error.data})


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
