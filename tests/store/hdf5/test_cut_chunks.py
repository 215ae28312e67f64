"""Chunks that are cut off, of filters that the HDF5 library undoes past their end."""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z
from support.in_process import InProcessStore
from support.reference import npy_bytes
from support.trees import writable_tree
from support.unfiltered_edges import leave_edges_unfiltered, library

from h5fs.errors import UnreadableError
from h5fs.model.settings import StoreOptions
from h5fs.store.chunks import filters as decoding
from h5fs.store.hdf5.reading.checked_chunks import check_all
from h5fs.tree import Tree

pytestmark = pytest.mark.semantics("D13")

SIZE, CHUNK = 2500, 1003  # a chunk that sticks out of the array, and items that no block takes
NUMBERS = np.random.default_rng(1).integers(0, 3000, SIZE).astype("<i4")
UNKNOWN = np.random.default_rng(2).integers(-(2**31), 2**31, SIZE).astype("<i4")
FLOATS = (np.cumsum(np.random.default_rng(3).normal(size=SIZE)) * 10).astype("<f4")
PAIRS = np.zeros(SIZE, [("a", "<i2"), ("b", "u1", (3,))])
PAIRS["a"], PAIRS["b"] = NUMBERS, NUMBERS[:, None] % 200

SCALE_OFFSET_OF_FLOATS, SCALE_OFFSET_OF_INTEGERS = 0, 2

Add = Callable[[h5p.PropDCID], object]


def filtered(code: int, *options: int) -> Add:
    return lambda creation: creation.set_filter(code, 0, options)


def of_bits(creation: h5p.PropDCID) -> None:
    library().H5Pset_nbit.argtypes = [ctypes.c_int64]
    assert library().H5Pset_nbit(creation.id) == 0


KINDS: dict[str, tuple[np.ndarray, Add]] = {  # type: ignore[type-arg]
    "scale-offset": (NUMBERS, lambda p: p.set_scaleoffset(SCALE_OFFSET_OF_INTEGERS, 0)),
    "scale-offset of all bits": (UNKNOWN, lambda p: p.set_scaleoffset(SCALE_OFFSET_OF_INTEGERS, 0)),
    "scale-offset of floats": (FLOATS, lambda p: p.set_scaleoffset(SCALE_OFFSET_OF_FLOATS, 3)),
    "n-bit": (NUMBERS, of_bits),
    "n-bit of a compound": (PAIRS, of_bits),
    "bitshuffle": (NUMBERS, filtered(32008, *hdf5plugin.Bitshuffle(0, "none").filter_options)),
    "bitshuffle lz4": (NUMBERS, filtered(32008, *hdf5plugin.Bitshuffle(0, "lz4").filter_options)),
    "bitshuffle zstd": (
        NUMBERS,
        filtered(32008, *hdf5plugin.Bitshuffle(256, "zstd").filter_options),
    ),
    "lz4": (NUMBERS, filtered(32004, 512)),
    "zstd": (NUMBERS, filtered(32015, 3)),
}


def make(path: Path, kind: str, *, unfiltered_edges: bool = False) -> np.ndarray:  # type: ignore[type-arg]
    """Make a dataset ``d`` of three chunks; return what it holds."""
    values, add = KINDS[kind]
    stored = h5t.py_create(values.dtype)
    if kind.startswith("n-bit"):
        stored = narrow(stored)
    with h5py.File(path, "w", libver="latest") as file:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((CHUNK,))
        if unfiltered_edges:
            leave_edges_unfiltered(creation)
        add(creation)
        dataset = h5py.Dataset(
            h5d.create(file.id, b"d", stored, h5s.create_simple((SIZE,)), creation)
        )
        dataset.id.write(h5s.ALL, h5s.ALL, values, h5t.py_create(values.dtype))
    with h5py.File(path) as file:
        found: np.ndarray = file["d"][()]  # type: ignore[type-arg]
    return found


def narrow(stored: h5t.TypeID) -> h5t.TypeID:
    """Return a type of 12 bits, or a compound with one."""
    number = h5t.STD_I32LE.copy()
    number.set_precision(12)
    if stored.get_class() != h5t.COMPOUND:
        return number
    pair = h5t.create(h5t.COMPOUND, 7)
    pair.insert(b"a", 0, number)
    pair.insert(b"b", 4, h5t.array_create(h5t.STD_U8LE, (3,)))
    return pair


def cut(path: Path, chunk: int, kept: Callable[[int], int]) -> None:
    with h5py.File(path, "r+") as file:
        mask, raw = file["d"].id.read_direct_chunk((chunk * CHUNK,))
        file["d"].id.write_direct_chunk((chunk * CHUNK,), raw[: kept(len(raw))], mask)


@pytest.fixture
def without_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library decode what it can, as where imagecodecs is not installed."""
    monkeypatch.setattr(decoding, "DECOMPRESSORS", {})


def read_chunks(path: Path, item_bytes: int) -> list[bytes | None]:
    """Return what the tree shows of each chunk; None where that is an error."""
    store = InProcessStore(StoreOptions(path))
    store.open()
    tree, shown = Tree(store), list[bytes | None]()
    try:
        handle = tree.open(b"/d.npy", os.O_RDONLY)
        head = tree.get_status(b"/d.npy").size_bytes - SIZE * item_bytes
        for start in range(0, SIZE, CHUNK):
            size = min(CHUNK, SIZE - start) * item_bytes
            try:
                shown.append(tree.read(handle, size, head + start * item_bytes))
            except UnreadableError:
                shown.append(None)
        tree.release(handle)
    finally:
        store.close()
    return shown


@pytest.mark.usefixtures("without_decoders")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [0, 2])
def test_of_a_chunk_that_is_cut_off_nothing_is_made_up(
    tmp_path: Path, kind: str, chunk: int
) -> None:
    path, values = tmp_path / "f.h5", make(tmp_path / "f.h5", kind)
    item_bytes = values.dtype.itemsize
    whole = [values[at : at + CHUNK].tobytes() for at in range(0, SIZE, CHUNK)]
    assert read_chunks(path, item_bytes) == whole
    for kept, is_noticed in (
        (lambda size: size, False),
        (lambda size: size - 1, None),  # scale-offset and n-bit may write a byte that says nothing
        (lambda size: size - 8, None if chunk == 2 else True),  # it may be outside of the array
        (lambda size: size // 2, True),
        (lambda _: 21, True),
        (lambda _: 9, True),
        (lambda _: 3, True),
    ):
        make(path, kind)
        cut(path, chunk, kept)  # type: ignore[arg-type]
        shown = read_chunks(path, item_bytes)
        damaged = shown.pop(chunk)
        assert shown == [each for at, each in enumerate(whole) if at != chunk]
        assert damaged in (None, whole[chunk])
        assert is_noticed is None or (damaged is None) == is_noticed


@pytest.mark.usefixtures("without_decoders")
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_at_the_edge_that_are_stored_unfiltered_are_not_taken_for_cut(
    tmp_path: Path, kind: str
) -> None:
    values = make(tmp_path / "f.h5", kind, unfiltered_edges=True)
    shown = read_chunks(tmp_path / "f.h5", values.dtype.itemsize)
    assert b"".join(each or b"damaged" for each in shown) == values.tobytes()


@pytest.mark.parametrize("decoded", [0, 4, 4 * CHUNK - 1, 2**32 - 1])
def test_szip_that_says_that_it_has_another_size_than_its_chunk_is_damaged(
    tmp_path: Path, decoded: int
) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "d", data=NUMBERS, chunks=(CHUNK,), compression="szip", compression_opts=("nn", 16)
        )
        mask, raw = dataset.id.read_direct_chunk((0,))
    whole = [NUMBERS[at : at + CHUNK].tobytes() for at in range(0, SIZE, CHUNK)]
    assert read_chunks(path, 4) == whole
    with h5py.File(path, "r+") as file:
        file["d"].id.write_direct_chunk((0,), decoded.to_bytes(4, "little") + raw[4:], mask)
    assert read_chunks(path, 4)[0] is None


BEFORE_SZIP: dict[str, list[Add]] = {
    "fletcher32": [lambda p: p.set_fletcher32()],
    "shuffle, fletcher32": [lambda p: p.set_shuffle(), lambda p: p.set_fletcher32()],
    "scale-offset": [lambda p: p.set_scaleoffset(SCALE_OFFSET_OF_INTEGERS, 0)],
}


@pytest.mark.parametrize("before", BEFORE_SZIP)
def test_what_another_filter_has_made_longer_is_not_too_long_for_szip(
    tmp_path: Path, before: str
) -> None:
    step = 1 if before != "scale-offset" else 250  # bits that nothing takes less room for
    values = (np.arange(1000) // 8 * step).astype("u1")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((250,))
        for add in BEFORE_SZIP[before]:
            add(creation)
        creation.set_szip(h5z.SZIP_NN_OPTION_MASK, 16)
        space = h5s.create_simple(values.shape)
        dataset = h5d.create(file.id, b"d", h5t.STD_U8LE, space, creation)
        dataset.write(h5s.ALL, h5s.ALL, values)
        mask, raw = dataset.read_direct_chunk((0,))
        assert not mask
        assert int.from_bytes(raw[:4], "little") > 250
    store = InProcessStore(StoreOptions(tmp_path / "f.h5"))
    store.open()
    try:
        tree = Tree(store)
        shown = tree.read(tree.open(b"/d.npy", os.O_RDONLY), 10_000, 0)
    finally:
        store.close()
    assert shown == npy_bytes(values)


@pytest.mark.semantics("R6")
@pytest.mark.parametrize("kind", ["scale-offset of floats", "bitshuffle lz4", "scale-offset"])
def test_a_part_of_a_chunk_that_is_cut_off_cannot_be_written(tmp_path: Path, kind: str) -> None:
    values = make(tmp_path / "f.h5", kind)
    cut(tmp_path / "f.h5", 1, lambda size: size // 2)
    stored = (tmp_path / "f.h5").read_bytes()
    head = len(npy_bytes(values)) - values.nbytes
    with writable_tree(tmp_path / "f.h5") as tree:
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        with pytest.raises(UnreadableError, match="cut off"):
            tree.write(handle, memoryview(bytes(4)), head + 4 * CHUNK)
            tree.flush(handle, 1)
        tree.release(handle)
    assert (tmp_path / "f.h5").read_bytes() == stored


def terminated() -> h5t.TypeID:
    found = h5t.C_S1.copy()
    found.set_size(4)
    return found


CONVERTED = {
    "enumeration": lambda: h5t.py_create(h5py.enum_dtype({"A": 0, "B": 1}, "<i4"), logical=True),
    "terminated text": terminated,
}


@pytest.mark.parametrize("kind", CONVERTED)
@pytest.mark.parametrize("chunk", [0, 2])
def test_an_unfiltered_chunk_that_is_too_short_is_damage_where_the_library_converts_elements(
    tmp_path: Path, kind: str, chunk: int
) -> None:
    path = tmp_path / "f.h5"
    stored = np.full(CHUNK, 1, "<i4").tobytes()
    with h5py.File(path, "w") as file:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((CHUNK,))
        space = h5s.create_simple((SIZE,))
        dataset = h5d.create(file.id, b"d", CONVERTED[kind](), space, creation)
        for each in range(3):
            dataset.write_direct_chunk((each * CHUNK,), stored[: 400 if each == chunk else None])
    shown = read_chunks(path, 4)
    assert shown == [None if at == chunk else stored[: 4 * (SIZE - at * CHUNK)] for at in range(3)]


@pytest.mark.parametrize("kind", CONVERTED)
@pytest.mark.parametrize("unfiltered_edges", [False, True])
@pytest.mark.parametrize("chunk", [0, 2])
def test_a_chunk_that_is_too_short_is_damage_also_where_the_library_converts_elements(
    tmp_path: Path, kind: str, unfiltered_edges: bool, chunk: int
) -> None:
    path = tmp_path / "f.h5"
    values = np.full(SIZE, 1, "<i4")
    whole = [values[at : at + CHUNK].tobytes() for at in range(0, SIZE, CHUNK)]
    with h5py.File(path, "w", libver="latest") as file:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((CHUNK,))
        creation.set_deflate(1)
        if unfiltered_edges:
            leave_edges_unfiltered(creation)
        space = h5s.create_simple((SIZE,))
        dataset = h5d.create(file.id, b"d", CONVERTED[kind](), space, creation)
        dataset.write(h5s.ALL, h5s.ALL, values, dataset.get_type())
    assert read_chunks(path, 4) == whole
    size = 4 * (SIZE - 2 * CHUNK)  # as far as the last chunk is within the array
    for kept, is_damage in ((4 * CHUNK, False), (size, chunk == 0), (size - 4, True)):
        with h5py.File(path, "r+") as file:
            start = (chunk * CHUNK,)
            if unfiltered_edges and chunk == 2:
                continue
            file["d"].id.write_direct_chunk(start, zlib.compress(values[:CHUNK].tobytes()[:kept]))
        shown = read_chunks(path, 4)
        assert shown[chunk] == (None if is_damage else whole[chunk])
        assert shown[1] == whole[1]


VARIABLE = {
    "text": (h5py.string_dtype(), "abc"),
    "reference": (h5py.ref_dtype, None),
    "sequence": (h5py.vlen_dtype("<i4"), None),
    "compound": (np.dtype([("a", "<i4"), ("b", h5py.string_dtype())]), (1, "abc")),
}


@pytest.mark.parametrize("filters", [{"compression": "lzf"}, hdf5plugin.Zstd(), hdf5plugin.LZ4()])
def test_few_texts_are_not_taken_for_damage_whatever_their_filter(
    tmp_path: Path, filters: dict[str, object]
) -> None:
    """The library says half as many bytes of a text as it has in the file."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("d", data=["abc"] * 200, chunks=(100,), **filters)
    store = InProcessStore(StoreOptions(tmp_path / "f.h5"))
    store.open()
    try:
        tree = Tree(store)
        shown = tree.read(tree.open(b"/d.npy", os.O_RDONLY), 100_000, 0)
    finally:
        store.close()
    assert shown == npy_bytes(np.array(["abc"] * 200))


@pytest.mark.parametrize(
    ("dtype", "item_bytes"),
    [
        (h5py.string_dtype(), 16),
        (h5py.vlen_dtype("<i4"), 16),
        (h5py.ref_dtype, 8),
        (np.dtype([("a", "<i4"), ("b", h5py.string_dtype())]), 20),
        (np.dtype((h5py.string_dtype(), (3,))), 48),
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_chunk_of_elements_of_variable_length_lacks_no_byte(
    tmp_path: Path, dtype: Any, item_bytes: int, is_cut: bool
) -> None:
    """Zeros are elements without content, of which the library finds nothing wrong."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        made = file.create_dataset("d", (200,), dtype, chunks=(100,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(bytes(100 * item_bytes - is_cut)))
        with pytest.raises(UnreadableError) if is_cut else nullcontext():
            check_all(made.id, lambda: None)
        if not is_cut:
            assert len(made[:]) == 200


@pytest.mark.parametrize("kind", VARIABLE)
@pytest.mark.parametrize("count", [500, SIZE])
@pytest.mark.parametrize("is_cut", [False, True])
def test_elements_of_variable_length_are_not_made_up(
    tmp_path: Path, kind: str, count: int, is_cut: bool
) -> None:
    """Of few texts, and of other types, the library reads the chunks."""
    dtype, value = VARIABLE[kind]
    with h5py.File(tmp_path / "f.h5", "w") as file:
        made = file.create_dataset("d", (count,), dtype, chunks=(100,), compression="gzip")
        for each in range(count):
            made[each] = file.ref if kind == "reference" else [each] * 3 if value is None else value
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        raw = zlib.decompress(file["d"].id.read_direct_chunk((200,))[1])
        if is_cut:
            file["d"].id.write_direct_chunk((200,), zlib.compress(raw[: len(raw) // 2]))
    store = InProcessStore(StoreOptions(tmp_path / "f.h5"))
    store.open()
    path = b"/d.values.npy" if kind == "sequence" else b"/d.npy"
    try:
        with pytest.raises(UnreadableError) if is_cut else nullcontext():
            tree = Tree(store)
            tree.read(tree.open(path, os.O_RDONLY), 100_000, 0)
    finally:
        store.close()
