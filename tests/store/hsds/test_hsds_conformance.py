"""A domain of a data service keeps the promise of a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from store.conformance import StoreConformance
from support.hsds_service import Service

from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.store.interface import Store


class TestHsdsStore(StoreConformance):
    service: Service

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _find_service(cls, service: Service) -> None:
        TestHsdsStore.service = service

    @classmethod
    def open_store(cls, file: Path) -> Store:
        access = cls.service.access
        domains = {path: cls.service.load(path, path.name) for path in file.parent.glob("*.h5")}
        store = HsdsStore(
            Client(access), domains[file], access.bucket, ExternalPolicy.FOLDER, 2**24
        )
        store.open()
        return store
