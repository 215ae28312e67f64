"""What a write keeps of a chunk: the HDF5 library reads the chunk, and stores it anew.

Of a chunk that is too short, the library makes up the rest, and would store that as if it were
data. So whoever writes to a part of a chunk has it decoded here before. Under the store's lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
from h5py import h5d

from h5fs.errors import UnsupportedTypeError
from h5fs.store.chunks.chunk_check import ChunkCheck
from h5fs.store.chunks.decodable import can_decode, misleads_library
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.hdf5.reading.filters_of import filters_of


def check_kept(
    dataset_id: h5d.DatasetID,
    shape: tuple[int, ...],
    ranges: Iterable[tuple[int, int]],
    *,
    whole_edges: bool,
) -> None:
    """Raise ``UnreadableError`` when something that writing ``ranges`` would keep cannot be read.

    ``shape`` is that which the dataset has or is about to get; ``ranges`` are of its elements,
    ``[start, stop)``, counted row-major. ``whole_edges``: chunks that stick out of the array are
    stored filtered, like all others. Where the library alone can decode the chunks, it is believed
    of those that are not cut off.
    Raises ``UnsupportedTypeError``, too.
    """
    creation, old = dataset_id.get_create_plist(), dataset_id.get_space().get_simple_extent_dims()
    if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters() or not prod(shape):
        return
    filters, item_bytes = filters_of(creation), dataset_id.get_type().get_size()
    grid = Grid(shape, creation.get_chunk(), item_bytes)
    stored = ChunkCheck(filters, grid.chunk_shape, item_bytes)
    if not stored.tells:
        return
    for box in itertools.chain(
        _cut_boxes(grid, old), *(_boxes_in_part(grid, start, stop) for start, stop in ranges)
    ):
        is_filtered = whole_edges or box.count == grid.chunk_shape
        if not is_filtered or not _is_written(dataset_id, box, old):
            continue
        if can_decode(filters, item_bytes) and misleads_library(filters):
            raise UnsupportedTypeError(
                "the HDF5 library undoes these filters wrongly, so that elements cannot be changed "
                "in place; write the whole array anew"
            )
        mask, raw = dataset_id.read_direct_chunk(box.start)
        stored.check(box, mask, raw)


def _cut_boxes(grid: Grid, old: tuple[int, ...]) -> Iterator[Box]:
    """Yield the chunks of which a dataset that shrinks loses a part."""
    for axis, (size, chunk) in enumerate(zip(grid.shape, grid.chunk_shape, strict=True)):
        if size < old[axis] and size % chunk:
            numbers = np.arange(grid.chunk_count).reshape(grid.counts)
            for number in numbers.take(size // chunk, axis).flat:
                yield grid.box(int(number))


def _boxes_in_part(grid: Grid, start: int, stop: int) -> Iterator[Box]:
    """Yield the chunks that elements ``[start, stop)`` are a part of, but not all.

    They are in the first and the last band that the range touches.
    """
    if start >= stop:
        return
    first, last = grid.band_of(start), grid.band_of(stop - 1)
    parts = [(start, min(stop, grid.band_start(first + 1)))]
    if last > first:
        parts.append((grid.band_start(last), stop))
    strides = [prod(grid.shape[axis + 1 :]) for axis in range(len(grid.shape))]
    for low, high in parts:
        under = {number for part in grid.chunks_under(low, high) for number in part}
        for number in sorted(under):
            box = grid.box(number)
            begin = int(np.dot(box.start, strides))
            end = begin + int(np.dot([count - 1 for count in box.count], strides))
            if begin < start or end >= stop:
                yield box


def _is_written(dataset_id: h5d.DatasetID, box: Box, shape: tuple[int, ...]) -> bool:
    if any(first >= size for first, size in zip(box.start, shape, strict=True)):
        return False
    return dataset_id.get_chunk_info_by_coord(box.start).byte_offset is not None
