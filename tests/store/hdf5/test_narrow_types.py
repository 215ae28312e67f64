"""HDF5 types that hold less than the dtype by which they are shown."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

from h5fs.errors import InvalidArrayError


def _bits() -> h5t.TypeID:
    number = h5t.STD_I32LE.copy()
    number.set_precision(17)
    return number


def _shifted() -> h5t.TypeID:
    number = h5t.STD_U32BE.copy()
    number.set_precision(12)
    number.set_offset(4)
    return number


def _brain_float() -> h5t.TypeID:
    number = h5t.IEEE_F32LE.copy()
    number.set_fields(15, 7, 8, 0, 7)
    number.set_precision(16)
    number.set_size(2)
    return number


def _text(padding: int) -> h5t.TypeID:
    text = h5t.C_S1.copy()
    text.set_size(5)
    text.set_strpad(padding)
    return text


def _compound() -> h5t.TypeID:
    pair = h5t.create(h5t.COMPOUND, 16)
    pair.insert(b"x", 0, _bits())
    pair.insert(b"y", 8, h5t.IEEE_F64LE)
    return pair


def _array() -> h5t.TypeID:
    return h5t.array_create(_bits(), (2,))


def _row() -> h5t.TypeID:
    """A table's, as PyTables and pandas make it."""
    row = h5t.create(h5t.COMPOUND, 9)
    row.insert(b"n", 0, h5t.STD_I32BE)
    row.insert(b"name", 4, _text(h5t.STR_NULLTERM))
    return row


_ROW = np.dtype([("n", ">i4"), ("name", "S5")])
_PAIR = np.dtype({"names": ["x", "y"], "formats": ["<i4", "<f8"], "offsets": [0, 8]})
_FITTING_PAIRS, _LARGE_PAIRS = np.zeros(4, _PAIR), np.ones(4, _PAIR)
_FITTING_PAIRS["y"], _LARGE_PAIRS["x"] = np.nan, 70_000

# The type, what it holds, and what it does not.
KINDS = {
    "integer": (_bits(), np.array([-65_536, 65_535, 0, 1], "<i4"),
                np.array([1, 2, 65_536, 3], "<i4")),
    "shifted": (_shifted(), np.array([1, 4095, 0, 2], ">u4"), np.array([1, 2, 3, 4096], ">u4")),
    "float": (_brain_float(), np.array([1.5, -2, -np.inf, 0], "<f4"),
              np.array([1.5, 1.1, 2, 3], "<f4")),
    "ended text": (_text(h5t.STR_NULLTERM), np.array([b"abcd", b"", b"abcde", b"y"], "S5"),
                   np.array([b"abcd", b"x\0y", b"x", b"y"], "S5")),
    "padded text": (_text(h5t.STR_SPACEPAD), np.array([b"abcde", b"", b" x", b"y"], "S5"),
                    np.array([b"abcde", b"x\0y", b"x", b"y "], "S5")),
    "compound": (_compound(), _FITTING_PAIRS, _LARGE_PAIRS),
    "row": (_row(), np.array([(1, b"abcde"), (2, b""), (3, b"x"), (4, b"\xff")], _ROW),
            np.array([(1, b"abcde"), (2, b""), (3, b"x\0y"), (4, b"y")], _ROW)),
    "array": (_array(), np.arange(8, dtype="<i4").reshape(4, 2),
              np.full((4, 2), 70_000, "<i4")),
}  # fmt: skip


def make(file: Path, kind: str, chunk: tuple[int, ...] | None = None) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    if chunk:
        creation.set_chunk(chunk)
    space = h5s.create_simple((4,), (h5s.UNLIMITED,) if chunk else None)
    with h5py.File(file, "w") as opened:
        h5d.create(opened.id, b"d", KINDS[kind][0], space, creation)


def is_of_kind(file: Path, kind: str) -> bool:
    with h5py.File(file) as opened:
        return bool(opened["d"].id.get_type().equal(KINDS[kind][0]))


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("kind", KINDS)
def test_an_array_gets_another_type_where_that_of_the_dataset_does_not_hold_it(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "f.h5"
    make(file, kind)
    _, fitting, beyond = KINDS[kind]
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(fitting))
        assert read(tree, b"/d.npy") == npy_bytes(fitting)
    assert is_of_kind(file, kind)
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(beyond))
        assert read(tree, b"/d.npy") == npy_bytes(beyond)
    assert not is_of_kind(file, kind)


@pytest.mark.semantics("R6")
@pytest.mark.parametrize("kind", KINDS)
def test_elements_that_do_not_fit_are_not_written_in_place(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "f.h5"
    make(file, kind)
    _, fitting, beyond = KINDS[kind]
    with writable_tree(file) as tree:
        start = len(npy_bytes(fitting)) - fitting.nbytes
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        tree.write(handle, memoryview(fitting.tobytes()), start)
        with pytest.raises(InvalidArrayError, match="/d: its HDF5 type cannot hold"):
            tree.write(handle, memoryview(beyond.tobytes()), start)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == npy_bytes(fitting)
    assert is_of_kind(file, kind)


@pytest.mark.semantics("R7")
def test_rows_that_do_not_fit_are_appended_to_a_new_dataset(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    make(file, "integer", (2,))
    _, fitting, beyond = KINDS["integer"]
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(fitting))
        longer = np.concatenate([fitting, beyond])
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        data = npy_bytes(longer)
        tree.write(handle, memoryview(data[:128]), 0)
        tree.write(handle, memoryview(data[-beyond.nbytes :]), len(data) - beyond.nbytes)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == data
    with h5py.File(file) as opened:
        assert opened["d"].maxshape == (None,)


@pytest.mark.semantics("R12")
def test_sequences_get_another_type_where_that_of_the_dataset_does_not_hold_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        h5d.create(opened.id, b"d", h5t.vlen_create(_bits()), h5s.create_simple((1,)))
    for value, is_kept in ((65_535, True), (70_000, False)):
        with writable_tree(file) as tree:
            for name, array in (("values", np.array([value], "<i4")), ("offsets", np.arange(2))):
                save(tree, f"/d.{name}.npy".encode(), npy_bytes(array))
            save(tree, b"/d.values.npy", npy_bytes(np.array([value], "<i4")))
            assert read(tree, b"/d.values.npy") == npy_bytes(np.array([value], "<i4"))
        with h5py.File(file) as opened:
            base = opened["d"].id.get_type().get_super()
            assert opened["d"][0].tolist() == [value]
            assert (base.get_precision() == 17) is is_kept


@pytest.mark.semantics("R4")
def test_a_new_dataset_keeps_times_only_if_the_one_that_it_replaces_does(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        for name, keeps in (("with", True), ("without", False)):
            # Headers of HDF5 1.8 say it, and the order of attributes needs these.
            opened.create_dataset(name, data=np.arange(3), track_times=keeps, track_order=True)
    with writable_tree(file) as tree:
        for name in (b"/with.npy", b"/without.npy"):
            save(tree, name, npy_bytes(np.arange(4.5)))
    with h5py.File(file) as opened:
        for name, keeps in (("with", True), ("without", False)):
            assert opened[name].dtype == float
            assert bool(opened[name].id.get_create_plist().get_obj_track_times()) is keeps
