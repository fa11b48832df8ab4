"""Lines on stderr, which may be a file on a full disk, a pipe that nobody reads, or a terminal that is held."""

import contextlib
import os
import select
import time

LINE_BYTES_MAX = 4096  # PIPE_BUF: a pipe takes so much whole or not at all.


def say(text: str) -> None:
    """Write a line of the house's own log, with the time: it may be read a year later."""
    write_line(f"{time.strftime('%Y-%m-%d %H:%M:%S')} understudy: {text}")


def write_line(text: str) -> None:
    """Write a line, or lose it: past Python's buffer, which keeps what was refused until the exit fails for it.

    It never waits: whoever holds our stderr and does not read it would stop the house.
    """
    line = f"{text}\n".encode(errors="backslashreplace")
    if len(line) > LINE_BYTES_MAX:
        line = line[: LINE_BYTES_MAX - 1] + b"\n"
    with contextlib.suppress(OSError):
        reader = select.poll()
        reader.register(2, select.POLLOUT)
        if reader.poll(0):
            os.write(2, line)
