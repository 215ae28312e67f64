"""Arrays of mounted domains that other mounts replace while programs here read them."""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.hsds_service import Service, service_for_mounts
from support.mounts import mounted, needs_libfuse_3
from support.waiting import wait_until

COUNT = 4_000_000
HEADER_BYTES = 128


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_for_mounts(tmp_path_factory.mktemp("hsds") / "c") as running:
        yield running


def replace(path: Path, value: int, count: int = COUNT) -> None:
    np.save(path.with_name(".new.npy"), np.full(count, value, "<i8"))
    path.with_name(".new.npy").rename(path)


class StaleHandleError(Exception):
    """The file has to be opened again."""


def values_read(descriptor: int, first: int, count: int = 1000) -> list[int]:
    try:
        data = os.pread(descriptor, 8 * count, HEADER_BYTES + 8 * first)
    except OSError as error:
        assert error.errno == errno.ESTALE
        raise StaleHandleError from error
    return [int(each) for each in np.unique(np.frombuffer(data, "<i8"))]


@contextmanager
def array_in_two_mounts(service: Service, name: str, mode: str) -> Iterator[tuple[Path, Path]]:
    """Yield an array of ones as one mount writes it, and as another one has it."""
    service.ask("PUT", "/", f"/home/user/{name}")
    url = f"hdf5://home/user/{name}"
    with (
        mounted(url, options=["--mode", "r+"]) as writing,  # type: ignore[arg-type]
        mounted(url, options=["--mode", mode]) as reading,  # type: ignore[arg-type]
    ):
        written, read = writing.path / "d.npy", reading.path / "d.npy"
        replace(written, 1)
        wait_until(read.exists)
        yield written, read


@contextmanager
def array_that_is_read(service: Service, name: str, mode: str) -> Iterator[tuple[Path, Path, int]]:
    """Yield an array as one mount writes it, as another one has it, and open there."""
    with (
        array_in_two_mounts(service, name, mode) as (written, read),
        read.open("rb", buffering=0) as old,
    ):
        assert values_read(old.fileno(), 0) == [1]
        yield written, read, old.fileno()


@contextmanager
def another_in_its_place(written: Path, read: Path, *, has_times: bool) -> Iterator[None]:
    """Have the array replaced by one of twos, and the other mount show that.

    The service keeps the old one for the block, so that nobody hears that it is gone. The new one
    has the time of the old one, where ``has_times``: as if both were made in the same second.
    """
    with written.open("rb"):
        before = read.stat()
        replace(written, 2)
        wait_until(lambda: read.stat().st_ino != before.st_ino)
        if has_times:
            os.utime(read, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield


@needs_libfuse_3
@pytest.mark.semantics("G6")
def test_who_opens_an_array_in_the_place_of_one_that_is_open_reads_nothing_of_that_one(
    service: Service,
) -> None:
    with (
        array_that_is_read(service, "mixed.h5", "r+") as (written, read, old),
        another_in_its_place(written, read, has_times=True),
        read.open("rb", buffering=0) as new,
        read.open("r+b", buffering=0) as newest,
    ):
        assert values_read(old, COUNT // 2) == [1]
        assert values_read(new.fileno(), COUNT // 2) == [2]
        assert values_read(newest.fileno(), COUNT // 2) == [2]
        assert values_read(old, COUNT // 2) == [1]
        assert values_read(old, COUNT // 4) == [1]


@needs_libfuse_3
@pytest.mark.semantics("G6")
def test_nothing_is_read_of_an_array_that_is_open_to_write(service: Service) -> None:
    with (
        array_in_two_mounts(service, "mixed-writing.h5", "r+") as (written, read),
        read.open("r+b", buffering=0) as old,
        another_in_its_place(written, read, has_times=True),
        read.open("rb", buffering=0) as new,
        read.open("r+b", buffering=0) as newest,
    ):
        assert values_read(old.fileno(), COUNT // 2) == [1]
        assert values_read(new.fileno(), COUNT // 2) == [2]
        assert values_read(newest.fileno(), COUNT // 2) == [2]


@needs_libfuse_3
@pytest.mark.semantics("G6")
def test_in_mode_r_an_array_that_is_open_is_stale_once_another_in_its_place_is_opened(
    service: Service,
) -> None:
    with (
        array_that_is_read(service, "stale.h5", "r") as (written, read, old),
        another_in_its_place(written, read, has_times=False),
        read.open("rb", buffering=0) as new,
    ):
        with pytest.raises(StaleHandleError):
            values_read(old, COUNT // 2)
        assert values_read(new.fileno(), COUNT // 2) == [2]


@needs_libfuse_3
@pytest.mark.semantics("G6")
def test_an_array_in_the_place_of_one_that_is_mapped_can_be_read_and_not_mapped(
    service: Service,
) -> None:
    with array_in_two_mounts(service, "mapped.h5", "r+") as (written, read):
        old = np.load(read, mmap_mode="r")
        with another_in_its_place(written, read, has_times=False):
            with pytest.raises(OSError, match="No such device") as raised:
                np.load(read, mmap_mode="r")
            assert raised.value.errno == errno.ENODEV
            assert np.unique(np.load(read)) == [2]
            assert np.unique(old) == [1]
            del raised, old
            gc.collect()
            assert np.unique(np.load(read, mmap_mode="r")) == [2]


@needs_libfuse_3
@pytest.mark.semantics("G5")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_an_open_sees_what_was_written_also_beside_who_has_read_ahead_before(
    service: Service, mode: str
) -> None:
    first, count = 12 << 17, 1 << 17
    with array_that_is_read(service, f"ahead-{mode}.h5", mode) as (written, read, old):
        for start in range(0, first, count):  # of the last request more is kept than was asked for
            assert values_read(old, start, count) == [1]
        with written.open("r+b", buffering=0) as writing:
            os.pwrite(writing.fileno(), np.full(count, 2, "<i8"), HEADER_BYTES + 8 * first)
        with read.open("rb", buffering=0) as new:
            assert values_read(old, first, count) == [2]
            assert values_read(new.fileno(), first, count) == [2]


@needs_libfuse_3
@pytest.mark.semantics("G6")
@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("is_looked_at", [False, True])
def test_an_array_that_is_read_and_becomes_a_shorter_one_does_not_end_early(
    service: Service, mode: str, is_looked_at: bool
) -> None:
    name = f"ends-{mode}-{is_looked_at}.h5"
    with array_that_is_read(service, name, mode) as (written, read, old):
        replace(written, 2, 1000)
        for number in range(1, 16):
            time.sleep(0.2)
            if is_looked_at:
                read.stat()
                os.listdir(read.parent)
            try:
                assert values_read(old, COUNT * number // 20) == [1]
            except StaleHandleError:
                break
