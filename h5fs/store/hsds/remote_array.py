"""Arrays of fixed-size elements by ranges of bytes: few requests, large ones, several at a time.

A read asks for just the elements that it needs. A sequential reader's next blocks are asked for
ahead; a block is about as large as two of the service's chunks, and is made of whole chunks. It is
kept until the stream has passed it, and no longer than until the array is opened anew: only that
makes sure that what others have written is seen.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
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
_BLOCKS_BEHIND: Final = 2  # the kernel's requests come on several threads, not quite in order
_MOST_SPARE_BYTES: Final = 64 << 20


@dataclass(eq=False, slots=True)
class RemoteBlock:
    """A block that is there, or on its way: ``coming`` is done when ``data`` has all its bytes.

    ``users``: who fills or reads it; the memory may only become another block's without any.
    """

    data: memoryview
    coming: Future[None]
    users: int = 1
    is_forgotten: bool = False


class RemoteBlocks:
    """Blocks of all arrays, the latest ones, of about ``limit_bytes`` together.

    ``hits`` and ``misses`` count parts of reads. ``_lock`` protects what is here and the fields of
    the blocks; nothing else is taken while it is held. ``_spare`` is memory of blocks that were
    forgotten: to fill new memory takes the kernel as long as to receive the bytes.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[int, int], RemoteBlock] = OrderedDict()
        self._spare: list[memoryview] = []
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.hits = self.misses = 0

    def has(self, key: tuple[int, int]) -> bool:
        """Whether a block is there, or on its way."""
        with self._lock:
            return key in self._blocks

    def pin(
        self, key: tuple[int, int], size_bytes: int, start: Callable[[memoryview], Future[None]]
    ) -> RemoteBlock:
        """Return a block, until ``unpin``; ``start`` begins to fill it where it is not there."""
        with self._lock:
            block = self._blocks.get(key)
            is_new = block is None
            if block is None:
                data = self._take_memory(size_bytes)
                block = self._blocks[key] = RemoteBlock(data, start(data))
                self.used_bytes += size_bytes
                while self.used_bytes > self.limit_bytes and len(self._blocks) > 1:
                    self._forget(next(iter(self._blocks)))
            self._blocks.move_to_end(key)
            block.users += 1
        if is_new:  # not under the lock, since it may be done already
            block.coming.add_done_callback(lambda _: self.unpin(block))
        return block

    def unpin(self, block: RemoteBlock) -> None:
        """Say that a block that was pinned is not used any more."""
        with self._lock:
            block.users -= 1
            self._keep_memory_of(block)

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
        """Forget a block, if it is there: it did not come, or is not needed any more."""
        with self._lock:
            if key in self._blocks:
                self._forget(key)

    def _forget(self, key: tuple[int, int]) -> None:
        block = self._blocks.pop(key)
        self.used_bytes -= len(block.data)
        block.is_forgotten = True
        self._keep_memory_of(block)

    def _take_memory(self, size_bytes: int) -> memoryview:
        for place, data in enumerate(self._spare):
            if len(data) == size_bytes:
                return self._spare.pop(place)
        return memoryview(mmap.mmap(-1, size_bytes))

    def _keep_memory_of(self, block: RemoteBlock) -> None:
        if not block.is_forgotten or block.users:
            return
        self._spare.append(block.data)
        while sum(map(len, self._spare)) > _MOST_SPARE_BYTES:
            self._spare.pop(0)


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
        is_kept = self._cache.has((self.number, first))
        if not is_kept and (stream is None or self._size_bytes <= len(buffer)):
            self._cache.count(misses=1)
            self._fetch(offset, buffer)
            return
        last = self._block_of(stop - 1)
        for number in range(first, last + 1):
            start, block_stop = self._bounds(number)
            block = self._pin(number)
            try:
                if stream:
                    self._look_ahead(number)
                self._cache.count(hits=block.coming.done(), misses=not block.coming.done())
                low, high = max(start, offset), min(block_stop, stop)
                block.coming.result()
                buffer[low - offset : high - offset] = block.data[low - start : high - start]
            except BaseException:
                self._cache.forget_block((self.number, number))
                raise
            finally:
                self._cache.unpin(block)

    def _look_ahead(self, number: int) -> None:
        """Ask for the blocks behind one, and forget what a stream has passed: the kernel has it."""
        self._cache.forget_block((self.number, number - _BLOCKS_BEHIND))
        for ahead in range(number + 1, number + 1 + _BLOCKS_AHEAD):
            if self._bounds(ahead)[0] < self._size_bytes:
                self._cache.unpin(self._pin(ahead))

    def _pin(self, number: int) -> RemoteBlock:
        start, stop = self._bounds(number)
        return self._cache.pin(
            (self.number, number), stop - start,
            lambda data: self._executor.submit(self._fetch_alone, start, data),
        )  # fmt: skip

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
