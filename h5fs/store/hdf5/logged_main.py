"""The mounted file behind its redo log, as the HDF5 library opens it.

The library's driver for Python objects takes no lock, and neither sets nor honours the mark of a
file that is open for write: `file_and_log` and `file_checks` have done both. Under the store's
lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from h5py import h5f, h5fd, h5p

from h5fs.errors import StaleError, UnreadableError
from h5fs.model.settings import Mode
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.source_reader import SourceReader
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.reading.snapshot_file import SnapshotFile
from h5fs.store.log.system_calls import RealFile
from h5fs.store.sources.interface import Source, WholeSource

# Large data begin on a page of the log, so that they share no page with committed data.
_LARGE_BYTES = 2**16
PAGE_BYTES = 2**12
"""The log's page size: data written past the library must share no page with committed data."""

_LEAST_METADATA_BYTES, _MOST_METADATA_BYTES = 2**15, 2**21
_EPOCH = 1000  # requests for a piece of metadata, after which the library looks at the cache's size
_FEW_HITS = 0.5


def _access_through(file: object) -> Any:
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, file)
    return access


def _keep_little_metadata(file_id: Any) -> None:
    """Bound the library's cache of metadata, through all of which each flush walks.

    Reading metadata again, through the log, takes less time than that: where other processes had
    the processor meanwhile, a walk through 500 pieces takes 100 us. (With a quarter of this size
    small changes in ten groups, in turn, read much of what they need, and nothing is won.) The
    cache still grows for a single piece of metadata that is large, as the names of a group are; and
    where most of what is asked for is not in it: small changes find nine of ten, the way to a group
    500 deep one of five.
    """
    config = file_id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = _LEAST_METADATA_BYTES
    config.max_size = _MOST_METADATA_BYTES
    config.epoch_length = _EPOCH
    config.lower_hr_threshold = _FEW_HITS
    file_id.set_mdc_config(config)


class LoggedMain:
    """A file that is read and written through ``file``; ``descriptor`` is the file's own.

    ``is_flushed``: since its last flush the library was not asked to change anything.
    ``user_block``: what a file begins with that is made.
    """

    def __init__(self, file: LoggedFile, descriptor: int, *, user_block: bytes = b"") -> None:
        self.file = file
        self.descriptor = descriptor
        self._user_block = user_block
        self.fetched = None
        self.is_flushed = False
        self._file_id: Any = None

    @property
    def failure(self) -> OSError | None:
        """The first error that the library was not told of."""
        return self.file.failure

    def open_library(self, path: Path, mode: Mode) -> Any:
        """Return the ``h5py.h5f.FileID``; a file of no bytes becomes an HDF5 file.

        Raises ``UnreadableError``.
        """
        access = _access_through(self.file)
        access.set_alignment(_LARGE_BYTES, PAGE_BYTES)
        self._open_file(path)
        if mode.writes and self.file.rest.is_damage:
            # The log was brought in when the file was opened, so this is a newer one.
            raise UnreadableError(
                f"{path}: its log is damaged at byte {self.file.rest.start}, and what was "
                "committed after that is lost: unmount, and run: h5fs recover"
            )
        with reading(f"open {path}"):
            if self.file.length or not mode.writes:
                flags = h5f.ACC_RDWR if mode.writes else h5f.ACC_RDONLY
                self._file_id = h5f.open(os.fsencode(path), flags, access)
            else:
                self._create(os.fsencode(path))
                self._file_id = h5f.open(os.fsencode(path), h5f.ACC_RDWR, access)
            if mode.writes:
                _keep_little_metadata(self._file_id)
        return self._file_id

    def _create(self, path: bytes) -> None:
        properties = _new_file_properties()
        properties.set_userblock(len(self._user_block))
        # Without the alignment: a file is not made with a user block that is smaller.
        h5f.create(path, h5f.ACC_TRUNC, properties, _access_through(self.file)).close()
        self.file.seek(0)
        self.file.write(self._user_block)
        self.file.commit(durable=True)

    def _open_file(self, path: Path) -> None:
        try:
            self.file.open()
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise StaleError(f"{path}: {error.strerror}") from None
            raise UnreadableError(f"{path} or its log: {error.strerror}") from None

    def flushed(self) -> Source:
        """Return the bytes of the file as the library has them now.

        They are right until the library changes something.
        """
        if self._file_id is not None and not self.is_flushed:
            h5f.flush(self._file_id)
        return _LoggedBytes(self.file)


class SnapshotMain:
    """A file as of a commit, read beside the writing process. ``descriptor``: the file's own."""

    def __init__(self, main: int, log: int) -> None:
        self.descriptor = main
        self.fetched = None
        self._file = SnapshotFile(RealFile(main), RealFile(log))
        self._reader = SourceReader(self._file)
        self._number: int | None = None  # of the log; None: nothing is open

    @property
    def failure(self) -> OSError | None:
        """The first error that the library was not told of."""
        return self._reader.failure

    def has(self, number: int, needed: int) -> bool:
        """Whether it is open at a commit of log ``number`` that ends at ``needed`` or later."""
        return number == self._number and self._file.stop >= needed

    def follow(self, number: int, stop: int) -> None:
        """Go on to the commit that ends at byte ``stop`` of a log. Raises ``OSError``."""
        is_other, self._number = number != self._number, None
        if is_other:
            self._file.forget()
        self._file.advance(stop)
        self._number = number

    def open_library(self, path: Path, _mode: Mode) -> Any:
        """Return the ``h5py.h5f.FileID``. Raises ``UnreadableError``."""
        access = _access_through(self._reader)
        access.set_fclose_degree(h5f.CLOSE_STRONG)  # nothing of an older commit stays open
        with reading(f"open {path}"):
            return h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access)

    def flushed(self) -> Source:
        """Return the bytes of the file."""
        return self._file


class _LoggedBytes(WholeSource):
    """A ``Source`` through the log."""

    def __init__(self, file: LoggedFile) -> None:
        self._file = file

    @property
    def size_bytes(self) -> int:
        return self._file.length

    @property
    def version(self) -> Hashable:
        return None  # whoever asks for these bytes holds the store's lock, so they stay

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return self._file.fill(buffer, offset)


def _new_file_properties() -> h5p.PropFCID:
    """Return how a file is made: it keeps the order in which links of the root group are created.

    netCDF-C (4.10) writes to no file without that. It does not need the order of attributes, whose
    storage in the library fails in some ways once an object has more than eight. New groups keep
    the orders that their parent keeps.
    """
    properties = h5p.create(h5p.FILE_CREATE)
    properties.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    return properties
