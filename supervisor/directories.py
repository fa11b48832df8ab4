"""Where a house keeps its sockets and its state, and which names there are its own. Light: see `status`."""

import os
from collections.abc import Mapping

from understudy.protocol.owners import see_folder, see_inside
from understudy.protocol.paths import runtime_folder

FREE_BYTES_MIN = 1 << 16
# What a house reads or writes in its folders; the beginnings of names.
OURS = ("lock", "house", "actors", "agents", "env", "log.", "shown", "last-fall", "gateway.sock", "backstage.sock")
SUBFOLDERS = ("agents", "env", "shown")


def directories(runtime_dir: str | None, state_dir: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return (runtime folder, state folder): as given, from the environment, or the XDG defaults."""
    runtime = runtime_dir or runtime_folder(environ)
    return absolute(runtime, environ), absolute(state_dir or _state_folder(environ), environ)


def absolute(path: str, environ: Mapping[str, str]) -> str:
    """Return `path` without ~ and from the root."""
    if path == "~" or path.startswith("~/"):
        path = (environ.get("HOME") or os.path.expanduser("~")) + path[1:]  # noqa: PTH111
    return os.path.abspath(path)  # noqa: PTH100


def see_ours(folder: str, option: str, private: bool = False) -> None:
    """See that a folder is ours, and no stranger left a file, a link or a folder under a name of ours. Raises `OSError`."""
    see_folder(folder, option, private)
    see_inside(folder, OURS)
    for each in SUBFOLDERS:
        below = os.path.join(folder, each)  # noqa: PTH118
        if os.path.exists(below):  # noqa: PTH110
            see_folder(below, option)
            see_inside(below)


def is_full(path: str) -> bool:
    """Return whether the disk of `path` has no room for what a house begins with."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize < FREE_BYTES_MIN


def _state_folder(environ: Mapping[str, str]) -> str:
    chosen = environ.get("UNDERSTUDY_STATE_DIR")
    if chosen:
        return chosen
    if environ.get("XDG_STATE_HOME"):
        return f"{environ['XDG_STATE_HOME']}/understudy"
    home = environ.get("HOME")
    return f"{home}/.local/state/understudy" if home else f"/var/tmp/understudy-{os.getuid()}"
