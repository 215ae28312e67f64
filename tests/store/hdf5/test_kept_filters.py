"""Filters of a dataset that another one replaces: what they store is what was written."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z
from support.reference import npy_bytes
from support.trees import read, save, writable_tree

hdf5plugin = pytest.importorskip("hdf5plugin")

_ROWS = np.arange(60, dtype="<i4").reshape(10, 6)
_FLOATS = _ROWS.astype("<f4") / 7

KINDS: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]] = {
    "gzip": (_ROWS, {"compression": "gzip", "shuffle": True, "fletcher32": True}),
    "lzf": (_ROWS, {"compression": "lzf", "shuffle": True}),
    "szip": (_ROWS, {"compression": "szip"}),
    "scale-offset": (_ROWS, {"scaleoffset": 0}),
    "scale-offset of floats": (_FLOATS, {"scaleoffset": 2}),
    "blosc": (_ROWS, {**hdf5plugin.Blosc()}),
    "blosc2": (_ROWS, {**hdf5plugin.Blosc2()}),
    "bitshuffle": (_ROWS, {**hdf5plugin.Bitshuffle()}),
    "bitshuffle and zstd": (_ROWS, {**hdf5plugin.Bitshuffle(cname="zstd", nelems=64)}),
    "zstd": (_ROWS, {**hdf5plugin.Zstd(7)}),
    "lz4": (_ROWS, {**hdf5plugin.LZ4()}),
    "zfp": (_FLOATS, {**hdf5plugin.Zfp(reversible=True)}),
    "sz": (_FLOATS, {**hdf5plugin.SZ(absolute=1e-3)}),
    "n-bit": (_ROWS, {}),
}
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "longer": np.arange(90, dtype="<i4").reshape(15, 6),
    "doubles": np.random.default_rng(0).random((10, 6)),
    "floats in three dimensions": np.ones((2, 3, 4), "<f4"),
    "one dimension": np.arange(7, dtype="u1"),
    "half floats": (np.arange(60).reshape(10, 6) / 3).astype("<f2"),
    "big-endian": np.arange(60, dtype=">i2").reshape(6, 10),
    "texts": np.array(["a", "bcd", "é"]),
    "bytes": np.array([b"x", b"yyyyyyyyyyy"]),
    "complex": np.array([1j, 2, 3]),
    "compounds": np.ones(5, [("a", "<i2"), ("b", "<f8", (2,)), ("c", "S3")]),
    "not finite": np.full((10, 6), np.nan),
}


def make(file: Path, kind: str, names: Iterable[str] = ("d",)) -> None:
    data, how = KINDS[kind]
    with h5py.File(file, "w") as opened:
        for name in names:
            if kind == "n-bit":
                creation, stored = h5p.create(h5p.DATASET_CREATE), h5t.STD_I32LE.copy()
                creation.set_chunk((4, 3))
                creation.set_filter(h5z.FILTER_NBIT, h5z.FLAG_OPTIONAL, ())
                stored.set_precision(17)
                space = h5s.create_simple(data.shape, (h5s.UNLIMITED, 6))
                made = h5d.create(opened.id, name.encode(), stored, space, creation)
                made.write(h5s.ALL, h5s.ALL, data)
            else:
                chunks = (4, 4) if kind in ("szip", "zfp") else (4, 3)
                opened.create_dataset(name, data=data, chunks=chunks, maxshape=(None, None), **how)


def filters_of(dataset: h5py.Dataset) -> list[tuple[Any, ...]]:
    creation = dataset.id.get_create_plist()
    return [creation.get_filter(index)[:3] for index in range(creation.get_nfilters())]


def values_of(dataset: h5py.Dataset) -> np.ndarray[Any, Any]:
    if dataset.dtype.kind == "O":
        return np.array([each.decode() for each in dataset])
    values: np.ndarray[Any, Any] = dataset[()]
    return values


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_other_types_are_stored_as_they_are(tmp_path: Path, kind: str) -> None:
    file, is_lossy = tmp_path / "f.h5", kind in ("scale-offset of floats", "sz")
    # They keep what they are told to, of the same type.
    arrays = {n: a for n, a in ARRAYS.items() if not (is_lossy and a.dtype == _FLOATS.dtype)}
    make(file, kind, arrays)
    shown = {}
    with writable_tree(file) as tree:
        for name, array in arrays.items():
            path = b"/" + name.encode() + b".npy"
            save(tree, path, npy_bytes(array))
            shown[name] = np.load(io.BytesIO(read(tree, path)))
    with h5py.File(file) as opened:
        for name, array in arrays.items():
            for each in (shown[name], values_of(opened[name])):
                assert each.shape == array.shape, name
                assert each.astype(array.dtype).tobytes() == array.tobytes(), name


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("kind", KINDS)
def test_an_array_that_is_read_is_replaced_by_one_of_the_same_filters(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "f.h5"
    make(file, kind)
    data = KINDS[kind][0]
    with h5py.File(file) as opened:
        before, address = filters_of(opened["d"]), h5py.h5o.get_info(opened["d"].id).addr
    with writable_tree(file) as tree:
        reader = tree.open(b"/d.npy", os.O_RDONLY, 1)
        save(tree, b"/d.npy", npy_bytes(data[::-1].copy()))
        shown = np.load(io.BytesIO(read(tree, b"/d.npy")))
        tree.release(reader)
    with h5py.File(file) as opened:
        assert h5py.h5o.get_info(opened["d"].id).addr != address
        assert filters_of(opened["d"]) == before
        for each in (shown, opened["d"][()]):
            assert np.allclose(each, data[::-1], rtol=0, atol=0.01 if data is _FLOATS else 0)


@pytest.mark.semantics("R4")
@pytest.mark.parametrize(
    ("kind", "left"),
    [("gzip", 3), ("lzf", 2), ("blosc", 1), ("bitshuffle", 1), ("bitshuffle and zstd", 1),
     ("zstd", 1), ("lz4", 1), ("szip", 1), ("scale-offset", 0), ("zfp", 0), ("n-bit", 0)],
)  # fmt: skip
def test_filters_that_fit_every_type_are_kept(tmp_path: Path, kind: str, left: int) -> None:
    file = tmp_path / "f.h5"
    make(file, kind)
    with h5py.File(file) as opened:
        before = filters_of(opened["d"])
    with writable_tree(file) as tree:
        save(tree, b"/d.npy", npy_bytes(np.zeros((10, 6))))
    with h5py.File(file) as opened:
        after = filters_of(opened["d"])
        assert [step[0] for step in after] == [step[0] for step in before][:left]
        if kind.startswith("bitshuffle"):
            assert after[0][2][2:] == (8, *before[0][2][3:])
            assert opened["d"].id.get_storage_size() < opened["d"].size * 8


@pytest.mark.semantics("D1")
def test_bitshuffle_with_a_compressor_that_there_is_not_only_shuffles(tmp_path: Path) -> None:
    file, data = tmp_path / "f.h5", np.arange(4096, dtype="<i4")
    with h5py.File(file, "w") as opened:
        options = (0, 4, 4, 0, 2)  # as a dataset has them, given to another one
        opened.create_dataset(
            "d", data=data, chunks=(1024,), compression=32008, compression_opts=options
        )
        assert (opened["d"][()] == data).all()
    with writable_tree(file) as tree:
        assert read(tree, b"/d.npy") == npy_bytes(data)
