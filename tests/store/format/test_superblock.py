"""The first bytes of a file, against what h5py writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sources import BytesSource

from h5fs.store.format.superblock import SIGNATURE, read_superblock
from h5fs.store.sources.local_file import LocalFile

LIBVERS = ("earliest", "v108", "v110", "latest")


def write(file: Path, libver: str, user_block: int = 0) -> None:
    with h5py.File(file, "w", libver=libver, userblock_size=user_block) as opened:
        opened["d"] = [1, 2, 3]


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("user_block", [0, 512, 1024, 8192])
def test_the_superblock_of_a_closed_file_is_found(
    tmp_path: Path, libver: str, user_block: int
) -> None:
    write(tmp_path / "f.h5", libver, user_block)
    with (tmp_path / "f.h5").open("rb") as file:
        found = read_superblock(LocalFile(file.fileno()))
        assert found is not None
        assert found.offset_bytes == user_block
        assert not found.is_open_for_write
        file.seek(found.offset_bytes + len(SIGNATURE))
        assert found.version == file.read(1)[0]


@pytest.mark.parametrize("libver", ["v110", "latest"])
def test_a_file_that_a_program_writes_is_marked(tmp_path: Path, libver: str) -> None:
    write(tmp_path / "f.h5", libver)
    with h5py.File(tmp_path / "f.h5", "r+", libver=libver) as opened:
        opened.flush()
        copy = BytesSource((tmp_path / "f.h5").read_bytes())
    while_open = read_superblock(copy)
    assert while_open is not None
    assert while_open.is_open_for_write
    with (tmp_path / "f.h5").open("rb") as file:
        after = read_superblock(LocalFile(file.fileno()))
    assert after is not None
    assert not after.is_open_for_write


def test_a_reader_leaves_no_mark(tmp_path: Path) -> None:
    write(tmp_path / "f.h5", "latest")
    with h5py.File(tmp_path / "f.h5", "r", libver="latest"), (tmp_path / "f.h5").open("rb") as file:
        found = read_superblock(LocalFile(file.fileno()))
    assert found is not None
    assert not found.is_open_for_write


@given(st.binary(max_size=3000))
def test_a_file_without_a_signature_has_no_superblock(content: bytes) -> None:
    assert read_superblock(BytesSource(content.replace(SIGNATURE, b""))) is None


@given(st.integers(0, 11), st.sampled_from([0, 512, 1024]))
def test_a_file_that_ends_within_its_superblock_has_none(size: int, start: int) -> None:
    content = b"x" * start + (SIGNATURE + b"\3\0\0\0")[:size]
    assert read_superblock(BytesSource(content)) is None


@given(st.integers(1, 4096).filter(lambda n: n < 512 or n & (n - 1)))
def test_a_signature_is_looked_for_only_where_hdf5_does(start: int) -> None:
    content = b"x" * start + SIGNATURE + b"\3\0\0\0" + b"x" * 100
    assert read_superblock(BytesSource(content)) is None
