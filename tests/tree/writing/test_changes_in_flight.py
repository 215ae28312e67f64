"""What goes on while a change waits for the store, and what waits for it: call by call."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from support.overlapping import ReusingStore
from support.reference import npy_bytes
from support.trees import names, read, save
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import ChangeFailedError, ExistsError, NotFoundError
from h5fs.projection.names import Projection, encode_name
from h5fs.tree import WritableTree
from h5fs.tree.writing.pending.changes_in_flight import (
    ChangesInFlight,
    OthersInFlightError,
    names_of_link,
)
from h5fs.tree.writing.pending.writable_file import WritableFile

ONE, TWO = npy_bytes(np.arange(5.0)), npy_bytes(np.arange(7.0))
MOMENT = 0.1
"""How long a call is watched that must not end."""


class GatedStore:
    """A store whose calls of one method wait, before or after it is done, until they may go on."""

    def __init__(self) -> None:
        self.inside = ReusingStore()
        self.method = ""
        self.is_after = False
        self.fails = False
        self.has_come = threading.Event()
        self.may_go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inside, name)
        if name != self.method:
            return value
        self.method = ""  # only one call waits

        def ask(*given: Any) -> Any:
            result = value(*given) if self.is_after else None
            self.has_come.set()
            assert self.may_go.wait(PATIENCE_SECONDS)
            if self.fails:
                raise ChangeFailedError("not made")
            return result if self.is_after else value(*given)

        return ask


class Call(threading.Thread):
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    def waits(self) -> bool:
        """Whether the call has not ended some time later."""
        self.join(MOMENT)
        return self.is_alive()

    def end(self) -> Any:
        """Return what the call has returned; raise what it has raised."""
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


class Mount:
    """A tree with a group and some arrays, over a store with a gate."""

    def __init__(self) -> None:
        self.store = GatedStore()
        self.tree = WritableTree(self.store)  # type: ignore[arg-type]
        self.tree.make_folder(b"/g")
        for path in (b"/x.npy", b"/y.npy", b"/g/z.npy"):
            save(self.tree, path, ONE)

    @contextmanager
    def in_flight(
        self, method: str, call: Callable[[], Any], *, is_after: bool = False
    ) -> Iterator[Call]:
        """Let a call of a method of the store wait in the block; the call has ended after it."""
        store = self.store
        store.is_after = is_after
        store.has_come.clear()
        store.may_go.clear()
        store.method = method
        waiting = Call(call)
        try:
            assert store.has_come.wait(PATIENCE_SECONDS)
            yield waiting
        finally:
            store.may_go.set()
            waiting.join(PATIENCE_SECONDS)
        assert not waiting.is_alive() and self.tree.count_waiting() == 0


@pytest.fixture
def mount() -> Mount:
    return Mount()


def open_to_write(tree: WritableTree, path: bytes) -> int:
    return tree.open(path, os.O_RDWR, 1)


def changes(tree: WritableTree) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Return frequent changes of the link ``x``, or new ones, each with the store's method."""
    handle = open_to_write(tree, b"/x.npy")
    return {
        "save": ("write_array", lambda: save(tree, b"/x.npy", TWO)),
        "new": ("write_array", lambda: save(tree, b"/new.npy", TWO)),
        "attributes": ("write_attributes", lambda: save(tree, b"/x.attrs.json", b'{"n": 1}')),
        "mkdir": ("create_group", lambda: tree.make_folder(b"/g/new")),
        "symlink": ("create_link", lambda: tree.make_symbolic_link(b"x.npy", b"/new.npy")),
        "unlink": ("delete_link", lambda: tree.unlink(b"/x.npy")),
        "pwrite": ("write_elements", lambda: tree.write(handle, memoryview(b"1"), len(ONE) - 1)),
    }


@pytest.mark.semantics("R27")
@pytest.mark.parametrize("change", list(changes(Mount().tree)))
def test_others_are_answered_while_a_change_waits_for_the_store(mount: Mount, change: str) -> None:
    tree = mount.tree
    method, call = changes(tree)[change]
    with mount.in_flight(method, call) as changing:
        assert tree.count_waiting() == 1

        def go_on() -> None:
            assert tree.get_status(b"/y.npy").size_bytes == len(ONE)
            assert read(tree, b"/g/z.npy") == ONE
            assert {b"y.npy", b"g"} <= names(tree)
            save(tree, b"/y.npy", TWO)
            save(tree, b"/y.attrs.json", b'{"m": 1}')
            tree.make_folder(b"/g/other")
            tree.unlink(b"/g/z.npy")

        Call(go_on).end()
        assert changing.is_alive()
    changing.end()
    assert tree.get_status(b"/y.npy").size_bytes == len(TWO)
    assert b"other" in names(tree, b"/g") and b"z.npy" not in names(tree, b"/g")


@pytest.mark.semantics("R27")
@pytest.mark.parametrize("change", ["save", "attributes", "unlink", "pwrite"])
def test_what_asks_for_the_same_link_waits_for_the_change(mount: Mount, change: str) -> None:
    tree = mount.tree
    method, call = changes(tree)[change]
    handle = open_to_write(tree, b"/x.npy")
    asked: list[Callable[[], Any]] = [
        lambda: tree.get_status(b"/x.npy"),
        lambda: tree.get_status(b"/x.attrs.json"),
        lambda: tree.get_status(b"/x"),
        lambda: tree.get_status(b"/x/below"),
        lambda: tree.open(b"/x.npy", os.O_RDONLY, 1),
        lambda: tree.create(b"/x.values.npy", os.O_WRONLY, 1),
        lambda: tree.get_xattr(b"/x.npy", b"user.n"),
        lambda: tree.make_folder(b"/x"),
        lambda: tree.set_times(b"/x.npy", 1, 1),
        lambda: tree.write(handle, memoryview(b"1"), len(ONE) - 1),
        lambda: tree.truncate(None, 128, handle),
        lambda: tree.fsync(handle),
        lambda: tree.get_status_of_handle(handle),
    ]
    with mount.in_flight(method, call) as changing:
        calls = [Call(each) for each in asked]
        assert all(each.waits() for each in calls)
        assert changing.is_alive()
    for each in calls:
        each.join(PATIENCE_SECONDS)
        assert not each.is_alive()
    if change == "unlink":
        with pytest.raises(NotFoundError):
            calls[0].end()
    else:
        assert calls[0].end().size_bytes >= 128


@pytest.mark.semantics("R27")
@pytest.mark.parametrize(
    "alone",
    [
        lambda tree: tree.rename(b"/y.npy", b"/w.npy"),
        lambda tree: tree.make_hard_link(b"/y.npy", b"/w.npy"),
        lambda tree: tree.remove_folder(b"/g/empty"),
        lambda tree: tree.truncate(b"/y.npy", len(ONE), None),
        lambda tree: tree.set_xattr(b"/y.npy", b"user.a", b"1", 0),
    ],
)
def test_calls_of_several_paths_are_alone_and_nothing_goes_in_front(
    mount: Mount, alone: Callable[[WritableTree], None]
) -> None:
    tree = mount.tree
    tree.make_folder(b"/g/empty")
    with mount.in_flight("write_array", lambda: save(tree, b"/x.npy", TWO)):
        waiting = Call(lambda: alone(tree))
        assert waiting.waits()
        # A change that comes now is made, but does not let others in before the one that waits.
        store_method: list[int] = []
        inside = mount.store.inside
        create_group = inside.create_group
        inside.create_group = lambda *given: (  # type: ignore[method-assign]
            store_method.append(tree.count_waiting()) or create_group(*given)
        )
        tree.make_folder(b"/g/late")
        assert store_method == [1]  # that of the save alone
        assert waiting.is_alive()
    waiting.end()


@pytest.mark.semantics("R27")
def test_a_change_that_fails_is_an_error_of_its_caller_alone(mount: Mount) -> None:
    tree = mount.tree
    handle = tree.create(b"/x.npy", os.O_WRONLY | os.O_TRUNC, 1)
    tree.write(handle, memoryview(TWO), 0)
    mount.store.fails = True
    with mount.in_flight("write_array", lambda: tree.flush(handle, 1)) as failing:
        waiting = Call(lambda: tree.get_status(b"/x.npy").size_bytes)
        tree.make_folder(b"/g/other")
        save(tree, b"/y.npy", TWO)
    with pytest.raises(ChangeFailedError):
        failing.end()
    assert waiting.end() == len(TWO)  # the draft stays
    assert mount.store.inside.array(b"/x").tolist() == [0, 1, 2, 3, 4]
    mount.store.fails = False
    tree.flush(handle, 1)
    tree.release(handle)
    assert mount.store.inside.array(b"/x").tolist() == list(range(7))
    assert names(tree, b"/g") == {b"other", b"z.npy"}


def test_a_new_object_may_have_the_number_of_one_whose_removal_has_not_returned(
    mount: Mount,
) -> None:
    tree = mount.tree
    old = tree.get_status(b"/x.npy").inode
    with mount.in_flight("delete_link", lambda: tree.unlink(b"/x.npy"), is_after=True):
        save(tree, b"/new.npy", TWO)
        tree.set_times(b"/new.npy", 5, 6)
        assert tree.get_status(b"/new.npy").inode == old
        handle = open_to_write(tree, b"/new.npy")
    assert tree.get_status(b"/new.npy").mtime_ns == 6
    tree.write(handle, memoryview(np.float64(9).tobytes()), len(TWO) - 8)
    tree.release(handle)
    assert mount.store.inside.array(b"/new").tolist()[-1] == 9


REFERENCE = b'{"r": "%b", "$types": {"r": {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}}}'


@pytest.mark.semantics("R27")
def test_attributes_that_refer_to_what_is_made_at_this_moment_are_applied(mount: Mount) -> None:
    tree = mount.tree
    with mount.in_flight("create_group", lambda: tree.make_folder(b"/g/new")):
        # Between the look at what there is and the change nothing may go.
        handle = tree.create(b"/y.attrs.json", os.O_WRONLY, 1)
        tree.write(handle, memoryview(REFERENCE % b"/g/new"), 0)
        saving = Call(lambda: tree.flush(handle, 1))
        assert saving.waits()
    saving.end()
    tree.release(handle)
    assert mount.store.inside.attribute_names(b"/y") == {b"r"}
    assert tree._pending.staged_files() == []


def test_attributes_that_refer_and_have_waited_come_with_their_object(mount: Mount) -> None:
    tree = mount.tree
    save(tree, b"/new.attrs.json", REFERENCE % b"/x")
    save(tree, b"/plain.attrs.json", b'{"n": 1}')
    with mount.in_flight("create_group", lambda: tree.make_folder(b"/g/new")):
        saving = Call(lambda: save(tree, b"/new.npy", ONE))
        assert saving.waits()
        save(tree, b"/plain.npy", ONE)  # as nothing refers to others, this needs not to be alone
    saving.end()
    assert mount.store.inside.attribute_names(b"/new") == {b"r"}
    assert mount.store.inside.attribute_names(b"/plain") == {b"n"}
    assert tree._pending.staged_files() == []


def test_attributes_that_wait_for_their_object_alone_hinder_nobody(mount: Mount) -> None:
    tree = mount.tree
    with mount.in_flight("write_array", lambda: save(tree, b"/x.npy", TWO)):
        Call(lambda: save(tree, b"/new.attrs.json", b'{"n": 1}')).end()
    save(tree, b"/new.npy", ONE)
    assert mount.store.inside.attribute_names(b"/new") == {b"n"}


@pytest.mark.semantics("R27")
def test_while_a_file_awaits_others_nothing_overlaps(mount: Mount) -> None:
    tree = mount.tree
    save(tree, b"/y.attrs.json", REFERENCE % b"/not/there")
    with mount.in_flight("write_array", lambda: save(tree, b"/x.npy", TWO)):
        assert tree.count_waiting() == 0
        looking = Call(lambda: tree.get_status(b"/g"))
        assert looking.waits()
    looking.end()


@pytest.mark.semantics("R27")
def test_what_has_several_names_is_changed_under_the_lock() -> None:
    mount = Mount()
    tree = mount.tree
    inside = mount.store.inside
    info = inside._info

    tree._lookup._links.forget()
    tree._lookup._nodes.clear()
    inside._info = _with_two_links(info)  # type: ignore[method-assign]
    with mount.in_flight("write_array", lambda: save(tree, b"/x.npy", TWO)):
        assert tree.count_waiting() == 0
        looking = Call(lambda: tree.get_status(b"/g"))
        assert looking.waits()
    looking.end()


def _with_two_links(info: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda held: msgspec.structs.replace(
        info(held), hard_link_count=1 if held.array is None else 2
    )


# The lock and its marks alone.


def test_the_names_of_a_link_are_those_of_all_its_files() -> None:
    assert {b"x", b"x.npy", b"x.attrs.json", b"x.values.npy", b"x.csv"} <= names_of_link(b"x")
    assert b"y.npy" not in names_of_link(b"x")


def test_a_link_that_a_name_does_not_tell_is_changed_under_the_lock() -> None:
    in_flight = ChangesInFlight()
    cut = encode_name(b"x" * 300, Projection.ARRAY)
    for path in (b"/g/.attrs.json", b"/" + cut):
        with in_flight.call(path), in_flight.waiting(path, is_alone=True):
            assert in_flight.count == 0


def test_who_insists_on_being_alone_is_called_again_when_it_is() -> None:
    in_flight = ChangesInFlight()
    tries: list[int] = []

    def step() -> str:
        tries.append(in_flight.count)
        in_flight.insist_on_being_alone()
        with in_flight.waiting(b"/y", is_alone=True):
            assert in_flight.count == 0  # it keeps the lock
        return "done"

    with in_flight.call(b"/x.npy"):
        started = Call(lambda: None)
        with in_flight.waiting(b"/x.npy", is_alone=True):
            started = Call(lambda: in_flight.answer(step, b"/y.npy"))
            assert started.waits() and tries == [1]
    assert started.end() == "done" and tries == [1, 0]
    assert in_flight.answer(step) == "done"


def test_an_error_of_a_call_leaves_nothing_marked() -> None:
    in_flight = ChangesInFlight()
    with (
        pytest.raises(ExistsError),
        in_flight.call(b"/x"),
        in_flight.waiting(b"/x", is_alone=True),
    ):
        assert in_flight.count == 1
        raise ExistsError("x")
    assert in_flight.count == 0
    with in_flight.alone():
        pass
    with pytest.raises(OthersInFlightError), in_flight.call(b"/x"):
        raise OthersInFlightError


def test_many_threads_share_nothing_that_is_marked() -> None:
    in_flight = ChangesInFlight()
    inside: Counter[object] = Counter()
    files = [WritableFile(b"/f%d.npy" % n) for n in range(3)]
    wrong: list[str] = []
    done: Counter[str] = Counter()
    stop = time.monotonic() + 2
    give_up = time.monotonic() + PATIENCE_SECONDS

    def is_enough() -> bool:
        return min(done["alone"], done["overlaps"]) > 10 or time.monotonic() > give_up

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < stop or not is_enough():
            file = rng.choice(files)
            path = file.path
            if rng.random() < 0.05:
                with in_flight.alone():
                    if +inside:
                        wrong.append(f"alone with {+inside}")
                done["alone"] += 1
                continue
            how = in_flight.call(path) if rng.random() < 0.5 else in_flight.call(file=file)
            with how:
                if inside[path]:
                    wrong.append(f"two at {path!r}")
                inside[path] += 1
                with in_flight.waiting(path, file, is_alone=rng.random() < 0.9):
                    time.sleep(rng.random() * 1e-3)
                    if in_flight.count > 1:
                        done["overlaps"] += 1
                inside[path] -= 1

    threads = [Call(lambda seed=seed: work(seed)) for seed in range(6)]  # type: ignore[misc]
    for each in threads:
        each.end()
    assert wrong == [] and in_flight.count == 0
    assert done["alone"] > 10 and done["overlaps"] > 10
