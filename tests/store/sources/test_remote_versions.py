"""An object that is replaced while it is read: old bytes or an error, and never a mixture."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.object_server import ObjectServer

from h5fs.errors import StaleError, UnreachableError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.interface import read_bytes
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_object import RemoteObject

MIB = 2**20
SIZE = 5 * MIB + 99
OLD = random.Random(3).randbytes(SIZE)
NEW = random.Random(4).randbytes(SIZE)
Open = Callable[..., RemoteObject]


def lay(server: ObjectServer, name: str, content: bytes, seconds: int) -> None:
    path = server.folder / name
    path.write_bytes(content)
    os.utime(path, (seconds, seconds))


@pytest.fixture
def source(open_remote: Open, server: ObjectServer) -> RemoteObject:
    lay(server, "a.h5", OLD, 1000)
    return open_remote("a.h5")


def replace(server: ObjectServer, content: bytes = NEW) -> None:
    lay(server, "a.h5.new", content, 2000)
    os.replace(server.folder / "a.h5.new", server.folder / "a.h5")


@pytest.mark.semantics("Z1")
def test_every_request_but_the_first_asks_for_the_version_of_the_first(
    source: RemoteObject, server: ObjectServer
) -> None:
    source.ensure([(0, SIZE)])
    first, *others = server.counts()["seen"]
    assert "if-match" not in first[2]
    assert {request[2]["if-match"] for request in others} == {source.version.etag}


@pytest.mark.semantics("Z1")
@pytest.mark.parametrize("obeys", [1, 0])
@pytest.mark.parametrize("tags", ["strong", "weak", "none"])
def test_what_was_read_stays_and_the_rest_is_estale(
    open_remote: Open, server: ObjectServer, obeys: int, tags: str
) -> None:
    lay(server, "a.h5", OLD, 1000)
    server.set(if_match=obeys, etag=tags)
    source = open_remote("a.h5")
    assert read_bytes(source, 2 * MIB, 100) == OLD[2 * MIB : 2 * MIB + 100]
    replace(server)
    with pytest.raises(StaleError):
        read_bytes(source, 4 * MIB, 100)
    assert source.is_replaced
    before = server.counts()["requests"]
    with pytest.raises(StaleError):
        read_bytes(source, 3 * MIB, 100)
    assert server.counts()["requests"] == before
    assert read_bytes(source, 2 * MIB, 100) == OLD[2 * MIB : 2 * MIB + 100]
    assert read_bytes(open_remote("a.h5"), 0, SIZE) == NEW


@pytest.mark.semantics("Z1")
def test_a_new_version_has_blocks_of_its_own_in_the_cache(
    source: RemoteObject, open_remote: Open, server: ObjectServer
) -> None:
    source.ensure([(0, SIZE)])
    replace(server)
    assert read_bytes(open_remote("a.h5"), 0, SIZE) == NEW
    assert read_bytes(source, 0, SIZE) == OLD


@pytest.mark.semantics("Z2")
def test_without_a_version_size_and_date_count_and_the_log_says_so(
    open_remote: Open, server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    lay(server, "a.h5", OLD, 1000)
    server.set(etag="none")
    source = open_remote("a.h5")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "tells no version (ETag); only its size and date count" in line
    source.ensure([(2 * MIB, 3 * MIB)])
    assert "if-unmodified-since" in server.counts()["seen"][-1][2]
    replace(server, OLD[:-1])
    with pytest.raises(StaleError):
        source.ensure([(0, SIZE)])


@pytest.mark.semantics("Z2")
def test_without_a_date_the_size_counts(
    open_remote: Open, server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    lay(server, "a.h5", OLD, 1000)
    server.set(etag="none", dated=0)
    source = open_remote("a.h5")
    assert "only its size count" in caplog.text
    replace(server, NEW[:-1])
    with pytest.raises(StaleError):
        source.ensure([(0, SIZE)])


@pytest.mark.semantics("Z4")
def test_the_server_is_asked_for_the_version_with_one_small_request(
    source: RemoteObject, server: ObjectServer
) -> None:
    server.reset()
    assert source.revalidate()
    counts = server.counts()
    assert (counts["requests"], counts["bytes"]) == (1, 1)
    assert counts["seen"][0][0] == "GET"  # a pre-signed address allows no HEAD
    replace(server)
    assert not source.revalidate()
    with pytest.raises(StaleError):
        source.ensure([(0, SIZE)])


@pytest.mark.semantics("Z4")
def test_a_removed_object_is_no_longer_the_same_version(
    source: RemoteObject, server: ObjectServer
) -> None:
    os.unlink(server.folder / "a.h5")
    assert not source.revalidate()


@pytest.mark.semantics("Z4")
def test_a_version_that_is_back_is_read_on(source: RemoteObject, server: ObjectServer) -> None:
    os.rename(server.folder / "a.h5", server.folder / "aside")
    assert not source.revalidate()
    os.rename(server.folder / "aside", server.folder / "a.h5")
    assert source.revalidate()
    assert read_bytes(source, 0, SIZE) == OLD


@pytest.mark.semantics("Z4")
def test_a_server_that_does_not_answer_says_nothing_of_the_version(
    source: RemoteObject, server: ObjectServer
) -> None:
    server.set(fault="status:-1:503")
    with pytest.raises(UnreachableError):
        source.revalidate()
    server.reset()
    assert read_bytes(source, 0, SIZE) == OLD


RANGES = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 2 * MIB))


@pytest.mark.semantics("Z1")
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    swap=st.integers(0, 9),
    is_late=st.booleans(),
    tags=st.sampled_from(["strong", "strong", "weak", "none"]),
    obeys=st.booleans(),
    fault=st.sampled_from(["", "drop:2:100000", "status:1:503", "short:1:1000"]),
    reads=st.lists(RANGES, min_size=1, max_size=6),
)
def test_an_object_replaced_at_any_request_is_never_mixed(
    server: ObjectServer, swap: int, is_late: bool, tags: str, obeys: bool, fault: str,
    reads: list[tuple[int, int]],
) -> None:  # fmt: skip
    server.reset()
    lay(server, "a.h5", OLD, 1000)
    lay(server, "a.h5.new", NEW, 2000)
    server.set(etag=tags, if_match=int(obeys), fault=fault)
    server.set(**{"swap_late" if is_late else "swap": f"a.h5:{swap}"})
    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as stack:
        for _ in range(2):  # the second opening is after the replacing, mostly
            files = RemoteFiles(RemoteOptions(cache_folder=Path(cache), timeout_seconds=30.0))
            stack.callback(files.close)
            source = files.open(Url(f"{server.url}/a.h5"))
            stack.callback(source.close)
            content = NEW if source.version.modified.timestamp() == 2000 else OLD  # type: ignore[union-attr]
            for at, size in reads:
                with contextlib.suppress(StaleError):
                    assert read_bytes(source, at, size) == content[at : at + size]
                with contextlib.suppress(StaleError):
                    source.ensure([(start, start + size) for start, size in reads])
