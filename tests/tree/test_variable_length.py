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
from h5fs.model.settings import StoreOptions
from h5fs.store import open_store
from h5fs.tree import Tree


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
