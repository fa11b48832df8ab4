"""What an agent asks of its client, done here when no editor serves it: files and terminals."""

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

from understudy.actors.drivers import files
from understudy.actors.drivers.launch import LAST_OUTPUT_S, Launched, launch
from understudy.protocol.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, NOT_FOUND, JsonRpcError

OUTPUT_BYTES_MAX = 1 << 20
TERMINALS_MAX = 64


class _Terminal(asyncio.Protocol):
    """One command with all that it started, and the end of what that said."""

    def __init__(self, program: Launched, limit: int) -> None:
        self.program = program
        self.output = bytearray()
        self.truncated = False
        self._limit = limit
        self._closed = asyncio.Event()
        self._pipe: asyncio.ReadTransport | None = None

    async def listen(self) -> None:
        """Begin to read its output."""
        self._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, self.program.stdout)

    def data_received(self, data: bytes) -> None:
        """Keep the end of the output."""
        self.output += data
        if len(self.output) > self._limit:
            self.truncated = True
            del self.output[: len(self.output) - self._limit]

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no more output."""
        del exc
        self._closed.set()

    async def wait(self) -> None:
        """Wait for the command's own end. What it left behind may hold its output for as long as it likes."""
        await self.program.exited.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), LAST_OUTPUT_S)

    def exit(self) -> dict[str, Any] | None:
        """Return how it ended, None while it runs."""
        status = self.program.status
        if status is None:
            return None
        return {"exitCode": status if status >= 0 else None, "signal": str(-status) if status < 0 else None}

    def release(self) -> None:
        """End it and forget its output."""
        self.program.end_group()
        if self._pipe is not None:
            self._pipe.close()


class LocalClient:
    """Serves `fs/*` and `terminal/*` for one program; what it starts has the program's limits.

    `room` waits while the program leaves its answers unread.
    """

    def __init__(self, data_limit_mb: int, files: int, room: Callable[[], Awaitable[None]] | None = None) -> None:
        self._limits = (data_limit_mb, files)
        self._room = room or _always
        self._reading = asyncio.Lock()  # An answer may be large: the next waits until there is room for it.
        self._terminals: dict[str, _Terminal] = {}
        self._made = 0

    async def serve(self, method: str, params: dict[str, Any], cwd: str) -> Any:
        """Return the result of a request; raise `JsonRpcError`."""
        try:
            match method:
                case "fs/read_text_file":
                    async with self._reading:
                        await self._room()
                        return {"content": await asyncio.to_thread(files.read, params)}
                case "fs/write_text_file":
                    await asyncio.to_thread(files.write, params)
                    return {}
                case "terminal/create":
                    return await self._create(params, cwd)
                case "terminal/output":
                    async with self._reading:
                        await self._room()
                        return await self._use(method, params.get("terminalId"))
                case "terminal/wait_for_exit" | "terminal/kill" | "terminal/release":
                    return await self._use(method, params.get("terminalId"))
                case _:
                    raise JsonRpcError(METHOD_NOT_FOUND, f"nobody here serves {method[:100]}")
        except (OSError, ValueError) as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else INVALID_PARAMS
            raise JsonRpcError(code, f"{method}: {error}") from error
        except subprocess.SubprocessError as error:
            raise JsonRpcError(INTERNAL_ERROR, f"{method}: {error}") from error

    def close(self) -> None:
        """End what still runs."""
        for terminal in self._terminals.values():
            terminal.release()
        self._terminals.clear()

    async def _create(self, params: dict[str, Any], cwd: str) -> dict[str, Any]:
        if len(self._terminals) >= TERMINALS_MAX:
            raise JsonRpcError(INVALID_PARAMS, f"{TERMINALS_MAX} terminals are open; release one")
        words, variables, limit = _command(params), _variables(params), _limit(params)
        place = params.get("cwd")
        if not isinstance(place, str | None):
            raise JsonRpcError(INVALID_PARAMS, "cwd must be a path")
        program = launch(words, place or cwd, variables, *self._limits, stderr=subprocess.STDOUT, has_group=True)
        self._made += 1
        name = f"terminal-{self._made}"
        terminal = self._terminals[name] = _Terminal(program, limit)
        await terminal.listen()
        return {"terminalId": name}

    async def _use(self, method: str, name: Any) -> dict[str, Any]:
        terminal = self._terminals.get(name) if isinstance(name, str) else None
        if terminal is None:
            raise JsonRpcError(NOT_FOUND, f"there is no terminal {str(name)[:100]!r}")
        match method:
            case "terminal/wait_for_exit":
                await terminal.wait()
                return terminal.exit() or {}
            case "terminal/output":
                text = terminal.output.decode(errors="ignore")
                return {"output": text, "truncated": terminal.truncated, "exitStatus": terminal.exit()}
            case "terminal/kill":
                terminal.program.end_group()
            case _:
                terminal.release()
                del self._terminals[str(name)]
        return {}


def _command(params: dict[str, Any]) -> tuple[str, ...]:
    command, arguments = params.get("command"), params.get("args") or []
    if not isinstance(command, str) or not command:
        raise JsonRpcError(INVALID_PARAMS, "command must be a text")
    if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
        raise JsonRpcError(INVALID_PARAMS, "args must be a list of texts")
    return (command, *arguments) if arguments else ("/bin/sh", "-c", command)


def _variables(params: dict[str, Any]) -> dict[str, str]:
    env = params.get("env") or []
    if not isinstance(env, list):
        raise JsonRpcError(INVALID_PARAMS, "env must be a list of names and values")
    variables: dict[str, str] = {}
    for each in env:
        name, value = (each.get("name"), each.get("value")) if isinstance(each, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str):
            raise JsonRpcError(INVALID_PARAMS, "each of env must have a name and a value, both texts")
        variables[name] = value
    return variables


def _limit(params: dict[str, Any]) -> int:
    limit = params.get("outputByteLimit")
    if limit is None:
        return OUTPUT_BYTES_MAX
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise JsonRpcError(INVALID_PARAMS, "outputByteLimit must be a whole number, 0 or more")
    return min(limit, OUTPUT_BYTES_MAX)


async def _always() -> None:
    """There is room."""
