"""A folder of a domain that is gone through twice is asked for once."""

from __future__ import annotations

from contextlib import closing

import pytest
from support.hsds_service import Service
from support.waiting import PATIENCE_SECONDS

from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds import link_map
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.tree import RenewingTree
from h5fs.tree.versions import renewing_tree


@pytest.mark.semantics("G5")
def test_a_listing_within_the_second_costs_no_request_and_no_newer_statuses(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second that is as long as the machine needs.
    monkeypatch.setattr(renewing_tree, "KERNEL_SECONDS", PATIENCE_SECONDS)
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


@pytest.mark.semantics("G5")
def test_listings_of_several_folders_within_a_second_may_be_of_the_moment_of_the_first(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = service.folder + "moment.h5"
    root = service.ask("PUT", "/", domain)["root"]
    for name in ("a", "b"):
        made = service.ask("POST", "/groups", domain, {"link": {"id": root, "name": name}})
    client = Client(service.access)
    store = HsdsStore(client, domain, service.access.bucket, ExternalPolicy.NONE, 2**20)
    with closing(store):
        tree = RenewingTree(store)
        monkeypatch.setattr(link_map, "FRESH_SECONDS", PATIENCE_SECONDS)
        assert tree.list_folder(b"/a").names == []
        service.ask("POST", "/groups", domain, {"link": {"id": made["id"], "name": "new"}})
        assert tree.list_folder(b"/b").names == []
        for module, seconds in ((link_map, "FRESH_SECONDS"), (renewing_tree, "KERNEL_SECONDS")):
            monkeypatch.setattr(module, seconds, 0.0)  # that second is over
        tree._renew()
        assert tree.list_folder(b"/b").names == [b"new"]
