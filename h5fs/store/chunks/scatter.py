"""Where a decoded chunk goes in a shared buffer: the worker's side of a block.

All sizes are in bytes, those of the last dimension too, so that numpy copies runs of bytes whatever
the type of an element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from h5fs.store.chunks.geometry import Box, Grid

Array = np.ndarray[Any, np.dtype[np.uint8]]

MapSharedBuffer = Callable[[int, int], Array]
"""Returns bytes ``[start, stop)`` of a shared buffer, to write to."""

_PART_BYTES = 256 * 2**20


def places_of(
    grid: Grid, box: Box, first_chunk: int, map_shared_buffer: MapSharedBuffer
) -> Iterator[tuple[slice, Array]]:
    """Yield the parts of a shared buffer that take the chunk of ``box``, with the rows of each.

    Rows are indexes in the bands' dimension, counted from the chunk's first. A part has the shape
    of those rows and the box's extent behind them. There are several parts where the band is too
    large to be mapped at once. The shared buffer begins with the band of chunk ``first_chunk``.
    """
    axis = grid.axis
    base = grid.band_start(first_chunk // grid.chunks_per_band)
    outer = 0
    for position, size in zip(box.start[:axis], grid.shape[:axis], strict=True):
        outer = outer * size + position
    first_row = outer * grid.shape[axis] + box.start[axis]
    start = (first_row * grid.row_elements - base) * grid.item_bytes
    row_bytes = grid.row_elements * grid.item_bytes
    rows_at_once = max(1, _PART_BYTES // row_bytes)
    behind = tuple(
        slice(low, low + count)
        for low, count in zip(
            _in_bytes((0, *box.start[axis + 1 :]), grid)[1:],
            _in_bytes((0, *box.count[axis + 1 :]), grid)[1:],
            strict=True,
        )
    )
    for row in range(0, box.count[axis], rows_at_once):
        stop = min(row + rows_at_once, box.count[axis])
        part = map_shared_buffer(start + row * row_bytes, start + stop * row_bytes)
        band = part.reshape(_in_bytes((stop - row, *grid.shape[axis + 1 :]), grid))
        yield slice(row, stop), band[(slice(None), *behind)]


def scatter(grid: Grid, box: Box, chunk: Array, places: Iterator[tuple[slice, Array]]) -> None:
    """Copy a whole decoded chunk (its bytes, flat) to its place."""
    scatter_inside(grid, box, inside_of(grid, box, chunk), places)


def inside_of(grid: Grid, box: Box, chunk: Array) -> Array:
    """Return what of a whole decoded chunk is within the array."""
    whole = chunk.reshape(_in_bytes(grid.chunk_shape, grid))
    return whole[tuple(slice(0, count) for count in _in_bytes(box.count, grid))]


def scatter_inside(
    grid: Grid, box: Box, inside: Array, places: Iterator[tuple[slice, Array]]
) -> None:
    """Copy what of a chunk is within the array (bytes, of the box's extent) to its place."""
    axis = grid.axis
    rows = inside.reshape(_in_bytes(box.count, grid))[(0,) * axis]
    # Where the bands' dimension is the last one, rows are elements.
    scale = grid.item_bytes if axis == len(grid.shape) - 1 else 1
    for part, place in places:
        place[...] = rows[part.start * scale : part.stop * scale]


def bytes_needed(grid: Grid, box: Box) -> int:
    """Return how many of a chunk's first bytes hold everything that is within the array."""
    return bytes_in_array(grid.chunk_shape, box.count, grid.item_bytes)


def bytes_in_array(chunk_shape: tuple[int, ...], count: tuple[int, ...], item_bytes: int) -> int:
    """Return how many of a chunk's first bytes hold ``count`` of its elements in each dimension."""
    strides = [prod(chunk_shape[axis + 1 :]) for axis in range(len(chunk_shape))]
    last = sum((size - 1) * stride for size, stride in zip(count, strides, strict=True))
    return (last + 1) * item_bytes


def fill(grid: Grid, fill_value: bytes, places: Iterator[tuple[slice, Array]]) -> None:
    """Give every element of a place the fill value."""
    value = np.frombuffer(fill_value, np.uint8)
    for _, place in places:
        place[...] = np.tile(value, place.shape[-1] // grid.item_bytes)


def _in_bytes(shape: tuple[int, ...], grid: Grid) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] * grid.item_bytes)
