"""Made fit: text, numbers and depth that JSON, msgpack and every reader hold. Pure.

For what agents say: they cannot be asked to say it again. What people and clients send is refused instead.
"""

import math
from typing import Any

from understudy.protocol.sizes import INTEGERS, NESTING_MAX

CHARACTERS = "half a character"
INTEGER = "an integer beyond 64 bits"
NUMBER = "a number that is not finite"
NESTING = f"something nested deeper than {NESTING_MAX}"
THING = "something that JSON does not hold"
"".encode("utf-16-le")  # Python finds it now: at the limit of descriptors it could not.


def mended(body: Any, odd: set[str] | None = None, depth: int = NESTING_MAX) -> Any:
    """Return `body` made fit: halves of characters become U+FFFD, integers beyond 64 bits their text, and what is not
    finite, nested deeper than `depth`, or no JSON at all, None. `odd` gets the names of what was mended.
    """
    found: Any = body
    match body:
        case None | bool():
            what = ""
        case str():
            found = whole_characters(body)
            what = CHARACTERS if found != body else ""
        case int():
            found, what = (body, "") if body in INTEGERS else (_digits(body), INTEGER)
        case float():
            found, what = (body, "") if math.isfinite(body) else (None, NUMBER)
        case dict() if depth:
            found = {_key(key, odd): mended(value, odd, depth - 1) for key, value in body.items()}
            what = ""
        case list() | tuple() if depth:
            found = [mended(each, odd, depth - 1) for each in body]
            what = ""
        case dict() | list() | tuple():
            found, what = None, NESTING
        case _:
            found, what = None, THING
    if what and odd is not None:
        odd.add(what)
    return found


def whole_characters(value: str) -> str:
    """Return `value` with each half of a character (a lone surrogate) replaced by U+FFFD."""
    return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _key(key: Any, odd: set[str] | None) -> str:
    fit = mended(key, odd, 0)
    if isinstance(fit, str):
        return fit
    if odd is not None:
        odd.add(THING)
    return str(fit)


def _digits(number: int) -> str:
    """Return an integer's text; one of thousands of digits, which takes long to write, by its size."""
    return str(number) if number.bit_length() <= 1024 else f"an integer of {number.bit_length()} bits"
