"""Between one editor (JSON-RPC on stdio) and one house (frames): the body of `understudy acp`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from understudy.protocol import acp
from understudy.protocol.client import Client, Session, connect
from understudy.protocol.errors import UNKNOWN_SESSION, LocalError, RemoteError
from understudy.protocol.frames import Ask, unpack
from understudy.protocol.items import Item
from understudy.protocol.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    NOT_FOUND,
    Connection,
    JsonRpcError,
)
from understudy.supervisor.cli.up import UpError, ready, start_in_background
from understudy.supervisor.directories import directories

IDLE_EXIT_S = 600.0
HOUSE_AWAY_S_MAX = 3.0
ENDINGS_KEPT_MAX = 100
READ_BYTES = 1 << 16
PERMISSION = "session/request_permission"


@dataclass(slots=True)
class _Open:
    """A session that the editor has open: its one follower, its turns' endings, questions at the editor."""

    session: Session
    follower: "asyncio.Task[None] | None" = None
    endings: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    asks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict[str, "asyncio.Task[None]"])
    waiting: int = 0
    failure: RemoteError | None = None


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
        self._agent = agent
        self._config = config or None
        self._runtime_dir, self._state_dir = directories(runtime_dir or None, state_dir or None, os.environ)
        self._capabilities = capabilities
        self._serves = acp.serves(client_capabilities)
        self._open: dict[str, _Open] = {}
        self._connection = Connection(self._send, self._on_request, self._on_notification)
        self._writer: asyncio.StreamWriter | None = None
        self._client: asyncio.Future[Client] | None = None

    async def run(self, rest: bytes) -> int:
        """Serve until the editor closes stdin."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self._client = loop.create_future()
        async with AsyncExitStack() as stack:
            connecting = loop.create_task(self._connect(stack))
            await self._connection.feed(rest)
            while piece := await reader.read(READ_BYTES):
                await self._connection.feed(piece)
            self._connection.close("the editor closed its end")
            connecting.cancel()
            for opened in self._open.values():
                _stop(opened)
            with suppress(asyncio.CancelledError, UpError, LocalError, RemoteError):
                await connecting
        return 0

    # --- the house ---

    async def _connect(self, stack: AsyncExitStack) -> None:
        assert self._client is not None
        try:
            await self._start_house()
            client = await stack.enter_async_context(
                connect(self._runtime_dir, name="acp", on_ask=self._on_ask, wait_s=10.0)
            )
        except (UpError, LocalError, RemoteError) as error:
            text = getattr(error, "text", str(error))
            print(f"understudy acp: {text}", file=sys.stderr)
            self._client.set_exception(JsonRpcError(-32603, text, {"reason": "no_house", "text": text}))
            return
        self._client.set_result(client)
        while True:
            # The client finds a house that comes back; one that stays away is started again.
            await client.down.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(client.up.wait(), HOUSE_AWAY_S_MAX)
                continue
            with suppress(UpError):
                await self._start_house()

    async def _start_house(self) -> None:
        """Start a house unless one answers. Two editors may try at once: the lock lets one through."""
        if await asyncio.to_thread(ready, self._runtime_dir):
            return
        idle_s = float(os.environ.get("UNDERSTUDY_IDLE_EXIT_S", IDLE_EXIT_S))
        try:
            await asyncio.to_thread(start_in_background, self._config, self._runtime_dir, self._state_dir, idle_s)
        except UpError:
            if not await asyncio.to_thread(ready, self._runtime_dir):
                raise

    async def _house(self) -> Client:
        assert self._client is not None
        return await asyncio.shield(self._client)

    # --- from the editor ---

    def _send(self, line: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line)

    async def _on_request(self, method: str, params: Any) -> Any:
        if not isinstance(params, dict):
            raise JsonRpcError(INVALID_PARAMS, f"{method}: params must be an object")
        try:
            return await self._request(method, params)
        except RemoteError as error:
            if error.code == UNKNOWN_SESSION:
                raise JsonRpcError(NOT_FOUND, f"Session not found: {error.text}") from error
            raise acp.rpc_error(error) from error

    async def _request(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "initialize":
                self._serves = acp.serves(params.get("clientCapabilities") or {})
                return self._capabilities
            case "authenticate":
                return {}
            case "session/new":
                return await self._new(params)
            case "session/load" | "session/resume":
                return await self._load(params, replay=method == "session/load")
            case "session/list":
                rows = await (await self._house()).verb("sessions")
                return {"sessions": [{"sessionId": row["session"], "cwd": row["cwd"]} for row in rows]}
            case "session/close":
                opened = self._open.pop(_text(params, "sessionId"), None)
                if opened is not None:
                    _stop(opened)
                return {}
            case "session/prompt":
                return await self._prompt(params)
            case _ if method.startswith(("session/", "_")) and "sessionId" in params:
                return await self._opened(params).session.call(method, params)
            case _:
                raise JsonRpcError(METHOD_NOT_FOUND, f"Method not found: {method}", {"method": method})

    async def _on_notification(self, method: str, params: Any) -> None:
        if method == "session/cancel" and isinstance(params, dict):
            opened = self._open.get(str(params.get("sessionId")))
            if opened is not None:
                task = asyncio.ensure_future(opened.session.cancel())
                task.add_done_callback(lambda done: done.exception())
                for ask in list(opened.asks.values()):
                    ask.cancel()

    def _opened(self, params: dict[str, Any]) -> _Open:
        name = _text(params, "sessionId")
        opened = self._open.get(name)
        if opened is None:
            raise JsonRpcError(NOT_FOUND, f"Session not found: {name} is not open here; load it first")
        return opened

    async def _new(self, params: dict[str, Any]) -> dict[str, Any]:
        cwd = _text(params, "cwd")
        if not os.path.isabs(cwd):  # noqa: PTH117
            raise JsonRpcError(INVALID_PARAMS, f"cwd must be an absolute path, not {cwd!r}")
        client = await self._house()
        opening = {name: value for name, value in params.items() if name != "cwd"}
        session = await client.open(await self._agent_name(client), cwd, opening)
        result = _without_id((await session.call("ready")).get("opened"))
        opened = self._open[session.id] = _Open(session)
        # Started last: its first update must not overtake this answer.
        opened.follower = asyncio.ensure_future(self._follow(opened, session.follow(0)))
        return {**result, "sessionId": session.id}

    async def _agent_name(self, client: Client) -> str:
        if not self._agent:
            cast = [str(row["name"]) for row in await client.verb("status")]
            self._agent = cast[0]
            print(f"understudy acp: the agent is {self._agent}; --agent chooses another", file=sys.stderr)
        return self._agent

    async def _load(self, params: dict[str, Any], replay: bool) -> dict[str, Any]:
        name = _text(params, "sessionId")
        client = await self._house()
        rows = await client.verb("sessions", {"session": name})
        if not rows:
            raise JsonRpcError(NOT_FOUND, f"Session not found: there is no session {name!r} in this house")
        before = self._open.pop(name, None)
        if before is not None:
            _stop(before)
        session = client.session(name)
        opened = _Open(session)
        last = int(rows[0]["last"])
        follow = session.follow(0 if replay else last + 1)
        questions: dict[str, Item] = {}
        if replay and last:
            async for item in follow:
                await self._show(opened, item, replay=True)
                if item.kind == "asked":
                    questions[item.body["ask"]] = item
                elif item.kind == "answered":
                    questions.pop(item.body["ask"], None)
                if item.number >= last:
                    break
        result: dict[str, Any] = {}
        try:
            result = _without_id((await session.call("ready")).get("opened"))
        except RemoteError as error:
            print(f"understudy acp: the agent is not ready: {error.text}", file=sys.stderr)
        self._open[name] = opened
        for item in questions.values():
            self._ask(opened, item)
        opened.follower = asyncio.ensure_future(self._follow(opened, follow))
        return result

    async def _prompt(self, params: dict[str, Any]) -> dict[str, Any]:
        opened = self._opened(params)
        content = params.get("prompt")
        if not isinstance(content, list):
            raise JsonRpcError(INVALID_PARAMS, "session/prompt: prompt must be a list of content blocks")
        opened.waiting += 1
        try:
            turn = await opened.session.prompt(content, serves=self._serves)
            while turn.number not in opened.endings:
                if opened.failure is not None:
                    raise opened.failure
                opened.ended.clear()
                await opened.ended.wait()
        finally:
            opened.waiting -= 1
        body = opened.endings.pop(turn.number)
        return acp.prompt_result(str(body.get("reason")), body)

    # --- to the editor ---

    async def _follow(self, opened: _Open, items: AsyncIterator[Item]) -> None:
        try:
            async for item in items:
                await self._show(opened, item, replay=False)
                match item.kind:
                    case "ended":
                        opened.endings[item.turn] = item.body
                        opened.ended.set()
                        while len(opened.endings) > ENDINGS_KEPT_MAX:
                            del opened.endings[next(iter(opened.endings))]
                    case "asked":
                        self._ask(opened, item)
                    case "answered":
                        task = opened.asks.pop(item.body["ask"], None)
                        if task is not None:
                            task.cancel()
                    case _:
                        pass
        except RemoteError as error:
            opened.failure = error
            opened.ended.set()

    async def _show(self, opened: _Open, item: Item, replay: bool) -> None:
        for update in acp.updates(item.kind, item.body, replay):
            self._connection.notify("session/update", {"sessionId": opened.session.id, "update": update})
        if self._writer is not None:
            await self._writer.drain()  # A slow editor stops the follow, not the house.

    def _ask(self, opened: _Open, item: Item) -> None:
        if item.body.get("method") == PERMISSION:
            opened.asks[item.body["ask"]] = asyncio.ensure_future(self._permission(opened, item))

    async def _permission(self, opened: _Open, item: Item) -> None:
        name = item.body["ask"]
        params = {**item.body["params"], "sessionId": opened.session.id}
        try:
            result = await self._connection.request(PERMISSION, params)
        except JsonRpcError as error:
            if not self._connection.closed_reason:
                await opened.session.answer(name, error=error.message)
            return
        finally:
            opened.asks.pop(name, None)
        await opened.session.answer(name, result)

    async def _on_ask(self, ask: Ask) -> Any:
        try:
            return await self._connection.request(ask.method, unpack(ask.body))
        except JsonRpcError as error:
            detail = {"code": error.code, "message": error.message, "data": error.data}
            raise RemoteError("editor_error", error.message, detail) from error


def _stop(opened: _Open) -> None:
    for task in [opened.follower, *opened.asks.values()]:
        if task is not None:
            task.cancel()


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise JsonRpcError(INVALID_PARAMS, f"{name} is missing, or no text")
    return value


def _without_id(opened: Any) -> dict[str, Any]:
    return {name: value for name, value in (opened or {}).items() if name != "sessionId"}
