"""Frames that come in parts, put together: at most one for each peer, most of it in a file without a name.

What is unfinished costs memory only within `MEMORY_BYTES_MAX`, and the disk within `UNFINISHED_BYTES_MAX`; beyond
that the one that has stood still the longest gives way. Decides nothing else.
"""

import os
import tempfile
from dataclasses import dataclass, field
from typing import IO, Any

from understudy.protocol.frames import BODY_BYTES_MAX, Frame, FrameError, Part
from understudy.protocol.messages import Joiner

MEMORY_BYTES_MAX = 8 << 20  # Of all unfinished frames, in memory,
PEER_MEMORY_BYTES_MAX = 1 << 20  # of one.
UNFINISHED_BYTES_MAX = 1 << 30  # Of all, in files,
FILES_MAX = 256  # in so many.
STILL_S_MAX = 60.0  # An unfinished frame is dropped when no part of it came for so long.


@dataclass(slots=True)
class _Unfinished:
    """What one peer has sent of its frame. `touched`: when the last part came, monotonic."""

    touched: float
    pieces: bytearray = field(default_factory=bytearray)
    size: int = 0
    file: IO[bytes] | None = None


class Parts:
    """The unfinished frames of all peers of one socket, `side` as for `Joiner`; files go to `folder`."""

    def __init__(self, side: Any, folder: str) -> None:
        self._joiner = Joiner(side)
        self._folder = folder
        self._unfinished: dict[bytes, _Unfinished] = {}  # The one that has stood still the longest comes first.
        self.memory_bytes = self.file_bytes = self.files = 0

    def __len__(self) -> int:
        return len(self._unfinished)

    def add(self, peer: bytes, part: Part, now: float) -> Frame | None:
        """Return the frame that `part` completes, else None.

        Raises `FrameError` when it is too large or no frame, `OSError` when there is no room for it on the disk;
        nothing of it is kept then.
        """
        whole = self._unfinished.pop(peer, None) or _Unfinished(now)
        self._unfinished[peer] = whole
        if whole.size + len(part.piece) > BODY_BYTES_MAX:
            self.drop(peer)
            raise FrameError(f"a frame of more than {BODY_BYTES_MAX} bytes in parts")
        whole.touched = now
        try:
            self._keep(whole, part.piece)
            if not part.last:
                return None
            content = self._content(whole)
        except OSError:
            self.drop(peer)
            raise
        self.drop(peer)
        return self._joiner.add(Part(last=True, piece=content))

    def drop(self, peer: bytes) -> None:
        """Forget what the peer has not finished."""
        whole = self._unfinished.pop(peer, None)
        if whole is None:
            return
        if whole.file is None:
            self.memory_bytes -= whole.size
        else:
            self.file_bytes -= whole.size
            self.files -= 1
            whole.file.close()

    def excess(self) -> bytes | None:
        """Return whose unfinished frame is to give way, None while all have room."""
        if self.file_bytes <= UNFINISHED_BYTES_MAX and self.files <= FILES_MAX:
            return None
        return next(peer for peer, whole in self._unfinished.items() if whole.file is not None)

    def still(self, now: float) -> list[bytes]:
        """Return whose frames have stood still for too long."""
        return [peer for peer, whole in self._unfinished.items() if now - whole.touched > STILL_S_MAX]

    def peers(self) -> list[bytes]:
        """Return who has an unfinished frame."""
        return list(self._unfinished)

    def close(self) -> None:
        """Forget everything."""
        for peer in self.peers():
            self.drop(peer)

    def _keep(self, whole: _Unfinished, piece: bytes) -> None:
        size = len(piece)
        if whole.file is None:
            if whole.size + size <= PEER_MEMORY_BYTES_MAX and self.memory_bytes + size <= MEMORY_BYTES_MAX:
                whole.pieces += piece
                whole.size += size
                self.memory_bytes += size
                return
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (closed by `drop`)
            whole.file = file
            self.memory_bytes -= whole.size
            self.file_bytes += whole.size
            self.files += 1
            _write(file, whole.pieces)
            whole.pieces = bytearray()
        _write(whole.file, piece)
        whole.size += size
        self.file_bytes += size

    def _content(self, whole: _Unfinished) -> bytes:
        if whole.file is None:
            return bytes(whole.pieces)
        content = os.pread(whole.file.fileno(), whole.size, 0)
        if len(content) < whole.size:
            raise OSError(f"{len(content)} of {whole.size} bytes can be read again")
        return content


def _write(file: IO[bytes], piece: bytes | bytearray) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(file.fileno(), view) :]
