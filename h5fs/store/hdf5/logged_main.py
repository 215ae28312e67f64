"""The mounted file behind its redo log, as the HDF5 library opens it.

The library's driver for Python objects takes no lock, and neither sets nor honours the mark of a
file that is open for write: `log_file` and `opening` have done both. Under the store's lock.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

from h5py import h5f, h5fd, h5p

from h5fs.errors import StaleError, UnreadableError
from h5fs.model.settings import Mode
from h5fs.store.hdf5.translation import reading
from h5fs.store.log import LoggedFile

_log = logging.getLogger(__name__)

# Large data begin on a page of the log, so that they share no page with committed data.
_LARGE_BYTES = 2**16
PAGE_BYTES = 2**12
"""The log's page size: data written past the library must share no page with committed data."""


class LoggedMain:
    """A file that is read and written through ``file``; ``descriptor`` is the file's own."""

    def __init__(self, file: LoggedFile, descriptor: int) -> None:
        self.file = file
        self.descriptor = descriptor
        self._file_id: Any = None

    def open_library(self, path: Path, mode: Mode) -> Any:
        """Return the ``h5py.h5f.FileID``; a file of no bytes becomes an HDF5 file.

        Raises ``UnreadableError``.
        """
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fileobj_driver(h5fd.fileobj_driver, self.file)
        access.set_alignment(_LARGE_BYTES, PAGE_BYTES)
        self._open_file(path)
        if mode.writes and self.file.rest.is_damage:
            # The log was brought in when the file was opened, so this is a newer one.
            raise UnreadableError(
                f"{path}: its log is damaged at byte {self.file.rest.start}, and what was "
                "committed after that is lost: unmount, and run: h5fs recover"
            )
        if mode.writes and self.file.log_bytes:
            self._make_room()
        with reading(f"open {path}"):
            if self.file.length or not mode.writes:
                flags = h5f.ACC_RDWR if mode.writes else h5f.ACC_RDONLY
                self._file_id = h5f.open(os.fsencode(path), flags, access)
            else:
                self._file_id = h5f.create(
                    os.fsencode(path), h5f.ACC_TRUNC, _new_file_properties(), access
                )
                h5f.flush(self._file_id)
                self.file.commit(durable=True)
        return self._file_id

    def _open_file(self, path: Path) -> None:
        try:
            self.file.open()
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise StaleError(f"{path}: {error.strerror}") from None
            raise UnreadableError(f"{path} or its log: {error.strerror}") from None

    def _make_room(self) -> None:
        """Empty the log that an earlier worker has left: it may fill the disk."""
        try:
            self.file.checkpoint()
        except OSError as error:
            _log.info("the log stays: %s", error)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes of the file as the library last left them."""
        if self._file_id is not None:
            h5f.flush(self._file_id)
        return self.file.read_at(offset, size)


def _new_file_properties() -> h5p.PropFCID:
    """Return how a file is made: it keeps the order in which links of the root group are created.

    netCDF-C (4.10) writes to no file without that. It does not need the order of attributes, whose
    storage in the library fails in some ways once an object has more than eight. New groups keep
    the orders that their parent keeps.
    """
    properties = h5p.create(h5p.FILE_CREATE)
    properties.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    return properties
