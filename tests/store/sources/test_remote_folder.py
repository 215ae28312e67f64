"""Prefixes of object stores as folders."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.object_server import ObjectServer
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import CannotOpenError, DeniedError, NotFoundError, UnreachableError
from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_folder import RemoteFolder


def options(server: ObjectServer, cache: Path, seconds: float) -> RemoteOptions:
    return RemoteOptions(
        cache_folder=cache, endpoint_url=server.url, is_anonymous=True, timeout_seconds=seconds
    )


@pytest.fixture
def files(server: ObjectServer, cache: Path) -> Iterator[RemoteFiles]:
    found = RemoteFiles(options(server, cache, 60))
    yield found
    found.close()


@pytest.fixture
def folder(server: ObjectServer, files: RemoteFiles) -> RemoteFolder:
    for name in ("a.h5", "b c?#%41.txt", "deep/x.h5", "deep/er/y.h5", "ä/z.h5"):
        path = server.folder / "some-bucket" / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return files.open_folder(Url("s3://some-bucket/runs/"))


@pytest.mark.semantics("Z32")
def test_a_listing_tells_names_sizes_dates_and_versions(
    folder: RemoteFolder, server: ObjectServer
) -> None:
    server.reset()
    found = {entry.name: entry.version for entry in folder.entries()}
    assert list(found) == ["a.h5", "b c?#%41.txt", "deep", "ä"]
    assert server.counts()["requests"] == 1
    assert found["deep"] is None
    version = found["a.h5"]
    assert version is not None
    status = (server.folder / "some-bucket" / "runs" / "a.h5").stat()
    assert (version.size_bytes, version.modified.timestamp()) == (4, int(status.st_mtime))  # type: ignore[union-attr]
    assert version.etag
    assert [entry.name for entry in folder.entries("deep")] == ["er", "x.h5"]
    assert [entry.name for entry in folder.entries("deep/er")] == ["y.h5"]


@pytest.mark.semantics("Z32")
def test_a_version_in_a_listing_is_that_of_the_object(
    folder: RemoteFolder, files: RemoteFiles
) -> None:
    source = files.open(Url("s3://some-bucket/runs/a.h5"))
    (listed,) = [entry.version for entry in folder.entries() if entry.name == "a.h5"]
    assert listed is not None
    assert source.version.is_same(listed)
    source.close()


@pytest.mark.semantics("Z32")
def test_long_listings_come_by_pages(folder: RemoteFolder, server: ObjectServer) -> None:
    many = server.folder / "some-bucket" / "runs" / "many"
    many.mkdir(exist_ok=True)
    for number in range(2100):
        (many / f"{number}.h5").touch()
    server.reset()
    assert len(folder.entries("many")) == 2100
    assert server.counts()["requests"] == 3


@pytest.mark.semantics("Z32")
def test_a_web_server_is_not_listed(files: RemoteFiles, server: ObjectServer) -> None:
    with pytest.raises(CannotOpenError, match="name a file"):
        files.open_folder(Url(f"{server.url}/some-bucket/"))


def test_what_is_not_there_is_enoent(folder: RemoteFolder) -> None:
    with pytest.raises(NotFoundError):
        folder.entries("nothing")


def test_failures_are_those_of_reads(
    folder: RemoteFolder, server: ObjectServer, cache: Path
) -> None:
    server.set(list_fault="403")
    with pytest.raises(DeniedError):
        folder.entries()
    server.set(list_fault="503")
    impatient = RemoteFiles(options(server, cache, 1))
    with closing(impatient), pytest.raises(UnreachableError):
        impatient.open_folder(Url("s3://some-bucket/runs/")).entries()
    server.set(list_fault="")
    assert folder.entries()


def test_a_listing_ends_with_the_mount(
    folder: RemoteFolder, files: RemoteFiles, server: ObjectServer
) -> None:
    server.set(latency=60)
    errors: list[UnreachableError] = []

    def ask() -> None:
        with pytest.raises(UnreachableError) as caught:
            folder.entries()
        errors.append(caught.value)

    hanging = threading.Thread(target=ask)
    before = server.counts()["requests"]
    hanging.start()
    while server.counts()["requests"] == before:
        time.sleep(0.01)
    files.close()
    hanging.join(PATIENCE_SECONDS)
    assert "the mount is ending" in str(errors[0])
    with pytest.raises(UnreachableError):
        folder.entries()
