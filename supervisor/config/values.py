"""What a value of the configuration may be: each check returns it as the house takes it, or raises `ValueError` with the remedy.

None shows a value of `env`.
"""

import difflib
import math
import re
import shlex
from collections.abc import Callable
from typing import Any

from understudy.supervisor.numbers import SECONDS_MAX

MEMORY = re.compile(r"(\d{1,12})\s*(M|MB|MiB|G|GB|GiB)?", re.IGNORECASE)
MEMORY_MB_MAX = 1 << 30
TEXT_BYTES_MAX = 100_000  # Linux takes 128 KiB for one word of a command, or one variable.
DEPTH_MAX = 64


def a_text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a text in quotes, not {kind_of(value)}")
    return bounded(value)


def bounded(text: str) -> str:
    """Return a text that a command, an environment or a path can hold."""
    if "\0" in text:
        raise ValueError("has a zero byte; leave it out")
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise ValueError(f"has {len(text.encode())} bytes; the limit is {TEXT_BYTES_MAX}: put it into a file")
    return text


def kind_of(value: Any) -> str:
    """Say what a value is, for people."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "an empty text", list: "a list"}
    return names.get(type(value), "a table")


def a_table(value: Any) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table {{key = value}}, not {kind_of(value)}")
    return value


def options(value: Any) -> dict[str, Any]:
    """Return a table whose values can be packed: an int of 64 bits, no date, not too deep."""
    ahead: list[tuple[str, Any, int]] = [(name, each, 1) for name, each in a_table(value).items()]
    while ahead:
        name, each, depth = ahead.pop()
        if depth > DEPTH_MAX:
            raise ValueError(f"{name} is nested more than {DEPTH_MAX} deep")
        if isinstance(each, dict):
            ahead += [(f"{name}.{inner}" if depth < 4 else name, value, depth + 1) for inner, value in each.items()]
        elif isinstance(each, list):
            ahead += [(name, value, depth + 1) for value in each]
        elif isinstance(each, str):
            if len(each.encode()) > TEXT_BYTES_MAX:
                raise ValueError(f"{name} has {len(each.encode())} bytes; the limit is {TEXT_BYTES_MAX}")
        elif isinstance(each, int):
            if not -(1 << 63) <= each < 1 << 63:
                raise ValueError(f"{name} is a number of more than 64 bits")
        elif not isinstance(each, float) or not math.isfinite(each):
            raise ValueError(f"{name} must be a text, a finite number, true or false, a list or a table")
    return dict(value)


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return the check of a text that must be one of `choices`."""

    def check(value: Any) -> str:
        if value not in choices:
            near = difflib.get_close_matches(value, choices, 1) if isinstance(value, str) else []
            remedy = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"must be one of {', '.join(choices)}{remedy}")
        return str(value)

    return check


def names(value: Any) -> tuple[str, ...]:
    """Names of agents."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of names of agents: ["NAME", …]')
    return tuple(value)


def boolean(value: Any) -> bool:
    """Check `true` or `false`."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def exit_codes(value: Any) -> tuple[int, ...]:
    """Exit codes; a single one stands for a list of it."""
    codes = value if isinstance(value, list) else [value]
    if not all(isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 255 for code in codes):
        raise ValueError("must be a list of exit codes from 0 to 255")
    return tuple(codes)


def import_path(value: Any) -> str:
    """Where a class is to be imported from."""
    if not re.fullmatch(r"[\w.]+:\w+", a_text(value)):
        raise ValueError('must be an import path "module:Class"')
    return str(value)


def command(value: Any) -> tuple[str, ...]:
    """A program and its words: a list, or a text as a shell splits it."""
    if isinstance(value, str):
        try:
            parts = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from error
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        parts = value
    else:
        raise ValueError("must be a text or a list of texts")
    if not parts or not parts[0]:
        raise ValueError("must name a program")
    return tuple(map(bounded, parts))


def environment(value: Any) -> dict[str, str]:
    """Variables, with their values."""
    for name, text in a_table(value).items():
        if not isinstance(text, str):
            raise ValueError(f"{name} must be a text in quotes")
        if not name or "=" in name or "\0" in name + text or len((name + text).encode()) > TEXT_BYTES_MAX:
            what = ascii(name[:64])
            raise ValueError(f"{what} is no name of a variable, has a zero byte, or more than {TEXT_BYTES_MAX} bytes")
    return dict(value)


def memory_mb(value: Any) -> int:
    """Return MB."""
    found = MEMORY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        value = int(found[1]) * (1024 if (found[2] or "M")[0] in "gG" else 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MEMORY_MB_MAX:
        raise ValueError(f'must be like "512 MB" or "2 GB", or a whole number of MB, at most {MEMORY_MB_MAX}')
    return value


def whole_number(least: int, most: int) -> Callable[[Any], int]:
    """Return the check of a whole number within bounds."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number, at least {least}, at most {most}")
        return value

    return check


def seconds(value: Any) -> float:
    """Seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
        raise ValueError(f"must be a number of seconds, 0 or more, at most {SECONDS_MAX:.0f}")
    return float(value)
