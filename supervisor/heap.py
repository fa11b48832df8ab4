"""The C library's heap: what is free in it goes back to the system, which glibc does not see to by itself."""

import contextlib
import ctypes

_LIBRARY = ctypes.CDLL(None)
_MMAP_THRESHOLD = -3  # Of mallopt(3).
_MAPPED_BYTES_MIN = 256 << 10


def tune() -> None:
    """Give back what is large as soon as it is free: by itself glibc keeps blocks as large as it has seen."""
    with contextlib.suppress(AttributeError):  # Another C library.
        _LIBRARY.mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)


def trim() -> None:
    """Give back the rest of what is free: what is small and lies between what is in use stays otherwise."""
    with contextlib.suppress(AttributeError):
        _LIBRARY.malloc_trim(0)
