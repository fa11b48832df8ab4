"""Between one editor (JSON-RPC on stdio) and one house (frames): the body of `understudy acp`.

It keeps no state that matters: when it dies, the sessions go on and can be loaded again.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from understudy.protocol import acp
from understudy.protocol.client import Client, Session
from understudy.protocol.connection import Connection
from understudy.protocol.errors import CONNECTION_LOST, LocalError, RemoteError
from understudy.protocol.frames import Ask, unpack
from understudy.protocol.jsonrpc import (
    AUTH_REQUIRED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_FOUND,
    JsonRpcError,
)
from understudy.protocol.verbs import SESSIONS_SHOWN_MAX, Sessions, Status
from understudy.supervisor.directories import directories
from understudy.supervisor.edges.editor import Editor
from understudy.supervisor.edges.reach import NoHouse, Reach
from understudy.supervisor.edges.stdio import Input, Output
from understudy.supervisor.edges.view import View

VIEWS_MAX = 4_000  # The house lets a client follow a few more.
LOOK_S = 0.5  # So often, while it does not read, an editor is looked at: is it there?


class Bridge:
    """Serves one editor."""

    def __init__(
        self,
        agent: str,
        runtime_dir: str,
        state_dir: str,
        config: str,
        capabilities: dict[str, Any],
        client_capabilities: dict[str, Any],
    ) -> None:
        self._agent, self._chosen = agent, bool(agent)
        self._capabilities = capabilities
        self._greeted(client_capabilities)
        self._views: dict[str, View] = {}
        self._opening = 0
        self._listing = asyncio.Lock()
        self._input, self._output = Input(), Output()
        self._connection = Connection(self._output.write, self._on_request, self._on_notification)
        runtime, state = directories(runtime_dir or None, state_dir or None, os.environ)
        self._reach = Reach("acp", config or None, runtime, state, self._on_ask, self._on_up, self._on_away)

    async def run(self, rest: bytes) -> int:
        """Serve until the editor closes stdin. `rest`: what was read already."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._input.end)
        await self._input.start()
        self._reach.begin()
        await self._connection.feed(rest)
        while piece := await self._input.read():
            await self._connection.feed(piece)
            await self._read_by_editor()
        self._connection.close("the editor closed its end")
        for view in self._views.values():
            view.stop()
        await self._reach.close()
        self._output.close()
        return 0

    async def _read_by_editor(self) -> None:
        """Wait while the editor leaves our answers unread: what it asks next stays in its pipe, in its order."""
        while not await self._output.room(LOOK_S):
            if self._input.is_over():
                self._output.give_up()

    def _greeted(self, client_capabilities: Any) -> None:
        self._serves = acp.serves(client_capabilities)
        self._notices = acp.takes_notices(client_capabilities)

    # --- from the editor ---

    async def _on_request(self, method: str, params: Any) -> Any:
        if not isinstance(params, dict):
            raise JsonRpcError(INVALID_PARAMS, f"{method}: params must be an object")
        try:
            match method:
                case "initialize":
                    self._greeted(params.get("clientCapabilities"))
                    return self._capabilities
                case "authenticate":
                    return {}
                case _:
                    return await self._of_house(method, params)
        except RemoteError as error:
            raise acp.rpc_error(error) from error
        except (NoHouse, LocalError) as error:
            reason = error.code if isinstance(error, LocalError) and error.code != CONNECTION_LOST else "no_house"
            raise JsonRpcError(INTERNAL_ERROR, str(error), {"reason": reason, "text": str(error)}) from error

    async def _of_house(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "session/new":
                action = self._new(params)
            case "session/load" | "session/resume":
                action = self._load(params, replay=method == "session/load")
            case "session/list":
                action = self._list(params)
            case "session/close":
                action = self._close(params)
            case "session/prompt":
                action = self._prompt(params)
            case _ if acp.for_the_agent(method, params):
                action = self._call(method, params)
            case _:
                raise JsonRpcError(METHOD_NOT_FOUND, f"Method not found: {method}", {"method": method})
        return await action

    async def _on_notification(self, method: str, params: Any) -> None:
        name = params.get("sessionId") if isinstance(params, dict) else None
        view = self._views.get(name) if isinstance(name, str) else None
        if method == "session/cancel" and view is not None:
            view.withdraw()
            # Not awaited: the next line may be of another session.
            asyncio.ensure_future(view.cancel()).add_done_callback(_seen)

    def _made(self, session: Session) -> View:
        return View(session, self._editor(session.id))

    def _editor(self, session: str) -> Editor:
        return Editor(session, self._connection, self._output.drained, self._notices)

    def _view(self, params: dict[str, Any]) -> View:
        name = _text(params, "sessionId")
        view = self._views.get(name)
        if view is None:
            raise JsonRpcError(NOT_FOUND, f"Session not found: {name} is not open here; load it first")
        return view

    async def _new(self, params: dict[str, Any]) -> dict[str, Any]:
        cwd = _folder(params)
        self._see_room()
        self._opening += 1
        try:
            return await self._opened(cwd, params)
        finally:
            self._opening -= 1

    def _see_room(self) -> None:
        """Refuse one more session when it could not be shown."""
        if len(self._views) + self._opening >= VIEWS_MAX:
            text = f"{VIEWS_MAX} sessions are open here: close one (session/close), or start another understudy acp"
            raise JsonRpcError(INVALID_REQUEST, text)

    async def _opened(self, cwd: str, params: dict[str, Any]) -> dict[str, Any]:
        async with self._reach.client() as client:
            opening = {name: value for name, value in params.items() if name != "cwd"}
            session = await client.open(await self._agent_name(client), cwd, opening)
            ready = await session.call("ready")
            view = self._views[session.id] = self._made(session)
            await view.take_in(1, 0, show=False)
            view.go()  # Last: its first update must not overtake this answer.
            return {**acp.opened(ready.get("opened")), "sessionId": session.id}

    async def _agent_name(self, client: Client) -> str:
        if not self._agent:
            cast = [row.name for row in await client.verb(Status())]
            if not cast:
                raise JsonRpcError(INTERNAL_ERROR, "this house has no agents; name one in its configuration")
            self._agent = cast[0]
            print(f"understudy acp: the agent is {self._agent}; --agent chooses another", file=sys.stderr)
        return self._agent

    async def _load(self, params: dict[str, Any], replay: bool) -> dict[str, Any]:
        name = _text(params, "sessionId")
        _folder(params)
        async with self._reach.client() as client:
            rows = await client.verb(Sessions(name))
            if not rows:
                raise JsonRpcError(NOT_FOUND, f"Session not found: there is no session {name!r} in this house")
            if name not in self._views:
                self._see_room()
            view = self._views.setdefault(name, self._made(client.session(name)))
            async with view.loading:
                last = rows[0].last
                # Without a replay the running turn is read all the same: it may have open questions.
                await view.take_in(1 if replay else rows[0].turn or last + 1, last, show=replay)
                result = await self._ready(view)
                view.go()
                return result

    async def _ready(self, view: View) -> dict[str, Any]:
        """Return what the agent's opening gave. The history can be read though the agent is not ready."""
        try:
            return acp.opened((await view.session.call("ready")).get("opened"))
        except RemoteError as error:
            told = acp.rpc_error(error)
            if told.code == AUTH_REQUIRED:
                view.stop()
                self._views.pop(view.session.id, None)
                raise told from error
            self._editor(view.session.id).warn(f"the agent is not ready: {error.text}")
            return {}

    async def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        async with self._reach.client() as client, self._listing:
            await self._output.drained()  # One after the other, for lists are long.
            cwd = params.get("cwd")
            before = _text(params, "cursor") if params.get("cursor") is not None else ""
            rows = await client.verb(Sessions(before=before))
            found = [
                {"sessionId": row.session, "cwd": row.cwd}
                for row in rows
                if cwd in (None, row.cwd) and (not self._chosen or row.agent == self._agent)
            ]
            more = {"nextCursor": rows[-1].session} if len(rows) >= SESSIONS_SHOWN_MAX else {}
            return {"sessions": found, **more}

    async def _close(self, params: dict[str, Any]) -> dict[str, Any]:
        """Cancel what this editor prompted and show no more; the session stays in the house."""
        view = self._views.get(_text(params, "sessionId"))
        if view is not None:
            async with self._reach.client():
                await view.cancel_own()
            view.stop()
            self._views.pop(view.session.id, None)
        return {}

    async def _prompt(self, params: dict[str, Any]) -> dict[str, Any]:
        view = self._view(params)
        content = params.get("prompt")
        if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
            raise JsonRpcError(INVALID_PARAMS, "session/prompt: prompt must be a list of content blocks")
        async with self._reach.client():
            return acp.prompt_result(await view.prompt(content, self._serves))

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        view = self._view(params)
        async with self._reach.client():
            result = await view.session.call(method, params)
            return {} if result is None else result

    # --- from the house ---

    async def _on_ask(self, ask: Ask) -> Any:
        view = self._views.get(ask.session)
        if view is None:
            raise RemoteError("session_closed", f"the editor has closed session {ask.session}")
        try:
            return await view.serve(ask.turn, ask.method, unpack(ask.body))
        except JsonRpcError as error:
            detail = {"code": error.code, "message": error.message, "data": error.data}
            raise RemoteError("editor_error", error.message, detail) from error

    async def _on_up(self) -> None:
        for view in self._views.values():
            await view.answer_again()

    def _on_away(self, text: str) -> None:
        for view in self._views.values():
            if view.playing:
                self._editor(view.session.id).warn(
                    f"the house is away and cannot be started again, which is tried on: {text}"
                )


def _seen(done: "asyncio.Future[None]") -> None:
    """Look at what a cancel came to, so that a refusal is no noise: the turn's ending tells."""
    if not done.cancelled():
        done.exception()


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise JsonRpcError(INVALID_PARAMS, f"{name} is missing, or no text")
    return value


def _folder(params: dict[str, Any]) -> str:
    cwd = _text(params, "cwd")
    if not os.path.isabs(cwd):  # noqa: PTH117
        raise JsonRpcError(INVALID_PARAMS, f"cwd must be an absolute path, not {cwd!r}")
    return cwd
