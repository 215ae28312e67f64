"""One state of an HDF5 file: its tree, from the opening until the file changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from h5fs.errors import CannotOpenError, UnreadableError
from h5fs.tree.tree import Tree

_MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells one state of a file from another."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """Return the version that a ``stat`` saw."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(eq=False, slots=True)
class Version:
    """A tree over one version of a file.

    ``descriptor`` is of the file that the tree reads, so that what it says is true whatever has
    become of the path. ``file_count``: how many of its files are open. ``may_grow``: another
    process writes the file by HDF5's SWMR rules, under which what was there stays readable.
    """

    tree: Tree
    stamp: FileStamp
    descriptor: int
    may_grow: bool
    file_count: int = 0
    is_retired: bool = False
    is_closed: bool = False

    def holds(self) -> bool:
        """Whether what the tree has answered just now came from this version alone."""
        if self.is_closed:
            return False
        try:
            found = os.fstat(self.descriptor)
        except OSError:  # it was closed in this moment
            return False
        stamp = self.stamp
        if self.may_grow:
            return found.st_size >= stamp.size_bytes
        # Asked after every answer, so field by field: half the time of comparing two stamps.
        return (
            found.st_mtime_ns == stamp.mtime_ns
            and found.st_size == stamp.size_bytes
            and found.st_ino == stamp.inode
            and found.st_dev == stamp.device
        )

    def is_at(self, path: Path) -> bool:
        """Whether this is what stands at the path, or nothing stands there any more."""
        try:
            return FileStamp.of(os.stat(path)) == self.stamp
        except OSError:
            return self.holds()

    def close(self) -> None:
        """Close tree and file."""
        self.is_closed = True
        self.tree.close()
        os.close(self.descriptor)


@dataclass(eq=False, slots=True)
class OpenFile:
    """An open file: its path, and the version whose tree knows it by ``handle``."""

    path: bytes
    version: Version
    handle: int


def open_version(
    file: Path, open_tree: Callable[[tuple[int, int]], Tree], *, may_grow: bool
) -> Version:
    """Open what stands at a path; ``open_tree`` is told its device and inode number.

    Raises ``CannotOpenError``, ``UnreadableError``.
    """
    for _ in range(_MOST_ATTEMPTS):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CannotOpenError(f"{file}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            tree = open_tree((status.st_dev, status.st_ino))
        except BaseException:
            os.close(descriptor)
            raise
        # Opening brings a log into the file, and so changes it once.
        stamp = FileStamp.of(os.fstat(descriptor))
        version = Version(tree, stamp, descriptor, may_grow)
        if stamp == FileStamp.of(status) or may_grow:
            return version
        version.close()
    raise UnreadableError(f"{file} is being changed all the time")
