"""A data node that is killed takes its objects with it, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.hsds_service import running_service, why_missing

from h5fs.errors import H5fsError
from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore

INTEGER = {"class": "H5T_INTEGER", "base": "H5T_STD_I64LE"}
SECONDS = 10.0


@pytest.mark.semantics("G7")
@pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "it is there")
def test_what_a_dead_node_had_is_an_error_in_time_that_says_so(tmp_path: Path) -> None:
    domain = "/home/user/d.h5"
    with running_service(tmp_path / "c") as service:
        root = service.ask("PUT", "/", domain)["root"]
        ids = []
        for number in range(12):
            link = {"id": root, "name": str(number)}
            body = {"type": INTEGER, "shape": [3], "link": link}
            ids.append(service.ask("POST", "/datasets", domain, body)["id"])
        client = Client(service.access, SECONDS)
        store = HsdsStore(client, domain, service.access.bucket, ExternalPolicy.NONE, 2**20)
        with closing(store):
            refs = [store.get_link(store.root().ref, str(n).encode()).target for n in range(12)]
            os.kill(service.pids["dn_2"], signal.SIGKILL)
            problems = []
            for ref in refs:
                assert ref is not None
                began = time.monotonic()
                try:
                    store.describe_dataset(ref.ref)
                except H5fsError as error:
                    problems.append(error)
                assert time.monotonic() - began < SECONDS + 5
            assert problems
            assert all("data node" in str(error) for error in problems)
            assert all(error.errno == 5 for error in problems)
