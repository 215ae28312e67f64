"""Which files have changed of late, so that a listing taken before need not be thrown away as a
whole. Not thread-safe: under the tree's lock.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from h5fs.tree.writing.pending.writable_file import WritableFile

_MOST = 10_000


class RecentChanges:
    """Changes by the inode number of the file that changed, each with a number of its own."""

    def __init__(self, most: int = _MOST) -> None:
        self._inodes: deque[int] = deque(maxlen=most)
        self.count = 0
        self._began = 0  # how many changes there were before the first that is kept
        self.by: Callable[[WritableFile | None], _Changing] = functools.partial(_Changing, self)
        """Take note that the block may change a file's status, or give the file another object."""

    def note(self, inode: int) -> None:
        """Take note that the status of a file is another one from now on."""
        self.count += 1
        self._inodes.append(inode)

    def note_any(self) -> None:
        """Take note that names may lead to other files from now on."""
        self.count += 1
        self._began = self.count
        self._inodes.clear()

    def since(self, count: int) -> frozenset[int] | None:
        """Return the files that have changed since there were so many changes; None for any."""
        changed = self.count - count
        if count < self._began or changed > len(self._inodes):
            return None
        return frozenset(list(self._inodes)[len(self._inodes) - changed :])


class _Changing(Struct, eq=False):
    """The block of ``RecentChanges.by``."""

    changes: RecentChanges
    file: WritableFile | None
    inode: int = 0

    def __enter__(self) -> None:
        if self.file is not None:
            self.inode = self.file.inode

    def __exit__(self, *_error: object) -> None:
        file = self.file
        if file is None:
            return
        self.changes.note(self.inode)
        if file.inode != self.inode:
            self.changes.note(file.inode)
