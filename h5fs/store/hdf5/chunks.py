"""Chunks of datasets: where they lie, and their elements, decoded here or by the HDF5 library.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5s

from h5fs.errors import UnreadableError
from h5fs.objects import Chunked, ChunkIndex, Filter
from h5fs.store.chunks.filters import can_decode, decode_chunk
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.chunks.scatter import (
    Array,
    MapSegment,
    fill,
    places_of,
    scatter,
    scatter_inside,
)
from h5fs.store.hdf5.elements import MemoryType
from h5fs.store.interface import ChunkBatch, ChunkTask

MAX_INDEXED_CHUNKS = 2**22
"""Of more chunks the index would take more memory than it is worth; the library reads them."""

_PROGRESS_CHUNKS = 2**16


def describe_chunks(
    dataset_id: h5d.DatasetID, memory: MemoryType, *, whole_edges: bool
) -> Chunked | None:
    """Return how a chunked dataset of fixed-size elements is read by its chunks.

    None when only the library can read it: for no elements, or too many chunks. ``whole_edges``:
    chunks that stick out of the array are stored as the others are.
    """
    shape = dataset_id.get_space().get_simple_extent_dims()
    creation = dataset_id.get_create_plist()
    chunk_shape = creation.get_chunk()
    item_bytes = memory.dtype.itemsize
    if not prod(shape) or not item_bytes:
        return None
    if Grid(shape, chunk_shape, item_bytes).chunk_count > MAX_INDEXED_CHUNKS:
        return None
    filters: tuple[Filter, ...] | None = None
    if whole_edges and dataset_id.get_type().equal(memory.type_id):
        found = [creation.get_filter(index) for index in range(creation.get_nfilters())]
        filters = tuple(Filter(code, tuple(options)) for code, _, options, _ in found)
        if not can_decode(filters, item_bytes):
            filters = None
    return Chunked(chunk_shape, filters, _fill_value(creation, memory))


def _fill_value(creation: Any, memory: MemoryType) -> bytes:
    """Return what elements of a chunk that was never written read as."""
    value = np.zeros((), np.dtype((np.void, memory.dtype.itemsize)))
    if (
        creation.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED
        and creation.get_fill_time() != h5d.FILL_TIME_NEVER
    ):
        base = np.zeros((), memory.dtype.base)
        creation.get_fill_value(base)
        value = np.broadcast_to(base, memory.dtype.shape)
    return value.tobytes()


def index_chunks(dataset_id: h5d.DatasetID, on_progress: Callable[[], None]) -> ChunkIndex:
    """Return where a dataset's chunks lie, from one walk through its index.

    A chunk outside of the grid is left out.
    """
    shape = dataset_id.get_space().get_simple_extent_dims()
    grid = Grid(shape, dataset_id.get_create_plist().get_chunk(), 1)
    offsets = np.zeros(grid.chunk_count, "<u8")
    sizes = np.zeros(grid.chunk_count, "<u8")
    masks = np.zeros(grid.chunk_count, "<u4")
    strides = [prod(grid.counts[axis + 1 :]) for axis in range(len(shape))]
    seen = 0

    def note(chunk: Any) -> None:
        nonlocal seen
        seen += 1
        if not seen % _PROGRESS_CHUNKS:
            on_progress()
        if all(start < size for start, size in zip(chunk.chunk_offset, shape, strict=True)):
            number = sum(
                start // size * stride
                for start, size, stride in zip(
                    chunk.chunk_offset, grid.chunk_shape, strides, strict=True
                )
            )
            offsets[number] = chunk.byte_offset  # in the file: a user block counts
            sizes[number] = chunk.size
            masks[number] = chunk.filter_mask

    dataset_id.chunk_iter(note)
    return ChunkIndex(offsets.tobytes(), sizes.tobytes(), masks.tobytes())


class ChunkDecoder:
    """Decodes the chunks of one batch into a segment."""

    def __init__(
        self,
        batch: ChunkBatch,
        map_segment: MapSegment,
        dataset_id: h5d.DatasetID,
        memory: MemoryType,
    ) -> None:
        self._batch = batch
        self._grid = Grid(batch.shape, batch.data.chunk_shape, batch.item_bytes)
        self._map_segment = map_segment
        self._dataset_id = dataset_id
        self._memory = memory

    def decode(self, task: ChunkTask, descriptor: int) -> None:
        """Decode one chunk. Raises ``UnreadableError``, or what h5py raises."""
        grid = self._grid
        box = grid.box(task.number)
        places = places_of(grid, box, self._batch.first_chunk, self._map_segment)
        filters = self._batch.data.filters
        if filters is None:
            self._read_by_library(box, places)
        elif not task.size:
            fill(grid, self._batch.data.fill_value, places)
        else:
            raw = os.pread(descriptor, task.size, task.file_offset)
            try:
                decoded = decode_chunk(raw, filters, task.mask, grid.item_bytes, grid.chunk_bytes)
            except UnreadableError:
                # The library has the last word on whether a chunk is damaged.
                self._read_by_library(box, places)
                return
            scatter(grid, box, np.frombuffer(decoded, np.uint8), places)

    def _read_by_library(self, box: Box, places: Iterator[tuple[slice, Array]]) -> None:
        space = self._dataset_id.get_space()
        space.select_hyperslab(box.start, box.count)
        count = prod(box.count)
        elements = np.zeros(count * self._grid.item_bytes, np.uint8)
        self._dataset_id.read(h5s.create_simple((count,)), space, elements, self._memory.type_id)
        scatter_inside(self._grid, box, elements, places)
