"""Data that are read while the file is written, by every way, beside what was written."""

from __future__ import annotations

import io
import os
import random
import threading
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import kill, kill_worker, read, save, store_of, writable_tree
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import UnreadableError
from h5fs.model.settings import NewDatasets
from h5fs.store.worker_stores import logged_worker_store
from h5fs.tree import WritableTree

ROWS, COLUMNS = 60, 50
NAMES = ("plain", "gzip", "chunks", "big endian")


def make_file(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    model = {}
    with h5py.File(path, "w", libver="latest") as opened:
        for index, name in enumerate(NAMES):
            dtype = ">i4" if name == "big endian" else "<i4"
            data = (np.arange(ROWS * COLUMNS) * (index + 1)).reshape(ROWS, COLUMNS).astype(dtype)
            how: dict[str, Any] = {}
            if name in ("gzip", "chunks", "big endian"):
                how = {"chunks": (7, 20), "maxshape": (None, COLUMNS)}
            if name in ("gzip", "big endian"):
                how |= {"compression": "gzip", "shuffle": True}
            opened.create_dataset(name, data=data, **how)
            model[name] = data
    return model


def pieces_of(tree: WritableTree, name: str, rng: random.Random) -> bytes:
    """Read a file piece by piece, of random sizes, some pieces twice."""
    handle = tree.open(f"/{name}.npy".encode(), os.O_RDONLY, 1)
    try:
        found = bytearray()
        while True:
            buffer = bytearray(rng.choice([13, 700, 4096, 20_000]))
            count = tree.read_into(handle, memoryview(buffer), len(found))
            again = bytearray(len(buffer))
            assert tree.read_into(handle, memoryview(again), len(found)) == count
            assert again == buffer
            found += buffer[:count]
            if count < len(buffer):
                return bytes(found)
    finally:
        tree.release(handle)


def write_within(tree: WritableTree, name: str, data: np.ndarray[Any, Any], at: int) -> None:
    """Write ``data`` as elements from number ``at`` on, in place."""
    path = f"/{name}.npy".encode()
    start = len(read(tree, path)) - ROWS_OF[name] * COLUMNS * 4
    handle = tree.open(path, os.O_RDWR, 1)
    try:
        tree.write(handle, memoryview(data.tobytes()), start + at * 4)
        tree.flush(handle, 1)
    finally:
        tree.release(handle)


ROWS_OF: dict[str, int] = {}
KINDS = "within within grow replace gone checkpoint commit writer readers move".split()


def change(tree: WritableTree, model: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(sorted(model))
    path = f"/{name}.npy".encode()
    data = model[name]
    ROWS_OF[name] = len(data)
    kind = rng.choice(KINDS)
    if kind == "within":
        at, count = rng.randrange(data.size - 40), rng.randrange(1, 40)
        new = np.array([rng.randrange(2**30) for _ in range(count)], data.dtype)
        write_within(tree, name, new, at)
        data = data.copy()
        data.reshape(-1)[at : at + count] = new
    elif kind in ("grow", "replace"):
        rows = rng.randrange(1, 2 * ROWS)
        data = np.resize(data, (rows, COLUMNS)) + np.array(rng.randrange(100), data.dtype)
        data = data.astype(model[name].dtype)
        save(tree, path, npy_bytes(data))
    elif kind == "gone":  # another object comes, perhaps at the same address
        tree.unlink(path)
        data = np.full((rng.randrange(1, ROWS), COLUMNS), rng.randrange(1000), "<i4")
        save(tree, path, npy_bytes(data))
    elif kind == "move":
        other = name + "x" if len(name) < 20 else name[:4]
        if other not in model:
            tree.rename(path, f"/{other}.npy".encode())
            del model[name]
            name = other
    elif kind == "checkpoint":
        store_of(tree)._shorten_log(0)
    elif kind == "commit":
        store_of(tree).commit()
    elif kind == "writer":
        kill_worker(tree)
    else:
        for pid in store_of(tree)._readers.worker_pids():
            kill(pid)
    model[name] = data


@pytest.mark.semantics("D1", "R2", "R6", "R26")
@pytest.mark.parametrize("seed", range(4))
def test_every_way_reads_what_was_written_last(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    model: dict[str, Any] = make_file(tmp_path / "f.h5")
    with writable_tree(tmp_path / "f.h5", cache_bytes=2**16 if seed % 2 else 2**24) as tree:
        for _ in range(40):
            change(tree, model, rng)
            for name, data in model.items():
                assert pieces_of(tree, name, rng) == npy_bytes(data), name
        assert store_of(tree)._readers.worker_pids()  # they have taken part
    with h5py.File(tmp_path / "f.h5") as opened:
        assert sorted(opened) == sorted(model)
        for name, data in model.items():
            assert np.array_equal(opened[name][()], data)


@pytest.mark.semantics("D1", "R6", "R26")
@pytest.mark.parametrize("how", [{}, {"chunks": (500,), "compression": "gzip"}])
def test_a_read_beside_writes_and_checkpoints_never_mixes_two_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    monkeypatch.setattr(logged_worker_store, "_MOST_LOG_BYTES", 2**16)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("d", data=np.zeros(4000, "<i4"), **how)
        opened.create_dataset("e", data=np.full(4000, -1, "<i4"), **how)
    start = len(npy_bytes(np.zeros(4000, "<i4"))) - 16_000
    with writable_tree(tmp_path / "f.h5") as tree:
        store = store_of(tree)
        target = store.get_link(store.root().ref, b"d").target
        assert target is not None
        problems, reads, done = list[object](), [0], threading.Event()

        def look() -> None:
            last = 0
            try:
                while not done.is_set():
                    handle = tree.open(b"/d.npy", os.O_RDONLY, 1)
                    buffer = bytearray(16_000)
                    assert tree.read_into(handle, memoryview(buffer), start) == 16_000
                    tree.release(handle)
                    found = set(np.frombuffer(buffer, "<i4").tolist())
                    assert len(found) == 1 and min(found) >= last, (found, last)
                    last = min(found)
                    reads[0] += 1
                    assert set(np.frombuffer(read(tree, b"/e.npy")[start:], "<i4")) == {-1}
            except BaseException as error:
                problems.append(error)

        readers = [threading.Thread(target=look) for _ in range(2)]
        for reader in readers:
            reader.start()
        number = 0
        while number < 60 or (reads[0] < 6 and not problems and number < 3000):
            number += 1
            store.write_elements(target.ref, 0, np.full(4000, number, "<i4").tobytes())
            if number % 10 == 0:  # removed space is used anew
                save(tree, b"/t.npy", npy_bytes(np.full(3000, number, "<i4")))
                tree.unlink(b"/t.npy")
            if number == 30:
                kill_worker(tree)
        done.set()
        for reader in readers:
            reader.join(PATIENCE_SECONDS)
        assert not problems, problems[0]
        assert reads[0] >= 6
        assert set(np.frombuffer(read(tree, b"/d.npy")[start:], "<i4")) == {number}


@pytest.mark.semantics("D13")
def test_a_chunk_that_inflates_to_too_few_bytes_is_an_error_while_the_file_is_written(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        how: dict[str, Any] = {"chunks": (1024,), "compression": "gzip"}
        dataset = opened.create_dataset("d", data=np.full(1598, 7, "u1"), **how)
        dataset.id.write_direct_chunk((1024,), zlib.compress(bytes(100)))
    with writable_tree(tmp_path / "f.h5") as tree:
        for number in range(2):
            with pytest.raises(UnreadableError, match="/d"):
                read(tree, b"/d.npy")
            tree.make_folder(b"/g%d" % number)  # another commit
        handle = tree.open(b"/d.npy", os.O_RDONLY, 1)
        buffer = bytearray(1152)  # the header and the first chunk
        assert tree.read_into(handle, memoryview(buffer), 0) == 1152
        tree.release(handle)
        assert buffer[128:] == bytes([7]) * 1024


@pytest.mark.semantics("D2", "R26")
def test_what_no_change_touched_is_not_decoded_again(tmp_path: Path) -> None:
    data = np.arange(50_000, dtype="<i4")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("d", data=data, chunks=(5000,), compression="gzip")
    with writable_tree(tmp_path / "f.h5") as tree:
        assert read(tree, b"/d.npy") == npy_bytes(data)
        before = store_of(tree).statistics().cache.misses
        for number in range(5):
            save(tree, b"/other%d.npy" % number, npy_bytes(data[:100]))
            tree.rename(b"/other%d.npy" % number, b"/again.npy")
            assert read(tree, b"/d.npy") == npy_bytes(data)
        assert store_of(tree).statistics().cache.misses == before
        store_of(tree)._shorten_log(0)
        assert np.load(io.BytesIO(read(tree, b"/d.npy"))).sum() == data.sum()
        assert store_of(tree).statistics().cache.misses == before


@pytest.mark.parametrize("name", ["gzip", "new"])
def test_an_array_that_is_new_is_read_by_workers_that_had_the_file_open_before(
    tmp_path: Path, name: str
) -> None:
    model = make_file(tmp_path / "f.h5")
    options = NewDatasets(gzip_level=1)
    with writable_tree(tmp_path / "f.h5", new_datasets=options) as tree:
        for each, data in model.items():
            assert read(tree, f"/{each}.npy".encode()) == npy_bytes(data)
        # Of another rank, so that it is a new dataset also where there was one of that name.
        data = np.arange(100_000)
        save(tree, f"/{name}.npy".encode(), npy_bytes(data))
        for _ in range(2):
            assert read(tree, f"/{name}.npy".encode()) == npy_bytes(data)
