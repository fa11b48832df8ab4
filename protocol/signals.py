"""Signal handlers, set as the system's own call sets them: a fresh child does it for a dozen signals, and many children do.

Python's `signal.signal` makes enumerations of numbers and handlers, and a text of each handler that it replaces.
"""

import _signal  # type: ignore[import-not-found]  # What `signal` wraps.
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None
DEFAULT, IGNORED = int(signal.SIG_DFL), int(signal.SIG_IGN)


def hear(number: int, handler: Handler) -> None:
    """Set what happens at a signal: a function, `DEFAULT` or `IGNORED`. For the main thread."""
    _signal.signal(number, handler)
