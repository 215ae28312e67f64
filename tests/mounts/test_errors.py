"""What cannot be read, on real mounts: each has its errno and its log line, and its neighbours."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from support.damage import (
    add_quad_float,
    add_with_missing_filter,
    damage_chunk,
    damage_group_heap,
    damage_header,
)
from support.mounts import Mounted, mounted

NUMBERS = np.arange(1000, dtype="<i4")


@contextlib.contextmanager
def raises_errno(expected: int) -> Iterator[None]:
    with pytest.raises(OSError) as refused:
        yield
    assert refused.value.errno == expected, refused.value


def check_neighbours(mount: Mounted) -> None:
    """The dataset, the group and the attributes beside the damage are there."""
    assert np.array_equal(np.load(mount.path / "before.npy"), NUMBERS)
    assert np.array_equal(np.load(mount.path / "z/after.npy"), NUMBERS)
    assert "title" in (mount.path / ".attrs.json").read_text()


def write_neighbours(opened: h5py.File) -> None:
    opened["before"] = NUMBERS
    opened["z/after"] = NUMBERS
    opened.attrs["title"] = "here"


@pytest.mark.semantics("E1")
def test_misuse_has_the_errno_of_any_file_system(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["g/d"] = NUMBERS
    with mounted(tmp_path / "f.h5") as mount:
        with raises_errno(errno.ENOENT):
            (mount.path / "nothing").stat()
        with raises_errno(errno.ENOENT):
            (mount.path / "g/nothing/d.npy").open()
        with raises_errno(errno.ENOTDIR):
            (mount.path / "g/d.npy/x").stat()
        with raises_errno(errno.ENOTDIR):
            os.listdir(mount.path / "g/d.npy")
        with raises_errno(errno.EISDIR):
            descriptor = os.open(mount.path / "g", os.O_RDONLY)
            try:
                os.read(descriptor, 1)
            finally:
                os.close(descriptor)
        with raises_errno(errno.EINVAL):
            os.readlink(mount.path / "g/d.npy")
        with raises_errno(errno.ENOENT):
            (mount.path / ("x" * 255)).stat()
        with raises_errno(errno.ENOENT):
            os.stat(os.fsencode(mount.path) + b"/\xff\xfe")
        assert mount.log_lines() == []


@pytest.mark.semantics("D13", "S8", "E3")
def test_a_missing_filter_is_enotsup_and_named_in_the_log(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_with_missing_filter(opened, "filtered")
    with mounted(tmp_path / "f.h5") as mount:
        assert "filtered.npy" in os.listdir(mount.path)
        with raises_errno(errno.ENOTSUP):
            (mount.path / "filtered.npy").open("rb")
        lines = mount.log_lines()
        assert len(lines) == 1
        assert "/filtered" in lines[0]
        assert "499" in lines[0]
        check_neighbours(mount)


@pytest.mark.semantics("D13", "E3")
def test_a_type_without_dtype_is_enotsup(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        add_quad_float(opened, "quad")
        with pytest.raises(ValueError, match="precision"):
            _ = opened["quad"].dtype
    with mounted(tmp_path / "f.h5") as mount:
        with raises_errno(errno.ENOTSUP):
            (mount.path / "quad.npy").open("rb")
        assert len(mount.log_lines()) == 1
        assert "/quad" in mount.log_lines()[0]
        check_neighbours(mount)


@pytest.mark.semantics("D13", "E3")
@pytest.mark.parametrize(
    "filters", [{"fletcher32": True}, {"compression": "gzip"}, dict(hdf5plugin.Bitshuffle())]
)
def test_a_damaged_chunk_is_eio_and_the_other_chunks_are_there(
    tmp_path: Path, filters: dict[str, object]
) -> None:
    numbers = np.random.default_rng(1).integers(0, 2**31, 2**20, "<i4")  # 4 MiB in 16 chunks
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        write_neighbours(opened)
        opened.create_dataset("d", data=numbers, chunks=(2**16,), **filters)
    damage_chunk(tmp_path / "f.h5", "d", 5)
    with h5py.File(tmp_path / "f.h5") as opened, pytest.raises(OSError, match=r"."):
        _ = opened["d"][()]
    with mounted(tmp_path / "f.h5") as mount:
        assert (mount.path / "d.npy").stat().st_size == 2**22 + 128
        assert mount.log_lines() == []
        with raises_errno(errno.EIO):
            (mount.path / "d.npy").read_bytes()
        lines = mount.log_lines()
        assert len(lines) == 1  # for whatever the kernel asked
        assert lines[0].count("/d: ") == 1
        whole = numbers.tobytes()
        with (mount.path / "d.npy").open("rb", buffering=0) as file:
            for chunk in range(16):
                offset = 128 + chunk * 2**18
                # But for the pages that the damaged chunk and another share.
                places = (4096, 2**17, 2**18 - 9000)
                pieces = [(offset + place, 4096) for place in places]
                for start, size in pieces:
                    if chunk == 5:
                        with raises_errno(errno.EIO):
                            os.pread(file.fileno(), size, start)
                    else:
                        is_right = (
                            os.pread(file.fileno(), size, start)
                            == (whole[start - 128 : start - 128 + size])
                        )
                        assert is_right, (chunk, start)
        check_neighbours(mount)


@pytest.mark.semantics("E2", "E3")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("kind", ["dataset", "group"])
def test_a_damaged_header_is_listed_and_eio(tmp_path: Path, libver: str, kind: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as opened:
        write_neighbours(opened)
        if kind == "dataset":
            opened["broken"] = NUMBERS
        else:
            opened.create_group("broken")
    damage_header(tmp_path / "f.h5", "broken")
    with mounted(tmp_path / "f.h5") as mount:
        shown = os.listdir(mount.path)
        broken = [name for name in shown if "broken" in name]
        assert len(broken) == 1
        assert {"before.npy", "z", ".attrs.json"} < set(shown)
        with raises_errno(errno.EIO):
            (mount.path / broken[0]).lstat()
        lines = mount.log_lines()
        assert lines
        assert all("broken" in line for line in lines)
        check_neighbours(mount)


@pytest.mark.semantics("E2", "E3")
def test_a_group_that_cannot_be_listed_is_eio(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="earliest") as opened:
        write_neighbours(opened)
        opened["broken/unmistakable"] = NUMBERS
    damage_group_heap(tmp_path / "f.h5", b"unmistakable")
    with h5py.File(tmp_path / "f.h5") as opened, pytest.raises(Exception, match=r"."):
        list(opened["broken"])
    with mounted(tmp_path / "f.h5") as mount:
        assert "broken" in os.listdir(mount.path)
        with raises_errno(errno.EIO):
            os.listdir(mount.path / "broken")
        lines = mount.log_lines()
        assert lines
        assert all("/broken" in line for line in lines)
        check_neighbours(mount)


@pytest.mark.semantics("S8", "A3")
def test_damaged_attributes_leave_the_dataset_readable(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="latest") as opened:
        write_neighbours(opened)
        dataset = opened.create_dataset("d", data=NUMBERS)
        for number in range(30):  # more than a header holds: in a heap of their own
            dataset.attrs[f"attribute {number}"] = "x" * 50
    content = bytearray((tmp_path / "f.h5").read_bytes())
    heap = content.index(b"FRHP")
    content[heap + 4 : heap + 40] = b"\xff" * 36
    (tmp_path / "f.h5").write_bytes(content)
    with h5py.File(tmp_path / "f.h5") as opened, pytest.raises(Exception, match=r"."):
        dict(opened["d"].attrs)
    with mounted(tmp_path / "f.h5") as mount:
        assert np.array_equal(np.load(mount.path / "d.npy"), NUMBERS)
        attributes = mount.path / "d.attrs.json"
        if stat.S_IMODE(attributes.stat().st_mode) == 0:
            assert attributes.stat().st_size == 0
            with raises_errno(errno.EIO):
                attributes.read_bytes()
        else:
            assert "$unreadable" in attributes.read_text()
        assert any("/d" in line for line in mount.log_lines())
        check_neighbours(mount)
