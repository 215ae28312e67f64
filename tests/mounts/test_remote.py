"""Mounts of files at URLs: what users see of a file that is on another machine."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mount_points import table_of_mounts
from support.mounts import Mounted, end_mount, mounted, run_h5fs
from support.object_server import ObjectServer
from support.waiting import PATIENCE_SECONDS, wait_until

import h5fs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ObjectServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ObjectServer(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path: Path, start: int = 0) -> None:
    """Write an HDF5 file that is larger than what the first request brings."""
    fresh = path.with_suffix(".new")
    with h5py.File(fresh, "w") as file:
        file["x"] = np.arange(2**20, dtype="<i4") + start
        file.create_dataset("z", data=np.arange(2**19) + start, chunks=(2**14,), compression="gzip")
        for number in range(40):
            file[f"group/d{number}"] = np.arange(5) + number + start
        file["group"].attrs["start"] = start
    fresh.rename(path)


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def mounted_url(url: str, *options: str) -> Iterator[Mounted]:
    words = [word for option in options for word in ("-o", option)]
    with mounted(url, options=words) as mount:  # type: ignore[arg-type]
        yield mount


@pytest.mark.semantics("Z41", "Z42", "Z47")
def test_a_url_is_mounted_as_the_file_itself_would_be(server: ObjectServer, tmp_path: Path) -> None:
    write(server.folder / "f.h5")
    with mounted(server.folder / "f.h5") as local:
        expected = content_of(local.path)
    assert len(expected) == 43
    with mounted_url(f"{server.url}/f.h5?signature=secret") as mount:
        assert content_of(mount.path) == expected
        assert (mount.path / "x.npy").stat().st_mode & 0o777 == 0o444
        with pytest.raises(OSError) as caught:
            (mount.path / "new").mkdir()
        assert caught.value.errno == errno.EROFS
        done = run_h5fs("status", "--json", mount.path)
        (told,) = json.loads(done.stdout)
        assert told["file"] == f"{server.url}/f.h5"
        remote = told["remote"]
        assert remote["requests"] >= 1
        assert remote["bytes"] >= 2**20
        assert remote["in_flight"] == 0
        assert remote["last_error"] is None
        shown = subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, errors="replace", check=True, timeout=240
        ).stdout
        for text in (table_of_mounts(), shown, done.stdout, mount.log.read_text()):
            assert "secret" not in text


@pytest.mark.semantics("Z45")
def test_a_replaced_object_is_shown_after_revalidation(server: ObjectServer) -> None:
    write(server.folder / "f.h5")
    with mounted_url(f"{server.url}/f.h5", "revalidate=0.2") as mount:
        assert np.load(mount.path / "x.npy")[0] == 0
        write(server.folder / "f.h5", start=7)
        wait_until(lambda: np.load(mount.path / "x.npy")[0] == 7)
        assert (np.load(mount.path / "z.npy") == np.arange(2**19) + 7).all()


@pytest.mark.semantics("Z45")
def test_sighup_asks_the_server_at_once(server: ObjectServer) -> None:
    write(server.folder / "f.h5")
    with mounted_url(f"{server.url}/f.h5", "revalidate=3600") as mount:
        held = (mount.path / "z.npy").open("rb")
        assert np.load(mount.path / "x.npy")[0] == 0
        os.kill(mount.pid, signal.SIGHUP)  # the same version: everything stays as it is
        write(server.folder / "f.h5", start=7)
        os.kill(mount.pid, signal.SIGHUP)
        wait_until(lambda: np.load(mount.path / "x.npy")[0] == 7)
        with held:
            try:
                old = held.read()
            except OSError as error:
                assert error.errno == errno.ESTALE
            else:
                assert old[-8:] == np.array([2**19 - 1]).tobytes()


@pytest.mark.semantics("Z46")
def test_a_mount_ends_at_once_while_the_server_does_not_answer(server: ObjectServer) -> None:
    write(server.folder / "f.h5")
    with mounted_url(f"{server.url}/f.h5", "timeout=600") as mount:
        server.set(fault="nothing:1000")
        failed: list[int | None] = []

        def read() -> None:
            try:
                (mount.path / "x.npy").read_bytes()
            except OSError as error:
                failed.append(error.errno)

        reader = threading.Thread(target=read)
        reader.start()

        def in_flight() -> int:
            (told,) = json.loads(run_h5fs("status", "--json", mount.path).stdout)
            return int(told["remote"]["in_flight"])

        wait_until(in_flight)
        os.kill(mount.pid, signal.SIGTERM)
        reader.join(PATIENCE_SECONDS)
        assert failed
        wait_until(lambda: not Path(f"/proc/{mount.pid}").exists())


@pytest.mark.semantics("Z40")
def test_commands_and_python_take_urls(server: ObjectServer, tmp_path: Path) -> None:
    write(server.folder / "f.h5")
    url = f"{server.url}/f.h5"
    with h5fs.mount(url) as path:
        assert np.load(path / "x.npy")[-1] == 2**20 - 1
    assert "group" in run_h5fs("tree", url).stdout
    assert '"start": 0' in run_h5fs("cat", f"{url}:/group/.attrs.json").stdout
    assert run_h5fs("cp", f"{url}:/group", tmp_path / "out").returncode == 0
    assert np.load(tmp_path / "out" / "d3.npy")[0] == 3
    done = run_h5fs("check", url)
    assert done.returncode == 0
    assert "0 errors" in done.stdout
    for words in (("cp", tmp_path / "out", f"{url}:/new"), (url, tmp_path / "out", "--mode", "a")):
        done = run_h5fs(*words)
        assert done.returncode == 1
        assert "read-only" in done.stderr


@pytest.mark.semantics("Z48")
def test_a_prefix_is_mounted_as_a_folder_of_files(server: ObjectServer) -> None:
    folder = server.folder / "bucket" / "runs"
    (folder / "old").mkdir(parents=True)
    for name in ("a.h5", "b b.h5", "old/c.nc"):
        write(folder / name, start=len(name))
    (folder / "notes.txt").write_text("hello\n" * 1000)
    (folder / "broken.h5").write_text("no HDF5")
    (server.folder / "bucket" / "beside.h5").write_text("not to be seen")
    aws = ("anon", f"endpoint_url={server.url}", "revalidate=3600")
    with mounted_url("s3://bucket/runs/", *aws) as mount:
        server.reset()
        names = sorted(os.listdir(mount.path))
        assert names == ["a.h5", "b b.h5", "broken.h5", "notes.txt", "old"]
        for name in names:
            (mount.path / name).stat()
        assert os.listdir(mount.path / "old") == ["c.nc"]
        assert server.counts()["requests"] <= 2  # a listing each, and none for a file
        assert (mount.path / "notes.txt").read_text() == "hello\n" * 1000
        for name in ("a.h5", "b b.h5", "old/c.nc"):
            assert np.load(mount.path / name / "x.npy")[0] == len(name)
        with pytest.raises(OSError) as caught:
            os.listdir(mount.path / "broken.h5")
        assert caught.value.errno == errno.EIO
        for missing in ("beside.h5", "none", "old/none"):
            assert not (mount.path / missing).exists()
        write(folder / "late.h5")
        assert "late.h5" not in os.listdir(mount.path)
        os.kill(mount.pid, signal.SIGHUP)
        wait_until(lambda: "late.h5" in os.listdir(mount.path))


@pytest.fixture
def _keys(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", server.url), ("AWS_ACCESS_KEY_ID", "me"), ("AWS_REGION", "us-east-1"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.mark.semantics("C13")
@pytest.mark.usefixtures("_keys")
def test_tree_of_a_prefix_lists_files_and_what_is_in_them(server: ObjectServer) -> None:
    folder = server.folder / "bucket" / "runs"
    (folder / "old").mkdir(parents=True)
    for name in ("a.h5", "old/c.nc"):
        write(folder / name)
    (folder / "notes.txt").write_text("hello")
    (folder / "broken.h5").write_text("no HDF5")
    server.reset()
    done = run_h5fs("tree", "s3://bucket/runs/", "--depth", "1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert server.counts()["requests"] == 1
    entries = json.loads(done.stdout)
    found = {each["name"]: (each["kind"], each.get("size_bytes")) for each in entries}
    assert found == {
        "a.h5": ("hdf5", (folder / "a.h5").stat().st_size), "broken.h5": ("hdf5", 7),
        "notes.txt": ("file", 5), "old": ("folder", None),
    }  # fmt: skip
    done = run_h5fs("tree", "s3://bucket/runs/", "--attrs")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "s3://bucket/runs/"
    assert "is not an HDF5 file" in next(line for line in lines if "broken.h5" in line)
    assert sum("x.npy" in line for line in lines) == 2
    assert "start = 0" in done.stdout


@pytest.mark.semantics("C13")
@pytest.mark.usefixtures("_keys")
def test_tree_of_a_folder_says_what_its_url_must_be(server: ObjectServer) -> None:
    (server.folder / "bucket" / "runs").mkdir(parents=True)
    write(server.folder / "bucket" / "runs" / "a.h5")
    for url, reason in (
        (
            "s3://bucket/runs",
            "no such file on the server (a folder ends in a slash: s3://bucket/runs/)",
        ),
        ("s3://bucket/none/", "nothing of that name"),
        (f"{server.url}/bucket/", "a web server does not tell"),
    ):
        done = run_h5fs("tree", url)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.semantics("Z48")
def test_a_folder_that_cannot_be_listed_is_refused(server: ObjectServer, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (server.folder / "bucket").mkdir()
    for url, reason in (
        (f"{server.url}/", "a web server does not tell"),
        ("s3://bucket/none/", "nothing of that name"),
    ):
        options = f"anon,endpoint_url={server.url}"
        done = run_h5fs(url, tmp_path / "mnt", "-o", options)
        assert done.returncode == 1
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.semantics("Z40", "M20")
def test_a_line_of_fstab_takes_a_url(server: ObjectServer, tmp_path: Path) -> None:
    write(server.folder / "f.h5")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    helper = [
        sys.executable,
        "-c",
        "from h5fs.cli.mount_helper import main; raise SystemExit(main())",
    ]
    try:
        done = subprocess.run(
            [*helper, f"{server.url}/f.h5", mountpoint, "-o", "_netdev,ro,streams=4,noauto"],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert np.load(mountpoint / "x.npy")[3] == 3
    finally:
        end_mount(mountpoint)
