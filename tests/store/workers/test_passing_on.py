"""Methods that are made of the promise that they keep."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.store.interface import ObjectStore, WritingObjectStore
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
from h5fs.store.workers.passing_on import passed_on
from h5fs.store.workers.quarantine import Subject

GROUP = ObjectRef(0, 96, b"/group")


class Asking:
    """A store that notes what it is asked to ask."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], Subject]] = []

    def _ask(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        self.asked.append((method, arguments, subject))
        return "the answer"

    root = passed_on(ObjectStore.root, _ask, lambda file: Subject(ObjectRef(file, 0, b"/")))
    get_link = passed_on(ObjectStore.get_link, _ask, Subject)


def test_a_call_is_passed_on_with_what_it_is_about() -> None:
    store: Any = Asking()
    assert store.get_link(GROUP, b"name") == "the answer"
    assert store.get_link(name=b"name", group=GROUP) == "the answer"
    assert store.asked == [("get_link", (GROUP, b"name"), Subject(GROUP, b"name"))] * 2


def test_an_argument_that_is_left_out_is_passed_on_too() -> None:
    store: Any = Asking()
    store.root()
    store.root(7)
    assert [arguments for _, arguments, _ in store.asked] == [(0,), (7,)]


@pytest.mark.parametrize("given", [(), (GROUP,), (GROUP, b"name", b"more")])
def test_a_call_with_too_few_or_too_many_arguments_asks_nobody(given: tuple[Any, ...]) -> None:
    store: Any = Asking()
    with pytest.raises(TypeError):
        store.get_link(*given)
    assert store.asked == []


@pytest.mark.parametrize("store", [WorkerStore, WritingWorkerStore])
def test_methods_have_the_name_the_signature_and_the_docstring_of_the_promise(store: Any) -> None:
    made = {
        name: method
        for name, method in inspect.getmembers(store, inspect.isfunction)
        if hasattr(method, "__wrapped__") and not name.startswith("_")
    }
    assert "get_link" in made
    for name, method in made.items():
        promise = getattr(WritingObjectStore, name)
        assert method.__wrapped__ is promise
        assert (method.__name__, method.__doc__) == (name, promise.__doc__)
        assert inspect.signature(method) == inspect.signature(promise)


def test_who_reads_a_link_is_told_of_the_link_that_is_to_blame() -> None:
    store = WorkerStore.__new__(WorkerStore)
    asked: list[Subject] = []

    class Pool:
        def call(self, *_arguments: Any, subject: Subject, **_how: Any) -> None:
            asked.append(subject)

    store._pool = Pool()  # type: ignore[assignment]
    store._ahead = None
    store.follow(GROUP, Link(b"name", LinkKind.SOFT))
    store.find_link(GROUP, b"a/b")
    store.read_attributes(GROUP)
    store.describe_dataset(GROUP)
    assert asked == [
        Subject(GROUP, b"name"), Subject(GROUP, b"a/b"), Subject(GROUP, of_attributes=True),
        Subject(GROUP),
    ]  # fmt: skip
