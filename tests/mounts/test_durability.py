"""The redo log under a real mount: kills, recovery, full disks, files that break the library."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.disks import small_disk
from support.kill_writing import Killing, kill
from support.mounts import MountFailedError, end_mount, mounted, run_h5fs
from support.reference import npy_bytes
from support.waiting import wait_until

from h5fs.store.log.log_path import log_path

NUMBERS = np.arange(1000.0)
WRITES = ("--mode", "r+")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = NUMBERS
    return path


def kill_all(file: Path) -> None:
    """Write one array, and kill the mount as soon as it is closed."""
    with mounted(file, options=[*WRITES, "-o", "commit=3600"]) as mount:
        np.save(mount.path / "new.npy", NUMBERS + 1)
        np.save(mount.path / "d.npy", NUMBERS * 2)
        kill(mount.pid, "all", 0)
        end_mount(mount.path)


@pytest.mark.semantics("U1", "U3", "U4")
def test_what_was_closed_survives_a_kill_and_mode_r_shows_it_and_changes_nothing(
    file: Path,
) -> None:
    before = file.read_bytes()
    kill_all(file)
    log = log_path(file)
    status, log_status = file.stat(), log.stat()
    assert log_status.st_mode == status.st_mode and log_status.st_uid == status.st_uid
    assert file.read_bytes()[: len(before)] == before  # all that changed is in the log
    kept, kept_log = file.read_bytes(), log.read_bytes()
    with mounted(file) as mount:
        assert (np.load(mount.path / "new.npy") == NUMBERS + 1).all()
        assert (np.load(mount.path / "d.npy") == NUMBERS * 2).all()
    assert file.read_bytes() == kept and log.read_bytes() == kept_log
    with mounted(file, options=WRITES) as mount:
        assert (np.load(mount.path / "d.npy") == NUMBERS * 2).all()
        subprocess.run(["fusermount3", "-u", mount.path], check=True)
        wait_for_end(log)
    with h5py.File(file) as opened:
        assert (opened["new"][()] == NUMBERS + 1).all()
        assert (opened["d"][()] == NUMBERS * 2).all()


def wait_for_end(log: Path) -> None:
    """Wait until a log is gone, which is the last thing that a daemon does to files."""
    wait_until(lambda: not log.exists())


@pytest.mark.semantics("U2")
@pytest.mark.parametrize("way", ["fsync", "commit=0", "commit=0.2", "fsync of a folder", "umount"])
def test_a_commit_is_on_the_disk_when_it_is_promised(file: Path, way: str) -> None:
    options = way if way.startswith("commit") else "commit=3600"
    with mounted(file, options=[*WRITES, "-o", options]) as mount:
        with (mount.path / "new.npy").open("wb") as opened:
            np.save(opened, NUMBERS)
            opened.flush()
            if way == "fsync":
                os.fsync(opened.fileno())
        if way == "fsync of a folder":
            folder = os.open(mount.path, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        if way != "umount":
            wait_until(lambda: " 0 of them on the disk" not in run_check(file))
            kill(mount.pid, "all", 0)
        end_mount(mount.path)
    with mounted(file) as mount:
        assert (np.load(mount.path / "new.npy") == NUMBERS).all()


def run_check(file: Path) -> str:
    """Return what ``h5fs check`` says of a file's log."""
    return run_h5fs("check", file).stdout


@pytest.mark.semantics("U1")
def test_the_log_does_not_grow_without_bound(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    array = np.zeros(2**22, "<i4")
    with h5py.File(file, "w") as opened:
        opened["d"] = array
    with mounted(file, options=[*WRITES, "-o", "commit=3600"]) as mount:
        sizes = []
        for number in range(10):
            np.save(mount.path / "d.npy", array + number)
            sizes.append(log_path(file).stat().st_size)
        assert max(sizes) < 2**26 + 2 * array.nbytes and min(sizes[4:]) < array.nbytes
        assert (np.load(mount.path / "d.npy") == array + 9).all()
        kill(mount.pid, "all", 0)
        end_mount(mount.path)
    with mounted(file) as mount:
        assert (np.load(mount.path / "d.npy") == array + 9).all()


@pytest.mark.semantics("U2")
def test_without_fsync_and_time_nothing_is_forced_to_the_disk(file: Path) -> None:
    with mounted(file, options=[*WRITES, "-o", "durability=off"]) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        time.sleep(0.3)
        assert "0 of them on the disk" in run_check(file)


@pytest.mark.semantics("U5")
def test_a_log_of_another_file_is_refused_with_the_way_out(file: Path, tmp_path: Path) -> None:
    kill_all(file)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as opened:
        opened["x"] = np.arange(100_000)
    shutil.copy(log_path(file), log_path(other))
    before = other.read_bytes()
    for options in ((), WRITES):
        with pytest.raises(MountFailedError, match=r"h5fs-log"), mounted(other, options=options):
            pass
    assert other.read_bytes() == before


@pytest.mark.semantics("U1")
def test_a_folder_that_cannot_be_written_is_refused_and_mode_r_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    with h5py.File(folder / "f.h5", "w") as opened:
        opened["d"] = NUMBERS
    with read_only(folder):
        with (
            pytest.raises(MountFailedError, match=r"read-only|permission"),
            mounted(folder / "f.h5", options=WRITES),
        ):
            pass
        with mounted(folder / "f.h5") as mount:
            assert (np.load(mount.path / "d.npy") == NUMBERS).all()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, for root too."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.semantics("U1", "U3", "R22")
def test_kills_under_a_load_lose_nothing(tmp_path: Path) -> None:
    killing = Killing(tmp_path, seed=42)
    rounds = 0
    while rounds < 6 or killing.counts["calls that returned"] <= 20:
        assert rounds < 60, "hardly a call returns"
        killing.run_round()
        rounds += 1
    killing.finish()


@pytest.mark.semantics("R21")
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_is_enospc_and_what_is_there_stays_and_room_can_be_made(
    tmp_path: Path, kind: str
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 12, kind):
        with mounted(disk / "f.h5", options=["--mode", "w"]) as mount:
            written = fill(mount.path)
            assert 3 < len(written) < 12
            for name, array in written.items():
                assert (np.load(mount.path / name) == array).all()
            for name in list(written)[:3]:
                (mount.path / name).unlink()
                del written[name]
            (mount.path / "left.npy").unlink(missing_ok=True)
            np.save(mount.path / "small.npy", NUMBERS)
            subprocess.run(["fusermount3", "-u", mount.path], check=True)
            wait_for_end(log_path(disk / "f.h5"))
        with h5py.File(disk / "f.h5") as opened:
            assert set(opened) == {"small", *(name.removesuffix(".npy") for name in written)}
            for name, array in written.items():
                assert (opened[name.removesuffix(".npy")][()] == array).all()


def fill(mountpoint: Path) -> dict[str, np.ndarray]:
    """Write arrays until there is no room; return those that were closed without an error."""
    written: dict[str, np.ndarray] = {}
    for number in range(20):
        array = np.full(2**20 + 4096 * number, number, "u1")
        name = f"a{number}.npy"
        try:
            np.save(mountpoint / name, array)
        except OSError as error:
            assert errno.ENOSPC in (error.errno, getattr(error.__context__, "errno", None))
            (mountpoint / name).unlink(missing_ok=True)
            return written
        written[name] = array
    raise AssertionError("the disk is not full")


@pytest.mark.semantics("R22")
@pytest.mark.parametrize("name", ["tfcontents1.h5", "h5ex_d_sz.h5"])
def test_a_change_that_kills_the_library_is_eio_and_changes_nothing(
    corpus: Path, tmp_path: Path, name: str
) -> None:
    source = next(corpus.rglob(name))
    file = tmp_path / "f.h5"
    shutil.copyfile(source, file)
    before = file.read_bytes()
    with mounted(file, options=[*WRITES, "-o", "deadline=3"]) as mount:
        with pytest.raises(OSError) as caught:
            if name.startswith("tf"):
                (mount.path / "folder").mkdir()
            else:
                np.save(mount.path / "DS1.npy", np.load(mount.path / "DS1.npy"))
        assert caught.value.errno == errno.EIO
        assert os.listdir(mount.path)
        if not name.startswith("tf"):  # all else goes on
            (mount.path / "folder").mkdir()
            (mount.path / "folder").rmdir()
        assert any("SIGSEGV" in line or "no answer" in line for line in mount.log_lines())
    if name.startswith("tf"):
        assert file.read_bytes() == before


@pytest.mark.semantics("R23")
def test_a_virtual_dataset_of_other_files_is_refused_and_not_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "source.h5", "w") as opened:
        opened["s"] = NUMBERS
    layout = h5py.VirtualLayout(NUMBERS.shape, NUMBERS.dtype)
    layout[:] = h5py.VirtualSource("source.h5", "s", NUMBERS.shape)
    own = h5py.VirtualLayout(NUMBERS.shape, NUMBERS.dtype)
    own[:] = h5py.VirtualSource(".", "here", NUMBERS.shape)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_virtual_dataset("v", layout)
        opened["here"] = NUMBERS
        opened.create_virtual_dataset("own", own)
        opened["far"] = h5py.ExternalLink("source.h5", "/s")
    with mounted(tmp_path / "f.h5", options=WRITES) as mount:
        with pytest.raises(OSError) as caught:
            np.load(mount.path / "v.npy")
        assert caught.value.errno in (errno.ENOTSUP, errno.EACCES)
        assert (np.load(mount.path / "own.npy") == NUMBERS).all()
        assert (np.load(mount.path / "far.npy") == NUMBERS).all()
        before = os.listdir(mount.path)
        np.save(mount.path / "new.npy", NUMBERS)
        assert sorted(os.listdir(mount.path)) == sorted([*before, "new.npy"])


@pytest.mark.semantics("R12")
@pytest.mark.parametrize("order", [("values", "offsets"), ("offsets", "values")])
def test_values_and_offsets_together_are_a_dataset_of_sequences(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    rows = [[1.5], [], [2.0, 3.0, 4.0]]
    parts = {"values": np.array([1.5, 2, 3, 4]), "offsets": np.array([0, 1, 1, 4])}
    file = tmp_path / "f.h5"
    with mounted(file, options=["--mode", "w"]) as mount:
        for part in order:
            np.save(mount.path / f"x.{part}.npy", parts[part])
        for part, array in parts.items():
            assert (np.load(mount.path / f"x.{part}.npy") == array).all()
        np.save(mount.path / "y.values.npy", parts["values"])
        np.save(mount.path / "y.offsets.npy", parts["offsets"])
        (mount.path / "y.values.npy").unlink()
        (mount.path / "y.offsets.npy").unlink()
        with pytest.raises(OSError) as caught:
            np.save(mount.path / "z.offsets.npy", np.array([3, 1]))
            np.save(mount.path / "z.values.npy", parts["values"])
        assert caught.value.errno == errno.EINVAL
    with h5py.File(file) as opened:
        assert [row.tolist() for row in opened["x"][()]] == rows
        assert "y" not in opened and "z" not in opened


@pytest.mark.semantics("R13")
def test_a_datatype_is_committed_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with mounted(file, options=["--mode", "w"]) as mount:
        (mount.path / "t.dtype.json").write_text('"<f4"')
        again = (mount.path / "t.dtype.json").read_text()
        (mount.path / "t.dtype.json").write_text(again)
        with pytest.raises(OSError) as caught:
            (mount.path / "t.dtype.json").write_text('"<i8"')
        assert caught.value.errno == errno.ENOTSUP
        (mount.path / "t.attrs.json").write_text('{"n": 1}')
    with h5py.File(file) as opened:
        assert opened["t"].dtype == np.dtype("<f4")
        assert opened["t"].attrs["n"] == 1


@pytest.mark.semantics("R24")
@pytest.mark.parametrize("part", ["before the end", "after the data"])
def test_a_large_array_whose_worker_dies_on_the_way_is_whole_or_an_error(
    tmp_path: Path, part: str
) -> None:
    array = np.arange(2**20, dtype="<i4") + 7
    content = npy_bytes(array)
    file = tmp_path / "f.h5"
    with mounted(file, options=["--mode", "w"]) as mount:
        cut = len(content) if part == "after the data" else len(content) // 2
        with (mount.path / "x.npy").open("wb", buffering=0) as opened:
            write_all(opened, content[:cut])
            kill(mount.pid, "workers", 0)
            write_all(opened, content[cut:])
        assert (mount.path / "x.npy").read_bytes() == content
        with (mount.path / "y.npy").open("wb", buffering=0) as opened:
            write_all(opened, content)
        with (mount.path / "z.npy").open("wb", buffering=0) as other:
            write_all(other, content[:cut])
            kill(mount.pid, "workers", 0)
            np.save(mount.path / "w.npy", array[::-1])  # a new worker's first large array
            write_all(other, content[cut:])
    with h5py.File(file) as opened_file:
        for name in "xyz":
            assert (opened_file[name][()] == array).all(), name
        assert (opened_file["w"][()] == array[::-1]).all()


def write_all(opened: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[opened.write(view) :]


@pytest.mark.semantics("U8", "C4", "C5")
def test_a_damaged_log_is_said_by_all_and_kept_aside(file: Path) -> None:
    with mounted(file, options=[*WRITES, "-o", "commit=0"]) as mount:
        ends = []
        for number in range(6):
            np.save(mount.path / f"a{number}.npy", NUMBERS + number)
            ends.append(log_path(file).stat().st_size)
        kill(mount.pid, "all", 0)
        end_mount(mount.path)
    log = log_path(file)
    damaged = bytearray(log.read_bytes())
    damaged[ends[1] + 100] ^= 1
    log.write_bytes(damaged)
    before = file.read_bytes()
    checked = run_h5fs("check", file)
    assert checked.returncode == 1 and "are whole, and lost" in checked.stdout, checked
    with mounted(file) as mount:
        assert sorted(os.listdir(mount.path)) == ["a0.npy", "a1.npy", "d.npy"]
        assert any("is damaged at byte" in line for line in mount.log_lines())
        assert "is damaged at byte" in run_h5fs("status", mount.path).stdout
    assert log.read_bytes() == damaged and file.read_bytes() == before
    mountpoint = file.with_name("mnt")
    mountpoint.mkdir()
    done = run_h5fs(file, mountpoint)
    end_mount(mountpoint)
    assert done.returncode == 0 and "is damaged at byte" in done.stderr, done
    aside = log.with_name(f"{log.name}-aside")
    aside.write_bytes(b"taken")
    done = run_h5fs("recover", file)
    assert done.returncode == 1 and f"kept as {aside}-2" in done.stdout, done
    assert "Warning" not in done.stderr and not log.exists()
    assert aside.with_name(f"{aside.name}-2").read_bytes() == damaged
    assert aside.read_bytes() == b"taken"
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "a0", "a1"}


@pytest.mark.semantics("U8", "C20")
def test_a_mount_that_writes_says_that_its_log_was_damaged(file: Path) -> None:
    kill_all(file)
    log = log_path(file)
    damaged = bytearray(log.read_bytes())
    damaged[60] ^= 1  # in the header
    log.write_bytes(damaged)
    with mounted(file, options=WRITES) as mount:
        assert any("kept as" in line for line in mount.log_lines())
        assert "kept as" in run_h5fs("status", mount.path).stdout
        assert os.listdir(mount.path) == ["d.npy"]
    assert log.with_name(f"{log.name}-aside").read_bytes() == damaged


@pytest.mark.semantics("U8")
def test_a_log_that_is_damaged_below_a_mount_is_an_error_and_loses_nothing_in_silence(
    file: Path,
) -> None:
    with mounted(file, options=[*WRITES, "-o", "commit=3600"]) as mount:
        ends = []
        for number in range(4):
            np.save(mount.path / f"a{number}.npy", NUMBERS + number)
            ends.append(log_path(file).stat().st_size)
        damaged = bytearray(log_path(file).read_bytes())
        damaged[ends[0] + 100] ^= 1
        log_path(file).write_bytes(damaged)
        kill(mount.pid, "workers", 0)
        with pytest.raises(OSError) as caught:
            np.save(mount.path / "more.npy", NUMBERS)
        assert caught.value.errno == errno.EIO
        assert any("damaged" in line for line in mount.log_lines())
        end_mount(mount.path)
    assert log_path(file).read_bytes() == damaged


@pytest.mark.semantics("U4")
def test_an_external_file_whose_log_is_not_brought_in_is_not_shown_in_an_older_state(
    file: Path, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "main.h5", "w") as opened:
        opened["far"] = h5py.ExternalLink(file.name, "/d")
        opened["near"] = NUMBERS
    kill_all(file)
    with mounted(tmp_path / "main.h5") as mount:
        assert (mount.path / "far").is_symlink() and not (mount.path / "far").exists()
        assert (np.load(mount.path / "near.npy") == NUMBERS).all()
        assert any("h5fs recover" in line for line in mount.log_lines())
    assert run_h5fs("recover", file).returncode == 0
    with mounted(tmp_path / "main.h5") as mount:
        assert (np.load(mount.path / "far.npy") == NUMBERS * 2).all()
