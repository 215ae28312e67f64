"""Files that are removed while something of them waits, or is being written: without a mount."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import names, read, save, writable_tree

REFERS = b"""{"r": "/nowhere", "$types": {"r": {"class": "H5T_REFERENCE",
    "base": "H5T_STD_REF_OBJ"}}}"""
NINE = npy_bytes(np.arange(9.0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        sequences = opened.create_dataset("q", (2,), h5py.vlen_dtype("f8"))
        sequences[0], sequences[1] = [1, 2], [3]
        opened["d"] = np.arange(3)
        opened["d"].attrs["old"] = 1
    return path


@pytest.mark.semantics("R12", "R20")
@pytest.mark.parametrize("first", [b"/q.values.npy", b"/q.offsets.npy"])
@pytest.mark.parametrize("way", ["save", "rename"])
def test_a_pair_is_gone_of_which_one_file_waits_for_the_other(
    file: Path, first: bytes, way: str
) -> None:
    pair = {b"/q.values.npy", b"/q.offsets.npy"}
    with writable_tree(file) as tree:
        if way == "save":
            save(tree, b"/q.values.npy", NINE)  # which the offsets do not fit
        else:
            save(tree, b"/.new", NINE)
            tree.rename(b"/.new", b"/q.values.npy")
        tree.unlink(first)
        assert names(tree) & {b"q.values.npy", b"q.offsets.npy"} == {
            each[1:] for each in pair - {first}
        }
        (second,) = pair - {first}
        tree.unlink(second)
        assert names(tree) == {b"d.npy", b"d.attrs.json"}
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R12", "R20")
@pytest.mark.parametrize("is_written_before", [False, True])
def test_a_file_of_a_pair_that_is_removed_does_not_come_back_with_its_close(
    file: Path, is_written_before: bool
) -> None:
    with writable_tree(file) as tree:
        handle = tree.open(b"/q.values.npy", os.O_RDWR, 1)
        for is_before in (True, False):
            if is_before == is_written_before:
                tree.truncate(None, 0, handle)
                tree.write(handle, memoryview(NINE), 0)
            if is_before:
                tree.unlink(b"/q.values.npy")
        tree.flush(handle, 1)
        tree.release(handle)
        assert names(tree) == {b"q.offsets.npy", b"d.npy", b"d.attrs.json"}
        tree.unlink(b"/q.offsets.npy")
        assert names(tree) == {b"d.npy", b"d.attrs.json"}
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R11")
def test_attributes_are_gone_of_which_others_wait(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", REFERS)
        assert read(tree, b"/d.attrs.json") == REFERS
        tree.unlink(b"/d.attrs.json")
        assert b"d.attrs.json" not in names(tree)
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {}


@pytest.mark.semantics("R11", "R14")
@pytest.mark.parametrize("new", [b"/e.attrs.json", b"/z.attrs.json"])
def test_attributes_are_gone_of_which_others_wait_that_are_renamed(file: Path, new: bytes) -> None:
    with h5py.File(file, "r+") as opened:
        opened["e"] = np.arange(3)
        opened["e"].attrs["x"] = 5
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", REFERS)
        tree.rename(b"/d.attrs.json", new)
        assert b"d.attrs.json" not in names(tree)
        assert read(tree, new) == REFERS
        tree.unlink(new)
        assert new[1:] not in names(tree)
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {}
        assert dict(opened["e"].attrs) == ({} if new == b"/e.attrs.json" else {"x": 5})


@pytest.mark.semantics("R11", "R17")
@pytest.mark.parametrize("end", ["back", "removed", "replaced"])
def test_attributes_that_wait_have_a_temporary_name(file: Path, end: str) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", REFERS)
        tree.rename(b"/d.attrs.json", b"/d.attrs.json~")
        assert names(tree) & {b"d.attrs.json", b"d.attrs.json~"} == {b"d.attrs.json~"}
        if end == "back":
            tree.rename(b"/d.attrs.json~", b"/d.attrs.json")
            assert read(tree, b"/d.attrs.json") == REFERS
            tree.unlink(b"/d.attrs.json")
        elif end == "replaced":
            save(tree, b"/d.attrs.json", b'{"b": 2}')
        if end != "back":
            tree.unlink(b"/d.attrs.json~")
        assert (b"d.attrs.json" in names(tree)) is (end == "replaced")
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == ({"b": 2} if end == "replaced" else {})


@pytest.mark.semantics("R11", "R14")
def test_attributes_are_gone_of_which_others_wait_whose_object_was_renamed(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", REFERS)
        tree.rename(b"/d.npy", b"/e.npy")
        assert read(tree, b"/e.attrs.json") == REFERS
        tree.unlink(b"/e.attrs.json")
        assert b"e.attrs.json" not in names(tree)
    with h5py.File(file) as opened:
        assert dict(opened["e"].attrs) == {}


@pytest.mark.semantics("R12", "R14")
@pytest.mark.parametrize("new", [b"/r.values.npy", b"/q.values.npy~"])
def test_a_file_of_a_pair_that_waits_and_is_renamed_shows_nothing_in_its_place(
    file: Path, new: bytes
) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/q.values.npy", NINE)  # which the offsets do not fit
        tree.rename(b"/q.values.npy", new)
        assert names(tree) == {new[1:], b"q.offsets.npy", b"d.npy", b"d.attrs.json"}
        assert read(tree, new) == NINE
        tree.unlink(new)
        tree.unlink(b"/q.offsets.npy")
    with h5py.File(file) as opened:
        assert set(opened) == {"d"}


@pytest.mark.semantics("R12")
@pytest.mark.parametrize("kind", [b"values", b"offsets"])
def test_a_rename_of_one_file_of_a_pair_takes_the_other_along(file: Path, kind: bytes) -> None:
    with writable_tree(file) as tree:
        tree.rename(b"/q.%s.npy" % kind, b"/r.%s.npy" % kind)
        assert names(tree) == {b"r.values.npy", b"r.offsets.npy", b"d.npy", b"d.attrs.json"}
    with h5py.File(file) as opened:
        assert [list(each) for each in opened["r"][()]] == [[1, 2], [3]]
        assert "q" not in opened
