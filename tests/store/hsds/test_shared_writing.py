"""Several mounts of one domain that write at once: trees over stores of their own, in threads."""

from __future__ import annotations

import errno
import io
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.hsds_service import Service
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import ExistsError, H5fsError, UnreadableError
from h5fs.model.settings import ExternalPolicy, NewDatasets
from h5fs.projection.npy import format_header
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.writing.link_changes import LinkChanges
from h5fs.store.hsds.writing.writing_store import WritingHsdsStore
from h5fs.tree import SharedWritableTree
from h5fs.tree.writing.writable_tree import WritableTree

MOUNTS = 4


def open_tree(
    service: Service, domain: str, folder: Path, later_seconds: float = 0.1
) -> SharedWritableTree:
    store = WritingHsdsStore(
        Client(service.access), domain, service.access.bucket, ExternalPolicy.NONE, 2**24,
        NewDatasets(), later_seconds=later_seconds,
    )  # fmt: skip
    store.open()
    return SharedWritableTree(store, leftovers=folder / "left")


@contextmanager
def opened_trees(
    service: Service, folder: Path, count: int = MOUNTS, later_seconds: float = 0.1
) -> Iterator[list[SharedWritableTree]]:
    """Mount a new domain some times."""
    domain = f"{service.folder}shared-{secrets.token_hex(4)}.h5"
    service.ask("PUT", "/", domain)
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(open_tree(service, domain, folder, later_seconds)))
            for _ in range(count)
        ]


def domain_of(tree: SharedWritableTree) -> str:
    store = tree._store
    assert isinstance(store, WritingHsdsStore)
    return store._domains[0].name


def save(tree: WritableTree, path: bytes, array: np.ndarray[Any, Any]) -> None:
    """Write an array as `np.save` does; the error is that of `close`."""
    data = as_npy(array)
    try:
        handle = tree.create(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        tree.truncate(None, 0, handle)
        tree.write(handle, memoryview(data), 0)
        tree.flush(handle, 0)
    finally:
        tree.release(handle)


def as_npy(array: np.ndarray[Any, Any]) -> bytes:
    return format_header(array.dtype, array.shape) + array.tobytes()


def load(tree: WritableTree, path: bytes) -> np.ndarray[Any, Any]:
    handle = tree.open(path, os.O_RDONLY)
    try:
        data = tree.read(handle, 2**24, 0)
    finally:
        tree.release(handle)
    return np.load(io.BytesIO(data))  # type: ignore[no-any-return]


def append(tree: WritableTree, path: bytes, rows: np.ndarray[Any, Any]) -> None:
    """Write more rows, as a program does that appends to a `.npy` file."""
    handle = tree.open(path, os.O_RDWR)
    try:
        size = tree.get_status_of_handle(handle).size_bytes
        count = (size - len(format_header(rows.dtype, (0,)))) // rows.dtype.itemsize
        header = format_header(rows.dtype, (count + len(rows),))
        tree.write(handle, memoryview(rows.tobytes()), size)
        tree.write(handle, memoryview(header), 0)
        tree.flush(handle, 0)
    finally:
        tree.release(handle)


def names_in(tree: WritableTree) -> set[bytes]:
    return {dentry.name for dentry in tree.list_folder(b"/")}


def at_once(doings: list[Callable[[], Any]]) -> list[Any]:
    """Do things in threads that begin together; return what each returned, or its error."""
    barrier, results = threading.Barrier(len(doings)), [None] * len(doings)

    def run(number: int) -> None:
        barrier.wait(PATIENCE_SECONDS)
        try:
            results[number] = doings[number]()
        except H5fsError as error:
            results[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(doings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return results


def errnos(results: list[Any]) -> list[int]:
    return sorted(each.errno for each in results if isinstance(each, H5fsError))


@pytest.mark.semantics("R28", "G10")
@pytest.mark.parametrize("is_taken", [False, True])
def test_what_a_program_makes_anew_keeps_its_attributes_unless_another_mount_has_the_name(
    service: Service, tmp_path: Path, is_taken: bool
) -> None:
    with opened_trees(service, tmp_path, 2) as (tree, other):
        save(tree, b"/d.npy", np.arange(3))
        tree.change_attributes(b"/d.npy", {b"units": b"m"})
        tree.unlink(b"/d.npy", os.getpid())
        data = as_npy(np.arange(5))
        handle = tree.create(b"/d.npy", os.O_WRONLY | os.O_CREAT | os.O_EXCL, os.getpid())
        tree.write(handle, memoryview(data), 0)
        if is_taken:
            save(other, b"/d.npy", np.arange(2))
            with pytest.raises(ExistsError):
                tree.flush(handle, os.getpid())
        else:
            tree.flush(handle, os.getpid())
        tree.release(handle)
        names = {b"d.npy"} if is_taken else {b"d.npy", b"d.attrs.json"}
        for each in (tree, other):
            wait_until(lambda each=each: names_in(each) == names)  # a listing may be a second old
            assert len(load(each, b"/d.npy")) == (2 if is_taken else 5)


@pytest.mark.semantics("G11", "G12", "G13")
def test_of_what_four_mounts_write_at_once_nothing_is_lost(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path) as trees:
        save(trees[0], b"/d.npy", np.zeros(40, "<i8"))
        save(trees[0], b"/rows.npy", np.zeros(0, "<i8"))

        def write(number: int) -> None:
            tree = trees[number]
            handle = tree.open(b"/d.npy", os.O_RDWR)
            for at in range(number, 40, MOUNTS):
                value = np.array([at + 1], "<i8").tobytes()
                tree.write(handle, memoryview(value), 128 + 8 * at)
            tree.flush(handle, 0)
            tree.release(handle)
            for each in range(4):
                tree.change_attributes(b"/d.npy", {b"a%d.%d" % (number, each): b"1"})
            for each in range(4):
                rows = np.arange(5) + 1000 * number + 5 * each
                append(tree, b"/rows.npy", rows.astype("<i8"))

        problems = at_once([lambda number=n: write(number) for n in range(MOUNTS)])
        assert errnos(problems) == []
        for tree in trees:
            assert load(tree, b"/d.npy").tolist() == list(range(1, 41))
            rows = load(tree, b"/rows.npy").tolist()
            assert len(rows) == 80
            assert sorted(rows) == sorted(1000 * n + i for n in range(MOUNTS) for i in range(20))
            text = tree.get_xattr(b"/d.npy", b"user.a3.3")
            assert text == b"1"
            assert len([x for x in tree.list_xattrs(b"/d.npy") if x.startswith(b"user.a")]) == 16


@pytest.mark.semantics("G11")
def test_of_mapped_pages_those_elements_are_written_that_a_program_has_changed(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", np.zeros((50, 10), "<i4"))
        handles = [tree.open(b"/d.npy", os.O_RDWR) for tree in (one, two)]
        pages = [bytearray(tree.read(handle, 4096, 0)) for tree, handle in
                 zip((one, two), handles, strict=True)]  # fmt: skip
        for number, page in enumerate(pages):
            elements = np.frombuffer(page, "<i4", offset=128)
            elements[number::2] = number + 1
        for tree, handle, page in zip((one, two), handles, pages, strict=True):
            tree.write(handle, memoryview(page), 0, is_page=True)
        wanted = np.tile([1, 2], 250).reshape(50, 10)
        assert (load(two, b"/d.npy") == wanted).all()
        # What the kernel has, and was changed by others since, is not written back.
        later = np.frombuffer(pages[0], "<i4", offset=128)
        later[6] = 7
        one.write(handles[0], memoryview(pages[0]), 0, is_page=True)
        wanted.reshape(-1)[6] = 7
        assert (load(two, b"/d.npy") == wanted).all()
        for tree, handle in zip((one, two), handles, strict=True):
            tree.flush(handle, 0)
            tree.release(handle)


@pytest.mark.semantics("G10")
def test_of_mounts_that_make_one_name_the_first_one_has_it_and_the_others_are_told(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path) as trees:
        made = at_once([lambda tree=tree: tree.make_folder(b"/g") for tree in trees])
        assert errnos(made) == [errno.EEXIST] * (MOUNTS - 1)
        made = at_once(
            [lambda tree=tree: tree.make_symbolic_link(b"x.npy", b"/l.npy") for tree in trees]
        )
        assert errnos(made) == [errno.EEXIST] * (MOUNTS - 1)
        arrays = [np.full(1000, number) for number in range(MOUNTS)]
        barrier = threading.Barrier(MOUNTS)

        def make(number: int) -> None:
            tree = trees[number]
            handle = tree.create(b"/new.npy", os.O_WRONLY | os.O_CREAT)
            tree.write(handle, memoryview(as_npy(arrays[number])), 0)
            barrier.wait(PATIENCE_SECONDS)
            try:
                try:
                    tree.flush(handle, 0)
                except ExistsError:
                    tree.flush(handle, 0)  # numpy.save has a copy of the descriptor, too
            finally:
                tree.release(handle)

        results = at_once([lambda number=n: make(number) for n in range(MOUNTS)])
        winners = [number for number, each in enumerate(results) if each is None]
        assert len(winners) == 1
        assert errnos(results) == [errno.EEXIST] * (MOUNTS - 1)
        for tree in trees:
            assert (load(tree, b"/new.npy") == winners[0]).all()
    assert not (tmp_path / "left").exists()


@pytest.mark.semantics("G10")
def test_a_file_whose_name_another_mount_has_taken_since_its_open_replaces_nothing(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        handles = [tree.create(b"/d.npy", os.O_WRONLY | os.O_CREAT) for tree in (one, two)]
        for number, (tree, handle) in enumerate(zip((one, two), handles, strict=True)):
            tree.write(handle, memoryview(as_npy(np.full(10, number))), 0)
        one.flush(handles[0], 0)
        one.release(handles[0])
        for _ in range(2):  # numpy.save closes a copy of the descriptor first, and hears nothing
            with pytest.raises(ExistsError):
                two.flush(handles[1], 0)
        two.release(handles[1])
        for tree in (one, two):
            assert (load(tree, b"/d.npy") == 0).all()
        save(two, b"/d.npy", np.full(10, 1))  # it is there by now, and so is replaced
        assert (load(one, b"/d.npy") == 1).all()


@pytest.mark.semantics("G14")
def test_a_name_that_another_mount_is_replacing_is_not_free(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", np.zeros(10))
        assert (load(two, b"/d.npy") == 0).all()
        make, is_away = LinkChanges._make, threading.Event()

        def make_late(self: LinkChanges, group_id: str, name: bytes, body: Any) -> bool:
            if name == b"d" and threading.current_thread() is replacing:
                is_away.set()
                time.sleep(0.8)  # as on a crowded machine
            elif name == b"d":  # what the other mount has found out is old when it makes its link
                replacing.join(PATIENCE_SECONDS)
            return make(self, group_id, name, body)

        monkeypatch.setattr(LinkChanges, "_make", make_late)
        for is_opened_before in (True, False):
            value = 1 + is_opened_before
            is_away.clear()
            replacing = threading.Thread(target=save, args=(one, b"/d.npy", np.full(10, value)))
            if not is_opened_before:
                replacing.start()
                assert is_away.wait(PATIENCE_SECONDS)
            handle = two.create(b"/d.npy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            two.truncate(None, 0, handle)
            two.write(handle, memoryview(as_npy(np.full(10, 9))), 0)
            if is_opened_before:
                replacing.start()
                assert is_away.wait(PATIENCE_SECONDS)
            two.flush(handle, 0)
            two.release(handle)
            replacing.join(PATIENCE_SECONDS)
            for tree in (one, two):
                assert np.unique(load(tree, b"/d.npy")).tolist() in ([value], [9])
            time.sleep(1.1)  # what the trees know of the name is old then


@pytest.mark.semantics("G14")
def test_a_name_is_not_free_when_one_replacement_ends_and_the_next_begins_between_two_looks(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = LinkChanges._is_being_replaced, itertools.count()
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", np.zeros(10))
        assert (load(two, b"/d.npy") == 0).all()
        one.rename(b"/d.npy", b"/d.h5fs-replaced-0.npy")

        def look_between(self: LinkChanges, group_id: str, name: bytes) -> bool:
            number = next(looks)
            if number == 0:  # as if the replacement had begun after this look
                return False
            is_replaced = look(self, group_id, name)
            one.rename(b"/d.h5fs-replaced-0.npy", b"/d.npy")
            return is_replaced

        time.sleep(1.1)  # what the trees know of the name is old then
        monkeypatch.setattr(LinkChanges, "_is_being_replaced", look_between)
        save(two, b"/d.npy", np.ones(10))
        assert next(looks) == 2
        assert (load(one, b"/d.npy") == 1).all()


@pytest.mark.semantics("G14")
def test_an_array_that_is_gone_and_comes_again_while_it_is_written_anew_is_replaced(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, makes = LinkChanges.make, itertools.count()
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", np.zeros(10))
        handle = two.create(b"/d.npy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        two.truncate(None, 0, handle)
        two.write(handle, memoryview(as_npy(np.ones(10))), 0)
        one.rename(b"/d.npy", b"/e.npy")

        def make_late(self: LinkChanges, group_id: str, name: bytes, body: Any) -> None:
            if next(makes) == 0:
                monkeypatch.setattr(LinkChanges, "make", make)
                one.rename(b"/e.npy", b"/d.npy")
            make(self, group_id, name, body)

        monkeypatch.setattr(LinkChanges, "make", make_late)
        two.flush(handle, 0)
        two.release(handle)
        assert next(makes) == 1
        assert (load(one, b"/d.npy") == 1).all()


@pytest.mark.semantics("G14")
def test_an_array_that_two_mounts_replace_is_the_old_or_a_new_one_whole_at_any_time(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 3) as trees:
        save(trees[0], b"/d.npy", np.zeros(20_000, "<i8"))
        trees[0].change_attributes(b"/d.npy", {b"unit": b"m"})
        trees[0].make_hard_link(b"/d.npy", b"/again.npy")
        is_done = threading.Event()
        seen: set[tuple[int, ...]] = set()

        def replace(number: int) -> None:
            for each in range(4):
                save(trees[number], b"/d.npy", np.full(20_000, 10 * number + each))

        def look() -> None:
            while not is_done.is_set():
                try:
                    seen.add(tuple(np.unique(load(trees[2], b"/d.npy")).tolist()))
                except H5fsError as error:
                    assert error.errno in (errno.ENOENT, errno.ESTALE)

        looking = threading.Thread(target=look)
        looking.start()
        results = at_once([lambda: replace(0), lambda: replace(1)])
        is_done.set()
        looking.join(PATIENCE_SECONDS)
        assert errnos(results) == []
        assert all(len(values) == 1 for values in seen)
        last = load(trees[2], b"/d.npy")
        assert np.unique(last).tolist() in ([3], [13])
        assert trees[1].get_xattr(b"/d.npy", b"user.unit") == b"m"
        wait_until(lambda: names_in(trees[2]) == {b"d.npy", b"d.attrs.json", b"again.npy",
                                                b"again.attrs.json"})  # fmt: skip


@pytest.mark.semantics("G14")
def test_a_service_that_fails_while_a_link_is_replaced_leaves_the_old_one_under_a_name(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with opened_trees(service, tmp_path, 1) as (tree,):
        save(tree, b"/d.npy", np.arange(5))
        change = Client.change
        puts = itertools.count()

        def failing(self: Client, method: str, path: str, *rest: Any) -> int:
            if method == "PUT" and path.endswith("/links") and next(puts) >= 1:
                raise UnreadableError("the service has failed")
            return change(self, method, path, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Client, "change", failing)
            with pytest.raises(H5fsError) as raised:
                save(tree, b"/d.npy", np.arange(9))
            assert raised.value.errno == errno.EIO
        (left,) = [name for name in names_in(tree) if b".h5fs-replaced-" in name]
        assert load(tree, b"/" + left).tolist() == [0, 1, 2, 3, 4]
        assert "rename it back" in caplog.text


@pytest.mark.semantics("G12")
def test_rows_that_a_dataset_cannot_take_are_refused_and_what_others_wrote_stays(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 1) as (tree,):
        domain = domain_of(tree)
        root = service.ask("GET", "/", domain)["root"]
        integer = {"class": "H5T_INTEGER", "base": "H5T_STD_I64LE"}
        body = {"type": integer, "shape": [4], "link": {"id": root, "name": "d"}}
        service.ask("POST", "/datasets", domain, body)
        with pytest.raises(H5fsError) as raised:
            append(tree, b"/d.npy", np.arange(3))
        assert raised.value.errno == errno.EINVAL
        assert load(tree, b"/d.npy").tolist() == [0] * 4


@pytest.mark.semantics("G13")
def test_attributes_that_others_have_set_meanwhile_stay(service: Service, tmp_path: Path) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", np.arange(3))
        one.change_attributes(b"/d.npy", {b"kept": b"1", b"gone": b"2"})
        handle = one.open(b"/d.attrs.json", os.O_RDWR)
        two.change_attributes(b"/d.npy", {b"new": b"3", b"kept": b"9"})
        one.truncate(None, 0, handle)
        one.write(handle, memoryview(b'{"kept": 1, "own": 5}'), 0)
        one.flush(handle, 0)
        one.release(handle)
        found = {name: two.get_xattr(b"/d.npy", b"user." + name) for name in
                 (b"kept", b"new", b"own")}  # fmt: skip
        assert found == {b"kept": b"9", b"new": b"3", b"own": b"5"}
        assert b"user.gone" not in two.list_xattrs(b"/d.npy")


@pytest.mark.semantics("G15", "G17")
def test_what_no_link_leads_to_is_deleted_and_what_waits_is_each_mounts_own(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        domain = domain_of(one)
        save(one, b"/d.npy", np.arange(3))
        one.make_hard_link(b"/d.npy", b"/again.npy")
        for path, text in ((b"/late.attrs.json", b'{"a": 1}'), (b"/x.npy~", b"")):
            handle = one.create(path, os.O_WRONLY | os.O_CREAT)
            one.write(handle, memoryview(text), 0)
            one.flush(handle, 0)
            one.release(handle)
        wait_until(lambda: names_in(two) == {b"d.npy", b"again.npy"})
        two.unlink(b"/d.npy")
        two.close()
        assert load(one, b"/again.npy").tolist() == [0, 1, 2]
        one.unlink(b"/again.npy")
        save(one, b"/late.npy", np.arange(2))
        assert one.get_xattr(b"/late.npy", b"user.a") == b"1"
        one.close()
        objects = service.ask("GET", "/datasets", domain)["datasets"]
        assert len(objects) == 1
