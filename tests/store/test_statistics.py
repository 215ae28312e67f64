"""What stores and trees tell about themselves, and how that adds up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.stores import open_store
from support.waiting import wait_until

from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.log.uncommitted import Uncommitted
from h5fs.store.statistics import (
    CacheStatistics,
    QuarantinedObject,
    StoreStatistics,
    UncommittedStatistics,
    WorkerStatistics,
)
from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
from h5fs.tree import Tree, WritableTree
from h5fs.tree.statistics import TreeStatistics

CHUNK_BYTES = 64 * 2**10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened.create_dataset(
            "d", data=np.arange(2**20), chunks=(CHUNK_BYTES // 8,), compression="gzip"
        )
    return path


@contextmanager
def opened(file: Path, **options: Any) -> Iterator[Tree]:
    store: Any = open_store(StoreOptions(file, **options))
    tree = WritableTree(store) if "mode" in options else Tree(store)
    try:
        yield tree
    finally:
        tree.close()
        store.close()


def test_the_cache_tells_hits_and_misses(file: Path) -> None:
    with opened(file, workers=1, cache_bytes=2**22) as tree:
        handle = tree.open(b"/d.npy", os.O_RDONLY)
        before = tree.statistics()
        assert before.store.cache == CacheStatistics(0, 2**22, 0, 0, 0)
        assert (before.open_file_count, before.draft_count) == (1, 0)
        assert before.store.cache.hit_rate is None
        # From far away to far away, so that nothing is read ahead.
        for chunk in (100, 20, 100, 20, 60):
            tree.read(handle, 100, 128 + chunk * CHUNK_BYTES)
        after = tree.statistics().store.cache
        assert (after.hits, after.misses, after.hit_rate) == (2, 3, 0.4)
        assert 3 * CHUNK_BYTES <= after.used_bytes <= after.limit_bytes
        tree.release(handle)
        assert tree.statistics().open_file_count == 0


def test_a_worker_that_was_killed_is_not_told_of_and_its_replacement_is(file: Path) -> None:
    with opened(file, workers=1) as tree:
        (pid,) = tree.statistics().store.workers.pids
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: tree.statistics().store.workers.pids == ())
        tree.read(tree.open(b"/d.npy", os.O_RDONLY), 2**20, 0)
        workers = tree.statistics().store.workers
        assert workers.usual_count == 1 and workers.replaced_count == 1
        assert len(workers.pids) == 1 and pid not in workers.pids


def test_without_workers_there_is_nothing_to_tell(file: Path) -> None:
    with opened(file, workers=0) as tree:
        assert tree.statistics() == TreeStatistics()


def test_what_is_written_is_a_draft_then_uncommitted_then_neither(file: Path) -> None:
    with opened(file, mode=Mode.UPDATE, commit_seconds=None) as tree:
        assert isinstance(tree, WritableTree)
        assert tree.statistics().store.uncommitted == UncommittedStatistics()
        handle = tree.create(b"/d.attrs.json", os.O_WRONLY, 1)
        tree.write(handle, memoryview(b'{"a": 1}'), 0)
        waiting = tree.statistics()
        assert (waiting.open_file_count, waiting.draft_count, waiting.draft_bytes) == (1, 1, 8)
        tree.make_folder(b"/new")
        tree.flush(handle, 1)
        tree.release(handle)
        made = tree.statistics()
        assert (made.open_file_count, made.draft_count, made.draft_bytes) == (0, 0, 0)
        found = made.store.uncommitted
        assert found is not None and found.oldest_seconds is not None
        assert found.change_count == 2 and found.bytes == 0  # a group and its attributes
        assert 0 < found.oldest_seconds < 20 and found.log_bytes > 0
        tree.sync_folder(b"/")
        after = tree.statistics().store.uncommitted
        assert after is not None
        assert (after.change_count, after.bytes, after.oldest_seconds) == (0, 0, None)
        assert after.log_bytes >= found.log_bytes


def test_a_change_that_a_commit_came_before_is_committed_by_the_clock(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(StoreOptions(file, mode=Mode.UPDATE, commit_seconds=0.2))
    assert isinstance(store, WritingWorkerStore)
    try:
        call = store._pool.call

        def call_after_a_commit(method: str, *arguments: Any, **others: Any) -> Any:
            if method == "create_group":
                store.commit()
            return call(method, *arguments, **others)

        monkeypatch.setattr(store._pool, "call", call_after_a_commit)
        store.create_group(store.root().ref, b"new")
        found = store.statistics().uncommitted
        assert found is not None and found.change_count == 1

        def is_committed() -> bool:
            found = store.statistics().uncommitted
            return found is not None and found.change_count == 0

        wait_until(is_committed)
    finally:
        store.close()


def test_changes_whose_commit_fails_wait_again() -> None:
    uncommitted = Uncommitted()
    uncommitted.note(5)
    taken = uncommitted.begin()
    since = taken.since
    uncommitted.note(7)
    assert (uncommitted.total().count, uncommitted.total().size_bytes) == (2, 12)
    uncommitted.fail(taken)
    total = uncommitted.total()
    assert (total.count, total.size_bytes, total.since) == (2, 12, since)
    uncommitted.end(uncommitted.begin())
    assert (uncommitted.total().count, uncommitted.total().since) == (0, None)


def test_statistics_of_several_stores_add_up() -> None:
    one = StoreStatistics(
        CacheStatistics(1, 10, 2, 3, 4), WorkerStatistics(2, (5, 6), 1), None,
        (QuarantinedObject("/a.h5", "/x", "why"),),
    )  # fmt: skip
    two = StoreStatistics(
        CacheStatistics(10, 20, 30, 40, 50), WorkerStatistics(1, (7,), 2),
        UncommittedStatistics(1, 100, 3.0, 1000), (QuarantinedObject("/b.h5", "/x", "why"),),
    )  # fmt: skip
    both = one + two
    assert both.cache == CacheStatistics(11, 30, 32, 43, 54)
    assert both.workers == WorkerStatistics(3, (5, 6, 7), 3)
    assert both.uncommitted == two.uncommitted
    assert [each.file for each in both.quarantined] == ["/a.h5", "/b.h5"]
    assert (both + two).uncommitted == UncommittedStatistics(2, 200, 3.0, 2000)
    assert both + StoreStatistics() == both
    tree = TreeStatistics(one, 1, 2, 3) + TreeStatistics(two, 10, 20, 30)
    assert tree == TreeStatistics(both, 11, 22, 33)
    left = tree.counts_only()
    assert left.store.cache == CacheStatistics(hits=43, misses=54)
    assert left.store.workers == WorkerStatistics(replaced_count=3)
    assert (left.store.uncommitted, left.store.quarantined) == (None, ())
