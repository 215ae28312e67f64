"""A data node that is killed takes its objects with it, and nothing else, and is named."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from store.conformance import array_file, object_at, read
from support.hsds_service import Service, running_service, why_missing
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import H5fsError, LostChangesError
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import ExternalPolicy, NewDatasets
from h5fs.store.hsds.answers import FlushAnswer
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.data_nodes import home_of
from h5fs.store.hsds.writing.writing_store import WritingHsdsStore
from h5fs.store.interface import ArrayPart

pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "it is there")

SECONDS = 5.0
COUNT = 12
DOMAIN = "/home/user/d.h5"


def open_store(service: Service) -> WritingHsdsStore:
    store = WritingHsdsStore(
        Client(service.access, SECONDS), DOMAIN, service.access.bucket, ExternalPolicy.NONE, 2**20,
        NewDatasets(), later_seconds=0.1,
    )  # fmt: skip
    store.open()
    return store


def write(store: WritingHsdsStore, number: int, value: int) -> ObjectRef:
    with array_file(np.full(100, value)) as lent:
        return store.write_array(store.root().ref, str(number).encode(), lent).ref


def test_the_home_of_an_object_is_where_the_service_has_it() -> None:
    from hsds.util.nodeUtil import getObjPartition

    for number in range(50):
        made = "d-" + hashlib.md5(str(number).encode()).hexdigest()
        assert [home_of(made, count) for count in (1, 2, 7)] == [
            getObjPartition(made, count) for count in (1, 2, 7)
        ]


@pytest.mark.semantics("G7", "G16", "G18")
def test_what_a_dead_node_had_is_an_error_in_time_and_what_was_fsynced_is_there_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with running_service(tmp_path / "c") as service:
        service.ask("PUT", "/", DOMAIN)
        store = open_store(service)
        refs = [write(store, number, number) for number in range(COUNT)]
        store.commit()
        done: list[int] = []
        failed = threading.Event()

        def go_on() -> None:
            try:
                for number in range(1000):
                    store.write_elements(refs[number % COUNT], 0, np.int64(number).tobytes())
                    done.append(number)
            except H5fsError:
                failed.set()

        writing = threading.Thread(target=go_on)
        writing.start()
        while not done:
            time.sleep(0.01)
        os.kill(service.pids["dn_2"], signal.SIGKILL)
        assert failed.wait(PATIENCE_SECONDS)
        writing.join(PATIENCE_SECONDS)
        wait_until(lambda: "dn-002" in caplog.text)
        homes = [home_of(store._id_of(ref), 2) for ref in refs]
        assert set(homes) == {0, 1}
        began, problems = time.monotonic(), []
        for ref in refs:
            try:
                store.describe_dataset(ref)
            except H5fsError as error:
                problems.append(error)
        # Without a wait for each of them: the node is known to be dead.
        assert time.monotonic() - began < SECONDS * homes.count(1)
        assert len(problems) == homes.count(1)
        assert all(error.errno == 5 and "dn-002" in str(error) for error in problems)
        with pytest.raises(H5fsError) as raised:
            store.commit()
        assert raised.value.errno == 5
        for pid in service.pids.values():
            os.kill(pid, signal.SIGKILL)
        store.close()
    with running_service(tmp_path / "c") as service:
        store = open_store(service)
        for number in range(COUNT):
            ref = object_at(store, str(number)).ref
            found = np.frombuffer(read(store, ref, ArrayPart.ELEMENTS, 0, 800), "<i8")
            assert (found[1:] == number).all()
        store.close()


@pytest.mark.semantics("G16")
def test_a_node_that_is_another_one_since_the_last_flush_is_an_error_of_fsync(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.ask("PUT", "/", DOMAIN)
    store = open_store(service)
    store.create_group(store.root().ref, b"g")
    ask = Client.ask
    with monkeypatch.context() as patch:
        patch.setattr(
            Client, "ask", lambda self, method, path, shape, *rest, **named:
            FlushAnswer(["dn-001", "dn-new"]) if shape is FlushAnswer
            else ask(self, method, path, shape, *rest, **named)
        )  # fmt: skip
        with pytest.raises(LostChangesError) as raised:
            store.commit()
        assert "dn-002" in str(raised.value)
        store.create_group(store.root().ref, b"h")
        store.commit()
    store.close()
