"""The system calls that the log makes, one object for each descriptor.

Tests replace these objects to record the calls, cut them off, or let them fail. Nothing else in
this package touches a descriptor. Not thread-safe.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol


class SystemCalls(Protocol):
    """What is asked of one open file. Every method raises ``OSError``."""

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes; fewer at the end of the file."""

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` as far as the file goes, and return how many bytes that were."""

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write, perhaps not all of it, and return how many bytes were written."""

    def ftruncate(self, size: int) -> None:
        """Cut the file off at ``size`` bytes, or extend it with zeros."""

    def fsync(self) -> None:
        """Wait until all that was written, and the file's size, is on the disk."""

    def size(self) -> int:
        """Return the file's size in bytes."""


class RealFile:
    """The system calls themselves, on a descriptor that somebody else opens and closes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``. Raises ``OSError``."""
        return os.pread(self._descriptor, size, offset)

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes read. Raises ``OSError``."""
        return os.preadv(self._descriptor, [buffer], offset)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write at ``offset``; return the bytes written. Raises ``OSError``."""
        return os.pwrite(self._descriptor, data, offset)

    def ftruncate(self, size: int) -> None:
        """Set the file's size in bytes. Raises ``OSError``."""
        os.ftruncate(self._descriptor, size)

    def fsync(self) -> None:
        """Wait for the disk. Raises ``OSError``."""
        os.fsync(self._descriptor)

    def size(self) -> int:
        """Return the file's size in bytes. Raises ``OSError``."""
        return os.fstat(self._descriptor).st_size

    def size_and_time(self) -> tuple[int, int]:
        """Return the size in bytes, and when the file was written to last (ns).

        Raises ``OSError``.
        """
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


class WatchedFile(RealFile):
    """A file that reports how many bytes are written, for a progress bar."""

    def __init__(self, descriptor: int, on_write: Callable[[int], object]) -> None:
        super().__init__(descriptor)
        self._on_write = on_write

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        count = super().pwrite(data, offset)
        self._on_write(count)
        return count


class LogFile(RealFile):
    """A log's descriptor, with some room on the disk kept for it.

    So that objects can still be removed when the disk is full: that takes a commit, too.
    """

    def ftruncate(self, size: int) -> None:
        super().ftruncate(size)
        if size == 0:
            self.reserve()

    def reserve(self) -> None:
        """Keep room beyond the end; where the file system cannot, there is none."""
        with suppress(OSError, AttributeError):
            _allocate(self._descriptor, _KEEP_SIZE, 0, RESERVED_BYTES)


RESERVED_BYTES = 2**20
# Of <linux/falloc.h>.
_KEEP_SIZE = 1
_ZERO_RANGE = 16


def make_zeros(descriptor: int, start: int, stop: int) -> None:
    """Let bytes ``[start, stop)`` of a file be zeros that have their room on the disk.

    A file system that can do so writes none of them. Raises ``OSError``.
    """
    if start >= stop:
        return
    try:
        _allocate(descriptor, _ZERO_RANGE, start, stop - start)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        file, zeros = RealFile(descriptor), memoryview(bytes(min(stop - start, 2**20)))
        for at in range(start, stop, len(zeros)):
            write_all(file, zeros[: stop - at], at)


def _allocate(descriptor: int, mode: int, start: int, size: int) -> None:
    """fallocate(2). Python has only the one that changes the size."""
    library = ctypes.CDLL(None, use_errno=True)
    function = library.fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if function(descriptor, mode, start, size):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write_all(file: SystemCalls, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``, in as many calls as it takes. Raises ``OSError``."""
    written = file.pwrite(data, offset)
    size = len(data)
    if written == size:
        return
    view = memoryview(data)
    while written < size:
        count = file.pwrite(view[written:], offset + written)
        if count == 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        written += count


def read_into(file: SystemCalls, view: memoryview, offset: int) -> int:
    """Fill ``view`` from ``offset``, with zeros past the end; return how many bytes there were.

    Raises ``OSError``.
    """
    size = len(view)
    done = file.pread_into(view, offset)
    while done < size:
        count = file.pread_into(view[done:], offset + done)
        if count == 0:
            view[done:] = bytes(size - done)
            break
        done += count
    return done


def read_exactly(file: SystemCalls, size: int, offset: int) -> bytes:
    """Return ``size`` bytes from ``offset``, with zeros past the end. Raises ``OSError``."""
    data = file.pread(size, offset)
    if len(data) == size:
        return data
    whole = bytearray(size)
    read_into(file, memoryview(whole), offset)
    return bytes(whole)
