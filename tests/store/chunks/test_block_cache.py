"""Which blocks are kept, and what they take."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from h5fs.store.chunks.block_cache import BlockCache
from h5fs.store.chunks.geometry import Grid
from h5fs.store.workers.shared_buffers import SharedBuffer, SharedBufferReader, make_shared_buffer

BLOCK = 2**18
ARRAY = Grid((40, BLOCK), (1, BLOCK), 1, BLOCK)  # forty blocks of one chunk


@contextmanager
def descriptors_limited_to(count: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def forget(_: SharedBuffer) -> None:
    """Be told that a shared buffer is gone."""


def in_memory(cache: BlockCache) -> int:
    return cache.statistics().used_bytes


def test_blocks_are_kept_up_to_the_bound() -> None:
    cache = BlockCache(8 * BLOCK, forget)
    for number in range(40):
        cache.unpin(cache.pin("array", ARRAY, number))
        assert in_memory(cache) <= 8 * BLOCK
    assert [number for number in range(40) if cache.holds("array", number)] == list(range(32, 40))
    cache.close()


def test_blocks_that_are_in_use_stay_whatever_the_bound() -> None:
    cache = BlockCache(4 * BLOCK, forget)
    pinned = [cache.pin("array", ARRAY, number) for number in range(8)]
    assert all(cache.holds("array", number) for number in range(8))
    for block in pinned:
        cache.unpin(block)
    cache.close()


@pytest.mark.parametrize("pieces", [(1, 1), (BLOCK // 2, BLOCK // 2), (1, BLOCK - 1)])
def test_a_block_is_used_up_once_all_of_it_was_passed(pieces: tuple[int, int]) -> None:
    cache = BlockCache(40 * BLOCK, forget)
    first = cache.pin("array", ARRAY, 0)
    cache.unpin(first, pieces[0])
    assert (
        cache.pin("array", ARRAY, 1).shared_buffer is not first.shared_buffer
    )  # it is kept: there is room
    cache.pin("array", ARRAY, 0)
    cache.unpin(first, pieces[1])
    again = cache.pin("array", ARRAY, 2)
    assert (again.shared_buffer is first.shared_buffer) is (sum(pieces) == BLOCK)
    cache.close()


def test_small_blocks_leave_descriptors_to_others() -> None:
    small = Grid((100,), (100,), 8)
    with descriptors_limited_to(400):
        cache, before = BlockCache(2**28, forget), len(os.listdir("/proc/self/fd"))
        for array in range(1000):
            cache.unpin(cache.pin(array, small, 0))
        assert len(os.listdir("/proc/self/fd")) - before <= 100
        assert cache.holds(999, 0)
    cache.close()


def test_blocks_in_use_when_the_cache_closes_are_given_back_by_their_last_user() -> None:
    before = len(os.listdir("/proc/self/fd"))
    gone: list[SharedBuffer] = []
    cache = BlockCache(4 * BLOCK, gone.append)
    first, again, second = (cache.pin("array", ARRAY, number) for number in (0, 0, 1))
    cache.unpin(cache.pin("array", ARRAY, 2))
    cache.close()
    assert len(os.listdir("/proc/self/fd")) - before == 2
    os.pwrite(first.shared_buffer.descriptor, b"x", 0)  # it is there, whole
    late = cache.pin("array", ARRAY, 3)
    for block in (first, second, late, again):
        cache.unpin(block)
    assert len(os.listdir("/proc/self/fd")) == before
    assert {shared_buffer.number for shared_buffer in gone} == {1, 2, 3, 4}
    assert in_memory(cache) == 0


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("size_bytes", [5000, BLOCK, 3 * BLOCK + 17])
def test_what_is_in_a_shared_buffer_is_read(size_bytes: int, on_disk: bool) -> None:
    content = np.random.default_rng(0).integers(0, 256, size_bytes, np.uint8).tobytes()
    reader, shared_buffer = SharedBufferReader(), make_shared_buffer(1, size_bytes, on_disk=on_disk)
    os.pwrite(shared_buffer.descriptor, content, 0)
    for start, stop in ((0, size_bytes), (1, 4097), (size_bytes - 5, size_bytes)):
        buffer = bytearray(stop - start)
        assert reader.read_into(shared_buffer, memoryview(buffer), start) == stop - start
        assert buffer == content[start:stop]
    shared_buffer.close()
    reader.close()


def test_shared_buffers_are_read_without_a_descriptor_to_spare() -> None:
    reader, shared_buffers = (
        SharedBufferReader(),
        [make_shared_buffer(n, BLOCK, on_disk=False) for n in range(100)],
    )
    for shared_buffer in shared_buffers:
        os.pwrite(shared_buffer.descriptor, b"%04d" % shared_buffer.number, 0)
    with descriptors_limited_to(len(os.listdir("/proc/self/fd")) + 5):
        for shared_buffer in shared_buffers:
            buffer = bytearray(4)
            reader.read_into(shared_buffer, memoryview(buffer), 0)
            assert buffer == b"%04d" % shared_buffer.number
    for shared_buffer in shared_buffers:
        reader.forget(shared_buffer)
        shared_buffer.close()


def test_a_block_that_is_there_already_stays_when_those_of_before_are_taken_over() -> None:
    gone: list[SharedBuffer] = []
    cache = BlockCache(8 * BLOCK, gone.append)
    for array in ("before", "after"):  # who has read the new one at the very moment of the change
        cache.unpin(cache.pin(array, ARRAY, 0))
    newer = cache.pin("after", ARRAY, 0)
    cache.unpin(newer)
    cache.take_over("before", "after", ARRAY, 1)
    block = cache.pin("after", ARRAY, 0)
    assert block is newer
    cache.unpin(block)
    cache.forget("after")
    assert len(gone) == 2
    assert in_memory(cache) == 0
    cache.close()
