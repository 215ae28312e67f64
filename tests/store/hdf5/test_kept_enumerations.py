"""Compounds with enumerations whose other members lie otherwise in the ``.npy`` file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

Array = np.ndarray[Any, Any]


def float_of_3_bytes() -> h5t.TypeID:
    made = h5t.IEEE_F32LE.copy()
    made.set_fields(22, 14, 8, 0, 14)
    made.set_precision(23)
    made.set_size(3)
    return made


def colours() -> h5t.TypeID:
    made = h5t.enum_create(h5t.STD_I16BE)
    made.enum_insert(b"red", 0)
    made.enum_insert(b"green", 1)
    return made


def compound(size: int, **members: tuple[int, h5t.TypeID]) -> h5t.TypeID:
    made = h5t.create(h5t.COMPOUND, size)
    for name, (offset, type_id) in members.items():
        made.insert(name.encode(), offset, type_id)
    return made


def shifted_integer() -> h5t.TypeID:
    made = h5t.STD_U16BE.copy()
    made.set_precision(10)
    made.set_offset(3)
    return made


def arrays_of_colours() -> h5t.TypeID:
    return h5t.array_create(h5t.array_create(colours(), (2,)), (3,))


TYPES = {
    "wider": lambda: compound(16, b=(0, h5t.STD_B16LE), f=(4, float_of_3_bytes()),
                              e=(8, colours())),
    "shifted": lambda: compound(4, e=(0, colours()), i=(2, shifted_integer())),
    "arrays": lambda: compound(30, f=(20, float_of_3_bytes()), a=(1, arrays_of_colours()),
                               e=(14, colours())),
}  # fmt: skip


def make(file: Path, type_id: h5t.TypeID, *codes: int) -> None:
    with h5py.File(file, "w") as opened:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((5,))
        for code in codes:
            creation.set_filter(code, h5z.FLAG_OPTIONAL, (4, 4) if code == h5z.FILTER_SZIP else ())
        space = h5s.create_simple((10,), (h5s.UNLIMITED,))
        h5d.create(opened.id, b"d", type_id, space, creation)


def elements(dtype: np.dtype[Any], count: int) -> Array:
    random = np.random.default_rng(0)
    made = np.zeros(count, dtype)
    for name in dtype.names or ():
        made[name] = random.integers(0, 2, made[name].shape)
    return made


def is_equal(one: Array, other: Array) -> bool:
    names = one.dtype.names or ()
    return one.dtype == other.dtype and all(np.array_equal(one[n], other[n]) for n in names)


def load(content: bytes) -> Array:
    array: Array = np.load(io.BytesIO(content))
    return array


@pytest.mark.semantics("R4", "R6", "R7")
@pytest.mark.parametrize("way", ["anew", "in place", "appended"])
@pytest.mark.parametrize("kind", TYPES)
def test_the_other_members_are_converted(tmp_path: Path, kind: str, way: str) -> None:
    file, type_id = tmp_path / "f.h5", TYPES[kind]()
    make(file, type_id)
    with writable_tree(file) as tree:
        before = load(read(tree, b"/d.npy"))
        array = elements(before.dtype, 13 if way == "appended" else 10)
        if way == "anew":
            save(tree, b"/d.npy", npy_bytes(array))
        else:
            handle = tree.open(b"/d.npy", os.O_RDWR, 1)
            tree.write(handle, memoryview(npy_bytes(array)), 0)
            tree.flush(handle, 1)
            tree.release(handle)
        assert is_equal(load(read(tree, b"/d.npy")), array)
    with h5py.File(file) as opened:
        assert opened["d"].id.get_type().equal(type_id)
    with writable_tree(file) as tree:  # which knows nothing but what is in the file
        assert is_equal(load(read(tree, b"/d.npy")), array)


@pytest.mark.semantics("R4")
def test_n_bit_is_left_out_where_it_loses_members(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, boolean = tmp_path / "f.h5", h5t.py_create(np.dtype("?"), logical=True)
    type_id = compound(30, f=(20, float_of_3_bytes()), a=(1, arrays_of_colours()), b=(14, boolean))
    make(file, type_id, h5z.FILTER_NBIT)
    with writable_tree(file) as tree:
        array = elements(load(read(tree, b"/d.npy")).dtype, 10)
        save(tree, b"/d.npy", npy_bytes(array))
        assert is_equal(load(read(tree, b"/d.npy")), array)
    assert "the lossy filter is left out" in caplog.text
    with h5py.File(file) as opened:
        assert opened["d"].id.get_type().equal(type_id)
        assert not opened["d"].id.get_create_plist().get_nfilters()


@pytest.mark.semantics("R4")
def test_szip_is_left_out_where_it_changes_floats_of_3_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "f.h5"
    make(file, float_of_3_bytes(), h5z.FILTER_SZIP)
    array = np.random.default_rng(0).integers(0, 5, 10).astype("<f4")
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(array))
        assert read(tree, b"/d.npy") == npy_bytes(array)
    with h5py.File(file) as opened:
        assert (opened["d"][()] == array).all()
        is_left_out = not opened["d"].id.get_create_plist().get_nfilters()
    assert is_left_out is ("the lossy filter is left out" in caplog.text)
