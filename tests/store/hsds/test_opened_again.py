"""Files that are opened anew, or made, while others write to them or nobody answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store.hsds.test_shared_writing import as_npy, domain_of, load, opened_trees, save
from support.hsds_service import Service

from h5fs.errors import NotFoundError, UnreadableError
from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.tree import RenewingTree, SharedWritableTree
from h5fs.tree.writing import writes
from h5fs.tree.writing.openings import Openings

OLD, NEW = [[1, 2], [3], [4, 5, 6]], [[7, 8], [9], [10, 11, 12]]


@contextmanager
def reading_tree(service: Service, domain: str) -> Iterator[RenewingTree]:
    store = HsdsStore(
        Client(service.access), domain, service.access.bucket, ExternalPolicy.NONE, 2**24
    )
    tree = RenewingTree(store)
    with closing(tree):
        yield tree


def save_sequences(tree: SharedWritableTree, sequences: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, sequences)])
    save(tree, b"/s.values.npy", np.concatenate(sequences))
    save(tree, b"/s.offsets.npy", offsets)


@pytest.mark.semantics("G5")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_who_has_sequences_open_reads_what_they_are_at_the_last_open(
    service: Service, tmp_path: Path, mode: str
) -> None:
    with opened_trees(service, tmp_path, 2) as (writing, other):
        save_sequences(writing, OLD)
        domain = domain_of(writing)
        dataset = service.ask("GET", "/datasets", domain)["datasets"][0]
        with reading_tree(service, domain) as reading:
            tree: Any = reading if mode == "r" else other
            first = tree.open(b"/s.values.npy", os.O_RDONLY)
            start = 128 + 8
            assert tree.read(first, 8, start) == np.int64(2).tobytes()  # all are kept from now on
            service.ask("PUT", f"/datasets/{dataset}/value", domain, {"value": NEW})
            second = tree.open(b"/s.values.npy", os.O_RDONLY)
            assert tree.read(first, 8, start) == np.int64(8).tobytes()
            assert tree.read(second, 8, start) == np.int64(8).tobytes()
            for each in (first, second):
                tree.release(each)


class Reach:
    """The service goes for a while: no request is answered unless ``answers``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = True
        send = Client._send

        def send_or_not(client: Client, *given: Any, **named: Any) -> Any:
            if not self.answers:
                raise UnreadableError("nobody answers")
            return send(client, *given, **named)

        monkeypatch.setattr(Client, "_send", send_or_not)


@pytest.mark.semantics("G18")
def test_a_new_file_keeps_what_is_written_when_the_service_goes_as_soon_as_it_is_made(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach, create = Reach(monkeypatch), Openings.create

    def create_at_the_end(openings: Openings, *given: Any) -> int:
        handle = create(openings, *given)
        reach.answers = False
        return handle

    with opened_trees(service, tmp_path, 2) as (tree, other):
        save(other, b"/before.npy", np.zeros(3))
        assert tree.get_status(b"/before.npy").size_bytes
        monkeypatch.setattr(Openings, "create", create_at_the_end)
        handle = tree.create(b"/d.npy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        tree._renewal.expire()  # as if a while had passed
        assert tree.get_status(b"/d.npy").size_bytes == 0
        assert tree.get_status_of_handle(handle).size_bytes == 0
        tree.write(handle, memoryview(as_npy(np.ones(10))), 0)
        with pytest.raises(UnreadableError):
            tree.flush(handle, 0)
        tree.release(handle)
        with pytest.raises(UnreadableError):
            tree.get_status(b"/before.npy")
        monkeypatch.setattr(Openings, "create", create)
        reach.answers = True
        with pytest.raises(NotFoundError):
            other.get_status(b"/d.npy")
        assert np.unique(load(tree, b"/d.npy")) == [1]
        assert np.unique(load(other, b"/d.npy")) == [1]


@pytest.mark.semantics("G18")
def test_a_large_new_file_keeps_what_is_written_when_the_service_goes_meanwhile(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach, look = Reach(monkeypatch), writes.large_array_header

    def look_and_lose(*given: Any) -> Any:
        header = look(*given)
        reach.answers = False
        tree._lookup.forget()  # as if a while had passed
        return header

    monkeypatch.setattr(writes, "large_array_header", look_and_lose)
    with opened_trees(service, tmp_path, 1) as (tree,):
        handle = tree.create(b"/d.npy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        tree.write(handle, memoryview(as_npy(np.ones(200_000))), 0)
        assert not reach.answers
        reach.answers = True
        tree.flush(handle, 0)
        tree.release(handle)
        assert np.unique(load(tree, b"/d.npy")) == [1]


@pytest.mark.semantics("G18")
def test_an_open_that_fails_at_its_end_leaves_no_file_open(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach = Reach(monkeypatch)
    with opened_trees(service, tmp_path, 1) as (tree,):
        save(tree, b"/d.npy", np.zeros(10))
        first = tree.open(b"/d.npy", os.O_RDWR)
        note = tree._note_opening

        def note_alone(*given: Any) -> None:
            reach.answers = False
            tree._lookup.forget()
            note(*given)

        monkeypatch.setattr(tree, "_note_opening", note_alone)
        with pytest.raises(UnreadableError):
            tree.open(b"/d.npy", os.O_RDWR)
        reach.answers = True
        assert tree._opened.count() == 1
        tree.release(first)
        assert tree._opened.count() == 0
