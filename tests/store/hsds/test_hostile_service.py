"""Whatever a service answers, it costs an error of that request, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from h5fs.errors import ForbiddenError, GoneError, H5fsError, UnreadableError
from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.access import Access
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.store.interface import ArrayPart
from h5fs.tree import Tree

GROUP, DATASET = "g-1-2-3", "d-1-2-3"
VALUES = np.arange(12, dtype="<i4")
LINK = {"title": "d", "class": "H5L_TYPE_HARD", "id": DATASET}
SHAPE = {"class": "H5S_SIMPLE", "dims": [12]}
INTEGER = {"class": "H5T_INTEGER", "base": "H5T_STD_I32LE"}
ANSWERS: dict[str, Any] = {
    "/": {"root": GROUP, "class": "domain", "lastModified": 1.7e9},
    f"/groups/{GROUP}": {"id": GROUP, "attributeCount": 0, "lastModified": 1.7e9},
    f"/groups/{GROUP}/links": {"links": [LINK]},
    f"/groups/{GROUP}/links?follow": {"links": {GROUP: [LINK]}},
    f"/datasets/{DATASET}": {"id": DATASET, "shape": SHAPE, "type": INTEGER, "attributeCount": 1},
    f"/datasets/{DATASET}/value": VALUES.tobytes(),
    f"/datasets/{DATASET}/attributes": {
        "attributes": [{"name": "a", "type": INTEGER, "shape": {"class": "H5S_SCALAR"}, "value": 7}]
    },
}


class FakeService(socketserver.ThreadingUnixStreamServer):
    """Answers from a table; ``answers`` may be changed at any time."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.answers = dict(ANSWERS)
        self.status = 200
        self.cut = 0
        self.stall_seconds = 0.0
        self.hang_ups = 0
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: FakeService
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    do_PUT = do_POST

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {urlsplit(self.path).path}")
        if self.server.hang_ups:
            self.server.hang_ups -= 1
            self.close_connection = True
            return
        place = urlsplit(self.path)
        key = place.path + ("?follow" if "follow_links" in place.query else "")
        answer = self.server.answers.get(key)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        time.sleep(self.server.stall_seconds)
        self.send_response(self.server.status if answer is not None else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(data[: len(data) - self.server.cut])
        if self.server.cut:
            self.close_connection = True


@contextmanager
def short_name(folder: Path) -> Iterator[Path]:
    """Yield another name of a folder; its own may be longer than a socket's address may be."""
    descriptor = os.open(folder, os.O_PATH)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def url_of(path: Path) -> str:
    return "http+unix://" + str(path).replace("/", "%2F")


@contextmanager
def opened(folder: Path, seconds: float = 5.0) -> Iterator[tuple[FakeService, HsdsStore]]:
    with short_name(folder) as short, FakeService(short / "s") as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        try:
            access = Access(url_of(short / "s"), "me", "secret word")
            client = Client(access, seconds)
            with closing(HsdsStore(client, "/home/me/d", "", ExternalPolicy.NONE, 2**20)) as store:
                yield service, store
        finally:
            service.shutdown()
            thread.join()


def read(store: HsdsStore) -> bytes:
    link = store.get_link(store.root().ref, b"d")
    assert link.target is not None
    info = store.describe_dataset(link.target.ref)
    buffer = bytearray(VALUES.nbytes)
    store.read_into(link.target.ref, info, ArrayPart.ELEMENTS, 0, memoryview(buffer))
    store.read_attributes(link.target.ref)
    return bytes(buffer)


VALUE, HEADER = f"/datasets/{DATASET}/value", f"/datasets/{DATASET}"
LIES: list[tuple[str, Any]] = [
    (VALUE, VALUES.tobytes()[:-1]),
    (VALUE, VALUES.tobytes() + b"x"),
    (VALUE, b""),
    ("/", b"no JSON"),
    ("/", b"[" * 100_000),
    ("/", []),
    ("/", {"root": 5}),
    ("/", {"root": "../../etc"}),
    (f"/groups/{GROUP}", {"id": "g-9"}),
    (f"/groups/{GROUP}/links", {"links": [{**LINK, "id": "x" * 99}]}),
    (f"/groups/{GROUP}/links", {"links": {}}),
    (HEADER, {"id": DATASET, "shape": {"class": "H5S_SIMPLE", "dims": [-1]}, "type": INTEGER}),
    (HEADER, {"id": DATASET, "shape": {"class": "H5S_SIMPLE", "dims": [2**70]}, "type": INTEGER}),
    (HEADER, {"id": DATASET, "shape": {"class": "H5S_SIMPLE", "dims": [2] * 99}, "type": INTEGER}),
    (HEADER, {"id": DATASET, "shape": SHAPE, "type": {"class": "H5T_VLEN", "base": INTEGER}}),
    (HEADER, {"id": DATASET, "shape": SHAPE, "type": {"class": "H5T_ENUM", "base": INTEGER}}),
    (HEADER, {"id": DATASET, "shape": SHAPE, "type": {"class": "H5T_COMPOUND", "fields": []}}),
    (HEADER, {"id": DATASET, "shape": SHAPE, "type": "H5T_STD_I999LE"}),
    (HEADER, {"id": DATASET, "type": INTEGER}),
]  # fmt: skip


@pytest.mark.semantics("G7")
@pytest.mark.parametrize("number", range(len(LIES)))
def test_an_answer_that_cannot_be_true_is_an_error_of_its_request(
    tmp_path: Path, number: int
) -> None:
    place, lie = LIES[number]
    with opened(tmp_path) as (service, store):
        assert read(store) == VALUES.tobytes()
        service.answers[place] = lie
        with pytest.raises(H5fsError):
            read(store)
        service.answers = dict(ANSWERS)
        assert read(store) == VALUES.tobytes()


@pytest.mark.parametrize("value", [[1, 2], "text", {"x": 1}, "AQ==", 2**99])
def test_an_attribute_that_cannot_be_true_is_unreadable_alone(tmp_path: Path, value: Any) -> None:
    with opened(tmp_path) as (service, store):
        place = f"/datasets/{DATASET}/attributes"
        told = dict(service.answers[place]["attributes"][0])
        if value == "AQ==":
            told["encoding"] = "base64"
        service.answers[place] = {"attributes": [{**told, "value": value}, {**told, "name": "b"}]}
        link = store.get_link(store.root().ref, b"d")
        assert link.target is not None
        first, second = store.read_attributes(link.target.ref)
        assert type(first).__name__ == "UnreadableAttribute"
        assert type(second).__name__ == ("Attribute" if value != "AQ==" else type(second).__name__)


@pytest.mark.semantics("G7")
def test_no_wait_is_longer_than_the_time_that_a_request_may_take(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with opened(tmp_path, 0.5) as (service, store):
        assert read(store)
        service.stall_seconds = 20
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(UnreadableError):
                store.root()
            assert time.monotonic() - began < 15
        service.stall_seconds = 0
        assert read(store)
    lines = [record.message for record in caplog.records]
    assert [("is lost:" in line, line.endswith("service is back")) for line in lines] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert "data node" in lines[0]
    assert "secret word" not in caplog.text


def test_an_answer_that_breaks_off_is_an_error_and_the_next_one_is_not_taken_for_its_rest(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as (service, store):
        for cut in (1, 5, 20):
            service.cut = cut
            with pytest.raises(UnreadableError):
                read(store)
            service.cut = 0
            assert read(store) == VALUES.tobytes()


@pytest.mark.semantics("G7")
def test_a_question_is_asked_again_on_another_connection_when_the_service_hangs_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with opened(tmp_path) as (service, store):
        assert read(store) == VALUES.tobytes()
        service.hang_ups = 1  # as one that has kept a connection for long enough
        assert read(store) == VALUES.tobytes()
        service.hang_ups = 1
        store._client.write(f"/datasets/{DATASET}/value", {"select": "[0:1]"}, b"1234")
        assert not caplog.text
        service.hang_ups = 100
        with pytest.raises(UnreadableError):
            store.root()
        assert service.hang_ups > 90
        service.hang_ups = 0
        assert read(store) == VALUES.tobytes()


@pytest.mark.parametrize("once", [True, False])
def test_what_would_change_more_when_it_is_sent_twice_is_sent_once(
    tmp_path: Path, once: bool
) -> None:
    with opened(tmp_path) as (service, store):
        service.requests.clear()
        service.hang_ups = 1
        with pytest.raises(UnreadableError):
            if once:
                store._client.write(f"/datasets/{DATASET}/value", {"append": "1"}, b"1", once=True)
            else:
                store._client.change("POST", "/groups", {}, {})
        assert len([line for line in service.requests if not line.startswith("GET")]) == 1


@pytest.mark.semantics("G18")
def test_a_service_that_is_busy_for_a_moment_has_no_dead_nodes(tmp_path: Path) -> None:
    with opened(tmp_path) as (service, store):
        service.status = 503
        threading.Timer(1.0, setattr, (service, "status", 200)).start()
        assert store._client._ask_shortly("/", 10.0) is not None
        service.status = 503
        assert store._client._ask_shortly("/", 0.5) is None


@pytest.mark.parametrize(
    "status, error",
    [(401, ForbiddenError), (403, ForbiddenError), (404, GoneError), (410, GoneError),
     (400, UnreadableError), (500, UnreadableError)],
)  # fmt: skip
def test_each_status_has_its_errno(tmp_path: Path, status: int, error: type[H5fsError]) -> None:
    with opened(tmp_path) as (service, store):
        assert read(store)
        service.status = status
        with pytest.raises(error) as raised:
            store.root()
        assert "secret word" not in str(raised.value)
        service.status = 200
        assert read(store)


def test_a_service_that_is_not_there_is_an_error_after_some_tries(tmp_path: Path) -> None:
    with short_name(tmp_path) as short, socket.socket(socket.AF_UNIX) as unbound:
        unbound.bind(str(short / "s"))  # nobody listens
        client = Client(Access(url_of(short / "s")), 1.0)
        with closing(client), pytest.raises(UnreadableError, match="refused"):
            client.get("/", dict, {})
        assert client.request_count > 1


def test_a_path_through_an_object_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with opened(tmp_path) as (service, store):
        service.answers[HEADER] = []
        tree = Tree(store)
        assert b"d" in {dentry.name for dentry in tree.list_folder(b"/")}
        with pytest.raises(UnreadableError):
            tree.get_status(b"/d/x")
