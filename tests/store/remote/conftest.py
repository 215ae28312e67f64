"""What opens files of the object server as stores, with a cache of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.object_server import ObjectServer
from support.stores import open_store

from h5fs.model.location import Url
from h5fs.model.settings import RemoteOptions, StoreOptions
from h5fs.store.interface import Store

OpenUrl = Callable[..., Store]


@pytest.fixture
def open_url(server: ObjectServer, tmp_path: Path) -> Iterator[OpenUrl]:
    """A function that opens a file of the server as a store."""
    opened: list[Store] = []

    def open_it(name: str, *, workers: int = 1, **options: object) -> Store:
        settings = {"cache_folder": tmp_path / "cache", "timeout_seconds": 30.0} | options
        remote = RemoteOptions(**settings)  # type: ignore[arg-type]
        store = open_store(
            StoreOptions(Url(f"{server.url}/{name}"), workers=workers, remote=remote)
        )
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()
