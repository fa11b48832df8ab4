"""`understudy`, with a watch on its event loops: python -m bench.watched FILE MS up …

Each callback that took MS or more is written into FILE: pid, how long it took, how much of that was its own work,
in ms. Nothing of it is in the product.
"""

import asyncio
import os
import sys
import time

from understudy.supervisor.cli.main import main


def watch(path: str, long_s: float) -> None:
    """Time every callback of this process's loops, and of its children's, which keep no descriptor of ours."""
    plain = asyncio.Handle._run  # noqa: SLF001

    def timed(self: asyncio.Handle) -> None:
        began, own = time.perf_counter(), time.thread_time()
        plain(self)
        took_s = time.perf_counter() - began
        if took_s >= long_s:
            own_s = time.thread_time() - own
            with open(path, "ab", buffering=0) as file:
                file.write(f"{os.getpid()} {1000 * took_s:.2f} {1000 * own_s:.2f}\n".encode())

    asyncio.Handle._run = timed  # type: ignore[method-assign]  # noqa: SLF001


if __name__ == "__main__":
    watch(sys.argv.pop(1), float(sys.argv.pop(1)) / 1000)
    sys.exit(main())
