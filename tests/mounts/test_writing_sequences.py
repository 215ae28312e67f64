"""A dataset of sequences of which one file is written: with the other one, or it waits for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.mounts import end_mount, mounted
from support.reference import npy_bytes
from support.writing import unmount, written

pytestmark = pytest.mark.semantics("R12")

OLD_VALUES, OLD_OFFSETS = [1, 2, 3], [0, 2, 2, 3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        for name, shape in (("v", (3,)), ("square", (1, 3))):
            sequences = opened.create_dataset(name, shape, h5py.vlen_dtype("<i4"))
            sequences[(0,) * len(shape)] = [1, 2]
            sequences[tuple(length - 1 for length in shape)] = [3]
            sequences.attrs["kept"] = 1
    return file


def write(folder: Path, way: str, name: str, array: np.ndarray) -> None:
    path = folder / name
    if way == "save":
        np.save(path, array)
    elif way == "in place":
        with open(path, "r+b") as opened:
            opened.seek(128)
            opened.write(array.tobytes())
    elif way == "rename":
        (folder / ".new").write_bytes(npy_bytes(array))
        (folder / ".new").rename(path)
    else:
        path.unlink()
        np.save(path, array)


def shown(folder: Path, name: str = "v") -> list[list[int]]:
    return [np.load(folder / f"{name}.{part}.npy").tolist() for part in ("values", "offsets")]


def sequences(file: Path, name: str = "v") -> list[list[int]]:
    with h5py.File(file) as opened:
        assert dict(opened[name].attrs) == {"kept": 1}
        return [each.tolist() for each in opened[name][()].ravel()]


@pytest.mark.parametrize("way", ["save", "in place", "rename", "remove and save"])
def test_one_file_that_fits_the_other_is_brought_in_with_it(file: Path, way: str) -> None:
    with written(file) as mount:
        write(mount.path, way, "v.values.npy", np.array([7, 8, 9], "<i4"))
        assert shown(mount.path) == [[7, 8, 9], OLD_OFFSETS]
        write(mount.path, way, "v.offsets.npy", np.array([0, 1, 1, 3]))
        assert shown(mount.path) == [[7, 8, 9], [0, 1, 1, 3]]
    assert sequences(file) == [[7], [], [8, 9]]


@pytest.mark.parametrize("way", ["save", "rename"])
@pytest.mark.parametrize("first", ["values", "offsets"])
def test_one_file_that_does_not_fit_waits_for_the_other(file: Path, way: str, first: str) -> None:
    new = {"values": np.array([7, 8, 9, 10], "<i4"), "offsets": np.array([0, 4, 4])}
    second = "offsets" if first == "values" else "values"
    with written(file) as mount:
        write(mount.path, way, f"v.{first}.npy", new[first])
        assert np.load(mount.path / f"v.{first}.npy").tolist() == new[first].tolist()
        assert (mount.path / f"v.{first}.npy").stat().st_size == len(npy_bytes(new[first]))
        write(mount.path, way, f"v.{second}.npy", new[second])
        assert shown(mount.path) == [[7, 8, 9, 10], [0, 4, 4]]
    assert sequences(file) == [[7, 8, 9, 10], []]


@pytest.mark.semantics("R18")
@pytest.mark.parametrize(("name", "count"), [("v", 4), ("square", 4)])
@pytest.mark.parametrize("ends", ["unmount", "kill"])
def test_one_file_that_has_waited_in_vain_is_saved_beside_the_file(
    file: Path, name: str, count: int, ends: str
) -> None:
    new = np.arange(count, dtype="<i4")
    with mounted(file, options=["--mode", "r+"]) as mount:
        np.save(mount.path / f"{name}.values.npy", new)
        assert shown(mount.path, name) == [new.tolist(), OLD_OFFSETS]
        if ends == "unmount":
            unmount(mount, leaves=True)
        else:
            os.kill(mount.pid, signal.SIGKILL)
            end_mount(mount.path)
            with written(file, leaves=True) as again:
                assert shown(again.path, name) == [new.tolist(), OLD_OFFSETS]
    left = np.load(f"{file}.h5fs-left/{name}.values.npy")
    assert left.tolist() == new.tolist()
    assert sequences(file, name) == [[1, 2], [], [3]]


def _bitfield() -> h5t.TypeID:
    return h5t.STD_B16BE.copy()


def _enumeration() -> h5t.TypeID:
    return h5t.py_create(h5py.enum_dtype({"A": 0, "B": 300}, ">i2"), logical=True)


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("make", [_bitfield, _enumeration, h5t.IEEE_F64BE.copy])
def test_sequences_stay_as_they_are_stored(file: Path, make: Callable[[], h5t.TypeID]) -> None:
    with h5py.File(file, "a") as opened:
        committed = h5t.vlen_create(make())
        committed.commit(opened.id, b"type")
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_chunk((2,))
        space = h5s.create_simple((3,), (h5s.UNLIMITED,))
        h5d.create(opened.id, b"w", committed, space, creation)
    with written(file) as mount:
        for way in ("save", "in place", "rename"):
            dtype = np.load(mount.path / "w.values.npy").dtype
            with open(mount.path / "w.offsets.npy", "r+b") as offsets:
                offsets.write(npy_bytes(np.array([0, 2, 2, 3])))
            write(mount.path, way, "w.values.npy", np.array([0, 300, 300], dtype))
        assert shown(mount.path, "w") == [[0, 300, 300], [0, 2, 2, 3]]
    with h5py.File(file) as opened:
        dataset = opened["w"]
        assert dataset.maxshape == (None,)
        assert dataset.chunks == (2,)
        assert dataset.id.get_type().equal(opened["type"].id)
        assert dataset.id.get_type().committed()
    with written(file) as mount:
        assert shown(mount.path, "w") == [[0, 300, 300], [0, 2, 2, 3]]
