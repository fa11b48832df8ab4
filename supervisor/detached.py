"""The keeper of a house that was started on the way: nobody's child. Run by `starting.py`.

Whoever starts a house, an editor say, may end its own children, their group and their session. This process leaves all
of them before it does anything else. To `told` it writes its pid, and at its end its exit status, a line each.
"""

import json
import os
import sys
from contextlib import suppress
from typing import Any


def main(told: int, plan: dict[str, Any], asserts: bool) -> int:
    """Leave the process that started us, and keep the house; return the exit status.

    `plan`: the options of `understudy up`, by their names. `asserts`: a breach of an invariant ends the supervisor.
    Folder and umask stay: what agents make goes by them.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    os.set_inheritable(told, False)
    _tell(told, os.getpid())
    status = 1
    try:
        from understudy.supervisor import keeping

        if asserts:
            from understudy.supervisor.core.invariants import VARIABLE

            os.environ[VARIABLE] = "1"

        options = [word for name, value in plan.items() if value is not None for word in (_option(name), str(value))]
        command = (sys.executable, "-P", "-m", "understudy", "up", *options)
        status = keeping.keep(command, **plan)
    finally:
        _tell(told, status)
    return status


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _tell(told: int, number: int) -> None:
    with suppress(OSError):  # Nobody may be there any more.
        os.write(told, f"{number}\n".encode())


if __name__ == "__main__":
    sys.exit(main(*json.loads(sys.argv[1])))
