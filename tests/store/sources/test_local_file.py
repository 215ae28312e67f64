"""The bytes of a local file, and what is told of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from h5fs.store.sources.interface import Source, read_bytes
from h5fs.store.sources.local_file import LocalFile, space_at

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "f").write_bytes(CONTENT)
    return tmp_path / "f"


@pytest.fixture
def file(path: Path) -> Iterator[LocalFile]:
    with path.open("rb") as opened:
        yield LocalFile(opened.fileno())


@pytest.mark.parametrize("offset, size", [(0, 10), (5000, 4096), (len(CONTENT) - 3, 3), (7, 0)])
def test_bytes_are_those_of_the_file(file: LocalFile, offset: int, size: int) -> None:
    source: Source = file
    buffer = bytearray(b"x" * (size + 2))
    assert source.read_into(memoryview(buffer)[1:-1], offset) == size
    assert buffer == b"x" + CONTENT[offset : offset + size] + b"x"
    assert read_bytes(source, offset, size) == CONTENT[offset : offset + size]


@pytest.mark.parametrize("offset", [len(CONTENT) - 5, len(CONTENT), len(CONTENT) + 100])
def test_less_is_read_where_the_file_ends(file: LocalFile, offset: int) -> None:
    assert file.size_bytes == len(CONTENT)
    assert read_bytes(file, offset, 20) == CONTENT[offset:]


def test_the_version_changes_with_the_bytes_alone(file: LocalFile, path: Path) -> None:
    before = file.version
    path.chmod(0o600)
    os.utime(path, ns=(1, path.stat().st_mtime_ns))
    assert file.version == before
    with path.open("ab") as opened:
        opened.write(b"more")
    assert file.version != before


def test_what_cannot_be_read_is_an_error(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    with pytest.raises(OSError):
        read_bytes(LocalFile(descriptor), 0, 1)
    os.close(descriptor)


def test_the_status_is_what_stat_says(file: LocalFile, path: Path) -> None:
    path.chmod(0o640)
    told, truth = file.status(), path.stat()
    assert (told.mode, told.uid, told.gid) == (truth.st_mode, truth.st_uid, truth.st_gid)
    assert (told.size_bytes, told.mtime_ns, told.atime_ns) == (
        truth.st_size, truth.st_mtime_ns, truth.st_atime_ns,
    )  # fmt: skip


def test_the_space_is_what_statvfs_says(file: LocalFile, path: Path) -> None:
    truth = os.statvfs(path)
    for told in (file.space(), space_at(bytes(path))):
        assert (told.block_bytes, told.fragment_bytes) == (truth.f_bsize, truth.f_frsize)
        assert (told.fragments, told.inodes) == (truth.f_blocks, truth.f_files)
        assert (told.flags, told.longest_name) == (truth.f_flag, truth.f_namemax)
