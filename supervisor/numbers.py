"""Numbers that a person writes on the command line or in the environment. Pure; a `ValueError` says what is wanted."""

import re
from collections.abc import Callable

COUNT_MAX = 1_000_000_000
NUMBER_MAX = (1 << 63) - 1
SECONDS_MAX = 1e9
UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Return a number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= SECONDS_MAX:
        raise ValueError(f"{text[:64]!r} must be a number of seconds, 0 or more, at most {SECONDS_MAX:.0f}")
    return number


def duration_s(text: str) -> float:
    """Return how many seconds `60s`, `5m` or `1h` are."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text.strip(), re.ASCII)
    if found is None or float(found[1]) * UNITS_S[found[2]] > SECONDS_MAX:
        raise ValueError(f"{text[:64]!r} is no time; write 60s, 5m or 1h")
    return float(found[1]) * UNITS_S[found[2]]


def whole(most: int) -> Callable[[str], int]:
    """Return what reads a whole number from 0 to `most`."""

    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"\d{1,19}", text, re.ASCII) else -1
        if not 0 <= number <= most:
            raise ValueError(f"{text[:64]!r} must be a whole number from 0 to {most}")
        return number

    return read
