"""Times that are set: the last ones are kept, in bounded memory."""

from __future__ import annotations

import tracemalloc

import pytest

from h5fs.tree.writing.pending.times import MOST_TIMES, Times


def test_the_times_set_last_are_kept() -> None:
    times = Times(most=3)
    for inode in (1, 2, 3, 1, 4):
        times.set(inode, inode * 10, inode * 100)
    assert times.get(2) is None
    assert [times.get(inode) for inode in (1, 3, 4)] == [(10, 100), (30, 300), (40, 400)]
    times.forget(3)
    times.set(5, 50, 500)
    assert [times.get(inode) for inode in (1, 3, 4, 5)] == [(10, 100), None, (40, 400), (50, 500)]


@pytest.mark.semantics("R16")
def test_a_million_files_take_no_more_memory_than_those_that_are_kept() -> None:
    tracemalloc.start()
    try:
        times = Times()
        for inode in range(10**6):
            times.set(2**40 + inode, 2**60 + inode, 2**60 + inode)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(times) == MOST_TIMES == 100_000
    assert times.get(2**40 + 10**6 - MOST_TIMES) is not None
    assert times.get(2**40 + 10**6 - MOST_TIMES - 1) is None
    assert size < 40 * 2**20
