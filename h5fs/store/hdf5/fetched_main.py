"""The mounted file where it comes bit by bit from another machine, as the HDF5 library opens it.

What is missing is fetched before it is read. Where that fails the library reads zeros, and the
daemon, which knows, believes nothing that comes of them. Under the store's lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from h5py import h5f, h5fd, h5p

from h5fs.model.settings import Mode
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.source_reader import SourceReader
from h5fs.store.sources.cached_bytes import CachedBytes
from h5fs.store.sources.interface import Source
from h5fs.store.workers.worker_file import FetchRanges


class FetchedMain:
    """A file that is read through ``source``; ``descriptor`` is that of the sparse file."""

    def __init__(self, data: int, presence: int, fetch: FetchRanges) -> None:
        self.descriptor = data
        size_bytes = os.fstat(data).st_size
        self.source = CachedBytes(data, presence, size_bytes=size_bytes, version=None, fetch=fetch)

    @property
    def fetched(self) -> Source:
        """The bytes of the file."""
        return self.source

    @property
    def failure(self) -> OSError | None:
        """None: the daemon knows what could not be fetched."""
        return None

    def flushed(self) -> Source:
        """Return the bytes of the file, which nobody changes."""
        return self.source

    def open_library(self, path: Path, _mode: Mode) -> Any:
        """Return the ``h5py.h5f.FileID``; ``path`` is for messages. Raises ``UnreadableError``."""
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fileobj_driver(h5fd.fileobj_driver, SourceReader(self.source))
        with reading(f"open {path}"):
            return h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access)
