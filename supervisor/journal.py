"""The log's front: one file to which each commit is appended by one write, until SQLite has it.

A commit that waits for a B-tree costs twenty times as much as one that waits for an append, and a prompt waits for
two. Like SQLite's own write-ahead log in its usual setting it outlives any process, and is not synced: see `Log`.

The file: a header, then records of `HEAD` (length, CRC-32, sequence number) and that many bytes.
"""

import os
import struct
import zlib
from collections.abc import Iterator

HEADER = b"understudy journal 1\n"
HEAD = struct.Struct("<IIQ")


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
            header = os.pread(self._file, len(HEADER), 0)
            if not HEADER.startswith(header):
                raise JournalError(f"{path} is no journal of this version of understudy")
            if header != HEADER:  # Empty, or a start was killed while it wrote.
                os.ftruncate(self._file, 0)
                os.write(self._file, HEADER)
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

        A last record that is cut short was being written when its writer was killed: nobody was told of it.
        """
        at = len(HEADER)
        while head := os.pread(self._file, HEAD.size, at):
            if len(head) < HEAD.size:
                break
            length, check, sequence = HEAD.unpack(head)
            payload = os.pread(self._file, length, at + HEAD.size)
            if len(payload) < length:
                break
            if check != zlib.crc32(payload, sequence & 0xFFFFFFFF) or sequence > after + 1:
                self.damage = f"{self.path} is damaged at byte {at}: the {self.size - at} bytes from there on are lost"
                break
            if sequence > after:
                after = sequence
                yield sequence, payload
            at += HEAD.size + length

    def clear(self) -> None:
        """Forget all records: the log has them."""
        if self.size > len(HEADER):
            os.ftruncate(self._file, len(HEADER))
            self.size = len(HEADER)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
