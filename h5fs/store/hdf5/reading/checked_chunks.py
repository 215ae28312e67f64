"""Stored chunks, looked at before the HDF5 library reads them: it makes up what they lack.

Functions over open identifiers; they keep nothing of a file. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable

from h5py import h5d, h5i, h5t

from h5fs.store.chunks.chunk_check import ChunkCheck
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.hdf5.reading.chunk_index import list_written_chunks
from h5fs.store.hdf5.reading.datasets import creation_of
from h5fs.store.hdf5.reading.filters_of import filters_of


class CheckedChunks:
    """Checks chunks of a dataset, as they are stored."""

    def __init__(self, dataset_id: h5d.DatasetID) -> None:
        self._dataset_id = dataset_id
        creation = dataset_id.get_create_plist()
        filters = filters_of(creation)
        self._is_filtered = bool(filters)
        self.chunk_shape: tuple[int, ...] = creation.get_chunk()
        address_bytes, _ = h5i.get_file_id(dataset_id).get_create_plist().get_sizes()
        item_bytes = _bytes_in_file(dataset_id.get_type(), 8 + address_bytes)
        self.found = ChunkCheck(filters, self.chunk_shape, item_bytes)

    def check(self, box: Box) -> None:
        """Raise ``UnreadableError`` where the library would make up elements of a chunk."""
        if not self.found.tells:
            return
        try:
            mask, raw = self._dataset_id.read_direct_chunk(box.start)
            if not self._is_filtered:  # the library takes it for whole, here too
                info = self._dataset_id.get_chunk_info_by_coord(box.start)
                if info.byte_offset is None:  # the library's two ways to a chunk disagree
                    return
                raw = raw[: info.size]
        except Exception:  # any of h5py's: it was never written, or the library says what is wrong
            return
        self.found.check(box, mask, raw)


def _bytes_in_file(type_id: h5t.TypeID, variable_bytes: int) -> int:
    """Return how many bytes of a chunk an element takes.

    The library tells what it takes in memory, where what is of variable length is a pointer; in the
    file that is a length, the address of a heap, and an index: ``variable_bytes``.
    """
    if isinstance(type_id, h5t.TypeVlenID) or (
        isinstance(type_id, h5t.TypeStringID) and type_id.is_variable_str()
    ):
        return variable_bytes
    size: int = type_id.get_size()
    if isinstance(type_id, h5t.TypeArrayID):
        base = type_id.get_super()
        size = _bytes_in_file(base, variable_bytes) * (size // base.get_size())
    elif isinstance(type_id, h5t.TypeCompoundID):
        members = map(type_id.get_member_type, range(type_id.get_nmembers()))
        size += sum(_bytes_in_file(each, variable_bytes) - each.get_size() for each in members)
    return size


def check_all(dataset_id: h5d.DatasetID, on_progress: Callable[[], None]) -> None:
    """Check all chunks of a dataset that were written, where the library lists them rightly."""
    shape = dataset_id.get_space().get_simple_extent_dims()
    if creation_of(dataset_id).get_layout() != h5d.CHUNKED or 0 in shape:
        return
    checked = CheckedChunks(dataset_id)
    grid = Grid(shape, checked.chunk_shape, 1)
    written = list_written_chunks(dataset_id, grid, on_progress) if checked.found.tells else None
    for number in () if written is None else written.numbers.tolist():
        on_progress()
        checked.check(grid.box(number))
