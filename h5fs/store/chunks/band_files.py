"""Arrays whose bands are too large for memory: band files, and the blocks of rows made of them.

A **band file** is an unlinked file with the decoded chunks of one band, in the order of their
numbers. Each is whole, from its number in the band times ``chunk_bytes`` on: what of it is within
the array, in row-major order, so that a worker writes a chunk in one piece. Chunks that were never
written are holes. What readers read are **row blocks**: some rows of the band in the order of the
array's elements, ordinary blocks in memory, which a worker gathers from the band file. Where the
disk has no room for that, readers read **slabs**: as many rows of a band as fit into memory, for
each of which workers decode the band's chunks anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from h5fs.store.chunks.geometry import BlockBounds, Grid

Array = np.ndarray[Any, np.dtype[np.uint8]]

ReadBytes = Callable[[int, Array], None]
"""Fills an array with a band file's bytes from an offset on."""

_SHORT_RUN_BYTES = 2**16


class RowGrid(Grid, frozen=True, dict=True):
    """The row blocks of an array: its "chunks" are blocks of whole rows, none spans two bands.

    A row is what lies behind one index of the bands' dimension. Numbers count through the bands,
    each of which has as many as the longest; the last ones of a shorter band are left out.
    """

    bands: Grid | None = None
    rows_per_block: int = 1

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return self._bands.row_elements * self.item_bytes

    @property
    def block_bytes(self) -> int:
        """Size of the largest block."""
        return self.rows_per_block * self.row_bytes

    def block_of(self, offset: int) -> int:
        """Return the number of the block that a byte of the array is in."""
        element = offset // self.item_bytes
        band = self._bands.band_of(element)
        row = (element - self._bands.band_start(band)) // self._bands.row_elements
        return band * self._per_band + row // self.rows_per_block

    def block(self, number: int) -> BlockBounds:
        """Return what a block spans."""
        band, rows = self.band_and_rows(number)
        first, row_bytes = self._bands.band_start(band) * self.item_bytes, self.row_bytes
        start, stop = first + rows.start * row_bytes, first + rows.stop * row_bytes
        return BlockBounds(number, start, stop, range(number, number + 1))

    def chunks_under(self, start: int, stop: int) -> Iterator[range]:
        """Yield the numbers of the blocks that elements ``[start, stop)`` of one band are in."""
        first, last = (self.block_of(each * self.item_bytes) for each in (start, stop - 1))
        yield range(first, last + 1)

    def band_and_rows(self, number: int) -> tuple[int, range]:
        """Return which rows of which band a block has."""
        band, part = divmod(number, self._per_band)
        elements = self._bands.band_start(band + 1) - self._bands.band_start(band)
        first = part * self.rows_per_block
        last = min(first + self.rows_per_block, elements // self._bands.row_elements)
        return band, range(first, last)

    @property
    def _bands(self) -> Grid:
        assert self.bands is not None
        return self.bands

    @property
    def _per_band(self) -> int:
        return -(-self._bands.band_bytes // self.block_bytes)


class SlabGrid(RowGrid, frozen=True, dict=True):
    """The slabs of an array. The chunks of one are those of its band, by their own numbers."""

    def block(self, number: int) -> BlockBounds:
        """Return what a slab spans."""
        band, _ = self.band_and_rows(number)
        bounds, per_band = super().block(number), self._bands.chunks_per_band
        chunks = range(band * per_band, (band + 1) * per_band)
        return BlockBounds(number, bounds.start, bounds.stop, chunks)

    def chunks_under(self, start: int, stop: int) -> Iterator[range]:
        """Yield the numbers of the chunks that elements ``[start, stop)`` are in, in order."""
        return self._bands.chunks_under(start, stop)


def row_grid(grid: Grid) -> RowGrid:
    """Return the row blocks of an array, each of about ``wanted_block_bytes``."""
    return RowGrid(*_rows_of(grid, grid.wanted_block_bytes))


def slab_grid(grid: Grid, slab_bytes: int) -> SlabGrid:
    """Return the slabs of an array, each of about ``slab_bytes``."""
    return SlabGrid(*_rows_of(grid, slab_bytes))


def _rows_of(
    grid: Grid, block_bytes: int
) -> tuple[tuple[int, ...], tuple[int, ...], int, int, Grid, int]:
    row_bytes = grid.row_elements * grid.item_bytes
    rows = grid.band_bytes // row_bytes
    wanted = min(max(block_bytes // row_bytes, 1), rows)
    per_block = -(-rows // -(-rows // wanted))  # all of one size, as far as that goes
    axis = grid.axis
    shape = (*(1 for _ in range(axis)), per_block, *grid.shape[axis + 1 :])
    return grid.shape, shape, grid.item_bytes, 1, grid, per_block


def place_in_band_file(grid: Grid, first_chunk: int, number: int) -> int:
    """Return where a chunk lies in the band file that begins with the band of ``first_chunk``."""
    return (number - first_chunk) * grid.chunk_bytes


def band_file_bytes(grid: Grid) -> int:
    """Return the size of a band file."""
    return grid.chunks_per_band * grid.chunk_bytes


def gather(grid: Grid, rows: range, whole: Array | None, read: ReadBytes, out: Array) -> None:
    """Fill ``out`` with some rows of a band, counted from the band's first.

    ``whole``: all of the band file, or more; None where only parts of it can be had, by ``read``.
    """
    axis = grid.axis
    behind_rows = _in_bytes(grid.shape[axis + 1 :], grid.item_bytes) or (grid.item_bytes,)
    place = out.reshape(len(rows), *behind_rows)
    for region in _regions(grid):
        chunks, extent = region.counts, _in_bytes(region.extent, grid.item_bytes)
        size = prod(region.extent) * grid.item_bytes
        if whole is not None:
            slots = whole[: band_file_bytes(grid)].reshape(*grid.counts[axis + 1 :], -1)
            slots = slots[region.chunks]
            source = slots[..., rows.start * size : rows.stop * size]
        else:
            source = np.empty((*chunks, len(rows) * size), np.uint8)
            numbers = np.arange(grid.chunks_per_band).reshape(grid.counts[axis + 1 :])
            for number, row in zip(
                numbers[region.chunks].flat, source.reshape(-1, len(rows) * size), strict=True
            ):
                read(int(number) * grid.chunk_bytes + rows.start * size, row)
        source = source.reshape(*chunks, len(rows), *(extent or (size,)))
        split = itertools.chain.from_iterable(zip(chunks, extent, strict=True))
        behind = _slices_in_bytes(region.elements, grid.item_bytes)
        target = place[(slice(None), *behind)].reshape(len(rows), *(tuple(split) or (size,)))
        order = (*range(1, 2 * len(chunks), 2), 0, *range(2, 2 * len(chunks) + 1, 2))
        target = target.transpose(order if chunks else (0, 1))
        run = source.shape[-1]
        if run <= _SHORT_RUN_BYTES:  # numpy copies an element in less time than a dimension
            source, target = (each.view(f"V{run}")[..., 0] for each in (source, target))
        target[...] = source


class _Region(NamedTuple):
    """Chunks of one extent: all that are whole, or all at an edge, in each dimension of a row."""

    chunks: tuple[slice, ...]
    counts: tuple[int, ...]
    extent: tuple[int, ...]
    elements: tuple[slice, ...]


_ROW = _Region((), (), (), ())


def _regions(grid: Grid) -> Iterator[_Region]:
    each_dimension: list[list[tuple[slice, int, int, slice]]] = []
    for size, length in zip(
        grid.shape[grid.axis + 1 :], grid.chunk_shape[grid.axis + 1 :], strict=True
    ):
        count, rest = divmod(size, length)
        parts = []
        if count:
            parts.append((slice(0, count), count, length, slice(0, count * length)))
        if rest:
            parts.append((slice(count, count + 1), 1, rest, slice(count * length, size)))
        each_dimension.append(parts)
    for found in itertools.product(*each_dimension):
        yield _Region(*(tuple(column) for column in zip(*found, strict=True))) if found else _ROW


def pieces_under(grid: Grid, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield where bytes ``[start, stop)`` of an array lie in the chunks of a band file.

    That is, pieces that follow one another in the array: chunk, first byte in it, size.
    """
    item_bytes = grid.item_bytes
    dimensions = tuple(
        zip(grid.shape[::-1], grid.chunk_shape[::-1], grid.counts[::-1], strict=True)
    )
    while start < stop:
        element, within_element = divmod(start, item_bytes)
        number, place, run, is_run = 0, 0, 0, True
        factor_chunks, factor_place = 1, 1
        for size, length, chunks in dimensions:
            element, position = divmod(element, size)
            chunk, within = divmod(position, length)
            extent = length if chunk < chunks - 1 else size - chunk * length
            number += chunk * factor_chunks
            place += within * factor_place
            factor_chunks *= chunks
            factor_place *= extent
            if is_run:  # behind this dimension, the chunk has all that the array has
                run, is_run = factor_place - place, extent == size
        count = min(run * item_bytes - within_element, stop - start)
        yield number, place * item_bytes + within_element, count
        start += count


def _in_bytes(shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] * item_bytes) if shape else ()


def _slices_in_bytes(slices: tuple[slice, ...], item_bytes: int) -> tuple[slice, ...]:
    if not slices:
        return ()
    last = slices[-1]
    return (*slices[:-1], slice(last.start * item_bytes, last.stop * item_bytes))
