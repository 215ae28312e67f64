"""Which blocks are kept, and what they take."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from h5fs.store.chunks.cache import BlockCache
from h5fs.store.chunks.geometry import Grid
from h5fs.store.workers.shared_buffers import Segment, SegmentReader, make_segment

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


def forget(_: Segment) -> None:
    """Be told that a segment is gone."""


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
    assert cache.pin("array", ARRAY, 1).segment is not first.segment  # it is kept: there is room
    cache.pin("array", ARRAY, 0)
    cache.unpin(first, pieces[1])
    again = cache.pin("array", ARRAY, 2)
    assert (again.segment is first.segment) is (sum(pieces) == BLOCK)
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
    gone: list[Segment] = []
    cache = BlockCache(4 * BLOCK, gone.append)
    first, again, second = (cache.pin("array", ARRAY, number) for number in (0, 0, 1))
    cache.unpin(cache.pin("array", ARRAY, 2))
    cache.close()
    assert len(os.listdir("/proc/self/fd")) - before == 2
    os.pwrite(first.segment.descriptor, b"x", 0)  # it is there, whole
    late = cache.pin("array", ARRAY, 3)
    for block in (first, second, late, again):
        cache.unpin(block)
    assert len(os.listdir("/proc/self/fd")) == before
    assert {segment.number for segment in gone} == {1, 2, 3, 4}
    assert in_memory(cache) == 0


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("size_bytes", [5000, BLOCK, 3 * BLOCK + 17])
def test_what_is_in_a_segment_is_read(size_bytes: int, on_disk: bool) -> None:
    content = np.random.default_rng(0).integers(0, 256, size_bytes, np.uint8).tobytes()
    reader, segment = SegmentReader(), make_segment(1, size_bytes, on_disk=on_disk)
    os.pwrite(segment.descriptor, content, 0)
    for start, stop in ((0, size_bytes), (1, 4097), (size_bytes - 5, size_bytes)):
        buffer = bytearray(stop - start)
        assert reader.read_into(segment, memoryview(buffer), start) == stop - start
        assert buffer == content[start:stop]
    segment.close()
    reader.close()


def test_segments_are_read_without_a_descriptor_to_spare() -> None:
    reader, segments = SegmentReader(), [make_segment(n, BLOCK, on_disk=False) for n in range(100)]
    for segment in segments:
        os.pwrite(segment.descriptor, b"%04d" % segment.number, 0)
    with descriptors_limited_to(len(os.listdir("/proc/self/fd")) + 5):
        for segment in segments:
            buffer = bytearray(4)
            reader.read_into(segment, memoryview(buffer), 0)
            assert buffer == b"%04d" % segment.number
    for segment in segments:
        reader.forget(segment)
        segment.close()
