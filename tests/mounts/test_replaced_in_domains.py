"""Arrays of mounted domains that other mounts replace while programs here read them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
def array_that_is_read(service: Service, name: str, mode: str) -> Iterator[tuple[Path, Path, int]]:
    """Yield an array as one mount writes it, as another one has it, and open there."""
    service.ask("PUT", "/", f"/home/user/{name}")
    url = f"hdf5://home/user/{name}"
    with (
        mounted(url, options=["--mode", "r+"]) as writing,  # type: ignore[arg-type]
        mounted(url, options=["--mode", mode]) as reading,  # type: ignore[arg-type]
    ):
        written, read = writing.path / "d.npy", reading.path / "d.npy"
        replace(written, 1)
        wait_until(read.exists)
        with read.open("rb", buffering=0) as old:
            assert values_read(old.fileno(), 0) == [1]
            yield written, read, old.fileno()


@needs_libfuse_3
@pytest.mark.semantics("G6")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_who_opens_an_array_in_the_place_of_one_that_is_open_reads_nothing_of_that_one(
    service: Service, mode: str
) -> None:
    with array_that_is_read(service, f"mixed-{mode}.h5", mode) as (written, read, old):
        replace(written, 2)
        time.sleep(1.2)
        with read.open("rb", buffering=0) as new:
            with suppress(StaleHandleError):
                assert values_read(old, COUNT // 2) == [1]
            assert values_read(new.fileno(), COUNT // 2) == [2]


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
