"""The mounted file where it comes bit by bit from another machine, as the HDF5 library opens it.

The library reads through its driver for Python objects; what is missing is fetched before it is
read. Under the store's lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from h5py import h5f, h5fd, h5p

from h5fs.errors import H5fsError
from h5fs.model.settings import Mode
from h5fs.store.hdf5.translation import reading
from h5fs.store.sources.cached_bytes import CachedBytes
from h5fs.store.workers.worker_file import FetchRanges

# The library asks for metadata in small pieces that lie close together. A larger read is of data.
_METADATA_BYTES = 2**16
_METADATA_UNIT_BYTES = 2**18


class FetchedMain:
    """A file that is read through ``source``; ``descriptor`` is that of the sparse file."""

    def __init__(self, data: int, presence: int, fetch: FetchRanges) -> None:
        self.descriptor = data
        size_bytes = os.fstat(data).st_size
        self.source = CachedBytes(data, presence, size_bytes=size_bytes, version=None, fetch=fetch)

    def open_library(self, path: Path, _mode: Mode) -> Any:
        """Return the ``h5py.h5f.FileID``; ``path`` is for messages. Raises ``UnreadableError``."""
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fileobj_driver(h5fd.fileobj_driver, _FetchedFile(self.source))
        with reading(f"open {path}"):
            return h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access)


class _FetchedFile:
    """A file object for h5py's ``fileobj`` driver.

    None of its methods raises, since the library could not pass that on: where bytes cannot be
    fetched there are zeros, and the daemon, which knows, believes nothing that comes of them.
    """

    def __init__(self, source: CachedBytes) -> None:
        self._source = source
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, in bytes, and return it."""
        start = {os.SEEK_CUR: self._position, os.SEEK_END: self._source.size_bytes}.get(whence, 0)
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill all of ``buffer``, with zeros past the end; return its size."""
        view = memoryview(buffer).cast("B")
        size = len(view)
        unit_bytes = _METADATA_UNIT_BYTES if size < _METADATA_BYTES else 1
        try:
            count = self._source.read_into(view, self._position, unit_bytes=unit_bytes)
        except (OSError, H5fsError):
            count = 0
        if count < size:
            view[count:] = bytes(size - count)
        self._position += size
        return size

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes from the position on."""
        there = max(0, self._source.size_bytes - self._position)
        data = bytearray(there if size < 0 else min(size, there))
        self.readinto(data)
        return bytes(data)

    def write(self, _data: object) -> int:
        """Write nothing: the file is opened read-only."""
        return 0

    def truncate(self, size: int | None = None) -> int:
        """Change nothing."""
        return self._position if size is None else size

    def flush(self) -> None:
        """Do nothing."""
