"""One h5fs at a time: whatever locking is switched off, and whatever name leads to the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.kill_writing import kill
from support.mounts import MountFailedError, end_mount, mounted, run_h5fs
from support.users import NOBODY, public_folder, run_h5fs_as_nobody, why_not_another_user

from h5fs.store.log.log_path import log_path

NUMBERS = np.arange(1000.0)
WRITES = ("--mode", "r+")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = NUMBERS
    return path


@pytest.mark.semantics("U6", "M12")
@pytest.mark.parametrize(
    ("first", "second"), [("default", "default"), ("false", "false"), ("true", "false")]
)
def test_no_setting_lets_two_write(
    file: Path, tmp_path: Path, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    np.save(tmp_path / "x.npy", NUMBERS)
    with mounted(file, options=[*WRITES, "-o", f"locking={first}"]) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        for mode in ("r+", "r", "w", "a"):
            with (
                pytest.raises(MountFailedError, match=f"another h5fs.*pid {mount.pid}"),
                mounted(file, options=["--mode", mode, "-o", f"locking={second}"]),
            ):
                pass
        for words in (
            ["recover", file], ["recover", "--clear-flag", file],
            ["cp", tmp_path / "x.npy", f"{file}:/"], ["cp", f"{file}:/", tmp_path / "out"],
        ):  # fmt: skip
            done = run_h5fs(*words)
            assert done.returncode == 1 and "another h5fs" in done.stderr, done
        np.save(mount.path / "d.npy", NUMBERS + 1)
        end_mount(mount.path)
    with h5py.File(file) as opened:
        assert (opened["d"][()] == NUMBERS + 1).all() and (opened["new"][()] == NUMBERS).all()


@pytest.mark.semantics("U6")
def test_a_writer_is_refused_beside_readers_even_without_locking(file: Path) -> None:
    options = ["-o", "locking=false"]
    with (
        mounted(file, options=options),
        mounted(file, options=options),
        pytest.raises(MountFailedError, match="another h5fs"),
        mounted(file, options=[*WRITES, *options]),
    ):
        pass
    with mounted(file, options=[*WRITES, *options]):
        pass


@pytest.mark.semantics("U6")
@pytest.mark.parametrize("way", ["renamed", "replaced", "log removed"])
def test_a_file_that_is_written_is_locked_by_any_name(file: Path, tmp_path: Path, way: str) -> None:
    options = [*WRITES, "-o", "locking=false,commit=3600"]
    with mounted(file, options=options) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        second = file
        if way == "log removed":
            log_path(file).unlink()
        else:
            second = file.rename(tmp_path / "other.h5")
        if way == "replaced":
            shutil.copy(second, file)
            second = file
        with (
            pytest.raises(MountFailedError, match="another h5fs"),
            mounted(second, options=options),
        ):
            pass


@pytest.mark.semantics("U6")
def test_a_reader_through_the_log_keeps_writers_out(file: Path) -> None:
    with mounted(file, options=[*WRITES, "-o", "locking=false"]) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        kill(mount.pid, "all", 0)
        end_mount(mount.path)
    with mounted(file, options=["-o", "locking=false"]) as mount:
        done = run_h5fs("recover", file, env={"HDF5_USE_FILE_LOCKING": "FALSE"})
        assert done.returncode == 1 and "another h5fs" in done.stderr, done
        assert (np.load(mount.path / "new.npy") == NUMBERS).all()
    assert run_h5fs("recover", file).returncode == 0


@pytest.mark.semantics("U7")
def test_a_file_with_two_names_is_read_with_its_log_and_not_written(
    file: Path, tmp_path: Path
) -> None:
    with mounted(file, options=WRITES) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        kill(mount.pid, "all", 0)
        end_mount(mount.path)
    twin = tmp_path / "twin.h5"
    os.link(file, twin)
    for name in (twin, file):
        with mounted(name) as mount:
            assert (np.load(mount.path / "new.npy") == NUMBERS).all()
        with pytest.raises(MountFailedError, match="2 names"), mounted(name, options=WRITES):
            pass
    assert "1 commit" in run_h5fs("check", twin).stdout
    done = run_h5fs("recover", twin)
    assert done.returncode == 0 and "brought into" in done.stdout, done
    assert not log_path(file).exists() and not log_path(twin).exists()
    with pytest.raises(MountFailedError, match="2 names"), mounted(twin, options=WRITES):
        pass
    file.unlink()
    with h5py.File(twin) as opened:
        assert (opened["new"][()] == NUMBERS).all()


@pytest.mark.semantics("U7")
def test_the_log_lies_beside_the_file_that_a_symbolic_link_leads_to(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "l.h5"
    link.symlink_to(file)
    other = tmp_path / "other.h5"
    shutil.copy(file, other)
    with mounted(link, options=WRITES) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        assert log_path(file).exists() and os.listdir(link.parent) == ["l.h5"]
        link.unlink()
        link.symlink_to(other)
        np.save(mount.path / "more.npy", NUMBERS)
    assert not log_path(file).exists()
    with h5py.File(file) as opened:
        assert {"new", "more"} <= set(opened)


@pytest.mark.semantics("M6", "U5")
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "hard link", "socket"])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_what_only_has_the_logs_name_is_left_alone(
    file: Path, tmp_path: Path, kind: str, mode: str
) -> None:
    log = log_path(file)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    if kind == "link":
        log.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "folder":
        log.mkdir()
    elif kind == "socket":
        os.mknod(log, 0o140644)
    else:
        os.link(secret, log)
    with pytest.raises(MountFailedError) as failed, mounted(file, options=["--mode", mode]):
        pass
    text = str(failed.value)
    assert "unexpected" not in text and str(log) in text and "mv " in text, text
    for words in (["check", file], ["recover", file]):
        done = run_h5fs(*words)
        assert done.returncode == 1 and "unexpected" not in done.stderr + done.stdout, done
        assert str(log) in done.stderr and "Traceback" not in done.stderr, done
    assert os.path.lexists(log) and secret.read_text() == "secret"
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_new_file_that_cannot_be_mounted_is_not_left_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "new.h5.h5fs-log")
    with (
        pytest.raises(MountFailedError, match="regular file"),
        mounted(tmp_path / "new.h5", options=["--mode", "w"]),
    ):
        pass
    assert os.listdir(tmp_path) == ["new.h5.h5fs-log"]


@pytest.mark.semantics("U6")
def test_many_that_begin_at_once_are_one(file: Path, tmp_path: Path) -> None:
    """The log is made, locked, removed and made again all the time."""
    np.save(tmp_path / "x.npy", NUMBERS)
    program = (
        "import sys; from pathlib import Path; from h5fs.errors import CannotOpenError\n"
        "from h5fs.model.settings import Locking, Mode\n"
        "from h5fs.store.log.file_and_log import open_logged\n"
        "file, won = Path(sys.argv[1]), 0\n"
        "for _ in range(300):\n"
        "    try: files = open_logged(file, Mode.UPDATE, Locking.FALSE, b'boot')\n"
        "    except CannotOpenError as error:\n"
        "        assert 'another h5fs' in str(error), error\n"
        "        continue\n"
        "    holder = file.with_name('holder')\n"
        "    holder.touch(exist_ok=False)\n"
        "    holder.unlink()\n"
        "    files.close(removes_log=True); won += 1\n"
        "print(won)\n"
    )
    command = [sys.executable, "-c", program, str(file)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert all(not error for _, error in said), said
    assert sum(int(out) for out, _ in said) > 10
    assert not log_path(file).exists()


@pytest.mark.skipif(why_not_another_user() is not None, reason=str(why_not_another_user()))
@pytest.mark.semantics("U5")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_log_that_a_stranger_has_planted_is_neither_shown_nor_written(mode: str) -> None:
    """In a sticky folder, which everybody writes to, as /tmp is."""
    with public_folder() as folder:
        folder.chmod(0o1777)
        os.chown(folder, 0, 0)
        mine, theirs = folder / "victim.h5", folder / "planted.h5"
        for path in (mine, theirs):
            with h5py.File(path, "w", track_order=False) as opened:
                opened["d"] = NUMBERS
        shutil.copyfile(mine, theirs)
        with mounted(theirs, options=WRITES) as mount:
            np.save(mount.path / "d.npy", NUMBERS + 666)
            kill(mount.pid, "all", 0)
            end_mount(mount.path)
        log = log_path(mine)
        log_path(theirs).rename(log)
        os.chown(log, NOBODY, NOBODY)
        log.chmod(0o640)
        before = log.stat(), mine.read_bytes()
        with (
            pytest.raises(MountFailedError, match="not the HDF5 file's owner"),
            mounted(mine, options=["--mode", mode]),
        ):
            pass
        assert "not the HDF5 file's owner" in run_h5fs("check", mine).stderr
        assert run_h5fs("recover", mine).returncode == 1
        after = log.stat(), mine.read_bytes()
        assert after[1] == before[1]
        assert (after[0].st_uid, after[0].st_mode) == (before[0].st_uid, before[0].st_mode)
        os.chown(log, 0, 0)  # what it was refused for was its owner alone
        with mounted(mine) as mount:
            assert (np.load(mount.path / "d.npy") == NUMBERS + 666).all()


@pytest.mark.skipif(why_not_another_user() is not None, reason=str(why_not_another_user()))
@pytest.mark.semantics("U1", "U5")
def test_roots_mount_of_a_users_file_leaves_a_log_that_the_user_can_bring_in() -> None:
    with public_folder() as folder:
        file = folder / "f.h5"
        with h5py.File(file, "w") as opened:
            opened["d"] = NUMBERS
        os.chown(file, NOBODY, NOBODY)
        file.chmod(0o640)
        with mounted(file, options=WRITES) as mount:
            np.save(mount.path / "new.npy", NUMBERS)
            status = log_path(file).stat()
            assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
            assert status.st_mode & 0o777 == 0o640
            kill(mount.pid, "all", 0)
            end_mount(mount.path)
        done = run_h5fs_as_nobody("recover", file)
        assert done.returncode == 0 and "brought into" in done.stdout, done
        with h5py.File(file) as opened:
            assert (opened["new"][()] == NUMBERS).all()


@pytest.mark.semantics("U6")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_lock_that_h5fs_itself_holds_is_told_from_others(file: Path, mode: str) -> None:
    """By its class, for who waits a moment until the worker of a killed mount is gone."""
    program = (
        "import sys; from pathlib import Path; from h5fs.errors import CannotOpenError\n"
        "from h5fs.model.settings import Mode, StoreOptions; from h5fs.store import open_store\n"
        "try: open_store(StoreOptions(Path(sys.argv[1]), mode=Mode(sys.argv[2]))).close()\n"
        "except CannotOpenError as error: print(type(error).__name__)\n"
    )

    def ask() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, file, mode], capture_output=True, text=True, check=True,
            timeout=240,
        ).stdout  # fmt: skip

    with mounted(file, options=WRITES):
        assert ask() == "HeldByH5fsError\n"
    with h5py.File(file, "r+"):
        assert ask() == "CannotOpenError\n"
    with mounted(file), h5py.File(file, "r"):
        assert ask() == ("HeldByH5fsError\n" if mode == "r+" else "")
    assert ask() == ""
