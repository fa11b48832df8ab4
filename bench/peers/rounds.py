"""The conversation between the benchmark and a peer: each line on stdin is one round, its answer one line of JSON."""

import sys
from collections.abc import Callable

ASKS = 2_000
WINDOW = 128
BODY = b"x" * 64


def serve(once: Callable[[], float]) -> None:
    """Answer each line with a figure, until stdin ends."""
    once()  # Warm.
    print("ready", flush=True)
    for _ in sys.stdin:
        print(once(), flush=True)
