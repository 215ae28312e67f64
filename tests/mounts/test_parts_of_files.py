"""Mounts of one group of a file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.kill_writing import kill
from support.mount_points import table_of_mounts
from support.mounts import MountFailedError, mounted, needs_libfuse_3, run_h5fs
from support.object_server import ObjectServer
from support.waiting import PATIENCE_SECONDS
from support.writing import errno_of

import h5fs
from h5fs.cli import main
from h5fs.system.kernel_mounts import find_mount


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        group = opened.create_group("run/images")
        group.attrs["title"] = "part"
        group["first"] = np.arange(6).reshape(2, 3)
        group["raw/x"] = np.arange(4)
        opened["other"] = np.arange(3.0)
        group["hard"] = opened["other"]
        group["first"].attrs.create("to", opened["other"].ref, dtype=h5py.ref_dtype)
        group["raw/in"] = h5py.SoftLink("/run/images/first")
        group["raw/out"] = h5py.SoftLink("/other")
        group["raw/up"] = group
        group["raw/above"] = opened["run"]
        opened["latest"] = h5py.SoftLink("/run/images")
        opened.create_group("odd.npy")["y"] = 1
    return path


def found_in(folder: Path) -> dict[str, object]:
    """Return what is to see of all files and folders."""
    found: dict[str, object] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        told = status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns
        held = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = told, held
    return found


@pytest.mark.semantics("P1", "P4")
def test_a_part_is_what_a_mount_of_the_whole_file_has_there(file: Path) -> None:
    links = {"raw/out", "raw/above", "raw/in"}  # whose texts have other lengths
    with mounted(file) as whole, mounted(f"{file}:/run/images") as part:  # type: ignore[arg-type]
        expected, found = found_in(whole.path / "run/images"), found_in(part.path)
        assert expected.keys() == found.keys()
        assert {n: f for n, f in found.items() if n not in links} == {
            n: f for n, f in expected.items() if n not in links
        }
        assert json.loads((part.path / ".attrs.json").read_text()) == {"title": "part"}
        told = json.loads((part.path / "first.attrs.json").read_text())["to"]
        with h5py.File(file) as opened:
            assert opened[told] == opened["other"]
        assert errno_of((part.path / "none").stat) == errno.ENOENT


@pytest.mark.semantics("P3")
def test_links_lead_into_the_part_or_dangle(file: Path) -> None:
    with mounted(f"{file}:/run/images") as mount:  # type: ignore[arg-type]
        raw = mount.path / "raw"
        texts = {name: os.readlink(raw / name) for name in ("in", "out", "up", "above")}
        assert texts == {
            "in": "../first.npy", "out": "external::/other", "up": "..", "above": "external::/run"
        }  # fmt: skip
        assert all((raw / name).lstat().st_size == len(text) for name, text in texts.items())
        assert (np.load(raw / "in") == [[0, 1, 2], [3, 4, 5]]).all()


@pytest.mark.semantics("P1", "M27")
def test_a_part_is_named_in_status_and_mounts_on_its_own_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    for words, place, entry in (
        (["f.h5:/run/images/"], "images", "first.npy"),
        (["mount", "f.h5:/odd.npy"], "odd%2Enpy", "y.npy"),
        (["f.h5:/odd%2Enpy", "m"], "m", "y.npy"),
        (["f.h5:/"], "f", "latest"),
    ):
        done = run_h5fs(*words)
        assert done.returncode == 0, done.stderr
        try:
            assert entry in os.listdir(place)
            told = run_h5fs("status", place)
            source = words[-1] if words[-1] != "m" else words[0]
            name = source.rstrip("/").rstrip(":").replace("odd.npy", "odd%2Enpy")
            assert f"file         {file.parent}/{name}\n" in told.stdout
            (status,) = json.loads(run_h5fs("status", "--json", place).stdout)
            assert (status["file"], status["part"]) == (str(file), name[4:].lstrip(":") or None)
            found = find_mount(file.parent / place)
            assert found is not None and found.source == f"{file.parent}/{name}"
        finally:
            done = run_h5fs("umount", place)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.semantics("P2")
@pytest.mark.parametrize(
    ("place", "options", "status", "why"),
    [
        ("f.h5:/run/none", [], 1, "f.h5:/run/none: no such group"),
        ("f.h5:/run/images/first", [], 1, "f.h5:/run/images/first.npy is not a group"),
        ("f.h5:/run/images/first.npy", [], 1, "f.h5:/run/images/first.npy is not a group"),
        ("f.h5:/run/images/first.npy/x", [], 1, "f.h5:/run/images/first.npy is not a group"),
        ("f.h5:/latest", [], 1, "f.h5:/latest is a link to /run/images: name the group itself"),
        ("f.h5:/latest/raw", [], 1, "f.h5:/latest is a link to /run/images"),
        ("f.h5:/none", ["--mode", "a"], 1, "f.h5:/none: no such group"),
        ("new.h5:/run", ["--mode", "a"], 1, "new.h5: no such file"),
        ("new.h5:/run", ["--mode", "w"], 2, "--mode w begins a new file, which has no groups"),
        ("f.h5:/run", ["--mode", "x"], 2, "--mode x begins a new file, which has no groups"),
        ("folder:/run", [], 1, "folder is a folder"),
        ("f.h5:run", [], 1, "a group of it is"),
    ],
)  # fmt: skip
def test_what_is_no_group_is_refused_in_one_line(
    file: Path, place: str, options: list[str], status: int, why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(file.parent)
    Path("folder").mkdir()
    before = file.read_bytes()
    done = run_h5fs(place, "m", *options)
    assert done.returncode == status
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(os.listdir()) == ["f.h5", "folder"]
    assert file.read_bytes() == before


@pytest.mark.semantics("P2")
def test_commands_that_are_of_a_whole_file_name_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("check", "recover"):
        assert main.main([command, f"{file}:/run"]) == 2
        assert f"{file}:/run is a part; name the whole file: {file} " in capsys.readouterr().err
        assert main.main([command, f"{file}:run"]) == 1  # a file of that name, which is not there


@needs_libfuse_3
@pytest.mark.semantics("P4", "P5")
def test_what_is_written_into_a_part_is_in_the_group_and_nowhere_else(file: Path) -> None:
    with h5fs.mount(f"{file}:/run/images", mode="r+") as mnt:
        np.save(mnt / "new.npy", np.arange(5))
        (mnt / "sub").mkdir()
        np.save(mnt / "sub/late.npy", np.arange(2))
        (mnt / "sub/late.npy").rename(mnt / "late.npy")
        told = json.loads((mnt / "first.attrs.json").read_text())
        (mnt / "new.attrs.json").write_text(json.dumps(told))
        (mnt / ".attrs.json").write_text('{"title": "changed"}')
        os.symlink("../new.npy", mnt / "sub/relative")
        os.symlink(mnt / "new.npy", mnt / "sub/absolute")
        os.symlink("external::/other", mnt / "sub/outside.npy")
        assert os.readlink(mnt / "sub/relative") == os.readlink(mnt / "sub/absolute")
        for text in ("../../other.npy", "/other.npy", "../../../x"):
            assert errno_of(lambda text=text: os.symlink(text, mnt / "sub/no")) == errno.EINVAL
        assert errno_of(mnt.rmdir) == errno.EBUSY
    with h5py.File(file) as opened:
        assert set(opened) == {"run", "other", "latest", "odd.npy"}
        group = opened["run/images"]
        assert set(group) == {"first", "hard", "raw", "new", "late", "sub"}
        assert group.attrs["title"] == "changed"
        assert opened[group["new"].attrs["to"]] == opened["other"]
        for name in ("relative", "absolute"):
            assert group["sub"].get(name, getlink=True).path == "/run/images/new"
        assert group["sub/outside"] == opened["other"]


@needs_libfuse_3
@pytest.mark.semantics("P5")
def test_what_waits_is_known_by_its_path_in_the_file(file: Path) -> None:
    def writes(part: str) -> str:
        return f"{file}:{part}"

    with mounted(writes("/run/images"), options=["--mode", "r+"]) as mount:  # type: ignore[arg-type]
        (mount.path / "late.attrs.json").write_text('{"a": 1}')
        (mount.path / "never.attrs.json").write_text('{"b": 1}')
        kill(mount.pid, "all", 0)
    with mounted(writes("/odd.npy"), options=["--mode", "r+"]) as mount:  # type: ignore[arg-type]
        assert os.listdir(mount.path) == ["y.npy"]
        kill(mount.pid, "all", 0)
    with mounted(writes("/run"), options=["--mode", "r+"]) as mount:  # type: ignore[arg-type]
        assert (mount.path / "images/late.attrs.json").read_text() == '{"a": 1}'
        np.save(mount.path / "images/late.npy", np.arange(3))
        done = run_h5fs("umount", mount.path)
    assert done.returncode == 1
    saved = file.with_name("f.h5.h5fs-left") / "run/images/never.attrs.json"
    reason = "is not in the HDF5 file: its object is missing"
    assert f"/run/images/never.attrs.json {reason}; saved as {saved}" in done.stderr
    assert saved.read_text() == '{"b": 1}'
    with h5py.File(file) as opened:
        assert opened["run/images/late"].attrs["a"] == 1


def wait_until_it_lists(folder: Path, names: list[str] | None) -> None:
    """Wait for a listing of a folder; None: for there being no folder."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            found: list[str] | None = sorted(os.listdir(folder))
        except FileNotFoundError:
            found = None
        if found == names:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def wait_until_it_reads(path: Path, value: int) -> None:
    """Wait until an array is a number."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := np.load(path)) != value:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.semantics("P6")
def test_a_group_that_is_removed_is_gone_until_there_is_one_again(file: Path) -> None:
    def replace(**groups: int | h5py.SoftLink | h5py.ExternalLink) -> None:
        new = file.with_name("new.h5")
        with h5py.File(new, "w") as opened:
            for name, value in groups.items():
                if isinstance(value, int) and value != 1:
                    opened.create_group(name)["x"] = value
                else:
                    opened[name] = value
        new.rename(file)

    replace(g=2)
    with mounted(f"{file}:/g") as mount:  # type: ignore[arg-type]
        assert np.load(mount.path / "x.npy") == 2
        replace(other=2)
        wait_until_it_lists(mount.path, None)
        assert errno_of(mount.path.stat) == errno.ENOENT
        replace(g=3, other=2)
        wait_until_it_lists(mount.path, ["x.npy"])
        assert np.load(mount.path / "x.npy") == 3
        for other in (h5py.SoftLink("/other"), 1):
            opened = os.open(mount.path, os.O_RDONLY)
            replace(other=4, g=other)
            wait_until_it_lists(mount.path, None)
            assert errno_of(partial(os.listdir, opened)) == errno.ENOENT
            os.close(opened)
            assert errno_of((mount.path / "x.npy").stat) == errno.ENOENT
            replace(g=3)
            wait_until_it_lists(mount.path, ["x.npy"])
        replace(new=5, g=h5py.ExternalLink("f.h5", "/new"))  # shown as a group, as in a whole file
        wait_until_it_reads(mount.path / "x.npy", 5)
        replace()
        wait_until_it_lists(mount.path, None)
        done = run_h5fs("umount", mount.path)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.semantics("P1")
def test_a_part_of_a_file_at_a_url(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ObjectServer(file.parent) as server:
        url = f"{server.url}/f.h5?next=http://secret/:/run/images"
        with mounted(url) as mount:  # type: ignore[arg-type]
            assert np.load(mount.path / "first.npy").shape == (2, 3)
            assert os.readlink(mount.path / "raw/out") == "external::/other"
            told = run_h5fs("status", mount.path).stdout
            assert f"{server.url}/f.h5:/run/images\n" in told
            assert "secret" not in told + table_of_mounts()
        with (
            pytest.raises(MountFailedError, match="/none: no such group"),
            mounted(
                f"{server.url}/f.h5:/none"  # type: ignore[arg-type]
            ),
        ):
            pass


@pytest.mark.semantics("P1")
def test_the_mount_helper_takes_a_part(file: Path, tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    helper = ["-c", "from h5fs.cli.mount_helper import main; raise SystemExit(main())"]
    done = subprocess.run(
        [sys.executable, *helper, f"{file}:/run/images", str(place), "-o", "ro"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert "first.npy" in os.listdir(place)
    finally:
        assert run_h5fs("umount", place).returncode == 0
