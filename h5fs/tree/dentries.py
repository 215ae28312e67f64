"""The dentries of a folder, as columns: 100,000 of them cost no object each but a name.

A plain value. What ``readdir`` tells of a dentry stands in its row, and what ``stat`` would tell,
where that is known without a look at the object.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.tree.status import Dentry, Status

FindStatuses = Callable[[list[bytes]], Mapping[bytes, Status]]

ROW = np.dtype(
    [
        ("inode", "<u8"),
        ("mode", "<u4"),
        ("hard_link_count", "<u8"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("size_bytes", "<i8"),
        ("blocks", "<i8"),
        ("preferred_read_bytes", "<u4"),
        ("atime_ns", "<i8"),
        ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"),
        ("has_status", "?"),
    ]
)
"""The fields of ``Status``. Without ``has_status``, there is the inode number (0 when it is not
known) and of the mode the file type, as in a ``Dentry``."""

_STATUS_FIELDS = tuple(name for name in ROW.fields or () if name != "has_status")


class Dentries:
    """A folder's dentries, without ``.`` and ``..``: ``names``, and ``rows`` with a ``ROW`` each.

    Iterates over them as ``Dentry`` values. ``find_statuses`` returns, of the files with the names
    that it is given, the statuses that are known by now; it may wait for a moment.
    """

    __slots__ = ("find_statuses", "names", "rows")

    def __init__(
        self, names: list[bytes], rows: npt.NDArray[Any], find_statuses: FindStatuses | None = None
    ) -> None:
        self.names = names
        self.rows = rows
        self.find_statuses = find_statuses

    @classmethod
    def of(cls, dentries: Iterable[Dentry]) -> Dentries:
        """Return dentries as columns."""
        every = list(dentries)
        names = [dentry.name for dentry in every]
        return cls(names, np.array([row_of(dentry) for dentry in every], ROW))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Dentry]:
        inodes, modes = self.rows["inode"].tolist(), self.rows["mode"].tolist()
        for name, inode, mode in zip(self.names, inodes, modes, strict=True):
            yield Dentry(name, inode, stat.S_IFMT(mode))

    def after(self, first: Dentry) -> Dentries:
        """Return the same dentries after one more."""
        rows = np.concatenate([np.array([row_of(first)], ROW), self.rows])
        return Dentries([first.name, *self.names], rows, self.find_statuses)

    def complete(self, start: int, stop: int) -> None:
        """Add the statuses in ``[start, stop)`` that are known by now."""
        if self.find_statuses is None:
            return
        missing = (start + np.flatnonzero(~self.rows["has_status"][start:stop])).tolist()
        statuses = self.find_statuses([self.names[place] for place in missing]) if missing else {}
        for place in missing:
            status = statuses.get(self.names[place])
            if status is not None:
                dentry = Dentry(self.names[place], status.inode, status.mode, status)
                self.rows[place] = row_of(dentry)

    def with_statuses(self, most: int) -> tuple[Dentries, list[bytes]]:
        """Return the same with no more than ``most`` statuses, and the names that have one."""
        places = np.flatnonzero(self.rows["has_status"])
        names = [self.names[place] for place in places[:most].tolist()]
        if len(places) <= most:
            return self, names
        rows = self.rows.copy()
        rows["has_status"][places[most:]] = False
        return Dentries(self.names, rows), names

    def changed(self, gone: Set[bytes], new: Iterable[Dentry]) -> Dentries:
        """Return those whose names are not among ``gone``, then the new ones."""
        kept = [place for place, name in enumerate(self.names) if name not in gone]
        more = Dentries.of(new)
        names = [*(self.names[place] for place in kept), *more.names]
        return Dentries(names, np.concatenate([self.rows[kept], more.rows]))

    def with_inodes(self, change: Callable[[int], int]) -> Dentries:
        """Return the same with other inode numbers."""
        rows = self.rows.copy()
        rows["inode"] = [change(inode) for inode in rows["inode"].tolist()]
        return Dentries(self.names, rows)


def row_of(dentry: Dentry) -> tuple[Any, ...]:
    """Return the row of a dentry."""
    status = dentry.status
    if status is None:
        return (dentry.inode, dentry.mode, *(0 for _ in _STATUS_FIELDS[2:]), False)
    return (*(getattr(status, name) for name in _STATUS_FIELDS), True)
