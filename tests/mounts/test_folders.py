"""A folder of HDF5 files, mounted as a whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import Mounted, mounted, run_h5fs
from support.waiting import wait_until

NUMBERS = np.arange(1000, dtype="<i4")


def write(file: Path, number: int, **how: object) -> None:
    with h5py.File(file, "w", **how) as opened:
        opened["g/data"] = NUMBERS + number
        opened["g/twin"] = opened["g/data"]
        opened["g"].attrs["number"] = number


def open_hdf5_files(mount: Mounted) -> set[str]:
    """Return the names of the HDF5 files that the daemon has open."""
    found = set()
    for entry in Path(f"/proc/{mount.pid}/fd").iterdir():
        try:
            found.add(Path(os.readlink(entry)).name)
        except OSError:
            continue
    return {name for name in found if name.endswith((".h5", ".mat"))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "files"
    (place / "sub/deep").mkdir(parents=True)
    write(place / "a.h5", 1)
    write(place / "b.h5", 2)
    write(place / "sub/deep/named otherwise", 3)
    write(place / "sub/user block.mat", 4, userblock_size=512)
    write(place / "sub/large block.h5", 5, userblock_size=65536)
    (place / "notes.txt").write_text("hello")
    (place / "not.h5").write_text("no HDF5")
    (place / "empty.h5").touch()
    (place / "link").symlink_to("a.h5")
    (place / "dangling").symlink_to("nowhere")
    os.mkfifo(place / "pipe")
    return place


@pytest.mark.semantics("H1", "H2")
def test_each_hdf5_file_is_a_folder_and_the_rest_is_as_it_is(folder: Path) -> None:
    script = folder / "script.sh"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o750)
    os.utime(folder / "notes.txt", ns=(10**18, 10**18 + 1))
    with mounted(folder) as mount:
        for name, number in {
            "a.h5": 1, "b.h5": 2, "sub/deep/named otherwise": 3, "sub/user block.mat": 4,
            "sub/large block.h5": 5,
        }.items():  # fmt: skip
            inside = mount.path / name
            assert inside.is_dir()
            assert stat.S_IMODE(inside.stat().st_mode) == 0o555
            assert {path.name for path in (inside / "g").iterdir()} == {
                ".attrs.json", "data.npy", "twin.npy"
            }  # fmt: skip
            with mounted(folder / name) as alone:
                same = (alone.path / "g/data.npy").read_bytes()
            assert (inside / "g/data.npy").read_bytes() == same
            mapped = np.load(inside / "g/data.npy", mmap_mode="r")
            assert np.array_equal(mapped, NUMBERS + number)
        assert {path.name for path in mount.path.iterdir()} == set(os.listdir(folder))
        for name in ("notes.txt", "not.h5", "empty.h5", "script.sh"):
            real, shown = (folder / name).stat(), (mount.path / name).stat()
            assert (mount.path / name).read_bytes() == (folder / name).read_bytes()
            assert (shown.st_size, shown.st_mtime_ns) == (real.st_size, real.st_mtime_ns)
            assert (shown.st_uid, shown.st_mode) == (real.st_uid, real.st_mode & ~0o222)
        assert (mount.path / "pipe").is_fifo()
        assert (mount.path / "link/g/data.npy").exists()
        assert os.readlink(mount.path / "dangling") == "nowhere"
        with os.scandir(mount.path) as entries:
            assert {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)} == {
                "a.h5", "b.h5", "sub"
            }  # fmt: skip


@pytest.mark.semantics("H1")
def test_nothing_in_a_folder_can_be_written(folder: Path, tmp_path: Path) -> None:
    with mounted(folder) as mount:
        for name in ("notes.txt", "new", "a.h5/g/data.npy", "a.h5/new.npy"):
            with pytest.raises(OSError) as caught:
                (mount.path / name).write_bytes(b"x")
            assert caught.value.errno == errno.EROFS
    for mode in ("r+", "a", "w"):
        (tmp_path / "mnt").mkdir(exist_ok=True)
        done = run_h5fs(folder, tmp_path / "mnt", "--mode", mode)
        assert done.returncode == 1
        assert "folder" in done.stderr


@pytest.mark.semantics("H1")
def test_a_folder_cannot_be_mounted_within_or_above_itself(folder: Path, tmp_path: Path) -> None:
    (folder / "mnt").mkdir()
    for mountpoint in (folder / "mnt", folder, tmp_path):
        done = run_h5fs(folder, mountpoint, "-o", "nonempty")
        assert done.returncode == 1
        assert str(folder) in done.stderr


@pytest.mark.semantics("H3")
def test_files_that_come_change_and_go_are_noticed(folder: Path, tmp_path: Path) -> None:
    with mounted(folder) as mount:
        assert not (mount.path / "new.h5").exists()
        assert np.load(mount.path / "a.h5/g/data.npy")[0] == 1
        write(folder / "new.h5", 7)
        wait_until((mount.path / "new.h5/g/data.npy").exists)
        assert np.load(mount.path / "new.h5/g/data.npy")[0] == 7
        write(tmp_path / "other.h5", 8)
        (tmp_path / "other.h5").rename(folder / "a.h5")
        wait_until(lambda: np.load(mount.path / "a.h5/g/data.npy")[0] == 8)
        (folder / "b.h5").unlink()
        wait_until(lambda: not (mount.path / "b.h5").exists())
        (folder / "notes.txt").write_text("hello again")
        wait_until(lambda: (mount.path / "notes.txt").read_text() == "hello again")
        # One kind becomes the other.
        (folder / "new.h5").unlink()
        (folder / "new.h5").write_text("text now")
        wait_until((mount.path / "new.h5").is_file)
        assert (mount.path / "new.h5").read_text() == "text now"
        (folder / "not.h5").unlink()
        write(folder / "not.h5", 9)
        wait_until((mount.path / "not.h5").is_dir)
        assert np.load(mount.path / "not.h5/g/data.npy")[0] == 9


@pytest.mark.semantics("H4")
def test_files_are_opened_late_and_few_at_a_time(folder: Path) -> None:
    for number in range(30):
        write(folder / f"n{number}.h5", number)
    with mounted(folder) as mount:
        assert open_hdf5_files(mount) == set()
        for _, folders, files in os.walk(mount.path):
            if "g" in folders:
                folders.clear()
            assert files is not None
        names = sorted(path.name for path in folder.glob("n[0-9]*.h5"))
        for name in names:
            assert np.load(mount.path / name / "g/data.npy")[0] == int(name[1:-3])
            # The kernel tells of a close a moment after it.
            assert len(open_hdf5_files(mount)) <= 9
        assert names[-1] in open_hdf5_files(mount)
        opened = [(mount.path / name / "g/data.npy").open("rb") for name in names[:12]]
        try:
            for name, file in zip(names, opened, strict=False):
                assert np.load(file)[0] == int(name[1:-3])
            assert open_hdf5_files(mount) >= set(names[:12])
        finally:
            for file in opened:
                file.close()
        wait_until(lambda: np.load(mount.path / "a.h5/g/data.npy")[0] == 1)
        (mount.path / "b.h5/g/data.npy").read_bytes()
        wait_until(lambda: len(open_hdf5_files(mount)) <= 9)


@pytest.mark.semantics("H5")
def test_a_file_that_does_not_open_is_an_error_of_its_own(folder: Path) -> None:
    (folder / "half.h5").write_bytes((folder / "a.h5").read_bytes()[:600])
    with mounted(folder) as mount:
        assert (mount.path / "half.h5").is_dir()
        with pytest.raises(OSError) as caught:
            os.listdir(mount.path / "half.h5")
        assert caught.value.errno == errno.EIO
        assert "half.h5" in mount.log.read_text()
        assert np.load(mount.path / "a.h5/g/data.npy")[0] == 1


@pytest.mark.semantics("H6")
def test_inode_numbers_are_unique_in_the_folder(folder: Path) -> None:
    (folder / "copy.h5").write_bytes((folder / "a.h5").read_bytes())
    with mounted(folder) as mount:
        seen: dict[int, list[Path]] = {}
        for above, folders, files in os.walk(mount.path):
            for name in (*folders, *files):
                path = Path(above, name)
                if not path.is_symlink():
                    seen.setdefault(path.lstat().st_ino, []).append(path)
        shared = [paths for paths in seen.values() if len(paths) > 1]
        assert {frozenset(path.name for path in paths) for paths in shared} == {
            frozenset({"data.npy", "twin.npy"})
        }
        assert all(len({path.parent for path in paths}) == 1 for paths in shared)
