"""Objects that programs have open while their last link goes, and close at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from msgspec import structs
from store.conformance import array_file, object_at

from h5fs.errors import UnreadableError
from h5fs.model.link_table import Links
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store import open_store
from h5fs.store.worker_stores.held_objects import HeldObjects
from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore

Store = WritingWorkerStore
OTHER_RANK = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = np.arange(6.0)
        opened["e"] = np.arange(7.0)
    options = StoreOptions(tmp_path / "f.h5", mode=Mode.UPDATE, commit_seconds=None)
    store: Any = open_store(options)
    try:
        yield store
    finally:
        store.close()


def write_over(store: Store) -> None:
    with array_file(OTHER_RANK) as lent:
        store.write_array(store.root().ref, b"d", structs.replace(lent, is_read=True))


def write_pair(store: Store) -> None:
    with array_file(np.arange(6.0)) as values, array_file(np.array([0, 3, 6])) as offsets:
        store.write_sequences(store.root().ref, b"d", values, offsets)


LOSSES: dict[str, Callable[[Store], Any]] = {
    "unlink": lambda store: store.delete_link(store.root().ref, b"d"),
    "move over": lambda store: store.move_link(store.root().ref, b"e", store.root().ref, b"d"),
    "write over": write_over,
    "write a pair over": write_pair,
}


def nameless(store: Store) -> list[bytes]:
    """Return the names of the hidden group."""
    hidden = store.hidden_group(makes=True)
    assert hidden is not None
    return list(Links(store.list_links(hidden)).names())


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("name", LOSSES)
def test_an_object_that_is_let_go_while_its_link_goes_takes_no_space(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = object_at(store, "d").ref
    change = store._change
    store.hold(ref)

    def let_go_first(method: str, *arguments: Any, **how: Any) -> Any:
        if method != "drop_nameless":
            store.let_go(ref)
        return change(method, *arguments, **how)

    with monkeypatch.context() as patched:
        patched.setattr(store, "_change", let_go_first)
        LOSSES[name](store)
    assert nameless(store) == []


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("name", LOSSES)
def test_an_object_that_is_let_go_before_or_after_its_link_goes_takes_no_space(
    store: Store, name: str
) -> None:
    ref = object_at(store, "d").ref
    store.hold(ref)
    LOSSES[name](store)
    assert len(nameless(store)) == 1
    store.let_go(ref)
    assert nameless(store) == []


def test_an_array_that_is_not_read_any_more_when_it_is_replaced_is_not_kept(store: Store) -> None:
    write_over(store)
    assert nameless(store) == []


def test_what_is_held_again_before_the_change_ends_is_dropped_with_the_last_hold() -> None:
    dropped: list[ObjectRef] = []
    held, ref = HeldObjects(dropped.extend), ObjectRef(0, 4, b"/d")
    held.hold(ref)
    with held.keeping() as opened, held.keeping():
        assert opened == (4,)
        held.let_go(ref)
        held.hold(ref)
    assert not dropped
    held.let_go(ref)
    assert dropped == [ref]


def test_a_drop_that_fails_after_a_change_is_no_failure_of_the_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_refs: object) -> None:
        raise UnreadableError("no")

    held, ref = HeldObjects(fail), ObjectRef(0, 4, b"/d")
    held.hold(ref)
    with held.keeping():
        held.let_go(ref)
    assert "takes space until the mount ends" in caplog.text
    caplog.clear()


def test_what_is_let_go_without_being_held_is_not_dropped() -> None:
    dropped: list[ObjectRef] = []
    held = HeldObjects(dropped.extend)
    with held.keeping():
        pass
    held.let_go(ObjectRef(0, 7, b"/x"))  # as where a worker calls one object two names
    assert dropped == []
