"""What an agent asks of its client, done here when no editor serves it: files and terminals."""

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.actors.limits import program_preexec
from understudy.protocol.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, NOT_FOUND, JsonRpcError

OUTPUT_BYTES_MAX = 1 << 20
TERMINALS_MAX = 64
READ_BYTES = 1 << 16


@dataclass(slots=True)
class _Terminal:
    process: asyncio.subprocess.Process
    limit: int
    reader: "asyncio.Task[None]"
    output: bytearray = field(default_factory=bytearray)
    truncated: bool = False


class LocalClient:
    """Serves `fs/*` and `terminal/*` for one program; what it starts has the program's limits."""

    def __init__(self, memory_mb: int, files: int) -> None:
        self._preexec = program_preexec(memory_mb, files)
        self._terminals: dict[str, _Terminal] = {}
        self._made = 0

    async def serve(self, method: str, params: dict[str, Any], cwd: str) -> Any:
        """Return the result of a request; raise `JsonRpcError`."""
        try:
            match method:
                case "fs/read_text_file":
                    return {"content": await asyncio.to_thread(_read, params)}
                case "fs/write_text_file":
                    await asyncio.to_thread(_write, params)
                    return {}
                case "terminal/create":
                    return await self._create(params, cwd)
                case "terminal/output" | "terminal/wait_for_exit" | "terminal/kill" | "terminal/release":
                    return await self._use(method, str(params.get("terminalId")))
                case _:
                    raise JsonRpcError(METHOD_NOT_FOUND, f"nobody here serves {method}")
        except (OSError, UnicodeDecodeError) as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else INVALID_PARAMS
            raise JsonRpcError(code, f"{method}: {error}") from error

    def close(self) -> None:
        """End what still runs."""
        for terminal in self._terminals.values():
            _end(terminal)
        self._terminals.clear()

    async def _create(self, params: dict[str, Any], cwd: str) -> dict[str, Any]:
        if len(self._terminals) >= TERMINALS_MAX:
            raise JsonRpcError(INVALID_PARAMS, f"{TERMINALS_MAX} terminals are open; release one")
        variables = {str(each["name"]): str(each["value"]) for each in params.get("env") or []}
        command, arguments = str(params["command"]), [str(each) for each in params.get("args") or []]
        process = await asyncio.create_subprocess_exec(
            *(command, *arguments) if arguments else ("/bin/sh", "-c", command),
            cwd=params.get("cwd") or cwd or None,
            env={**os.environ, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=self._preexec,
        )
        self._made += 1
        name = f"terminal-{self._made}"
        limit = min(int(params.get("outputByteLimit") or OUTPUT_BYTES_MAX), OUTPUT_BYTES_MAX)
        reader = asyncio.ensure_future(self._read(name))
        self._terminals[name] = _Terminal(process, limit, reader)
        return {"terminalId": name}

    async def _read(self, name: str) -> None:
        terminal = self._terminals[name]
        assert terminal.process.stdout is not None
        while piece := await terminal.process.stdout.read(READ_BYTES):
            terminal.output += piece
            if len(terminal.output) > terminal.limit:
                terminal.truncated = True
                del terminal.output[: len(terminal.output) - terminal.limit]

    async def _use(self, method: str, name: str) -> dict[str, Any]:
        terminal = self._terminals.get(name)
        if terminal is None:
            raise JsonRpcError(NOT_FOUND, f"there is no terminal {name!r}")
        if method == "terminal/wait_for_exit":
            await terminal.process.wait()
            await terminal.reader
            return _exit(terminal) or {}
        if method == "terminal/output":
            text = terminal.output.decode(errors="ignore")
            return {"output": text, "truncated": terminal.truncated, "exitStatus": _exit(terminal)}
        _end(terminal)
        if method == "terminal/release":
            del self._terminals[name]
        return {}


def _exit(terminal: _Terminal) -> dict[str, Any] | None:
    status = terminal.process.returncode
    if status is None:
        return None
    return {"exitCode": status if status >= 0 else None, "signal": str(-status) if status < 0 else None}


def _end(terminal: _Terminal) -> None:
    if terminal.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            terminal.process.kill()


def _path(params: dict[str, Any]) -> Path:
    path = Path(str(params.get("path", "")))
    if not path.is_absolute():
        raise JsonRpcError(INVALID_PARAMS, f"the path {str(path)!r} is not absolute")
    return path


def _read(params: dict[str, Any]) -> str:
    text = _path(params).read_text(encoding="utf-8")
    first, count = params.get("line"), params.get("limit")
    if first is None and count is None:
        return text
    lines = text.splitlines(keepends=True)
    begin = max(0, int(first or 1) - 1)
    return "".join(lines[begin : begin + int(count) if count is not None else None])


def _write(params: dict[str, Any]) -> None:
    path = _path(params)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(params.get("content", "")), encoding="utf-8")
