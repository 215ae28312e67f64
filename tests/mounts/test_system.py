"""h5fs as part of a system: mount(8), fstab, systemd, a second user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import end_mount, run_h5fs
from support.pages import code_blocks
from support.system import run_on_system, why_no_system
from support.users import (
    NOBODY,
    public_folder,
    python_of_nobody,
    run_as_nobody,
    run_script_as_nobody,
    why_not_another_user,
)

from h5fs.cli import mount_helper

NUMBERS = np.arange(100, dtype="<i4")

needs_system = pytest.mark.skipif(why_no_system() is not None, reason=str(why_no_system()))
needs_another_user = pytest.mark.skipif(
    why_not_another_user() is not None or python_of_nobody() is None,
    reason=why_not_another_user() or "no Python with h5fs that another user may run",
)

# In a script: wait until no process has the file on its command line.
WAIT_FOR_END = """
i=0
while pgrep -f "$PWD/f.h5" >/dev/null; do
    i=$((i + 1)); [ $i -lt 100 ] || { echo "the daemon lives"; exit 30; }; sleep 0.1
done
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an HDF5 file and an empty folder to mount it on."""
    write(tmp_path / "f.h5")
    (tmp_path / "mnt").mkdir()
    return tmp_path


def write(file: Path) -> None:
    with h5py.File(file, "w") as opened:
        opened["d"] = NUMBERS
        opened["g/x"] = NUMBERS


def check_success(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)


# mount(8)


@needs_system
@pytest.mark.semantics("M20")
@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("h5fs", ["mount.h5fs"]),
        ("fuse.h5fs", ["h5fs"]),
        ("fuse.h5fs", ["mount.fuse.h5fs"]),
    ],
)
def test_a_line_of_fstab_mounts_and_umount_ends_the_daemon(
    place: Path, kind: str, commands: list[str]
) -> None:
    if commands == ["h5fs"] and shutil.which("mount.fuse3", path="/sbin:/usr/sbin") is None:
        pytest.skip("mount.fuse3 is missing")
    (place / "fstab").write_text(
        f"{place}/f.h5 {place}/mnt {kind} noauto,nofail,uid=1234,log={place}/log 0 0\n"
    )
    script = f"""
        mount -T "$PWD/fstab" "$PWD/mnt" || exit 10
        cmp -s mnt/d.npy expected.npy || exit 11
        stat -c %u mnt/d.npy
        findmnt -n -o FSTYPE,SOURCE mnt
        pgrep -f "$PWD/f.h5" >/dev/null || exit 12
        umount mnt || exit 13
        {WAIT_FOR_END}
        mountpoint -q mnt && exit 14
        exit 0
    """
    np.save(place / "expected.npy", NUMBERS)
    # As at boot and from systemd: nothing useful in PATH.
    done = run_on_system(script, place, *commands, path="/usr/bin:/bin:/usr/sbin:/sbin")
    check_success(done)
    assert done.stdout.split() == ["1234", "fuse.h5fs", f"{place}/f.h5"]


@needs_system
@pytest.mark.semantics("M20")
def test_mount_a_mounts_once(place: Path) -> None:
    (place / "fstab").write_text(f"{place}/f.h5 {place}/mnt h5fs log={place}/log 0 0\n")
    script = """
        mount -a -T "$PWD/fstab" || exit 10
        mount -a -T "$PWD/fstab" || exit 11
        umount mnt || exit 12
        mountpoint -q mnt && exit 13
        exit 0
    """
    check_success(run_on_system(script, place, "mount.h5fs"))


@needs_system
@pytest.mark.semantics("M20", "R1")
def test_an_fstab_line_with_a_mode_writes(place: Path) -> None:
    (place / "fstab").write_text(f"{place}/f.h5 {place}/mnt h5fs mode=r+,log={place}/log 0 0\n")
    np.save(place / "new.npy", NUMBERS)
    script = f"""
        mount -T "$PWD/fstab" "$PWD/mnt" && cp new.npy mnt/ && umount mnt || exit 10
        {WAIT_FOR_END}
    """
    check_success(run_on_system(script, place, "mount.h5fs"))
    with h5py.File(place / "f.h5") as opened:
        assert (opened["new"][()] == NUMBERS).all()


@needs_system
@pytest.mark.semantics("M20")
def test_what_mount_says_and_its_exit_status_are_those_of_mount_8(place: Path) -> None:
    script = """
        mount -t h5fs -o nonsense f.h5 mnt; echo $?
        mount -t h5fs -o remount f.h5 mnt; echo $?
        mount -t h5fs none.h5 mnt; echo $?
        mount -f -t h5fs f.h5 mnt; echo $?; ls mnt
        mount -s -t h5fs -o nonsense,log=$PWD/log f.h5 mnt; echo $?; ls mnt
    """
    done = run_on_system(script, place, "mount.h5fs")
    assert done.stdout.split() == ["1", "1", "32", "0", "0", "d.npy", "g"], done
    said = done.stderr.splitlines()
    assert len(said) == 3 and all(line.startswith("mount.h5fs: ") for line in said), said
    assert "nonsense" in said[0] and "remount" in said[1] and "none.h5: no such file" in said[2]


@pytest.mark.semantics("M20")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: FILE, DIR"),
        (["f.h5"], "required: DIR"),
        (["f.h5", "mnt", "-z"], "-z"),
        (["f.h5", "mnt", "-N", "/proc/1/ns/mnt"], "nsenter --mount=/proc/1/ns/mnt"),
        (["f.h5", "mnt", "-o", "rw,mode=rw"], "mode"),
    ],
)
def test_the_helper_says_what_is_wrong_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mount_helper.main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mount.h5fs: ") and said in line


# A second user


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder of nobody's with an HDF5 file and a mountpoint in it."""
    with public_folder() as folder:
        write(folder / "f.h5")
        np.save(folder / "new.npy", NUMBERS)
        (folder / "mnt").mkdir()
        for path in folder.iterdir():
            os.chown(path, NOBODY, NOBODY)
        yield folder


READS = ("cat mnt/d.npy", "ls mnt/g", "cat mnt/g/x.npy", "cat mnt/d.attrs.json")
WRITES = (
    "cp new.npy mnt/d.npy",
    "cp new.npy mnt/made.npy",
    "mkdir mnt/folder",
    "echo '{\"a\": 2}' > mnt/d.attrs.json",
    "printf x | dd of=mnt/g/x.npy bs=1 seek=200 conv=notrunc",
    "mv mnt/g/x.npy mnt/g/y.npy",
    "ln -s g mnt/link",
    "rm mnt/g/*",
    "rmdir mnt/g",
)


@needs_another_user
@pytest.mark.semantics("M9")
@pytest.mark.parametrize(
    ("owner", "mode", "options", "may_read", "may_write"),
    [
        (0, 0o644, "mode=r", True, False),
        (0, 0o666, "mode=r", True, False),
        (0, 0o600, "mode=r+", False, False),
        (0, 0o644, "mode=r+", True, False),
        (0, 0o666, "mode=r+", True, True),
        (NOBODY, 0o600, "mode=r+", True, True),
        (NOBODY, 0o444, "mode=r+", True, False),
        (0, 0o600, f"mode=r+,uid={NOBODY}", True, True),
    ],
)
def test_a_second_user_may_what_the_files_mode_allows_and_no_more(
    public: Path, owner: int, mode: int, options: str, may_read: bool, may_write: bool
) -> None:
    with h5py.File(public / "f.h5", "r+") as opened:
        opened["d"].attrs["a"] = 1
    os.chown(public / "f.h5", owner, owner)
    (public / "f.h5").chmod(mode)
    before = (public / "f.h5").read_bytes()
    try:
        words = ("-o", f"allow_other,log={public}/log,{options}")
        check_success(run_h5fs(public / "f.h5", public / "mnt", *words))
        for commands, may in ((READS, may_read), (WRITES, may_write)):
            for command in commands:
                tried = run_as_nobody("sh", "-c", f"cd {public} && {command}")
                assert (tried.returncode == 0) == may, (command, tried.stderr)
                refused = "Permission denied" in tried.stderr or "Read-only" in tried.stderr
                assert may or refused, (command, tried.stderr)
    finally:
        end_mount(public / "mnt")
    assert may_write or (public / "f.h5").read_bytes() == before


@needs_another_user
@pytest.mark.semantics("R1", "M5")
def test_a_user_without_rights_writes_through_a_mount_of_their_own(public: Path) -> None:
    script = """
        h5fs f.h5 mnt --mode r+ || exit 10
        cp new.npy mnt/new.npy || exit 11
        rm mnt/d.npy || exit 12
        h5fs umount mnt || exit 13
        h5fs check f.h5 > checked || exit 14
    """
    check_success(run_script_as_nobody(script, public))
    with h5py.File(public / "f.h5") as opened:
        assert sorted(opened) == ["g", "new"]
        assert (opened["new"][()] == NUMBERS).all()
    assert (public / "f.h5").stat().st_uid == NOBODY


# What ADMINISTRATION.md shows


@needs_system
@pytest.mark.semantics("M20")
def test_the_fstab_lines_of_the_page_mount(place: Path) -> None:
    lines = [line for block in code_blocks("fstab") for line in block.splitlines() if line.strip()]
    for line in lines:
        fields = line.split()
        fields[:2] = [f"{place}/f.h5", f"{place}/mnt"]
        (place / "fstab").write_text(" ".join(fields) + "\n")
        script = f"""
            mount -T "$PWD/fstab" "$PWD/mnt" && ls mnt && umount mnt || exit 10
            {WAIT_FOR_END}
        """
        done = run_on_system(script, place, "h5fs", "mount.h5fs")
        check_success(done)
        assert done.stdout.split() == ["d.npy", "g"]


@needs_system
@pytest.mark.semantics("M20")
def test_the_mount_unit_of_the_page_is_one_that_systemd_takes(place: Path) -> None:
    (unit,) = code_blocks("ini")
    where = re.search(r"^Where=/(.*)$", unit, re.MULTILINE)
    assert where is not None
    name = where[1].replace("-", "\\x2d").replace("/", "-") + ".mount"
    assert name in unit.splitlines()[0], "the first line says how the file is to be named"
    (place / name).write_text(unit)
    if shutil.which("systemd-analyze") is not None:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", place / name],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        about_it = [line for line in done.stderr.splitlines() if name in line]
        assert done.returncode == 0 and not about_it, done.stderr
    # And what systemd would do with it.
    values = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    script = f"""
        mount f.h5 mnt -t {values["Type"]} -o {values["Options"]},log=$PWD/log || exit 10
        ls mnt && umount mnt || exit 11
        {WAIT_FOR_END}
    """
    check_success(run_on_system(script, place, "mount.h5fs"))


@needs_system
def test_the_user_unit_of_the_page_is_one_that_systemd_takes(place: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing")
    (unit,) = code_blocks("systemd")
    file = place / Path(unit.splitlines()[0]).name
    # systemd-analyze insists on a program that is there.
    file.write_text(unit.replace("%h/h5fs-env/bin/h5fs", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", file],
        env={**os.environ, "XDG_RUNTIME_DIR": str(place)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    about_it = [line for line in done.stderr.splitlines() if file.name in line]
    assert done.returncode == 0 and not about_it, done.stderr
