"""The log's front: one file to which each commit is appended by one write, until SQLite has it.

A commit that waits for a B-tree costs twenty times as much as one that waits for an append, and a prompt waits for
two. Like SQLite's own write-ahead log in its usual setting it outlives any process, and is not synced: see `Log`.

The file: a header, then records of `HEAD` (length, CRC-32, sequence number) and that many bytes.
"""

import os
import struct
import zlib
from collections.abc import Iterator

from understudy.supervisor.formats import JOURNAL_HEADER

HEAD = struct.Struct("<IIQ")
_SEQUENCE = struct.Struct("<Q")
_SEQUENCE_AT = HEAD.size - _SEQUENCE.size  # Where it stands in the head.


class JournalError(Exception):
    """The file is no journal that this program can read; the text says what is wrong with it."""


class Journal:
    """The journal at `path`, opened for its only writer. Every method but `close` may raise `OSError`."""

    def __init__(self, path: str) -> None:
        """Open or make it. Raises `OSError`, and `JournalError` for what is no journal."""
        self.path = path
        self.damage = ""
        self._torn = False  # A failed write may have left something behind the last record.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            header = os.pread(self._file, len(JOURNAL_HEADER), 0)
            if not JOURNAL_HEADER.startswith(header):
                raise JournalError(f"{path} is no journal of this version of understudy")
            if header != JOURNAL_HEADER:  # Empty, or a start was killed while it wrote.
                os.ftruncate(self._file, 0)
                os.write(self._file, JOURNAL_HEADER)
            self.size = os.fstat(self._file).st_size
        except BaseException:
            os.close(self._file)
            raise

    def append(self, sequence: int, payload: bytes) -> None:
        """Append one record, whole or not at all."""
        head = HEAD.pack(len(payload), zlib.crc32(payload, sequence & 0xFFFFFFFF), sequence)
        size = len(head) + len(payload)
        if self._torn:
            os.ftruncate(self._file, self.size)
        self._torn = True
        try:
            written = os.writev(self._file, (head, payload))
            while written < size:  # The disk became full in the middle: this raises.
                rest = (memoryview(head)[written:], memoryview(payload)[max(0, written - len(head)) :])
                written += os.writev(self._file, rest)
        except OSError:
            os.ftruncate(self._file, self.size)
            self._torn = False
            raise
        self.size += size
        self._torn = False

    def replay(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Yield (sequence, payload) of the records that follow `after` without a gap; sets `damage` if some are lost.

        A last record that is cut short was being written when its writer was killed: nobody was told of it. One whose
        length is damaged looks the same, but for those behind it.
        """
        at = len(JOURNAL_HEADER)
        while head := os.pread(self._file, HEAD.size, at):
            if len(head) < HEAD.size:
                break
            length, check, sequence = HEAD.unpack(head)
            is_whole = length <= self.size - at - HEAD.size
            payload = os.pread(self._file, length, at + HEAD.size) if is_whole else b""
            if not is_whole and self._is_cut(at, after):
                break
            if not is_whole or check != zlib.crc32(payload, sequence & 0xFFFFFFFF) or sequence > after + 1:
                self.damage = f"{self.path} is damaged at byte {at}: the {self.size - at} bytes from there on are lost"
                break
            if sequence > after:
                after = sequence
                yield sequence, payload
            at += HEAD.size + length

    def _is_cut(self, at: int, after: int) -> bool:
        """Return whether the record at `at`, which seems to end behind the file, is cut short, and not its length wrong.

        Then it is whole with all that is left, or the next after `after`, or the one after that, begins in it.
        """
        rest = os.pread(self._file, self.size - at, at)
        _, check, sequence = HEAD.unpack_from(rest)
        if check == zlib.crc32(rest[HEAD.size :], sequence & 0xFFFFFFFF):
            return False
        for wanted in (after + 1, after + 2):
            found = rest.find(_SEQUENCE.pack(wanted), HEAD.size)
            while found >= 0:
                length, check, _ = HEAD.unpack_from(rest, found - _SEQUENCE_AT)
                payload = rest[found + _SEQUENCE.size :][:length]
                if len(payload) == length and check == zlib.crc32(payload, wanted & 0xFFFFFFFF):
                    return False
                found = rest.find(_SEQUENCE.pack(wanted), found + 1)
        return True

    def clear(self) -> None:
        """Forget all records: the log has them."""
        if self.size > len(JOURNAL_HEADER):
            os.ftruncate(self._file, len(JOURNAL_HEADER))
            self.size = len(JOURNAL_HEADER)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
