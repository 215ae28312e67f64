"""What the command says when it is misused: what happened, to which object, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mount_points import mounts_below
from support.mounts import run_h5fs


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with what the table below names."""
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = np.arange(1000)
        opened["g/x"] = np.arange(3)
    with h5py.File(tmp_path / "cube.h5", "w") as opened:
        opened["cube"] = np.zeros((2, 3, 4))
    content = (tmp_path / "f.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[:3000])
    with h5py.File(tmp_path / "new.h5", "w", libver="latest") as opened:
        opened["d"] = np.arange(1000)
    (tmp_path / "cut_new.h5").write_bytes((tmp_path / "new.h5").read_bytes()[:300])
    (tmp_path / "head.h5").write_bytes(content[:20])
    (tmp_path / "empty.h5").touch()
    np.save(tmp_path / "x.npy", np.arange(3))
    for name in ("mnt", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/x").touch()
    shutil.copy(tmp_path / "f.h5", tmp_path / "full/inside.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MESSAGES = [
    ("empty.h5 mnt", 1, ["empty.h5 is empty", "--mode a"]),
    ("cut.h5 mnt", 1, ["cut.h5 is cut short", "3000 of ", "copy it again"]),
    ("cut_new.h5 mnt", 1, ["cut_new.h5 is cut short", "300 of "]),
    ("head.h5 mnt", 1, ["head.h5 is cut short", "20 of "]),
    ("tree cut.h5", 1, ["cut.h5 is cut short"]),
    ("check cut.h5", 1, ["cut.h5 is cut short"]),
    ("mnt f.h5", 1, ["the HDF5 file comes first", "f.h5"]),
    ("f.h5:/none mnt", 1, ["f.h5:/none: no such group"]),
    ("no/new.h5 mnt --mode a", 1, ["no: no such folder", "mkdir -p"]),
    ("full/inside.h5 full -o nonempty", 1, ["full holds", "inside.h5", "hide"]),
    ("f.h5 mnt -o log=mnt/log", 1, ["mnt holds", "mnt/log", "hide"]),
    ("f.h5 mnt -o ro,mode=r+", 2, ["-o ro", "r+", "contradict"]),
    ("f.h5 mnt -o remount", 2, ["remount", "mount anew"]),
    ("f.h5 mnt -o extrenal=all", 2, ["-o extrenal=all", "did you mean external?"]),
    ("f.h5 mnt -o chunks=10,20", 2, ["-o 20", "chunks=10x20"]),
    ("f.h5 mnt -o xattr=1", 2, ["xattr takes no value"]),
    ("f.h5 mnt -o uid=root", 2, ["uid=root", "a number"]),
    ("f.h5 mnt -o umask=999", 2, ["umask=999", "octal"]),
    ("full", 2, ["where is full to be mounted?", "h5fs full MOUNTPOINT"]),
    ("umount", 2, ["MOUNTPOINT or --all"]),
    ("umount mnt --all", 2, ["MOUNTPOINT or --all"]),
    ("log mnt", 1, ["nothing is mounted at mnt", ".log"]),
    ("f.h5 mnt extra", 2, ["extra", "--help"]),
    ("umount mnt", 1, ["nothing is mounted at mnt", "findmnt"]),
    ("f.h5 mnt --mdoe r+", 2, ["mount has no option --mdoe; did you mean --mode?", "mount --help"]),
    ("f.h5 mnt r+", 2, ["unexpected: r+ (see h5fs mount --help)"]),
    ("tree -r f.h5", 2, ["tree has no option -r (see h5fs tree --help)"]),
    ("f.h5/g/x mnt", 1, ["f.h5 is a file (a group of it is ", "f.h5:/g/x)"]),
    ("help moutn", 2, ["moutn is no command of h5fs (did you mean h5fs help mount?)"]),
    ("help nothing", 2, ["nothing is no command of h5fs", "--help"]),
    ("tree f.h5:g", 1, ["f.h5:g: no such file", "did you mean f.h5:/g?"]),
    ("tree f.h5/g", 1, ["f.h5/g: no such file", "did you mean f.h5:/g?"]),
    ("cat f.h5", 1, ["f.h5:/ is a group", "h5fs tree", "h5fs cp"]),
    ("cat f.h5:/d", 1, ["f.h5:/d: no such file", "f.h5:/d.npy"]),
    ("cat f.h5:/none.npy", 1, ["f.h5:/none.npy: no such file", "h5fs tree f.h5"]),
    ("cat --csv cube.h5:/cube.npy", 1, ["cube.h5:/cube.npy has no table", "two dimensions"]),
    ("cat --csv cube.h5:/none.npy", 1, ["cube.h5:/none.npy: no such file", "h5fs tree cube.h5"]),
    ("tree f.h5:/none", 1, ["h5fs: f.h5:/none: no such object; h5fs tree f.h5"]),
    ("attr f.h5:/none", 1, ["h5fs: f.h5:/none: no such object; h5fs tree f.h5"]),
    ("cp f.h5:/none.npy out.npy", 1, ["h5fs: f.h5:/none.npy: no such file; h5fs tree f.h5"]),
    ("cp f.h5:/g/x out.npy", 1, ["h5fs: f.h5:/g/x: no such file", "is the file f.h5:/g/x.npy"]),
    ("cp f.h5:/d.npy[:2] out.npy", 1, ["f.h5:/d.npy[:2]: no such file", "h5fs cat that takes"]),
    ("tree f.h5:/d.npy[:2]", 1, ["f.h5:/d.npy[:2]: no such object", "h5fs cat that takes"]),
    ("cp f.h5:/none to.h5:/", 1, ["h5fs: f.h5:/none: no such object; h5fs tree f.h5"]),
    ("cp f.h5:/d new.h5:/no/such/d", 1, ["h5fs: new.h5:/no/such: no such object"]),
    ("cp x.npy new.h5:/no/such/x.npy", 1, ["h5fs: new.h5:/no/such: no such object"]),
    ("cp f.h5:/ copy.h5", 2, ["copy.h5 would be no HDF5 file", "h5fs cp f.h5:/ copy.h5:/"]),
    ("cp none.h5:/ out", 1, ["none.h5: no such file"]),
    ("check none.h5", 1, ["none.h5: no such file"]),
    ("recover none.h5", 1, ["none.h5: no such file"]),
    ("cp x.npy y.npy", 2, ["FILE:/PATH", "h5fs cp x.npy FILE:/"]),
    ("check mnt", 1, ["mnt is a folder", "name an HDF5 file"]),
    ("recover mnt", 1, ["mnt is a folder", "name an HDF5 file"]),
]


@pytest.mark.semantics("M6", "M7", "C2", "C3")
@pytest.mark.parametrize(("words", "status", "said"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_the_message_says_what_happened_to_what_and_what_to_do(
    place: Path, words: str, status: int, said: list[str]
) -> None:
    log = ["-o", "log=log"] if words.endswith(" mnt") and words.count(" ") == 1 else []
    log = [] if words.startswith(("tree", "check", "recover", "umount", "log")) else log
    done = run_h5fs(*words.split(), *log)
    assert done.returncode == status, done
    (line,) = done.stderr.splitlines()
    for text in said:
        assert text in line, line
    assert not mounts_below(place.resolve())


@pytest.mark.semantics("M7")
@pytest.mark.parametrize(
    "words", [["f.h5", ""], ["", "mnt"], ["umount", ""], ["status", ""], ["log", ""]]
)
def test_an_empty_name_is_not_the_working_directory(place: Path, words: list[str]) -> None:
    done = run_h5fs(*words)
    assert done.returncode == 2 and "empty name" in done.stderr
    assert place.is_dir()


@pytest.mark.semantics("M6")
@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
def test_without_the_right_to_mount_it_says_what_a_container_needs(place: Path) -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin",
         sys.executable, "-m", "h5fs", "f.h5", "mnt", "-o", "log=log"],
        cwd=place, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "--device /dev/fuse --cap-add SYS_ADMIN" in done.stderr
