"""A dataset of sequences of which one file is written: with the other one, or it waits for it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.mounts import end_mount, mounted
from support.reference import npy_bytes
from support.writing import errno_of, unmount, written

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


NEW_PAIR = {
    "w.values.npy": npy_bytes(np.arange(4, dtype="<i4")),
    "w.offsets.npy": npy_bytes(np.array([0, 1, 4])),
}
PAIR_OVER_OLD = {name.replace("w", "v", 1): data for name, data in NEW_PAIR.items()}


@pytest.mark.semantics("R12", "R17")
@pytest.mark.parametrize("pair", [NEW_PAIR, PAIR_OVER_OLD], ids=["new", "over another"])
@pytest.mark.parametrize("is_values_first", [True, False])
@pytest.mark.parametrize("are_both_written_first", [True, False])
@pytest.mark.parametrize("scratch", ["{}.tmp", ".{}.AbCdEf"])
def test_a_pair_that_gets_its_names_from_scratch_names_is_the_dataset(
    file: Path, pair: dict[str, bytes], scratch: str, is_values_first: bool,
    are_both_written_first: bool,
) -> None:  # fmt: skip
    names = list(pair) if is_values_first else list(reversed(pair))
    with written(file) as mount:
        for group in [names] if are_both_written_first else [[name] for name in names]:
            for name in group:
                (mount.path / scratch.format(name)).write_bytes(pair[name])
            for name in group:
                (mount.path / scratch.format(name)).rename(mount.path / name)
        assert {name: (mount.path / name).read_bytes() for name in pair} == pair
    check_pair(file, names[0][0])


@pytest.mark.semantics("R12", "R17")
@pytest.mark.parametrize("pair", [NEW_PAIR, PAIR_OVER_OLD], ids=["new", "over another"])
@pytest.mark.parametrize("options", ["-a", "-a --inplace", "-a --delay-updates", "-ab"])
def test_a_pair_that_rsync_brings_is_the_dataset(
    tmp_path: Path, file: Path, pair: dict[str, bytes], options: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, data in pair.items():
        (source / name).write_bytes(data)
    with mounted(file, options=["--mode=r+"]) as mount:
        done = subprocess.run(
            ["rsync", *options.split(), f"{source}/", f"{mount.path}/"], check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert {name: (mount.path / name).read_bytes() for name in pair} == pair
        if options == "-ab" and pair is PAIR_OVER_OLD:
            assert np.load(mount.path / "v.offsets.npy~").tolist() == OLD_OFFSETS
    check_pair(file, next(iter(pair))[0])


def check_pair(file: Path, name: str) -> None:
    with h5py.File(file) as opened:
        assert [list(each) for each in opened[name]] == [[0], [1, 2, 3]]
        assert dict(opened[name].attrs) == ({"kept": 1} if name == "v" else {})
        assert set(opened) == {"v", "square", name}


@pytest.mark.semantics("R12", "R17")
@pytest.mark.parametrize("name", ["v.values.npy", "v.offsets.npy"])
def test_half_of_a_dataset_gets_no_scratch_name(file: Path, name: str) -> None:
    with mounted(file, options=["--mode=r+"]) as mount:
        before = {each.name: each.read_bytes() for each in mount.path.iterdir()}
        path = mount.path / name
        assert errno_of(lambda: path.rename(mount.path / f"{name}~")) == errno.EINVAL
        assert "one of two files of a dataset" in mount.log_lines()[-1]
        assert {each.name: each.read_bytes() for each in mount.path.iterdir()} == before
