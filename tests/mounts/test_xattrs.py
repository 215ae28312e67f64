"""Extended attributes on real mounts, against h5py."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import Mounted, mounted
from support.writing import written


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("xattrs") / "f.h5"
    with h5py.File(file, "w", libver="latest") as opened:
        grown = opened.create_dataset(
            "g/d", (10, 4), ">i2", maxshape=(None, 4), chunks=(5, 4), compression="gzip",
            fillvalue=7,
        )  # fmt: skip
        grown[...] = 1
        grown.attrs["units"] = "m/s é"
        grown.attrs["range"] = np.array([1.5, 2.5])
        grown.attrs["n" * 300] = 1
        grown.attrs["too long"] = np.zeros(20_000)
        opened["g"].attrs["title"] = "group"
        opened["null"] = h5py.Empty("<f4")
        opened["soft"] = h5py.SoftLink("/g/d")
        opened.create_dataset("rows", (2,), h5py.vlen_dtype("<i4"))
    return file


@pytest.fixture(scope="module")
def mount(file: Path) -> Iterator[Mounted]:
    with mounted(file, options=["-o", "xattr"]) as mount:
        yield mount


def own(path: Path, name: str) -> object:
    return json.loads(os.getxattr(path, f"user.h5fs.{name}"))


@pytest.mark.semantics("A5")
def test_attributes_are_extended_attributes_too(mount: Mounted) -> None:
    dataset = mount.path / "g/d.npy"
    assert os.getxattr(dataset, "user.units") == "m/s é".encode()
    assert json.loads(os.getxattr(dataset, "user.range")) == [1.5, 2.5]
    assert os.getxattr(mount.path / "g", "user.title") == b"group"
    assert os.getxattr(mount.path / "soft", "user.units") == "m/s é".encode()
    with pytest.raises(OSError) as missing:
        os.getxattr(dataset, "user.nothing")
    assert missing.value.errno == errno.ENODATA


@pytest.mark.semantics("A5")
def test_what_hdf5_says_of_a_dataset_is_there(file: Path, mount: Mounted) -> None:
    path = mount.path / "g/d.npy"
    with h5py.File(file) as opened:
        dataset = opened["g/d"]
        assert own(path, "shape") == list(dataset.shape)
        assert own(path, "maxshape") == list(dataset.maxshape)
        assert own(path, "chunks") == list(dataset.chunks)
        assert own(path, "storage_size") == dataset.id.get_storage_size()
        assert own(path, "dtype") == dataset.dtype.str
        assert own(path, "fillvalue") == dataset.fillvalue
        filters = own(path, "filters")
        assert isinstance(filters, list)
        assert len(filters) == 1
        assert "deflate" in filters[0]
    assert os.getxattr(path, "user.h5fs.path") == b"/g/d"
    assert os.getxattr(mount.path / "g", "user.h5fs.path") == b"/g"
    assert own(mount.path / "null.npy", "shape") is None


@pytest.mark.semantics("A5")
def test_every_name_that_is_listed_has_a_value(mount: Mounted) -> None:
    for path in (mount.path, *mount.path.rglob("*")):
        for name in os.listxattr(path, follow_symlinks=False):
            if name != "user.too long":
                os.getxattr(path, name, follow_symlinks=False)


@pytest.mark.semantics("A5")
def test_what_is_too_long_is_not_there(mount: Mounted) -> None:
    names = os.listxattr(mount.path / "g/d.npy")
    assert "user." + "n" * 300 not in names
    with pytest.raises(OSError):
        os.getxattr(mount.path / "g/d.npy", "user.too long")


@pytest.mark.semantics("A5")
def test_a_value_that_is_too_long_is_not_listed(mount: Mounted) -> None:
    assert "user.too long" not in os.listxattr(mount.path / "g/d.npy")


@pytest.mark.semantics("A5")
def test_without_the_option_there_are_none(file: Path) -> None:
    with mounted(file) as mount:
        for path in (mount.path, mount.path / "g", mount.path / "g/d.npy"):
            with pytest.raises(OSError) as refused:
                os.getxattr(path, "user.units")
            assert refused.value.errno in (errno.ENOTSUP, errno.ENODATA)


@pytest.mark.semantics("A5")
def test_no_digit_and_no_byte_is_lost(tmp_path: Path) -> None:
    values = {
        "large": 2**63 + 1, "long": np.longdouble("1.234567890123456789"),
        "huge": np.longdouble("1e4900"), "bytes": np.bytes_(b"\xff\xfe"),
        "list": [np.bytes_(b"a"), np.bytes_(b"b")], "$types": "t", "$unreadable": "u",
        "h5fs.path": "hidden", "empty": "",
    }  # fmt: skip
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for name, value in values.items():
            opened.attrs[name] = value
    expected = {
        "large": b"9223372036854775809", "long": b"1.234567890123456789", "huge": b"1E+4900",
        "bytes": b"\xff\xfe", "list": b'["a", "b"]', "$types": b"t", "$unreadable": b"u",
        "h5fs.path": b"/", "empty": b"",
    }  # fmt: skip
    with mounted(tmp_path / "f.h5", options=["-o", "xattr"]) as mount:
        assert set(os.listxattr(mount.path)) == {f"user.{name}" for name in expected}
        assert {name: os.getxattr(mount.path, f"user.{name}") for name in expected} == expected


@pytest.mark.semantics("A5")
def test_thousands_of_attributes_are_listed_as_far_as_the_kernel_goes(tmp_path: Path) -> None:
    names = [f"attribute number {number:05d}" for number in range(4000)]
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
        for name in names:
            opened.attrs[name] = name
    with mounted(tmp_path / "f.h5", options=["-o", "xattr"]) as mount:
        listed = os.listxattr(mount.path)
        assert 2000 < len(listed) < 4000
        assert sum(len(name) + 1 for name in listed) <= 2**16
        for name in (*listed, f"user.{names[-1]}"):
            value = os.getxattr(mount.path, name)
            assert value.decode() == name.removeprefix("user.") or name == "user.h5fs.path"


@pytest.mark.semantics("A5", "R11")
def test_extended_attributes_follow_a_change(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["g/d"] = np.arange(3)
        opened["g"].attrs["units"] = "m"
        opened["g/d"].attrs["units"] = "m"
    with mounted(tmp_path / "f.h5", options=["-o", "xattr", "--mode", "r+"]) as mount:
        for attributes, place in (("g/.attrs.json", "g"), ("g/d.attrs.json", "g/d.npy")):
            assert os.getxattr(mount.path / place, "user.units") == b"m"
            (mount.path / attributes).write_text('{"units": "km", "more": 1}')
            assert os.getxattr(mount.path / place, "user.units") == b"km"
            assert "user.more" in os.listxattr(mount.path / place)
            (mount.path / attributes).unlink()
            with pytest.raises(OSError) as gone:
                os.getxattr(mount.path / place, "user.units")
            assert gone.value.errno == errno.ENODATA


@pytest.mark.semantics("A7")
def test_attributes_are_set_and_removed_one_by_one_in_modes_that_write(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["d"] = np.arange(3)
        opened["d"].attrs["old"] = 1
    with written(file, "-o", "xattr") as mount:
        path = mount.path / "d.npy"
        os.setxattr(path, "user.units", b"m")
        os.setxattr(mount.path, "user.gain", b"0.5")
        assert os.getxattr(path, "user.units") == b"m"
        assert json.loads((mount.path / "d.attrs.json").read_text()) == {"old": 1, "units": "m"}
        os.removexattr(path, "user.old")
        assert os.listxattr(path)[-1] == "user.units"
        for name, expected in (("user.old", errno.ENODATA), ("user.h5fs.path", errno.ENOTSUP)):
            with pytest.raises(OSError) as raised:
                os.removexattr(path, name)
            assert raised.value.errno == expected
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {"units": "m"}
        assert dict(opened.attrs) == {"gain": 0.5}


@pytest.mark.semantics("E3")
def test_access_lists_that_programs_try_to_set_are_not_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = np.arange(3)
    with written(tmp_path / "f.h5", "-o", "xattr") as mount:
        for name in ("security.x", "user.h5fs.path"):
            with pytest.raises(OSError) as refused:
                os.setxattr(mount.path / "d.npy", name, b"1")
            assert refused.value.errno == errno.ENOTSUP
        log = mount.log.read_text()
    assert "user.h5fs.path cannot be set" in log and "security.x" not in log
