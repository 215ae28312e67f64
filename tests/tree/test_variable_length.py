"""Datasets of variable-length types that are easy to get wrong, through the tree."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5r, h5s, h5t
from support.damage import lose_fill_value
from support.reference import expected_files, npy_bytes

from h5fs.errors import UnreadableError, UnsupportedTypeError
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store import open_store
from h5fs.tree import Tree, WritableTree


def read_all(file: Path, path: str) -> bytes:
    """Return a file of the tree, read in small pieces."""
    tree = Tree(open_store(StoreOptions(file, workers=0)))
    try:
        handle = tree.open(path.encode(), os.O_RDONLY)
        data = b""
        while piece := bytes(tree.read(handle, 1000, len(data))):
            data += piece
        assert len(data) == tree.get_status(path.encode()).size_bytes
        return data
    finally:
        tree.close()


def check(file: Path, name: str) -> None:
    """Compare every file of a dataset with the reference."""
    with h5py.File(file) as opened:
        files = expected_files(opened[name])
    for suffix, array in files.items():
        assert read_all(file, f"/{name}{suffix}") == npy_bytes(array), suffix


@pytest.mark.semantics("D10")
def test_arrays_of_arrays_of_sequences_are_sequences(tmp_path: Path) -> None:
    inner = h5t.array_create(h5t.vlen_create(h5t.STD_I32LE), (2,))
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        h5d.create(opened.id, b"x", h5t.array_create(inner, (1,)), h5s.create_simple((3,)))
    offsets = np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/x.offsets.npy")))
    assert offsets.tolist() == [0] * 7
    values = np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/x.values.npy")))
    assert values.shape == (0,)
    assert values.dtype == np.dtype("<i4")


@pytest.mark.semantics("D10", "D11")
def test_sequences_keep_their_byte_order(tmp_path: Path) -> None:
    sequence = h5py.vlen_dtype(np.dtype(">f8"))
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        rows = np.empty(2, np.dtype([("a", "<i4"), ("s", sequence)]))
        rows["a"] = [1, 2]
        rows["s"][0], rows["s"][1] = np.array([1.5, 2.5], ">f8"), np.array([3.5], ">f8")
        opened["compound"] = rows
        opened.create_dataset("plain", (2,), sequence)[:] = rows["s"]
    compound = np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/compound.npy")))
    assert compound["s"]["length"].tolist() == [2, 1]
    assert compound["s"]["values"].tolist() == [[1.5, 2.5], [3.5, 0]]
    values = np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/plain.values.npy")))
    assert values.tolist() == [1.5, 2.5, 3.5]
    assert values.dtype == np.dtype(">f8")


@pytest.mark.semantics("D7", "D10")
def test_a_null_dataspace_of_sequences_has_no_values_and_one_offset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["n"] = h5py.Empty(h5py.vlen_dtype("i4"))
    assert np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/n.offsets.npy"))).tolist() == [0]
    assert np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/n.values.npy"))).shape == (0,)


@pytest.mark.semantics("D10")
def test_blocks_of_many_sizes_join_without_a_seam(tmp_path: Path) -> None:
    choose = np.random.default_rng(3)
    lengths = choose.integers(0, 50, 9000)
    lengths[4000] = 3_000_000  # more than a block holds
    rows = np.empty(len(lengths), object)
    for index, length in enumerate(lengths):
        rows[index] = choose.integers(0, 100, length).astype("<i4")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("x", rows.shape, h5py.vlen_dtype("<i4"))[:] = rows
    tree = Tree(open_store(StoreOptions(tmp_path / "f.h5", workers=0)))
    try:
        for suffix, expected in {
            "values": np.concatenate(rows), "offsets": np.cumsum([0, *lengths]),
        }.items():  # fmt: skip
            handle = tree.open(f"/x.{suffix}.npy".encode(), os.O_RDONLY)
            whole = b""
            while piece := bytes(tree.read(handle, 131072, len(whole))):
                whole += piece
            assert np.array_equal(np.load(io.BytesIO(whole)), expected)
            for _ in range(30):
                offset = int(choose.integers(0, len(whole)))
                assert bytes(tree.read(handle, 5000, offset)) == whole[offset : offset + 5000]
    finally:
        tree.close()


@pytest.mark.semantics("D8")
def test_strings_of_very_different_lengths(tmp_path: Path) -> None:
    texts = ["", "é", "x" * 5000, *map(str, range(6000)), "日本"]
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["s"] = texts
        opened["one"] = "y" * 300_000
    check(tmp_path / "f.h5", "one")
    tree = Tree(open_store(StoreOptions(tmp_path / "f.h5", workers=0)))
    try:
        size = tree.get_status(b"/s.npy").size_bytes
        assert size == 128 + len(texts) * 5000 * 4
    finally:
        tree.close()


@pytest.mark.semantics("D1", "D4", "D11")
def test_members_declared_in_another_order_than_that_of_their_offsets_keep_their_values(
    tmp_path: Path,
) -> None:
    inner = h5t.create(h5t.COMPOUND, 12)
    inner.insert(b"last", 8, h5t.STD_I32LE)
    inner.insert(b"first", 0, h5t.IEEE_F64LE)
    outer = h5t.create(h5t.COMPOUND, 24)
    outer.insert(b"inner", 0, inner)
    outer.insert(b"text", 16, h5t.py_create(h5py.string_dtype(), logical=True))
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        dataset = h5py.Dataset(h5d.create(opened.id, b"x", outer, h5s.create_simple((2,))))
        rows = np.zeros(2, dataset.dtype)
        rows["inner"]["first"], rows["inner"]["last"] = [1.5, 2.5], [7, 8]
        rows["text"] = ["a", "bc"]
        dataset[:] = rows
    found = np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/x.npy")))
    assert found["inner"]["first"].tolist() == [1.5, 2.5]
    assert found["inner"]["last"].tolist() == [7, 8]
    # Written back, they are what they were.
    store = open_store(StoreOptions(tmp_path / "f.h5", workers=0, mode=Mode.UPDATE))
    tree = WritableTree(store, mountpoint=b"/nowhere", leftovers=tmp_path / "left")
    try:
        handle = tree.open(b"/x.npy", os.O_RDWR)
        tree.write(handle, npy_bytes(np.concatenate([found, found])), 0)
        tree.flush(handle, os.getpid())
        tree.release(handle)
    finally:
        tree.close()
    with h5py.File(tmp_path / "f.h5") as opened:
        assert opened["x"].dtype == rows.dtype
        assert opened["x"]["inner"]["first"].tolist() == [1.5, 2.5] * 2
        assert opened["x"]["inner"]["last"].tolist() == [7, 8] * 2


@pytest.mark.semantics("D13")
def test_region_references_in_sequences_are_refused_since_h5py_crashes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = np.arange(4)
        assert h5r.create(opened.id, b"d", h5r.OBJECT)
        datatype = h5t.vlen_create(h5t.STD_REF_DSETREG)
        h5d.create(opened.id, b"x", datatype, h5s.create_simple((24,)))
    with pytest.raises(UnsupportedTypeError):
        read_all(tmp_path / "f.h5", "/x.values.npy")


@pytest.mark.semantics("D1", "D13", "A1")
@pytest.mark.parametrize("chunks", [(2,), None])
def test_a_fill_value_that_points_nowhere_keeps_nothing_back_that_was_written(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    texts = ["a", "bb", "ccc"]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for name, size in (("whole", 3), ("holes", 9)):
            dataset = file.create_dataset(
                name, (size,), h5py.string_dtype(), chunks=chunks, fillvalue=b"fill value"
            )
            dataset.attrs["number"] = 7
            dataset[:3] = texts
    lose_fill_value(tmp_path / "f.h5", b"fill value")
    with h5py.File(tmp_path / "f.h5") as file, pytest.raises(RuntimeError, match="properties"):
        file["whole"].id.get_create_plist()
    assert np.load(io.BytesIO(read_all(tmp_path / "f.h5", "/whole.npy"))).tolist() == texts
    for name in ("/whole.attrs.json", "/holes.attrs.json"):
        assert json.loads(read_all(tmp_path / "f.h5", name)) == {"number": 7}
    if chunks:  # what was never written is the fill value, which h5py cannot read either
        with pytest.raises(UnreadableError, match="/holes: OSError"):
            read_all(tmp_path / "f.h5", "/holes.npy")
