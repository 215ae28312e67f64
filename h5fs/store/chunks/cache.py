"""Decoded blocks, bounded: which are there, which are being made, which are forgotten.

A block in memory is a shared buffer that counts towards the bound. One that is too large for that
(the band of a dataset in tall columns may be all of it) is an unlinked temporary file, and only a
few of those are kept.
"""

from __future__ import annotations

import itertools
import resource
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from h5fs.store.chunks.geometry import BlockBounds, Grid
from h5fs.store.statistics import CacheStatistics
from h5fs.store.workers.shared_buffers import SharedBuffer, make_shared_buffer

_BLOCKS_ON_DISK = 4
_PAGE_BYTES = 4096
_LEAST_CHARGE_BYTES = 2**17
_FEWEST_SHARED_BUFFERS = 64  # fit into every cache, if they are small enough

ABSENT, PENDING, PRESENT, FAILED = 0, 1, 2, 3


@dataclass(eq=False, slots=True)
class Block:
    """One block: its shared buffer, the state of each of its chunks, and whether all are PRESENT.

    ``failures`` says of those that are FAILED why, by their numbers. ``users`` keep it from being
    forgotten; ``passed_bytes`` of it were read by somebody who reads on and on; while it
    ``is_being_laid_out``, nobody may begin to make a chunk. The cache's condition protects what
    changes.
    """

    key: Hashable
    bounds: BlockBounds
    shared_buffer: SharedBuffer
    states: bytearray
    is_whole: bool = False
    failures: dict[int, str] = field(default_factory=dict)
    passed_bytes: int = 0
    is_being_laid_out: bool = False
    users: int = 0

    @property
    def first_chunk(self) -> int:
        """The number of the chunk whose state comes first."""
        return self.bounds.chunks.start

    @property
    def is_used_up(self) -> bool:
        """Whether nobody is expected to read it again: what it holds, the kernel has by now."""
        return self.passed_bytes >= self.bounds.size_bytes


class BlockCache:
    """Blocks by key, the one used longest ago forgotten first. Safe to use from any thread.

    ``changed`` is a condition whose lock protects everything here and in the blocks; nothing else
    is taken while it is held, but not ``hits`` and ``misses``, which whoever reads counts: an
    increment that gets lost does no harm. ``on_gone`` is told of shared buffers that are no more.
    """

    def __init__(self, capacity_bytes: int, on_gone: Callable[[SharedBuffer], None]) -> None:
        self.changed = threading.Condition()
        self._capacity_bytes = capacity_bytes
        self._on_gone = on_gone
        self._blocks: OrderedDict[Hashable, Block] = OrderedDict()
        self._spare: list[SharedBuffer] = []
        self._used_up: deque[Block] = deque()
        # What shared buffers count towards the bound. A small one counts for more than it has,
        # because it takes a descriptor as well: no more than a fourth of all may go to shared
        # buffers.
        most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 1)
        least = min(_LEAST_CHARGE_BYTES, capacity_bytes // _FEWEST_SHARED_BUFFERS)
        self._least_charge = max(least, capacity_bytes // most)
        self._charged_bytes = 0
        self._is_closed = False
        self._numbers = itertools.count(1)
        self.hits = 0
        self.misses = 0

    @property
    def capacity_bytes(self) -> int:
        """How much memory shared buffers may take."""
        return self._capacity_bytes

    def fits(self, block_bytes: int) -> bool:
        """Whether a block of this size is kept in memory."""
        return block_bytes <= self._capacity_bytes // 2

    def pin(self, array: Hashable, grid: Grid, number: int) -> Block:
        """Return a block of an array, made when it is not there; it stays until it is unpinned.

        Raises ``OSError`` when there is no room for it.
        """
        gone: list[SharedBuffer] = []
        key = (array, number)
        try:
            with self.changed:
                block = self._blocks.get(key)
                if block is None:
                    shared_buffer = self._find_room(grid.block_bytes, gone)
                    bounds = grid.block(number)
                    block = Block(key, bounds, shared_buffer, bytearray(len(bounds.chunks)))
                    self._blocks[key] = block
                self._blocks.move_to_end(key)
                block.users += 1
                return block
        finally:
            self._let_go(gone)

    def unpin(self, block: Block, passed_bytes: int = 0) -> None:
        """Let a block be forgotten again, of which so much was read on the way past it.

        One that was passed as a whole goes before all others. Who reads on and on uses the same few
        shared buffers so, whose pages are there already (a fresh one costs as much again as copying
        to it). Bytes are counted, since the kernel asks for the last ones before those that precede
        them, at times.
        """
        gone: list[SharedBuffer] = []
        with self.changed:
            block.users -= 1
            was_used_up = block.is_used_up
            block.passed_bytes += passed_bytes
            if self._is_closed:
                if not block.users:
                    self._blocks.pop(block.key, None)
                    gone.append(block.shared_buffer)
            elif block.is_used_up and not was_used_up and not block.shared_buffer.is_on_disk:
                self._used_up.append(block)
        self._let_go(gone)

    def holds(self, array: Hashable, number: int) -> bool:
        """Whether a block is there, whatever of it."""
        with self.changed:
            return (array, number) in self._blocks

    def statistics(self) -> CacheStatistics:
        """Return what is kept now, and what was read so far."""
        with self.changed:
            shared_buffers = [
                *(block.shared_buffer for block in self._blocks.values()),
                *self._spare,
            ]
            in_memory, on_disk = (
                sum(each.size_bytes for each in shared_buffers if each.is_on_disk is is_on_disk)
                for is_on_disk in (False, True)
            )
            return CacheStatistics(
                in_memory, self._capacity_bytes, on_disk, self.hits, self.misses
            )

    def close(self) -> None:
        """Give all memory back: that of blocks which somebody uses once nobody does any more."""
        with self.changed:
            self._is_closed = True
            unused = [key for key, block in self._blocks.items() if not block.users]
            shared_buffers = [self._blocks.pop(key).shared_buffer for key in unused] + self._spare
            self._spare = []
            self._used_up.clear()
        self._let_go(shared_buffers)

    def _find_room(self, block_bytes: int, gone: list[SharedBuffer]) -> SharedBuffer:
        if not self.fits(block_bytes):
            on_disk = [
                k for k, b in self._blocks.items() if b.shared_buffer.is_on_disk and not b.users
            ]
            for key in on_disk[: max(0, len(on_disk) - _BLOCKS_ON_DISK + 1)]:
                gone.append(self._blocks.pop(key).shared_buffer)
            return make_shared_buffer(next(self._numbers), block_bytes, on_disk=True)
        while True:
            spare = self._take_spare(block_bytes) or self._take_used_up(block_bytes)
            if spare is not None:
                return spare
            if self._charged_bytes + self._charge(block_bytes) <= self._capacity_bytes:
                break
            if not self._forget_one(gone):
                break  # all are in use: better a little too much than to wait for each other
        shared_buffer = make_shared_buffer(next(self._numbers), block_bytes, on_disk=False)
        self._charged_bytes += self._charge(shared_buffer.size_bytes)
        return shared_buffer

    def _charge(self, size_bytes: int) -> int:
        return max(size_bytes, self._least_charge)

    def _take_spare(self, block_bytes: int) -> SharedBuffer | None:
        """Return a spare shared buffer of about that size: its pages are there already."""
        for index, shared_buffer in enumerate(self._spare):
            if block_bytes <= shared_buffer.size_bytes <= 2 * block_bytes + _PAGE_BYTES:
                return self._spare.pop(index)
        return None

    def _take_used_up(self, block_bytes: int) -> SharedBuffer | None:
        """Forget a block that is used up, and return its shared buffer if the size is right."""
        for _ in range(len(self._used_up)):
            block = self._used_up.popleft()
            if self._blocks.get(block.key) is not block:
                continue
            if block.users or not (
                block_bytes <= block.shared_buffer.size_bytes <= 2 * block_bytes + _PAGE_BYTES
            ):
                self._used_up.append(block)
                continue
            del self._blocks[block.key]
            return block.shared_buffer
        return None

    def _forget_one(self, gone: list[SharedBuffer]) -> bool:
        """Free something: a spare shared buffer, none of which has fitted, else the oldest
        block's."""
        if self._spare:
            self._drop(self._spare.pop(0), gone)
            return True
        for key, block in self._blocks.items():
            if not block.users and not block.shared_buffer.is_on_disk:
                del self._blocks[key]
                self._spare.append(block.shared_buffer)
                return True
        return False

    def _drop(self, shared_buffer: SharedBuffer, gone: list[SharedBuffer]) -> None:
        self._charged_bytes -= self._charge(shared_buffer.size_bytes)
        gone.append(shared_buffer)

    def _let_go(self, gone: list[SharedBuffer]) -> None:
        for shared_buffer in gone:
            self._on_gone(shared_buffer)
            shared_buffer.close()
