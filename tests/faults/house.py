"""A real house for tests: started from the command line, looked at from outside, never left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from understudy.protocol.errors import UnderstudyError
from understudy.protocol.one_verb import verb
from understudy.protocol.verbs import Status
from understudy.supervisor.chaos.proc import left, supervisor_of
from understudy.supervisor.core import invariants

WAIT_S_MAX = 60.0


def wait_until(holds: Callable[[], bool], what: str, wait_s: float = WAIT_S_MAX) -> None:
    """Look until `holds`; fail naming `what`."""
    until = time.monotonic() + wait_s
    pause = 0.001
    while not holds():
        assert time.monotonic() < until, f"waited {wait_s:g} s for: {what}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class RealHouse:
    """One house in `folder`, with the configuration `text`."""

    def __init__(self, folder: Path, text: str = "") -> None:
        self.folder = folder
        self.runtime_dir, self.state_dir = str(folder / "run"), str(folder / "state")
        self.config = folder / "understudy.toml"
        self.config.write_text(text or '[agent.rehearsal]\ndriver = "scripted"\n')
        self.asserts = True  # It looks at all that always holds after each step, which a large house has no time for.
        self.keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for a verb of this house."""
        place = ["--runtime-dir", self.runtime_dir, "--state-dir", self.state_dir]
        return [sys.executable, "-m", "understudy", *arguments, *place]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Carry out a verb."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=100)

    def start(self, before: Callable[[], None] | None = None, environ: Mapping[str, str] | None = None) -> None:
        """Start it, with `environ` besides ours, and wait until it answers. `before` runs in the child before exec."""
        asserts = {invariants.VARIABLE: "1"} if self.asserts else {}
        with (self.folder / "house.log").open("ab") as log:
            self.keeper = subprocess.Popen(
                self.command("up", "-c", str(self.config)),
                stdout=log,
                stderr=log,
                preexec_fn=before,
                env={**os.environ, **asserts, **(environ or {})},
            )
        keeper = self.keeper
        wait_until(lambda: self.answers() or keeper.poll() is not None, "the house to answer")
        assert keeper.poll() is None, f"the house ended: {self.log()}"

    def wait_answering(self) -> None:
        """Wait until the house answers."""
        wait_until(self.answers, "the house to answer")

    def answers(self) -> bool:
        """Return whether it answers now."""
        with contextlib.suppress(UnderstudyError):
            verb(self.runtime_dir, Status(), timeout_s=1.0)
            return True
        return False

    def rows(self) -> list[dict[str, Any]]:
        """Return the status."""
        rows: list[dict[str, Any]] = msgspec.to_builtins(verb(self.runtime_dir, Status()))
        return rows

    def pid(self, name: str = "rehearsal") -> int:
        """Return the pid of a running actor."""
        found: list[int] = []

        def running() -> bool:
            with contextlib.suppress(UnderstudyError):
                found.extend(row["pid"] for row in self.rows() if row["name"] == name and row["state"] == "RUNNING")
            return bool(found)

        wait_until(running, f"actor {name} to run")
        return int(found[0])

    def supervisor(self) -> int:
        """Return the supervisor's pid."""
        assert self.keeper is not None
        keeper, found = self.keeper, [0]

        def there() -> bool:
            found[0] = supervisor_of(keeper.pid)
            return found[0] != 0

        wait_until(there, "a supervisor")
        return found[0]

    def log(self) -> str:
        """Return the end of what it wrote."""
        path = self.folder / "house.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def stop(self) -> None:
        """Shut it down and check that nothing of it is left."""
        if self.keeper is None:
            return
        if self.keeper.poll() is None:
            self.keeper.send_signal(signal.SIGTERM)
            try:
                self.keeper.wait(WAIT_S_MAX)
            except subprocess.TimeoutExpired:
                self.keeper.kill()
                raise AssertionError(f"the house did not end: {self.log()}") from None
        wait_until(lambda: not self.left(), f"nothing to be left, but: {self.left()}")

    def left(self) -> list[str]:
        """Return the processes of this house that live."""
        return left(self.runtime_dir, self.state_dir)


Houses = Callable[[str], RealHouse]  # Starts a house with a configuration.
