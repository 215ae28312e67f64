"""Trees that write, over real stores and without a mount, used as the kernel would use them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
from h5fs.tree import WritableTree
from support.stores import open_store
from support.waiting import PATIENCE_SECONDS

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@contextmanager
def writable_tree(file: Path, **options: Any) -> Iterator[WritableTree]:
    """Open a file to write to it; what is left at the end goes to ``FILE.h5fs-left``."""
    store: Any = open_store(StoreOptions(file, **{"mode": Mode.UPDATE, **options}))
    try:
        tree = WritableTree(store, leftovers=file.with_name(file.name + ".h5fs-left"))
        yield tree
        tree.close()
    finally:
        store.close()


@contextmanager
def killed_tree(file: Path) -> Iterator[WritableTree]:
    """Open a file to write to it; at the end everything is gone, as after ``kill -9``."""
    store: Any = open_store(StoreOptions(file, mode=Mode.UPDATE, commit_seconds=None))
    try:
        yield WritableTree(store, leftovers=file.with_name(file.name + ".h5fs-left"))
    finally:
        store._timer = _NoTimer()
        store.close()


class _NoTimer:
    """In the place of a store's clock: a store without one ends without a commit."""

    ident = None


def store_of(tree: WritableTree) -> WritingWorkerStore:
    """Return a tree's store."""
    store = tree._store
    assert isinstance(store, WritingWorkerStore)
    return store


def kill_worker(tree: WritableTree) -> None:
    """Kill the worker that there is, and return when it is gone."""
    for pid in store_of(tree)._pool.worker_pids():
        kill(pid)


def kill(pid: int) -> None:
    """Kill a process, and return when it is gone; it may be gone before."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    select.select([handle], [], [], PATIENCE_SECONDS)
    os.close(handle)


def save(tree: WritableTree, path: bytes, data: bytes) -> None:
    """Write a file anew, as ``open(path, "wb")`` does."""
    handle = tree.create(path, NEW, 1)
    try:
        tree.write(handle, memoryview(data), 0)
        tree.flush(handle, 1)
    finally:
        tree.release(handle)


def read(tree: WritableTree, path: bytes) -> bytes:
    """Read a whole file."""
    handle = tree.open(path, os.O_RDONLY, 1)
    try:
        return read_handle(tree, handle)
    finally:
        tree.release(handle)


def read_handle(tree: WritableTree, handle: int) -> bytes:
    """Read all of an open file, as long as ``fstat`` says that it is."""
    return tree.read(handle, tree.get_status_of_handle(handle).size_bytes + 1, 0)


def names(tree: WritableTree, path: bytes = b"/") -> set[bytes]:
    """Return what a folder lists."""
    return {dentry.name for dentry in tree.list_folder(path)}
