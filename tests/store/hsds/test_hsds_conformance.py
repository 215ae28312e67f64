"""A domain of a data service keeps the promise of a store that is read, and of one that is written.

A store that writes reads by what the one that only reads has, so that one class is both.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import h5py
import pytest
from store.conformance import WritingStoreConformance, make_sample
from support.hsds_service import Service
from support.hsds_unloading import Unloader

from h5fs.model.settings import ExternalPolicy, NewDatasets
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.writing.writing_store import WritingHsdsStore
from h5fs.store.interface import WritingStore

OF_ONE_TEST = frozenset(
    {"group", "gzip", "contiguous", "again", "chunked", "soft", "type", "scalar", "far"}
)


class TestHsdsStore(WritingStoreConformance):
    """Each file has a domain; a store that is opened again finds the domain as it is by then."""

    service: Service
    domains: ClassVar[dict[Path, str]] = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _find_service(cls, service: Service) -> None:
        TestHsdsStore.service = service

    @classmethod
    def open_store(cls, file: Path) -> WritingStore:
        if file not in cls.domains:
            if not cls.domains and file.with_name("far.h5").exists():
                cls.service.load(file.with_name("far.h5"), "far.h5")
            cls.domains[file] = cls.service.load(file, f"{len(cls.domains)}-{file.name}")
        store = WritingHsdsStore(
            Client(cls.service.access), cls.domains[file], cls.service.access.bucket,
            ExternalPolicy.FOLDER, 2**24, NewDatasets(), later_seconds=0.1,
        )  # fmt: skip
        store.open()
        return store

    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        """Less of the sample, as loading takes a request for each object."""
        path = make_sample(tmp_path)
        with h5py.File(path, "r+") as opened:
            for name in set(opened) - OF_ONE_TEST:
                del opened[name]
        return path

    def read_back(self, file: Path) -> h5py.File:
        return Unloader(self.service, self.domains[file]).unload(file.with_name("back.h5"))
