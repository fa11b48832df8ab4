"""Whether a house is there, by its lock; and what is to be said of one that does not answer: none, or busy, or held up."""

import os

from understudy.protocol.errors import CONNECTION_LOST, NOT_OURS, LocalError
from understudy.protocol.owners import open_ours, see_socket
from understudy.protocol.paths import gateway_path


def see_ours(runtime_dir: str) -> None:
    """See that a house which may answer there is this user's. Raises `LocalError` (not_ours)."""
    try:
        see_socket(gateway_path(runtime_dir))
    except OSError as error:
        raise LocalError(NOT_OURS, f"nothing was said to the house at {runtime_dir}: {error.strerror}") from error


def no_house(runtime_dir: str) -> LocalError:
    """Return the error for a house that does not answer."""
    try:
        see_ours(runtime_dir)
    except LocalError as error:
        return error
    lock = f"{runtime_dir}/lock"
    if held(lock):
        text = f"the house at {runtime_dir} (keeper {keeper(lock)}) runs and does not answer; wait, or see understudy doctor"
    else:
        text = f"no house answers at {gateway_path(runtime_dir)}; start one with `understudy up`"
    return LocalError(CONNECTION_LOST, text)


def held(lock: str) -> bool:
    """Return whether a keeper or a supervisor holds the lock file."""
    import fcntl

    try:
        with open(open_ours(lock, os.O_RDONLY), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def keeper(lock: str) -> int:
    """Return the pid that the lock file names, 0 for none."""
    try:
        with open(open_ours(lock, os.O_RDONLY), "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
