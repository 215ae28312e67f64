"""``stat``, ``du`` and ``df`` on real mounts."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5o
from support.damage import add_quad_float, add_with_missing_filter
from support.mounts import Mounted, mounted, needs_libfuse_3
from support.processes import bytes_read

OLD_SECONDS = 1_000_000_000
BLOCK_BYTES = 512


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("stat") / "f.h5"
    with h5py.File(file, "w", track_order=True) as opened:
        opened.attrs["title"] = "root"
        opened["d"] = np.arange(1000.0)
        opened["d"].attrs["units"] = "m"
        opened["g/inner"] = np.arange(4, dtype="<i2")
        opened["g"].attrs["n"] = 1
        opened["t"] = np.dtype("<f4")
        opened["t"].attrs["n"] = 1
        opened.create_dataset("zeros", (2**20,), "<f8", chunks=(2**16,), compression="gzip")
        opened["zeros"][: 2**18] = 0
        opened["twin"] = opened["d"]
        opened["soft"] = h5py.SoftLink("/g/inner")
        opened["strings"] = ["a", "longer"]
        opened.create_dataset("rows", (2,), h5py.vlen_dtype("<i4"))
        opened.create_dataset("huge", (2**60,), "<f8", chunks=(2**10,))
        add_with_missing_filter(opened, "filtered")
        add_quad_float(opened, "quad")
    os.utime(file, (OLD_SECONDS, OLD_SECONDS))
    return file


@pytest.fixture(scope="module")
def mount(file: Path) -> Iterator[Mounted]:
    with mounted(file) as mount:
        yield mount


def readable_files(mount: Mounted) -> Iterator[Path]:
    for path in sorted(mount.path.rglob("*")):
        if path.name not in ("huge.npy", "filtered.npy", "quad.npy"):
            yield path


@pytest.mark.semantics("S1")
def test_the_size_is_what_can_be_read(mount: Mounted) -> None:
    checked = 0
    for path in readable_files(mount):
        if path.is_symlink():
            assert path.lstat().st_size == len(os.readlink(path))
        elif path.is_file():
            assert path.stat().st_size == len(path.read_bytes()), path
            checked += 1
    assert checked >= 12


@pytest.mark.semantics("S3")
def test_inode_numbers_are_the_same_in_every_mount(file: Path, mount: Mounted) -> None:
    with mounted(file) as other:
        for path in readable_files(mount):
            twin = other.path / path.relative_to(mount.path)
            assert path.lstat().st_ino == twin.lstat().st_ino


@pytest.mark.semantics("S3")
def test_inode_numbers_come_from_addresses_and_readdir_has_them(file: Path, mount: Mounted) -> None:
    with h5py.File(file) as opened:
        address = {name: h5o.get_info(opened[name].id).addr for name in ("d", "g", "t", "zeros")}
    inode = {entry.name: entry.inode() for entry in os.scandir(mount.path)}
    for name in inode.keys() - {"huge.npy"}:
        assert inode[name] == (mount.path / name).lstat().st_ino
    shown = {"d": "d.npy", "g": "g", "t": "t.dtype.json", "zeros": "zeros.npy"}
    assert len({inode[shown[name]] - address[name] for name in shown}) == 1
    assert inode["d.attrs.json"] == inode["d.npy"] - 1
    assert (mount.path / "g/.attrs.json").stat().st_ino == inode["g"] - 1


@pytest.mark.semantics("S3")
def test_inode_numbers_of_other_files_do_not_depend_on_what_was_used_first(tmp_path: Path) -> None:
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as opened:
            opened["d"] = [1]
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for name in "ab":
            opened[name] = h5py.ExternalLink(f"{name}.h5", "/d")
    found = []
    for order in ("ab", "ba"):
        with mounted(tmp_path / "f.h5") as mount:
            inodes = {name: (mount.path / f"{name}.npy").stat().st_ino for name in order}
            found.append(inodes)
    assert found[0] == found[1]


@pytest.mark.semantics("S4")
def test_blocks_are_what_the_file_has_allocated(file: Path, mount: Mounted) -> None:
    with h5py.File(file) as opened:
        storage = {name: opened[name].id.get_storage_size() for name in ("d", "zeros")}
    for name, size in storage.items():
        assert (mount.path / f"{name}.npy").stat().st_blocks == -(-size // BLOCK_BYTES)
    done = subprocess.run(
        ["du", "-k", mount.path / "zeros.npy"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[0]) < 100  # of 8 MiB
    assert (mount.path / "zeros.npy").stat().st_size > 2**23


@pytest.mark.semantics("S5")
def test_times_are_the_files_where_the_header_keeps_none(mount: Mounted) -> None:
    for name in ("d.npy", "g", "t.dtype.json", "soft", "d.attrs.json", ""):
        assert (mount.path / name).lstat().st_mtime == OLD_SECONDS


@pytest.mark.semantics("S5")
@pytest.mark.parametrize(
    "libver",
    [
        "earliest",
        "latest",
    ],
)
def test_times_are_the_headers_where_it_keeps_them(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as opened:
        opened.create_dataset("timed", data=[1, 2], track_times=True)
        kept = h5o.get_info(opened["timed"].id).ctime
    assert abs(kept - time.time()) < 3600
    os.utime(tmp_path / "f.h5", (OLD_SECONDS, OLD_SECONDS))
    with mounted(tmp_path / "f.h5") as mount:
        status = (mount.path / "timed.npy").stat()
        assert (status.st_mtime, status.st_ctime) == (kept, kept)


@pytest.mark.semantics("S6")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_owner_and_read_permissions_are_the_files(tmp_path: Path, mode: int) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["g/d"] = [1]
        opened["g/d"].attrs["x"] = 1
    if os.getuid() == 0:
        os.chown(tmp_path / "f.h5", 1234, 5678)
    (tmp_path / "f.h5").chmod(mode)
    own = (tmp_path / "f.h5").stat()
    with mounted(tmp_path / "f.h5") as mount:
        for path in (mount.path, *mount.path.rglob("*")):
            status = path.stat()
            assert (status.st_uid, status.st_gid) == (own.st_uid, own.st_gid)
            read = mode & 0o444
            expected = read | read >> 2 if path.is_dir() else read
            assert stat.S_IMODE(status.st_mode) == expected


@pytest.mark.semantics("S7")
def test_a_file_beyond_off_t_is_listed_and_refused(mount: Mounted) -> None:
    assert "huge.npy" in os.listdir(mount.path)
    for use in (os.stat, lambda path: os.open(path, os.O_RDONLY)):
        with pytest.raises(OSError) as refused:
            use(mount.path / "huge.npy")
        assert refused.value.errno == errno.EOVERFLOW


@pytest.mark.semantics("E3")
def test_a_file_beyond_off_t_is_named_in_the_log(mount: Mounted) -> None:
    with pytest.raises(OSError):
        (mount.path / "huge.npy").open("rb")
    assert any("/huge" in line for line in mount.log_lines())


@pytest.mark.semantics("S8", "D13")
@pytest.mark.parametrize("name", ["filtered", "quad"])
def test_what_cannot_be_opened_does_not_look_like_an_empty_file(mount: Mounted, name: str) -> None:
    status = (mount.path / f"{name}.npy").stat()
    assert status.st_size == 0
    assert stat.S_IMODE(status.st_mode) == 0
    assert stat.S_ISREG(status.st_mode)
    before = len(mount.log_lines())
    with pytest.raises(OSError) as refused:
        (mount.path / f"{name}.npy").open("rb")
    assert refused.value.errno == errno.ENOTSUP
    new = mount.log_lines()[before:]
    assert len(new) == 1


@pytest.mark.semantics("S9")
def test_statfs_is_that_of_the_file_system_below(file: Path, mount: Mounted) -> None:
    below, shown = os.statvfs(file), os.statvfs(mount.path)
    assert (shown.f_bsize, shown.f_frsize) == (below.f_bsize, below.f_frsize)
    assert (shown.f_blocks, shown.f_files) == (below.f_blocks, below.f_files)
    assert shown.f_namemax == 255
    done = subprocess.run(["df", mount.path], capture_output=True, text=True, check=True)
    assert str(mount.path) in done.stdout


@pytest.mark.semantics("S2", "D12")
def test_listing_reads_no_element_and_the_first_stat_of_strings_scans_them(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        strings = opened.create_dataset("s", (300_000,), h5py.string_dtype(), chunks=(1000,))
        strings[:] = [f"string number {n}" for n in range(300_000)]
    with mounted(tmp_path / "f.h5") as mount:
        start = bytes_read(mount.pid)
        assert os.listdir(mount.path) == ["s.npy"]
        listed = bytes_read(mount.pid)
        (mount.path / "s.npy").stat()
        scanned = bytes_read(mount.pid)
        (mount.path / "s.npy").open("rb").close()
        again = bytes_read(mount.pid)
    assert listed - start < 2**16
    assert scanned - listed > 2**20
    assert again - scanned < 2**16


@pytest.mark.semantics("S4")
@pytest.mark.parametrize("mode", ["r", pytest.param("r+", marks=needs_libfuse_3)])
@pytest.mark.parametrize("lists_first", [False, True])
def test_tar_sparse_archives_what_is_not_stored(
    tmp_path: Path, mode: str, lists_first: bool
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number in range(12):  # enough for a scan of headers
            opened.create_dataset(f"never/{number:02}", (1000,), "i4", fillvalue=number)
        opened.create_dataset("chunked", (1000,), "i4", chunks=(10,), fillvalue=7)
        opened["null"] = h5py.Empty("f4")
        opened.create_dataset("sequences", (50,), h5py.vlen_dtype("i4"))
        opened["source"] = np.arange(1, 1001)
        layout = h5py.VirtualLayout((1000,), "i8")
        layout[:] = h5py.VirtualSource(".", "source", (1000,))
        opened.create_virtual_dataset("virtual", layout)
    archive = tmp_path / "a.tar"
    with mounted(tmp_path / "f.h5", options=["--mode", mode]) as mount:
        if lists_first:
            subprocess.run(["ls", "-lR", mount.path], check=True, stdout=subprocess.DEVNULL)
        command = ["tar", "--sparse", "-cf", archive, "-C", mount.path, "."]
        subprocess.run(command, check=True)
        expected = {
            str(path.relative_to(mount.path)): path.read_bytes()
            for path in mount.path.rglob("*.npy")
        }
        sizes = {str(path): path.stat() for path in mount.path.rglob("*.npy")}
    assert len(expected) == 18
    assert [path for path, status in sizes.items() if not status.st_blocks] == []
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path / "out"], check=True)
    found = {name: (tmp_path / "out" / name).read_bytes() for name in expected}
    assert [name for name in expected if found[name] != expected[name]] == []
