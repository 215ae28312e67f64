"""Where a decoded chunk goes in a segment: the worker's side of a block."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from h5fs.store.chunks.geometry import Box, Grid

Array = np.ndarray[Any, np.dtype[np.uint8]]


def place_of(grid: Grid, box: Box, segment: mmap.mmap, first_chunk: int) -> Array:
    """Return the part of a segment that takes the chunk of ``box``.

    An array of the box's extent from the bands' dimension on, the last dimension in bytes: so that
    numpy copies runs of bytes, whatever an element is. The segment begins with the band that chunk
    number ``first_chunk`` is in. Raises ``ValueError`` when the chunk does not lie in the segment.
    """
    axis = grid.axis
    base = grid.band_start(first_chunk // grid.chunks_per_band)
    outer = 0
    for position, size in zip(box.start[:axis], grid.shape[:axis], strict=True):
        outer = outer * size + position
    element = (outer * grid.shape[axis] + box.start[axis]) * grid.row_elements - base
    band_shape = _in_bytes((box.count[axis], *grid.shape[axis + 1 :]), grid)
    start = _in_bytes((0, *box.start[axis + 1 :]), grid)
    count = _in_bytes(box.count[axis:], grid)
    band: Array = np.ndarray(band_shape, np.uint8, segment, element * grid.item_bytes)
    return band[tuple(slice(s, s + c) for s, c in zip(start, count, strict=True))]


def scatter(grid: Grid, box: Box, chunk: Array, place: Array) -> None:
    """Copy a whole decoded chunk (its bytes, flat) to its place."""
    whole = chunk.reshape(_in_bytes(grid.chunk_shape, grid))
    inside = whole[tuple(slice(0, count) for count in _in_bytes(box.count, grid))]
    place[...] = inside.reshape(place.shape)


def fill(grid: Grid, place: Array, fill_value: bytes) -> None:
    """Give every element of a place the fill value."""
    value = np.frombuffer(fill_value, np.uint8)
    place[...] = np.tile(value, place.shape[-1] // grid.item_bytes)


def _in_bytes(shape: tuple[int, ...], grid: Grid) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] * grid.item_bytes)
