"""Arrays that grow or change in part while they are read: what stays is kept, and is right."""

from __future__ import annotations

import io
import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy_format
from support.reference import npy_bytes
from support.trees import kill_worker, read, store_of, writable_tree

from h5fs.store.library_interface import ChangedPart, first_changed_bytes
from h5fs.store.workers.connection import WorkerConnection
from h5fs.tree import WritableTree

Array = np.ndarray[Any, Any]
COLUMNS = 8

LAYOUTS: dict[str, dict[str, Any]] = {
    "gzip": {"chunks": (64, COLUMNS), "compression": "gzip"},
    "tiles": {"chunks": (50, 3), "compression": "gzip", "shuffle": True},
    "single rows": {"chunks": (1, 5), "compression": "lzf"},
    "whole numbers": {"chunks": (64, COLUMNS), "scaleoffset": 0},
    "unfiltered": {"chunks": (100, COLUMNS)},
    "larger than the array": {"chunks": (5000, COLUMNS), "compression": "gzip"},
    "contiguous": {},
    "compact": {"compact": True},
}


def make_file(path: Path, rows: int) -> dict[str, Array]:
    """Make a dataset of each layout; those that are chunked may grow."""
    model = {}
    with h5py.File(path, "w") as opened:
        for number, (name, layout) in enumerate(LAYOUTS.items()):
            how = dict(layout)
            count = min(rows, 200) if how.pop("compact", False) else rows
            data = (np.arange(count * COLUMNS, dtype="<i8") * (number + 1)).reshape(-1, COLUMNS)
            if name == "compact":
                creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                creation.set_layout(h5py.h5d.COMPACT)
                space = h5py.h5s.create_simple(data.shape)
                made = h5py.h5d.create(opened.id, b"compact", h5py.h5t.STD_I64LE, space, creation)
                made.write(h5py.h5s.ALL, h5py.h5s.ALL, data)
            else:
                limits = {"maxshape": (None, COLUMNS)} if "chunks" in how else {}
                opened.create_dataset(name, data=data, **how, **limits)
            model[name] = data
    return model


def header_of(shape: tuple[int, ...]) -> bytes:
    text = io.BytesIO()
    fields = {"descr": "<i8", "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(text, fields)
    return text.getvalue()


def resize(tree: WritableTree, name: str, array: Array, rows: Array, count: int) -> Array:
    """Cut an array to some rows, append others, and write the header anew; return what it is."""
    handle = tree.open(f"/{name}.npy".encode(), os.O_RDWR, 1)
    kept, start = array[:count], len(header_of(array.shape))
    if count < len(array):
        tree.truncate(None, start + kept.nbytes, handle)
    expected = np.concatenate([kept, rows])
    tree.write(handle, memoryview(header_of(expected.shape)), 0)
    if rows.size:
        tree.write(handle, memoryview(rows.tobytes()), start + kept.nbytes)
    tree.flush(handle, 1)
    tree.release(handle)
    return expected


def read_part(tree: WritableTree, name: str, size: int, offset: int) -> bytes:
    handle = tree.open(f"/{name}.npy".encode(), os.O_RDONLY, 1)
    try:
        return tree.read(handle, size, offset)
    finally:
        tree.release(handle)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return what counts chunks that were asked for, and lists of chunks.

    What is read ahead does not count: it comes when workers have time.
    """
    counted: Counter[str] = Counter()
    call, reader = WorkerConnection.call, threading.get_ident()

    def call_and_count(self: Any, method: str, *arguments: Any, **how: Any) -> Any:
        if threading.get_ident() == reader:
            if method == "decode_chunks":
                counted["chunks"] += len(arguments[0][0].tasks)
            counted[method] += 1
        return call(self, method, *arguments, **how)

    monkeypatch.setattr(WorkerConnection, "call", call_and_count)
    return counted


@pytest.mark.semantics("R26")
@pytest.mark.parametrize("rows", [1000, 200_000])
def test_what_lies_before_appended_rows_is_not_decoded_again(
    tmp_path: Path, decoded: Counter[str], rows: int
) -> None:
    array = np.arange(rows * COLUMNS, dtype="<i8").reshape(-1, COLUMNS)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset(
            "d", data=array, chunks=(64, COLUMNS), maxshape=(None, COLUMNS), compression="gzip"
        )
    with writable_tree(tmp_path / "f.h5") as tree:
        for _ in range(4):  # a block that has grown has room to grow again
            array = resize(tree, "d", array, array[:10], len(array))
            assert read_part(tree, "d", 2**15, 0) == npy_bytes(array)[: 2**15]
        for number in range(4):
            decoded.clear()
            array = resize(tree, "d", array, array[:10] + number, len(array))
            content = npy_bytes(array)
            assert read_part(tree, "d", 2**15, 0) == content[: 2**15]
            assert (decoded["chunks"], decoded["index_chunks"]) == (0, 0)
            assert read_part(tree, "d", 1000, len(content) - 1000) == content[-1000:]
            assert 0 < decoded["chunks"] <= 2  # the one that had the last rows, and a new one


@pytest.mark.semantics("R26", "D2")
def test_bands_larger_than_memory_that_lie_before_appended_rows_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks: list[int] = []
    call = WorkerConnection.call

    def call_and_note(self: Any, method: str, *arguments: Any, **how: Any) -> Any:
        if method == "decode_chunks":
            chunks.extend(task.number for task in arguments[0][0].tasks)
        return call(self, method, *arguments, **how)

    monkeypatch.setattr(WorkerConnection, "call", call_and_note)
    array = np.arange(100_000 * COLUMNS, dtype="<i8").reshape(-1, COLUMNS)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset(
            "d", data=array, chunks=(40_000, 3), maxshape=(None, COLUMNS), compression="gzip"
        )
    with writable_tree(tmp_path / "f.h5", cache_bytes=2**20) as tree:
        assert read(tree, b"/d.npy") == npy_bytes(array)
        assert sorted(chunks) == list(range(9))
        for number in range(3):  # of three bands the last is not whole
            array = resize(tree, "d", array, array[:10] + number, len(array))
            content = npy_bytes(array)
            chunks.clear()
            assert read(tree, b"/d.npy") == content
            assert sorted(chunks) == [6, 7, 8]


@pytest.mark.semantics("R26")
def test_what_lies_before_an_element_written_in_place_is_not_decoded_again(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    array = np.arange(1000 * COLUMNS, dtype="<i8").reshape(-1, COLUMNS)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("d", data=array, chunks=(100, COLUMNS), compression="gzip")
    with writable_tree(tmp_path / "f.h5") as tree:
        assert read(tree, b"/d.npy") == npy_bytes(array)
        decoded.clear()
        array[750, 3] = 5
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        tree.write(handle, memoryview(array[750, 3:4].tobytes()), 128 + 8 * (750 * COLUMNS + 3))
        tree.release(handle)
        assert read(tree, b"/d.npy") == npy_bytes(array)
    assert decoded["chunks"] == 3  # 7, 8 and 9


@pytest.mark.semantics("R7", "R26")
@pytest.mark.parametrize("seed", range(6))
def test_arrays_that_change_in_part_are_read_as_they_are(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    model = make_file(tmp_path / "f.h5", rng.choice([1, 63, 64, 1000, 9000]))
    cache_bytes = rng.choice([2**16, 2**20, 2**28])  # blocks of another size
    with writable_tree(tmp_path / "f.h5", cache_bytes=cache_bytes) as tree:
        for _ in range(40):
            name = rng.choice(list(LAYOUTS))
            array, kind = model[name], rng.randrange(10)
            most = 200 if name == "compact" else 2000
            if kind < 4:
                rows = np.full((rng.randrange(most), COLUMNS), rng.randrange(10**6), "<i8")
                model[name] = resize(
                    tree, name, array, rows[: rng.choice([1, 100, most])], len(array)
                )
            elif kind == 4:
                rows = np.full((rng.randrange(3), COLUMNS), 7, "<i8")
                model[name] = resize(tree, name, array, rows, rng.randrange(len(array) + 1))
            elif kind < 7 and array.size:
                first = rng.randrange(array.size)
                flat = array.reshape(-1).copy()
                flat[first : first + rng.choice([1, 30, 3000])] = rng.randrange(10**6)
                model[name] = flat.reshape(array.shape)
                part = flat[first : first + 3000]
                handle = tree.open(f"/{name}.npy".encode(), os.O_RDWR, 1)
                tree.write(handle, memoryview(part.tobytes()), 128 + 8 * first)
                tree.flush(handle, 1)
                tree.release(handle)
            elif kind == 7 and seed % 2:
                kill_worker(tree)
            content = npy_bytes(model[name])
            at, size = rng.randrange(len(content)), rng.choice([1, 5000, 2**17])
            assert read_part(tree, name, size, at) == content[at : at + size]
            if rng.random() < 0.4:
                assert read(tree, f"/{name}.npy".encode()) == content
        assert store_of(tree).statistics().quarantined == ()
        for name, array in model.items():
            assert read(tree, f"/{name}.npy".encode()) == npy_bytes(array)
    with h5py.File(tmp_path / "f.h5") as opened:
        for name, array in model.items():
            assert opened[name].shape == array.shape
            assert (opened[name][()] == array).all()


def test_of_several_changes_of_an_object_the_first_byte_counts() -> None:
    changed = (ChangedPart(8, 100), 16, ChangedPart(8, 40), ChangedPart(16, 9), ChangedPart(24, 1))
    assert first_changed_bytes(changed) == {8: 40, 16: 0, 24: 1}
