"""Which chunks were written: whatever their index, and whatever became of the array, against h5py.

HDF5 2.0 lists chunks at wrong places (``H5Dchunk_iter`` and its relatives) where one dimension has
no limit and is not the first, in the new format.
"""

from __future__ import annotations

import ctypes
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5i, h5p, h5s, h5t
from support.in_process import InProcessStore
from support.reference import npy_bytes

from h5fs.errors import UnreadableError
from h5fs.model.settings import StoreOptions
from h5fs.store.chunks.geometry import Grid
from h5fs.store.hdf5.reading.chunk_index import list_written_chunks
from h5fs.store.interface import ArrayPart
from h5fs.tree import Tree

LIMITS = ("as it is", "higher", "none")
SHAPE = (5, 4, 3, 4)
CHUNKS = {"cut": (2, 3, 2, 3), "even": (5, 2, 3, 2), "whole": SHAPE}
SHARES = {1: 1, 2: 1, 3: 3, 4: 5}
"""Of so many cases of each rank, one is tried."""
HISTORIES = ("written", "grown", "shrunk", "shrunk and grown", "rewritten")


@dataclass(frozen=True)
class Case:
    """One dataset: how it is stored, and what became of it."""

    limits: tuple[str, ...]
    chunks: str
    is_filtered: bool
    is_early: bool
    is_dense: bool
    is_text: bool
    history: str

    @property
    def rank(self) -> int:
        return len(self.limits)

    def create(self, file: h5py.File, name: str) -> h5py.Dataset:
        shape = SHAPE[: self.rank]
        limits = {"as it is": 0, "higher": 3, "none": None}
        maxshape = tuple(
            h5s.UNLIMITED if limits[limit] is None else size + limits[limit]
            for size, limit in zip(shape, self.limits, strict=True)
        )
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk(CHUNKS[self.chunks][: self.rank])
        if self.is_filtered:
            creation.set_shuffle()
            creation.set_deflate(1)
        if self.is_early:
            creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        if not self.is_text:
            creation.set_fill_value(np.array(-7, "<i4"))
        kind = h5t.py_create(h5py.string_dtype(), logical=True) if self.is_text else h5t.STD_I32LE
        space = h5s.create_simple(shape, maxshape)
        return h5py.Dataset(h5d.create(file.id, name.encode(), kind, space, creation))

    def live(self, dataset: h5py.Dataset, choose: random.Random) -> None:
        self._write(dataset, choose)
        step = 2 if "none" in self.limits else 1
        if "shrunk" in self.history:
            self._resize(dataset, -step)
        if "grown" in self.history:
            self._resize(dataset, 2 * step)
            self._write(dataset, choose)
        if self.history == "rewritten":
            self._write(dataset, choose)

    def _resize(self, dataset: h5py.Dataset, by: int) -> None:
        sizes = zip(dataset.shape, dataset.maxshape, strict=True)
        dataset.resize(tuple(
            size if by > 0 and most == size else min(size + by, most or size + by)
            for size, most in sizes
        ))  # fmt: skip

    def _write(self, dataset: h5py.Dataset, choose: random.Random) -> None:
        values = np.array([choose.randrange(1, 10**6) for _ in range(dataset.size)])
        values = values.reshape(dataset.shape)
        if self.is_dense:
            dataset[...] = values.astype(str).astype(object) if self.is_text else values
            return
        for _ in range(2):
            place = tuple(choose.randrange(size) for size in dataset.shape)
            dataset[place] = str(values[place]) if self.is_text else values[place]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Tree]]:
    """Return what opens ``f.h5`` as a tree in this process."""
    stores = []

    def open_tree() -> Tree:
        store = InProcessStore(StoreOptions(tmp_path / "f.h5"))
        stores.append(store)
        store.open()
        return Tree(store)

    yield open_tree
    for store in stores:
        store.close()


def all_cases() -> Iterator[Case]:
    """Yield every way to store an array, each with a few of the things that become of arrays."""
    histories = itertools.cycle(HISTORIES)
    for rank in (1, 2, 3, 4):
        for limits in itertools.product(LIMITS, repeat=rank):
            ways = itertools.product(CHUNKS, *[(False, True)] * 4)
            for number, (chunks, is_filtered, is_early, is_dense, is_text) in enumerate(ways):
                # All of them would take a minute.
                if (number + hash_of(limits)) % SHARES[rank]:
                    continue
                yield Case(
                    limits, chunks, is_filtered, is_early, is_dense, is_text, next(histories)
                )


def hash_of(limits: tuple[str, ...]) -> int:
    return sum(LIMITS.index(limit) * 7**place for place, limit in enumerate(limits))


@pytest.mark.semantics("D1", "D12")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_arrays_of_every_chunk_index_are_what_h5py_reads(
    tmp_path: Path, libver: Any, opened: Callable[[], Tree], caplog: pytest.LogCaptureFixture
) -> None:
    choose = random.Random(16)
    path = tmp_path / "f.h5"
    cases = {f"{number:04}": case for number, case in enumerate(all_cases())}
    with h5py.File(path, "w", libver=libver) as file:
        for name, case in cases.items():
            case.live(case.create(file, name), choose)
    wrong = []
    tree = opened()
    with h5py.File(path) as file:
        for name, case in cases.items():
            if read_file(tree, name) != expected_bytes(file[name]):
                wrong.append(case)
    assert not wrong, f"{len(wrong)} of {len(cases)}: {wrong[:5]}"
    assert not caplog.records  # no list was doubted


CHUNK_KEYS = {number: struct.pack("<IIQQ", 4, 0, 4 * number, 0) for number in (0, 1, 2, 3, 200)}
"""What the index of a dataset of bytes in chunks of 4 has for a chunk (a version 1 B-tree key)."""


@pytest.mark.semantics("D1")
@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [(3, 200, "a chunk outside of the array, at (800,)"), (2, 1, "a chunk twice")],
)
def test_a_list_of_chunks_that_cannot_be_right_is_not_believed(
    tmp_path: Path, opened: Callable[[], Tree], caplog: pytest.LogCaptureFixture,
    before: int, after: int, reason: str,
) -> None:  # fmt: skip
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("d", data=np.arange(1, 17, dtype="u1"), chunks=(4,))
    content = (tmp_path / "f.h5").read_bytes()
    assert content.count(CHUNK_KEYS[before]) == 1
    (tmp_path / "f.h5").write_bytes(content.replace(CHUNK_KEYS[before], CHUNK_KEYS[after]))
    shown = read_file(opened(), "d")
    with h5py.File(tmp_path / "f.h5") as file:
        assert shown == expected_bytes(file["d"])
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in lines] == ["/d"]
    assert reason in lines[0]


class Lying(h5d.DatasetID):  # type: ignore[misc]
    """A dataset's identifier that says of the storage what is not so."""

    answers: dict[str, int]

    @classmethod
    def of(cls, dataset_id: h5d.DatasetID, **answers: int) -> Lying:
        h5i.inc_ref(dataset_id)  # both close it
        made = cls(dataset_id.id)
        made.answers = answers
        return made

    def get_num_chunks(self, *_: Any) -> int:
        return self.answers.get("chunks", super().get_num_chunks())

    def get_storage_size(self) -> int:
        return self.answers.get("size_bytes", super().get_storage_size())


@pytest.mark.parametrize("answers", [{"chunks": 3}, {"chunks": 5}, {"size_bytes": 15}])
def test_a_list_that_the_storage_contradicts_is_not_believed(
    caplog: pytest.LogCaptureFixture, answers: dict[str, int]
) -> None:
    with h5py.File("f.h5", "w", driver="core", backing_store=False) as file:
        made = file.create_dataset("d", data=np.arange(16, dtype="u1"), chunks=(4,)).id
        grid = Grid((16,), (4,), 1)
        written = list_written_chunks(made, grid, lambda: None)
        assert written is not None
        assert written.numbers.tolist() == [0, 1, 2, 3]
        assert written.sizes.tolist() == [4] * 4
        assert not caplog.records
        assert list_written_chunks(Lying.of(made, **answers), grid, lambda: None) is None
    assert len(caplog.records) == 1


def expected_bytes(dataset: h5py.Dataset) -> bytes:
    values = dataset[...]
    if values.dtype.hasobject:
        values = np.array([value.decode() for value in values.ravel()]).reshape(values.shape)
    return npy_bytes(values)


def read_file(tree: Tree, name: str) -> bytes:
    handle = tree.open(f"/{name}.npy".encode(), 0)
    buffer = bytearray(2**18)
    size = tree.read_into(handle, memoryview(buffer), 0)
    tree.release(handle)
    return bytes(buffer[:size])


@pytest.mark.semantics("D13")
@pytest.mark.parametrize("size", [0, 5])
@pytest.mark.parametrize("chunks", [(4,), (8,)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_chunk_that_is_said_to_take_fewer_bytes_than_it_has_is_damage(
    tmp_path: Path, opened: Callable[[], Tree], size: int, chunks: tuple[int], compression: Any
) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="earliest") as file:
        data = np.arange(1, 9, dtype="<i4")
        file.create_dataset("d", data=data, chunks=chunks, compression=compression, fillvalue=-7)
    content = bytearray((tmp_path / "f.h5").read_bytes())
    chunk_tree = content.index(b"TREE\x01")
    struct.pack_into("<I", content, chunk_tree + 24, size)  # in the key of the first chunk
    (tmp_path / "f.h5").write_bytes(content)
    with pytest.raises(UnreadableError):
        read_file(opened(), "d")


CODERS: dict[str, tuple[dict[str, Any], Callable[[bytes], bytes]]] = {
    "deflate": ({"compression": "gzip"}, zlib.compress),
    "shuffle, deflate": ({"compression": "gzip", "shuffle": True}, lambda b: zlib.compress(
        np.frombuffer(b, "u1").reshape(-1, 2).T.tobytes())),
    "lz4": (dict(hdf5plugin.LZ4()), lambda b: struct.pack(">QII", len(b), len(b), len(b)) + b),
}  # fmt: skip


@pytest.mark.semantics("D1", "D13")
@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(
    ("shape", "chunks", "place", "stored", "is_whole"),
    [
        ((1598,), (1024,), (1024,), 574, True),
        ((1598,), (1024,), (1024,), 573, False),
        ((1598,), (1024,), (0,), 1023, False),
        ((5, 7), (4, 4), (4, 0), 4, True),
        ((5, 7), (4, 4), (4, 4), 3, True),
        ((6, 7), (4, 4), (4, 4), 6, False),
        ((6, 7), (4, 4), (4, 4), 7, True),
        ((6, 7), (4, 4), (0, 4), 15, True),
    ],
)
def test_an_edge_chunk_may_be_stored_without_what_is_outside_of_the_array(
    tmp_path: Path, opened: Callable[[], Tree], coder: str, shape: tuple[int, ...],
    chunks: tuple[int, ...], place: tuple[int, ...], stored: int, is_whole: bool,
) -> None:  # fmt: skip
    settings, encode = CODERS[coder]
    values = np.arange(1, 1 + np.prod(shape), dtype="<u2").reshape(shape)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", data=values, chunks=chunks, **settings)
        chunk = np.zeros(chunks, "<u2")
        ends = zip(place, shape, chunks, strict=True)
        box = tuple(slice(0, min(size - start, n)) for start, size, n in ends)
        within = (slice(start, start + n) for start, n in zip(place, chunks, strict=True))
        chunk[box] = values[tuple(within)]
        dataset.id.write_direct_chunk(place, encode(chunk.tobytes()[: 2 * stored]))
    tree = opened()
    if is_whole:
        assert read_file(tree, "d") == npy_bytes(values)
        return
    with pytest.raises(UnreadableError, match=f"ends after {2 * stored} of"):
        read_file(tree, "d")


_LIBRARY = ctypes.CDLL(h5d.__file__)  # finds the symbols of the HDF5 library that h5py has loaded
_DONT_FILTER_PARTIAL_CHUNKS = 2
_WIDE = np.dtype([(f"a member with a long name, number {number}", "<i4") for number in range(30)])


@pytest.mark.semantics("D1")
@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("dtype", [np.dtype("<i4"), _WIDE], ids=["plain", "wide"])
def test_edge_chunks_may_be_stored_without_filters_in_any_format(
    tmp_path: Path, opened: Callable[[], Tree], libver: Any, dtype: np.dtype[Any]
) -> None:
    """The library writes such a layout into headers of the old format, too."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((6,))
    creation.set_shuffle()
    assert _LIBRARY.H5Pset_chunk_opts(ctypes.c_int64(creation.id), _DONT_FILTER_PARTIAL_CHUNKS) == 0
    values = np.arange(1, 17 * dtype.itemsize // 4 + 1, dtype="<i4").view(dtype)
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as file:
        for number, size in enumerate((17, 11, 18, 2)):
            space = h5s.create_simple((17,), (h5s.UNLIMITED,))
            made = h5d.create(file.id, b"%d" % number, h5t.py_create(dtype), space, creation)
            dataset = h5py.Dataset(made)
            dataset[...] = values
            dataset.resize((size,))
    tree = opened()
    with h5py.File(tmp_path / "f.h5") as file:
        for name, dataset in file.items():
            assert read_file(tree, name) == npy_bytes(dataset[()]), name


def _enumeration() -> Any:
    kind = h5t.enum_create(h5t.STD_I16BE)
    kind.enum_insert(b"A", 1)
    kind.enum_insert(b"B", 513)
    return kind


def _compound_of(member: Any) -> Any:
    kind = h5t.create(h5t.COMPOUND, member.get_size() + 3)
    kind.insert(b"m", 2, member)
    return kind


FILLED: dict[str, tuple[Any, bytes]] = {
    "integer": (h5t.STD_I32BE, b"\1\2\3\4"),
    "array": (h5t.array_create(h5t.STD_I16BE, (2, 2)), b"\1\2\3\4\5\6\7\0"),
    "bitfield": (h5t.STD_B16BE, b"\1\2"),
    "opaque": (h5t.py_create(np.dtype("V3")), b"\1\2\3"),
    "text": (h5t.py_create(np.dtype("S3")), b"abc"),
    "enumeration": (_enumeration(), b"\2\1"),
    "compound of an array": (
        _compound_of(h5t.array_create(h5t.STD_I16BE, (2,))), b"\0\0\1\2\3\4\0"
    ),
    "compound of a bitfield": (_compound_of(h5t.STD_B16LE), b"\0\0\1\2\0"),
}  # fmt: skip


@pytest.mark.semantics("D1")
@pytest.mark.parametrize("kind", FILLED)
@pytest.mark.parametrize("is_filtered", [False, True])
def test_chunks_that_were_never_written_are_full_of_any_fill_value(
    tmp_path: Path, opened: Callable[[], Tree], kind: str, is_filtered: bool
) -> None:
    type_id, value = FILLED[kind]
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((4,))
    if is_filtered:
        creation.set_deflate(1)
    arguments = ctypes.c_int64(creation.id), ctypes.c_int64(type_id.id), value
    assert _LIBRARY.H5Pset_fill_value(*arguments) == 0
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset_id = h5d.create(file.id, b"d", type_id, h5s.create_simple((10,)), creation)
        some = h5s.create_simple((10,))
        some.select_hyperslab((1,), (2,))
        dataset_id.write(
            h5s.create_simple((2,)), some, np.zeros(2, f"V{type_id.get_size()}"), type_id
        )
    found = read_file(opened(), "d")[-10 * type_id.get_size() :]
    assert found == value + bytes(2 * len(value)) + 7 * value


@pytest.mark.semantics("F4")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("grown", [(40, 9), (20, 9), (21, 5), (20, 5)])
def test_an_array_that_has_grown_since_it_was_described_is_read_as_far_as_it_was(
    tmp_path: Path, libver: str, grown: tuple[int, int]
) -> None:
    """A worker that opens the file later finds more chunks than there are in the array."""
    values = np.arange(100, dtype="<i8").reshape(20, 5)
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as file:
        file.create_dataset(
            "d", data=values, maxshape=(None, None), chunks=(10, 4), compression="gzip"
        )
    before = InProcessStore(StoreOptions(tmp_path / "f.h5"))
    before.open()
    root = before.root().ref
    ref = before.follow(root, before.get_link(root, b"d")).ref
    dataset = before.describe_dataset(ref)
    before.close()
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["d"].resize(grown)
        file["d"][20:] = -1
        file["d"][:, 5:] = -1
    after = InProcessStore(StoreOptions(tmp_path / "f.h5"))
    after.open()
    try:
        found = np.zeros_like(values)
        after.read_into(ref, dataset, ArrayPart.ELEMENTS, 0, memoryview(found).cast("B"))
    finally:
        after.close()
    assert (found == values).all()
