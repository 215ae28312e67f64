"""Tells sequential readers of an array from random reads. Does no I/O.

A reader's requests come in any order, since the kernel has two read-aheads of a few MiB under way
at once (``fuse/read_ahead``), and several readers may be at different offsets. So a read belongs to
the stream that it is near to. A stream is sequential when it reads nearly everything that it
passes, once; random reads do not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

_MB = 2**20

# A request may overtake others by so much, or be so late: the kernel has as much under way, and
# what waits for a network comes in any order. If one of them began another stream, the reader's
# further requests would belong now to the one, now to the other, and neither would look sequential.
_EARLY_BYTES = 8 * _MB
_LATE_BYTES = 8 * _MB
_GAP_BYTES = 4 * _MB
# After so many bytes a stream is sequential, unless it has passed more than twice as many bytes as
# it has read, or has read more than one and a half times as many as it has passed; give or take the
# requests that may be under way.
_LEAST_BYTES = _MB
# Bytes beyond these were read long ago, and count less.
_REMEMBERED_BYTES = 64 * _MB
_MOST_STREAMS = 8


@dataclass(eq=False, slots=True)
class Stream:
    """Reads that are near to each other.

    ``read_bytes`` of ``[start, stop)`` were read. ``ahead_block``: the block that was being read
    when blocks were last made ahead of it, at ``ahead_time``; ``ahead_stop``: where those end.
    ``begins``: at the array's beginning. ``fetched_block``: in a remote file, the last block whose
    stored bytes were asked for.
    """

    start: int
    stop: int
    read_bytes: int = 0
    ahead_block: int = -1
    ahead_stop: int = 0
    ahead_time: float = 0
    fetched_block: int = -1
    begins: bool = False

    @property
    def fresh_bytes(self) -> int:
        """``read_bytes`` without the credit that a stream at an array's beginning is given."""
        return self.read_bytes - (_LEAST_BYTES if self.begins else 0)

    @property
    def is_sequential(self) -> bool:
        """Whether these are the reads of a sequential reader."""
        passed_bytes = self.stop - self.start
        return (
            self.read_bytes >= _LEAST_BYTES
            and passed_bytes <= 2 * self.read_bytes + _GAP_BYTES
            and 2 * self.read_bytes <= 3 * passed_bytes + 2 * _MB
        )

    def note(self, start: int, stop: int) -> None:
        """Take in a read of bytes ``[start, stop)``."""
        self.start = min(self.start, start)
        self.stop = max(self.stop, stop)
        self.read_bytes += stop - start
        if self.stop - self.start > _REMEMBERED_BYTES:
            self.start = (self.start + self.stop) // 2
            self.read_bytes //= 2


class Streams:
    """The latest streams of one array. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[Stream] = []

    def note(self, start: int, stop: int) -> Stream | None:
        """Take in a read of bytes ``[start, stop)``; return its stream if that is sequential.

        A reader that begins at the array's beginning most likely goes on: its stream is sequential
        at once.
        """
        with self._lock:
            stream = next((each for each in self._streams if _is_near(each, start)), None)
            if stream is None:
                stream = Stream(start, start, 0 if start else _LEAST_BYTES, begins=not start)
                self._make_room()
            else:
                self._streams.remove(stream)
            self._streams.append(stream)
            stream.note(start, stop)
            return stream if stream.is_sequential else None

    def all(self) -> list[Stream]:
        """Return the streams that are known."""
        with self._lock:
            return list(self._streams)

    def _make_room(self) -> None:
        """Forget the stream that was read longest ago, preferably one that is not sequential."""
        if len(self._streams) >= _MOST_STREAMS:
            oldest = next((each for each in self._streams if not each.is_sequential), None)
            self._streams.remove(oldest or self._streams[0])


def _is_near(stream: Stream, start: int) -> bool:
    return -_LATE_BYTES <= start - stream.stop <= _EARLY_BYTES
