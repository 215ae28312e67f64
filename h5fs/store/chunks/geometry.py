"""Chunks of an array in the order of its elements: bands and blocks. Pure.

A **band** is the smallest group of whole chunks whose elements are consecutive in the row-major
array: the chunks that differ only in the dimensions behind the first one in which a chunk is longer
than 1. Where a chunk spans all the dimensions behind that one, it is a band by itself.

Numbers of chunks count through the grid of chunks in row-major order; those of one band, and those
of bands that follow one another, are consecutive. A **block** is some consecutive bands: what is
decoded into one shared buffer, and kept or forgotten as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import prod

from msgspec import Struct

BLOCK_BYTES = 2**22
"""Bands are gathered into a block until it has about this size: small chunks share one."""


class Box(Struct, frozen=True):
    """The part of a chunk that is within the array.

    ``start`` is its first element, ``count`` its extent in each dimension.
    """

    start: tuple[int, ...]
    count: tuple[int, ...]


class BlockBounds(Struct, frozen=True):
    """What a block spans: bytes ``[start, stop)`` of the array, and the numbers of its chunks."""

    number: int
    start: int
    stop: int
    chunks: range

    @property
    def size_bytes(self) -> int:
        """Size of the block."""
        return self.stop - self.start


class Grid(Struct, frozen=True, dict=True):
    """The chunks of an array of ``shape``, in which no dimension is 0; ``item_bytes`` an element.

    A block has about ``wanted_block_bytes``, except the last one, or is one band.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    item_bytes: int
    wanted_block_bytes: int = BLOCK_BYTES

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk_shape, strict=True))

    @cached_property
    def chunk_count(self) -> int:
        """Number of chunks in all."""
        return prod(self.counts)

    @cached_property
    def chunk_bytes(self) -> int:
        """Size of a decoded chunk."""
        return prod(self.chunk_shape) * self.item_bytes

    @cached_property
    def axis(self) -> int:
        """The dimension along which bands follow one another."""
        longer = (i for i, size in enumerate(self.chunk_shape) if size > 1)
        return next(longer, len(self.shape) - 1)

    @cached_property
    def chunks_per_band(self) -> int:
        """Number of chunks in a band."""
        return prod(self.counts[self.axis + 1 :])

    @cached_property
    def row_elements(self) -> int:
        """Elements behind one index of the bands' dimension."""
        return prod(self.shape[self.axis + 1 :])

    @cached_property
    def band_bytes(self) -> int:
        """Size of a band, except the last band along its dimension, which may be smaller."""
        axis = self.axis
        rows = min(self.chunk_shape[axis], self.shape[axis])
        return rows * self.row_elements * self.item_bytes

    @cached_property
    def bands_per_block(self) -> int:
        """Number of bands in a block."""
        return max(1, round(self.wanted_block_bytes / self.band_bytes))

    @cached_property
    def data_bytes(self) -> int:
        """Size of the array."""
        return prod(self.shape) * self.item_bytes

    @cached_property
    def block_bytes(self) -> int:
        """Size of the largest block."""
        return min(self.bands_per_block * self.band_bytes, self.data_bytes)

    def block_of(self, offset: int) -> int:
        """Return the number of the block that a byte of the array is in."""
        return self.band_of(offset // self.item_bytes) // self.bands_per_block

    def block(self, number: int) -> BlockBounds:
        """Return what a block spans."""
        first = number * self.bands_per_block
        stop = min(first + self.bands_per_block, self.band_count)
        return BlockBounds(
            number,
            self.band_start(first) * self.item_bytes,
            self.band_start(stop) * self.item_bytes,
            range(first * self.chunks_per_band, stop * self.chunks_per_band),
        )

    @cached_property
    def band_count(self) -> int:
        """Number of bands in all."""
        return prod(self.counts[: self.axis + 1])

    def band_start(self, band: int) -> int:
        """Return a band's first element; for the number after the last band, the array's end."""
        axis = self.axis
        outer, inner = divmod(band, self.counts[axis])
        row = outer * self.shape[axis] + inner * self.chunk_shape[axis]
        return row * self.row_elements

    def band_of(self, element: int) -> int:
        """Return the band that an element is in."""
        axis = self.axis
        outer, row = divmod(element // self.row_elements, self.shape[axis])
        return outer * self.counts[axis] + row // self.chunk_shape[axis]

    def box(self, chunk: int) -> Box:
        """Return the part of a chunk that is within the array."""
        start, count = [], []
        for chunks, length, size in zip(
            self.counts[::-1], self.chunk_shape[::-1], self.shape[::-1], strict=True
        ):
            chunk, place = divmod(chunk, chunks)
            start.append(place * length)
            count.append(min(length, size - place * length))
        return Box(tuple(start[::-1]), tuple(count[::-1]))

    def chunks_under(self, start: int, stop: int) -> Iterator[range]:
        """Yield the numbers of the chunks that elements ``[start, stop)`` are in, in order."""
        axis, per_band = self.axis, self.chunks_per_band
        for band in range(self.band_of(start), self.band_of(stop - 1) + 1):
            first = band * per_band
            band_start = self.band_start(band)
            low = max(start - band_start, 0)
            high = min(stop, self.band_start(band + 1)) - band_start
            if per_band == 1 or high - low >= self.row_elements:
                yield range(first, first + per_band)
                continue
            # Less than a row: along the dimension behind the bands' only the chunks that the range
            # reaches; along the dimensions behind that one, all chunks.
            behind = prod(self.shape[axis + 2 :])
            grid_behind = prod(self.counts[axis + 2 :])
            size = self.chunk_shape[axis + 1]
            left = low % self.row_elements // behind // size
            right = (high - 1) % self.row_elements // behind // size
            if left <= right and low // self.row_elements == (high - 1) // self.row_elements:
                yield range(first + left * grid_behind, first + (right + 1) * grid_behind)
            else:
                yield range(first, first + (right + 1) * grid_behind)
                yield range(first + left * grid_behind, first + per_band)
