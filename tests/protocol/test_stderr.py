"""What the house writes on its stderr never stops it, whatever that is."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.house import RealHouse

WRITES = "from understudy.protocol.stderr import write_line\nfor _ in range(500): write_line('\u20ac' * 3000)\nprint('through')"


BREAKS = """
import os
from understudy.supervisor.keeper.children import fork
def breaks():
    raise RuntimeError("x" * 3000)
for _ in range(50):
    child = fork(breaks)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.poll() == 1
print("through")
"""


def run_unread(code: str) -> bytes:
    """Run a program that ends with the word "through", and read its stderr only after its end; return what is there."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        try:
            program.wait(20)
        finally:
            program.kill()
        assert b"through\n" == program.stdout.read()
        return program.stderr.read()


def test_a_child_that_breaks_ends_though_nobody_reads_why() -> None:
    """A supervisor that could not say why it fell would never be followed by the next."""
    run_unread(BREAKS)


def test_a_pipe_that_nobody_reads_stops_no_writer() -> None:
    lines = run_unread(WRITES)

    assert lines.endswith(b"\n")
    assert {4096} == {len(line) + 1 for line in lines.splitlines()}


RAISES = """
from understudy.actors.actor import Actor
class Raises(Actor):
    async def start(self): pass
    async def play(self, turn): raise ValueError("whatever")
"""


def test_an_agent_that_raises_ends_its_turn_though_nobody_reads_why(tmp_path: Path) -> None:
    (tmp_path / "raises_unread.py").write_text(RAISES)
    house = RealHouse(tmp_path, '[agent.a]\ndriver = "python"\nplay = "raises_unread:Raises"\n')
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    house.keeper = subprocess.Popen(
        house.command("up", "-c", str(house.config)), stdout=writer, stderr=writer, cwd=tmp_path
    )
    try:
        house.wait_answering()
        ended = house.run("prompt", "a", "x")

        assert 1 == ended.returncode
        assert "the turn ended: failed: ValueError: whatever" in ended.stderr
    finally:
        house.stop()
        os.close(reader)
        os.close(writer)
