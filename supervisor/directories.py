"""Where a house keeps its sockets and its state. Light: `status` needs nothing else of the configuration."""

from collections.abc import Mapping
from os import getuid

from understudy.protocol.paths import runtime_folder


def directories(runtime_dir: str | None, state_dir: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return (runtime folder, state folder): as given, from the environment, or the XDG defaults."""
    runtime = runtime_dir or runtime_folder(environ)
    return absolute(runtime, environ), absolute(state_dir or _state_folder(environ), environ)


def absolute(path: str, environ: Mapping[str, str]) -> str:
    """Return `path` without ~ and from the root."""
    import os.path

    if path == "~" or path.startswith("~/"):
        path = (environ.get("HOME") or os.path.expanduser("~")) + path[1:]  # noqa: PTH111
    return os.path.abspath(path)  # noqa: PTH100


def _state_folder(environ: Mapping[str, str]) -> str:
    chosen = environ.get("UNDERSTUDY_STATE_DIR")
    if chosen:
        return chosen
    if environ.get("XDG_STATE_HOME"):
        return f"{environ['XDG_STATE_HOME']}/understudy"
    home = environ.get("HOME")
    return f"{home}/.local/state/understudy" if home else f"/var/tmp/understudy-{getuid()}"
