"""The cache of decoded blocks: which are there, which are being made, which are forgotten.

A block in memory is a shared buffer that counts towards the cache's limit. Where a band is too
large for memory (where chunks are tall columns, it may be the whole dataset), its chunks are a
block on disk, a band file (``band_files``); only a few of those are kept.
"""

from __future__ import annotations

import itertools
import resource
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from h5fs.store.chunks.band_files import band_file_bytes
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

    ``failures``: why chunks are FAILED, by chunk number. ``users``: how many readers use the block;
    it is not forgotten before there are none. ``passed_bytes``: how many of its bytes a sequential
    reader has read. The cache's condition protects all fields that change.
    """

    key: tuple[Hashable, int]
    bounds: BlockBounds
    shared_buffer: SharedBuffer
    states: bytearray
    is_whole: bool = False
    failures: dict[int, str] = field(default_factory=dict)
    passed_bytes: int = 0
    users: int = 0

    @property
    def first_chunk(self) -> int:
        """The number of the chunk whose state comes first."""
        return self.bounds.chunks.start

    @property
    def is_used_up(self) -> bool:
        """Whether nobody is expected to read the block again, since the kernel has all of it."""
        return self.passed_bytes >= self.bounds.size_bytes


class BlockCache:
    """Blocks by key; the one used longest ago is forgotten first. Safe to use from any thread.

    ``changed`` is a condition whose lock protects everything here and in the blocks; no other lock
    is taken while it is held. Only ``hits`` and ``misses`` are counted without it: an increment
    that gets lost does no harm. ``on_gone`` is called with shared buffers that are closed.
    """

    def __init__(self, capacity_bytes: int, on_gone: Callable[[SharedBuffer], None]) -> None:
        self.changed = threading.Condition()
        self._capacity_bytes = capacity_bytes
        self._on_gone = on_gone
        self._blocks: OrderedDict[tuple[Hashable, int], Block] = OrderedDict()
        self._spare: list[SharedBuffer] = []
        self._used_up: deque[Block] = deque()
        # How much a shared buffer counts towards the limit. A small one counts for more than its
        # size, because it takes a descriptor as well: shared buffers may have no more than a fourth
        # of all descriptors.
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
        """Whether a block of this size is kept in memory, or else is a band file."""
        return block_bytes <= self._capacity_bytes // 2

    def pin(self, array: Hashable, grid: Grid, number: int, room_bytes: int = 0) -> Block:
        """Return a block of an array, made when it is not there; ``unpin`` lets it be forgotten.

        ``room_bytes``: what a new block in memory shall have room for, if that is more than it has.
        Raises ``OSError`` when there is no room for it.
        """
        gone: list[SharedBuffer] = []
        key = (array, number)
        try:
            with self.changed:
                block = self._blocks.get(key)
                if block is None:
                    shared_buffer = self._find_room(grid, room_bytes, gone)
                    bounds = grid.block(number)
                    block = Block(key, bounds, shared_buffer, bytearray(len(bounds.chunks)))
                    self._blocks[key] = block
                self._blocks.move_to_end(key)
                block.users += 1
                return block
        finally:
            self._let_go(gone)

    def find(self, array: Hashable, number: int) -> Block | None:
        """Return a block, pinned, if it is there."""
        with self.changed:
            block = self._blocks.get((array, number))
            if block is not None:
                self._blocks.move_to_end(block.key)
                block.users += 1
            return block

    def unpin(self, block: Block, passed_bytes: int = 0) -> None:
        """Let a block be forgotten again; a sequential reader has read ``passed_bytes`` of it.

        A block that was read as a whole is forgotten before all others. So a sequential reader uses
        the same few shared buffers, whose pages are there already (touching the pages of a fresh
        one takes as long as copying to it). Bytes are counted, since the kernel at times asks for a
        block's last bytes before those in front of them.
        """
        gone: list[SharedBuffer] = []
        with self.changed:
            block.users -= 1
            was_used_up = block.is_used_up
            block.passed_bytes += passed_bytes
            if self._blocks.get(block.key) is not block:
                if not block.users:
                    self._drop(block.shared_buffer, gone)
            elif self._is_closed:
                if not block.users:
                    self._blocks.pop(block.key, None)
                    gone.append(block.shared_buffer)
            elif block.is_used_up and not was_used_up and not block.shared_buffer.is_on_disk:
                self._used_up.append(block)
        self._let_go(gone)

    def holds(self, array: Hashable, number: int) -> bool:
        """Whether a block is there, whatever the state of its chunks."""
        with self.changed:
            return (array, number) in self._blocks

    def has_whole(self, array: Hashable, number: int) -> bool:
        """Whether a block is there, with all its chunks."""
        with self.changed:
            block = self._blocks.get((array, number))
            return block is not None and block.is_whole

    def forget_pinned(self, block: Block) -> None:
        """Forget a block when its last user unpins it."""
        with self.changed:
            if self._blocks.get(block.key) is block:
                del self._blocks[block.key]

    def forget(self, array: Hashable) -> None:
        """Forget all blocks of an array, each in use when its last user unpins it."""
        gone: list[SharedBuffer] = []
        with self.changed:
            for key in [key for key in self._blocks if key[0] == array]:
                block = self._blocks.pop(key)
                if not block.users:
                    self._drop(block.shared_buffer, gone)
        self._let_go(gone)

    def take_over(self, before: Hashable, array: Hashable, grid: Grid, chunks: int) -> None:
        """Let an array have the blocks of the one that it was before: its first so many chunks.

        A block in which other chunks lie as well goes on without these, if it has room for them. A
        block that somebody uses does not: it may be being made.
        """
        gone: list[SharedBuffer] = []
        with self.changed:
            for key in [key for key in self._blocks if key[0] == before]:
                block = self._blocks.pop(key)
                if block.users:
                    continue
                # Who has read the array just before the change was noted has made its own.
                is_there = (array, key[1]) in self._blocks
                if not is_there and _can_go_on(block, grid, chunks):
                    _go_on(block, (array, key[1]), grid, chunks)
                    self._blocks[block.key] = block
                else:
                    self._drop(block.shared_buffer, gone)
        self._let_go(gone)

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
            return CacheStatistics(in_memory, self._capacity_bytes, on_disk, self.hits, self.misses)

    def close(self) -> None:
        """Give all memory back; that of a block in use when its last user unpins it."""
        with self.changed:
            self._is_closed = True
            unused = [key for key, block in self._blocks.items() if not block.users]
            shared_buffers = [self._blocks.pop(key).shared_buffer for key in unused] + self._spare
            self._spare = []
            self._used_up.clear()
        self._let_go(shared_buffers)

    def _find_room(self, grid: Grid, room_bytes: int, gone: list[SharedBuffer]) -> SharedBuffer:
        block_bytes = grid.block_bytes
        if not self.fits(block_bytes):
            on_disk = [
                k for k, b in self._blocks.items() if b.shared_buffer.is_on_disk and not b.users
            ]
            for key in on_disk[: max(0, len(on_disk) - _BLOCKS_ON_DISK + 1)]:
                gone.append(self._blocks.pop(key).shared_buffer)
            return make_shared_buffer(next(self._numbers), band_file_bytes(grid), on_disk=True)
        if self.fits(room_bytes):
            block_bytes = max(block_bytes, room_bytes)
        while True:
            spare = self._take_spare(block_bytes) or self._take_used_up(block_bytes)
            if spare is not None:
                return spare
            if self._charged_bytes + self._charge(block_bytes) <= self._capacity_bytes:
                break
            if not self._forget_one(gone):
                break  # all are in use: exceed the limit a little rather than wait for each other
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
            if self._blocks.get(block.key) is not block or not block.is_used_up:
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
        """Free a spare shared buffer (none of them has the right size), else the oldest block's."""
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
        if not shared_buffer.is_on_disk:
            self._charged_bytes -= self._charge(shared_buffer.size_bytes)
        gone.append(shared_buffer)

    def _let_go(self, gone: list[SharedBuffer]) -> None:
        for shared_buffer in gone:
            self._on_gone(shared_buffer)
            shared_buffer.close()


def _can_go_on(block: Block, grid: Grid, chunks: int) -> bool:
    """Whether a block can be that of its number in a grid of which only the first chunks are as
    they were."""
    if block.first_chunk >= chunks:
        return False
    bounds = grid.block(block.key[1])
    is_larger = bounds.size_bytes > block.shared_buffer.size_bytes
    return bounds == block.bounds or not (block.shared_buffer.is_on_disk or is_larger)


def _go_on(block: Block, key: tuple[Hashable, int], grid: Grid, chunks: int) -> None:
    bounds = grid.block(key[1])
    # What could not be decoded is tried once more.
    kept = bytes(
        PRESENT if state == PRESENT else ABSENT
        for state in block.states[: chunks - block.first_chunk]
    )
    block.key, block.bounds = key, bounds
    block.states = bytearray(kept.ljust(len(bounds.chunks), bytes([ABSENT]))[: len(bounds.chunks)])
    block.is_whole = block.states.count(PRESENT) == len(block.states)
    block.failures = {}
    block.passed_bytes = 0
