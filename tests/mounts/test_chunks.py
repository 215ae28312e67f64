"""Chunks of any shape through real mounts: right bytes, decoded once, in bounded memory."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.disks import small_disk
from support.mounts import Mounted, mounted
from support.processes import bytes_read
from support.reference import npy_bytes
from support.waiting import wait_until

PIPELINES: list[dict[str, Any]] = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "lzf", "shuffle": True},
    {"scaleoffset": 0},
    dict(hdf5plugin.Blosc()),
    dict(hdf5plugin.Zstd()),
    dict(hdf5plugin.LZ4()),
    dict(hdf5plugin.Bitshuffle()),
]
SHAPES = [
    ((1_000_000,), (30_000,)),
    ((40_000,), (7,)),
    ((1500, 1400), (500, 500)),
    ((3000, 700), (3000, 50)),
    ((3000, 700), (1, 700)),
    ((3000, 700), (10, 9999)),
    ((40, 300, 200), (1, 300, 200)),
    ((40, 300, 200), (1, 64, 64)),
    ((40, 300, 200), (40, 1, 200)),
    ((40, 300, 200), (7, 300, 1)),
    ((3, 5, 60, 70, 11), (1, 2, 60, 32, 4)),
]


def make_file(path: Path) -> None:
    """Write arrays of every shape of chunks, through every pipeline in turn; holes in some."""
    choose = random.Random(3)
    with h5py.File(path, "w", libver="latest" if path.stem == "new" else None) as file:
        for number, (shape, chunks) in enumerate(SHAPES):
            for dtype in (("<i4", "S5"), (">f8", "u1"))[number % 2]:
                pipeline = PIPELINES[(number + len(dtype) + choose.randrange(99)) % len(PIPELINES)]
                if "scaleoffset" in pipeline and dtype not in ("<i4", "u1"):
                    pipeline = {"compression": "gzip"}
                dataset = file.create_dataset(
                    f"{number} {dtype}", shape, dtype, chunks=chunks,
                    maxshape=(None,) * len(shape), fillvalue=7 if dtype != "S5" else b"fill",
                    **pipeline,
                )  # fmt: skip
                values = np.arange(np.prod(shape)).reshape(shape) // 3 % 251
                if number % 3:
                    dataset[...] = values.astype(dtype)
                else:  # most chunks are never written
                    dataset[: shape[0] // 3] = values[: shape[0] // 3].astype(dtype)


@pytest.fixture(scope="module", params=["old", "new"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chunks") / f"{request.param}.h5"
    make_file(path)
    return path


@pytest.fixture(scope="module", params=["cache=1M", "cache=64M", "workers=0"])
def mount(request: pytest.FixtureRequest, sample: Path) -> Iterator[Mounted]:
    with mounted(sample, options=["-o", request.param]) as mount:
        yield mount


@pytest.mark.semantics("D1", "D2")
def test_any_shape_of_chunks_gives_the_bytes_of_np_save(mount: Mounted, sample: Path) -> None:
    choose = random.Random(5)
    with h5py.File(sample) as file:
        for name, dataset in file.items():
            expected = npy_bytes(dataset[...])
            with open(mount.path / f"{name}.npy", "rb", buffering=0) as shown:
                for _ in range(4):
                    start = choose.randrange(len(expected))
                    size = choose.choice([1, 4096, 300_000])
                    assert os.pread(shown.fileno(), size, start) == expected[start : start + size]
                assert shown.read() == expected[: 2**31], name


@pytest.mark.semantics("D2")
def test_many_readers_at_once_get_right_bytes(mount: Mounted, sample: Path) -> None:
    wrong: list[str] = []
    with h5py.File(sample) as file:
        expected = {name: npy_bytes(file[name][...]) for name in list(file)[::5]}

    def read(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(60):
            name = choose.choice(sorted(expected))
            start = choose.randrange(len(expected[name]))
            size = choose.choice([100, 10_000, 500_000])
            with open(mount.path / f"{name}.npy", "rb", buffering=0) as shown:
                if os.pread(shown.fileno(), size, start) != expected[name][start : start + size]:
                    wrong.append(f"{name} at {start}")

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def create_filtered(file: h5py.File, name: str) -> h5py.Dataset:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((100, 64))
    creation.set_shuffle()
    creation.set_deflate(4)
    space = h5s.create_simple((250, 100))
    made = h5d.create(file.id, name.encode(), h5t.STD_I32LE, space, creation)
    return h5py.Dataset(made)


@pytest.mark.semantics("D1")
def test_a_filter_that_a_chunk_did_without_is_left_out(tmp_path: Path) -> None:
    values = np.arange(25_000, dtype="<i4").reshape(250, 100)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = create_filtered(file, "d")
        dataset[...] = values
        dataset.id.write_direct_chunk((0, 0), values[:100, :64].tobytes(), filter_mask=3)
    with mounted(tmp_path / "f.h5") as mount:
        assert np.array_equal(np.load(mount.path / "d.npy"), values)


@pytest.mark.semantics("D1", "S4")
def test_a_user_block_moves_data_and_no_byte_of_it(tmp_path: Path) -> None:
    values = np.arange(25_000, dtype="<i4").reshape(250, 100)
    for size in (512, 4096):
        path = tmp_path / f"{size}.h5"
        with h5py.File(path, "w", userblock_size=size) as file:
            file["contiguous"] = values
            file.create_dataset("gzip", data=values, chunks=(64, 64), compression="gzip")
            file.create_dataset("empty", shape=(100,), dtype="<i2", fillvalue=3)
            for number in range(40):  # enough of them for a scan of headers
                file[f"many/{number}"] = values[number]
        with mounted(path) as mount:
            assert np.array_equal(np.load(mount.path / "contiguous.npy"), values)
            assert np.array_equal(np.load(mount.path / "gzip.npy"), values)
            assert np.load(mount.path / "empty.npy").tolist() == [3] * 100
            os.listdir(mount.path / "many")
            for number in range(40):
                assert np.array_equal(np.load(mount.path / f"many/{number}.npy"), values[number])


@pytest.mark.semantics("D2")
def test_no_chunk_is_decoded_twice_by_one_sequential_reader(tmp_path: Path) -> None:
    """In tall columns, with a cache that holds a small part: what is read is counted below."""
    values = np.random.default_rng(1).integers(0, 1000, (20_000, 400)).astype("<i4")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("d", data=values, chunks=(20_000, 20), compression="gzip")
        stored = file["d"].id.get_storage_size()
    with mounted(tmp_path / "f.h5", options=["-o", "cache=4M"]) as mount:
        before = bytes_read(mount.pid)
        assert np.array_equal(np.load(mount.path / "d.npy"), values)
        # What is decoded is read once more, from where it is kept.
        assert bytes_read(mount.pid) - before < 1.5 * stored + values.nbytes + 2**20


def make_tall_columns(path: Path) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(1).integers(0, 1000, (700, 4000)).astype("<i4")
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=values, chunks=(700, 200), compression="gzip")
    return values


def room_on(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bfree * found.f_frsize


@pytest.mark.semantics("D2")
def test_where_there_is_no_room_for_a_band_rows_are_decoded_as_many_as_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = make_tall_columns(tmp_path / "f.h5")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    with small_disk(tmp_path / "disk", 8):
        room = room_on(tmp_path / "disk")
        options = ["-o", "cache=4M", "-o", f"log={tmp_path / 'log'}"]
        with mounted(tmp_path / "f.h5", options=options) as mount:
            for _ in range(2):
                assert np.array_equal(np.load(mount.path / "d.npy"), values)
            # The second time nothing has filled the disk.
            assert (tmp_path / "log").read_text().count("/d: no room for decoded chunks") == 1
            wait_until(lambda: room_on(tmp_path / "disk") == room)
            # One page has five chunks of twenty under it.
            with open(mount.path / "d.npy", "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                assert os.pread(file.fileno(), 40, 128) == values.tobytes()[:40]


@pytest.mark.semantics("D2")
def test_a_damaged_chunk_is_an_error_of_its_elements_alone_where_there_is_no_room_for_a_band(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = make_tall_columns(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as made:
        made["d"].id.write_direct_chunk((0, 2000), b"no deflate stream")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    with (
        small_disk(tmp_path / "disk", 2),
        mounted(tmp_path / "f.h5", options=["-o", "cache=4M"]) as mount,
        open(mount.path / "d.npy", "rb") as file,
    ):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for row in (0, 350, 699):
            for first, count in ((0, 900), (3300, 700)):  # pages have 1,024 elements
                start = (row * 4000 + first) * 4
                read = os.pread(file.fileno(), 4 * count, 128 + start)
                assert read == values[row, first : first + count].tobytes()
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                os.pread(file.fileno(), 40, 128 + (row * 4000 + 2100) * 4)


@pytest.mark.semantics("D2")
def test_an_array_larger_than_the_disk_of_which_little_was_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.zeros((700, 12_000), "<i4")
    values[:, 3000:3400] = np.random.default_rng(1).integers(0, 1000, (700, 400))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", values.shape, "<i4", chunks=(700, 200), shuffle=True)
        dataset[:, 3000:3400] = values[:, 3000:3400]
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    with (
        small_disk(tmp_path / "disk", 8),
        mounted(tmp_path / "f.h5", options=["-o", "cache=8M"]) as mount,
    ):
        assert np.array_equal(np.load(mount.path / "d.npy"), values)


@pytest.mark.semantics("D2")
@pytest.mark.parametrize("layout", [(False, 3), (True, 3), (True, 0)])
def test_a_damaged_chunk_of_a_band_larger_than_memory_leaves_the_others(
    tmp_path: Path, layout: tuple[bool, int]
) -> None:
    is_filtered, fill = layout
    values = np.random.default_rng(1).integers(0, 1000, (1500, 4000)).astype("<i4")
    values[:, 3000:] = fill  # never written
    settings = {"compression": "gzip", "shuffle": True} if is_filtered else {"fletcher32": True}
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset(
            "d", values.shape, "<i4", chunks=(700, 600), fillvalue=fill, **settings
        )
        dataset[:, :3000] = values[:, :3000]
        stored = bytearray(dataset.id.read_direct_chunk((700, 1200))[1])
        stored[len(stored) // 2] ^= 255
        dataset.id.write_direct_chunk((700, 1200), bytes(stored))
    content = npy_bytes(values)
    with (
        mounted(tmp_path / "f.h5", options=["-o", "cache=8M"]) as mount,
        open(mount.path / "d.npy", "rb", buffering=0) as shown,
    ):
        os.posix_fadvise(shown.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for row, column in ((0, 0), (699, 0), (699, 3999), (700, 3999), (1399, 0), (1400, 0)):
            start = 128 + 4 * (4000 * row + column)
            assert os.pread(shown.fileno(), 4, start) == content[start : start + 4]
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.pread(shown.fileno(), 4, 128 + 4 * (4000 * 900 + 1320))
        with open(mount.path / "d.npy", "rb", buffering=0) as another:
            assert os.pread(another.fileno(), 2_000_000, 128) == content[128:2_000_128]


@pytest.mark.semantics("D1", "R4")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_chunks_that_the_library_lists_at_wrong_places_are_read_and_kept(
    tmp_path: Path, mode: str
) -> None:
    numbers = np.arange(1, 25).reshape(4, 6)
    texts = numbers.astype("U2")
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as file:
        settings = {"maxshape": (10, None), "chunks": (2, 3)}
        file.create_dataset("d", data=numbers, **settings)
        file.create_dataset("t", data=texts.astype(object), dtype=h5py.string_dtype(), **settings)
    with mounted(tmp_path / "f.h5", options=["--mode", mode]) as mount:
        assert np.array_equal(np.load(mount.path / "d.npy"), numbers)
        shown = np.load(mount.path / "t.npy")
        assert np.array_equal(shown, texts)
        if mode == "r+":
            shown[0, 0] = "changed"
            np.save(mount.path / "t.npy", shown)
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["t"].asstr()[...].ravel().tolist()[1:] == texts.ravel().tolist()[1:]
