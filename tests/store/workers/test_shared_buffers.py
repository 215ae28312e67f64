"""Shared buffers: large pages where the kernel has them, and the same bytes with and without."""

from __future__ import annotations

import mmap
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from h5fs.store.workers.shared_buffers import (
    LARGE_PAGE_BYTES,
    SharedBuffer,
    SharedBufferReader,
    SharedBufferViews,
    make_shared_buffer,
    map_shared_buffer,
)

KB, MB = 2**10, 2**20


@contextmanager
def buffer_of(size_bytes: int, *, on_disk: bool = False) -> Iterator[SharedBuffer]:
    shared_buffer = make_shared_buffer(1, size_bytes, on_disk=on_disk)
    try:
        yield shared_buffer
    finally:
        shared_buffer.close()


def mappings_of(shared_buffer: SharedBuffer) -> list[str]:
    inode = str(os.fstat(shared_buffer.descriptor).st_ino)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if "shared-buffer" in line and line.split()[4] == inode]


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        (1, 4 * KB), (MB + 1, MB + 4 * KB), (2 * MB, 2 * MB), (4_096_000, 4 * MB),
        (2 * MB + 1, 2 * MB + 4 * KB), (5 * MB, 5 * MB), (15 * MB, 16 * MB),
    ],
)  # fmt: skip
def test_a_buffer_is_made_of_large_pages_where_that_takes_little_more(
    wanted: int, made: int
) -> None:
    with buffer_of(wanted) as shared_buffer:
        assert shared_buffer.size_bytes == made
        assert os.fstat(shared_buffer.descriptor).st_size == made


@pytest.mark.parametrize("size_bytes", [4 * KB, 2 * MB, 5 * MB])
def test_what_a_mapping_shows_is_the_buffer_for_as_long_as_the_array_lasts(size_bytes: int) -> None:
    with buffer_of(size_bytes) as shared_buffer:
        first = map_shared_buffer(shared_buffer.descriptor, shared_buffer.size_bytes)
        second = map_shared_buffer(
            shared_buffer.descriptor, shared_buffer.size_bytes, protection=mmap.PROT_READ
        )
        assert len(first) == len(second) == size_bytes
        first[:] = np.arange(size_bytes, dtype=np.uint8)
        assert np.array_equal(first, second)
        assert not second.flags.writeable
        if size_bytes >= LARGE_PAGE_BYTES:
            assert first.ctypes.data % LARGE_PAGE_BYTES == 0
        assert len(mappings_of(shared_buffer)) == 2
        part = first[1:2]
        del first, second
        assert len(mappings_of(shared_buffer)) == 1 and part[0] == 1
        del part
        assert not mappings_of(shared_buffer)


def test_a_buffer_that_cannot_be_mapped_is_an_error_and_leaves_no_mapping() -> None:
    read_end, write_end = os.pipe()
    try:
        for size_bytes in (4 * KB, 4 * MB):
            with pytest.raises(OSError):
                map_shared_buffer(read_end, size_bytes)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_preparing_leaves_alone_what_is_written_meanwhile() -> None:
    size_bytes = 4 * MB
    expected = np.random.default_rng(0).integers(0, 256, size_bytes, np.uint8)
    for _ in range(10):
        with buffer_of(size_bytes) as shared_buffer:
            written = map_shared_buffer(shared_buffer.descriptor, size_bytes)
            begun = threading.Event()

            def write(place: np.ndarray = written, begun: threading.Event = begun) -> None:
                for start in range(0, size_bytes, 64 * KB):
                    place[start : start + 64 * KB] = expected[start : start + 64 * KB]
                    begun.set()

            writer = threading.Thread(target=write)
            writer.start()
            begun.wait()
            shared_buffer.prepare_to_fill()
            writer.join()
            reader = SharedBufferReader()
            found = bytearray(size_bytes)
            assert reader.read_into(shared_buffer, memoryview(found), 0) == size_bytes
            reader.close()
            del written, write
            assert found == expected.tobytes()


def test_a_prepared_buffer_takes_a_worker_few_page_faults() -> None:
    fewest = 4 * MB // mmap.PAGESIZE
    for _ in range(20):
        with buffer_of(4 * MB) as shared_buffer:
            shared_buffer.prepare_to_fill()
            views = SharedBufferViews()
            views.add(1, os.dup(shared_buffer.descriptor), shared_buffer.size_bytes)
            place = views.map(1, 0, 4 * MB)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            place[:: mmap.PAGESIZE] = 1
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
            views.remove(1)
            fewest = min(fewest, faults)
    if fewest > 100:
        pytest.skip("this kernel gives memory files no large pages when asked to (Linux 6.1 does)")


@pytest.mark.parametrize("size_bytes", [KB, MB, 3 * MB])
@pytest.mark.parametrize("on_disk", [False, True])
def test_preparing_is_asked_for_once_and_never_an_error(
    size_bytes: int, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with buffer_of(size_bytes, on_disk=on_disk) as shared_buffer:
        shared_buffer.prepare_to_fill()
        shared_buffer.prepare_to_fill()
        assert os.pread(shared_buffer.descriptor, size_bytes, 0) == bytes(size_bytes)

    def refuse(*_: int) -> None:
        raise OSError(28, "no room")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with buffer_of(size_bytes, on_disk=on_disk) as shared_buffer:
        shared_buffer.prepare_to_fill()
