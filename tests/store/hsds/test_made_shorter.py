"""Datasets that others make shorter while a program reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from store.conformance import object_at, read
from support.hsds_service import Service

from h5fs.errors import StaleError
from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.client import Client, RefusedRequestError
from h5fs.store.hsds.store import HsdsStore
from h5fs.store.interface import ArrayPart

ROWS = 1_000_000


@contextmanager
def opened(service: Service, folder: Path) -> Iterator[tuple[HsdsStore, Callable[[int], None]]]:
    """Yield a store of a long dataset `d`, and what gives it another length."""
    with h5py.File(folder / "f.h5", "w") as file:
        file.create_dataset("d", (ROWS,), "<f8", maxshape=(None,), chunks=(10_000,))
    domain = service.load(folder / "f.h5", f"{folder.name}.h5")
    client = Client(service.access)
    store = HsdsStore(client, domain, service.access.bucket, ExternalPolicy.FOLDER, 2**24)
    with closing(store):
        store.open()
        links = service.ask("GET", f"/groups/{service.ask('GET', '/', domain)['root']}/links",
                            domain)["links"]  # fmt: skip
        path = f"/datasets/{links[0]['id']}/shape"
        yield store, lambda rows: service.ask("PUT", path, domain, {"shape": [rows]})


@pytest.mark.semantics("G6")
def test_a_read_of_elements_that_are_gone_is_stale(service: Service, tmp_path: Path) -> None:
    with opened(service, tmp_path) as (store, set_rows):
        ref = object_at(store, "d").ref
        info = store.describe_dataset(ref)
        buffer = bytearray(8000)
        set_rows(10)
        with pytest.raises(StaleError, match="open the file again"):
            store.read_into(ref, info, ArrayPart.ELEMENTS, 8 * ROWS - 8000, memoryview(buffer))
        assert read(store, ref, ArrayPart.ELEMENTS, 0, 80) == bytes(80)  # opened anew


def test_what_the_service_refuses_for_another_reason_is_asked_about_once(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise RefusedRequestError("400")

    with opened(service, tmp_path) as (store, _set_rows):
        ref = object_at(store, "d").ref
        info = store.describe_dataset(ref)
        before = store._client.request_count
        with monkeypatch.context() as patched, pytest.raises(RefusedRequestError):
            patched.setattr(store._client, "read_into", refuse)
            store.read_into(ref, info, ArrayPart.ELEMENTS, 4_000_000, memoryview(bytearray(80)))
        assert store._client.request_count == before + 1  # for the shape
        store.read_into(ref, info, ArrayPart.ELEMENTS, 4_000_000, memoryview(bytearray(80)))
        assert store._client.request_count == before + 2  # for the elements, and nothing else


@pytest.mark.semantics("G6")
def test_a_dataset_that_has_become_longer_reads_as_it_was(service: Service, tmp_path: Path) -> None:
    with opened(service, tmp_path) as (store, set_rows):
        ref = object_at(store, "d").ref
        info = store.describe_dataset(ref)
        set_rows(ROWS + 10)
        buffer = bytearray(np.ones(10).tobytes())
        store.read_into(ref, info, ArrayPart.ELEMENTS, 8 * ROWS - 80, memoryview(buffer))
        assert buffer == bytes(80)
