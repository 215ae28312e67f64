"""What is said of a full disk, of one that is only read, and of a folder that is gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.disks import small_disk
from support.mounts import mounted, run_h5fs

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk with an HDF5 file."""
    with small_disk(tmp_path / "disk", 1):
        with h5py.File(tmp_path / "disk/f.h5", "w") as opened:
            opened["x"] = np.arange(3)
        yield tmp_path / "disk"


@pytest.mark.semantics("M6")
def test_a_file_system_that_is_only_read_is_called_so(disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = run_h5fs(disk / "f.h5", tmp_path / "mnt", "--mode", "r+")
    assert done.returncode == 1
    assert done.stderr == (
        f"h5fs: {disk}/f.h5: the file system is read-only; --mode r only reads\n"
    )
    done = run_h5fs(disk / "new.h5", tmp_path / "mnt", "--mode", "a")
    assert done.stderr == f"h5fs: {disk}/new.h5: the file system is read-only\n"
    done = run_h5fs(disk / "f.h5", disk / "mnt")
    assert done.stderr == (f"h5fs: {disk}/mnt: Read-only file system; name a folder elsewhere\n")


@pytest.mark.semantics("C11", "M6")
def test_what_finds_no_room_leaves_no_file_without_content(disk: Path, tmp_path: Path) -> None:
    (disk / "fill").write_bytes(b"")
    with pytest.raises(OSError), (disk / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(bytes(4096))
    for words in (
        ("cp", f"{disk}/f.h5:/", f"{disk}/g.h5:/"),
        (disk / "g.h5", tmp_path / "m", "--mode=w"),
    ):
        done = run_h5fs(*words)
        assert done.returncode == 1 and "No space left on device" in done.stderr, done
        assert sorted(os.listdir(disk)) == ["f.h5", "fill"]


@pytest.mark.semantics("R18", "R21")
def test_no_part_of_a_file_is_saved_for_the_whole(disk: Path, tmp_path: Path) -> None:
    (disk / "fill").write_bytes(bytes(600_000))
    with mounted(disk / "f.h5", options=["--mode", "r+"]) as mount:
        for name, data in (("big", bytes(900_000)), ("small", b"bad")):
            with pytest.raises(OSError):
                (mount.path / f"{name}.npy").write_bytes(data)
        done = run_h5fs("umount", mount.path)
    assert done.returncode == 1
    assert re.search(r"/big\.npy .* it could not be saved as ", done.stderr), done
    assert re.search(r"/small\.npy .* saved as ", done.stderr), done
    left = disk / "f.h5.h5fs-left"
    assert os.listdir(left) == ["small.npy"] and (left / "small.npy").read_bytes() == b"bad"


@pytest.mark.semantics("R18")
def test_no_empty_folder_stays_where_nothing_could_be_saved(disk: Path) -> None:
    (disk / "fill").write_bytes(bytes(600_000))
    with mounted(disk / "f.h5", options=["--mode", "r+"]) as mount:
        with pytest.raises(OSError):
            (mount.path / "big.npy").write_bytes(bytes(900_000))
        assert run_h5fs("umount", mount.path).returncode == 1
    assert sorted(os.listdir(disk)) == ["f.h5", "fill"]


FROM_NOWHERE = """
import os, sys
from h5fs.cli.main import main
os.rmdir(os.getcwd())
sys.exit(main())
"""


@pytest.mark.semantics("M6")
@pytest.mark.parametrize("words", [["umount", "m"], ["cp", "f.h5:/x", "g.h5:/"], ["f.h5", "m"]])
def test_a_working_directory_that_is_gone_is_called_so(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FROM_NOWHERE, *words], cwd=tmp_path / "gone", capture_output=True,
        text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.startswith("h5fs: the working directory is gone") and "cd first" in done.stderr
    )
