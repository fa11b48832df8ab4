"""The keeper of an embedded house: `up`, bound to the life of the program that started it. Run by `embed.py`."""

import json
import os
import shutil
import signal
import sys
from typing import Any

from understudy.protocol.prctl import hear_parents_death
from understudy.protocol.stderr import write_line
from understudy.supervisor import keeping


def main(parent: int, temporary: str, plan: dict[str, Any]) -> int:
    """Keep the house until it is shut down, or until the thread of `parent` that started us is gone.

    Returns the exit status. The folder `temporary`, if there is one, goes when nobody else is there to remove it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # Until the keeper has its own way.
    try:
        try:
            hear_parents_death(signal.SIGTERM)
        except OSError as error:
            write_line(f"understudy: this system cannot tell the house that its program is gone: {error.strerror}")
            return 1
        if os.getppid() != parent:
            return 1  # It died before the line above.
        return keeping.keep((), **plan)
    finally:
        if temporary and os.getppid() != parent:
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(*json.loads(sys.argv[1])))
