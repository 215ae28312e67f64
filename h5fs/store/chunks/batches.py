"""An array that is read by its chunks, and the batches in which workers decode them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from h5fs.errors import UnreadableError, show_path
from h5fs.model.objects import Chunked, ChunkIndex, ObjectRef
from h5fs.store.chunks.band_files import RowGrid, SlabGrid, pieces_under, place_in_band_file
from h5fs.store.chunks.block_cache import Block
from h5fs.store.chunks.geometry import BlockBounds, Grid
from h5fs.store.chunks.streams import Streams
from h5fs.store.library_interface import ChunkBatch, ChunkTask, RowBatch

# One request costs the worker and the daemon 0.3 ms each. A read that a program waits for is shared
# out among the workers; read-ahead goes to them in larger pieces.
BATCH_BYTES = 512 * 2**10
AHEAD_BATCH_BYTES = 4 * 2**20


@dataclass(eq=False, slots=True)
class ReadArray:
    """An array that is read.

    ``index_lock`` lets one thread at a time ask for the index; no other lock is taken while it is
    held, except in the worker pool. ``version``: of its data, where they change; another version is
    another array, with blocks of its own. ``index`` is right for the first ``indexed_chunks``.
    ``block_room_bytes``: what a block in memory may grow to, 0 for no more than it has.

    ``bands``: where the array's bands are too large for memory, the array by its chunks, which go
    to band files; ``grid`` is then that of the row blocks gathered from these. ``slabs``: the array
    by its slabs, which is read until ``slabs_until`` (a monotonic time), since no disk has room for
    band files.
    """

    ref: ObjectRef
    version: int
    data: Chunked
    grid: Grid
    index: ChunkIndex | None = None
    indexed_chunks: int = 0
    block_room_bytes: int = 0
    bands: ReadArray | None = None
    slabs: ReadArray | None = None
    slabs_until: float = 0
    streams: Streams = field(default_factory=Streams)
    index_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> tuple[ObjectRef, int, type[Grid]]:
        """What its blocks are found by."""
        return self.ref, self.version, type(self.grid)

    @property
    def is_gathered(self) -> bool:
        """Whether its blocks are made of a band file, and not of chunks."""
        return type(self.grid) is RowGrid

    @property
    def chunked(self) -> ReadArray:
        """The array by its chunks."""
        return self.bands or self


def split_chunks(
    chunks: list[int], array: ReadArray, batch_bytes: int, workers: int
) -> list[list[int]]:
    """Split chunks into batches: one for each worker, unless they would be too small."""
    chunk_bytes = array.chunked.grid.chunk_bytes
    per_batch = max(1, batch_bytes // chunk_bytes, -(-len(chunks) // (4 * workers)))
    per_batch = min(per_batch, 1024, max(1, AHEAD_BATCH_BYTES // chunk_bytes))
    return [chunks[i : i + per_batch] for i in range(0, len(chunks), per_batch)]


def find_unwritten(
    array: ReadArray,
    block: Block,
    wanted: Sequence[int],
    sizes_of: Callable[[ReadArray, Sequence[int]], bytes | None],
) -> frozenset[int]:
    """Return those chunks of a band file that are there before anybody makes them.

    A new file is full of zeros and takes no room. Chunks that were never written shall not take
    any: a sparse array may be larger than the disk. ``sizes_of`` gives a list in which these
    chunks' sizes in the HDF5 file are right, None where they are not known.
    """
    if not block.shared_buffer.is_on_disk or any(array.data.fill_value):
        return frozenset()
    stored = sizes_of(array, wanted)
    if stored is None:
        return frozenset()
    sizes = np.frombuffer(stored, "<u8")
    return frozenset(chunk for chunk in wanted if not sizes[chunk])


def make_batch(
    array: ReadArray, stored: bytes | None, block: Block, chunks: list[int]
) -> ChunkBatch:
    """Return the request to decode chunks of an array into a block.

    ``stored``: how many bytes each of the chunks takes in the file, as in ``ChunkIndex``; None
    where that is not known.
    """
    block_grid, array, rows = array.grid, array.chunked, None
    if isinstance(block_grid, SlabGrid):
        _, found = block_grid.band_and_rows(block.bounds.number)
        rows = found.start, found.stop
    grid = array.grid
    if stored is None:
        tasks = tuple(ChunkTask(chunk, 0) for chunk in chunks)
    else:
        sizes = np.frombuffer(stored, "<u8")[chunks].tolist()
        tasks = tuple(map(ChunkTask, chunks, sizes))
    return ChunkBatch(
        array.ref, grid.shape, grid.item_bytes, array.data,
        block.first_chunk, tasks, block.shared_buffer.number, block.shared_buffer.is_on_disk, rows,
    )  # fmt: skip


def part_of(array: ReadArray, bounds: BlockBounds, start: int, buffer: memoryview) -> memoryview:
    """Return what of a buffer, for bytes from ``start`` on, a block has."""
    part = buffer[: max(bounds.stop - start, 0)]
    if not part:  # the worker's answers about this array contradict each other
        raise UnreadableError(f"{show_path(array.ref.path)}: it is described in two ways")
    return part


def read_pieces(grid: Grid, band: Block, start: int, buffer: memoryview) -> bool:
    """Fill ``buffer`` from byte ``start`` of an array on, chunk by chunk, from a band file.

    Return whether that has all of it.
    """
    descriptor, first, done = band.shared_buffer.descriptor, band.first_chunk, 0
    for chunk, offset, size in pieces_under(grid, start, start + len(buffer)):
        place = place_in_band_file(grid, first, chunk) + offset
        if os.preadv(descriptor, (buffer[done : done + size],), place) != size:
            return False
        done += size
    return True


def make_row_batch(array: ReadArray, block: Block, band: Block) -> RowBatch:
    """Return the request to gather a block of rows from a band file."""
    grid, bands = array.grid, array.chunked.grid
    assert isinstance(grid, RowGrid)
    _, rows = grid.band_and_rows(block.bounds.number)
    return RowBatch(
        bands.shape, bands.chunk_shape, bands.item_bytes, rows.start, rows.stop,
        band.bounds.size_bytes // grid.row_bytes,
        band.shared_buffer.number, block.shared_buffer.number,
    )  # fmt: skip
