"""Files that go with their array while programs have them open, and whose names others take."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import Mounted, mounted, needs_libfuse_3
from support.writing import errno_of

pytestmark = needs_libfuse_3

GOING: dict[str, Callable[[Path], object]] = {
    "removed": lambda mount: (mount / "x.npy").unlink(),
    "renamed": lambda mount: (mount / "x.npy").rename(mount / "z.npy"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as made:
        made["x"] = np.arange(2000.0).reshape(100, 20)
        made["x"].attrs["units"] = "m"
        made["y"] = np.arange(4)
        made["y"].attrs["units"] = "s"
        made.create_group("folder")
    return path


def check_still_read(mount: Mounted, descriptor: int, data: bytes) -> None:
    """Check what an open file reads as; nothing of it is an error, or in the log."""
    assert os.pread(descriptor, 2**20, 0) == data
    assert os.fstat(descriptor).st_size == len(data)
    os.close(descriptor)
    assert mount.log_lines() == []


@pytest.mark.semantics("R20", "V9")
@pytest.mark.parametrize("going", GOING)
@pytest.mark.parametrize("taken_by", ["nothing", "folder", "link", "old folder", "old link"])
@pytest.mark.parametrize("name", ["x.csv", "x.png"])
def test_a_view_goes_on_when_its_array_goes_and_its_name_is_anothers(
    file: Path, name: str, taken_by: str, going: str
) -> None:
    with mounted(file, options=["--mode=r+", "-o", "views=all"]) as mount:
        path = mount.path / name
        (mount.path / "old").symlink_to("y.npy")
        descriptor = os.open(path, os.O_RDONLY)
        data = path.read_bytes()
        GOING[going](mount.path)
        assert not path.exists()
        if taken_by == "folder":
            path.mkdir()
            assert list(path.iterdir()) == []
        elif taken_by == "link":
            path.symlink_to("y.npy")
            assert path.read_bytes() == (mount.path / "y.npy").read_bytes()
        elif taken_by != "nothing":
            (mount.path / taken_by.removeprefix("old ").replace("link", "old")).rename(path)
        check_still_read(mount, descriptor, data)


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("going", GOING)
@pytest.mark.parametrize("taken_by", ["nothing", "link", "file"])
def test_attributes_go_on_when_their_array_goes_and_their_name_is_anothers(
    file: Path, taken_by: str, going: str
) -> None:
    with mounted(file, options=["--mode=r+"]) as mount:
        path = mount.path / "x.attrs.json"
        descriptor = os.open(path, os.O_RDONLY)
        data = os.pread(descriptor, 5, 0) + path.read_bytes()[5:]
        GOING[going](mount.path)
        assert not path.exists()
        if taken_by == "link":
            path.symlink_to("y.attrs.json")
            assert path.read_bytes() == (mount.path / "y.attrs.json").read_bytes()
        elif taken_by != "nothing":
            path.write_text("{}")
        check_still_read(mount, descriptor, data)


@pytest.mark.semantics("R20")
def test_a_file_whose_name_stays_its_own_is_the_same_file(file: Path) -> None:
    """A file of that name in another folder is another matter."""
    with mounted(file, options=["--mode=r+", "-o", "views=all"]) as mount:
        path = mount.path / "x.csv"
        with open(path, "rb") as opened:
            (mount.path / "folder" / "x.csv").mkdir()
            assert errno_of(path.mkdir) == errno.EEXIST
            assert os.path.samestat(os.fstat(opened.fileno()), path.stat())
            assert os.fstat(opened.fileno()).st_nlink == 1
            assert opened.read() == path.read_bytes()
