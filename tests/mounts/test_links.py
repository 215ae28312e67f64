"""Soft, hard and external links on real mounts."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from support.mounts import Mounted, mounted, needs_libfuse_3, run_h5fs
from support.waiting import PATIENCE_SECONDS

from h5fs.store.workers.grants import OwnMounts

NUMBERS = np.arange(6, dtype="<i4")


def find(mount: Mounted) -> set[str]:
    """Return every path that ``find`` finds; it must end by itself, without a complaint."""
    done = subprocess.run(
        ["find", ".", "-mindepth", "1"], cwd=mount.path, capture_output=True, text=True,
        timeout=240, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return {line.removeprefix("./") for line in done.stdout.splitlines()}


@pytest.mark.semantics("L1")
def test_a_soft_link_is_a_relative_symbolic_link_to_the_targets_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["g/h/d"] = NUMBERS
        opened["g/t"] = np.dtype("<f4")
        expected = {
            "g/h/to dataset": ("d", "d.npy"),
            "g/absolute": ("/g/h/d", "../g/h/d.npy"),
            "g/relative": ("h/d", "h/d.npy"),
            "g/odd": ("/g//./h//d", "../g/h/d.npy"),
            "g/to group": ("/g/h", "../g/h"),
            "g/slash": ("/g/h/", "../g/h"),
            "g/to type": ("t", "t.dtype.json"),
            "g/to soft": ("absolute", "absolute"),
            "g/through soft": ("to group/d", "to group/d.npy"),
            "g/h/root": ("/", "../.."),
            "here": (".", "."),
            "dangling": ("/no/such", "no/such"),
        }
        for name, (target, _) in expected.items():
            opened[name] = h5py.SoftLink(target)
    with mounted(tmp_path / "f.h5") as mount:
        shown = {name: os.readlink(mount.path / name) for name in expected}
        assert shown == {name: text for name, (_, text) in expected.items()}
        for name in ("g/absolute", "g/relative", "g/odd", "g/to soft", "g/through soft"):
            assert np.array_equal(np.load(mount.path / name), NUMBERS)
        assert (mount.path / "g/h/root").samefile(mount.path)
        assert (mount.path / "g/to group/root/g/slash/d.npy").samefile(mount.path / "g/h/d.npy")
        assert json.loads((mount.path / "g/to type").read_text())
        assert not (mount.path / "dangling").exists()
        assert (mount.path / "dangling").is_symlink()
        assert mount.log_lines() == []


@pytest.mark.semantics("L1")
def test_soft_links_in_a_circle_are_a_circle_of_symbolic_links(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["a"] = h5py.SoftLink("/b")
        opened["b"] = h5py.SoftLink("/a")
        opened["self"] = h5py.SoftLink("self")
    with mounted(tmp_path / "f.h5") as mount:
        assert find(mount) == {"a", "b", "self"}
        for name in ("a", "self"):
            with pytest.raises(OSError) as refused:
                (mount.path / name).stat()
            assert refused.value.errno == errno.ELOOP


@pytest.mark.semantics("L1", "N4", "N5")
def test_names_in_a_soft_links_target_are_those_of_the_mount(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["x.npy/%41/d.values"] = NUMBERS
        opened["g/soft"] = h5py.SoftLink("/x.npy/%41/d.values")
    with mounted(tmp_path / "f.h5") as mount:
        assert os.readlink(mount.path / "g/soft") == "../x%2Enpy/%2541/d%2Evalues.npy"
        assert np.array_equal(np.load(mount.path / "g/soft"), NUMBERS)


@pytest.mark.semantics("L2")
def test_hard_links_to_a_dataset_are_one_inode(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = NUMBERS
        for name in ("twin", "g/deep/third"):
            opened[name] = opened["d"]
        opened["single"] = NUMBERS
        opened["t"] = np.dtype("<f4")
        opened["g/t2"] = opened["t"]
    with mounted(tmp_path / "f.h5") as mount:
        statuses = [(mount.path / f"{name}.npy").stat() for name in ("d", "twin", "g/deep/third")]
        assert {status.st_nlink for status in statuses} == {3}
        assert len({status.st_ino for status in statuses}) == 1
        assert (mount.path / "single.npy").stat().st_nlink == 1
        assert (mount.path / "t.dtype.json").stat().st_nlink == 2


@pytest.mark.semantics("L3", "E4")
def test_a_hard_link_to_an_ancestor_is_a_symbolic_link(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["a/b/c/d"] = NUMBERS
        opened["a/b/c/self"] = opened["a/b/c"]
        opened["a/b/c/up"] = opened["a/b"]
        opened["a/b/c/root"] = opened["/"]
        opened["elsewhere"] = opened["a/b"]
    with mounted(tmp_path / "f.h5") as mount:
        below = {"c", "c/d.npy", "c/self", "c/up", "c/root"}
        assert find(mount) == {
            "a", "a/b", "elsewhere",
            *(f"{above}/{name}" for above in ("a/b", "elsewhere") for name in below),
        }  # fmt: skip
        texts = {name: os.readlink(mount.path / "a/b/c" / name) for name in ("self", "up", "root")}
        assert texts == {"self": ".", "up": "..", "root": "../../.."}
        for name, target in (("self", "a/b/c"), ("up", "a/b"), ("root", "")):
            assert (mount.path / "a/b/c" / name).samefile(mount.path / target)
        assert (mount.path / "elsewhere/c/up").samefile(mount.path / "elsewhere")


@pytest.mark.semantics("L4")
def test_an_external_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with h5py.File(tmp_path / "sub/other.h5", "w") as opened:
        opened["g/d"] = NUMBERS
        opened["g/d"].attrs["units"] = "m"
        opened["g"].attrs["n"] = 1
        opened["g/soft"] = h5py.SoftLink("/g/d")
        opened["g/soft group"] = h5py.SoftLink("/elsewhere")
        opened["g/dangling"] = h5py.SoftLink("/nothing")
        opened["g/only in the mounted file"] = h5py.SoftLink("/to soft group")
        opened["elsewhere/x"] = NUMBERS
        opened["t"] = np.dtype("<f4")
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["group"] = h5py.ExternalLink("sub/other.h5", "/g")
        opened["dataset"] = h5py.ExternalLink("sub/other.h5", "/g/d")
        opened["type"] = h5py.ExternalLink("sub/other.h5", "t")
        opened["to soft"] = h5py.ExternalLink("sub/other.h5", "/g/soft")
        opened["soft here"] = h5py.SoftLink("/dataset")
        opened["itself"] = h5py.ExternalLink("f.h5", "/")
        opened["own"] = NUMBERS
        opened.create_group("to soft group")
        opened["through itself"] = h5py.ExternalLink("f.h5", "/own")
        expected = {name: opened[name][()] for name in ("dataset", "to soft", "soft here")}
    with mounted(tmp_path / "f.h5") as mount:
        assert find(mount) == {
            "group", "group/.attrs.json", "group/d.npy", "group/d.attrs.json", "group/soft.npy",
            "group/soft.attrs.json", "group/soft group", "group/soft group/x.npy",
            "group/dangling", "group/only in the mounted file", "to soft group", "dataset.npy",
            "dataset.attrs.json", "type.dtype.json",
            "to soft.npy", "to soft.attrs.json", "soft here", "itself", "own.npy",
            "through itself.npy",
        }  # fmt: skip
        assert np.array_equal(np.load(mount.path / "dataset.npy"), expected["dataset"])
        assert np.array_equal(np.load(mount.path / "to soft.npy"), expected["to soft"])
        assert os.readlink(mount.path / "soft here") == "dataset.npy"
        assert np.array_equal(np.load(mount.path / "soft here"), expected["soft here"])
        assert json.loads((mount.path / "dataset.attrs.json").read_text())["units"] == "m"
        assert (mount.path / "itself").samefile(mount.path)
        assert (mount.path / "through itself.npy").samefile(mount.path / "own.npy")
        assert (mount.path / "group/soft.npy").samefile(mount.path / "group/d.npy")
        for name, target in (
            ("dangling", "/nothing"), ("only in the mounted file", "/to soft group")
        ):  # fmt: skip
            assert os.readlink(mount.path / "group" / name) == f"external::{target}"
            assert not (mount.path / "group" / name).exists()


@pytest.mark.semantics("L3", "L4", "E4")
def test_external_links_in_a_circle_end(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as opened:
            opened[f"in {name}"] = NUMBERS
            opened["next"] = h5py.ExternalLink(f"{other}.h5", "/")
            opened["loop"] = h5py.ExternalLink(f"{other}.h5", "/loop")
    with mounted(tmp_path / "a.h5") as mount:
        assert {path for path in find(mount) if not path.endswith("loop")} == {
            "in a.npy", "next", "next/in b.npy", "next/next", "next/next/in c.npy",
            "next/next/next",
        }  # fmt: skip
        assert (mount.path / "next/next/next").samefile(mount.path)
        assert not (mount.path / "loop").exists()


def make_files(tmp_path: Path) -> Path:
    """Make a folder with ``f.h5`` that may be mounted, and a file outside of it."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for file in (inside / "near.h5", outside / "secret.h5"):
        with h5py.File(file, "w") as opened:
            opened["d"] = NUMBERS
    for raw in (inside / "near.raw", outside / "secret.raw"):
        raw.write_bytes(NUMBERS.tobytes())
    (inside / "text.h5").write_text("not HDF5")
    (inside / "door.h5").symlink_to("../outside/secret.h5")
    os.mkfifo(inside / "fifo.h5")
    (inside / "device.h5").symlink_to("/dev/zero")
    (inside / "folder.h5").mkdir()
    return inside


EXTERNAL = {
    "near": "near.h5", "secret": "../outside/secret.h5", "door": "door.h5", "missing": "gone.h5",
    "no hdf5": "text.h5", "fifo": "fifo.h5", "device": "device.h5", "folder": "folder.h5",
}  # fmt: skip


@pytest.mark.semantics("L5", "E3")
@pytest.mark.parametrize(
    ("policy", "followed"),
    [(None, {"near"}), ("none", set()), ("folder", {"near"}), ("all", {"near", "secret", "door"})],
)
def test_external_links_lead_where_policy_allows_and_dangle_elsewhere(
    tmp_path: Path, policy: str | None, followed: set[str]
) -> None:
    inside = make_files(tmp_path)
    with h5py.File(inside / "f.h5", "w") as opened:
        for name, file in EXTERNAL.items():
            opened[name] = h5py.ExternalLink(file, "/d")
        opened["nothing there"] = h5py.ExternalLink("near.h5", "/no such")
    options = [] if policy is None else ["-o", f"external={policy}"]
    with mounted(inside / "f.h5", options=options) as mount:
        for _ in range(2):
            assert find(mount) == {
                name + (".npy" if name in followed else "") for name in [*EXTERNAL, "nothing there"]
            }
        for name, file in EXTERNAL.items():
            if name in followed:
                assert np.array_equal(np.load(mount.path / f"{name}.npy"), NUMBERS)
            else:
                assert os.readlink(mount.path / name) == f"external:{file}:/d"
                assert not (mount.path / name).exists()
                assert len([line for line in mount.log_lines() if f"link {name} " in line]) == 1


def virtual(opened: h5py.File, name: str, file: str) -> None:
    layout = h5py.VirtualLayout((6,), "<i4")
    layout[:] = h5py.VirtualSource(file, "d", (6,))
    opened.create_virtual_dataset(name, layout, fillvalue=-1)


def raw(opened: h5py.File, name: str, file: str) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_external(file.encode(), 0, 24)
    h5d.create(opened.id, name.encode(), h5t.STD_I32LE, h5s.create_simple((6,)), creation)


@pytest.mark.semantics("L6", "S8")
@pytest.mark.parametrize(("add", "suffix"), [(virtual, "h5"), (raw, "raw")])
@pytest.mark.parametrize("is_background", [True, False])
def test_data_outside_the_file_follows_the_same_rule_from_any_folder(
    tmp_path: Path, add: Callable[[h5py.File, str, str], None], suffix: str, is_background: bool
) -> None:
    inside = make_files(tmp_path)
    with h5py.File(inside / "f.h5", "w") as opened:
        add(opened, "near", f"near.{suffix}")
        add(opened, "absolute", str(inside / f"near.{suffix}"))
        add(opened, "secret", f"../outside/secret.{suffix}")
        add(opened, "absolute secret", str(tmp_path / f"outside/secret.{suffix}"))
        opened["neighbour"] = NUMBERS

    def check(mountpoint: Path) -> None:
        for name in ("near", "absolute", "neighbour"):
            assert np.array_equal(np.load(mountpoint / f"{name}.npy"), NUMBERS)
        for name in ("secret", "absolute secret"):
            status = (mountpoint / f"{name}.npy").stat()
            assert (status.st_size, status.st_mode & 0o777) == (0, 0)
            with pytest.raises(PermissionError):
                (mountpoint / f"{name}.npy").open("rb")

    if is_background:
        with mounted(inside / "f.h5") as mount:
            check(mount.path)
            denied = [line for line in mount.log_lines() if "outside" in line]
            assert len(denied) == 2
        return
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    # From a folder that is neither the file's nor the root.
    command = [sys.executable, "-m", "h5fs", str(inside / "f.h5"), str(mountpoint), "-f"]
    daemon = subprocess.Popen(command, cwd=tmp_path / "outside", stderr=subprocess.DEVNULL)
    try:
        wait_for_mount(mountpoint, daemon)
        check(mountpoint)
        assert run_h5fs("umount", mountpoint).returncode == 0
        assert daemon.wait(PATIENCE_SECONDS) == 0
    finally:
        daemon.kill()
        daemon.wait()


def wait_for_mount(mountpoint: Path, daemon: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if os.path.ismount(mountpoint):
            return
        try:
            daemon.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the daemon ended with {daemon.returncode}")
    pytest.fail("not mounted after 30 s")


@pytest.mark.semantics("L6")
def test_a_virtual_source_is_not_looked_for_below_the_root(tmp_path: Path) -> None:
    inside = make_files(tmp_path)
    with h5py.File(inside / "f.h5", "w") as opened:
        virtual(opened, "d", str(tmp_path / "outside/secret.h5").lstrip("/"))
    with mounted(inside / "f.h5") as mount:
        assert np.load(mount.path / "d.npy").tolist() == [-1] * 6


@pytest.mark.semantics("S6")
def test_a_group_that_another_file_leads_back_to_has_its_own_file_s_mode(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["other"] = h5py.ExternalLink("other.h5", "/g")
        file.create_group("h")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["g/back"] = h5py.ExternalLink("f.h5", "/h")
        other.create_group("g/own")
    (tmp_path / "other.h5").chmod(0o600)
    for lists_first in (False, True):
        with mounted(tmp_path / "f.h5") as mount:
            if lists_first:
                os.listdir(mount.path / "other")
            modes = {n: (mount.path / "other" / n).stat().st_mode & 0o777 for n in ("back", "own")}
            assert modes == {"back": 0o555, "own": 0o500}


@pytest.mark.semantics("W6")
def test_mounts_that_come_and_go_are_known_to_whoever_grants_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["d"] = NUMBERS
    mounts = OwnMounts()
    for _ in range(2):
        before = mounts.find()
        with mounted(tmp_path / "f.h5") as mount:
            place = os.fsencode(mount.path)
            assert place not in before
            assert place in mounts.find()
            assert place in mounts.find()
        assert place not in mounts.find()


@pytest.mark.semantics("L5", "N5")
@pytest.mark.parametrize("mode", ["r", pytest.param("r+", marks=needs_libfuse_3)])
def test_the_kernel_is_led_nowhere_outside_of_the_mount(tmp_path: Path, mode: str) -> None:
    away = "/.." * 40 + "/etc/hostname"
    for name in ("f.h5", "other.h5"):
        with h5py.File(tmp_path / name, "w") as opened:
            for group in ("external:x:", "external::", "external:", "g/external:x:", "g/.."):
                opened.create_group(group)
            for place in (opened, opened["g"], opened["g/.."]):
                place["soft"] = h5py.SoftLink(away)
                place["relative"] = h5py.SoftLink(away[1:])
                place["lost"] = h5py.ExternalLink("x", away)
                place["host"] = h5py.ExternalLink("/etc/hostname", away)
                place["to colon"] = h5py.SoftLink("external:x:/../../etc/hostname")
            opened["other"] = h5py.ExternalLink("other.h5", "/g")
    links = 0
    with mounted(tmp_path / "f.h5", options=["--mode", mode]) as mount:
        for folder, folders, files in os.walk(mount.path):
            for path in (Path(folder, name) for name in (*folders, *files)):
                if not path.is_symlink():
                    continue
                links += 1
                assert not os.readlink(path).startswith("/")
                try:
                    reached = os.open(path, os.O_PATH)
                except OSError as error:
                    assert error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
                    continue
                try:
                    found = Path(os.readlink(f"/proc/self/fd/{reached}"))
                finally:
                    os.close(reached)
                assert found.is_relative_to(mount.path), (path, found)
    assert links > 20


@needs_libfuse_3
@pytest.mark.semantics("R15")
def test_links_that_dangle_are_copied_as_what_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["from/a"] = h5py.ExternalLink("gone:1.h5", "/x/../y")
        opened["from/b"] = h5py.ExternalLink("other.h5", "/g/nowhere")
    with h5py.File(tmp_path / "other.h5", "w") as opened:
        opened["g/nowhere"] = h5py.SoftLink("../z")
    with mounted(tmp_path / "f.h5", options=["--mode", "r+"]) as mount:
        texts = {name: os.readlink(mount.path / "from" / name) for name in "ab"}
        assert texts == {
            "a": "external:gone%3A1.h5:/x/%2E%2E/y", "b": "external:other.h5:/g/nowhere"
        }  # fmt: skip
        subprocess.run(
            ["cp", "-a", mount.path / "from", mount.path / "to"], check=True, timeout=240
        )
        os.symlink("external::/x/y", mount.path / "c")
        assert {name: os.readlink(mount.path / "to" / name) for name in "ab"} == texts
    with h5py.File(tmp_path / "f.h5") as opened:
        for name in "ab":
            links = [opened[group].get(name, getlink=True) for group in ("from", "to")]
            assert len({(link.filename, link.path) for link in links}) == 1
        assert opened.get("c", getlink=True).path == "/x/y"
