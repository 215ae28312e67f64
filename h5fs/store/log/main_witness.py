"""Checks, before a write to the main file, whether another program has written to it.

HDF5's locks keep out HDF5 programs only: ``cp``, an editor or ``truncate`` write all the same.
Pages of the log over such a file would be half one file and half another. What the witness
remembers of the main file is in a *record*, a memory file that later workers get, too. Not
thread-safe.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

from h5fs.store.log.system_calls import RealFile, read_exactly

_PAGE_BYTES = 4096
_FIELDS = struct.Struct("<????q")


@dataclass(slots=True)
class _Memory:
    """What the record holds before the first page.

    ``is_foreign``: another program has written to the file. ``has_other_writer``: another process
    of this mount may write, at any time. ``knows_page``: the page in the record can be compared
    with the file's; ``knows_time``: so can ``modified_ns``.
    """

    is_foreign: bool = False
    has_other_writer: bool = False
    knows_page: bool = False
    knows_time: bool = False
    modified_ns: int = 0


def make_record() -> int:
    """Return the descriptor of a new record, in memory."""
    return os.memfd_create("h5fs-witness")


class MainWitness:
    """Remembers a main file: its first page, and when it was written to last.

    Only a checkpoint writes the first page. The file's time changes with every write, also those of
    h5fs: so it is compared only while h5fs has written nothing past the log. ``record``: the same
    one for all processes.
    """

    def __init__(self, main: RealFile, record: RealFile) -> None:
        self._main = main
        self._record = record
        self._memory = _Memory()
        self._first_page = b""

    def begin(self) -> None:
        """Go on with what the process before this one remembered. Raises ``OSError``."""
        data = self._record.pread(_FIELDS.size + _PAGE_BYTES, 0)
        if data:
            self._memory = _Memory(*_FIELDS.unpack_from(data))
            self._first_page = data[_FIELDS.size :]
            self.check(0)
        if not self._memory.knows_page:
            self.renew()

    def renew(self) -> None:
        """Remember what is there now, which this mount has written. Raises ``OSError``."""
        self._first_page = read_exactly(self._main, _PAGE_BYTES, 0)
        self._record.pwrite(self._first_page, _FIELDS.size)
        self._memory.knows_page = True
        self.renew_time()

    def renew_time(self) -> None:
        """Remember when the file was written to last. All that was written is on the disk."""
        self._memory.knows_time = not self._memory.has_other_writer
        _, self._memory.modified_ns = self._main.size_and_time()
        self._save()

    def note_own_write(self, *, of_first_page: bool = False) -> None:
        """Take note that this process is about to write to the file."""
        if self._memory.knows_time or of_first_page:
            self._memory.knows_time = False
            self._memory.knows_page = self._memory.knows_page and not of_first_page
            self._save()

    def note_other_writer(self) -> None:
        """Take note that from now on another process of the owner's writes, too, at any time."""
        if not self._memory.has_other_writer:
            self._memory.has_other_writer = True
            self._memory.knows_time = False
            self._save()

    def check(self, least_bytes: int) -> None:
        """Raise ``OSError`` with ``ESTALE`` when another program has written to the file.

        ``least_bytes``: it cannot have become shorter than these. From then on this raises always.
        """
        memory, found = self._memory, ""
        size, modified_ns = self._main.size_and_time()
        if memory.is_foreign:
            found = "h5fs has let go of it"
        elif size < least_bytes:
            found = f"it has {size} bytes, where h5fs left {least_bytes}"
        elif memory.knows_page and read_exactly(self._main, _PAGE_BYTES, 0) != self._first_page:
            found = "it begins with other bytes"
        elif memory.knows_time and modified_ns != memory.modified_ns:
            found = "it was written to since h5fs did so"
        if found:
            memory.is_foreign = True
            self._save()
            raise OSError(errno.ESTALE, f"another program has changed the HDF5 file: {found}")

    def _save(self) -> None:
        memory = self._memory
        fields = (
            memory.is_foreign, memory.has_other_writer, memory.knows_page, memory.knows_time,
            memory.modified_ns,
        )  # fmt: skip
        self._record.pwrite(_FIELDS.pack(*fields), 0)
