"""Virtual datasets, read as their sources are where that is known, and else by the library."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from msgspec import structs
from support.reference import npy_bytes
from support.stores import STARTER
from support.trees import save, writable_tree

from h5fs.errors import (
    CannotOpenError,
    H5fsError,
    StaleError,
    UnreadableError,
    UnsupportedTypeError,
)
from h5fs.model.objects import Chunked, Contiguous, DatasetInfo, ObjectRef, Virtual
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store import open_store
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.reading.alike_sources import AlikeSources
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.worker_stores.worker_store import WorkerStore

SHAPE = (12, 8, 6)
Array = np.ndarray[Any, Any]


def numbers(seed: int, shape: tuple[int, ...], dtype: str = "<i4") -> Array:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Four files, each with the same array in several layouts, and planes and corners of one."""
    gzip = {"compression": "gzip", "shuffle": True}
    for number in range(4):
        with h5py.File(tmp_path / f"s{number}.h5", "w", userblock_size=512 * (number % 2)) as file:
            for name, shape in {
                "rows": (3, 8, 6), "tile": (12, 4, 3), "whole": SHAPE, "line": (3 * 8 * 6,),
            }.items():  # fmt: skip
                file[name] = numbers(number, shape)
                data = numbers(number, shape)
                file.create_dataset(f"{name} gzip", data=data, chunks=True, **gzip)
                file.create_dataset(f"{name} i2", data=numbers(number, shape, "<i2"))
                file.create_dataset(f"{name} big", data=numbers(number, shape, ">i4"))
                file.create_dataset(f"{name} unwritten", shape, "<i4", fillvalue=number)
    return tmp_path


def source(number: int, name: str, shape: tuple[int, ...]) -> h5py.VirtualSource:
    return h5py.VirtualSource(f"s{number}.h5", name, shape)


def join_rows(layout: h5py.VirtualLayout, kind: str) -> None:
    for number in range(4):
        layout[3 * number : 3 * number + 3] = source(number, f"rows{kind}", (3, 8, 6))


def join_tiles(layout: h5py.VirtualLayout, kind: str) -> None:
    for number in range(4):
        row, column = divmod(number, 2)
        part = source(number, f"tile{kind}", (12, 4, 3))
        layout[:, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3] = part


def interleave(layout: h5py.VirtualLayout, kind: str) -> None:
    for number in range(4):
        layout[number::4] = source(number, f"rows{kind}", (3, 8, 6))


def take_every_other(layout: h5py.VirtualLayout, kind: str) -> None:
    for number in range(2):
        layout[6 * number : 6 * number + 6] = source(number, f"whole{kind}", SHAPE)[::2]


def take_columns(layout: h5py.VirtualLayout, kind: str) -> None:
    for column in range(6):
        layout[:, :, column] = source(column % 4, f"whole{kind}", SHAPE)[:, :, 5 - column]


def fold_lines(layout: h5py.VirtualLayout, kind: str) -> None:
    for number in range(4):
        layout[3 * number : 3 * number + 3] = source(number, f"line{kind}", (3 * 8 * 6,))


def overlap(layout: h5py.VirtualLayout, kind: str) -> None:
    join_rows(layout, kind)
    layout[2:5] = source(3, f"rows{kind}", (3, 8, 6))


def leave_a_gap(layout: h5py.VirtualLayout, kind: str) -> None:
    for number in (0, 1, 3):
        layout[3 * number : 3 * number + 3] = source(number, f"rows{kind}", (3, 8, 6))


def miss_a_file(layout: h5py.VirtualLayout, kind: str) -> None:
    join_rows(layout, kind)
    layout[9:12] = source(7, f"rows{kind}", (3, 8, 6))


def miss_a_dataset(layout: h5py.VirtualLayout, kind: str) -> None:
    join_rows(layout, kind)
    layout[9:12] = source(3, "nothing", (3, 8, 6))


JOINED = (join_rows, join_tiles, interleave, take_every_other, fold_lines)
LEFT_TO_THE_LIBRARY = (take_columns, overlap, leave_a_gap, miss_a_file, miss_a_dataset)


@pytest.fixture
def read_back(sources: Path) -> Iterator[Callable[[], tuple[DatasetInfo, bytes]]]:
    """Describes dataset ``v`` of ``v.h5`` and reads it, in pieces of any size, more than once."""
    stores = []

    def read() -> tuple[DatasetInfo, bytes]:
        store = WorkerStore(StoreOptions(sources / "v.h5", workers=1), STARTER)
        stores.append(store)
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref
        dataset = store.describe_dataset(ref)
        data = read_all(store, ref, dataset)
        for _ in range(20):
            start, stop = sorted(random.choices(range(len(data) + 1), k=2))
            assert read_part(store, ref, dataset, start, stop) == data[start:stop]
        return dataset, data

    yield read
    for store in stores:
        store.close()


def read_part(
    store: WorkerStore, ref: ObjectRef, dataset: DatasetInfo, start: int, stop: int
) -> bytes:
    buffer = bytearray(stop - start)
    if buffer:
        store.read_into(ref, dataset, ArrayPart.ELEMENTS, start, memoryview(buffer))
    return bytes(buffer)


def read_all(store: WorkerStore, ref: ObjectRef, dataset: DatasetInfo) -> bytes:
    size = dataset.data_bytes
    return b"".join(
        read_part(store, ref, dataset, at, min(at + 1000, size)) for at in range(0, size, 1000)
    )


def write(
    folder: Path, fill: Callable[[h5py.VirtualLayout, str], None], kind: str, dtype: str = "<i4"
) -> bytes:
    """Write ``v.h5``; return what h5py reads of it."""
    layout = h5py.VirtualLayout(SHAPE, dtype)
    fill(layout, kind)
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout, fillvalue=-5)
    with h5py.File(folder / "v.h5") as file:
        expected: bytes = file["v"][...].tobytes()
    return expected


@pytest.mark.parametrize("kind", ["", " gzip", " unwritten"])
@pytest.mark.parametrize("fill", JOINED)
def test_a_virtual_dataset_is_read_as_its_sources_are(
    sources: Path, read_back: Any, fill: Any, kind: str
) -> None:
    expected = write(sources, fill, kind)
    dataset, data = read_back()
    assert data == expected
    assert isinstance(dataset.data, Virtual)
    ways = {"": Contiguous, " gzip": Chunked, " unwritten": type(None)}
    assert all(isinstance(each.dataset.data, ways[kind]) for each in dataset.data.sources)


@pytest.mark.parametrize("fill", LEFT_TO_THE_LIBRARY)
def test_what_no_source_has_or_several_have_is_left_to_the_library(
    sources: Path, read_back: Any, fill: Any
) -> None:
    expected = write(sources, fill, "")
    dataset, data = read_back()
    assert data == expected
    assert dataset.data is None


@pytest.mark.parametrize("kind", [" i2", " big"])
def test_sources_of_another_type_are_left_to_the_library(
    sources: Path, read_back: Any, kind: str
) -> None:
    expected = write(sources, join_rows, kind)
    dataset, data = read_back()
    assert data == expected
    assert dataset.data is None


def test_the_bytes_of_a_virtual_dataset_are_those_of_its_own_type(
    sources: Path, read_back: Any
) -> None:
    expected = write(sources, join_rows, " big", ">i4")
    dataset, data = read_back()
    assert data == expected
    assert isinstance(dataset.data, Virtual)


def test_sources_that_are_virtual_are_left_to_the_library(sources: Path, read_back: Any) -> None:
    write(sources, join_rows, "")
    (sources / "v.h5").rename(sources / "s9.h5")
    expected = write(sources, lambda layout, _: layout.__setitem__(..., source(9, "v", SHAPE)), "")
    dataset, data = read_back()
    assert data == expected
    assert dataset.data is None


def test_a_source_that_was_made_anew_smaller_is_an_error(sources: Path, read_back: Any) -> None:
    write(sources, join_rows, "")
    with h5py.File(sources / "s1.h5", "r+") as file:
        del file["rows"]
        file["rows"] = numbers(9, (2, 8, 6))
    with h5py.File(sources / "v.h5") as file, pytest.raises(OSError):
        file["v"][...]
    with pytest.raises(UnreadableError):
        read_back()


@pytest.mark.semantics("D13")
@pytest.mark.parametrize("dtype", ["<i4", "text"])
def test_a_source_that_was_resized_is_an_error_where_it_is_mapped_as_a_whole(
    tmp_path: Path, dtype: str
) -> None:
    stored = h5py.string_dtype() if dtype == "text" else np.dtype(dtype)
    layout = h5py.VirtualLayout((4, 6), stored)
    for number in range(4):
        with h5py.File(tmp_path / f"s{number}.h5", "w") as file:
            values = np.arange(6).astype("S1") if dtype == "text" else numbers(number, (6,))
            file.create_dataset("d", data=values, dtype=stored, maxshape=(None,))
        layout[number] = h5py.VirtualSource(f"s{number}.h5", "d", (6,), stored)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        file["d"].resize((9,))
    with h5py.File(tmp_path / "v.h5") as file, pytest.raises(OSError):
        file["v"][...]
    store = WorkerStore(StoreOptions(tmp_path / "v.h5", workers=1), STARTER)
    try:
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref
        if dtype == "text":  # how long it is only all of it tells
            with pytest.raises(UnreadableError, match=r"/v: .* resized"):
                store.describe_dataset(ref)
            return
        dataset = store.describe_dataset(ref)
        for start, stop in ((0, 96), (24, 28), (44, 48), (20, 28)):
            with pytest.raises(UnreadableError, match=r"/v: .* resized"):
                read_part(store, ref, dataset, start, stop)
        for number in (0, 2, 3):  # its neighbours stay readable
            row = read_part(store, ref, dataset, 24 * number, 24 * number + 24)
            assert row == numbers(number, (6,)).tobytes()
    finally:
        store.close()


@pytest.mark.semantics("D13")
def test_a_damaged_index_of_a_source_s_chunks_is_an_error_of_its_part(sources: Path) -> None:
    """The source is alike others; its chunks are not looked at before they are read."""
    expected = write(sources, join_rows, " gzip")
    with h5py.File(sources / "s2.h5") as file:
        chunk = file["rows gzip"].id.get_chunk_info(0).byte_offset
        content = (sources / "s2.h5").read_bytes()
        pointer = content.index((chunk - file.userblock_size).to_bytes(8, "little"))
    node = content.rindex(b"TREE\1", 0, pointer)
    (sources / "s2.h5").write_bytes(content[:node] + b"X" + content[node + 1 :])
    with h5py.File(sources / "v.h5") as file, pytest.raises(OSError):
        file["v"][...]
    store = WorkerStore(StoreOptions(sources / "v.h5", workers=1), STARTER)
    with closing(store):
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref
        dataset = store.describe_dataset(ref)
        size = len(expected) // 4
        for number in range(4):
            start = number * size
            if number == 2:
                with pytest.raises(UnreadableError):
                    read_part(store, ref, dataset, start, start + size)
            else:
                part = read_part(store, ref, dataset, start, start + size)
                assert part == expected[start : start + size]


@pytest.mark.semantics("R27")
def test_sources_in_other_files_are_refused_while_the_file_is_written_however_deep(
    sources: Path,
) -> None:
    write(sources, join_rows, "")
    with h5py.File(sources / "v.h5", "r+") as file:
        file["own"] = np.arange(6)
        for name, of, shape in (("nested", "v", SHAPE), ("at home", "own", (6,))):
            layout = h5py.VirtualLayout(shape, "<i4")
            layout[...] = h5py.VirtualSource(".", of, shape)
            file.create_virtual_dataset(name, layout)
    store = open_store(StoreOptions(sources / "v.h5", workers=0, mode=Mode.UPDATE))
    try:
        root = store.root().ref
        for name in (b"v", b"nested"):
            target = store.get_link(root, name).target
            assert target is not None
            with pytest.raises(UnsupportedTypeError, match="while the file is written"):
                store.describe_dataset(target.ref)
        target = store.get_link(root, b"at home").target
        assert target is not None
        data = bytearray(24)
        dataset = store.describe_dataset(target.ref)
        store.read_into(target.ref, dataset, ArrayPart.ELEMENTS, 0, memoryview(data))
        assert data == np.arange(6, dtype="<i4").tobytes()
    finally:
        store.close()


def test_a_source_that_has_grown_is_read_as_far_as_it_is_mapped(
    sources: Path, read_back: Any
) -> None:
    write(sources, take_every_other, "")
    with h5py.File(sources / "s1.h5", "r+") as file:
        del file["whole"]
        file["whole"] = numbers(9, (14, 8, 6))
    with h5py.File(sources / "v.h5") as file:
        expected = file["v"][...].tobytes()
    dataset, data = read_back()
    assert data == expected
    assert isinstance(dataset.data, Virtual)


def test_blocks_of_any_stride_are_found(sources: Path, read_back: Any) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    for number in range(2):
        space = h5s.create_simple(SHAPE)
        space.select_hyperslab((3 * number, 0, 0), (2, 1, 1), (6, 1, 1), (3, 8, 6))
        taken = h5s.create_simple(SHAPE)
        taken.select_hyperslab((0, 1, 0), (12, 2, 1), (1, 4, 1), (1, 2, 6))
        creation.set_virtual(space, f"s{number}.h5".encode(), b"whole", taken)
    with h5py.File(sources / "v.h5", "w") as file:
        h5py.h5d.create(file.id, b"v", h5py.h5t.STD_I32LE, h5s.create_simple(SHAPE), creation)
    with h5py.File(sources / "v.h5") as file:
        expected = file["v"][...].tobytes()
    dataset, data = read_back()
    assert data == expected
    assert isinstance(dataset.data, Virtual)


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[tuple[Hdf5Store, ObjectRef]]:
    """A store in this process, and a virtual dataset of 60 files, two datasets of each by turns."""
    layout = h5py.VirtualLayout((120,), "<i8")
    for number in range(60):
        with h5py.File(tmp_path / f"part{number}.h5", "w") as file:
            file["a"], file["b"] = [number], [100 + number]
        layout[number] = h5py.VirtualSource(f"part{number}.h5", "a", (1,))
        layout[60 + number] = h5py.VirtualSource(f"part{number}.h5", "b", (1,))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with closing(Hdf5Store(StoreOptions(tmp_path / "v.h5"))) as store:
        store.open()
        yield store, store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref


def files_open(folder: Path) -> int:
    """Return how many descriptors this process has of files in a folder."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{folder}/")
    return found


def test_few_of_many_sources_files_stay_open(
    joined: tuple[Hdf5Store, ObjectRef], tmp_path: Path
) -> None:
    store, ref = joined
    assert isinstance(store.describe_dataset(ref).data, Virtual)
    assert files_open(tmp_path) <= 1 + 8
    assert isinstance(store.describe_dataset(ref).data, Virtual)
    # The library opens them anew, by itself.
    data = store.read_data(ref, ArrayPart.ELEMENTS, 0, 8 * 120)
    assert np.frombuffer(data, "<i8").tolist() == [*range(60), *range(100, 160)]


def test_of_sources_that_are_alike_the_library_opens_one(
    joined: tuple[Hdf5Store, ObjectRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ref = joined
    opened: list[int] = []
    file_id = OpenFiles.file_id

    def noted(files: OpenFiles, number: int) -> Any:
        opened.append(number)
        return file_id(files, number)

    monkeypatch.setattr(OpenFiles, "file_id", noted)
    virtual = store.describe_dataset(ref).data
    assert isinstance(virtual, Virtual)
    assert len(virtual.sources) == 120
    assert len(set(opened) - {0}) == 1


def test_the_file_of_a_virtual_dataset_stays_open_while_its_sources_are_looked_at(
    joined: tuple[Hdf5Store, ObjectRef], tmp_path: Path
) -> None:
    """A virtual dataset that is itself a source has sources, too, in as many files."""
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        layout = h5py.VirtualLayout((121,), "<i8")
        layout[:120] = h5py.VirtualSource("v.h5", "v", (120,))
        layout[120:] = h5py.VirtualSource("part7.h5", "b", (1,))
        file.create_virtual_dataset("v", layout)
        file["link"] = h5py.ExternalLink("v.h5", "/v")
    with closing(Hdf5Store(StoreOptions(tmp_path / "outer.h5"))) as store:
        store.open()
        for name, expected in {
            b"v": [*range(60), *range(100, 160), 107], b"link": [*range(60), *range(100, 160)],
        }.items():  # fmt: skip
            root = store.root().ref
            ref = store.follow(root, store.get_link(root, name)).ref
            assert isinstance(store.describe_dataset(ref).data, Virtual) == (name == b"link")
            data = store.read_data(ref, ArrayPart.ELEMENTS, 0, 8 * len(expected))
            assert np.frombuffer(data, "<i8").tolist() == expected


def make_gzip(file: h5py.File, number: int) -> None:
    data = numbers(number, (2, 6))
    file.create_dataset("g/d", data=data, chunks=(1, 4), compression="gzip")


def make_virtual(file: h5py.File, number: int) -> None:
    file["own"] = numbers(number, (2, 6))
    layout = h5py.VirtualLayout((2, 6), "<i4")
    layout[...] = h5py.VirtualSource(".", "own", (2, 6))
    file.create_virtual_dataset("g/d", layout)


def make_soft(file: h5py.File, number: int) -> None:
    file["own"] = numbers(number, (2, 6))
    file["g/d"] = h5py.SoftLink("/own")


def make_with_attributes(file: h5py.File, number: int) -> None:
    for index in range(number):
        file[f"before {index}"] = index
    file["g/d"] = numbers(number, (2, 6))
    for index in range(20):
        file["g/d"].attrs[f"a{index}"] = "x" * 100


MAKE: dict[str, Callable[[h5py.File, int], None]] = {
    "plain": lambda file, number: file.__setitem__("g/d", numbers(number, (2, 6))),
    "gzip": make_gzip,
    "unwritten": lambda file, _: file.create_dataset("g/d", (2, 6), "<i4", fillvalue=3),
    "wide": lambda file, number: file.__setitem__("g/d", numbers(number, (2, 6), "<i8")),
    "long": lambda file, number: file.__setitem__("g/d", numbers(number, (3, 6))),
    "virtual": make_virtual,
    "soft": make_soft,
    "attributes": make_with_attributes,
    "nothing": lambda file, _: None,
}


JOINABLE = ["plain", "gzip", "unwritten", "soft", "attributes"]


def mark_as_open(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[11] |= 1
    path.write_bytes(content)


@pytest.mark.semantics("D13", "L6")
@pytest.mark.parametrize("seed", range(24))
def test_alike_sources_change_nothing_of_what_is_said_and_read(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever files are among the sources: as the library says of each, and as h5py reads."""
    chance = random.Random(seed)
    among = list(MAKE) if seed % 2 else JOINABLE
    kinds = chance.choices(among, [9, *[1] * (len(among) - 1)], k=12)
    layout = h5py.VirtualLayout((24, 6), "<i4")
    for number, kind in enumerate(kinds):
        path = tmp_path / f"s{number}.h5"
        libver = chance.choice(["earliest", "earliest", "v108", "latest"])
        with h5py.File(path, "w", libver=libver, userblock_size=chance.choice([0, 0, 512])) as file:
            MAKE[kind](file, number)
        layout[2 * number : 2 * number + 2] = h5py.VirtualSource(path.name, "g/d", (2, 6))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout, fillvalue=-5)
    fate = chance.choice(["", "", "marked", "gone", "locked", "logged", "cut off", "a link"])
    victim = tmp_path / f"s{chance.randrange(12)}.h5"
    if fate == "marked":
        mark_as_open(victim)
    elif fate == "gone":
        victim.unlink()
    elif fate == "logged":
        Path(f"{victim}.h5fs-log").write_bytes(b"something")
    elif fate == "cut off":
        os.truncate(victim, victim.stat().st_size - 8)
    elif fate == "a link":
        victim.rename(tmp_path / "other.h5")
        victim.symlink_to("other.h5")
    with victim.open("rb") if victim.exists() else (tmp_path / "v.h5").open("rb") as held:
        if fate == "locked":
            fcntl.flock(held, fcntl.LOCK_EX)
        with monkeypatch.context() as patched:
            patched.setattr(AlikeSources, "get", lambda *_: None)
            by_library = describe_here(tmp_path / "v.h5")
        said = describe_here(tmp_path / "v.h5")
        assert said == by_library
        expected = read_or_none(lambda: read_with_h5py(tmp_path / "v.h5"))
        assert read_by_worker(tmp_path / "v.h5") == (expected if fate != "logged" else None)


@pytest.mark.semantics("U4")
def test_a_source_is_not_read_without_the_log_that_it_has(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["d"] = numbers(0, (2, 6))
    layout = h5py.VirtualLayout((2, 6), "<i4")
    layout[:] = h5py.VirtualSource("s.h5", "d", (2, 6))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with writable_tree(tmp_path / "s.h5") as tree:
        save(tree, b"/d.npy", npy_bytes(numbers(7, (2, 6))))
        shutil.copy(tmp_path / "s.h5.h5fs-log", tmp_path / "log")
        before = (tmp_path / "s.h5").read_bytes()
    written, place = (tmp_path / "s.h5").read_bytes(), tmp_path / "s.h5.h5fs-log"
    (tmp_path / "s.h5").write_bytes(before)  # as if the mount had been killed
    shutil.copy(tmp_path / "log", place)
    said = describe_here(tmp_path / "v.h5")
    assert said[0] is CannotOpenError and "h5fs recover" in said[1]
    assert read_by_worker(tmp_path / "v.h5") is None
    place.unlink()
    (tmp_path / "s.h5").write_bytes(written)
    assert read_by_worker(tmp_path / "v.h5") == numbers(7, (2, 6)).tobytes()


@pytest.mark.semantics("L7")
@pytest.mark.parametrize("is_open", [False, True])
def test_a_source_that_is_rewritten_in_place_does_not_say_how_others_look(
    tmp_path: Path, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``is_open``: the library has opened it as it was before; else it is rewritten just then."""
    layout = h5py.VirtualLayout((12, 3), "<i4")
    for number in range(3):
        with h5py.File(tmp_path / f"s{number}.h5", "w") as file:
            file["d"] = numbers(number, (4, 6))
        part = h5py.VirtualSource(f"s{number}.h5", "d", (4, 6))[:, :3]
        layout[4 * number : 4 * number + 4] = part
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
        file["first"] = h5py.ExternalLink("s0.h5", "/d")
    usual = (tmp_path / "s0.h5").read_bytes()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["d"] = numbers(0, (6, 4))
    other = (tmp_path / "other.h5").read_bytes()
    assert len(other) == len(usual)
    with closing(Hdf5Store(StoreOptions(tmp_path / "v.h5"))) as store:
        store.open()
        root = store.root().ref
        if is_open:
            (tmp_path / "s0.h5").write_bytes(other)
            first = store.follow(root, store.get_link(root, b"first")).ref
            assert store.describe_dataset(first).shape == (6, 4)
            (tmp_path / "s0.h5").write_bytes(usual)
        else:
            file_id = OpenFiles.file_id

            def rewritten(files: OpenFiles, number: int) -> Any:
                if number:
                    (tmp_path / "s0.h5").write_bytes(other)
                return file_id(files, number)

            monkeypatch.setattr(OpenFiles, "file_id", rewritten)
        ref = store.follow(root, store.get_link(root, b"v")).ref
        data = store.describe_dataset(ref).data
    assert isinstance(data, Virtual)
    shapes = [each.dataset.shape for each in data.sources]
    assert shapes == [(4, 6) if is_open else (6, 4), (4, 6), (4, 6)]


def describe_here(path: Path) -> Any:
    """Return what a store in this process says, but for what each source takes in its file."""
    with closing(Hdf5Store(StoreOptions(path))) as store:
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref
        try:
            dataset = store.describe_dataset(ref)
        except H5fsError as error:
            return type(error), str(error)
        if not isinstance(dataset.data, Virtual):
            return dataset
        sources = [
            (each.ref, each.ref.path, structs.replace(each.dataset, storage_size_bytes=0))
            for each in dataset.data.sources
        ]
        return structs.replace(dataset, data=None), sources, dataset.data.runs


def read_with_h5py(path: Path) -> bytes:
    with h5py.File(path) as file:
        data: bytes = file["v"][...].tobytes()
    return data


def read_by_worker(path: Path) -> bytes | None:
    store = WorkerStore(StoreOptions(path, workers=1), STARTER)
    with closing(store):
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref
        return read_or_none(lambda: read_all(store, ref, store.describe_dataset(ref)))


def read_or_none(read: Callable[[], bytes]) -> bytes | None:
    try:
        return read()
    except (OSError, H5fsError):
        return None


def make_virtual(sources: Path, name: str) -> Array:
    """Make ``v`` of one source, 40 KB of ones; return what h5py reads of it."""
    with h5py.File(sources / "v.h5", "w", libver="latest") as file:
        layout = h5py.VirtualLayout((10_000,), "<i4")
        layout[:] = h5py.VirtualSource(name, "d", (10_000,))
        file.create_virtual_dataset("v", layout, fillvalue=-1)
    with h5py.File(sources / "v.h5") as file:
        found: Array = file["v"][()]
    return found


@pytest.mark.parametrize("has_one_more", [False, True])
def test_a_percent_sign_in_a_source_s_name_is_written_twice(
    sources: Path, read_back: Any, has_one_more: bool
) -> None:
    for number, name in enumerate(["p%%.h5", *["p%.h5"] * has_one_more]):
        with h5py.File(sources / name, "w") as file:
            file["d"] = np.full(10_000, number, "<i4")
    expected = make_virtual(sources, "p%%.h5")
    assert expected[0] == (1 if has_one_more else -1)
    assert read_back()[1] == expected.tobytes()


@pytest.mark.parametrize("is_absolute", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_source_s_file_is_where_the_library_looks_first(
    sources: Path, read_back: Any, is_absolute: bool, is_there: bool
) -> None:
    """Another file of that name, in the folder of the virtual dataset, has such a dataset."""
    (sources / "sub").mkdir()
    if is_there:
        h5py.File(sources / "sub" / "s.h5", "w").close()
    with h5py.File(sources / "s.h5", "w") as file:
        file["d"] = np.ones(10_000, "<i4")
    expected = make_virtual(sources, f"{sources}/sub/s.h5" if is_absolute else "sub/s.h5")
    assert expected[0] == (1 if is_absolute and not is_there else -1)
    assert read_back()[1] == expected.tobytes()


def write_columns(path: Path, first: int, count: int) -> None:
    """Write an array of 4 rows to a file that takes the place of the one that was there."""
    new = path.with_suffix(".new")
    with h5py.File(new, "w") as file:
        columns = np.arange(first, first + count)
        data = 1000 * np.arange(4)[:, None] + columns
        file.create_dataset("d", data=data, maxshape=(4, None), chunks=(4, 3))
    new.rename(path)


def make_growing(path: Path, *, is_numbered: bool) -> None:
    """Make ``v``, whose rows grow: with its source, or with the number of its sources."""
    creation = h5p.create(h5p.DATASET_CREATE)
    joined = h5s.create_simple((4, 6), (4, h5s.UNLIMITED))
    if is_numbered:
        joined.select_hyperslab((0, 0), (1, h5s.UNLIMITED), (4, 3), (4, 3))
        creation.set_virtual(joined, b"s%b.h5", b"d", h5s.create_simple((4, 3)))
    else:
        joined.select_hyperslab((0, 0), (1, h5s.UNLIMITED), (1, 1), (4, 1))
        creation.set_virtual(joined, b"s0.h5", b"d", joined)
    with h5py.File(path, "w", libver="latest") as file:
        space = h5s.create_simple((4, 0), (4, h5s.UNLIMITED))
        h5d.create(file.id, b"v", h5t.STD_I64LE, space, creation)


@pytest.mark.semantics("L7")
@pytest.mark.parametrize("is_numbered", [False, True])
def test_what_was_described_with_shorter_rows_is_stale_and_then_as_it_is(
    tmp_path: Path, is_numbered: bool
) -> None:
    make_growing(tmp_path / "v.h5", is_numbered=is_numbered)
    if is_numbered:
        for number in range(2):
            write_columns(tmp_path / f"s{number}.h5", 3 * number, 3)
    else:
        write_columns(tmp_path / "s0.h5", 0, 6)
    store = WorkerStore(StoreOptions(tmp_path / "v.h5", workers=1), STARTER)
    with closing(store):
        store.open()
        ref = store.follow(store.root().ref, store.get_link(store.root().ref, b"v")).ref
        before = store.describe_dataset(ref)
        assert before.shape == (4, 6)
        assert read_all(store, ref, before) == read_with_h5py(tmp_path / "v.h5")
        if is_numbered:
            write_columns(tmp_path / "s2.h5", 6, 3)
        else:
            write_columns(tmp_path / "s0.h5", 0, 9)
        expected = read_with_h5py(tmp_path / "v.h5")
        for process in store.statistics().workers.pids:
            os.kill(process, signal.SIGKILL)
        with pytest.raises(StaleError):
            read_all(store, ref, before)
        after = store.describe_dataset(ref)
        assert after.shape == (4, 9)
        assert read_all(store, ref, after) == expected
