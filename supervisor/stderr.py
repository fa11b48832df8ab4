"""Lines on stderr, which may be a file on a full disk."""

import contextlib
import os


def write_line(text: str) -> None:
    """Write a line, or lose it: past Python's buffer, which keeps what was refused until the exit fails for it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
