"""Chunks of datasets: which there are, and their elements, decoded here or by the HDF5 library.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import prod

import numpy as np
from h5py import h5d, h5s

from h5fs.errors import H5fsError, NoRoomError, UnreadableError
from h5fs.model.objects import ChunkIndex
from h5fs.store.chunks.destinations import Destination
from h5fs.store.chunks.filters import LongChunkError, Pipeline, ShortChunkError
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.chunks.scale_offset import UnusualChunkError
from h5fs.store.chunks.scatter import Array, bytes_needed
from h5fs.store.hdf5.library_errors import explain
from h5fs.store.hdf5.reading.checked_chunks import CheckedChunks
from h5fs.store.hdf5.reading.chunk_index import WrittenChunks, list_written_chunks
from h5fs.store.hdf5.types.memory_types import MemoryType
from h5fs.store.library_interface import ChunkBatch, ChunkFailure, ChunkTask


def index_chunks(
    dataset_id: h5d.DatasetID,
    shape: tuple[int, ...],
    on_progress: Callable[[], None],
    base_offset: int | None,
) -> ChunkIndex:
    """Return which chunks of an array were written, from one walk through the dataset's index.

    ``shape``: of the array; of a dataset that has grown since, it is the first elements.
    ``base_offset``: where HDF5's addresses count from; None: nobody needs to know where chunks lie.
    """
    extent = dataset_id.get_space().get_simple_extent_dims()
    chunk_shape = dataset_id.get_create_plist().get_chunk()
    whole, grid = Grid(extent, chunk_shape, 1), Grid(shape, chunk_shape, 1)
    written = list_written_chunks(dataset_id, whole, on_progress)
    if written is None:
        return ChunkIndex(None)
    if grid.counts != whole.counts:
        written = _within(written, whole, grid)
    sizes = np.zeros(grid.chunk_count, "<u8")
    # A chunk that is said to take no bytes is damaged, and not one that was never written.
    sizes[written.numbers] = np.maximum(written.sizes, 1)
    if base_offset is None:
        return ChunkIndex(sizes.tobytes())
    offsets = np.zeros(grid.chunk_count, "<u8")
    offsets[written.numbers] = written.addresses + base_offset
    return ChunkIndex(sizes.tobytes(), offsets.tobytes())


def _within(written: WrittenChunks, whole: Grid, grid: Grid) -> WrittenChunks:
    """Return those chunks of an array that are chunks of its first elements, too."""
    if any(count < wanted for count, wanted in zip(whole.counts, grid.counts, strict=True)):
        raise UnreadableError("the array is smaller than it was")
    positions = np.array(np.unravel_index(written.numbers, whole.counts))
    is_within = (positions < np.array(grid.counts)[:, None]).all(axis=0)
    numbers = np.ravel_multi_index(tuple(positions[:, is_within]), grid.counts)
    return WrittenChunks(numbers, written.sizes[is_within], written.addresses[is_within])


def pipeline_of(batch: ChunkBatch, last: Pipeline | None) -> Pipeline | None:
    """Return what decodes a batch's chunks: the last one, for its buffers, if that is right."""
    if (filters := batch.data.filters) is None:
        return None
    key = filters, batch.item_bytes, prod(batch.data.chunk_shape) * batch.item_bytes
    return last if last is not None and last.key == key else Pipeline(*key)


class ChunkDecoder:
    """Decodes the chunks of one batch and puts them in their places.

    ``pipeline`` is None where only the library can decode them.
    """

    def __init__(
        self,
        batch: ChunkBatch,
        place: Destination,
        dataset_id: h5d.DatasetID,
        memory: MemoryType,
        pipeline: Pipeline | None,
    ) -> None:
        self._batch = batch
        self._grid = Grid(batch.shape, batch.data.chunk_shape, batch.item_bytes)
        self._place = place
        self._dataset_id = dataset_id
        self._memory = memory
        self._pipeline = pipeline

    @cached_property
    def _checked(self) -> CheckedChunks:
        """Only few batches need it; asking for the filters took a fourth of a request's Python."""
        return CheckedChunks(self._dataset_id)

    def decode_all(self, on_progress: Callable[[], None]) -> tuple[ChunkFailure, ...]:
        """Decode the chunks of the batch; return those that could not be, whatever kept them.

        Raises ``NoRoomError``.
        """
        failures = []
        for task in self._batch.tasks:
            try:
                self._decode(task)
            except NoRoomError:
                raise
            except H5fsError as error:
                failures.append(ChunkFailure(task.number, str(error)))
            except Exception as error:  # any of h5py's; the reader's refusal names the object
                failures.append(ChunkFailure(task.number, explain(error)))
            on_progress()
        return tuple(failures)

    def _decode(self, task: ChunkTask) -> None:
        grid = self._grid
        box = grid.box(task.number)
        if self._pipeline is None:
            self._checked.check(box)
            self._read_by_library(box, task)
        elif not task.size:
            self._place.fill(task.number, box, self._batch.data.fill_value)
        elif task.size > self._pipeline.max_stored_bytes:
            raise UnreadableError(f"chunk {box.start} is stored in {task.size} bytes")
        else:
            self._decode_stored(box, task)

    def _decode_stored(self, box: Box, task: ChunkTask) -> None:
        assert self._pipeline is not None
        try:
            # The library does not find a chunk in the way in which it lists chunks; in a damaged
            # index the two disagree. What it reads is the truth.
            mask, raw = self._read_stored(box, self._pipeline.stored_room(task.size))
        except Exception:  # any of h5py's; the library has the last word
            self._read_by_library(box, task)
            return
        if not self._batch.data.filters:
            # The library takes an unfiltered chunk for whole, and makes up what is not stored.
            raw = raw[: task.size]
        room = self._place.room_for(box)
        try:
            decoded = self._pipeline.decode(raw, mask, out=room)
        except (LongChunkError, UnusualChunkError):
            # The library drops bytes that are too many, and knows more of what is unusual.
            self._checked.found.check_end(box, mask, raw)
            self._read_by_library(box, task)
            return
        except ShortChunkError as error:
            # Some programs store only the part of an edge chunk that is within the array. The
            # library is not asked to read a chunk that is too short: it would make up the rest.
            if error.size_bytes < bytes_needed(self._grid, box):
                raise
            self._read_by_library(box, task)
            return
        if decoded is not room:
            self._place.put(task.number, box, decoded)

    def _read_stored(self, box: Box, room: Array) -> tuple[int, bytes | memoryview]:
        try:
            found: tuple[int, memoryview] = self._dataset_id.read_direct_chunk(box.start, out=room)
        except ValueError:  # it is larger than listed
            return self._dataset_id.read_direct_chunk(box.start)  # type: ignore[no-any-return]
        return found

    def _read_by_library(self, box: Box, task: ChunkTask) -> None:
        space = self._dataset_id.get_space()
        space.select_hyperslab(box.start, box.count)
        count = prod(box.count)
        elements = np.zeros(count * self._grid.item_bytes, np.uint8)
        # The same shape in memory: otherwise HDF5 goes element by element (4 times as long).
        in_memory = h5s.create_simple(box.count)
        self._dataset_id.read(in_memory, space, elements, self._memory.type_id)
        self._place.put_inside(task.number, box, elements)
