"""`reload`: keeper and supervisor become the code that is installed now, with the configuration as it is now."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from understudy.protocol.errors import CONNECTION_LOST, NO_HELLO, LocalError, RemoteError, UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.presence import held
from understudy.protocol.verbs import House, HouseStatus, Reload
from understudy.supervisor.cli.house import EXIT_NOT_RUNNING
from understudy.supervisor.directories import directories

CHECK_S_MAX = 60.0
BACK_S_MAX = 60.0
LOOK_AGAIN_S = 0.02
EXIT_MISTAKES = 2


def run(options: Any) -> int:
    """Check the configuration with the installed code, have it loaded, return when the house answers again."""
    runtime_dir, _ = directories(options.runtime_dir, options.state_dir, os.environ)
    try:
        before = verb(runtime_dir, House())
        mistakes = before.command and _check(runtime_dir, before.command, before.source)
        if mistakes:
            print(mistakes, file=sys.stderr)
            print("understudy: nothing was reloaded: mend this first", file=sys.stderr)
            return EXIT_MISTAKES
        verb(runtime_dir, Reload())
        after = _back(runtime_dir, before.pid)
    except UnderstudyError as error:
        print(f"understudy: {error.text}", file=sys.stderr)
        return EXIT_NOT_RUNNING if error.code == CONNECTION_LOST else 1
    if after.safe_mode:
        print("understudy: the house is in safe mode now; see understudy doctor", file=sys.stderr)
        return 1
    print(f"reloaded: supervisor {before.pid} -> {after.pid}")
    return 0


def _check(runtime_dir: str, command: list[str], source: str) -> str:
    """Return what the code that is installed now has against the house's configuration, "" for nothing."""
    keeper = Path(runtime_dir, "lock").read_text().strip()
    checking = [*command, "--check", *(["-c", source] if source else [])]
    try:
        ended = subprocess.run(
            checking, capture_output=True, text=True, timeout=CHECK_S_MAX, check=False, cwd=f"/proc/{keeper}/cwd"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"understudy: the installed program cannot be run: {error}"
    return "" if ended.returncode == 0 else ended.stderr.strip() or f"status {ended.returncode}"


def _back(runtime_dir: str, before: int) -> HouseStatus:
    """Return the next supervisor's word."""
    started, told = time.monotonic(), False
    while time.monotonic() - started < BACK_S_MAX:
        try:
            row = verb(runtime_dir, House(), timeout_s=0.5)
            if row.pid != before:
                return row
        except LocalError as error:
            if not held(f"{runtime_dir}/lock"):
                raise LocalError(CONNECTION_LOST, "the house ended meanwhile; start it with understudy up") from error
        except RemoteError as error:
            if error.code != NO_HELLO:  # One house fell between our hello and the verb: ask the next one again.
                raise
        if not told and time.monotonic() - started > 1:
            told = True
            print("waiting for the house to answer again ...", file=sys.stderr)
        time.sleep(LOOK_AGAIN_S)
    raise LocalError(CONNECTION_LOST, f"the house did not answer within {BACK_S_MAX:g} s; see its log")
