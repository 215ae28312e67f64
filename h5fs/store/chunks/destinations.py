"""Where workers put decoded chunks: in the order of the array's elements, all or some rows of them,
or in a band file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Protocol

import numpy as np

from h5fs.errors import NoRoomError, show_path
from h5fs.store.chunks.band_files import gather, place_in_band_file
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.chunks.scatter import (
    Array,
    MapSharedBuffer,
    fill,
    inside_of,
    places_of,
    scatter,
    scatter_inside,
)
from h5fs.store.library_interface import ChunkBatch, RowBatch
from h5fs.store.workers.shared_buffers import SharedBufferViews


class Destination(Protocol):
    """Takes the chunks of one batch, each by its number and the part of it within the array."""

    def room_for(self, box: Box) -> Array | None:
        """Return memory for a whole chunk that is then in its place, None where there is none."""

    def put(self, number: int, box: Box, chunk: Array) -> None:
        """Take a whole decoded chunk (its bytes, flat)."""

    def put_inside(self, number: int, box: Box, elements: Array) -> None:
        """Take what of a chunk is within the array (bytes, flat)."""

    def fill(self, number: int, box: Box, value: bytes) -> None:
        """Take a chunk that has one value everywhere."""


class InOrder:
    """Chunks go to memory, in the order of the array's elements."""

    def __init__(self, grid: Grid, first_chunk: int, map_shared_buffer: MapSharedBuffer) -> None:
        self._grid = grid
        self._first_chunk = first_chunk
        self._map_shared_buffer = map_shared_buffer

    def room_for(self, box: Box) -> Array | None:
        """See ``Destination``."""
        if box.count != self._grid.chunk_shape or self._grid.chunks_per_band != 1:
            return None
        (_, place), *_ = self._places(box)  # all of it is one run of bytes
        return place.reshape(-1)

    def put(self, _number: int, box: Box, chunk: Array) -> None:
        """See ``Destination``."""
        scatter(self._grid, box, chunk, self._places(box))

    def put_inside(self, _number: int, box: Box, elements: Array) -> None:
        """See ``Destination``."""
        scatter_inside(self._grid, box, elements, self._places(box))

    def fill(self, _number: int, box: Box, value: bytes) -> None:
        """See ``Destination``."""
        fill(self._grid, value, self._places(box))

    def _places(self, box: Box) -> Iterator[tuple[slice, Array]]:
        return places_of(self._grid, box, self._first_chunk, self._map_shared_buffer)


class InBandFile:
    """Chunks go to a band file, each in one piece. Raises ``NoRoomError`` when the disk is full.

    Not by a mapping: that takes the kernel longer, and a full disk would be a signal.
    """

    def __init__(
        self, grid: Grid, first_chunk: int, path: bytes, write: Callable[[int, Array], None]
    ) -> None:
        self._grid = grid
        self._first_chunk = first_chunk
        self._path = path
        self._write = write

    def room_for(self, _box: Box) -> Array | None:
        """See ``Destination``."""
        return None

    def put(self, number: int, box: Box, chunk: Array) -> None:
        """See ``Destination``."""
        self.put_inside(number, box, inside_of(self._grid, box, chunk))

    def put_inside(self, number: int, _box: Box, elements: Array) -> None:
        """See ``Destination``."""
        offset = place_in_band_file(self._grid, self._first_chunk, number)
        try:
            self._write(offset, np.ascontiguousarray(elements).reshape(-1))
        except OSError as error:
            path = show_path(self._path)
            raise NoRoomError(f"{path}: no room for decoded chunks: {error}") from None

    def fill(self, number: int, box: Box, value: bytes) -> None:
        """See ``Destination``."""
        self.put_inside(number, box, np.tile(np.frombuffer(value, np.uint8), prod(box.count)))


class InSlab:
    """Some rows of chunks of one band go to memory, in the order of the array's elements."""

    def __init__(self, grid: Grid, rows: range, map_shared_buffer: MapSharedBuffer) -> None:
        self._grid = grid
        self._rows = rows
        short, axis = (1,) * grid.axis, grid.axis
        shape = (*short, len(rows), *grid.shape[axis + 1 :])
        chunk_shape = (*short, len(rows), *grid.chunk_shape[axis + 1 :])
        self._slab = InOrder(Grid(shape, chunk_shape, grid.item_bytes), 0, map_shared_buffer)

    def room_for(self, _box: Box) -> Array | None:
        """See ``Destination``."""
        return None

    def put(self, number: int, box: Box, chunk: Array) -> None:
        """See ``Destination``."""
        self.put_inside(number, box, inside_of(self._grid, box, chunk))

    def put_inside(self, number: int, box: Box, elements: Array) -> None:
        """See ``Destination``."""
        rows = np.ascontiguousarray(elements).reshape(box.count[self._grid.axis], -1)
        wanted = rows[self._rows.start : self._rows.stop]
        self._slab.put_inside(number, self._box_in_slab(box), wanted.reshape(-1))

    def fill(self, number: int, box: Box, value: bytes) -> None:
        """See ``Destination``."""
        self._slab.fill(number, self._box_in_slab(box), value)

    def _box_in_slab(self, box: Box) -> Box:
        short, axis = self._grid.axis, self._grid.axis + 1
        start = (*(0 for _ in range(axis)), *box.start[axis:])
        return Box(start, (*(1 for _ in range(short)), len(self._rows), *box.count[axis:]))


def destination_of(batch: ChunkBatch, views: SharedBufferViews) -> Destination:
    """Return where a batch's chunks go."""
    grid, number = Grid(batch.shape, batch.data.chunk_shape, batch.item_bytes), batch.shared_buffer
    if batch.is_band_file:
        write = functools.partial(views.write_on_disk, number)
        return InBandFile(grid, batch.first_chunk, batch.ref.path, write)
    map_shared_buffer = functools.partial(views.map, number)
    if batch.rows is not None:
        return InSlab(grid, range(*batch.rows), map_shared_buffer)
    return InOrder(grid, batch.first_chunk, map_shared_buffer)


def gather_batch(batch: RowBatch, views: SharedBufferViews) -> None:
    """Gather rows of a band from its band file into a shared buffer."""
    grid = Grid(batch.shape, batch.chunk_shape, batch.item_bytes)
    rows, row_bytes = range(batch.start, batch.stop), grid.row_elements * grid.item_bytes
    out = views.map(batch.shared_buffer, 0, len(rows) * row_bytes)
    whole = views.map_full(batch.band_file, batch.band_rows * row_bytes)
    gather(grid, rows, whole, functools.partial(views.read_on_disk, batch.band_file), out)
