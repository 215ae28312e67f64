"""A writing worker gives way to one that may read another file, unless something would be lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from msgspec import structs
from support.stores import STARTER

from h5fs.errors import UnreadableError
from h5fs.model.objects import ObjectInfo
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.log.file_and_log import open_logged, read_boot_id
from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WritingWorkerStore]:
    with h5py.File(tmp_path / "other.h5", "w") as opened:
        opened["d"] = np.arange(3)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["link"] = h5py.ExternalLink("other.h5", "/d")
    options = StoreOptions(tmp_path / "f.h5", Mode.UPDATE)
    files = open_logged(options.file, options.mode, options.locking, read_boot_id())
    made = WritingWorkerStore(structs.replace(options, boot_id=read_boot_id()), files, STARTER)
    made.open()
    yield made
    made.close()


def follow(store: WritingWorkerStore) -> ObjectInfo:
    root = store.root().ref
    return store.follow(root, store.get_link(root, b"link"))


@pytest.mark.semantics("L4", "W6")
def test_what_was_changed_is_there_after_another_worker_has_come(
    store: WritingWorkerStore,
) -> None:
    store.create_group(store.root().ref, b"made")
    (before,) = store._pool.worker_pids()  # the one that writes
    assert follow(store).ref.file != 0
    assert store._pool.worker_pids() != [before]
    assert store.get_link(store.root().ref, b"made").target is not None


@pytest.mark.semantics("R24", "W6")
def test_an_array_that_is_being_written_is_not_lost_for_a_link(store: WritingWorkerStore) -> None:
    region = store.reserve_array(store.root().ref, (100_000,), np.dtype("<i8"))
    assert region is not None
    with pytest.raises(UnreadableError, match=r"other\.h5 cannot be opened before"):
        follow(store)
    store.write_region(region, memoryview(bytes(region.size_bytes)), 0)
    tail = bytes(800_000 - region.size_bytes)
    store.finish_array(store.root().ref, b"new", region, tail)
    assert follow(store).ref.file != 0
    assert store.get_link(store.root().ref, b"new").target is not None
