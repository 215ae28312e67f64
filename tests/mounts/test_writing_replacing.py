"""What a dataset keeps when it is replaced, resized or written in place; how new ones are made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy_format
from support.reference import npy_bytes
from support.writing import check_file_opens, make_file, same, shell, written

GRID = np.arange(600, dtype="<i4").reshape(20, 30)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A file whose datasets are stored in ways that must survive."""
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        dataset = opened.create_dataset(
            "d", data=GRID, chunks=(7, 9), maxshape=(None, 40), compression="gzip",
            compression_opts=7, shuffle=True, fletcher32=True, fillvalue=-5,
        )  # fmt: skip
        dataset.attrs["units"] = "m"
        dataset.attrs["scale"] = np.float32(0.1)
        opened["twin"] = dataset
        opened["g/third"] = dataset
        opened["plain"] = GRID
        opened["plain"].attrs["note"] = "kept"
        opened["plain twin"] = opened["plain"]
        opened["soft"] = h5py.SoftLink("/plain")
        opened["reference"] = np.array(opened["plain"].ref, h5py.ref_dtype)
        opened.create_dataset("lzf", data=GRID, chunks=True, compression="lzf", maxshape=(20, 30))
        opened.create_dataset("fixed", data=GRID, chunks=(5, 30))
        color = h5py.enum_dtype({"RED": 0, "BLUE": 7}, "u1")
        opened.create_dataset("color", data=np.array([0, 7, 7], "u1"), dtype=color)
        opened.create_dataset("int24", data=np.arange(5), dtype="i4")
        text = h5py.string_dtype("utf-8")
        opened.create_dataset("text", data=["a", "größer"], dtype=text, maxshape=(None,))
        opened.create_dataset("ascii", data=["a", "bb"], dtype=h5py.string_dtype("ascii"))
        opened.create_dataset("fixed text", data=np.array([b"ab", b"cde"]), dtype="S8")
        opened.create_dataset("compact", data=np.arange(4), dcpl=compact())
        opened["committed"] = np.dtype("<f8")
        opened.create_dataset("of committed", data=np.arange(3.0), dtype=opened["committed"])
    return file


def compact() -> Any:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    return creation


def check_kept(dataset: h5py.Dataset) -> None:
    """The dataset ``d`` of ``stored`` is stored as it was, with its attributes and names."""
    assert dataset.chunks == (7, 9)
    assert dataset.maxshape == (None, 40)
    assert (dataset.compression, dataset.compression_opts) == ("gzip", 7)
    assert (dataset.shuffle, dataset.fletcher32) == (True, True)
    assert dict(dataset.attrs) == {"units": "m", "scale": np.float32(0.1)}
    assert dataset.attrs.get_id("scale").dtype == np.dtype("<f4")
    assert [dataset.file[name] == dataset for name in ("d", "twin", "g/third")] == [True] * 3
    assert h5py.h5o.get_info(dataset.id).rc == 3


@pytest.mark.semantics("R4")
@pytest.mark.parametrize(
    "array", [GRID + 1, GRID[:5], np.tile(GRID, (3, 1)), GRID[:, :3], np.zeros((0, 30), "<i4")]
)
def test_an_array_of_the_same_kind_leaves_everything_else_as_it_was(
    stored: Path, array: np.ndarray
) -> None:
    with written(stored) as mount:
        np.save(mount.path / "twin.npy", array)
        for name in ("d.npy", "twin.npy", "g/third.npy"):
            assert same(np.load(mount.path / name), array)
    with h5py.File(stored) as opened:
        check_kept(opened["d"])
        assert opened["d"].fillvalue == -5
        assert same(opened["d"][()], np.ascontiguousarray(array))


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("array", [GRID.astype("<f8"), GRID.astype(">u2")[:4]])
def test_another_dtype_keeps_storage_attributes_and_names(stored: Path, array: np.ndarray) -> None:
    with written(stored) as mount:
        np.save(mount.path / "g/third.npy", array)
        assert same(np.load(mount.path / "d.npy"), array)
    with h5py.File(stored) as opened:
        check_kept(opened["d"])
        assert same(opened["d"][()], array)


@pytest.mark.semantics("R4")
def test_a_shape_beyond_maxshape_keeps_filters_and_chunks(stored: Path) -> None:
    wide = np.zeros((20, 50), "<i4")
    with written(stored) as mount:
        np.save(mount.path / "d.npy", wide)
        np.save(mount.path / "fixed.npy", wide)
        np.save(mount.path / "lzf.npy", GRID[0])
    with h5py.File(stored) as opened:
        dataset = opened["d"]
        assert (dataset.chunks, dataset.maxshape) == ((7, 9), (20, 50))
        assert (dataset.compression, dataset.compression_opts, dataset.shuffle) == ("gzip", 7, True)
        assert dataset.attrs["units"] == "m"
        assert opened["twin"] == dataset
        assert opened["fixed"].chunks == (5, 30)
        assert same(opened["fixed"][()], wide)
        assert opened["lzf"].compression == "lzf"
        assert same(opened["lzf"][()], GRID[0])


@pytest.mark.semantics("R4")
def test_types_that_show_as_the_same_dtype_are_kept(stored: Path) -> None:
    with written(stored) as mount:
        np.save(mount.path / "color.npy", np.array([7, 0, 0], "u1"))
        np.save(mount.path / "text.npy", np.array(["x", "yy", "zzz", ""]))
        np.save(mount.path / "ascii.npy", np.array(["x", "yyy"]))
        np.save(mount.path / "fixed text.npy", np.array([b"x", b"y"], "S8"))
        np.save(mount.path / "of committed.npy", np.ones(3))
        np.save(mount.path / "compact.npy", np.ones(4, "<i8"))
    with h5py.File(stored) as opened:
        assert h5py.check_enum_dtype(opened["color"].dtype) == {"RED": 0, "BLUE": 7}
        assert opened["color"][()].tolist() == [7, 0, 0]
        assert opened["text"].maxshape == (None,)
        assert opened["text"].asstr()[()].tolist() == ["x", "yy", "zzz", ""]
        assert opened["ascii"].asstr()[()].tolist() == ["x", "yyy"]
        assert opened["fixed text"][()].tolist() == [b"x", b"y"]
        assert opened["of committed"].id.get_type().committed()
        assert opened["compact"].id.get_create_plist().get_layout() == h5py.h5d.COMPACT
        assert opened["compact"][()].tolist() == [1] * 4


@pytest.mark.semantics("R4")
def test_replacing_through_one_name_changes_the_other_and_references_still_lead_there(
    stored: Path,
) -> None:
    with written(stored) as mount:
        np.save(mount.path / "plain twin.npy", GRID * 2)
        assert same(np.load(mount.path / "plain.npy"), GRID * 2)
        assert same(np.load(mount.path / "soft"), GRID * 2)
        assert (mount.path / "plain.npy").stat().st_nlink == 2
    with h5py.File(stored) as opened:
        assert opened["plain"] == opened["plain twin"]
        assert opened["plain"].attrs["note"] == "kept"
        assert opened[opened["reference"][()]] == opened["plain"]


@pytest.mark.semantics("R6")
def test_slices_of_a_map_are_written_in_place(stored: Path) -> None:
    expected = GRID.copy()
    with written(stored) as mount:
        for name in ("d.npy", "plain.npy"):
            mapped = np.load(mount.path / name, mmap_mode="r+")
            mapped[3:9, ::4] = -7
            mapped[-1, -1] = 99
            mapped.flush()
            del mapped
        color = np.load(mount.path / "color.npy", mmap_mode="r+")
        color[1] = 0
        color.flush()
        del color
    expected[3:9, ::4] = -7
    expected[-1, -1] = 99
    with h5py.File(stored) as opened:
        assert same(opened["d"][()], expected)
        check_kept(opened["d"])
        assert same(opened["plain"][()], expected)
        assert h5py.check_enum_dtype(opened["color"].dtype) == {"RED": 0, "BLUE": 7}
        assert opened["color"][()].tolist() == [0, 0, 7]


@pytest.mark.semantics("R6")
def test_bytes_anywhere_within_the_data_are_written_in_place(stored: Path) -> None:
    expected = {name: bytearray(npy_bytes(GRID)) for name in ("d", "plain")}
    generator = np.random.default_rng(5)
    with written(stored) as mount:
        for name, content in expected.items():
            with open(mount.path / f"{name}.npy", "r+b", buffering=0) as opened:
                for _ in range(40):
                    start = int(generator.integers(128, len(content)))
                    data = generator.bytes(int(generator.integers(1, len(content) - start + 1)))
                    opened.seek(start)
                    opened.write(data)
                    content[start : start + len(data)] = data
            assert (mount.path / f"{name}.npy").read_bytes() == content
    with h5py.File(stored) as opened:
        for name, content in expected.items():
            assert npy_bytes(opened[name][()]) == content
        check_kept(opened["d"])


def append(path: Path, rows: np.ndarray) -> None:
    """Append as NpyAppendArray does: the header is written anew over the old one."""
    old = np.load(path, mmap_mode="r")
    shape = (len(old) + len(rows), *old.shape[1:])
    content = bytearray(path.read_bytes()[:128])
    del old
    with open(path, "r+b") as opened:
        opened.seek(0, os.SEEK_END)
        opened.write(rows.tobytes())
        opened.seek(0)
        text = npy_format.header_data_from_array_1_0(rows) | {"shape": shape}
        header = repr({key: text[key] for key in ("descr", "fortran_order", "shape")})
        header = header[:-1] + ", }"
        content[10:] = header.encode().ljust(117) + b"\n"
        opened.write(content)


@pytest.mark.semantics("R7")
def test_what_is_appended_extends_a_dataset_where_its_maxshape_allows(stored: Path) -> None:
    with written(stored) as mount:
        for name in ("d", "plain", "fixed"):
            for factor in (2, 3):
                append(mount.path / f"{name}.npy", GRID[:6] * factor)
            expected = np.concatenate([GRID, GRID[:6] * 2, GRID[:6] * 3])
            assert (mount.path / f"{name}.npy").read_bytes() == npy_bytes(expected)
    with h5py.File(stored) as opened:
        for name in ("d", "plain", "fixed"):
            assert same(opened[name][()], expected)
        check_kept(opened["d"])
        assert opened["plain"].attrs["note"] == "kept"
        assert opened["plain"] == opened["plain twin"]


@pytest.mark.semantics("R9")
def test_a_map_that_is_made_over_a_dataset_replaces_it(stored: Path) -> None:
    with written(stored) as mount:
        mapped = npy_format.open_memmap(mount.path / "d.npy", "w+", "<i4", (6, 30))
        mapped[:3] = 4
        mapped.flush()
        del mapped
    with h5py.File(stored) as opened:
        assert opened["d"][()].tolist() == [[4] * 30] * 3 + [[0] * 30] * 3
        check_kept(opened["d"])


def test_truncate_that_leaves_no_whole_array_changes_nothing(stored: Path) -> None:
    with written(stored) as mount:
        before = (mount.path / "d.npy").read_bytes()
        for script in ("truncate -s 500 d.npy", "truncate -s +8 plain.npy"):
            shell(f"! {script} 2>/dev/null", mount.path)
        assert (mount.path / "d.npy").read_bytes() == before
        shell("truncate -s 2528 plain.npy", mount.path)  # as long as it is
        assert (mount.path / "plain.npy").read_bytes() == npy_bytes(GRID)
    with h5py.File(stored) as opened:
        check_kept(opened["d"])
        assert same(opened["d"][()], GRID)
        assert same(opened["plain"][()], GRID)


@pytest.mark.semantics("R5")
@pytest.mark.parametrize(
    ("options", "chunks", "filters"),
    [
        ("compression=gzip:6", "any", ("gzip", 6, False)),
        ("compression=gzip,shuffle", "any", ("gzip", 4, True)),
        ("chunks=10x8", (10, 8), (None, None, False)),
        ("chunks=100x4,compression=gzip:1,shuffle", (20, 4), ("gzip", 1, True)),
        ("compression=none", None, (None, None, False)),
    ],
)
def test_new_datasets_are_stored_as_the_options_say(
    tmp_path: Path, options: str, chunks: Any, filters: tuple[Any, ...]
) -> None:
    file = make_file(tmp_path / "f.h5", old=GRID)
    with written(file, "-o", options) as mount:
        np.save(mount.path / "new.npy", GRID)
        np.save(mount.path / "old.npy", GRID + 1)
        np.save(mount.path / "scalar.npy", np.float64(2))
        np.save(mount.path / "empty.npy", GRID[:0])
        np.save(mount.path / "text.npy", np.array([["a", "b"], ["c", "größer"]]))
    with h5py.File(file) as opened:
        new = opened["new"]
        assert (new.compression, new.compression_opts, new.shuffle) == filters
        assert (new.chunks is not None) if chunks == "any" else new.chunks == chunks
        assert new.maxshape == new.shape
        assert same(new[()], GRID)
        assert opened["old"].chunks is None
        assert opened["scalar"][()] == 2
        assert opened["empty"].shape == (0, 30)
        assert opened["text"].asstr()[()].tolist() == [["a", "b"], ["c", "größer"]]
    check_file_opens(file)


def test_compressed_datasets_are_smaller_and_du_says_so(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    array = np.repeat(np.arange(1000), 1000)
    with written(file, "-o", "compression=gzip:6,shuffle") as mount:
        np.save(mount.path / "x.npy", array)
        status = (mount.path / "x.npy").stat()
        assert status.st_blocks * 512 < status.st_size / 10
        assert same(np.load(mount.path / "x.npy"), array)
    with h5py.File(file) as opened:
        assert same(opened["x"][()], array)
    assert file.stat().st_size < array.nbytes / 10


def test_a_replaced_dataset_gives_its_space_back_to_the_next(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    array = np.zeros(2**17)
    with written(file) as mount:
        for count in range(1, 21):
            np.save(mount.path / "x.npy", array[: len(array) - count])
    assert file.stat().st_size < 4 * array.nbytes
