"""Attribute files that are renamed, or whose object is, while programs have them open to write."""

from __future__ import annotations

import errno
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.mounts import mounted
from support.reference import npy_bytes
from support.writing import errno_of, make_file, shell, written

pytestmark = pytest.mark.semantics("R14")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make ``d`` with an attribute, its other name ``d2``, and ``e`` without attributes."""
    file = make_file(tmp_path / "f.h5", d=[1.0], e=[2.0])
    with h5py.File(file, "a") as opened:
        opened["d"].attrs["old"] = 1
        opened["d2"] = opened["d"]
        opened.create_group("g").attrs["old"] = 1
        opened["g2"] = opened["g"]
    return file


def attributes(file: Path, name: str) -> dict[str, Any]:
    with h5py.File(file) as opened:
        return dict(opened[name].attrs)


@pytest.mark.parametrize(
    ("old", "new"),
    [("d.attrs.json", "d2.attrs.json"), ("g/.attrs.json", "g2/.attrs.json")],
    ids=["dataset", "group"],
)
@pytest.mark.parametrize("way", ["at once", "by a temporary name"])
def test_attributes_stay_when_they_are_renamed_to_another_name_of_their_object(
    file: Path, old: str, new: str, way: str
) -> None:
    with written(file) as mount:
        path = mount.path / old
        if way == "by a temporary name":
            path = path.rename(mount.path / (old + "~"))
        path.rename(mount.path / new)
        for name in (old, new):
            assert json.loads((mount.path / name).read_text()) == {"old": 1}
    assert attributes(file, old[0]) == {"old": 1}


def test_attributes_renamed_twice_are_gone_where_they_were(file: Path) -> None:
    with written(file) as mount:
        (mount.path / "d.attrs.json").rename(mount.path / "d.attrs.json~")
        (mount.path / "d.attrs.json~").rename(mount.path / "e.attrs.json")
        assert not (mount.path / "d2.attrs.json").exists()
    assert (attributes(file, "d"), attributes(file, "e")) == ({}, {"old": 1})


@pytest.mark.parametrize("written_before", [b"", b'{"new": ', b'{"new": 2}'])
def test_attributes_that_are_renamed_while_they_are_written_are_written_under_the_new_name(
    file: Path, written_before: bytes
) -> None:
    """What is no JSON object yet cannot become attributes by a rename, as by a `close`."""
    text = b'{"new": 2}'
    with written(file) as mount:
        old, new = mount.path / "d.attrs.json", mount.path / "e.attrs.json"
        descriptor = os.open(old, os.O_RDWR)
        if written_before:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, written_before, 0)
        is_refused = written_before == b'{"new": '
        assert errno_of(lambda: old.rename(new)) == (errno.EINVAL if is_refused else None)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
        assert os.pread(descriptor, 100, 0) == text
        os.close(descriptor)
        assert (old.exists(), new.exists()) == (is_refused, not is_refused)
    expected: tuple[dict[str, Any], ...] = ({}, {"new": 2})
    assert (attributes(file, "d"), attributes(file, "e")) == (
        expected[::-1] if is_refused else expected
    )


def test_attributes_that_get_a_temporary_name_while_they_are_written_go_on_under_that(
    file: Path,
) -> None:
    with written(file) as mount:
        old, new = mount.path / "d.attrs.json", mount.path / "d.attrs.json~"
        descriptor = os.open(old, os.O_RDWR)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b'{"new": ', 0)
        old.rename(new)
        os.pwrite(descriptor, b'{"new": 2}', 0)
        os.close(descriptor)
        assert not old.exists()
        assert new.read_bytes() == b'{"new": 2}'
        new.rename(mount.path / "e.attrs.json")
    assert (attributes(file, "d"), attributes(file, "e")) == ({}, {"new": 2})


@pytest.mark.parametrize("is_written_before", [False, True])
def test_attributes_that_are_open_go_along_with_their_object(
    file: Path, is_written_before: bool
) -> None:
    with written(file) as mount:
        with open(mount.path / "d.attrs.json", "r+b", buffering=0) as opened:
            if is_written_before:
                opened.truncate(0)
                opened.write(b'{"new": 2')
            (mount.path / "d.npy").rename(mount.path / "g/moved.npy")
            if not is_written_before:
                opened.truncate(0)
                opened.write(b'{"new": 2')
            opened.write(b"}")
        assert not (mount.path / "d.attrs.json").exists()
        assert json.loads((mount.path / "g/moved.attrs.json").read_text()) == {"new": 2}
    assert attributes(file, "g/moved") == {"new": 2}


@pytest.mark.semantics("R17")
@pytest.mark.parametrize(
    ("name", "opened_before"), [(name, before) for name in "dx" for before in (False, True)]
)
def test_an_array_written_under_a_temporary_name_keeps_its_attributes_and_its_other_names(
    file: Path, name: str, opened_before: bool
) -> None:
    """``d`` has a second name, ``x`` has none."""
    with h5py.File(file, "a") as opened:
        opened["x"] = [1.0]
        opened["x"].attrs["old"] = 1
    new = np.arange(5, dtype="<i2")
    with written(file) as mount:
        path, temporary = mount.path / f"{name}.npy", mount.path / f"{name}.npy~"
        if not opened_before:
            path.rename(temporary)
        with open(path if opened_before else temporary, "r+b", buffering=0) as writer:
            if opened_before:
                path.rename(temporary)
            writer.truncate(0)
            writer.write(npy_bytes(new))
        assert temporary.read_bytes() == npy_bytes(new)
        temporary.rename(path)
        assert np.load(path).tolist() == new.tolist()
    assert attributes(file, name) == attributes(file, "d2") == {"old": 1}
    with h5py.File(file) as opened:
        assert opened[name][()].tolist() == new.tolist()
        assert opened["d2"][()].tolist() == (new.tolist() if name == "d" else [1.0])


@pytest.mark.parametrize("is_waiting", [False, True], ids=["written", "waiting"])
def test_tar_of_many_names_makes_links_of_attributes_before_those_of_their_arrays(
    tmp_path: Path, is_waiting: bool
) -> None:
    # GNU tar that is given several names makes links of all files of one inode number.
    source, into = make_file(tmp_path / "s.h5", a=[1.0]), make_file(tmp_path / "f.h5")
    with h5py.File(source, "a") as opened:
        opened["a"].attrs["units"] = "m"
        opened["b"] = opened["g/c"] = opened["a"]
    names = "*.attrs.json *.npy g" if is_waiting else "*"
    with mounted(source) as mount:
        shell(f"tar cf {tmp_path}/t.tar {names}", mount.path)
    with written(into) as mount:
        shell(f"tar xf {tmp_path}/t.tar", mount.path)
        assert (mount.path / "a.npy").stat().st_nlink == 3
    with h5py.File(into) as opened:
        assert opened["a"] == opened["b"] == opened["g/c"]
        assert dict(opened["g/c"].attrs) == {"units": "m"}


def test_a_hard_link_of_attributes_is_refused_where_the_object_is_there(file: Path) -> None:
    with written(file) as mount:
        attribute_file = mount.path / "d.attrs.json"
        for name, expected in {
            "e.attrs.json": errno.EPERM, "x.npy": errno.EPERM, "d2.attrs.json": errno.EEXIST,
        }.items():  # fmt: skip
            assert errno_of(partial(os.link, attribute_file, mount.path / name)) == expected
        # What waits is a text of its own.
        os.link(attribute_file, mount.path / "new.attrs.json")
        attribute_file.write_text('{"old": 2}')
        np.save(mount.path / "new.npy", [3.0])
    assert attributes(file, "e") == {}
    assert attributes(file, "d") == {"old": 2}
    assert attributes(file, "new") == {"old": 1}
