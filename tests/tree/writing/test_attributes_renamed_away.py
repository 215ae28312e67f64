"""Attributes that were renamed to a temporary name, and objects that take their object's place."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

pytestmark = pytest.mark.semantics("R14")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        for name in "ab":
            opened[name] = np.arange(3)
            opened[name].attrs["of"] = name
    return file


@pytest.mark.parametrize("way", ["rename", "remove and rename", "remove and link"])
def test_an_object_that_takes_the_place_of_one_keeps_its_own_attributes(
    file: Path, way: str
) -> None:
    with writable_tree(file) as tree:
        tree.rename(b"/a.attrs.json", b"/a.attrs.json~")
        if way != "rename":
            tree.unlink(b"/a.npy")
        if way == "remove and link":
            tree.make_hard_link(b"/b.npy", b"/a.npy")
        else:
            tree.rename(b"/b.npy", b"/a.npy")
        assert b'"of": "b"' in read(tree, b"/a.attrs.json")
        tree.unlink(b"/a.attrs.json~")
    with h5py.File(file) as opened:
        assert dict(opened["a"].attrs) == {"of": "b"}


@pytest.mark.semantics("R28")
def test_what_lies_in_another_file_is_made_anew_in_this_one(tmp_path: Path) -> None:
    file, raw = tmp_path / "f.h5", tmp_path / "raw"
    with h5py.File(file, "w") as opened:
        segments = [(str(raw), 0, h5py.h5f.UNLIMITED)]
        outside = opened.create_dataset("d", (3,), "<i4", external=segments)
        outside[:] = [1, 2, 3]
        outside.attrs["kept"] = 1
    before = raw.read_bytes()
    with writable_tree(file) as tree:
        tree.unlink(b"/d.npy", 1)
        save(tree, b"/d.npy", npy_bytes(np.array([4, 5, 6], "<i4")))
    with h5py.File(file) as opened:
        assert opened["d"][()].tolist() == [4, 5, 6]
        assert opened["d"].external is None
        assert dict(opened["d"].attrs) == {"kept": 1}
    assert raw.read_bytes() == before
