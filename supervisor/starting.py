"""Starts a house from outside, for whoever wants one: command line, editors, chaos. It is nobody's child, and ready then.

Only what any client may know of a house is known here: its folders, its lock, its socket. It is kept by `detached.py`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from understudy.protocol.errors import NO_HELLO, NOT_OURS, LocalError, RemoteError
from understudy.protocol.one_verb import verb
from understudy.protocol.owners import OwnerError, make_folder, open_ours
from understudy.protocol.presence import held, keeper
from understudy.protocol.stderr import write_line
from understudy.protocol.verbs import House, HouseStatus
from understudy.supervisor.directories import directories, is_full

READY_S_MAX = 30.0
IDLE_EXIT_S = 600.0  # A house that was started on the way ends when it has had no client for so long.
LOOK_AGAIN_S = 0.02
KILLED = -9
TAIL_LINES = 12
OTHERS_START_S_MAX = 2.0


class UpError(Exception):
    """The house did not come up; the text says why."""


def start_in_background(
    config: str | None,
    runtime_dir: str | None,
    state_dir: str | None,
    idle_exit_s: float | None = None,
    asserts: bool = False,
) -> int:
    """Start a house and return the keeper's pid when the house answers. Raises `UpError` with its last words.

    A house that is in safe mode by then is up, and of no use: an error that says why. One that runs already, or that
    another starts in this moment, keeps this one from starting: that is an error, too.
    `asserts`: a breach of its own invariants ends its supervisor.
    """
    os.getcwd()  # noqa: PTH109 (the house is to stand in it: it may be gone)
    runtime, state = directories(runtime_dir, state_dir, os.environ)
    plan = {"config": config, "runtime_dir": runtime, "state_dir": state, "idle_exit_s": idle_exit_s}
    output = Path(state, "house.log")
    try:
        make_folder(state, "--state-dir")
        with open(output, "ab", opener=open_ours) as log:
            begin = log.tell()
            start = _Start(plan, asserts, log.fileno())
    except OwnerError as error:
        raise UpError(str(error.strerror)) from error
    except OSError as error:
        raise UpError(f"{state}: {error.strerror}; choose another folder with --state-dir") from error
    with start:
        deadline, told = time.monotonic() + READY_S_MAX, False
        while True:
            status = start.ended()
            if status is not None:
                raise UpError(f"the house did not start (status {status}):\n{last_words(output, begin)}")
            house = _answers(runtime) if start.pid and keeper(f"{runtime}/lock") == start.pid else None
            if house is not None and house.safe_mode:
                text = f"the house is up (pid {start.pid}) in safe mode: its supervisor fell, and no agents run"
                remedy = "mend that, then: understudy reload; or end it: understudy shutdown"
                raise UpError(f"{text}:\n{house.safe_mode}\n{remedy}")
            if house is not None:
                return start.pid
            if time.monotonic() > deadline:
                raise UpError(f"the house did not answer within {READY_S_MAX:g} s:\n{last_words(output, begin)}")
            if not told and time.monotonic() > deadline - READY_S_MAX + 1:
                told = True
                write_line("starting the house ...")
            time.sleep(LOOK_AGAIN_S)


class _Start:
    """A house that starts as nobody's child. `pid`: the keeper's, 0 until it has told it."""

    def __init__(self, plan: dict[str, Any], asserts: bool, output: int) -> None:
        """Start it; `output` takes what it says. Raises `OSError`."""
        self.pid = 0
        self._said = b""
        self._pipe, told = os.pipe()
        os.set_blocking(self._pipe, False)
        # -P: not what lies in this folder in the name of our modules; it may be /tmp.
        command = [sys.executable, "-P", "-m", "understudy.supervisor.detached", json.dumps([told, plan, asserts])]
        try:
            self._first = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, pass_fds=[told]
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(told)

    def __enter__(self) -> "_Start":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)
        if not self.pid:
            self._first.kill()  # It has not come as far as to leave us.
        self._first.wait()

    def ended(self) -> int | None:
        """Return the exit status of a keeper that has ended (of one that was killed: `KILLED`), None while it lives."""
        try:
            while piece := os.read(self._pipe, 64):
                self._said += piece
        except BlockingIOError:
            ended = False
        else:
            ended = True
        numbers = [int(line) for line in self._said.splitlines()]
        self.pid = numbers[0] if numbers else 0
        if not ended:
            return None
        return numbers[1] if len(numbers) == 2 else self._first.wait() or KILLED


def share(config: str | None, runtime_dir: str | None, state_dir: str | None, idle_exit_s: float) -> None:
    """See that a house answers: start one, or wait for the one that another starts in this moment. Raises `UpError`."""
    try:
        start_in_background(config, runtime_dir, state_dir, idle_exit_s)
    except UpError:
        runtime, _ = directories(runtime_dir, state_dir, os.environ)
        deadline = time.monotonic() + OTHERS_START_S_MAX
        while not ready(runtime):
            if time.monotonic() > deadline or not held(f"{runtime}/lock"):
                raise
            time.sleep(LOOK_AGAIN_S)


def ready(runtime_dir: str) -> bool:
    """Return whether a house answers at `runtime_dir`. Raises `LocalError` (not_ours) where only another user's could."""
    return _answers(runtime_dir) is not None


def _answers(runtime_dir: str) -> HouseStatus | None:
    """Return what the house says of itself, None while none answers. Raises as `ready`."""
    try:
        return verb(runtime_dir, House(), timeout_s=0.5)
    except LocalError as error:
        if error.code == NOT_OURS:
            raise
        return None
    except RemoteError as error:  # Of another version, say; it is there. `no_hello`: it fell before it answered.
        return None if error.code == NO_HELLO else HouseStatus(0, 0, "", [], "")


def last_words(path: Path, begin: int = 0) -> str:
    """Return the last lines that a house wrote to `path` from byte `begin` on, or why there are none."""
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read()[-8000:].decode(errors="replace").splitlines()
    if not lines and is_full(str(path)):
        return f"the disk of {path.parent} is full: free some space on it, or choose another folder with --state-dir"
    return "\n".join(lines[-TAIL_LINES:]) or "it said nothing"
