"""Large new arrays that are closed before their data come, which then are written by a map."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy_format
from support.reference import npy_bytes
from support.trees import kill_worker, killed_tree, read, store_of, writable_tree

from h5fs.store.log import system_calls
from h5fs.tree import WritableTree

Array = np.ndarray[Any, Any]
MB = 2**20
SIZE = 6 * MB
SHAPE = (SIZE // 8,)


def open_blank(tree: WritableTree, path: bytes, shape: tuple[int, ...] = SHAPE) -> tuple[int, int]:
    """Make an array as ``open_memmap`` does; return a handle, and where its data begin."""
    text = io.BytesIO()
    npy_format.write_array_header_1_0(
        text, {"descr": "<i8", "fortran_order": False, "shape": shape}
    )
    header = text.getvalue()
    handle = (
        tree.open(path, os.O_RDWR, 1) if path in known(tree) else tree.create(path, os.O_RDWR, 1)
    )
    tree.truncate(None, 0, handle)
    tree.write(handle, memoryview(header), 0)
    tree.flush(handle, 1)
    tree.write(handle, memoryview(b"\0"), len(header) + 8 * int(np.prod(shape)) - 1)
    tree.flush(handle, 1)
    return handle, len(header)


def known(tree: WritableTree) -> set[bytes]:
    return {b"/" + dentry.name for dentry in tree.list_folder(b"/")}


def map_write(tree: WritableTree, handle: int, content: bytes, start: int, size: int) -> None:
    """Write whole pages of a file, as the kernel writes them back."""
    tree.write(handle, memoryview(content)[start : start + size], start, is_page=True)


def log_bytes(tree: WritableTree) -> int:
    uncommitted = store_of(tree).statistics().uncommitted
    assert uncommitted is not None
    return int(uncommitted.log_bytes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["other"] = np.arange(10)
    return path


@pytest.mark.semantics("U17")
def test_what_is_mapped_to_a_blank_array_does_not_go_through_the_log(file: Path) -> None:
    content = npy_bytes(np.arange(SIZE // 8))
    with writable_tree(file, commit_seconds=None) as tree:
        handle, _ = open_blank(tree, b"/new.npy")
        assert read(tree, b"/new.npy") == npy_bytes(np.zeros(SIZE // 8, "<i8"))
        before = log_bytes(tree)
        for start in range(0, len(content), MB):
            map_write(tree, handle, content, start, MB)
            assert read(tree, b"/new.npy")[start : start + MB] == content[start : start + MB]
        assert log_bytes(tree) - before < SIZE // 20  # pages at the ends of requests
        assert content[MB + 8192 : 2 * MB - 8192] in file.read_bytes()  # before any checkpoint
        tree.flush(handle, 1)
        tree.fsync(handle)
        tree.release(handle)
        assert read(tree, b"/new.npy") == content
    with h5py.File(file) as opened:
        assert npy_bytes(opened["new"][()]) == content


@pytest.mark.semantics("U17", "U1")
@pytest.mark.parametrize("promise", ["fsync", "plain write"])
def test_what_is_promised_changes_through_the_log_alone(file: Path, promise: str) -> None:
    content, other = npy_bytes(np.arange(SIZE // 8)), npy_bytes(np.arange(SIZE // 8) + 7)
    with writable_tree(file, commit_seconds=None) as tree:
        handle, start = open_blank(tree, b"/new.npy")
        map_write(tree, handle, content, 0, SIZE)
        if promise == "fsync":
            tree.fsync(handle)
        else:
            tree.write(handle, memoryview(content)[start : start + 8], start)
        before = file.read_bytes()
        map_write(tree, handle, other, 0, SIZE)
        assert file.read_bytes() == before
        assert log_bytes(tree) > SIZE - MB
        tree.release(handle)
        assert read(tree, b"/new.npy")[:SIZE] == other[:SIZE]


@pytest.mark.semantics("U17")
def test_zeros_that_nobody_has_written_are_not_written(file: Path) -> None:
    with writable_tree(file, commit_seconds=None) as tree:
        used = file.stat().st_blocks
        handle, start = open_blank(tree, b"/new.npy")
        taken = 512 * (file.stat().st_blocks - used)
        assert SIZE <= taken < SIZE + MB  # room on the disk is taken all the same
        tree.release(handle)
        assert read(tree, b"/new.npy")[start:] == bytes(SIZE)


def test_a_file_system_that_cannot_make_zeros_has_them_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(system_calls, "_allocate", refuse)
    with writable_tree(file) as tree:
        handle, start = open_blank(tree, b"/new.npy")
        tree.release(handle)
        assert read(tree, b"/new.npy")[start:] == bytes(SIZE)
    with h5py.File(file) as opened:
        assert not opened["new"][()].any()


@pytest.mark.semantics("U3", "U17", "R26")
@pytest.mark.parametrize("seed", range(4))
def test_blank_arrays_hold_what_was_written_by_every_way(file: Path, seed: int) -> None:
    rng = random.Random(seed)
    model: dict[bytes, bytearray] = {}
    handles: dict[bytes, int] = {}
    with killed_tree(file) as tree:
        for _ in range(60):
            path = rng.choice([b"/a.npy", b"/b.npy", b"/c.npy"])
            if path not in model:
                count = rng.choice([2**18, 2**19, 600_000])
                handles[path], _ = open_blank(tree, path, (count,))
                model[path] = bytearray(npy_bytes(np.zeros(count, "<i8")))
                continue
            content, handle = model[path], handles[path]
            at = rng.randrange(len(content))
            match rng.randrange(10):
                case 0 | 1 | 2 | 3 | 4:
                    at = at // 4096 * 4096
                    size = min(rng.choice([4096, 2**16, 2**17, MB]), len(content) - at)
                    value = rng.randrange(256)
                    content[max(at, 128) : at + size] = bytes([value]) * (at + size - max(at, 128))
                    map_write(tree, handle, bytes(content), at, size)
                case 5 | 6:
                    at = max(at, 128)
                    data = rng.randbytes(min(rng.choice([3, 5000, 2**17]), len(content) - at))
                    content[at : at + len(data)] = data
                    tree.write(handle, memoryview(data), at)
                case 7:
                    tree.fsync(handle)
                case 8 if seed % 2:
                    kill_worker(tree)
                case 8:
                    store_of(tree)._shorten_log(0)
                case _:
                    tree.release(handles.pop(path))
                    tree.unlink(path)
                    del model[path]
                    continue
            size = rng.choice([1, 5000, 2**17])
            assert tree.read(handle, size, at) == content[at : at + size]
        for path, content in model.items():
            assert read(tree, path) == content
    with writable_tree(file) as tree:
        for path, content in model.items():
            assert read(tree, path) == content
        assert read(tree, b"/other.npy") == npy_bytes(np.arange(10))
