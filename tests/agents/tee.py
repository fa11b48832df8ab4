"""Runs a command on its own stdin and stdout and appends every line to a file: `tee.py FILE COMMAND ...`.

Each line of the file begins with `>` (the editor's) or `<` (the agent's).
"""

import subprocess
import sys
import threading
from typing import IO


def pump(source: IO[bytes], sink: IO[bytes], log: IO[bytes], mark: bytes) -> None:
    """Copy lines until the source ends, then close the sink."""
    for line in source:
        log.write(mark + line)
        log.flush()
        sink.write(line)
        sink.flush()
    sink.close()


def main() -> int:
    """Copy both ways until the command ends; return its status."""
    with open(sys.argv[1], "ab") as log:
        command = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert command.stdin is not None
        assert command.stdout is not None
        editor = threading.Thread(target=pump, args=(sys.stdin.buffer, command.stdin, log, b">"), daemon=True)
        editor.start()
        pump(command.stdout, sys.stdout.buffer, log, b"<")
        return command.wait()


if __name__ == "__main__":
    sys.exit(main())
