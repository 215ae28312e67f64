"""Every store that there is keeps the promise of `store/interface.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.conformance import StoreConformance, WritingStoreConformance

from h5fs.model.settings import Mode, StoreOptions
from h5fs.store import open_store
from h5fs.store.interface import Store, WritingStore


class TestStoreInThisProcess(StoreConformance):
    @classmethod
    def open_store(cls, file: Path) -> Store:
        return open_store(StoreOptions(file, workers=0))


class TestWorkerStore(StoreConformance):
    @classmethod
    def open_store(cls, file: Path) -> Store:
        return open_store(StoreOptions(file, workers=2))


class TestWritingWorkerStore(WritingStoreConformance):
    @classmethod
    def open_store(cls, file: Path) -> WritingStore:
        store: Any = open_store(StoreOptions(file, mode=Mode.UPDATE))
        return store  # type: ignore[no-any-return]
