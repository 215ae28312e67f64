"""Changes of many threads share a request and a commit; each is done or fails for itself."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.conformance import array_file, object_at, read
from support.gathering import together
from support.hostile import HEAP_LOOPS, add_external_raw, write_looping_heap
from support.stores import open_store
from support.trees import kill
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import (
    ChangeFailedError,
    ExistsError,
    H5fsError,
    LostChangesError,
    NotFoundError,
    ReadOnlyError,
    UnreadableError,
)
from h5fs.model.datatypes import BitLayout, ByteOrder, IntegerType
from h5fs.model.objects import Attribute, Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import Limits, Mode, StoreOptions
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import ChangedObjects, first_changed_bytes
from h5fs.store.worker_stores.change_queue import MOST_BYTES
from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore
from h5fs.store.workers.connection import WorkerConnection
from h5fs.store.workers.messages import CHANGES
from h5fs.store.workers.worker_errors import WorkerDiedError

INTEGER = IntegerType(BitLayout(8, ByteOrder.LITTLE, 64, 0), signed=True)


@contextmanager
def opened_store(file: Path, **options: Any) -> Iterator[WritingWorkerStore]:
    options = {"mode": Mode.UPDATE, "commit_seconds": None, **options}
    store: Any = open_store(StoreOptions(file, **options))
    try:
        yield store
    finally:
        store.close()


def make_file(file: Path) -> Path:
    """Make a file with three good datasets, and one that no element can be written to."""
    with h5py.File(file, "w") as opened:
        opened.create_dataset("bad", data=np.arange(20.0), chunks=(5,))
        for name in ("a", "b", "c"):
            opened[name] = np.arange(6.0)
        opened.create_dataset("gzip", data=np.arange(6.0), chunks=(4,), compression="gzip")
    content = bytearray(file.read_bytes())
    with h5py.File(file) as opened:
        at = opened["bad"].id.get_chunk_info(0).byte_offset
    tree = content.rindex(b"TREE\1", 0, at)  # the index of the chunks
    content[tree : tree + 4] = b"EERT"
    file.write_bytes(content)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "f.h5")


@pytest.fixture
def store(file: Path) -> Iterator[WritingWorkerStore]:
    with opened_store(file) as store:
        yield store


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that workers are asked for."""
    call, methods = WorkerConnection.call, []

    def call_noted(self: WorkerConnection, method: str, *arguments: Any, **how: Any) -> Any:
        methods.append(method)
        return call(self, method, *arguments, **how)

    monkeypatch.setattr(WorkerConnection, "call", call_noted)
    return methods


def save(store: WritingWorkerStore, group: ObjectRef, name: bytes, array: Any) -> ObjectInfo:
    with array_file(np.asarray(array)) as lent:
        return store.write_array(group, name, lent)


def data_of(store: WritingWorkerStore, name: str) -> list[float]:
    ref = object_at(store, name).ref
    return np.frombuffer(read(store, ref, ArrayPart.ELEMENTS, 0, 48)).tolist()


def log_commits(store: WritingWorkerStore, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets the changed objects of each commit that the worker tells of."""
    told: list[Any] = []
    note = store._note_change

    def note_told(changed: ChangedObjects, stop: int) -> None:
        told.append(changed)
        note(changed, stop)

    for slot in store._pool._slots:
        assert slot.connection is not None
        monkeypatch.setattr(slot.connection, "_on_change", note_told)
    return told


@pytest.mark.semantics("U16")
def test_changes_that_wait_share_a_request_and_a_commit(
    store: WritingWorkerStore, file: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store.root().ref
    told = log_commits(store, monkeypatch)
    sent.clear()
    made, array, link, none, moved = together(
        store,
        lambda: store.create_group(root, b"g"),
        lambda: save(store, root, b"new", np.arange(3.0)),
        lambda: store.create_link(root, Link(b"soft", LinkKind.SOFT, soft_target=b"/a")),
        lambda: store.delete_link(root, b"b"),
        lambda: store.move_link(root, b"c", root, b"d"),
    )
    assert sent == [CHANGES]
    assert len(told) == 1
    assert (made.kind, made.ref.path) == (ObjectKind.GROUP, b"/g")
    assert array.dataset.shape == (3,)
    assert link is none is None
    assert moved.ref.path == b"/d"
    store.close()
    with h5py.File(file) as opened:
        assert set(opened) == {"a", "bad", "d", "g", "gzip", "new", "soft"}
        assert opened["new"][()].tolist() == [0, 1, 2]


@pytest.mark.semantics("R23")
def test_what_is_kept_of_each_object_that_was_changed_is_forgotten(
    store: WritingWorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = {name: object_at(store, name).ref for name in ("a", "b", "c", "gzip")}
    for name in refs:
        assert data_of(store, name) == [0, 1, 2, 3, 4, 5]
    versions = {name: store.data_version(ref) for name, ref in refs.items()}
    told = log_commits(store, monkeypatch)
    changed = [name for name in refs if name != "b"]
    together(
        store,
        *(
            lambda ref=refs[name]: store.write_elements(ref, 8, np.float64(9).tobytes())
            for name in changed
        ),
    )
    assert first_changed_bytes(told[0]) == {refs[name].id: 8 for name in changed}
    assert [data_of(store, name)[1] for name in refs] == [9, 1, 9, 9]
    for name, ref in refs.items():
        assert (store.data_version(ref) == versions[name]) == (name == "b")


@pytest.mark.semantics("U16")
def test_what_is_refused_leaves_its_neighbours_and_the_worker_alone(
    store: WritingWorkerStore, file: Path, sent: list[str]
) -> None:
    root = store.root().ref
    pids = store._pool.worker_pids()
    sent.clear()
    outcomes = together(
        store,
        lambda: store.create_group(root, b"x"),
        lambda: store.create_group(root, b"x"),
        lambda: store.delete_link(root, b"nothing"),
        lambda: save(store, root, b"x", np.arange(3)),
        lambda: store.create_group(root, b"y"),
    )
    kinds = [type(each) for each in outcomes]
    assert kinds == [ObjectInfo, ExistsError, NotFoundError, ExistsError, ObjectInfo]
    assert sent == [CHANGES]
    assert store._pool.worker_pids() == pids
    outcomes = together(
        store,
        lambda: store.create_group(root, b"x"),
        lambda: store.delete_link(root, b"nothing"),
    )
    assert [type(each) for each in outcomes] == [ExistsError, NotFoundError]
    store.close()
    with h5py.File(file) as opened:
        assert {"x", "y"} <= set(opened)


def test_changes_that_are_all_refused_commit_nothing(
    store: WritingWorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = log_commits(store, monkeypatch)
    root, before = store.root().ref, store._state.last_commit()
    together(store, *(lambda: store.create_group(root, b"a") for _ in range(3)))
    assert told == []
    assert store._state.last_commit() == before


@pytest.mark.semantics("U16", "W3")
def test_what_fails_half_done_fails_alone(store: WritingWorkerStore, file: Path) -> None:
    root, bad = store.root().ref, object_at(store, "bad").ref
    (pid,) = store._pool.worker_pids()
    outcomes = together(
        store,
        lambda: store.create_group(root, b"x"),
        lambda: store.write_elements(bad, 0, bytes(8)),
        lambda: save(store, root, b"a", np.arange(4)),
        lambda: store.create_group(root, b"x"),
        lambda: store.delete_link(root, b"b"),
    )
    assert isinstance(outcomes[1], LostChangesError)
    assert sorted(type(outcomes[i]).__name__ for i in (0, 3)) == ["ExistsError", "ObjectInfo"]
    assert outcomes[2].dataset.shape == (4,)
    assert outcomes[4] is None
    assert store._pool.worker_pids() != [pid]
    # From now on that object's changes go alone, and no neighbour is made twice.
    before = store._queue.request_count
    outcomes = together(
        store,
        lambda: store.create_group(root, b"y"),
        lambda: store.write_elements(bad, 0, bytes(8)),
        lambda: store.create_group(root, b"z"),
    )
    assert [type(each) for each in outcomes] == [ObjectInfo, ChangeFailedError, ObjectInfo]
    assert store._queue.request_count == before + 4
    store.close()
    with h5py.File(file) as opened:
        assert {"x", "y", "z"} <= set(opened)
        assert "b" not in opened
        assert opened["a"][()].tolist() == [0, 1, 2, 3]


@pytest.mark.semantics("U16", "W1", "W3")
@pytest.mark.usefixtures("hangs_at_any_load")
def test_an_object_that_hangs_the_library_takes_no_neighbour_along(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    write_looping_heap(file, HEAP_LOOPS[0], is_attribute=True)
    new = Attribute(b"new", INTEGER, (1,), ((5).to_bytes(8, "little"),))
    with opened_store(file, limits=Limits(deadline_seconds=1)) as store:
        root, looping = store.root().ref, object_at(store, "loop").ref
        outcomes = together(
            store,
            lambda: store.create_group(root, b"x"),
            lambda: store.write_attributes(looping, (new,), ()),
            lambda: store.create_group(root, b"y"),
        )
        assert [type(each) for each in outcomes] == [ObjectInfo, UnreadableError, ObjectInfo]
        assert "is in the file, and cannot be read back" in str(outcomes[1])
        assert len(store._quarantine.reasons()) == 1  # of the reading: a change is never blamed
        store.create_group(root, b"v")
    with h5py.File(file) as opened:
        assert {"before", "loop", "x", "y", "v"} <= set(opened)
        attribute = h5py.h5a.open(opened["loop"].id, b"new")  # iterating over all hangs here, too
        value = np.zeros(1, "<i8")
        attribute.read(value)
        assert value[0] == 5


def signal_if_there(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def lose_worker_before(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let a signal end the worker when it is first asked for several changes."""
    call, lost = WorkerConnection.call, []

    def call_lost(self: WorkerConnection, method: str, *arguments: Any, **how: Any) -> Any:
        if method == CHANGES and not lost:
            lost.append(method)
            os.kill(self.pid, signal.SIGSTOP)
            os.kill(self.pid, number)
            threading.Timer(0.05, signal_if_there, (self.pid, signal.SIGCONT)).start()
        return call(self, method, *arguments, **how)

    monkeypatch.setattr(WorkerConnection, "call", call_lost)
    return lost


def lose_worker_after(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the worker be killed between its next commit of a change and its answer."""
    receive, lost = WorkerConnection._note_change, []

    def receive_nothing(self: WorkerConnection, body: memoryview) -> Any:
        if lost:
            return receive(self, body)
        lost.append(self.pid)
        kill(self.pid)
        raise WorkerDiedError("the worker process was killed by SIGKILL")

    monkeypatch.setattr(WorkerConnection, "_note_change", receive_nothing)
    return lost


def some_changes(store: WritingWorkerStore) -> list[Callable[[], Any]]:
    root = store.root().ref
    return [
        lambda: store.create_group(root, b"x"),
        lambda: store.create_group(root, b"a"),
        lambda: save(store, root, b"new", np.arange(5)),
        lambda: store.delete_link(root, b"b"),
        lambda: store.delete_link(root, b"nothing"),
        lambda: store.move_link(root, b"c", root, b"d"),
    ]


@pytest.mark.semantics("U16", "W3")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_ends_before_the_commit_has_done_nothing_of_it(
    store: WritingWorkerStore, file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patched:
        lost = lose_worker_before(patched, number)
        outcomes = together(store, *some_changes(store))
    assert lost == [CHANGES]
    kinds = [type(each).__name__ for each in outcomes]
    # What was refused before is refused again: nobody takes a name that was there for a new one.
    assert kinds == ["ObjectInfo", "ExistsError", "ObjectInfo", "NoneType", "NotFoundError",
                     "ObjectInfo"]  # fmt: skip
    assert not store._quarantine.reasons()
    store.close()
    with h5py.File(file) as opened:
        assert set(opened) == {"a", "bad", "d", "gzip", "new", "x"}


@pytest.mark.semantics("U16", "W3")
def test_a_worker_that_is_killed_after_the_commit_has_done_all_of_it(
    store: WritingWorkerStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store.root().ref
    with monkeypatch.context() as patched:
        lost = lose_worker_after(patched)
        outcomes = together(store, *some_changes(store))
    assert len(lost) == 1
    assert kinds_of(outcomes) == ["ObjectInfo", "ExistsError", "ObjectInfo", "NoneType",
                                  "NotFoundError", "NoneType"]  # fmt: skip
    assert outcomes[0].ref.path == b"/x"
    assert object_at(store, "x").ref == outcomes[0].ref
    with pytest.raises(ExistsError):
        store.create_group(root, b"x")
    store.close()
    with h5py.File(file) as opened:
        assert set(opened) == {"a", "bad", "d", "gzip", "new", "x"}
        assert opened["new"][()].tolist() == [0, 1, 2, 3, 4]


def make_file_with_data_beside(folder: Path) -> Path:
    """Make a file with a dataset whose data are in another file, which workers must ask for."""
    (folder / "raw").write_bytes(bytes(24))
    with h5py.File(folder / "f.h5", "w") as opened:
        add_external_raw(opened, "beside", str(folder / "raw"))
    return folder / "f.h5"


@pytest.mark.semantics("W6", "U16")
def test_a_change_that_needs_another_file_is_made_once_the_worker_may_read_it(
    tmp_path: Path,
) -> None:
    file = make_file_with_data_beside(tmp_path)
    with opened_store(file) as store:
        root, beside = store.root().ref, object_at(store, "beside").ref
        made, refused, other = together(
            store,
            lambda: store.create_group(root, b"x"),
            lambda: store.write_elements(beside, 0, bytes(8)),
            lambda: store.create_group(root, b"y"),
        )
        assert made.ref.path == b"/x" and other.ref.path == b"/y"
        assert isinstance(refused, ReadOnlyError)


@pytest.mark.semantics("R24", "U16")
def test_an_array_that_is_being_written_is_not_lost_for_a_neighbour_that_needs_a_file(
    tmp_path: Path,
) -> None:
    file = make_file_with_data_beside(tmp_path)
    with opened_store(file) as store:
        root, beside = store.root().ref, object_at(store, "beside").ref
        region = store.reserve_array(root, (100_000,), np.dtype("<i8"))
        assert region is not None
        made, refused, other = together(
            store,
            lambda: store.create_group(root, b"x"),
            lambda: store.write_elements(beside, 0, bytes(8)),
            lambda: store.create_group(root, b"y"),
        )
        assert made.ref.path == b"/x" and other.ref.path == b"/y"
        assert isinstance(refused, UnreadableError)
        tail = bytes(800_000 - region.size_bytes)
        assert store.finish_array(root, b"new", region, tail).ref.path == b"/new"


@pytest.mark.semantics("U2")
def test_those_that_wait_for_a_commit_to_the_disk_share_one(
    store: WritingWorkerStore, sent: list[str]
) -> None:
    root = store.root().ref
    store.create_group(root, b"x")
    sent.clear()
    assert together(store, *[store.commit] * 5, queue=store._commits) == [None] * 5
    assert sent == ["commit"]
    uncommitted = store.statistics().uncommitted
    assert uncommitted is not None and uncommitted.change_count == 0


@pytest.mark.semantics("U2")
def test_a_shared_commit_that_fails_is_tried_again_by_each(
    store: WritingWorkerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_group(store.root().ref, b"x")
    ask, failures = store._ask, []

    def fail_at_first(method: str, *arguments: Any, **how: Any) -> Any:
        if method == "commit" and len(failures) < 2:
            failures.append(method)
            raise UnreadableError("the disk does not answer")
        return ask(method, *arguments, **how)

    monkeypatch.setattr(store, "_ask", fail_at_first)
    outcomes = together(store, *[store.commit] * 3, queue=store._commits)
    assert sorted(kinds_of(outcomes)) == ["NoneType", "NoneType", "UnreadableError"]


def test_what_is_large_goes_alone(store: WritingWorkerStore, sent: list[str]) -> None:
    root, labelled = store.root().ref, object_at(store, "a").ref
    large = np.zeros(MOST_BYTES // 8)
    texts = Attribute(b"t", INTEGER, (2000,), (bytes(8),) * 2000)
    small = Attribute(b"s", INTEGER, (1,), (bytes(8),))
    sent.clear()
    outcomes = together(
        store,
        lambda: store.create_group(root, b"x"),
        lambda: store.write_attributes(labelled, (small,), ()),
        lambda: save(store, root, b"large", large),
        lambda: store.create_group(root, b"z"),
        lambda: save(store, root, b"small", np.arange(3)),
        lambda: store.write_attributes(labelled, (texts,), ()),
    )
    assert not any(isinstance(each, Exception) for each in outcomes)
    assert sent == [CHANGES, "write_array", CHANGES, "write_attributes"]


def test_a_commit_of_changes_together_survives_the_daemon(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.trees import _NoTimer

    with opened_store(file) as store:
        root = store.root().ref
        together(store, *(lambda n=n: store.create_group(root, b"g%d" % n) for n in range(5)))
        monkeypatch.setattr(store, "_timer", _NoTimer())  # no commit at the end
    with opened_store(file) as store:
        for n in range(5):
            assert object_at(store, f"g{n}").kind is ObjectKind.GROUP


@pytest.mark.semantics("U16", "W3")
def test_many_threads_over_workers_that_are_killed_do_each_change_once(
    store: WritingWorkerStore, file: Path
) -> None:
    root = store.root().ref
    failures: list[Any] = []
    killed: list[int] = []
    has_ended = threading.Event()
    count = 40
    give_up = time.monotonic() + PATIENCE_SECONDS

    def work(number: int) -> None:
        chance = random.Random(number)
        try:
            group = store.create_group(root, b"t%d" % number).ref
            for i in range(count):
                save(store, group, b"d%d" % i, np.full(chance.randrange(1, 500), i))
                with pytest.raises(ExistsError):
                    store.create_group(group, b"d%d" % i)
                if i % 5 == 4 and i % 7:
                    store.delete_link(group, b"d%d" % (i - 1))
                if i % 7 == 6:
                    store.move_link(group, b"d%d" % i, group, b"m%d" % i)
                if i % 10 == 9:
                    store.commit()
            while len(killed) <= 5 and time.monotonic() < give_up:
                store.create_group(group, b"more")
                store.delete_link(group, b"more")
        except BaseException as error:  # pytest's, too
            failures.append((number, error))

    def kill_workers() -> None:
        chance, last = random.Random(1), 0
        while not has_ended.wait(chance.random() * 0.02):
            if store._queue.request_count > last + 3:  # else none gets far enough to be tried again
                last = store._queue.request_count
                for pid in store._pool.worker_pids():
                    signal_if_there(pid, signal.SIGKILL)
                    killed.append(pid)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    killer = threading.Thread(target=kill_workers)
    for thread in [*threads, killer]:
        thread.start()
    for thread in threads:
        thread.join()
    has_ended.set()
    killer.join()
    assert failures == []
    assert len(killed) > 5
    assert store._queue.request_count < store._queue.change_count
    store.close()
    with h5py.File(file) as opened:
        for number in range(8):
            chance = random.Random(number)
            sizes = [chance.randrange(1, 500) for _ in range(count)]
            found = opened[f"t{number}"]
            expected = {}
            for i in range(count):
                expected[f"m{i}" if i % 7 == 6 else f"d{i}"] = (i, sizes[i])
                if i % 5 == 4 and i % 7:
                    expected.pop(f"d{i - 1}", None)
            assert {name: (int(each[0]), len(each)) for name, each in found.items()} == expected


# What is done together is what is done one by one, whatever fails of it.

NAMES = (b"array", b"group", b"nothing", b"new", b"newer")
STEPS = st.tuples(
    st.sampled_from(["group", "save", "delete", "move", "label", "elements", "bad"]),
    st.integers(0, len(NAMES) - 1),
    st.integers(0, len(NAMES) - 1),
).filter(lambda step: step[0] != "move" or step[1] != step[2])  # a tree asks for no such move


def step(
    store: WritingWorkerStore, group: ObjectRef, kind: str, name: bytes, other: bytes
) -> Callable[[], Any]:
    """Return a change of one of the objects of a group."""

    if kind == "bad":
        bad = object_at(store, "bad").ref
        return lambda: store.write_elements(bad, 0, bytes(8))
    if kind == "label":
        number = Attribute(name, INTEGER, (1,), (len(other).to_bytes(8, "little"),))
        return lambda: store.write_attributes(group, (number,), ())
    if kind == "elements":
        filled = store.get_link(group, b"filled").target
        assert filled is not None
        return lambda: store.write_elements(filled.ref, 7 * NAMES.index(name), other)
    return {
        "group": lambda: store.create_group(group, name),
        "save": lambda: save(store, group, name, np.arange(float(len(other)))),
        "delete": lambda: store.delete_link(group, name),
        "move": lambda: store.move_link(group, name, group, other),
    }[kind]


def prepare(store: WritingWorkerStore, group: ObjectRef) -> None:
    save(store, group, b"array", np.arange(3.0))
    store.create_group(group, b"group")
    save(store, group, b"filled", np.arange(40, dtype="<i2"))


def kinds_of(outcomes: Sequence[Any]) -> list[str]:
    return [type(each).__name__ for each in outcomes]


def outcome_of(change: Callable[[], Any]) -> Any:
    try:
        return change()
    except H5fsError as error:
        return error


def content(group: h5py.Group) -> dict[str, Any]:
    """Return what is in a group of groups, arrays and attributes."""
    found: dict[str, Any] = {"@": {k: v.tolist() for k, v in group.attrs.items()}}
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            found[name] = content(item)
        else:
            attributes = {k: v.tolist() for k, v in item.attrs.items()}
            found[name] = (str(item.dtype), item[()].tolist(), attributes)
    return found


@pytest.mark.semantics("U16")
def test_changes_together_are_what_they_are_one_by_one(file: Path) -> None:
    numbers = itertools.count()
    pairs: dict[int, Any] = {}

    @settings(max_examples=60, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(STEPS, min_size=2, max_size=9))
    def compare(steps: list[tuple[str, int, int]]) -> None:
        store._suspects.clear()  # what has failed is asked for with others again
        has_bad = any(kind == "bad" for kind, *_ in steps)
        if has_bad:
            # Those that are made again alone come in any order: let each have names of its own.
            steps = [
                ("delete" if kind == "move" else kind, n, n)
                for n, (kind, *_) in enumerate(steps[: len(NAMES)])
            ]
        root = store.root().ref
        number = next(numbers)
        groups = [store.create_group(root, b"%d-%d" % (number, i)).ref for i in range(2)]
        for group in groups:
            prepare(store, group)
        one_by_one, at_once = (
            [step(store, group, kind, NAMES[a], NAMES[b]) for kind, a, b in steps]
            for group in groups
        )
        expected = kinds_of([outcome_of(change) for change in one_by_one])
        store._suspects.clear()
        assert kinds_of(together(store, *at_once)) == expected, steps
        pairs[number] = steps

    with opened_store(file) as store:
        compare()
    with h5py.File(file) as opened:
        for number, steps in pairs.items():
            assert content(opened[f"{number}-0"]) == content(opened[f"{number}-1"]), steps
    assert sum(kind == "bad" for steps in pairs.values() for kind, *_ in steps) > 10
