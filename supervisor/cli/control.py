"""`start`, `stop`, `restart`, `signal`, `pid` and `tail`: what a person does with agents and programs."""

import os
import re
import signal
import sys
import time
from typing import Any

from understudy.protocol.errors import (
    ACTOR_LOST,
    CONNECTION_LOST,
    NOT_RUNNING,
    LocalError,
    RemoteError,
    UnderstudyError,
)
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import AgentStatus, Signal, Status
from understudy.supervisor.cli.house import EXIT_NOT_RUNNING, last_lines
from understudy.supervisor.directories import directories

FOLLOW_S = 0.1
SIGN_S = 1.0  # After so long a wait shows what it waits for.
READ_BYTES = 1 << 16


def run(options: Any) -> int:
    """Carry out the verb; exit codes are supervisord's."""
    place, _ = directories(options.runtime_dir, options.state_dir, os.environ)
    try:
        match options.verb:
            case "signal":
                return _signal(place, options.signal, options.names)
            case "pid":
                return _pid(place, options.name)
            case "tail":
                return _tail(place, options.name, options.lines, options.follow)
            case other:
                from understudy.supervisor.cli.waiting import control

                return control(place, other, options.names, options.timeout, not options.no_wait)
    except UnderstudyError as error:
        print(f"understudy: {error.text}", file=sys.stderr)
        return EXIT_NOT_RUNNING if error.code == CONNECTION_LOST else 1


def _signal(place: str, text: str, names: list[str]) -> int:
    name = text.upper().removeprefix("SIG")
    known = {each.name.removeprefix("SIG"): each.value for each in signal.Signals}
    number = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else known.get(name, 0)
    if number not in known.values():
        print(f"understudy: there is no signal {text!r}; use a name like HUP or a number", file=sys.stderr)
        return 2
    if names == ["all"]:
        names = [row.name for row in verb(place, Status()) if not {"~", "/"} & set(row.name)]
    status = 0
    for each in names:
        try:
            verb(place, Signal([each], number))
            print(f"{each}: signalled")
        except RemoteError as error:
            if error.code == ACTOR_LOST:  # Which is what signals are sent for.
                print(f"{each}: signalled; it fell")
                continue
            print(f"understudy: {error.text}", file=sys.stderr)
            status = max(status, EXIT_NOT_RUNNING if error.code == NOT_RUNNING else 1)
        except LocalError as error:
            if error.code != CONNECTION_LOST:
                raise
            verb(place, Status())  # Where the house is what does not answer, this says so.
            text = f"{each} does not answer, so nobody knows whether it got the signal; see understudy status"
            print(f"understudy: {text}, or: understudy restart {each}", file=sys.stderr)
            status = max(status, 1)
    return status


def _row(place: str, name: str) -> AgentStatus | None:
    rows = verb(place, Status())
    for row in rows:
        if row.name == name:
            return row
    cast = ", ".join(row.name for row in rows)
    print(f"understudy: there is no agent {name!r}; the cast is: {cast}", file=sys.stderr)
    return None


def _pid(place: str, name: str | None) -> int:
    if name is None:
        for each in verb(place, Status()):
            print(f"{each.name} {each.pid or 0}")
        return 0
    row = _row(place, name)
    if row is None:
        return 1
    beside = [
        each for each in verb(place, Status()) if each.name.startswith(f"{name}/")
    ]  # Of the agent, as `signal` does.
    pids = [each.pid for each in (row, *beside) if each.pid]
    print(*(pids or [0]), sep="\n")
    return 0 if pids else EXIT_NOT_RUNNING


def _tail(place: str, name: str, count: int, follow: bool) -> int:
    row = _row(place, name)
    if row is None:
        return 1
    if not os.path.exists(row.log):  # noqa: PTH110
        of_house = os.path.join(os.path.dirname(os.path.dirname(row.log)), "house.log")  # noqa: PTH118, PTH120
        text = f"there is no {row.log} yet; what a python agent prints goes to {of_house}"
        print(f"understudy: {text}", file=sys.stderr)
    for line in last_lines(row.log, count):
        print(line)
    if follow:
        _follow(row.log)
    return 0


def _follow(path: str) -> None:
    """Go on as the log grows, over rotations, until interrupted; say so while there is none."""
    log, at, gone_at, told = -1, 0, time.monotonic(), False
    if os.path.exists(path):  # noqa: PTH110
        log = os.open(path, os.O_RDONLY)
        at = os.fstat(log).st_size
    while True:
        if log >= 0:
            at = min(at, os.fstat(log).st_size)
            while piece := os.pread(log, READ_BYTES, at):
                at += len(piece)
                sys.stdout.write(piece.decode(errors="replace"))
            sys.stdout.flush()
        newest = _inode(path)
        if log >= 0 and newest != os.fstat(log).st_ino:
            os.close(log)
            log, gone_at, told = -1, time.monotonic(), False
        if log < 0 and newest:
            log, at = os.open(path, os.O_RDONLY), 0
            continue
        if not newest and not told and time.monotonic() - gone_at > SIGN_S:
            told = True
            print(f"understudy: there is no {path} now; waiting for one, Ctrl-C ends this", file=sys.stderr)
        time.sleep(FOLLOW_S)


def _inode(path: str) -> int:
    """Return what names the file at `path` on its disk, 0 when there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116
    except OSError:
        return 0
