"""New datasets whose header leaves the library's cache before they have a name.

HDF5 2.0.0 deletes such a dataset when it is closed, after it has got a name.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

CHUNKS = 12_000  # more of the index than the library's cache has room for
OTHERS = 400


@pytest.mark.semantics("R4", "W5")
@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
def test_an_array_of_many_chunks_that_replaces_another_is_whole_after_the_next_changes(
    tmp_path: Path, libver: str
) -> None:
    file, new = tmp_path / "f.h5", npy_bytes(np.arange(2.0 * CHUNKS))
    with h5py.File(file, "w", libver=libver) as opened:
        opened.create_dataset("d", data=np.zeros(100), chunks=(2,), compression="lzf")
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", new)
        for number in range(20):
            save(tree, f"/other{number}.npy".encode(), npy_bytes(np.full(20_000, number)))
        assert read(tree, b"/d.npy") == new
    with h5py.File(file) as opened:
        assert opened["d"].chunks == (2,)
        assert npy_bytes(opened["d"][()]) == new
        for number in range(20):
            assert np.array_equal(opened[f"other{number}"], np.full(20_000, number))


@pytest.mark.semantics("R2", "W5")
@pytest.mark.parametrize("is_old", [False, True], ids=["new", "replaced"])
def test_an_array_in_a_group_with_more_names_than_the_cache_has_room_for_is_whole(
    tmp_path: Path, is_old: bool
) -> None:
    file, new = tmp_path / "f.h5", npy_bytes(np.arange(10_000.0))
    with h5py.File(file, "w", libver="earliest") as opened:
        group = opened.create_group("g")
        for number in range(10_000):
            group[f"{number:0230}"] = h5py.SoftLink("/g")
        if is_old:
            group["d"] = np.zeros(3)
    with writable_tree(file) as tree:
        save(tree, b"/g/d.npy", new)
        for number in range(20):
            save(tree, f"/other{number}.npy".encode(), npy_bytes(np.full(5000, number)))
        assert read(tree, b"/g/d.npy") == new
    with h5py.File(file) as opened:
        assert h5py.h5o.get_info(opened["g/d"].id).rc == 1
        assert npy_bytes(opened["g/d"][()]) == new
        for number in range(20):
            assert np.array_equal(opened[f"other{number}"], np.full(5000, number))


@pytest.mark.semantics("R24", "W5")
def test_a_large_array_that_is_written_beside_other_changes_keeps_its_place(
    tmp_path: Path,
) -> None:
    file, large = tmp_path / "f.h5", npy_bytes(np.arange(2.0**18))
    with h5py.File(file, "w") as opened:
        for number in range(OTHERS):
            opened.create_group(f"group{number}").attrs["text"] = "x" * 1000
    with writable_tree(file) as tree:
        handle = tree.create(b"/large.npy", os.O_WRONLY, 1)
        half = len(large) // 2
        tree.write(handle, memoryview(large[:half]), 0)
        for number in range(OTHERS):
            save(tree, f"/group{number}/a.npy".encode(), npy_bytes(np.full(10, number)))
        tree.write(handle, memoryview(large[half:]), half)
        tree.flush(handle, 1)
        tree.release(handle)
        for number in range(20):
            save(tree, f"/other{number}.npy".encode(), npy_bytes(np.full(20_000, number)))
        assert read(tree, b"/large.npy") == large
    with h5py.File(file) as opened:
        assert npy_bytes(opened["large"][()]) == large
        for number in range(20):
            assert np.array_equal(opened[f"other{number}"], np.full(20_000, number))


@pytest.mark.semantics("R8", "W5")
def test_a_large_array_that_is_given_up_takes_no_space_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["d"] = np.zeros(3)
    with writable_tree(file) as tree:
        for number in range(5):
            name = f"/large{number}.npy".encode()
            handle = tree.create(name, os.O_WRONLY, 1)
            tree.write(handle, memoryview(npy_bytes(np.arange(2.0**18))[:-8]), 0)
            tree.release(handle)
            tree.unlink(name, 1)
        save(tree, b"/d.npy", npy_bytes(np.arange(2.0**17)))
    assert file.stat().st_size < 6 * 2**20
    with h5py.File(file) as opened:
        assert np.array_equal(opened["d"], np.arange(2.0**17))
