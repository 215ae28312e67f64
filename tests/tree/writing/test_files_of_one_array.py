"""One array open to write by several names at once, when one of the files is committed."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import read, read_handle, save, writable_tree

from h5fs.errors import EmptiedError

OLD = npy_bytes(np.arange(12.0))
LONGER = npy_bytes(np.arange(20.0) + 2)
OTHER_RANK = npy_bytes(np.arange(12.0).reshape(3, 4) + 3)
OTHER = npy_bytes(np.arange(5, dtype=">i2"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = np.arange(12.0)
        opened["e"] = np.arange(3)
    return path


@pytest.mark.semantics("R8", "R17")
@pytest.mark.parametrize("data", [LONGER, OTHER])
def test_a_refused_draft_of_a_temporary_name_leaves_what_the_other_name_has_brought(
    file: Path, data: bytes
) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/.t")
        handle = tree.open(b"/.t", os.O_RDWR | os.O_TRUNC, 1)
        save(tree, b"/d.npy", data)
        with pytest.raises(EmptiedError):
            tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/.t") == read(tree, b"/d.npy") == data
        tree.unlink(b"/.t")


@pytest.mark.semantics("R17", "R20")
@pytest.mark.parametrize("data", [LONGER, OTHER])
def test_who_has_an_array_open_goes_on_when_another_array_takes_one_of_its_names(
    file: Path, data: bytes
) -> None:
    with writable_tree(file) as tree:
        tree.make_hard_link(b"/d.npy", b"/k.npy")
        tree.make_hard_link(b"/d.npy", b"/.t")
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        tree.rename(b"/e.npy", b"/e.npy~")
        tree.rename(b"/e.npy~", b"/k.npy")
        save(tree, b"/.t", data)
        assert read_handle(tree, handle) == data
        tree.write(handle, memoryview(b"\7"), len(data) - 1)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == read(tree, b"/.t") == data[:-1] + b"\7"
        tree.unlink(b"/.t")


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("data", [LONGER, OTHER])
@pytest.mark.parametrize("gone", [b"/d.npy", b"/.t"])
@pytest.mark.parametrize("by", [b"/k.npy", b"/d.npy~"])
@pytest.mark.parametrize("has_draft", [False, True])
def test_who_has_an_array_open_whose_name_is_gone_goes_on_with_what_another_name_has_brought(
    file: Path, data: bytes, gone: bytes, by: bytes, has_draft: bool
) -> None:
    """Elements in place are those of the new array; a draft takes its place when it is closed."""
    with writable_tree(file) as tree:
        for name in (b"/k.npy", b"/.t", b"/d.npy~"):
            tree.make_hard_link(b"/d.npy", name)
        handle = tree.open(gone, os.O_RDWR, 1)
        tree.unlink(gone)
        mine = npy_bytes(np.append(np.arange(12.0), [7.0]))
        if has_draft:
            tree.write(handle, memoryview(mine[-8:]), len(mine) - 8)
        save(tree, by, data)
        if has_draft:
            tree.write(handle, memoryview(mine[:128]), 0)
        else:
            assert read_handle(tree, handle) == data
            tree.write(handle, memoryview(b"\7"), len(data) - 1)
        tree.flush(handle, 1)
        tree.release(handle)
        expected = mine if has_draft else data[:-1] + b"\7"
        for name in {b"/d.npy", b"/k.npy", b"/.t", b"/d.npy~"} - {gone}:
            assert read(tree, name) == expected
        for name in {b"/.t", b"/d.npy~"} - {gone}:
            tree.unlink(name)
    with h5py.File(file) as opened:
        assert npy_bytes(opened["k"][()]) == expected


@pytest.mark.semantics("R4", "R17")
@pytest.mark.parametrize("data", [LONGER, OTHER])
def test_all_names_lead_to_what_is_closed_last_by_files_of_which_one_got_its_name_back(
    file: Path, data: bytes
) -> None:
    with writable_tree(file) as tree:
        for name in (b"/k.npy", b"/.t", b"/d.npy~"):
            tree.make_hard_link(b"/d.npy", name)
        first = tree.open(b"/d.npy", os.O_RDWR | os.O_TRUNC, 1)
        tree.write(first, memoryview(data), 0)
        second = tree.open(b"/d.npy~", os.O_RDWR, 2)
        tree.rename(b"/d.npy~", b"/e.npy")
        tree.truncate(None, 0, second)
        tree.write(second, memoryview(OTHER_RANK), 0)
        for handle, expected in ((second, OTHER_RANK), (first, data)):
            tree.flush(handle, 1)
            tree.release(handle)
            for name in (b"/d.npy", b"/e.npy", b"/k.npy", b"/.t"):
                assert read(tree, name) == expected
                assert tree.get_status(name).hard_link_count == 4
        tree.unlink(b"/.t")
    with h5py.File(file) as opened:
        assert opened["d"] == opened["e"] == opened["k"]
