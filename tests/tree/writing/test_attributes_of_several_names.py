"""Attributes of objects with several hard links, of which one is removed with its files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5o
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

from h5fs.errors import NotFoundError

pytestmark = pytest.mark.semantics("R11")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", track_order=True) as opened:
        kept = opened.create_dataset("a", data=np.arange(3), track_order=True)
        pair = opened.create_dataset("v", (1,), h5py.vlen_dtype("<i4"), track_order=True)
        opened["t"] = np.dtype("<i4")
        backup = opened.create_group("backup")
        for name, each in (("a", kept), ("v", pair), ("t", opened["t"])):
            each.attrs["units"], each.attrs["also"] = "m", h5py.Empty("f4")
            each.attrs["leads"] = pair.ref
            backup[name] = each
    return file


def attributes(file: Path, name: str) -> list[str]:
    with h5py.File(file) as opened:
        assert h5o.get_info(opened[name].id).rc == 1
        found = opened[name].attrs
        if "units" in found:
            assert found["units"] == "m"
            assert isinstance(found["also"], h5py.Empty)
            assert opened[found["leads"]].name == "/v"
        return list(found)


@pytest.mark.parametrize("files", ["first", "last"])
def test_a_folder_of_hard_links_that_is_removed_takes_no_attributes_from_other_names(
    file: Path, files: str
) -> None:
    with writable_tree(file) as tree:
        names = [each.name for each in tree.list_folder(b"/backup")]
        names.sort(key=lambda name: name.endswith(b".attrs.json") is (files == "last"))
        for name in names:
            with suppress(NotFoundError):  # attributes that went with their object
                tree.unlink(b"/backup/" + name, os.getpid())
        tree.remove_folder(b"/backup")
        assert b'"units": "m"' in read(tree, b"/a.attrs.json")
    for name in "av":
        assert attributes(file, name) == ["units", "also", "leads"]
    assert attributes(file, "t") == ["also", "leads", "units"]  # keeps no order of creation


def test_what_is_removed_or_written_by_another_name_is_not_brought_back(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/backup/a.attrs.json")
        save(tree, b"/a.attrs.json", b'{"new": 1}')
        tree.unlink(b"/backup/a.npy")
        tree.unlink(b"/backup/t.attrs.json")
        tree.unlink(b"/backup/t.dtype.json")
        tree.unlink(b"/t.attrs.json")
    assert attributes(file, "a") == ["new"]
    assert attributes(file, "t") == []


def test_another_object_of_the_name_gets_no_attributes(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/backup/a.attrs.json", 1)
        save(tree, b"/other.npy", npy_bytes(np.arange(5)))
        tree.make_hard_link(b"/other.npy", b"/more.npy")
        tree.rename(b"/other.npy", b"/backup/a.npy")
        tree.unlink(b"/backup/a.npy", 1)
    assert attributes(file, "more") == []
    assert attributes(file, "a") == []


def test_attributes_that_another_program_has_removed_do_not_come_back_with_a_name(
    file: Path,
) -> None:
    with writable_tree(file) as tree:
        tree.unlink(b"/backup/a.attrs.json", os.getpid())
        tree.unlink(b"/backup/a.npy", os.getppid())
    assert attributes(file, "a") == []
