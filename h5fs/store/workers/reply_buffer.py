"""The daemon's end of a worker's reply buffer: a memory file for answers too long for a packet."""

from __future__ import annotations

import os
from typing import Final

from h5fs.store.workers import messages
from h5fs.store.workers.shared_buffers import make_memory_file


class ReplyBuffer:
    """A memory file that begins with the worker's note. ``most_bytes``: the longest answer.

    Raises ``ValueError`` for sizes that a worker has stated and that cannot be true.
    """

    def __init__(self, most_bytes: int) -> None:
        self.descriptor: Final = make_memory_file("reply-buffer", messages.NOTE_BYTES)
        self._most_bytes = most_bytes

    def note(self) -> bytes:
        """Return the worker's last note: the object that it was going to look at."""
        head = os.pread(self.descriptor, messages.NOTE_BYTES, 0)
        return head[2 : 2 + int.from_bytes(head[:2], "little")]

    def read(self, size: memoryview) -> bytes:
        """Return an answer of ``size`` bytes, which is a little-endian number."""
        count = int.from_bytes(size, "little")
        if count > self._most_bytes:
            raise ValueError(f"an answer of {count} bytes")
        data = os.pread(self.descriptor, count, messages.NOTE_BYTES)
        if len(data) != count:
            raise ValueError("an answer that is longer than the reply buffer")
        return data

    def read_into(self, size: memoryview, into: memoryview) -> int:
        """Copy an answer of ``size`` bytes, which is a little-endian number; return that."""
        count = int.from_bytes(size, "little")
        if count > len(into):
            raise ValueError(f"{count} bytes of data instead of {len(into)}")
        return os.preadv(self.descriptor, [into[:count]], messages.NOTE_BYTES)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


def copy_data(data: memoryview, into: memoryview) -> int:
    """Copy an answer that came in a packet. Raises ``ValueError`` where it is too long."""
    if len(data) > len(into):
        raise ValueError(f"{len(data)} bytes of data instead of {len(into)}")
    into[: len(data)] = data
    return len(data)
