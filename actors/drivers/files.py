"""The files that an agent asks its client for, when no editor serves them. Regular files only: nothing else ends for sure."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

from understudy.protocol.jsonrpc import INVALID_PARAMS, JsonRpcError

FILE_BYTES_MAX = 16 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OPEN = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # A pipe without a writer would be waited for.


def read(params: dict[str, Any]) -> str:
    """Return the text that `fs/read_text_file` asks for. Raises `JsonRpcError`, `OSError`, `ValueError`."""
    first, count = _whole(params, "line"), _whole(params, "limit")
    path = _path(params)
    with _open(path, os.O_RDONLY) as file:
        body = bytearray()
        while piece := file.read(FILE_BYTES_MAX + 1 - len(body)):
            body += piece
    if len(body) > FILE_BYTES_MAX:
        raise JsonRpcError(INVALID_PARAMS, f"{path} is too large: the limit is {FILE_BYTES_MAX} bytes")
    text = body.decode()
    if first is None and count is None:
        return text
    lines = io.StringIO(text, newline="").readlines()
    begin = max(0, (first or 1) - 1)
    return "".join(lines[begin : None if count is None else begin + count])


def write(params: dict[str, Any]) -> None:
    """Do what `fs/write_text_file` asks for. Raises `JsonRpcError`, `OSError`, `ValueError`."""
    content = params.get("content")
    if not isinstance(content, str):
        raise JsonRpcError(INVALID_PARAMS, "content must be a text")
    path, body = _path(params), content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(path, os.O_WRONLY | os.O_CREAT) as file:
        _reserve(file.fileno(), len(body))
        rest = memoryview(body)
        while rest:
            rest = rest[file.write(rest) or 0 :]
        file.truncate(len(body))


def _reserve(descriptor: int, size: int) -> None:
    """See that there is room before anything of the file is lost. Raises `OSError`: then it is as it was."""
    before = os.fstat(descriptor).st_size
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in NO_ROOM:  # Else this file system cannot tell.
            os.ftruncate(descriptor, before)
            raise


def _open(path: Path, flags: int) -> io.FileIO:
    descriptor = os.open(path, flags | OPEN, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise JsonRpcError(INVALID_PARAMS, f"{path} is no regular file")
    return io.FileIO(descriptor, "w" if flags & os.O_WRONLY else "r")


def _path(params: dict[str, Any]) -> Path:
    path = params.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        raise JsonRpcError(INVALID_PARAMS, "path must be an absolute path")
    return Path(path)


def _whole(params: dict[str, Any], name: str) -> int | None:
    value = params.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise JsonRpcError(INVALID_PARAMS, f"{name} must be a whole number, 0 or more")
    return value
