"""Texts of variable length, taken from the file past the library: the same as through it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from h5fs.errors import H5fsError
from h5fs.model.objects import DatasetInfo
from h5fs.model.settings import StoreOptions
from h5fs.store.format import heap_texts
from h5fs.store.hdf5.reading import stored_texts
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart

COUNT = 3000
TEXT = h5py.string_dtype()
Array = np.ndarray[Any, Any]
Answer = tuple[DatasetInfo, bytes] | str


def words(count: int = COUNT, alphabet: str = "abc", seed: int = 1) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices(alphabet, k=chance.randrange(30))) for _ in range(count)]


def read_through_store(file: Path) -> Answer:
    """Return how dataset ``d`` looks, and its bytes; an error's kind instead."""
    store = Hdf5Store(StoreOptions(file))
    try:
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"d")).ref
        dataset = store.describe_dataset(ref)
        size, step = dataset.data_bytes, 50_000
        parts = [
            store.read_data(ref, ArrayPart.ELEMENTS, at, min(step, size - at))
            for at in range(0, size, step)
        ]
        return dataset, b"".join(parts)
    except H5fsError as error:
        return type(error).__name__
    finally:
        store.close()


@pytest.fixture(autouse=True, params=[0, 16], ids=["side by side", "one by one"])
def few_collections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take collections apart in both of the ways that there are."""
    monkeypatch.setattr(heap_texts, "_FEW_COLLECTIONS", request.param)


@pytest.fixture
def blocks_read(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each block that was tried could be read past the library."""
    tried: list[bool] = []
    load = stored_texts.StoredTexts._load

    def load_noted(self: Any, *arguments: Any) -> Any:
        block = load(self, *arguments)
        tried.append(block is not None)
        return block

    monkeypatch.setattr(stored_texts.StoredTexts, "_load", load_noted)
    return tried


@pytest.fixture
def through_library(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Answer]:
    def read(file: Path) -> Answer:
        with monkeypatch.context() as patched:
            patched.setattr(stored_texts, "find_stored_texts", lambda *_, **__: None)
            return read_through_store(file)

    return read


def write(file: Path, data: Any, dtype: Any = TEXT, **layout: Any) -> None:
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", data=data, dtype=dtype, **layout)


LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (700,)},
    "gzip": {"chunks": (700,), "compression": "gzip", "shuffle": True},
    "one chunk": {"chunks": (5000,), "maxshape": (None,)},
}
ALPHABETS = {"plain": "abc", "quotes": 'a"b,', "letters": "aäß€😀", "spaces": " \n\tx"}


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_are_those_that_h5py_reads(
    tmp_path: Path, blocks_read: list[bool], through_library: Any, layout: str, alphabet: str
) -> None:
    file = tmp_path / "f.h5"
    texts = words(alphabet=ALPHABETS[alphabet])
    write(file, texts, **LAYOUTS[layout])
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert not isinstance(found, str)
    assert found[1] == np.array(texts).tobytes()
    assert found == through_library(file)


def test_bytes_that_are_no_text_are_those_that_h5py_reads(
    tmp_path: Path, blocks_read: list[bool], through_library: Any
) -> None:
    file = tmp_path / "f.h5"
    texts = [word.encode() + b"\xff" * (number % 7 == 3) for number, word in enumerate(words())]
    write(file, texts, h5py.string_dtype("ascii"))
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert not isinstance(found, str)
    assert found[1] == np.array(texts).tobytes()
    assert found == through_library(file)


@pytest.mark.parametrize("chunks", [(7, 9), (70, 4), (1, 60), (70, 60)])
def test_texts_in_chunks_of_two_dimensions_are_in_order(
    tmp_path: Path, blocks_read: list[bool], through_library: Any, chunks: tuple[int, int]
) -> None:
    file = tmp_path / "f.h5"
    texts = np.array(words(60 * 50), object).reshape(60, 50)
    write(file, texts, chunks=chunks, maxshape=(None, None), compression="gzip")
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert not isinstance(found, str)
    assert found[1] == texts.astype("U").tobytes()
    assert found == through_library(file)


def test_what_was_never_written_is_empty(
    tmp_path: Path, blocks_read: list[bool], through_library: Any
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        dataset = opened.create_dataset("d", (COUNT,), TEXT, chunks=(COUNT,))
        dataset[100:2000] = words(1900)
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert found == through_library(file)


@pytest.mark.parametrize("fill", [None, "filled"])
def test_chunks_that_were_never_written_are_as_the_library_has_them(
    tmp_path: Path, through_library: Any, fill: str | None
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        dataset = opened.create_dataset("d", (COUNT,), TEXT, chunks=(100,), fillvalue=fill)
        dataset[100:2000] = words(1900)
    assert read_through_store(file) == through_library(file)


def test_texts_that_were_written_again_and_again_are_found(
    tmp_path: Path, blocks_read: list[bool], through_library: Any
) -> None:
    file = tmp_path / "f.h5"
    write(file, words())
    with h5py.File(file, "r+") as opened:
        for step in (3, 5, 2):
            opened["d"][::step] = words(len(range(0, COUNT, step)), seed=step)
        for number in random.Random(2).sample(range(COUNT), 200):
            opened["d"][number] = "one" * (number % 5)
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert found == through_library(file)


def test_a_few_long_texts_cost_the_others_nothing(
    tmp_path: Path, blocks_read: list[bool], through_library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_texts, "_LEAST_BLOCK_ELEMENTS", 256)
    monkeypatch.setattr("h5fs.store.format.heap_texts._MOST_TEXT_BYTES", 2**18)
    file = tmp_path / "f.h5"
    texts = words()
    texts[10], texts[20], texts[2000] = "x" * 500, "y" * 1000, "z" * 2000
    write(file, texts)
    found = read_through_store(file)
    assert any(blocks_read) and not all(blocks_read)
    assert found == through_library(file)


MEMBERS: dict[str, list[tuple[Any, ...]]] = {
    "text last": [("a", "<i4"), ("b", "<f8"), ("t", TEXT)],
    "text first": [("t", TEXT), ("a", "<i2"), ("b", ">f8")],
    "texts between": [("a", "i1"), ("t", TEXT), ("b", "<i8", (2,)), ("s", TEXT), ("c", "S3")],
    "texts alone": [("s", TEXT), ("t", TEXT)],
    "a boolean": [("t", TEXT), ("a", "?"), ("b", "<c8")],
    "like an element": [
        ("t", TEXT), ("a", [("length", "<u4"), ("address", "<u8"), ("index", "<u4")]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
@pytest.mark.parametrize("members", MEMBERS)
def test_compounds_with_texts_are_those_that_h5py_reads(
    tmp_path: Path, through_library: Any, blocks_read: list[bool], members: str, layout: str
) -> None:
    file = tmp_path / "f.h5"
    chance = np.random.default_rng(3)
    dtype = np.dtype(MEMBERS[members])
    data = np.zeros(COUNT, dtype)
    for number, name in enumerate(dtype.names or ()):
        if dtype[name].hasobject:
            data[name] = words(seed=number)
        else:
            raw = chance.integers(0, 2, (COUNT, dtype[name].itemsize), np.uint8)
            data[name] = raw.reshape(-1).view(dtype[name].base).reshape(data[name].shape)
    write(file, data, dtype, **LAYOUTS[layout])
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert found == through_library(file)


@pytest.mark.parametrize("dtype", [
    np.dtype([("t", TEXT), ("v", h5py.vlen_dtype("<i4"))]),
    np.dtype([("t", TEXT), ("n", [("u", TEXT)])]),
    np.dtype([("t", TEXT, (2,))]),
    np.dtype([("t", TEXT), ("r", h5py.ref_dtype)]),
])  # fmt: skip
def test_other_types_are_left_to_the_library(
    tmp_path: Path, blocks_read: list[bool], through_library: Any, dtype: Any
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("d", (COUNT,), dtype)
    found = read_through_store(file)
    assert not blocks_read
    assert found == through_library(file)


def test_a_single_read_in_the_middle_reads_no_block(
    tmp_path: Path, blocks_read: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_texts, "_KEPT_BYTES", 1)
    file = tmp_path / "f.h5"
    texts = words(20_000)
    write(file, texts)
    monkeypatch.setattr(stored_texts, "_BLOCK_ELEMENTS", 4096)
    store = Hdf5Store(StoreOptions(file))
    store.open()
    ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"d")).ref
    item_bytes = store.describe_dataset(ref).dtype.itemsize
    blocks_read.clear()
    for number in (10_000, 3000, 7000):
        data = store.read_data(ref, ArrayPart.ELEMENTS, number * item_bytes, item_bytes)
        assert bytes(data).decode("utf-32-le").rstrip("\0") == texts[number]
    assert not blocks_read
    store.close()


def test_without_memory_for_a_block_the_library_reads(
    tmp_path: Path, through_library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def have_no_memory(*_: Any) -> None:
        raise MemoryError

    file = tmp_path / "f.h5"
    write(file, words())
    expected = through_library(file)
    monkeypatch.setattr(stored_texts, "read_texts", have_no_memory)
    assert read_through_store(file) == expected


@pytest.mark.semantics("D13")
@pytest.mark.parametrize("seed", range(6))
def test_damaged_heaps_are_what_the_library_makes_of_them(
    tmp_path: Path, through_library: Any, seed: int
) -> None:
    chance = random.Random(seed)
    file = tmp_path / "f.h5"
    write(file, words(COUNT), chunks=(700,))
    whole = file.read_bytes()
    heaps = [at for at in range(len(whole)) if whole.startswith(b"GCOL", at)]
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3))):
            at = chance.choice(heaps) + chance.choice((
                chance.randrange(16), 16 + chance.randrange(64), chance.randrange(4096),
            ))  # fmt: skip
            at = min(at, len(damaged) - 1)
            damaged[at] = chance.choice((0, 1, 0xFF, chance.randrange(256)))
        file.write_bytes(damaged)
        assert read_through_store(file) == through_library(file)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_elements_are_what_the_library_makes_of_them(
    tmp_path: Path, through_library: Any, seed: int
) -> None:
    chance = random.Random(seed)
    file = tmp_path / "f.h5"
    write(file, words(COUNT))
    with h5py.File(file) as opened:
        offset = opened["d"].id.get_offset()
    whole = file.read_bytes()
    for _ in range(25):
        damaged = bytearray(whole)
        at = offset + chance.randrange(COUNT * 16)
        damaged[at] = chance.choice((0, 1, 0xFF, damaged[at] ^ 1, damaged[at] ^ 8))
        file.write_bytes(damaged)
        assert read_through_store(file) == through_library(file)


def test_a_null_within_a_text_ends_it(
    tmp_path: Path, blocks_read: list[bool], through_library: Any
) -> None:
    file = tmp_path / "f.h5"
    write(file, ["ab#cd" * (number % 4) for number in range(COUNT)])
    file.write_bytes(file.read_bytes().replace(b"b#c", b"b\0c"))
    found = read_through_store(file)
    assert blocks_read and all(blocks_read)
    assert found == through_library(file)


def test_a_file_that_is_cut_off_is_what_the_library_makes_of_it(
    tmp_path: Path, through_library: Any
) -> None:
    file = tmp_path / "f.h5"
    write(file, words(COUNT))
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) - 5000, len(whole) // 2):
        file.write_bytes(whole[:size])
        assert read_through_store(file) == through_library(file)
