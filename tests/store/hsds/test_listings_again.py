"""A folder of a domain that is gone through twice is asked for once."""

from __future__ import annotations

from contextlib import closing

import pytest
from support.hsds_service import Service

from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.tree import RenewingTree


@pytest.mark.semantics("G5")
def test_a_listing_within_the_second_costs_no_request_and_no_newer_statuses(
    service: Service,
) -> None:
    domain = service.folder + "again.h5"
    root = service.ask("PUT", "/", domain)["root"]
    for number in range(5):
        service.ask("POST", "/groups", domain, {"link": {"id": root, "name": f"g{number}"}})
    client = Client(service.access)
    store = HsdsStore(client, domain, service.access.bucket, ExternalPolicy.NONE, 2**20)
    with closing(store):
        tree = RenewingTree(store)
        first = tree.list_folder(b"/")
        count = client.request_count
        again = tree.list_folder(b"/")
        assert client.request_count == count
        assert again.names == first.names == [b"g0", b"g1", b"g2", b"g3", b"g4"]
        # The kernel would keep them for the rest of another second.
        assert not again.rows["has_status"].any()
