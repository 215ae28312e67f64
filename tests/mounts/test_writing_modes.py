"""The modes of h5py on the command line, who may have the file, and what a mount leaves alone."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mount_points import is_mounted
from support.mounts import MountFailedError, end_mount, mounted, run_h5fs
from support.reference import npy_bytes
from support.waiting import PATIENCE_SECONDS
from support.writing import errno_of, make_file, same, shell, unmount, written

VALUES = np.arange(6, dtype="<f8")


@pytest.mark.semantics("R1")
@pytest.mark.parametrize("mode", ["a", "w", "x", "w-"])
def test_a_file_that_is_missing_is_made_and_holds_what_is_written(
    tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "new.h5"
    with written(file, mode=mode) as mount:
        assert os.listdir(mount.path) == []
        np.save(mount.path / "x.npy", VALUES)
    with h5py.File(file) as opened:
        assert list(opened) == ["x"]
        assert same(opened["x"][()], VALUES)
    assert os.listdir(tmp_path) == ["new.h5"]


@pytest.mark.semantics("R1")
@pytest.mark.parametrize("mode", ["r+", "a", "w", "x"])
def test_over_libfuse_2_a_mode_that_writes_is_refused_before_the_file_is_touched(
    tmp_path: Path, mode: str
) -> None:
    pytest.importorskip("fuse", exc_type=(ImportError, OSError))
    file, mountpoint = tmp_path / "f.h5", tmp_path / "mnt"
    mountpoint.mkdir()
    if mode != "x":
        make_file(file, d=VALUES)
    before = file.read_bytes() if mode != "x" else None
    done = run_h5fs(file, mountpoint, "--mode", mode, env={"H5FS_FUSE": "2"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "libfuse 3" in line and "apt-get install fuse3" in line
    assert not is_mounted(mountpoint)
    assert (file.read_bytes() if file.exists() else None) == before
    assert sorted(os.listdir(tmp_path)) == sorted({"mnt"} | ({"f.h5"} if before else set()))


@pytest.mark.semantics("R1")
def test_a_file_that_is_made_and_not_written_to_is_an_empty_hdf5_file(tmp_path: Path) -> None:
    file = tmp_path / "new.h5"
    with written(file, mode="a"):
        pass
    with h5py.File(file) as opened:
        assert list(opened) == []
    assert os.listdir(tmp_path) == ["new.h5"]


@pytest.mark.semantics("R1")
def test_mode_w_begins_anew(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", old=VALUES)
    with written(file, mode="w") as mount:
        assert os.listdir(mount.path) == []
        np.save(mount.path / "x.npy", VALUES)
    with h5py.File(file) as opened:
        assert list(opened) == ["x"]


@pytest.mark.semantics("R1")
@pytest.mark.parametrize("mode", ["r+", "a"])
def test_a_mount_that_wrote_nothing_leaves_the_bytes_and_the_time_of_the_file(
    tmp_path: Path, mode: str
) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened["d"].attrs["units"] = "m"
        opened.create_group("g")
    os.utime(file, (10**9, 10**9))
    content, status = file.read_bytes(), file.stat()
    with written(file, mode=mode) as mount:
        shell("cat d.npy d.attrs.json | wc -c; ls -lR . >/dev/null; cp -a . ../copy", mount.path)
        shell("cat d.npy > .scratch; rm .scratch", mount.path)
        errno_of(lambda: (mount.path / "g/no.txt").write_bytes(b"x"))
        errno_of((mount.path / "g").mkdir)
        open(mount.path / "d.npy", "r+b").close()
    assert file.read_bytes() == content
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert file.stat().st_ino == status.st_ino
    assert os.listdir(tmp_path) == ["f.h5"]


@pytest.mark.semantics("R1")
@pytest.mark.parametrize("mode", ["r+", "a", "w"])
def test_nothing_but_the_file_is_there_when_a_mount_that_wrote_has_ended(
    tmp_path: Path, mode: str
) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    file.chmod(0o640)
    inode = file.stat().st_ino
    with written(file, mode=mode) as mount:
        np.save(mount.path / "x.npy", VALUES)
        assert mount.log_lines() == []
    assert os.listdir(tmp_path) == ["f.h5"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.stat().st_ino == inode


def test_permissions_of_the_mount_are_those_of_the_file(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    file.chmod(0o640)
    with written(file) as mount:
        assert (mount.path / "d.npy").stat().st_mode & 0o777 == 0o640
        assert mount.path.stat().st_mode & 0o777 == 0o750
        assert os.access(mount.path / "d.npy", os.W_OK)
        np.save(mount.path / "x.npy", VALUES)
        assert (mount.path / "x.npy").stat().st_mode & 0o777 == 0o640
    with mounted(file) as mount:
        assert (mount.path / "d.npy").stat().st_mode & 0o222 == 0
        assert errno_of(lambda: (mount.path / "n.npy").write_bytes(b"x")) == errno.EROFS


@pytest.mark.semantics("R1")
@pytest.mark.parametrize(
    ("mode", "is_there", "status", "words"),
    [
        ("r", False, 1, ["no such file"]),
        ("r+", False, 1, ["no such file", "--mode a"]),
        ("x", True, 1, ["exists", "--mode x"]),
        ("w-", True, 1, ["exists"]),
        ("rw", True, 2, ["--mode rw", "r+"]),
        ("", True, 2, ["--mode"]),
    ],
)
def test_a_mode_that_cannot_be_is_one_line_and_changes_nothing(
    tmp_path: Path, mode: str, is_there: bool, status: int, words: list[str]
) -> None:
    file = tmp_path / "f.h5"
    if is_there:
        make_file(file, d=VALUES)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    before = file.read_bytes() if is_there else None
    done = run_h5fs(file, mountpoint, "--mode", mode, "-o", f"log={tmp_path}/log")
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in ("h5fs: ", *words):
        assert word in done.stderr
    assert not is_mounted(mountpoint)
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("mode", ["r+", "a", "x", "w"])
def test_a_file_that_cannot_be_written_or_made_is_one_line(tmp_path: Path, mode: str) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"this is no HDF5 file" * 100)
    cases = [tmp_path / "no folder/f.h5", tmp_path / "mnt", Path("/dev/null")]
    if mode in ("r+", "a"):
        cases.append(damaged)
    for file in cases:
        done = run_h5fs(file, mountpoint, "--mode", mode, "-o", f"log={tmp_path}/log")
        assert done.returncode == 1, file
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("h5fs: ")
        assert "please report" not in done.stderr
        assert not is_mounted(mountpoint)
    assert damaged.read_bytes() == b"this is no HDF5 file" * 100


def open_elsewhere(file: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """Open a file with h5py in another process; its status is 3 when h5py refuses."""
    script = (
        "import sys, h5py\n"
        "try:\n"
        "    h5py.File(sys.argv[1], sys.argv[2]).close()\n"
        "except OSError as error:\n"
        "    print(error)\n"
        "    sys.exit(3)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(file), mode],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.semantics("U6")
def test_no_other_program_opens_the_file_while_it_is_mounted_to_write(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        for mode in ("r", "r+", "a"):
            done = open_elsewhere(file, mode)
            assert (done.returncode, "lock" in done.stdout) == (3, True), (mode, done.stdout)
        for mode in ("r", "r+"):
            with (
                pytest.raises(MountFailedError, match=r"f\.h5"),
                mounted(file, options=["--mode", mode]),
            ):
                pass
        np.save(mount.path / "x.npy", VALUES)
        assert open_elsewhere(file, "r").returncode == 3
    assert open_elsewhere(file, "r+").returncode == 0


@pytest.mark.semantics("U6")
@pytest.mark.parametrize("mode", ["r+", "r", "w"])
def test_a_mount_to_write_is_refused_while_h5py_has_the_file_and_names_the_holder(
    tmp_path: Path, mode: str
) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    script = (
        "import sys, h5py\n"
        "opened = h5py.File(sys.argv[1], sys.argv[2])\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holds = "r+" if mode == "r" else "r"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file), holds],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "open\n"
            before = file.read_bytes()
            with pytest.raises(MountFailedError) as caught, mounted(file, options=["--mode", mode]):
                pass
            message = str(caught.value)
            assert "\n" not in message
            assert str(holder.pid) in message, message
            assert file.read_bytes() == before
        finally:
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait(PATIENCE_SECONDS)
    with written(file) as mount:
        assert (mount.path / "d.npy").read_bytes() == npy_bytes(VALUES)


def test_two_mounts_of_one_file_are_refused(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with (
        mounted(file),
        pytest.raises(MountFailedError, match=r"f\.h5"),
        mounted(file, options=["--mode", "r+"]),
    ):
        pass


def test_fsync_and_sync_reach_the_file_and_a_copy_made_then_is_whole(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with mounted(file, options=["--mode", "r+", "-o", "commit=0"]) as mount:
        with open(mount.path / "x.npy", "wb") as opened:
            opened.write(npy_bytes(VALUES))
            opened.flush()
            os.fsync(opened.fileno())
        folder = os.open(mount.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        shell("sync -f x.npy; sync", mount.path)
        unmount(mount)
    with h5py.File(file) as opened_file:
        assert same(opened_file["x"][()], VALUES)


def test_sigterm_ends_a_mount_with_everything_committed(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with mounted(file, options=["--mode", "r+"]) as mount:
        np.save(mount.path / "x.npy", VALUES)
        descriptor = os.pidfd_open(mount.pid)
        os.kill(mount.pid, 15)
        assert select.select([descriptor], [], [], 30)[0]
        os.close(descriptor)
        end_mount(mount.path)
    with h5py.File(file) as opened:
        assert same(opened["x"][()], VALUES)
    assert os.listdir(tmp_path) == ["f.h5"]


def test_statfs_is_that_of_the_file_system_below(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with written(file) as mount:
        ours, below = os.statvfs(mount.path), os.statvfs(tmp_path)
        assert (ours.f_bsize, ours.f_blocks) == (below.f_bsize, below.f_blocks)
        assert ours.f_bavail > 0
        assert ours.f_namemax == 255


def test_r_plus_of_an_empty_file_is_refused_and_it_stays_empty(tmp_path: Path) -> None:
    file = tmp_path / "empty.h5"
    file.touch()
    with (
        pytest.raises(MountFailedError, match="not an HDF5 file"),
        mounted(file, options=["--mode", "r+"]),
    ):
        pass
    assert file.read_bytes() == b"" and os.listdir(tmp_path) == ["empty.h5"]
