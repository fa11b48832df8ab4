"""Whose a file or folder is, and who else can change it: each side looks before it speaks, reads or writes.

It looks and changes nothing. An `OwnerError` is an `OSError`: whoever deals with a file that cannot be opened tells it.
"Strangers" are all users but this one and root; `option` is the one that chooses another path, for the remedy.
"""

import errno
import os
import stat
from contextlib import suppress
from functools import cache

LINKS_MAX = 40


class OwnerError(PermissionError):
    """Somebody else owns it, or can change it. `found`: what, its owner and its mode; `remedy`: what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(errno.EPERM, f"{found}; {remedy}")
        self.found, self.remedy = found, remedy


def see_way(path: str, option: str) -> str:
    """See that no stranger can put something else in the place of `path`; return it without symbolic links.

    Each folder on the way is ours or root's, and nobody else writes in it unless it is sticky, as /tmp is; so are
    the symbolic links. What is missing is not looked at. Raises `OwnerError`.
    """
    at, links = "/", 0
    rest = (path if path.startswith("/") else f"{os.getcwd()}/{path}").split("/")[::-1]  # noqa: PTH109
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = os.path.dirname(at)  # noqa: PTH120
            continue
        _see_on_the_way(at, path, option)
        here = f"{at.rstrip('/')}/{part}"
        status = _status(here)
        if status is None:
            return "/".join([here, *reversed(rest)])
        if not stat.S_ISLNK(status.st_mode):
            at = here
            continue
        links += 1
        if links > LINKS_MAX or not _is_trusted(status.st_uid):
            raise OwnerError(f"{here} is a symbolic link of {_whose(status.st_uid)}", _elsewhere(option))
        target = os.readlink(here)  # noqa: PTH115
        at = "/" if target.startswith("/") else at
        rest += target.split("/")[::-1]
    return at


def see_folder(folder: str, option: str, private: bool = False) -> None:
    """See that a folder is ours alone to change; if `private`, that nobody else may even look. Raises `OSError`."""
    see_way(folder, option)
    status = os.stat(folder)  # noqa: PTH116
    if not stat.S_ISDIR(status.st_mode):
        raise OwnerError(f"{folder} is no folder", _elsewhere(option))
    if status.st_uid != os.geteuid():
        raise OwnerError(f"{_what(folder, status)}, and you are {_whose(os.geteuid())}", _elsewhere(option))
    if private and status.st_mode & 0o077:
        remedy = _elsewhere(option)
        if not status.st_mode & stat.S_ISVTX:  # A folder like /tmp is meant for everybody.
            remedy = f"if only you use it: chmod 700 {folder}; or {remedy}"
        raise OwnerError(f"{_what(folder, status)}: others may look into it", remedy)
    if _others_write(status, folder):
        remedy = f"if only you use it: chmod go-w {folder}; or {_elsewhere(option)}"
        raise OwnerError(f"{_what(folder, status)}: others may write in it", remedy)


def see_socket(path: str) -> None:
    """See that whoever listens on the Unix socket `path` is ours. One that is missing is nobody's. Raises `OwnerError`."""
    folder = os.path.dirname(path)  # noqa: PTH120
    if _status(folder) is None:
        return
    see_folder(folder, "--runtime-dir", private=True)
    status = _status(path)
    if status is not None and (status.st_uid != os.geteuid() or not stat.S_ISSOCK(status.st_mode)):
        raise OwnerError(f"{path} is no socket of yours: it belongs to {_whose(status.st_uid)}", f"remove {path}")


def see_inside(folder: str, names: tuple[str, ...] = ("",)) -> None:
    """See that nothing in `folder` whose name begins with one of `names` is a stranger's. Raises `OSError`.

    For a folder in which no stranger writes now: one may have, before.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            owner = entry.stat(follow_symlinks=False).st_uid
            if entry.name.startswith(names) and not _is_trusted(owner):
                raise OwnerError(f"{entry.path} belongs to {_whose(owner)}", f"remove {entry.path}")


def see_file(descriptor: int, path: str, option: str) -> None:
    """See that what is open as `descriptor` is a file that only we or root can change. Raises `OwnerError`."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OwnerError(f"{path} is no file", _elsewhere(option))
    if not _is_trusted(status.st_uid):
        remedy = f"read it, and if it is as you want it, make a copy of your own; or {_elsewhere(option)}"
        raise OwnerError(f"{_what(path, status)}, and you are {_whose(os.geteuid())}", remedy)
    if _others_write(status, descriptor):
        remedy = f"read it, then: chmod go-w {path}; or {_elsewhere(option)}"
        raise OwnerError(f"{_what(path, status)}: others may write it", remedy)


def is_ours_to_change(folder: str) -> bool:
    """Return whether no stranger can put a file into `folder`, or another folder in its place."""
    try:
        see_way(folder, "")
        status = os.stat(folder)  # noqa: PTH116
    except OSError:
        return False
    return _is_trusted(status.st_uid) and not _others_write(status, folder)


def make_folder(folder: str, option: str, private: bool = False) -> None:
    """Make a folder of mode 0700, and what is missing above it; see that it is ours. Raises `OSError`.

    One that exists stays as it is.
    """
    at, missing = see_way(folder, option), list[str]()
    while _status(at) is None:
        missing.append(at)
        at = os.path.dirname(at)  # noqa: PTH120
    for each in reversed(missing):
        with suppress(FileExistsError):  # Another process may make it in the same moment.
            os.mkdir(each, 0o700)  # noqa: PTH102
    see_folder(folder, option, private)


def open_ours(path: str, flags: int) -> int:
    """Open (or make, of mode 0600) a file of ours; return its descriptor. An `opener` for `open`. Raises `OSError`.

    A symbolic link, a pipe, or what is somebody else's is refused before anything is read, written or cut.
    """
    safe = (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, safe, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OwnerError(f"{path} is a symbolic link", f"remove {path}") from None
        raise
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OwnerError(f"{path} is no file of yours: it belongs to {_whose(status.st_uid)}", f"remove {path}")
    if flags & os.O_TRUNC:
        os.ftruncate(descriptor, 0)
    return descriptor


def _see_on_the_way(folder: str, path: str, option: str) -> None:
    status = os.lstat(folder)
    what = f"{folder}, on the way to {path},"
    if not _is_trusted(status.st_uid) and not _is_hidden_root(status.st_uid):
        raise OwnerError(_what(what, status), _elsewhere(option))
    if not status.st_mode & stat.S_ISVTX and _others_write(status, folder):
        remedy = f"chmod go-w {folder}, or {_elsewhere(option)}"
        raise OwnerError(f"{_what(what, status)}: others may rename what is in it", remedy)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _others_write(status: os.stat_result, where: str | int) -> bool:
    """Return whether anybody but the owner may write it; the owner's private group, as umask 002 leaves it, is nobody."""
    if status.st_mode & 0o002:
        return True
    if not status.st_mode & 0o020:
        return False
    with suppress(OSError, AttributeError):  # A file system, or system, that knows no lists of access has none.
        if "system.posix_acl_access" in os.listxattr(where):
            return True
    return not _is_private_group(status.st_gid, status.st_uid)


def _is_private_group(gid: int, uid: int) -> bool:
    """Return whether the group is the user's primary one, of the same name, and has no other member."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


@cache
def _hidden_uid() -> int:
    """Return the uid as which a sandbox's user namespace shows root and all whom it does not know, -1 outside one."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as known, open("/proc/sys/kernel/overflowuid") as overflow:
            return -1 if known.read().split() == ["0", "0", "4294967295"] else int(overflow.read())
    except (OSError, ValueError):
        return -1


def _is_hidden_root(uid: int) -> bool:
    return uid == _hidden_uid()


def _what(thing: str, status: os.stat_result) -> str:
    return f"{thing} belongs to {_whose(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"


def _whose(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _elsewhere(option: str) -> str:
    return f"choose another with {option}"
