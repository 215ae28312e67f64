"""Datasets of unusual types and storage, written over with what they show and with more."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.writing import check_file_opens, errno_of, make_file, same, written

RECORD = np.dtype(
    [("a", "<i4"), ("s", h5py.string_dtype()), ("e", h5py.enum_dtype({"A": 0, "B": 1}, "i1"))]
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["null"] = h5py.Empty("f4")
        opened["null"].attrs["a"] = 1
        opened["scalar"] = 3.0
        opened["source"] = np.arange(10.0)
        opened["complex"] = np.array([1 + 1j, 2])
        opened["bool"] = np.array([True, False])
        targets = [opened["source"].ref, opened["complex"].ref]
        opened.create_dataset("reference", data=targets, dtype=h5py.ref_dtype)
        opened.create_dataset(
            "record", data=np.array([(1, "x", 0), (2, "yy", 1)], RECORD), dtype=RECORD
        )
        opened.create_dataset("big-endian", data=np.arange(5), dtype=">f4")
        opened.create_dataset("scaled", data=np.arange(5), chunks=(5,), scaleoffset=0)
        opened.create_dataset("opaque", data=np.array([b"ab\0", b"xyz"], "V3"))
        opened.create_dataset("array", (2,), np.dtype(("<i2", (3,))))
        opened["x"] = np.arange(2)
        opened["x"].make_scale("x")
        opened["of x"] = np.zeros((2, 3))
        opened["of x"].dims[0].attach_scale(opened["x"])
        opened.create_dataset("raw", (4,), "i4", external=[(str(tmp_path / "raw.bin"), 0, 16)])[
            :
        ] = [1, 2, 3, 4]
    return file


KEPT = [
    "scalar", "source", "complex", "bool", "record", "big-endian", "scaled", "opaque", "array",
    "x", "of x",
]  # fmt: skip


def described(dataset: h5py.Dataset) -> list[Any]:
    """Return what must stay of a dataset."""
    return [dataset.shape, dataset.chunks, dataset.scaleoffset, list(dataset.attrs)]


def test_what_a_dataset_shows_can_be_written_over_it_and_changes_nothing(file: Path) -> None:
    with h5py.File(file) as opened:
        before = {name: described(opened[name]) for name in KEPT}
        types = {name: opened[name].id.get_type().copy() for name in KEPT}
    with written(file) as mount:
        for name in KEPT:
            path = mount.path / f"{name}.npy"
            content = path.read_bytes()
            path.write_bytes(content)
            assert path.read_bytes() == content, name
        assert mount.log_lines() == []
    with h5py.File(file) as opened:
        assert {name: described(opened[name]) for name in KEPT} == before
        assert all(opened[name].id.get_type().equal(types[name]) for name in KEPT)
        assert opened["of x"].dims[0]["x"] == opened["x"]
        assert opened[opened["reference"][1]] == opened["complex"]
    check_file_opens(file)


def test_datasets_of_every_kind_are_replaced_by_longer_ones(file: Path) -> None:
    expected = {}
    with written(file) as mount:
        for name in KEPT:
            path = mount.path / f"{name}.npy"
            array = np.load(path)
            expected[name] = np.concatenate([np.atleast_1d(array)] * 2)
            np.save(path, expected[name])
            assert same(np.load(path), expected[name]), name
        assert mount.log_lines() == []
    with h5py.File(file) as opened:
        assert h5py.check_enum_dtype(opened["record"].dtype["e"]) == {"A": 0, "B": 1}
        assert opened["record"]["s"].tolist() == [b"x", b"yy"] * 2
        for name in ("source", "complex", "bool", "big-endian", "scaled"):
            assert same(opened[name][()], expected[name]), name
    check_file_opens(file)


@pytest.mark.semantics("R4")
@pytest.mark.semantics("R6")
def test_what_scale_offset_would_change_is_refused_in_place_and_stored_without_it_as_a_whole(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    small, large = np.arange(10) % 8, np.arange(10) * 1000
    with h5py.File(file, "w") as opened:
        for name in ("in place", "mapped", "whole"):
            opened.create_dataset(name, data=small, chunks=(10,), scaleoffset=4)
    with written(file) as mount:
        path = mount.path / "in place.npy"
        start = path.stat().st_size - large.nbytes
        with open(path, "r+b", buffering=0) as array:
            assert errno_of(lambda: os.pwrite(array.fileno(), large, start)) == errno.EINVAL
        assert same(np.load(path), small)
        with (mount.path / "mapped.npy").open("r+b") as array:
            mapped = mmap.mmap(array.fileno(), 0)
            mapped[start:] = large.tobytes()
            assert errno_of(mapped.flush) in (errno.EINVAL, errno.EIO)  # by what the kernel keeps
            mapped.close()
        np.save(mount.path / "whole.npy", large)
        assert same(np.load(mount.path / "whole.npy"), large)
        refused, also_refused, left_out = mount.log_lines()
        for line, name in ((refused, "/in place"), (also_refused, "/mapped")):
            assert f"{name}: its lossy filter cannot hold" in line
        assert "/whole: the lossy filter is left out" in left_out
    with h5py.File(file) as opened:
        assert same(opened["in place"][()], small)
        assert same(opened["mapped"][()], small)
        assert same(opened["whole"][()], large)
        assert opened["whole"].scaleoffset is None
    check_file_opens(file)


def test_references_that_lead_nowhere_any_more_are_in_nobodys_way(file: Path) -> None:
    # HDF5 reads the header where one was: what is made there next must not stumble over it.
    with written(file) as mount:
        for name in ("complex", "bool"):
            array = np.load(mount.path / f"{name}.npy")
            np.save(mount.path / f"{name}.npy", np.concatenate([array, array]))
        texts = np.load(mount.path / "reference.npy")
        assert texts[0] == "/source"
        for index in range(5):
            np.load(mount.path / "reference.npy")
            np.save(mount.path / f"new {index}.npy", np.array(["a", "b"]))
        np.save(mount.path / "reference.npy", texts)
        assert same(np.load(mount.path / "reference.npy"), texts)
        assert mount.log_lines() == []
    check_file_opens(file)


def test_data_in_other_files_are_not_written_and_say_so(file: Path) -> None:
    raw = file.with_name("raw.bin")
    before = raw.read_bytes()
    with written(file) as mount:
        path = mount.path / "raw.npy"
        values = np.load(path)

        def change() -> None:
            with open(path, "r+b", buffering=0) as opened:
                opened.seek(132)
                opened.write(b"\x07")

        assert errno_of(change) == errno.EROFS
        for array in (values + 1, np.arange(3.0)):
            known = len(mount.log_lines())
            failed = errno_of(lambda array=array: path.write_bytes(npy_bytes(array)))
            # Either a dataset of the file's own takes its place, or the reason is told.
            assert failed in (None, errno.EROFS), mount.log_lines()[known:]
            assert same(np.load(path), values if failed else array)
    assert raw.read_bytes() == before
    check_file_opens(file)


def test_a_null_dataspace_that_is_copied_over_itself_stays_null(file: Path) -> None:
    with written(file) as mount:
        content = (mount.path / "null.npy").read_bytes()
        (mount.path / "null.npy").write_bytes(content)
        assert (mount.path / "null.npy").read_bytes() == content
    with h5py.File(file) as opened:
        assert opened["null"].shape is None
        assert opened["null"].attrs["a"] == 1


def test_references_that_are_copied_over_themselves_stay_references(file: Path) -> None:
    with written(file) as mount:
        content = (mount.path / "reference.npy").read_bytes()
        (mount.path / "reference.npy").write_bytes(content)
        assert (mount.path / "reference.npy").read_bytes() == content
    with h5py.File(file) as opened:
        assert h5py.check_ref_dtype(opened["reference"].dtype) is h5py.Reference
        assert opened[opened["reference"][0]] == opened["source"]


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("shape", [(4,), (2, 2), (0,), ()])
@pytest.mark.parametrize("storage", [{}, {"chunks": True, "maxshape": (None,)}])
def test_paths_that_are_written_over_references_are_references(
    tmp_path: Path, shape: tuple[int, ...], storage: dict[str, Any]
) -> None:
    file = make_file(tmp_path / "f.h5", a=1, **{"g/b": 2})
    others = "/again", "/nothing", "a"  # a reference is not shown so
    with h5py.File(file, "a") as opened:
        opened["again"] = opened["a"]
        made = opened.create_dataset("refs", (4,), h5py.ref_dtype, **storage)
        made[0] = opened["a"].ref
        made.attrs["n"] = 1
        for number in range(len(others)):
            opened[f"mixed {number}"] = made[:]
        opened["to refs"] = np.array([made.ref], h5py.ref_dtype)
    paths = np.resize(np.array(["/g/b", "", "/a", "/g"]), shape)
    with written(file) as mount:
        for array in (np.asfortranarray(paths), paths):
            np.save(mount.path / "refs.npy", array)
            assert np.array_equal(np.load(mount.path / "refs.npy"), array)
        for number, other in enumerate(others):
            np.save(mount.path / f"mixed {number}.npy", np.array(["/a", other]))
            assert np.load(mount.path / f"mixed {number}.npy").tolist() == ["/a", other]
    with h5py.File(file) as opened:
        assert h5py.check_ref_dtype(opened["refs"].dtype) is h5py.Reference
        assert opened["refs"].shape == shape
        assert opened["refs"].attrs["n"] == 1
        for path, reference in zip(paths.flat, np.ravel(opened["refs"][()]), strict=True):
            assert bool(reference) is bool(path)
            assert not path or opened[reference] == opened[path]
        if shape == (4,):
            assert opened[opened["to refs"][0]] == opened["refs"]
        for number in range(len(others)):
            assert h5py.check_string_dtype(opened[f"mixed {number}"].dtype) is not None


@pytest.mark.semantics("R12")
@pytest.mark.parametrize("late", ["array", "pair"])
def test_an_array_and_a_pair_of_one_name_never_replace_each_other(
    tmp_path: Path, late: str
) -> None:
    file = make_file(tmp_path / "f.h5")
    array = {"x.npy": npy_bytes(np.arange(5.0))}
    pair = {"x.values.npy": npy_bytes(np.arange(3.0)), "x.offsets.npy": npy_bytes(np.array([0, 3]))}
    first, second = (pair, array) if late == "array" else (array, pair)
    *whole, last = second
    with written(file, leaves=True) as mount:
        for name in whole:
            (mount.path / name).write_bytes(second[name])
        descriptor = os.open(mount.path / last, os.O_RDWR | os.O_CREAT)
        os.write(descriptor, second[last])
        for name, data in first.items():
            (mount.path / name).write_bytes(data)
        with pytest.raises(FileExistsError):
            os.close(descriptor)
        for name, data in {**first, **second}.items():
            assert (mount.path / name).read_bytes() == data
    left = file.with_name("f.h5.h5fs-left")
    assert {path.name: path.read_bytes() for path in left.iterdir()} == second
    with h5py.File(file) as opened:
        assert (opened["x"].shape == (5,)) == (first is array)
