"""A file that is only read, as the HDF5 library reads it through its driver for Python objects."""

from __future__ import annotations

import errno
import os

from h5fs.errors import H5fsError
from h5fs.store.sources.interface import Source

# The library asks for metadata in small pieces that lie close together. A larger read is of data.
_METADATA_BYTES = 2**16
_METADATA_UNIT_BYTES = 2**18


class SourceReader:
    """A file object for h5py's ``fileobj`` driver, which asks a ``Source``. Under the store's lock.

    None of its methods raises, since the library could not pass that on: what cannot be read is
    zeros, which the library takes for damage. ``failure`` is the first error.
    """

    def __init__(self, source: Source) -> None:
        self.failure: OSError | None = None
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
        size, there = len(view), 0
        unit_bytes = _METADATA_UNIT_BYTES if size < _METADATA_BYTES else 1
        try:
            self._source.ensure(((self._position, self._position + size),), unit_bytes=unit_bytes)
            there = self._source.read_into(view, self._position)
        except OSError as error:
            self.failure = self.failure or error
        except H5fsError as error:
            self.failure = self.failure or OSError(error.errno, str(error))
        if there < size:
            view[there:] = bytes(size - there)
        self._position += size
        return size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Refuse: the file is opened to be read."""
        self.failure = self.failure or OSError(errno.EROFS, "the file is only read")
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Change nothing."""
        return self._position if size is None else size

    def flush(self) -> None:
        """Do nothing: nothing is written."""
