"""What the kernel has of arrays that programs have mapped to write, beside what others write.

Of a page that a program has changed by a mapping the kernel writes back all. Other mounts may have
changed other elements of it since it was read: so only those elements are written that are not
what the kernel was given. Safe to use from any thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import IO

import numpy as np

from h5fs.errors import NoSpaceError
from h5fs.store.interface import ArrayFile
from h5fs.store.log.runs import RunIndex
from h5fs.store.sources.local_file import make_unnamed
from h5fs.tree.contents.content import ArrayContent


def layout_of(content: ArrayContent) -> Hashable:
    """Return what is equal for two contents of an array if each row has the same place in both."""
    return content.dataset.dtype, content.npy.shape[1:], len(content.npy.header)


@dataclass(eq=False)
class SharedPages:
    """The bytes of one ``.npy`` file that the kernel was given, in a file of no name.

    ``_lock`` protects all of it; nothing else is taken while it is held.
    """

    content: ArrayContent
    _file: IO[bytes] = field(default_factory=make_unnamed)
    _given: RunIndex = field(default_factory=lambda: RunIndex(page_bytes=1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, content: ArrayContent) -> bool:
        """Take over what the array is by now; return False where its bytes have moved."""
        is_alike = layout_of(self.content) == layout_of(content)
        if is_alike:
            self.content = content
        return is_alike

    def note(self, data: memoryview | bytes, offset: int) -> None:
        """Note bytes that the kernel gets. Raises ``NoSpaceError``."""
        with self._lock:
            self._note(data, offset)

    def take(
        self, data: memoryview | bytes, offset: int
    ) -> tuple[ArrayFile, tuple[tuple[int, int], ...]]:
        """Note pages that come back; return the array, and which ranges of it have changed.

        The ranges are whole elements, in bytes of the array's data.
        """
        header, item = len(self.content.npy.header), self.content.dataset.dtype.itemsize
        with self._lock:
            changed = self._changed(data, offset)
            self._note(data, offset)
            edges = [(low - header, high - header) for low, high in changed if high > header]
            ranges: list[tuple[int, int]] = []
            for low, high in edges:
                start, stop = max(low, 0) // item * item, -(-high // item) * item
                self._complete(start + header, stop + header)
                if ranges and start <= ranges[-1][1]:
                    ranges[-1] = (ranges[-1][0], max(stop, ranges[-1][1]))
                else:
                    ranges.append((start, stop))
            os.ftruncate(self._file.fileno(), self.content.size_bytes)
        shape, dtype = self.content.npy.shape, self.content.dataset.dtype
        lent = ArrayFile(
            self._file.fileno(), self.content.size_bytes, shape, dtype, False, header, False,
            shape[0] if shape else None,
        )  # fmt: skip
        return lent, tuple(ranges)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _note(self, data: memoryview | bytes, offset: int) -> None:
        view, at = memoryview(data), offset
        try:
            while view:
                count = os.pwrite(self._file.fileno(), view, at)
                view, at = view[count:], at + count
        except OSError as error:
            raise NoSpaceError(f"no room for what is mapped: {error.strerror}") from error
        self._given.insert(offset, offset + len(data), offset)

    def _changed(self, data: memoryview | bytes, offset: int) -> list[tuple[int, int]]:
        """Return where bytes are not those that the kernel was given."""
        new = np.frombuffer(data, np.uint8)
        is_same = np.zeros(len(new), bool)
        old = np.frombuffer(os.pread(self._file.fileno(), len(new), offset), np.uint8)
        for start, stop in self._parts_given(offset, offset + len(new)):
            low, high = start - offset, min(stop - offset, len(old))
            is_same[low:high] = new[low:high] == old[low:high]
        edges = np.flatnonzero(np.diff(np.concatenate(([True], is_same, [True])).astype(np.int8)))
        return [(offset + int(low), offset + int(high)) for low, high in edges.reshape(-1, 2)]

    def _parts_given(self, start: int, stop: int) -> list[tuple[int, int]]:
        return [
            (max(low, start), min(high, stop)) for low, high, _ in self._given if
            low < stop and high > start
        ]  # fmt: skip

    def _complete(self, start: int, stop: int) -> None:
        """Read the rest of elements of which the kernel was given a part only."""
        at = start
        for low, high in [*self._parts_given(start, stop), (stop, stop)]:
            if at < low:
                missing = bytearray(low - at)
                self.content.read_into(memoryview(missing), at)
                self._note(bytes(missing), at)
            at = max(at, high)
