"""Folders that are open: the listing of each, packed as libfuse wants it, a piece at a time.

A listing is taken when a program reads a folder from its beginning, and kept, so that further reads
get the rest of the same listing. libfuse could keep it, too, but would go through everything that
it has given out before with each request. The kernel lets one thread at a time read an open folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.fuse.library.structures import NANOSECONDS
from h5fs.tree.dentries import Dentries

_DENTRIES_AT_ONCE = 1024  # more than one request takes
_DOTS = (b".", b"..")

# The field of `ROW` for each field of `struct stat`; times are set separately.
_FIELDS = {
    "st_ino": "inode",
    "st_mode": "mode",
    "st_nlink": "hard_link_count",
    "st_uid": "uid",
    "st_gid": "gid",
    "st_size": "size_bytes",
    "st_blocks": "blocks",
    "st_blksize": "preferred_read_bytes",
}
_TIMES = {"st_atimespec": "atime_ns", "st_mtimespec": "mtime_ns", "st_ctimespec": "ctime_ns"}


class OpenFolder:
    """One ``opendir``. ``version``: the tree's version when the folder was listed."""

    def __init__(self, layout: np.dtype[Any]) -> None:
        self.version: object = None
        self._layout = layout
        self._dentries = Dentries.of(())
        self._packed: npt.NDArray[Any] = np.zeros(0, layout)
        self._start = 0
        self.is_listed = False

    def list(self, dentries: Dentries) -> None:
        """Take a new listing."""
        self._dentries = dentries
        self._packed = np.zeros(0, self._layout)
        self.is_listed = True

    def leave_out(self, inodes: Set[int]) -> None:
        """Leave the statuses of some files out of the rest of the listing."""
        rows = self._dentries.rows
        rows["has_status"] &= ~np.isin(rows["inode"], np.array(list(inodes), "u8"))

    def complete(self, offset: int) -> None:
        """Ask for missing statuses of the dentries that one request may list."""
        start = max(offset - len(_DOTS), 0)
        self._dentries.complete(start, start + _DENTRIES_AT_ONCE)
        self._packed = np.zeros(0, self._layout)

    def entries(self, offset: int) -> Iterator[tuple[bytes, int | None, int, bool]]:
        """Yield ``.``, ``..`` and the dentries, from ``offset`` on.

        Each comes as its name, the address of a ``struct stat`` that is valid until the next one is
        asked for, the offset behind it, and whether all of the structure is known.
        """
        for place, name in enumerate(_DOTS[offset:], offset + 1):
            yield name, None, place, False
        start = max(offset - len(_DOTS), 0)
        size = self._layout.itemsize
        names, has_status = self._dentries.names, self._dentries.rows["has_status"]
        while start < len(names):
            if not self._start <= start < self._start + len(self._packed):
                self._pack(start)
            stop = self._start + len(self._packed)
            address, end = self._packed.ctypes.data, self._packed.nbytes
            yield from zip(
                names[start:stop],
                range(address + (start - self._start) * size, address + end, size),
                range(start + 1 + len(_DOTS), stop + 1 + len(_DOTS)),
                has_status[start:stop].tolist(),
                strict=True,
            )
            start = stop

    def _pack(self, start: int) -> None:
        rows = self._dentries.rows[start : start + _DENTRIES_AT_ONCE]
        packed = np.zeros(len(rows), self._layout)
        for field, of_row in _FIELDS.items():
            if field in packed.dtype.fields:
                packed[field] = rows[of_row]
        for field, of_row in _TIMES.items():
            packed[f"{field}.tv_sec"], packed[f"{field}.tv_nsec"] = np.divmod(
                rows[of_row], NANOSECONDS
            )
        self._packed, self._start = packed, start
