"""A file whose bytes come bit by bit: a sparse file, and a map of which blocks of it are there.

Both ends of a remote file read through this module: the daemon, which fetches, and workers, which
have no network and ask the daemon for what is missing.

A block may go again, when the cache gets too large, while somebody reads it. So the map counts: for
each block one byte, odd while the block is there, which goes up by one whenever the block comes or
goes. Bytes that were read count only if the map says the same after the reading as before it.

A map file is a page with a header, then the bytes that count, and then two tables of the daemon's:
which blocks outlive a power cut, and when each block was used last.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK_BYTES: Final = 64 * 1024
"""What one byte of the map stands for. Requests are larger, as a rule."""

MAGIC: Final = b"h5fsmap1"
HEADER: Final = struct.Struct("<8s40sQQI")  # magic, boot id, size, block size, length of the text
PAGE_BYTES: Final = 4096
_PIECE_BLOCKS = 64
_ODD: Final = bytes(range(1, 256, 2))

Fetch = Callable[[Sequence[tuple[int, int]], int], None]
"""Fetches half-open ranges of bytes, in units of at least so many bytes."""


@dataclass(frozen=True, slots=True)
class MapLayout:
    """Where the parts of a map file are, for a file of ``size_bytes``."""

    size_bytes: int

    @property
    def block_count(self) -> int:
        return -(-self.size_bytes // BLOCK_BYTES)

    @property
    def table_bytes(self) -> int:
        """The length of a table with a byte for each block, up to whole pages."""
        return -(-self.block_count // PAGE_BYTES) * PAGE_BYTES

    @property
    def lasting_offset(self) -> int:
        return PAGE_BYTES + self.table_bytes

    @property
    def used_offset(self) -> int:
        return PAGE_BYTES + 2 * self.table_bytes

    @property
    def file_bytes(self) -> int:
        return PAGE_BYTES + 6 * self.table_bytes


class CachedBytes:
    """A ``Source`` by the descriptors of a sparse file and of its map, which it does not close.

    ``size_bytes`` is that of the remote file. ``fetch`` brings what is missing. Any thread may
    read.
    """

    def __init__(
        self, data: int, presence: int, *, size_bytes: int, version: Hashable, fetch: Fetch
    ) -> None:
        self._data: Final = data
        self.size_bytes: Final = size_bytes
        self.version: Final = version
        self._fetch = fetch
        layout = MapLayout(size_bytes)
        self._counts = mmap.mmap(presence, layout.lasting_offset, prot=mmap.PROT_READ)

    def missing_blocks(
        self, ranges: Iterable[tuple[int, int]], unit_bytes: int = 1
    ) -> npt.NDArray[np.int64]:
        """Return the numbers of the blocks that are not here, in order."""
        counts = np.frombuffer(self._counts, np.uint8, offset=PAGE_BYTES)
        unit = max(unit_bytes, BLOCK_BYTES)
        found = []
        for start, asked in ranges:
            stop = min(asked, self.size_bytes)
            if start >= stop or not self._lacks(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
                continue
            first = start // unit * unit // BLOCK_BYTES
            end = -(-min(-(-stop // unit) * unit, self.size_bytes) // BLOCK_BYTES)
            found.append(np.flatnonzero(counts[first:end] & 1 == 0) + first)
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def missing_among(self, blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return those of some blocks that are not here."""
        counts = np.frombuffer(self._counts, np.uint8, offset=PAGE_BYTES)
        missing: npt.NDArray[np.int64] = blocks[counts[blocks] & 1 == 0]
        return missing

    def _lacks(self, first: int, end: int) -> bool:
        return bool(self._counts[PAGE_BYTES + first : PAGE_BYTES + end].translate(None, _ODD))

    def ensure(self, ranges: Iterable[tuple[int, int]], *, unit_bytes: int = 1) -> None:
        wanted = [(start, stop) for start, stop in ranges if self._is_missing(start, stop)]
        if wanted:
            self._fetch(wanted, unit_bytes)

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        pass  # a process without a network cannot begin to fetch

    def _is_missing(self, start: int, stop: int) -> bool:
        stop = min(stop, self.size_bytes)
        return start < stop and self._lacks(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))

    def read_into(self, buffer: memoryview, offset: int) -> int:
        stop = min(offset + len(buffer), self.size_bytes)
        if stop <= offset:
            return 0
        self.ensure(((offset, stop),))
        at = offset
        while at < stop:
            end = min(stop, (at // BLOCK_BYTES + _PIECE_BLOCKS) * BLOCK_BYTES)
            self._read_piece(buffer[at - offset : end - offset], at)
            at = end
        return stop - offset

    def _read_piece(self, buffer: memoryview, offset: int) -> None:
        first = PAGE_BYTES + offset // BLOCK_BYTES
        end = PAGE_BYTES - (-(offset + len(buffer)) // BLOCK_BYTES)
        while True:
            before = self._counts[first:end]
            if before.translate(None, _ODD):
                self._fetch(((offset, offset + len(buffer)),), 1)
                continue
            _read_fully(self._data, buffer, offset)
            if self._counts[first:end] == before:
                return


def _read_fully(descriptor: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, (buffer[done:],), offset + done)
        if not count:
            raise OSError(errno.EIO, "the cache file is shorter than the file that it stands for")
        done += count
