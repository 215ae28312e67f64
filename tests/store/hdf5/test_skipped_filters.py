"""Chunks of which a filter is skipped, since it makes them no smaller: the mask is the data's.

Where a chunk is written anew in as many bytes, the HDF5 library (2.0) keeps the mask of before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

Array = np.ndarray[Any, Any]

_SZIP: dict[str, Any] = {"compression": "szip", "compression_opts": ("nn", 8)}


def mask_and_size(file: Path) -> tuple[int, int]:
    with h5py.File(file) as opened:
        info = opened["d"].id.get_chunk_info(0)
        return info.filter_mask, info.size


def make(file: Path, data: Array, **how: Any) -> None:
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=data, maxshape=(None,), **{"chunks": data.shape, **how})


def just_as_long(file: Path) -> Array:
    """Return a chunk that SZIP makes neither shorter nor longer."""
    random = np.random.default_rng(0)
    for number in range(2000):
        data = np.zeros((8, 8), "<f4")
        data[:, : 4 + number % 4] = random.random((8, 4 + number % 4)) * 10
        make(file, data.reshape(-1), **_SZIP)
        if mask_and_size(file) == (0, data.nbytes):
            return data.reshape(-1)
    raise AssertionError("no such chunk")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Array, Array]:
    """Two chunks that take as many bytes with SZIP, one of them as it is."""
    noise = np.frombuffer(np.random.default_rng(1).bytes(256), "<u4") >> 2  # no NaN
    return just_as_long(tmp_path / "of one length.h5"), noise.view("<f4")


@pytest.mark.semantics("R6")
@pytest.mark.parametrize("way", ["anew", "in place", "appended"])
@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("more", [{}, {"fletcher32": True}, {"shuffle": True, "chunks": (80,)}])
def test_a_chunk_of_the_same_length_is_read_as_it_was_written(
    tmp_path: Path, two: tuple[Array, Array], way: str, is_turned: bool, more: dict[str, Any]
) -> None:
    file, (before, after) = tmp_path / "f.h5", two[::-1] if is_turned else two
    make(file, before, **_SZIP, **more)
    with h5py.File(file) as opened:
        address = h5py.h5o.get_info(opened["d"].id).addr
    content = npy_bytes(after)
    if way == "appended":
        after = np.concatenate([after, np.arange(9, dtype="<f4")])
        content = npy_bytes(after)
    with writable_tree(file) as tree:
        if way == "anew":
            save(tree, b"/d.npy", content)
        else:
            handle = tree.open(b"/d.npy", os.O_RDWR, 1)
            tree.write(handle, memoryview(content), 0)
            tree.flush(handle, 1)
            tree.release(handle)
        assert read(tree, b"/d.npy") == content
    with h5py.File(file) as opened:
        assert opened["d"][()].tobytes() == after.tobytes()
        assert h5py.h5o.get_info(opened["d"].id).addr == address


@pytest.mark.semantics("R6")
def test_a_part_of_a_chunk_whose_filter_was_skipped_is_written(
    tmp_path: Path, two: tuple[Array, Array]
) -> None:
    file, (compressed, noise) = tmp_path / "f.h5", two
    make(file, noise, **_SZIP)
    assert mask_and_size(file) == (1, noise.nbytes)
    data = noise.copy()
    with writable_tree(file) as tree:
        start = len(npy_bytes(data)) - data.nbytes
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        for low in range(0, 64, 9):  # at its end the chunk is the one that is compressed
            data[low : low + 9] = compressed[low : low + 9]
            tree.write(handle, memoryview(data[low : low + 9].tobytes()), start + 4 * low)
            assert read(tree, b"/d.npy") == npy_bytes(data)
        tree.release(handle)
    assert mask_and_size(file) == (0, data.nbytes)
    with h5py.File(file) as opened:
        assert (opened["d"][()] == compressed).all()
