"""A file that is only read, as the HDF5 library reads it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import pytest

from h5fs.errors import H5fsError, UnreachableError
from h5fs.store.hdf5.source_reader import SourceReader

DATA = bytes(range(250)) * 800


@dataclass
class Bytes:
    """A source that remembers what was asked for."""

    version: Hashable = None
    failure: OSError | H5fsError | None = None
    ensured: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return len(DATA)

    def ensure(self, ranges: Iterable[tuple[int, int]], *, unit_bytes: int = 1) -> None:
        if self.failure is not None:
            raise self.failure
        self.ensured += [(start, stop, unit_bytes) for start, stop in ranges]

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        pass

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = DATA[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


def test_reads_are_filled_with_zeros_past_the_end() -> None:
    reader = SourceReader(Bytes())
    buffer = bytearray(b"x" * 600)
    assert reader.seek(-100, os.SEEK_END) == len(DATA) - 100
    assert reader.readinto(buffer) == 600
    assert buffer == DATA[-100:] + bytes(500)
    assert reader.tell() == len(DATA) + 500
    assert reader.seek(10) == 10 and reader.seek(5, os.SEEK_CUR) == 15
    assert reader.failure is None


def test_small_reads_are_metadata_and_fetched_with_what_is_near() -> None:
    source = Bytes()
    reader = SourceReader(source)
    reader.readinto(bytearray(100))
    reader.readinto(bytearray(2**16))
    assert source.ensured == [(0, 100, 2**18), (100, 100 + 2**16, 1)]


@pytest.mark.parametrize("error", [OSError(5, "gone"), UnreachableError("the server is away")])
def test_what_cannot_be_read_is_zeros_and_the_first_error_is_kept(
    error: OSError | H5fsError,
) -> None:
    source = Bytes(failure=error)
    reader = SourceReader(source)
    buffer = bytearray(b"x" * 10)
    assert reader.readinto(buffer) == 10 and buffer == bytes(10)
    source.failure = None
    assert reader.readinto(buffer) == 10 and buffer == DATA[10:20]
    assert isinstance(reader.failure, OSError)
    assert reader.failure.errno == error.errno


def test_nothing_is_written() -> None:
    reader = SourceReader(Bytes())
    assert reader.write(b"x") == 1
    assert isinstance(reader.failure, OSError)
