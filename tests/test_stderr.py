"""What the house writes on its stderr never stops it, whatever that is."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.house import RealHouse

WRITES = "from understudy.protocol.stderr import write_line\nfor _ in range(500): write_line('\u20ac' * 3000)\nprint('through')"


BREAKS = """
import time
from understudy.supervisor.children import fork
def breaks():
    raise RuntimeError("x" * 3000)
for _ in range(50):
    child = fork(breaks)
    while child.poll() is None:
        time.sleep(0.001)
print("through")
"""


def test_a_child_that_breaks_ends_though_nobody_reads_why() -> None:
    """A supervisor that could not say why it fell would never be followed by the next."""
    with subprocess.Popen([sys.executable, "-c", BREAKS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            parent.wait(20)
        finally:
            parent.kill()
        assert b"through\n" == parent.stdout.read()


def test_a_pipe_that_nobody_reads_stops_no_writer() -> None:
    with subprocess.Popen([sys.executable, "-c", WRITES], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        try:
            writer.wait(20)
        finally:
            writer.kill()
        assert b"through\n" == writer.stdout.read()
        lines = writer.stderr.read()
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
