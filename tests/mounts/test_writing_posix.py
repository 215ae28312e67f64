"""Small answers of a mount that writes, beside those of a plain folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import mounted
from support.reference import npy_bytes
from support.writing import SECONDS, errno_of, make_file, same, shell, written

VALUES = np.arange(6, dtype="<f8")
CONTENT = npy_bytes(VALUES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = make_file(tmp_path / "f.h5", d=VALUES)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
    return file


@pytest.mark.semantics("R8")
@pytest.mark.parametrize("size", [0, 50, 150, 1000])
def test_truncate_by_path_that_is_einval_changes_no_size(file: Path, size: int) -> None:
    with written(file) as mount:
        path = mount.path / "d.npy"
        assert errno_of(lambda: os.truncate(path, size)) == errno.EINVAL
        assert path.read_bytes() == CONTENT
        for flags in (os.O_RDONLY, os.O_RDWR):
            descriptor = os.open(path, flags)
            assert errno_of(lambda: os.truncate(path, size)) == errno.EINVAL
            assert path.stat().st_size == len(CONTENT)
            assert os.pread(descriptor, 10**4, 0) == CONTENT
            os.close(descriptor)
        assert path.read_bytes() == CONTENT
    with h5py.File(file) as opened:
        assert same(opened["d"][()], VALUES)


@pytest.mark.semantics("R8")
def test_truncate_by_path_of_a_file_that_is_written_does_what_ftruncate_does(file: Path) -> None:
    with written(file) as mount:
        half, scratch = mount.path / "half.npy", mount.path / ".scratch"
        shell("head -c 100 d.npy > half.npy 2>/dev/null || true", mount.path)
        scratch.write_bytes(CONTENT)
        for path in (half, scratch):
            for size in (50, 60, 0, 20):
                before = path.read_bytes()
                os.truncate(path, size)
                assert path.read_bytes() == before[:size] + bytes(size - len(before[:size]))
            path.unlink()
        path = mount.path / "new.npy"
        with open(path, "wb", buffering=0) as opened:
            opened.write(CONTENT + b"too much")
            os.truncate(path, len(CONTENT))
        assert path.read_bytes() == CONTENT
        assert errno_of(lambda: path.write_bytes(b"no array")) == errno.EINVAL
    with h5py.File(file) as opened:
        assert same(opened["new"][()], VALUES)


@pytest.mark.semantics("E1")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_name_of_256_bytes_is_too_long_in_every_call(file: Path, mode: str) -> None:
    with written(file, mode=mode) as mount:
        for name in ("x" * 256, "x" * 252 + ".npy", "ä" * 128, "x" * 1000):
            path = mount.path / name
            calls = {
                "stat": path.stat, "open": lambda p=path: os.open(p, os.O_RDONLY),
                "readlink": lambda p=path: os.readlink(p), "below": (path / "y").stat,
            }  # fmt: skip
            if mode == "r+":  # else the kernel says EROFS to these
                calls |= {
                    "rmdir": path.rmdir, "unlink": path.unlink, "mkdir": path.mkdir,
                    "create": lambda p=path: os.open(p, os.O_WRONLY | os.O_CREAT),
                    "rename": lambda p=path: p.rename(mount.path / "g/y"),
                    "rename to": lambda p=path: (mount.path / "d.npy").rename(p),
                    "symlink": lambda p=path: os.symlink("d.npy", p),
                    "link": lambda p=path: os.link(mount.path / "d.npy", p),
                }  # fmt: skip
            answers = {call: errno_of(act) for call, act in calls.items()}
            assert set(answers.values()) == {errno.ENAMETOOLONG}, (name[:3], answers)
        assert errno_of((mount.path / ("x" * 255)).stat) == errno.ENOENT


CHANGES = {
    "create": "cp d.npy {}/new.npy", "scratch": "cp d.npy {}/.t", "mkdir": "mkdir {}/sub",
    "mkdir of scratch": "mkdir {}/.sub", "link": "ln d.npy {}/twin.npy",
    "symlink": "ln -s x.npy {}/soft.npy", "rename in": "mv e.npy {}/", "unlink": "rm {}/x.npy",
    "rename out": "mv {}/x.npy .", "rename within": "mv {}/x.npy {}/y.npy",
    "rmdir": "rmdir {}/empty",
}  # fmt: skip


@pytest.mark.semantics("R16")
def test_the_times_of_a_folder_move_when_an_entry_comes_or_goes(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", d=VALUES, e=VALUES)
    with h5py.File(file, "a") as opened:
        for name in CHANGES:
            opened[f"{name}/x"] = VALUES
            opened.create_group(f"{name}/empty")
    with written(file, leaves=True) as mount:
        for name, script in CHANGES.items():
            folder = mount.path / name
            before, others = folder.stat(), (mount.path / "create/empty").stat()
            shell(script.replace("{}", f"'{name}'"), mount.path)
            after = folder.stat()
            assert after.st_mtime_ns > before.st_mtime_ns, name
            assert after.st_ctime_ns > before.st_ctime_ns, name
            (folder / "x.attrs.json").exists()
            np.load(mount.path / "d.npy")
            assert folder.stat().st_mtime_ns == after.st_mtime_ns, name
            assert (mount.path / "create/empty").stat().st_mtime_ns == others.st_mtime_ns
        before = mount.path.stat().st_mtime_ns
        (mount.path / "top").mkdir()
        assert mount.path.stat().st_mtime_ns > before
        assert abs((mount.path / "top").stat().st_mtime_ns - mount.path.stat().st_mtime_ns) < 10**9


@pytest.mark.semantics("R16", "R23")
def test_the_times_of_a_folder_stay_where_attributes_come_or_go_by_themselves(
    tmp_path: Path,
) -> None:
    file = make_file(tmp_path / "f.h5", **{"g/x": VALUES, "g/y": VALUES})
    with h5py.File(file, "a") as opened:
        opened["g/y"].attrs["a"] = 1
    with written(file, "-o", "xattr") as mount:
        folder = mount.path / "g"
        before = folder.stat()
        os.setxattr(folder, "user.a", b"1")
        os.setxattr(folder / "x.npy", "user.a", b"1")
        assert {".attrs.json", "x.attrs.json"} <= set(os.listdir(folder))
        (folder / "y.attrs.json").write_text("{}")
        os.removexattr(folder, "user.a")
        assert set(os.listdir(folder)) == {"x.npy", "x.attrs.json", "y.npy"}
        assert (before.st_mtime_ns, before.st_ctime_ns) == times_of(folder)
        (folder / "x.attrs.json").unlink()
        assert min(times_of(folder)) > before.st_mtime_ns


@pytest.mark.semantics("R16", "S5")
def test_the_next_mount_has_the_times_that_the_hdf5_file_keeps(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", libver="latest") as opened:
        for name in ("from", "to"):
            opened[f"{name}/x"] = VALUES
            opened.create_group(f"{name}/inner")
    with mounted(file) as mount:
        before = {name: times_of(mount.path / name) for name in ("from", "to")}
    with written(file, "-o", "xattr") as mount:
        for script in (
            "ln from/x.npy to/y.npy", "ln -s y.npy to/soft.npy", "mkdir to/new", "rm to/x.npy",
            "mv from/inner to/moved", "rmdir to/inner", "mv to/soft.npy from/", "touch -d@5 to",
        ):  # fmt: skip
            shell(script, mount.path)
        np.save(mount.path / "to/saved.npy", VALUES)
        os.setxattr(mount.path / "from", "user.a", b"1")
        assert all(times_of(mount.path / name) > times for name, times in before.items())
        kept = {each: each.stat().st_ino for each in (mount.path / "to").iterdir()}
    with mounted(file) as mount:
        for name, (mtime_ns, ctime_ns) in before.items():
            now = times_of(mount.path / name)
            assert now[0] == mtime_ns
            assert now[1] >= ctime_ns and not now[1] % 10**9, "the header has seconds"
        assert {each.name: each.stat().st_ino for each in (mount.path / "to").iterdir()} == {
            each.name: inode for each, inode in kept.items()
        }


def times_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.semantics("S1")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_folders_have_one_link_and_find_finds_what_is_in_them(tmp_path: Path, mode: str) -> None:
    file = make_file(tmp_path / "f.h5")
    with h5py.File(file, "a") as opened:
        for name in ("a/b/c", "a/b/d", "a/e"):
            opened[f"{name}/x"] = VALUES
    with written(file, mode=mode) as mount:
        found = shell("find . -type d | sort; find . -name '*.npy' | wc -l", mount.path).split()
        assert found == [".", "./a", "./a/b", "./a/b/c", "./a/b/d", "./a/e", "3"]
        assert {(mount.path / name).stat().st_nlink for name in found[:-1]} == {1}
        if mode == "r+":
            (mount.path / ".trash").mkdir()
            assert (mount.path / ".trash").stat().st_nlink == 1


def test_thousands_of_small_drafts_need_no_descriptors(file: Path) -> None:
    # Under a limit of 400 descriptors for the daemon, whatever it was before.
    script = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
os.execv(sys.executable, [sys.executable, "-m", "h5fs", {str(file)!r}, sys.argv[1],
         "--mode", "r+", "-f"])
"""
    mountpoint = file.parent / "mnt"
    mountpoint.mkdir()
    daemon = subprocess.Popen([sys.executable, "-c", script, str(mountpoint)])
    try:
        for _ in range(600):
            if os.path.ismount(mountpoint) or daemon.poll() is not None:
                break
            try:
                daemon.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        (mountpoint / ".many").mkdir()
        for number in range(1500):
            (mountpoint / f".many/{number}").write_text(f"small {number}")
        assert (mountpoint / ".many/777").read_text() == "small 777"
        shell("rm -r .many", mountpoint)
    finally:
        subprocess.run(["fusermount3", "-u", str(mountpoint)], check=True, timeout=SECONDS)
        assert daemon.wait(SECONDS) == 0


@pytest.mark.semantics("R17", "R20")
def test_a_temporary_file_without_a_name_is_written_and_read(file: Path) -> None:
    with written(file) as mount:
        with tempfile.TemporaryFile(dir=mount.path) as made:
            assert errno_of(lambda: os.fstat(made.fileno())) == errno.ESTALE  # not used yet
            np.save(made, VALUES)
            made.seek(0)
            assert made.read() == CONTENT
            assert made.seek(0, os.SEEK_END) == len(CONTENT)
            made.truncate(10)
            made.seek(0)
            assert made.read() == CONTENT[:10]
            status = os.fstat(made.fileno())
            assert (status.st_size, status.st_nlink) == (10, 0)
        with tempfile.NamedTemporaryFile(dir=mount.path, suffix=".csv") as named:
            named.write(b"a,b")
            named.flush()
            assert Path(named.name).read_bytes() == b"a,b"
        assert sorted(os.listdir(mount.path)) == ["d.npy", "g"]
    assert not Path(f"{file}.h5fs-left").exists()


EDITORS = {
    "patch": "diff -u d.attrs.json new > p.diff || true; patch -s {0}/d.attrs.json p.diff",
    "patch --backup": "diff -u d.attrs.json new > p.diff || true;"
    " patch -s -b {0}/d.attrs.json p.diff; rm {0}/d.attrs.json.orig",
    "vim": "vim -es -u NONE -c '%s/old/new/' -c wq {0}/d.attrs.json < /dev/null",
    "perl -i": "perl -pi -e 's/old/new/' {0}/d.attrs.json",
    "sed -i": "sed -i s/old/new/ {0}/d.attrs.json",
    "git": "cd {0}; git init -q .; git -c user.name=a -c user.email=a@b.c add . ;"
    " git -c user.name=a -c user.email=a@b.c commit -qm one; sed -i s/old/new/ d.attrs.json;"
    " git diff --stat | grep -q d.attrs.json; git checkout -q -- .; git fsck --strict 2>&1;"
    " sed -i s/old/new/ d.attrs.json; rm -rf .git",
}  # fmt: skip


@pytest.mark.semantics("R17")
@pytest.mark.parametrize("program", EDITORS)
def test_people_s_programs_change_attributes_by_way_of_their_scratch_files(
    file: Path, program: str
) -> None:
    if shutil.which(program.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{program} is not installed")
    with h5py.File(file, "a") as opened:
        opened["d"].attrs.update({"a": "old", "b": 1})
    with written(file) as mount:
        shutil.copy(mount.path / "d.attrs.json", file.parent)
        shell("sed s/old/new/ d.attrs.json > new", file.parent)
        shell(EDITORS[program].format(mount.path), file.parent)
        assert sorted(os.listdir(mount.path)) == ["d.attrs.json", "d.npy", "g"]
    with h5py.File(file) as opened:
        assert dict(opened["d"].attrs) == {"a": "new", "b": 1}
        assert same(opened["d"][()], VALUES)
    assert not Path(f"{file}.h5fs-left").exists()


@pytest.mark.semantics("R29", "D9")
def test_a_reference_follows_an_open_datatype_to_the_name_that_is_left(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5", x=VALUES)
    with h5py.File(file, "a") as opened:
        opened["t"] = np.dtype("i4")
        opened["z"] = opened["t"]
        opened["refs"] = np.array(
            [h5py.h5r.create(opened.id, b"t", h5py.h5r.OBJECT)], h5py.ref_dtype
        )
        opened["x"].attrs["to"] = opened["refs"][0]
    with written(file) as mount:

        def seen() -> tuple[object, object]:
            attributes = json.loads((mount.path / "x.attrs.json").read_text())
            return attributes["to"], np.load(mount.path / "refs.npy")[0]

        assert seen() == ("/t", "/t")
        with open(mount.path / "t.dtype.json") as is_open:
            (mount.path / "t.dtype.json").unlink()
            assert seen() == ("/z", "/z")
            assert is_open.read()
        (mount.path / "z.dtype.json").unlink()
        name, shown = seen()
        assert isinstance(name, dict) and list(name) == ["address"] and shown == ""
