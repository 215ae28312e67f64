"""The HDF5 file is moved, removed, replaced or overwritten below a mount that writes."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import Mounted, end_mount, mounted, run_h5fs

from h5fs.store.log.log_path import log_path

NUMBERS = np.arange(1000.0)
WRITES = ("--mode", "r+", "-o", "commit=3600")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = NUMBERS
        opened["big"] = np.zeros(50_000)
    return path


def make_other(path: Path) -> bytes:
    """Write another HDF5 file; return its bytes."""
    with h5py.File(path, "w") as opened:
        opened["other"] = np.arange(90_000.0)
    return path.read_bytes()


def change(file: Path, way: str) -> None:
    """Do to a file what people do."""
    other = file.with_name("other.h5")
    if way == "removed":
        file.unlink()
    elif way == "replaced":
        make_other(other)
        other.rename(file)
    elif way == "moved":
        file.rename(file.with_name("moved.h5"))
    elif way == "linked":
        os.link(file, file.with_name("twin.h5"))


def fail_to_write(mount: Mounted, name: str) -> None:
    """Write an array, which must be an error at ``close``."""
    with pytest.raises(OSError) as caught:
        np.save(mount.path / name, NUMBERS)
    assert caught.value.errno == errno.ESTALE


@pytest.mark.semantics("U9")
@pytest.mark.parametrize("wrote_before", [False, True])
@pytest.mark.parametrize("way", ["removed", "replaced", "moved", "linked"])
def test_what_is_written_to_a_file_that_is_not_at_its_path_is_an_error_and_kept(
    file: Path, way: str, wrote_before: bool
) -> None:
    with mounted(file, options=WRITES) as mount:
        if wrote_before:
            np.save(mount.path / "before.npy", NUMBERS + 1)
        change(file, way)
        fail_to_write(mount, "after.npy")
        if wrote_before:
            folder = os.open(mount.path, os.O_RDONLY)
            with pytest.raises(OSError) as caught:
                os.fsync(folder)
            os.close(folder)
            assert caught.value.errno == errno.ESTALE
        word = {"linked": "another name"}.get(way, way)
        assert any(word in line and str(file) in line for line in mount.log_lines())
        ended = run_h5fs("umount", mount.path)
        said = mount.log_lines()
    assert not log_path(file).exists()
    left = [path for path in file.parent.iterdir() if ".h5fs-" in path.name]
    assert any(
        (np.load(path) == NUMBERS).all() for each in left for path in each.rglob("after.npy")
    ), said
    kept = [path for path in left if path.is_file()]
    if wrote_before and way in ("removed", "replaced"):
        assert kept == [Path(f"{file}.h5fs-replaced")]
        assert f"kept as {kept[0]}" in ended.stderr, ended
    else:
        assert not kept, ended
    assert ended.returncode == 1 and "/after.npy is not in the HDF5 file" in ended.stderr, ended
    if wrote_before:
        place = {"moved": file.with_name("moved.h5"), "linked": file}.get(way)
        places = [place] if place else kept
        assert len(places) == 1, said
        with h5py.File(places[0]) as opened:
            assert (opened["before"][()] == NUMBERS + 1).all()
            assert (opened["d"][()] == NUMBERS).all()
    if way == "replaced":
        with h5py.File(file) as opened:
            assert list(opened) == ["other"]


@pytest.mark.semantics("U9")
def test_a_file_that_is_back_at_its_path_is_written_again(file: Path) -> None:
    with mounted(file, options=WRITES) as mount:
        np.save(mount.path / "before.npy", NUMBERS)
        change(file, "moved")
        fail_to_write(mount, "after.npy")
        file.with_name("moved.h5").rename(file)
        np.save(mount.path / "after.npy", NUMBERS)
        end_mount(mount.path)
    with h5py.File(file) as opened:
        assert {"before", "after"} <= set(opened)


@pytest.mark.semantics("U9")
@pytest.mark.parametrize("has_log", [False, True])
@pytest.mark.parametrize(
    "way", ["cp", "truncate", "an older copy", "append a byte and cut it", "touch"]
)
def test_a_file_that_is_overwritten_in_place_stays_what_the_other_program_wrote(
    file: Path, tmp_path: Path, way: str, has_log: bool
) -> None:
    make_other(tmp_path / "other.h5")
    shutil.copy(file, tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "r+") as opened:
        opened["big"][:] = 7
    with mounted(file, options=WRITES) as mount:
        if has_log:
            np.save(mount.path / "before.npy", NUMBERS + 1)
        time.sleep(0.02)  # the clock of a file's times ticks in steps
        if way == "truncate":
            os.truncate(file, 3000)
        elif way.startswith("append"):
            size = file.stat().st_size
            with file.open("ab") as opened_file:
                opened_file.write(b"x")
            os.truncate(file, size)
        elif way == "touch":
            subprocess.run(["touch", file], check=True)
        else:
            name = "other.h5" if way == "cp" else "old.h5"
            subprocess.run(["cp", tmp_path / name, file], check=True)
        kept = file.read_bytes()
        fail_to_write(mount, "after.npy")
        fail_to_write(mount, "again.npy")
        assert any("another program has changed" in line for line in mount.log_lines())
        ended = run_h5fs("umount", mount.path)
        said = mount.log_lines()
    assert ended.returncode == 1 and ("-aside" in ended.stderr) == has_log, ended
    assert file.read_bytes() == kept, said
    assert not log_path(file).exists(), said
    aside = log_path(file).with_name(f"{log_path(file).name}-aside")
    assert aside.exists() == has_log
    if way != "truncate":
        with mounted(file, options=WRITES) as mount:
            np.save(mount.path / "new.npy", NUMBERS)


@pytest.mark.semantics("U9")
@pytest.mark.parametrize("way", ["replaced", "overwritten"])
def test_an_array_that_is_being_streamed_into_a_file_never_goes_into_another(
    file: Path, way: str
) -> None:
    other = make_other(file.with_name("other.h5"))
    with mounted(file, options=WRITES) as mount:
        opened = (mount.path / "large.npy").open("wb", buffering=0)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (2**20,)}
        )
        opened.write(header.getvalue())
        opened.write(b"x" * 2**20)
        if way == "replaced":
            change(file, way)
        else:
            subprocess.run(["cp", file.with_name("other.h5"), file], check=True)
        fail_to_write(mount, "after.npy")
        with pytest.raises(OSError) as caught:
            opened.write(b"x" * 2**20)
        assert caught.value.errno == errno.ESTALE
        with suppress(OSError):
            opened.close()
    assert file.read_bytes() == other


@pytest.mark.semantics("U9")
def test_what_h5fs_writes_itself_is_no_foreign_change(file: Path) -> None:
    """Large arrays go past the log, some of them through the daemon, also beside checkpoints."""
    rows = np.arange(2**20, dtype="<i8")
    with mounted(file, options=["--mode", "r+", "-o", "commit=0.1"]) as mount:
        for number in range(12):
            np.save(mount.path / f"a{number % 4}.npy", rows + number)
            with (mount.path / f"s{number}.npy").open("wb") as opened:
                np.save(opened, rows + number)
                np.save(mount.path / "small.npy", NUMBERS + number)
                os.fsync(opened.fileno())
        assert run_h5fs("umount", mount.path).returncode == 0
        assert not any("another program" in line for line in mount.log_lines())
    with h5py.File(file) as opened_file:
        for number in range(12):
            assert (opened_file[f"s{number}"][()] == rows + number).all()


@pytest.mark.semantics("U9")
def test_a_mount_that_wrote_nothing_does_not_mind(file: Path) -> None:
    with mounted(file, options=WRITES) as mount:
        change(file, "removed")
        assert (np.load(mount.path / "d.npy") == NUMBERS).all()
        end_mount(mount.path)
    assert os.listdir(file.parent) == []


@pytest.mark.semantics("U9")
def test_cp_into_a_file_that_is_replaced_meanwhile_is_an_error(file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        np.save(source / f"{number}.npy", NUMBERS)
    import threading

    def replace() -> None:
        while not log_path(file).exists():
            time.sleep(0.001)
        change(file, "replaced")

    thread = threading.Thread(target=replace)
    thread.start()
    done = run_h5fs("cp", source, f"{file}:/")
    thread.join()
    with h5py.File(file) as opened:
        assert list(opened) == ["other"]
    assert done.returncode == 1 and "replaced" in done.stderr, done
