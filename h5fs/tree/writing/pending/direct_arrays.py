"""Large new arrays that stream into the HDF5 file as they are written.

The data of an array that is stored as a ``.npy`` file holds it need no draft: as soon as the header
is there, a dataset without a name is made for it, and what programs write goes to its place in the
file. Under the tree's lock.
"""

from __future__ import annotations

from msgspec import structs

from h5fs.errors import H5fsError
from h5fs.model.objects import ObjectRef, Region
from h5fs.projection.npy import NpyHeader, format_header, parse_header
from h5fs.store.interface import WritingStore

_FEWEST_BYTES = 2**20
_LEAST_BLANK_BYTES = 2**20  # less is as well written through the log, later
_MOST_BLANKS = 100


class DirectArray:
    """The data of one draft that go to the HDF5 file, from byte ``start`` to ``stop`` of it."""

    def __init__(self, store: WritingStore, region: Region, header: NpyHeader) -> None:
        self._store = store
        self.region = region
        self.header = header
        self.start = header.size_bytes
        self.stop = header.size_bytes + region.size_bytes

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes at ``offset`` of the draft, all of them between ``start`` and ``stop``."""
        self._store.write_region(self.region, data, offset - self.start)

    def clear(self, start: int, stop: int) -> None:
        """Let bytes ``[start, stop)`` of the draft be zeros: nobody has written them."""
        first, after = start - self.start, stop - self.start
        self._store.clear_region(self.region, first, after)
        if stop - start >= _LEAST_BLANK_BYTES:
            blanks = (*self.region.blanks, (first, after))
            self.region = structs.replace(self.region, blanks=blanks[:_MOST_BLANKS])

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Read bytes that were written."""
        self._store.read_region(self.region, buffer, offset - self.start)

    def drop(self) -> None:
        """Give the space up."""
        self._store.drop_array(self.region)


def large_array_header(store: WritingStore, head: bytes) -> NpyHeader | None:
    """Return the header of a file that begins so, if its data need no draft; else None."""
    try:
        header = parse_header(head)
        if header is None or header.is_fortran_order or header.dtype.shape:
            return None
        size = header.file_bytes - header.size_bytes
        if size < _FEWEST_BYTES:
            return None
        status = store.file_system_status()
        if size > status.available_fragments * status.fragment_bytes:
            return None
        # Read back while it is open, the file must be what was written.
        if format_header(header.dtype, header.shape) != head[: header.size_bytes]:
            return None
    except H5fsError:
        return None
    return header


def try_direct_array(
    store: WritingStore, group: ObjectRef, header: NpyHeader
) -> DirectArray | None:
    """Return where the data of an array can go; None when they need a draft.

    ``group`` is where it will be. The store's own refusals mean that, too: they are told when the
    array is committed.
    """
    try:
        region = store.reserve_array(group, header.shape, header.dtype)
    except H5fsError:
        return None
    return None if region is None else DirectArray(store, region, header)
