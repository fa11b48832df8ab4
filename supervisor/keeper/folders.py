"""The folders of a house: made, locked by one keeper at a time, with the record of who lives in them."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from understudy.protocol.owners import OwnerError, make_folder, open_ours
from understudy.protocol.paths import SOCKET_PATH_BYTES_MAX, backstage_path, gateway_path
from understudy.protocol.shown import boot_id
from understudy.supervisor.core.events import Spawned
from understudy.supervisor.directories import see_ours

RECORD_BYTES_MAX = 1 << 20
HOUSE_ID_CHARACTERS_MAX = 64


class HouseError(Exception):
    """The house cannot open; the text says why and what to do."""


class Folders:
    """The folders of one house, held as long as this process or one that inherited `descriptors` lives.

    `house_id`: names the house for ever. `left`: the actors that an earlier keeper wrote down.
    """

    def __init__(self, runtime_dir: str, state_dir: str, descriptors: list[int] | None = None) -> None:
        """Make and lock the folders, unless `descriptors` say that this process has. Raises `HouseError`."""
        self._sockets = (gateway_path(runtime_dir), backstage_path(runtime_dir))
        for path in self._sockets:
            if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
                raise HouseError(
                    f"the socket path {path} has {len(os.fsencode(path))} bytes, the system takes "
                    f"{SOCKET_PATH_BYTES_MAX}: choose a shorter --runtime-dir"
                )
        self._path = Path(state_dir, "actors")
        self.descriptors = descriptors or self._open(runtime_dir, state_dir)
        self._record = self.descriptors[-1]
        self.house_id = _house_id(state_dir)
        self._record_of = f"of {boot_id()} {os.fstat(self._record).st_ino}"
        self.left = _left(os.pread(self._record, RECORD_BYTES_MAX, 0).decode(errors="replace"), self._record_of)

    def _open(self, runtime_dir: str, state_dir: str) -> list[int]:
        """Make and lock the folders; return what holds them, the record of actors last."""
        locks: list[int] = []
        with ExitStack() as undo:
            for folder, option in {runtime_dir: "--runtime-dir", state_dir: "--state-dir"}.items():
                try:
                    make_folder(folder, option, private=folder == runtime_dir)
                    see_ours(folder, option)
                    locks.append(_lock(folder))
                    undo.callback(os.close, locks[-1])
                    if folder == state_dir:
                        make_folder(str(Path(folder, "agents")), option)
                        _house_id(folder)
                        locks.append(open_ours(str(self._path), os.O_RDWR | os.O_CREAT))
                except OwnerError as error:
                    raise HouseError(str(error.strerror)) from error
                except OSError as error:
                    free = "free some space on its disk, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
                    text = f"the folder {folder} cannot be used: {error.strerror}; {free}choose another with {option}"
                    raise HouseError(text) from error
            undo.pop_all()
        return locks

    def note(self, actors: Iterable[tuple[int, int, str]]) -> None:
        """Write down who lives (pid, start ticks, mark). Raises `OSError`.

        In place: to truncate a file and write it anew makes some file systems wait for the disk.
        """
        lines = (f"{pid} {started} {mark}\n" for pid, started, mark in actors)
        text = f"{self._record_of}\n{''.join(lines)}".encode()
        os.pwrite(self._record, text, 0)
        os.ftruncate(self._record, len(text))

    def clear(self) -> None:
        """Nobody lives any more: remove the sockets and the record."""
        for path in self._sockets:
            Path(path).unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


def _left(record: str, of: str) -> list[Spawned]:
    """Return who stands in the record. A full disk may have cut its last line short: marks find who stood there.

    One that is not `of` this boot, or is another file's copy, names nobody: its pids are other processes by now, or
    those of a house that runs. Older versions did not say what theirs was of.
    """
    if record.startswith("of ") and record.partition("\n")[0] != of:
        return []
    found = (line.split()[:2] for line in record.splitlines())
    pairs = (each for each in found if len(each) == 2 and "".join(each).isdecimal())
    return [Spawned("", 0, int(pid), int(started)) for pid, started in pairs]


def _lock(folder: str) -> int:
    """Hold the folder's lock for as long as keeper or supervisor lives."""
    lock = open_ours(f"{folder}/lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise HouseError(
            f"a house already runs on {folder} (pid {pid}): use it, end it with `understudy shutdown`, "
            "or choose other folders with --runtime-dir and --state-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _house_id(state_dir: str) -> str:
    """Return the house's name, made at its first start; what a crash left of one is no name.

    Beside it stands the file's inode: a copy of the folder is another house, or it would end the first one's processes.
    """
    file = open_ours(f"{state_dir}/house", os.O_RDWR | os.O_CREAT)
    try:
        found = os.pread(file, HOUSE_ID_CHARACTERS_MAX, 0).decode("ascii", errors="replace")
        name, _, inode = found.strip().partition(" ")
        own = str(os.fstat(file).st_ino)
        if not (name.isascii() and name.isalnum()) or inode not in ("", own):
            name = secrets.token_hex(8)
        text = f"{name} {own}"
        if found != text:
            os.pwrite(file, text.encode(), 0)
            os.ftruncate(file, len(text))
        return name
    finally:
        os.close(file)
