"""The C library's heap: what is free in it goes back to the system, which glibc does not see to by itself."""

import contextlib
import ctypes

_LIBRARY = ctypes.CDLL(None)
_MMAP_THRESHOLD = -3  # Of mallopt(3).
_MAPPED_BYTES_MIN = 256 << 10
_TRIM_BYTES_MIN = 4 << 20


class _Info(ctypes.Structure):
    """What mallinfo2(3) tells."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


with contextlib.suppress(AttributeError):
    _LIBRARY.mallinfo2.restype = _Info
_free_then = 0


def tune() -> None:
    """Give back what is large as soon as it is free: by itself glibc keeps blocks as large as it has seen."""
    with contextlib.suppress(AttributeError):  # Another C library.
        _LIBRARY.mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)


def trim() -> None:
    """Give back what is small, or lies between what is in use, when more of it has become free since the last time."""
    global _free_then
    try:
        free = int(_LIBRARY.mallinfo2().fordblks)  # What was given back counts as free, too.
    except AttributeError:  # An old one: it does not tell.
        free = _free_then + _TRIM_BYTES_MIN
    if free >= _free_then + _TRIM_BYTES_MIN:
        with contextlib.suppress(AttributeError):
            _LIBRARY.malloc_trim(0)
        _free_then = free
    else:
        _free_then = min(_free_then, free)
