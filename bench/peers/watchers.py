"""supervisord, runit and pm2: SIGKILL of their program -> the new one has written its pid, each with its defaults.

Each watches a program that writes its pid to a FIFO before anything else. `make peers` installs them.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).parent.parent.parent / ".peers"
RUNSV = PEERS / "runit" / "usr" / "bin" / "runsv"
SHELL = '#!/bin/sh\necho $$ > "{fifo}"\nexec sleep 1000000\n'
# As much as one of our actors does before it can answer: a Python, its ZeroMQ context, its hello.
PYTHON = """#!/bin/sh
exec "{python}" -c '
import asyncio, os, signal, zmq
socket = zmq.Context().socket(zmq.DEALER)
open("{fifo}", "w").write(str(os.getpid()))
signal.pause()
'
"""
PROGRAM_S_MAX = 30.0
# They take a program that ran for less than a second for one that cannot start.
STABLE_S = 1.2


class Watcher:
    """One peer and its program. Entering starts both; leaving ends them. `start` returns the peer, None: it detaches."""

    def __init__(
        self,
        folder: Path,
        start: Callable[[Path, Path], "subprocess.Popen[bytes] | None"],
        end: Callable[[Path], None] | None = None,
        text: str = SHELL,
    ) -> None:
        self._folder, self._start, self._end, self._text = folder, start, end, text

    def __enter__(self) -> "Watcher":
        self._folder.mkdir()
        fifo, program = self._folder / "fifo", self._folder / "program.sh"
        os.mkfifo(fifo)
        self._fifo = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        program.write_text(self._text.format(fifo=fifo, python=sys.executable))
        program.chmod(0o755)
        self._peer = self._start(self._folder, program)
        try:
            self._pid = self._next_pid()
        except TimeoutError:
            self.__exit__()
            raise
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end(self._folder)
        if self._peer is not None:
            self._peer.terminate()
            self._peer.wait()
        os.close(self._fifo)

    def once_ms(self) -> float:
        """Kill the program once it is stable; return how long until the next one speaks."""
        time.sleep(max(0.0, STABLE_S - (time.monotonic() - self._since)))
        began = time.perf_counter()
        os.kill(self._pid, signal.SIGKILL)
        self._pid = self._next_pid()
        taken = 1000 * (time.perf_counter() - began)
        self._since = time.monotonic()
        return taken

    def _next_pid(self) -> int:
        if not select.select([self._fifo], [], [], PROGRAM_S_MAX)[0]:
            raise TimeoutError(f"{self._folder.name}: its program did not start")
        return int(os.read(self._fifo, 64).split()[-1])


def installed(folder: str) -> dict[str, Watcher]:
    """Return the peers that are there, by name."""
    places = {
        "supervisord": (PEERS / "bin" / "supervisord", _supervisord, None, SHELL),
        "runit": (RUNSV, _runit, None, SHELL),
        "runit, a Python with ZeroMQ": (RUNSV, _runit, None, PYTHON),
        "pm2": (PEERS / "pm2" / "node_modules" / ".bin" / "pm2", _pm2, _end_pm2, SHELL),
    }
    found: dict[str, Watcher] = {}
    for name, (path, start, end, text) in places.items():
        if path.exists():
            found[name] = Watcher(Path(folder, name.partition(",")[0] + str(len(found))), start, end, text)
        else:
            print(f"{name} is left out: `make peers` installs it", file=sys.stderr)
    return found


def _popen(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _supervisord(folder: Path, program: Path) -> "subprocess.Popen[bytes]":
    config = folder / "supervisord.conf"
    config.write_text(f"[supervisord]\nnodaemon=true\n[program:peer]\ncommand={program}\n")
    return _popen([str(PEERS / "bin" / "supervisord"), "-c", str(config)], folder)


def _runit(folder: Path, program: Path) -> "subprocess.Popen[bytes]":
    service = folder / "service"
    service.mkdir()
    (service / "run").symlink_to(program)
    return _popen([str(RUNSV), str(service)], folder)


def _pm2_command(folder: Path, *arguments: str) -> None:
    program = str(PEERS / "pm2" / "node_modules" / ".bin" / "pm2")
    environment = os.environ | {"PM2_HOME": str(folder / "home")}
    quiet = subprocess.DEVNULL
    subprocess.run([program, *arguments], env=environment, stdin=quiet, stdout=quiet, stderr=quiet, check=True)


def _pm2(folder: Path, program: Path) -> None:
    _pm2_command(folder, "start", str(program), "--interpreter", "/bin/sh")


def _end_pm2(folder: Path) -> None:
    _pm2_command(folder, "kill")
