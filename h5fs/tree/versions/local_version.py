"""Versions of a file of this machine, that other programs replace or rewrite."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from h5fs.errors import CannotOpenError, UnreadableError
from h5fs.tree.tree import Tree
from h5fs.tree.versions.version import Version

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
        """Return the stamp of what a ``stat`` saw."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(eq=False, slots=True)
class LocalVersion(Version):
    """A version of a file of this machine.

    ``descriptor`` is of the file that the tree reads, whatever has become of the path.
    ``may_grow``: another process writes the file by HDF5's SWMR rules, under which what was there
    stays readable.
    """

    stamp: FileStamp
    descriptor: int = -1
    may_grow: bool = False

    def holds(self) -> bool:
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

    def close(self) -> None:
        Version.close(self)
        os.close(self.descriptor)


class FollowedPath:
    """What stands at a path.

    ``open_tree(identity)`` opens the file there, which must have that device and inode number.
    ``may_grow``: it is written by HDF5's SWMR rules.
    """

    again_seconds = 0.2  # an attempt to open a file that is being rewritten costs milliseconds

    def __init__(
        self, file: Path, open_tree: Callable[[tuple[int, int]], Tree], *, may_grow: bool = False
    ) -> None:
        self._file = file
        self._open_tree = open_tree
        self.may_grow = may_grow

    @property
    def name(self) -> str:
        return str(self._file)

    def look(self) -> FileStamp | None:
        try:
            return FileStamp.of(os.stat(self._file))
        except OSError:
            return None

    def suspect(self) -> bool:
        return True

    def interrupt(self) -> None:
        pass  # nobody waits but for the disk

    def open(self) -> LocalVersion:
        file = self._file
        for _ in range(_MOST_ATTEMPTS):
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                raise CannotOpenError(f"{file}: {error.strerror}") from None
            try:
                status = os.fstat(descriptor)
                tree = self._open_tree((status.st_dev, status.st_ino))
            except BaseException:
                os.close(descriptor)
                raise
            # Opening brings a log into the file, and so changes it once.
            stamp = FileStamp.of(os.fstat(descriptor))
            version = LocalVersion(tree, stamp, descriptor=descriptor, may_grow=self.may_grow)
            if stamp == FileStamp.of(status) or self.may_grow:
                return version
            version.close()
        raise UnreadableError(f"{file} is being changed all the time")
