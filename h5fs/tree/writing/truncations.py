"""Truncations: files that are cut, or grow by zeros, by a handle or by their path.

Under the tree's lock.
"""

from __future__ import annotations

import os

from h5fs.errors import H5fsError
from h5fs.tree.writing.closings import Closings
from h5fs.tree.writing.opened_files import OpenedFiles
from h5fs.tree.writing.openings import Openings
from h5fs.tree.writing.pending.recent_changes import RecentChanges
from h5fs.tree.writing.writes import Writes


class Truncations:
    """Answers ``truncate`` and ``ftruncate``."""

    def __init__(
        self, opened: OpenedFiles, openings: Openings, writes: Writes, closings: Closings,
        changes: RecentChanges,
    ) -> None:  # fmt: skip
        self._opened = opened
        self._openings = openings
        self._writes = writes
        self._closings = closings
        self._changes = changes

    def by_handle(self, handle: int, size: int) -> None:
        """Cut an open file."""
        file = self._opened.get_writable(handle)
        with self._changes.by(file):
            if size != file.size_bytes:
                self._writes.truncate(file, size)

    def by_path(self, path: bytes, size: int) -> None:
        """Cut a file, which is committed if nobody has it open."""
        being_written = self._openings.being_written(path)
        if being_written is None:
            self._cut_committed(path, size)
            return
        with self._changes.by(being_written):
            self._writes.truncate(being_written, size)
            self._closings.end_truncate(being_written)

    def _cut_committed(self, path: bytes, size: int) -> None:
        """Cut a file that the HDF5 file has; it stays as it was where it cannot be so long."""
        handle = self._openings.open(path, os.O_WRONLY, 0)
        opened, file = self._opened.get(handle), self._opened.get_writable(handle)
        with self._changes.by(file):
            try:
                if size != file.size_bytes:
                    self._writes.truncate(file, size)
                self._closings.flush(opened, 0)
            except H5fsError:
                file.discard()  # others may have it open
                raise
            finally:
                self._closings.release(self._opened.remove(handle))
