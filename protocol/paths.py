"""Where a house's sockets lie, for both sides. Pure: environment in, paths out."""

from collections.abc import Mapping
from os import getuid

SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un


def runtime_folder(environ: Mapping[str, str]) -> str:
    """Return the default runtime folder: $UNDERSTUDY_RUNTIME_DIR, the XDG one, or one of this user's in /tmp."""
    chosen = environ.get("UNDERSTUDY_RUNTIME_DIR")
    if chosen:
        return chosen
    session = environ.get("XDG_RUNTIME_DIR")
    return f"{session}/understudy" if session else f"/tmp/understudy-{getuid()}"


def gateway_path(runtime_dir: str) -> str:
    """Return the path of the client-facing socket."""
    return f"{runtime_dir}/gateway.sock"


def backstage_path(runtime_dir: str) -> str:
    """Return the path of the actors' socket."""
    return f"{runtime_dir}/backstage.sock"


def gateway_address(runtime_dir: str) -> str:
    """Return the ZeroMQ address of the client-facing socket."""
    return f"ipc://{gateway_path(runtime_dir)}"


def backstage_address(runtime_dir: str) -> str:
    """Return the ZeroMQ address of the actors' socket."""
    return f"ipc://{backstage_path(runtime_dir)}"
