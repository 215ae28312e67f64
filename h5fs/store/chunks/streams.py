"""Who reads on and on in an array, told from who reads here and there. Does no I/O.

A reader's requests come in any order, since the kernel has two read-aheads of a few MiB under way
at once (``fuse/read_ahead``), and several readers may be at different places. So a read belongs
to the stream that it is near to; and what tells a stream from random reads is that it reads nearly
everything that it passes, once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

_MB = 2**20

# A request may overtake others, or be late.
_EARLY_BYTES = 4 * _MB
_LATE_BYTES = 8 * _MB
# After so much it is a stream, unless it has passed more than twice as much as it has read, or read
# it half as often again; give or take what may be under way.
_LEAST_BYTES = _MB
# What was read long ago counts less.
_REMEMBERED_BYTES = 64 * _MB
_MOST_STREAMS = 8


@dataclass(eq=False, slots=True)
class Stream:
    """Where somebody reads.

    ``read_bytes`` of ``[start, stop)`` were read. ``ahead_block``: the block that was read when
    blocks were last made ahead of it, at ``ahead_time``; ``ahead_stop``: where those end.
    """

    start: int
    stop: int
    read_bytes: int = 0
    ahead_block: int = -1
    ahead_stop: int = 0
    ahead_time: float = 0

    @property
    def is_sequential(self) -> bool:
        """Whether this is somebody who reads on and on."""
        passed_bytes = self.stop - self.start
        return (
            self.read_bytes >= _LEAST_BYTES
            and passed_bytes <= 2 * self.read_bytes + _EARLY_BYTES
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
    """The streams of one array, those that went on last. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[Stream] = []

    def note(self, start: int, stop: int) -> Stream | None:
        """Take in a read of bytes ``[start, stop)``; return the stream that it belongs to, if any.

        Who begins at the beginning goes on, most likely, and is a stream at once.
        """
        with self._lock:
            stream = next((each for each in self._streams if _is_near(each, start)), None)
            if stream is None:
                stream = Stream(start, start, 0 if start else _LEAST_BYTES)
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
        """Forget the one that went on longest ago, of those that are none if there is one."""
        if len(self._streams) >= _MOST_STREAMS:
            oldest = next((each for each in self._streams if not each.is_sequential), None)
            self._streams.remove(oldest or self._streams[0])


def _is_near(stream: Stream, start: int) -> bool:
    return -_LATE_BYTES <= start - stream.stop <= _EARLY_BYTES
