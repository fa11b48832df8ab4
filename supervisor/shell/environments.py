"""The environments that sessions bring, in files of the state folder for whoever plays those sessions. Decides nothing.

A file is written before the session that needs it is recorded, so one that no session names is left over from a
supervisor that fell in between. It is as durable as the log beside it: what a power loss takes of both is told alike.
"""

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import msgspec

from understudy.protocol.environments import FOLDER, Environment, path_of
from understudy.protocol.owners import make_folder, open_ours
from understudy.protocol.sizes import ENVIRONMENT_CHARACTERS
from understudy.supervisor.core.events import EnvironmentKept, KeepEnvironment
from understudy.supervisor.log.log import LogError

ENVIRONMENTS_BYTES_MAX = 256 << 20  # Of all files together, each in whole blocks of the disk,
BLOCK_BYTES = 1 << 12  # of so many bytes.
KEY = "key"  # The file with what names are hashed with: whoever guesses what is in an environment cannot tell by its name.
KEY_BYTES = 32


class Environments:
    """Keeps them below `state_dir`; `needed` returns the names of those that sessions of earlier supervisors need."""

    def __init__(self, state_dir: str, needed: Callable[[], set[str]]) -> None:
        self._state_dir, self._needed = state_dir, needed
        self._key = b""
        self._known: set[str] = set()
        self._bytes = 0

    def keep(self, effect: KeepEnvironment) -> EnvironmentKept:
        """Keep what a session is to be opened with, unless that is kept already."""
        frame = effect.frame
        brought = Environment(dict(sorted(frame.env.items())), effect.cwd)
        frame = msgspec.structs.replace(frame, env={})
        try:
            if not self._key:
                self._begin()
            packed = msgspec.msgpack.encode(brought)
            name, size = self._name(packed), _on_disk(len(packed))
            if name not in self._known and self._bytes + size > ENVIRONMENTS_BYTES_MAX:
                text = f"environments of sessions have {self._bytes} bytes; the limit is {ENVIRONMENTS_BYTES_MAX}"
                return EnvironmentKept(effect.peer, frame, error=f"{text}: open it without `env`")
            if not self._has(name, packed):
                self._write(name, packed)
            self._count(name, size)
            variables = self._name(msgspec.msgpack.encode(brought.variables)) if brought.variables else ""
        except (OSError, LogError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            text = (
                f"the environment of the session cannot be kept in {self._state_dir}/{FOLDER}: {why}; try again later"
            )
            return EnvironmentKept(effect.peer, frame, error=text)
        return EnvironmentKept(effect.peer, frame, name, variables)

    def _name(self, packed: bytes) -> str:
        return blake2b(packed, key=self._key, digest_size=ENVIRONMENT_CHARACTERS // 2).hexdigest()

    def _count(self, name: str, size: int) -> None:
        if name not in self._known:
            self._known.add(name)
            self._bytes += size

    def _begin(self) -> None:
        """Take the key, or make it; see what is kept, and remove what nobody needs. Raises `OSError`, `LogError`."""
        folder = Path(self._state_dir, FOLDER)
        make_folder(str(folder), "--state-dir", private=True)
        needed = self._needed()
        for each in os.scandir(folder):
            if each.name in needed:
                self._count(each.name, _on_disk(each.stat(follow_symlinks=False).st_size))
            elif each.name != KEY and not each.is_dir(follow_symlinks=False):
                os.unlink(each.path)  # noqa: PTH108
        if not (folder / KEY).exists():
            self._write(KEY, os.urandom(KEY_BYTES))
        with open(folder / KEY, "rb", opener=open_ours) as file:
            key = file.read(KEY_BYTES)
        if len(key) < KEY_BYTES:  # The machine stopped before it reached the disk. What is kept stays under its names.
            self._write(KEY, key := os.urandom(KEY_BYTES))
        self._key = key

    def _has(self, name: str, content: bytes) -> bool:
        """Return whether the file is there and whole: one that a power loss tore is written anew. Raises `OSError`."""
        try:
            with open(path_of(self._state_dir, name), "rb", opener=open_ours) as file:
                return file.read() == content
        except FileNotFoundError:
            return False

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole, or not at all. Raises `OSError`."""
        path = path_of(self._state_dir, name)
        with open(f"{path}.new", "wb", opener=open_ours) as file:
            file.write(content)
        os.replace(f"{path}.new", path)  # noqa: PTH105


def _on_disk(size: int) -> int:
    """Return how many bytes a file of that size takes."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
