"""Starts a program of a driver's and sees its own end, whoever still holds its pipes. Linux.

A wrapper (`npx`, `sh -c`) may be killed while what it started holds its output: no end of file tells.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from typing import IO

from understudy.actors.actor import Role, cannot_start
from understudy.actors.limits import program_preexec
from understudy.protocol.mark import MARK_VARIABLE
from understudy.protocol.processes import kill_group

LAST_OUTPUT_S = 0.5  # What a program said before its end is read by then, unless somebody else holds its output.
OUT_OF_MEMORY = re.compile(r"out of memory|cannot allocate|bad_alloc|MemoryError|allocation fail|ENOMEM", re.IGNORECASE)


class Launched:
    """A program that was started. `exited` is set at its own end; one that has a group stays a zombie until
    `end_group`, so that its group's number is nobody else's.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", has_group: bool) -> None:
        self.pid = process.pid
        self.exited = asyncio.Event()
        self._process = process
        self._keeps = has_group
        self._status: int | None = None
        descriptor = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(descriptor, self._see_exit, descriptor)

    @property
    def stdin(self) -> IO[bytes]:
        """Its stdin, which was asked for."""
        return _given(self._process.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        """Its stdout, which was asked for."""
        return _given(self._process.stdout)

    @property
    def stderr(self) -> IO[bytes]:
        """Its stderr, which was asked for."""
        return _given(self._process.stderr)

    @property
    def status(self) -> int | None:
        """Its exit status (-N: killed by signal N), None while it runs."""
        if self._status is None:
            with contextlib.suppress(ChildProcessError):
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is not None:
                    self._status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self._status

    def send(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.status is None:
            os.kill(self.pid, number)

    def end_group(self) -> None:
        """Kill it and all that it started, but for what has left its group."""
        if self._keeps:
            kill_group(self.pid)
            self._keeps = False
            if self.exited.is_set():
                self._process.wait()

    def _see_exit(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self.exited.set()
        if self.status is not None and not self._keeps:
            self._process.wait()


def launch(
    command: tuple[str, ...],
    cwd: str,
    env: dict[str, str],
    data_limit_mb: int,
    files: int,
    *,
    stderr: int,
    stdin: int = subprocess.DEVNULL,
    has_group: bool = False,
) -> Launched:
    """Start a program; its stdout is a pipe. Call it in the main thread: the program's death signal follows the
    thread that made it. Raises `OSError`, `ValueError` (what no program can be given), `subprocess.SubprocessError`.
    """
    marked = {name: os.environ[name] for name in (MARK_VARIABLE,) if name in os.environ}  # Last: it is swept by that.
    process = subprocess.Popen(
        command,
        cwd=cwd or None,
        env={**os.environ, **env, **marked},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        preexec_fn=program_preexec(data_limit_mb, files),
        process_group=0 if has_group else None,
    )
    try:
        return Launched(process, has_group)
    except OSError:
        process.kill()
        process.communicate()
        raise


def launch_role(role: Role, *, stderr: int, stdin: int = subprocess.DEVNULL) -> Launched:
    """Start the program of a role. Raises `ActorError`."""
    try:
        return launch(role.command, role.cwd, role.env, role.data_limit_mb, role.files, stderr=stderr, stdin=stdin)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise cannot_start(role, error) from error


def how_it_ended(role: Role, status: int | None) -> str:
    """Return how a role's program ended (None: it runs on without its output), for people."""
    what = f"the program {role.command[0]} "
    if status is None:
        return what + "closed its output"
    if status >= 0:
        return what + f"exited with status {status}"
    names = {each.value: each.name for each in signal.Signals}
    return what + f"was killed by {names.get(-status, f'signal {-status}')}"


def limit_it_met(role: Role, status: int | None, last_words: str) -> str:
    """Return which limit a role's program ended at, by its last words; "" for none."""
    if not role.data_limit_mb or status == 0 or not OUT_OF_MEMORY.search(last_words):
        return ""
    limit = f"data_limit: limit {role.data_limit_mb} MB for the data of each process"
    return f", out of memory: {limit}; raise it, or bound all of them together with `memory`"


def _given(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "a pipe that was not asked for"
    return pipe
