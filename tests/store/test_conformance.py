"""Every store that there is keeps the promise of `store/interface.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from store.conformance import StoreConformance, WritingStoreConformance
from support.object_server import ObjectServer
from support.stores import open_store

from h5fs import store
from h5fs.model.location import Url
from h5fs.model.settings import Mode, RemoteOptions, StoreOptions
from h5fs.store.interface import Store, WritingStore


class TestStoreInThisProcess(StoreConformance):
    @classmethod
    def open_store(cls, file: Path) -> Store:
        return store.open_store(StoreOptions(file, workers=0))


class TestWorkerStore(StoreConformance):
    """With a worker starter of its own."""

    @classmethod
    def open_store(cls, file: Path) -> Store:
        return store.open_store(StoreOptions(file, workers=2))


class TestRemoteStore(StoreConformance):
    """The same file at an object server. Links to other files lead nowhere there."""

    left_out = frozenset({"far"})
    servers: ClassVar[dict[Path, ObjectServer]] = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _end_servers(cls) -> Iterator[None]:
        yield
        while cls.servers:
            cls.servers.popitem()[1].__exit__()

    @classmethod
    def open_store(cls, file: Path) -> Store:
        if file.parent not in cls.servers:
            cls.servers[file.parent] = ObjectServer(file.parent).__enter__()
        remote = RemoteOptions(cache_folder=file.parent / "cache", timeout_seconds=30)
        url = Url(f"{cls.servers[file.parent].url}/{file.name}")
        return open_store(StoreOptions(url, workers=2, remote=remote))


class TestWritingWorkerStore(WritingStoreConformance):
    @classmethod
    def open_store(cls, file: Path) -> WritingStore:
        opened: Any = open_store(StoreOptions(file, mode=Mode.UPDATE))
        return opened  # type: ignore[no-any-return]
