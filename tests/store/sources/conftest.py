"""What opens objects of the object server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.object_server import ObjectServer

from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_object import RemoteObject

Open = Callable[..., RemoteObject]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_remote(server: ObjectServer, cache: Path) -> Iterator[Open]:
    """A function that opens a file of the server as a process of its own would."""
    opened: list[tuple[RemoteFiles, RemoteObject]] = []

    def open_it(name: str, url: str = "", **options: object) -> RemoteObject:
        settings = {"cache_folder": cache, "timeout_seconds": 8.0} | options
        files = RemoteFiles(RemoteOptions(**settings))  # type: ignore[arg-type]
        try:
            found = files.open(Url(url or f"{server.url}/{name}"))
        except BaseException:
            files.close()
            raise
        opened.append((files, found))
        return found

    yield open_it
    for files, found in opened:
        found.close()
        files.close()
