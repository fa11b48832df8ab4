"""What the house writes on its stderr never stops it, whatever that is."""

import subprocess
import sys

WRITES = "from understudy.supervisor.stderr import write_line\nfor _ in range(500): write_line('\u20ac' * 3000)\nprint('through')"


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
