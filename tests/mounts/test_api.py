"""``h5fs.mount`` for Python programs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import h5fs
from h5fs.errors import MountError
from h5fs.mount_table import find_mount


@pytest.mark.semantics("C6")
def test_a_block_mounts_a_file_and_what_it_wrote_is_there_after_it(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5fs.mount(file, mode="a", compression="gzip:1", xattr=False) as path:
        np.save(path / "x.npy", np.arange(1000))
        assert find_mount(path.resolve()) is not None
    assert not path.exists()
    with h5py.File(file) as opened:
        assert opened["x"].compression == "gzip"
        assert (opened["x"][()] == np.arange(1000)).all()


@pytest.mark.semantics("C6")
def test_an_exception_in_the_block_unmounts_and_loses_nothing(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with pytest.raises(ZeroDivisionError), h5fs.mount(
        tmp_path / "f.h5", mountpoint, mode="x"
    ) as path:
        np.save(path / "x.npy", np.arange(3))
        raise ZeroDivisionError
    assert find_mount(mountpoint) is None
    with h5py.File(tmp_path / "f.h5") as opened:
        assert opened["x"][2] == 2


@pytest.mark.semantics("C6")
def test_keywords_and_the_mapping_of_options_are_one(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5fs.mount(file, mode="x", options={"compression": "gzip"}, chunks="2x3") as path:
        np.save(path / "x.npy", np.zeros((4, 6)))
    with h5py.File(file) as opened:
        assert (opened["x"].compression, opened["x"].chunks) == ("gzip", (2, 3))
    with pytest.raises(MountError, match="did you mean cache"), h5fs.mount(
        file, chace="1M"  # type: ignore[call-arg]
    ):
        pass


def test_a_file_that_is_not_there_is_an_error_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="no such file"), h5fs.mount(tmp_path / "none.h5"):
        pass


@pytest.mark.semantics("C6")
def test_a_mount_in_use_at_the_end_stays_and_nothing_in_it_is_removed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["x"] = np.arange(3)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    held = None
    with pytest.raises(MountError, match="cannot unmount"), h5fs.mount(
        tmp_path / "f.h5", mountpoint, mode="r+"
    ) as path:
        held = (path / "x.npy").open("rb")
    assert held is not None and (mountpoint / "x.npy").exists()
    held.close()
    with pytest.raises(MountError, match="mounted already"), h5fs.mount(
        tmp_path / "f.h5", mountpoint
    ):
        pass
    from h5fs.mounting import unmount

    unmount(mountpoint)
    with h5py.File(tmp_path / "f.h5") as opened:
        assert "x" in opened
