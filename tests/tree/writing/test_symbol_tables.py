"""Groups as programs before HDF5 1.8 keep them, and h5py: with a symbol table."""

from __future__ import annotations

import ctypes
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5a, h5g, h5t
from support.reference import npy_bytes
from support.trees import save, writable_tree

pytestmark = pytest.mark.semantics("R14")

_SYMBOL_TABLE = 0  # H5G_STORAGE_TYPE_SYMBOL_TABLE of H5Gpublic.h


class _GroupInfo(ctypes.Structure):
    """`H5G_info_t` of H5Gpublic.h."""

    _fields_ = (
        ("storage_type", ctypes.c_int), ("link_count", ctypes.c_uint64),
        ("greatest_order", ctypes.c_int64), ("is_mounted", ctypes.c_bool),
    )  # fmt: skip


def has_symbol_table(group: h5g.GroupID) -> bool:
    info = _GroupInfo()
    call = ctypes.CDLL(h5a.__file__).H5Gget_info
    call.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    assert call(group.id, ctypes.addressof(info)) >= 0
    return info.storage_type == _SYMBOL_TABLE


def test_groups_keep_their_symbol_tables(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        for name in ("a", "g/b", "g/c", "g/d"):
            opened[name] = np.arange(3)
        opened["a"].attrs["kept"] = 1
        assert has_symbol_table(opened.id)
        assert has_symbol_table(opened["g"].id)
    with writable_tree(file) as tree:
        save(tree, b"/new.npy", npy_bytes(np.arange(4.0)))
        save(tree, b"/g/b.npy", npy_bytes(np.arange(4.5)))  # becomes another object
        tree.rename(b"/g/c.npy", b"/c.npy")
        tree.make_hard_link(b"/c.npy", b"/g/also.npy")
        tree.make_folder(b"/made")
        tree.make_symbolic_link(b"a.npy", b"/latest")
        tree.unlink(b"/g/d.npy")
        save(tree, b"/t.dtype.json", b'"<i4"\n')
    with h5py.File(file) as opened:
        names = {"a", "c", "g", "latest", "made", "new", "t"}
        assert set(opened) == names
        assert set(opened["g"]) == {"also", "b"}
        assert all(has_symbol_table(opened[each].id) for each in ("/", "g"))
        found = {opened.id.links.get_info(each.encode()).cset for each in names}
        assert found == {h5t.CSET_ASCII}


def test_names_beyond_ascii_are_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["a"] = 1
    with writable_tree(file) as tree:
        tree.rename(b"/a.npy", "/ä.npy".encode())
    with h5py.File(file) as opened:
        assert list(opened) == ["ä"]
        assert opened.id.links.get_info("ä".encode()).cset == h5t.CSET_UTF8
