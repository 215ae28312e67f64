"""Elements with text of variable length, taken from where the file has them.

The library makes each text a piece of memory of its own, and h5py an object of each: that takes ten
times as long as all of it together. Here elements are read block by block, and all texts of a block
at once. What is not plain is left to the library: this answers None. Under the store's lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from h5py import h5d, h5p, h5t

from h5fs.errors import UnreadableError
from h5fs.lru_cache import LruCache
from h5fs.model.objects import Filter
from h5fs.store.chunks.decodable import SHUFFLE, can_decode
from h5fs.store.chunks.filters import Pipeline
from h5fs.store.chunks.geometry import BlockBounds, Grid
from h5fs.store.chunks.scatter import places_of, scatter
from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.heap_texts import REFERENCE, is_too_long, read_texts
from h5fs.store.hdf5.reading.chunk_index import list_written_chunks
from h5fs.store.hdf5.reading.datasets import MAX_INDEXED_CHUNKS
from h5fs.store.hdf5.types.memory_types import MemoryType
from h5fs.store.sources.interface import Source

Array = np.ndarray[Any, Any]

# The smaller blocks are, the more collections belong to two of them; what is made of larger ones
# does not stay in the processor's cache.
_BLOCK_ELEMENTS = 2**17
_LEAST_BLOCK_ELEMENTS = 2**12
_MOST_BLOCK_BYTES = 2**25
_KEPT_BYTES = 2**26
_NEAR = 16  # requests of a sequential reader come out of order


class KeptBlocks:
    """The blocks that were read last, of all datasets of a store."""

    def __init__(self) -> None:
        self.numbers = itertools.count()  # for whoever keeps blocks here
        self.blocks: LruCache[tuple[int, int], Array] = LruCache(
            _KEPT_BYTES, lambda block: block.nbytes
        )


@dataclass(frozen=True)
class FileBytes:
    """The bytes of the file of a dataset, which nobody writes."""

    source: Source
    layout: FileLayout


@dataclass(frozen=True)
class _Elements:
    """Elements in the file: their dtype, with ``REFERENCE`` for a text.

    ``texts`` are the names of the members that are texts; None where each element is one text.
    """

    dtype: np.dtype[Any]
    texts: frozenset[str] | None


class StoredTexts:
    """Reads the elements of one dataset.

    ``read_stored`` returns the elements of a block, as they are in the file.
    """

    def __init__(
        self,
        file: FileBytes,
        stored: _Elements,
        grid: Grid,
        kept: KeptBlocks,
        read_stored: Callable[[Any, BlockBounds], npt.NDArray[np.uint8] | None],
    ) -> None:
        self._file = file
        self._stored = stored
        self._grid = grid
        self._kept = kept
        self._number = next(kept.numbers)
        self._read_stored = read_stored
        self._left: set[int] = set()
        self._last_stop = 0

    def read(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> Array | None:
        """Return elements ``[start, stop)``, row-major, each text in one of a fixed width.

        Only for who goes on where the last read ended, or not far from there: the library takes
        less time for a few elements than a block does.
        """
        is_passing = not start or abs(start - self._last_stop) <= _NEAR * (stop - start)
        self._last_stop = stop
        while True:
            try:
                return self._read(dataset_id, start, stop, is_passing=is_passing)
            except _TooLongError:
                self._shrink_blocks()

    def _read(
        self, dataset_id: h5d.DatasetID, start: int, stop: int, *, is_passing: bool
    ) -> Array | None:
        parts = []
        for number, first in self._blocks_under(start, stop):
            block = self._block(dataset_id, number, is_wanted=is_passing)
            if block is None:
                return None
            parts.append(block[max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else None

    def _shrink_blocks(self) -> None:
        grid = self._grid
        smaller = grid.wanted_block_bytes // 4
        self._grid = Grid(grid.shape, grid.chunk_shape, grid.item_bytes, smaller)
        self._number = next(self._kept.numbers)
        self._left.clear()

    def _can_shrink(self) -> bool:
        least = _LEAST_BLOCK_ELEMENTS * self._grid.item_bytes
        return self._grid.bands_per_block > 1 and self._grid.wanted_block_bytes > least

    def _blocks_under(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        size = self._grid.item_bytes
        while start < stop:
            bounds = self._grid.block(self._grid.block_of(start * size))
            yield bounds.number, bounds.start // size
            start = bounds.stop // size

    def _block(self, dataset_id: h5d.DatasetID, number: int, *, is_wanted: bool) -> Array | None:
        if number in self._left:
            return None
        key = self._number, number
        block = self._kept.blocks.get(key)
        if block is None and is_wanted:
            try:
                block = self._load(dataset_id, number)
            except MemoryError:  # the library takes less, since it reads less at a time
                block = None
            if block is None:
                self._left.add(number)
            else:
                self._kept.blocks.put(key, block)
        return block

    def _load(self, dataset_id: h5d.DatasetID, number: int) -> Array | None:
        bounds = self._grid.block(number)
        raw = self._read_stored(dataset_id, bounds)
        if raw is None:
            return None
        stored = raw.view(self._stored.dtype)
        if self._stored.texts is None:
            return self._texts(stored)
        columns: dict[str, Array] = {}
        for name in stored.dtype.names or ():
            column: Array | None = stored[name]
            if name in self._stored.texts:
                column = self._texts(stored[name])
            if column is None:
                return None
            columns[name] = column
        fields = [(name, each.dtype, each.shape[1:]) for name, each in columns.items()]
        block = np.empty(len(stored), fields)
        for name, column in columns.items():
            block[name] = column
        return block

    def _texts(self, references: npt.NDArray[np.void]) -> Array | None:
        if is_too_long(references) and self._can_shrink():
            raise _TooLongError
        return read_texts(self._file.source, self._file.layout, references)


class _TooLongError(Exception):
    """The texts of a block are too much at once."""


def find_stored_texts(
    dataset_id: h5d.DatasetID,
    creation: h5p.PropDCID,
    dtype: np.dtype[Any],
    file: FileBytes,
    kept: KeptBlocks,
    on_progress: Callable[[], None],
    *,
    whole_edges: bool | None,
) -> StoredTexts | None:
    """Return what reads a dataset's elements; None where only the library does.

    ``dtype`` is h5py's for them. ``whole_edges``: chunks that stick out of the array are stored
    filtered, like all others.
    """
    shape = dataset_id.get_space().get_simple_extent_dims()
    if shape is None:
        return None
    if (file.layout.size_of_addresses, file.layout.size_of_lengths) != (8, 8):
        return None
    stored = _describe(dataset_id.get_type(), dtype)
    if stored is None:
        return None
    layout = creation.get_layout()
    if layout == h5d.CONTIGUOUS and not creation.get_external_count():
        offset = dataset_id.get_offset()
        if offset is None:
            return None
        grid = _grid((prod(shape),), (_LEAST_BLOCK_ELEMENTS,), stored.dtype.itemsize)
        return StoredTexts(file, stored, grid, kept, _Contiguous(file.source, offset))
    if layout != h5d.CHUNKED or not whole_edges:
        return None
    grid = _grid(shape, creation.get_chunk(), stored.dtype.itemsize)
    found = _find_chunks(dataset_id, creation, grid, on_progress)
    return None if found is None else StoredTexts(file, stored, grid, kept, found)


def _grid(shape: tuple[int, ...], chunk_shape: tuple[int, ...], item_bytes: int) -> Grid:
    return Grid(shape, chunk_shape, item_bytes, _BLOCK_ELEMENTS * item_bytes)


def _describe(file_type: h5t.TypeID, dtype: np.dtype[Any]) -> _Elements | None:
    """Return how elements are in the file that h5py reads as ``dtype``.

    None but for a text, and for a compound of texts and of what is in memory as in the file.
    """
    if _is_text(file_type):
        return _Elements(REFERENCE, None)
    if not isinstance(file_type, h5t.TypeCompoundID) or dtype.names is None:
        return None
    formats: list[np.dtype[Any]] = []
    texts, offsets, longer = [], [], 0
    # The library tells where members would be in memory, where a text is a pointer; in the file
    # each one moves those behind it (H5T_set_loc, H5T.c).
    members = sorted(range(len(dtype.names)), key=file_type.get_member_offset)
    for index in members:
        name, member = dtype.names[index], file_type.get_member_type(index)
        in_memory = dtype[name]
        offsets.append(file_type.get_member_offset(index) + longer)
        if _is_text(member):
            formats.append(REFERENCE)
            texts.append(name)
            longer += REFERENCE.itemsize - member.get_size()
        elif in_memory.hasobject or not member.equal(MemoryType(in_memory).type_id):
            return None
        else:
            formats.append(in_memory)
    names = [dtype.names[index] for index in members]
    size = file_type.get_size() + longer
    stored: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    return _Elements(np.dtype(stored), frozenset(texts))


def _is_text(type_id: h5t.TypeID) -> bool:
    return isinstance(type_id, h5t.TypeStringID) and type_id.is_variable_str()


@dataclass(frozen=True)
class _Contiguous:
    source: Source
    offset: int

    def __call__(
        self, _dataset_id: h5d.DatasetID, bounds: BlockBounds
    ) -> npt.NDArray[np.uint8] | None:
        raw = np.empty(bounds.size_bytes, np.uint8)
        try:
            count = self.source.read_into(raw.data, self.offset + bounds.start)
        except OSError:
            return None
        return raw if count == len(raw) else None


@dataclass(frozen=True)
class _Chunks:
    """Reads the elements of a chunked dataset, a chunk at a time.

    ``written`` are the numbers of the chunks that there are; all others are zeros. ``skipped``: a
    bit for each filter that no chunk may have gone through.
    """

    grid: Grid
    written: frozenset[int]
    pipeline: Pipeline
    skipped: int

    def __call__(
        self, dataset_id: h5d.DatasetID, bounds: BlockBounds
    ) -> npt.NDArray[np.uint8] | None:
        grid, chunks = self.grid, bounds.chunks
        raw = np.zeros(bounds.size_bytes, np.uint8)
        for chunk in self.written.intersection(chunks):
            box = grid.box(chunk)
            try:
                mask, found = dataset_id.read_direct_chunk(box.start)
            except Exception:  # any of h5py's
                return None
            if mask & self.skipped != self.skipped:
                return None
            try:
                decoded = self.pipeline.decode(found, mask)
            except UnreadableError:
                return None
            places = places_of(grid, box, chunks.start, lambda low, high: raw[low:high])
            scatter(grid, box, decoded, places)
        return raw


def _find_chunks(
    dataset_id: h5d.DatasetID,
    creation: h5p.PropDCID,
    grid: Grid,
    on_progress: Callable[[], None],
) -> _Chunks | None:
    if grid.chunk_count > MAX_INDEXED_CHUNKS or grid.block_bytes > _MOST_BLOCK_BYTES:
        return None
    filters, skipped = [], 0
    for index in range(creation.get_nfilters()):
        code, _, options, _ = creation.get_filter(index)
        if code == SHUFFLE and not options:
            # The library gives shuffle no size for such elements, and then passes it over.
            skipped |= 1 << index
            options = (grid.item_bytes,)
        filters.append(Filter(code, tuple(options)))
    if grid.chunk_bytes > _MOST_BLOCK_BYTES or not can_decode(tuple(filters), grid.item_bytes):
        return None
    written = list_written_chunks(dataset_id, grid, on_progress)
    if written is None:
        return None
    is_whole = len(written.numbers) == grid.chunk_count
    if not is_whole and creation.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        return None
    pipeline = Pipeline(tuple(filters), grid.item_bytes, grid.chunk_bytes)
    return _Chunks(grid, frozenset(written.numbers.tolist()), pipeline, skipped)
