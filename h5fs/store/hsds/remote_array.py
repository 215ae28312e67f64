"""Arrays of fixed-size elements by ranges of bytes: few requests, large ones, several at a time.

A read asks for just the elements that it needs. A sequential reader's next blocks are asked for
ahead; a block is about as large as two of the service's chunks, is made of whole chunks, and is
kept until the array is opened anew: only that makes sure that what others have written is seen.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import pairwise
from math import prod
from typing import Final

from h5fs.model.objects import Hyperslab
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.chunks.geometry import Grid
from h5fs.store.chunks.streams import Streams

ReadSlab = Callable[[Hyperslab, memoryview], None]
"""Fills a buffer with the elements of a hyperslab."""

_BLOCK_BYTES: Final = 8 << 20
_LARGEST_BLOCK_BYTES: Final = 32 << 20
_PIECE_BYTES: Final = 16 << 20
_BLOCKS_AHEAD: Final = 4


class RemoteBlocks:
    """Blocks of all arrays, the latest ones, of about ``limit_bytes`` together.

    ``hits`` and ``misses`` count parts of reads. ``_lock`` protects what is here; nothing else is
    taken while it is held.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[int, int], Future[bytearray]] = OrderedDict()
        self._sizes: dict[tuple[int, int], int] = {}
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.hits = self.misses = 0

    def find(self, key: tuple[int, int]) -> Future[bytearray] | None:
        """Return a block that is there, or on its way."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def make(
        self, key: tuple[int, int], size_bytes: int, start: Callable[[], Future[bytearray]]
    ) -> Future[bytearray]:
        """Return a block, which is asked for with ``start`` where it is not there."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
            block = self._blocks[key] = start()
            self._sizes[key] = size_bytes
            self.used_bytes += size_bytes
            while self.used_bytes > self.limit_bytes and len(self._blocks) > 1:
                self._forget(next(iter(self._blocks)))
            return block

    def count(self, *, hits: int = 0, misses: int = 0) -> None:
        """Count what was there, and what a read had to wait for."""
        with self._lock:
            self.hits += hits
            self.misses += misses

    def forget(self, array: int) -> None:
        """Forget all blocks of one array."""
        with self._lock:
            for key in [key for key in self._blocks if key[0] == array]:
                self._forget(key)

    def forget_block(self, key: tuple[int, int]) -> None:
        """Forget a block that did not come."""
        with self._lock:
            if key in self._blocks:
                self._forget(key)

    def _forget(self, key: tuple[int, int]) -> None:
        del self._blocks[key]
        self.used_bytes -= self._sizes.pop(key)


class RemoteArray:
    """The elements of one dataset, as it was when it was opened.

    ``number`` is its own in the cache. Safe to use from any thread.
    """

    def __init__(
        self,
        number: int,
        shape: tuple[int, ...],
        item_bytes: int,
        chunk_shape: tuple[int, ...] | None,
        read_slab: ReadSlab,
        executor: Executor,
        cache: RemoteBlocks,
    ) -> None:
        self.number = number
        self._shape = shape
        self._item_bytes = item_bytes
        self._size_bytes = prod(shape) * item_bytes
        self._read_slab = read_slab
        self._executor = executor
        self._cache = cache
        self._streams = Streams()
        self._grid: Grid | None = None
        if chunk_shape is not None and self._size_bytes:
            grid = Grid(shape, chunk_shape, item_bytes, _BLOCK_BYTES)
            self._grid = grid if grid.block_bytes <= _LARGEST_BLOCK_BYTES else None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with bytes of the array from ``offset`` on. Raises ``H5fsError``s."""
        stop = offset + len(buffer)
        stream = self._streams.note(offset, stop)
        first = self._block_of(offset)
        is_kept = self._cache.find((self.number, first)) is not None
        if not is_kept and (stream is None or self._size_bytes <= len(buffer)):
            self._cache.count(misses=1)
            self._fetch(offset, buffer)
            return
        last = self._block_of(stop - 1)
        for number in range(first, last + 1):
            start, block_stop = self._bounds(number)
            block = self._block(number)
            for ahead in range(number + 1, number + 1 + _BLOCKS_AHEAD if stream else number):
                if self._bounds(ahead)[0] < self._size_bytes:
                    self._block(ahead)
            self._cache.count(hits=block.done(), misses=not block.done())
            low, high = max(start, offset), min(block_stop, stop)
            try:
                data = block.result()
            except BaseException:
                self._cache.forget_block((self.number, number))
                raise
            buffer[low - offset : high - offset] = memoryview(data)[low - start : high - start]

    def _block(self, number: int) -> Future[bytearray]:
        start, stop = self._bounds(number)

        def fetch() -> bytearray:
            data = bytearray(stop - start)
            self._fetch_alone(start, memoryview(data))
            return data

        return self._cache.make(
            (self.number, number), stop - start, lambda: self._executor.submit(fetch)
        )

    def _block_of(self, offset: int) -> int:
        return self._grid.block_of(offset) if self._grid else offset // self._plain_block_bytes

    def _bounds(self, number: int) -> tuple[int, int]:
        """Return which bytes a block has; behind the last block none."""
        if self._grid is None:
            size = self._plain_block_bytes
            return min(number * size, self._size_bytes), min((number + 1) * size, self._size_bytes)
        if number * self._grid.bands_per_block >= self._grid.band_count:
            return self._size_bytes, self._size_bytes
        block = self._grid.block(number)
        return block.start, block.stop

    @property
    def _plain_block_bytes(self) -> int:
        """The size of blocks that are not made of chunks, as those would be too large."""
        return max(_BLOCK_BYTES // self._item_bytes, 1) * self._item_bytes

    def _fetch(self, offset: int, buffer: memoryview) -> None:
        """Fetch bytes, a long range in pieces at the same time."""
        count = -(-len(buffer) // _PIECE_BYTES)
        if count <= 1:
            self._fetch_alone(offset, buffer)
            return
        each = max(_PIECE_BYTES // self._item_bytes, 1) * self._item_bytes
        edges = [0, *range(each - offset % self._item_bytes, len(buffer), each), len(buffer)]
        futures = [
            self._executor.submit(self._fetch_alone, offset + low, buffer[low:high])
            for low, high in pairwise(edges)
            if low < high
        ]
        problems = [problem for future in futures if (problem := future.exception())]
        if problems:
            raise problems[0]

    def _fetch_alone(self, offset: int, buffer: memoryview) -> None:
        start, skip = divmod(offset, self._item_bytes)
        stop = -(-(offset + len(buffer)) // self._item_bytes)
        whole_bytes = (stop - start) * self._item_bytes
        target = buffer if whole_bytes == len(buffer) else memoryview(bytearray(whole_bytes))
        filled = 0
        for slab in split_into_hyperslabs(self._shape, start, stop):
            size = prod(slab.count) * self._item_bytes
            self._read_slab(slab, target[filled : filled + size])
            filled += size
        if target is not buffer:
            buffer[:] = target[skip : skip + len(buffer)]
