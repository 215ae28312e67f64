#!/usr/bin/env python3
"""A file system in Python that only passes files on: what Python over this binding takes by itself.

    python passing_on.py FOLDER MOUNTPOINT

Shows a folder at a mountpoint, in the foreground, over mfusepy, the binding that h5fs uses. On one
thread: with more, Python makes a thread state in each call, which h5fs does not. The kernel checks
permissions, and keeps nothing, as of most files in a mount of h5fs that writes.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import mfusepy

_FIELDS = tuple(
    f"st_{name}" for name in "ino mode nlink uid gid size blocks atime mtime ctime".split()
)


class PassedOn(mfusepy.Operations):
    """Each call is the system call of the same name, on the folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """``stat`` and ``fstat``."""
        found = os.lstat(self._folder + path) if fh is None else os.fstat(fh)
        return {name: getattr(found, name) for name in _FIELDS}

    def readdir(self, path: str, fh: int) -> Any:
        """The names of a folder."""
        return [".", "..", *os.listdir(self._folder + path)]

    def open(self, path: str, flags: int) -> int:
        """``open(2)``."""
        return os.open(self._folder + path, flags)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """``open(2)`` of a file that is not there."""
        return os.open(self._folder + path, os.O_RDWR | os.O_CREAT, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """``pread``."""
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """``pwrite``."""
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """``truncate`` and ``ftruncate``."""
        os.truncate(self._folder + path if fh is None else fh, length)
        return 0

    def release(self, path: str, fh: int) -> int:
        """The last ``close``."""
        os.close(fh)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        """``mkdir``."""
        os.mkdir(self._folder + path, mode)
        return 0

    def unlink(self, path: str) -> int:
        """``unlink``."""
        os.unlink(self._folder + path)
        return 0

    def rename(self, old: str, new: str) -> int:
        """``rename``."""
        os.rename(self._folder + old, self._folder + new)
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(
        PassedOn(os.path.realpath(sys.argv[1])), sys.argv[2],
        foreground=True, nothreads=True, default_permissions=True, fsname="passing_on",
        entry_timeout=0, attr_timeout=0, hard_remove=True,
    )  # fmt: skip
