"""Files that are open while they are replaced or removed and workers die: without a mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.stores import open_store
from support.trees import (
    kill_worker,
    killed_tree,
    names,
    read,
    read_handle,
    save,
    store_of,
    writable_tree,
)
from support.writing import make_file

from h5fs.errors import (
    H5fsError,
    InvalidArrayError,
    InvalidNameError,
    NoSpaceError,
    NotFoundError,
)
from h5fs.model.link_table import Links
from h5fs.model.settings import StoreOptions
from h5fs.store.hidden_names import HIDDEN_GROUP, HIDDEN_PATH
from h5fs.tree import Tree, WritableTree

OLD = np.arange(5000, dtype="<f8")
NEW = np.array([[1, 2], [3, 4]], "<i2")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = make_file(tmp_path / "f.h5", d=OLD, e=OLD + 1)
    with h5py.File(file, "a") as opened:
        opened.create_group("g")
        opened["h"] = OLD + 2
        opened["g/h"] = opened["h"]
    return file


def rename_over(tree: WritableTree) -> None:
    save(tree, b"/.t", npy_bytes(NEW))
    tree.rename(b"/.t", b"/d.npy")


def move_over(tree: WritableTree) -> None:
    tree.rename(b"/e.npy", b"/d.npy")


def save_over(tree: WritableTree) -> None:
    save(tree, b"/d.npy", npy_bytes(NEW))


def save_alike(tree: WritableTree) -> None:
    save(tree, b"/d.npy", npy_bytes(OLD[::-1].copy()))


def remove(tree: WritableTree) -> None:
    tree.unlink(b"/d.npy")


def rename_away(tree: WritableTree) -> None:
    tree.rename(b"/d.npy", b"/g/x.npy")


def rename_to_scratch(tree: WritableTree) -> None:
    tree.rename(b"/d.npy", b"/d.npy~")


CHANGES = [
    rename_over, move_over, save_over, save_alike, remove, rename_away, rename_to_scratch
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.semantics("R10", "R20")
def test_a_reader_goes_on_after_a_replacement_and_the_workers_death(
    file: Path, change: Callable[[WritableTree], None]
) -> None:
    with writable_tree(file) as tree:
        first, second = tree.open(b"/d.npy", os.O_RDONLY, 1), tree.open(b"/d.npy", os.O_RDONLY, 2)
        change(tree)
        assert read_handle(tree, first) == npy_bytes(OLD)
        kill_worker(tree)
        assert read_handle(tree, first) == npy_bytes(OLD)
        tree.release(first)
        kill_worker(tree)
        assert read_handle(tree, second) == npy_bytes(OLD)
        tree.release(second)
    with h5py.File(file) as opened:
        assert set(opened) <= {"d", "e", "g", "h"}


@pytest.mark.semantics("R20")
def test_a_reader_of_one_of_several_names_goes_on_when_that_name_is_gone(file: Path) -> None:
    with writable_tree(file) as tree:
        handle = tree.open(b"/h.npy", os.O_RDONLY, 1)
        tree.unlink(b"/h.npy")
        assert tree.get_status(b"/g/h.npy").hard_link_count == 1
        kill_worker(tree)
        assert read_handle(tree, handle) == npy_bytes(OLD + 2)
        tree.unlink(b"/g/h.npy")
        kill_worker(tree)
        assert read_handle(tree, handle) == npy_bytes(OLD + 2)
        tree.release(handle)
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "e", "g"}


def make_and_sync(tree: WritableTree) -> int:
    handle = tree.create(b"/n.npy", os.O_RDWR, 1)
    tree.write(handle, memoryview(npy_bytes(OLD)), 0)
    tree.fsync(handle)
    return handle


def make_and_close_once(tree: WritableTree) -> int:
    handle = tree.create(b"/n.npy", os.O_RDWR, 1)
    tree.write(handle, memoryview(npy_bytes(OLD)), 0)
    tree.flush(handle, 1)  # one of two descriptors
    return handle


def open_and_let_others_replace(tree: WritableTree) -> int:
    save(tree, b"/n.npy", npy_bytes(NEW))
    reader = tree.open(b"/n.npy", os.O_RDONLY, 2)
    handle = tree.open(b"/n.npy", os.O_RDWR, 1)
    save(tree, b"/n.npy", npy_bytes(OLD))  # another dataset, since the reader goes on
    tree.release(reader)
    return handle


@pytest.mark.semantics("R20")
@pytest.mark.parametrize(
    "opened_by", [make_and_sync, make_and_close_once, open_and_let_others_replace]
)
@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_was_written_since_it_was_opened_outlives_its_name(
    file: Path, opened_by: Callable[[WritableTree], int], is_replaced: bool
) -> None:
    with writable_tree(file) as tree:
        handle = opened_by(tree)
        if is_replaced:
            tree.rename(b"/e.npy", b"/n.npy")
        else:
            tree.unlink(b"/n.npy")
        for number in range(5):  # takes the room of what is gone
            save(tree, b"/other%d.npy" % number, npy_bytes(OLD + 7))
        kill_worker(tree)
        assert read_handle(tree, handle) == npy_bytes(OLD)
        tree.write(handle, memoryview(npy_bytes(OLD + 9)), 0)
        tree.release(handle)
        for number in range(5):
            assert read(tree, b"/other%d.npy" % number) == npy_bytes(OLD + 7)
        hidden = store_of(tree).hidden_group()
        assert hidden is not None and not len(Links(store_of(tree).list_links(hidden)))


def rename_new(tree: WritableTree) -> bytes:
    rename_over(tree)
    return npy_bytes(NEW)


def rename_back(tree: WritableTree) -> bytes:
    tree.rename(b"/d.npy~", b"/d.npy")
    return npy_bytes(OLD)


def rename_another(tree: WritableTree) -> bytes:
    move_over(tree)
    return npy_bytes(OLD + 1)


@pytest.mark.semantics("R20")
@pytest.mark.parametrize("replace", [rename_new, rename_back, rename_another])
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_what_is_written_to_a_file_that_another_one_has_replaced_goes_nowhere(
    file: Path, replace: Callable[[WritableTree], bytes], flags: int
) -> None:
    with writable_tree(file) as tree:
        if replace is rename_back:
            tree.rename(b"/d.npy", b"/d.npy~")
            save(tree, b"/d.npy", npy_bytes(NEW))
        handle = tree.open(b"/d.npy", flags, 1)
        tree.truncate(None, 0, handle)
        tree.write(handle, memoryview(npy_bytes(OLD + 5)), 0)
        wanted = replace(tree)
        assert read(tree, b"/d.npy") == wanted
        tree.flush(handle, 1)
        assert read_handle(tree, handle) == npy_bytes(OLD + 5)
        assert tree.get_status_of_handle(handle, has_name=False).hard_link_count == 0
        tree.release(handle)
        assert read(tree, b"/d.npy") == wanted


@pytest.mark.semantics("R20")
def test_attributes_that_are_written_to_a_replaced_file_go_nowhere(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/d.attrs.json", b'{"old": 1}')
        for number, name in enumerate((b"/.t", b"/e.attrs.json")):
            handle = tree.open(b"/d.attrs.json", os.O_WRONLY | os.O_TRUNC, 1)
            tree.write(handle, memoryview(b'{"late": 1}'), 0)
            save(tree, name, b'{"n": %d}' % number)
            tree.rename(name, b"/d.attrs.json")
            tree.flush(handle, 1)
            tree.release(handle)
            assert read(tree, b"/d.attrs.json") == b'{\n  "n": %d\n}\n' % number


@pytest.mark.semantics("R17", "R20")
@pytest.mark.parametrize("is_written_before", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_what_is_open_to_write_gets_its_temporary_name(
    file: Path, is_written_before: bool, is_new: bool
) -> None:
    new = npy_bytes(NEW)
    with writable_tree(file) as tree:
        handle = tree.open(b"/d.npy", os.O_RDWR, 1)
        if is_written_before:
            tree.truncate(None, 0, handle)
            tree.write(handle, memoryview(new), 0)
        tree.rename(b"/d.npy", b"/d.npy~")
        if not is_written_before:
            assert read_handle(tree, handle) == npy_bytes(OLD)
            tree.truncate(None, 0, handle)
            tree.write(handle, memoryview(new), 0)
        if is_new:
            save(tree, b"/d.npy", npy_bytes(OLD + 1))
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy~") == new
        if is_new:
            assert read(tree, b"/d.npy") == npy_bytes(OLD + 1)
        else:
            assert b"d.npy" not in names(tree)
        tree.rename(b"/d.npy~", b"/d.npy")
        assert read(tree, b"/d.npy") == new
        hidden = store_of(tree).hidden_group()
        assert hidden is not None and not len(Links(store_of(tree).list_links(hidden)))


@pytest.mark.semantics("R6", "R17")
@pytest.mark.parametrize("is_open_before", [False, True])
def test_elements_of_an_array_with_a_temporary_name_are_written_in_place(
    file: Path, is_open_before: bool
) -> None:
    changed = OLD.copy()
    changed[1] = 5
    with writable_tree(file) as tree:
        handle = tree.open(b"/d.npy", os.O_RDWR, 1) if is_open_before else 0
        tree.rename(b"/d.npy", b"/d.npy~")
        handle = handle or tree.open(b"/d.npy~", os.O_RDWR, 1)
        tree.write(handle, memoryview(changed[1:2].tobytes()), 128 + 8)
        tree.flush(handle, 1)
        assert read_handle(tree, handle) == npy_bytes(changed)
        tree.release(handle)
        tree.rename(b"/d.npy~", b"/d.npy")
        assert read(tree, b"/d.npy") == npy_bytes(changed)


REFUSED = {
    "null": np.array(["a\0b", "c"]),
    "field": np.array([(1, "a\0b")], [("i", "<i4"), ("s", "<U3")]),
    "surrogate": np.array([0xD800], "<u4").view("<U1"),
    "number": np.array([0x110000], "<u4").view("<U1"),
    "null in a subarray": np.array([(["a\0b", "c"],)], [("s", "<U3", (2,))]),
    "big-endian": np.array(["a\0b", "c"]).astype(">U3"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", [b"/new.npy", b"/e.npy", b"/text.npy"])
@pytest.mark.semantics("R3", "R8")
def test_a_refused_array_leaves_the_worker_and_other_readers_alone(
    file: Path, name: str, path: bytes
) -> None:
    with h5py.File(file, "a") as opened:
        opened.create_dataset("text", data=["x", "y"], dtype=h5py.string_dtype())
    with writable_tree(file) as tree:
        handle = tree.open(b"/d.npy", os.O_RDONLY, 1)
        remove(tree)
        pids = store_of(tree)._pool.worker_pids()
        with pytest.raises(InvalidArrayError):
            save(tree, path, npy_bytes(REFUSED[name]))
        assert store_of(tree)._pool.worker_pids() == pids
        assert read_handle(tree, handle) == npy_bytes(OLD)
        tree.release(handle)


@pytest.mark.semantics("R8")
def test_refused_text_in_place_leaves_the_worker_alone(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened.create_dataset(
            "text", data=["x", "yz"], dtype=h5py.string_dtype(), maxshape=(None,), chunks=(2,)
        )
    with writable_tree(file) as tree:
        pids = store_of(tree)._pool.worker_pids()
        handle = tree.open(b"/text.npy", os.O_RDWR, 1)
        size = tree.get_status_of_handle(handle).size_bytes
        tree.write(handle, memoryview(b"\0\0\0\0y\0\0\0"), size - 8)
        with pytest.raises(InvalidArrayError):
            tree.flush(handle, 1)
        tree.release(handle)
        assert store_of(tree)._pool.worker_pids() == pids
    with h5py.File(file) as opened:
        assert opened["text"].asstr()[()].tolist() == ["x", "yz"]


@pytest.mark.semantics("R12")
def test_refused_sequences_leave_the_worker_alone(file: Path) -> None:
    with writable_tree(file) as tree:
        save(tree, b"/s.values.npy", npy_bytes(np.arange(5.0)))
        pids = store_of(tree)._pool.worker_pids()
        for offsets in ([0, 3], [0, 4, 2, 5], [1, 5], [0, 2**40, 5]):
            with pytest.raises(InvalidArrayError):
                save(tree, b"/s.offsets.npy", npy_bytes(np.array(offsets)))
        assert store_of(tree)._pool.worker_pids() == pids
        save(tree, b"/s.offsets.npy", npy_bytes(np.array([0, 2, 5])))
    with h5py.File(file) as opened:
        assert [list(each) for each in opened["s"]] == [[0, 1], [2, 3, 4]]


@pytest.mark.semantics("R20")
def test_an_error_is_no_size(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writable_tree(file) as tree:
        handle = tree.open(b"/d.npy", os.O_RDONLY, 1)
        size = len(npy_bytes(OLD))

        def fail(*_arguments: object, **_others: object) -> object:
            raise H5fsError("no worker")

        with monkeypatch.context() as patched:
            tree._lookup.forget()
            patched.setattr(store_of(tree)._pool, "call", fail)
            with suppress(H5fsError):
                assert tree.get_status_of_handle(handle).size_bytes == size
        tree.release(handle)


@pytest.mark.semantics("R20", "U15")
def test_what_is_open_without_a_name_is_nowhere_to_be_seen(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened["refers"] = 1
        opened["refers"].attrs["to"] = opened["d"].ref
        opened["into"] = h5py.SoftLink(HIDDEN_PATH.decode())
    before = {b"e.npy", b"g", b"h.npy", b"refers.npy", b"refers.attrs.json", b"into"}
    with killed_tree(file) as tree:
        handle = tree.open(b"/d.npy", os.O_RDONLY, 1)
        remove(tree)
        assert names(tree) == before
        with pytest.raises(NotFoundError):
            tree.get_status(HIDDEN_PATH)
        assert b"h5fs-hidden" not in read(tree, b"/refers.attrs.json")
        with pytest.raises(InvalidNameError):
            save(tree, HIDDEN_PATH + b".npy", npy_bytes(OLD))
        tree.unlink(HIDDEN_PATH + b".npy")
        with pytest.raises(InvalidNameError):
            tree.rename(b"/e.npy", HIDDEN_PATH + b".npy")
        with pytest.raises(InvalidNameError):
            tree.make_hard_link(b"/e.npy", HIDDEN_PATH + b".npy")
        with pytest.raises(InvalidNameError):
            store_of(tree).create_group(store_of(tree).root().ref, HIDDEN_GROUP)
        tree.make_folder(HIDDEN_PATH)  # outside of the HDF5 file, as all hidden folders
        assert names(tree, HIDDEN_PATH) == set()
        tree.remove_folder(HIDDEN_PATH)
        with pytest.raises(NotFoundError):
            tree.get_status(HIDDEN_PATH + b".npy")
        assert read_handle(tree, handle) == npy_bytes(OLD)
    store = open_store(StoreOptions(file))
    reading = Tree(store)
    try:
        assert {each.name for each in reading.list_folder(b"/")} == before
        with pytest.raises(NotFoundError):
            reading.get_status(HIDDEN_PATH)
    finally:
        store.close()
    with writable_tree(file) as tree:
        assert names(tree) == before
    with h5py.File(file) as opened:
        assert set(opened) == {"e", "g", "h", "refers", "into"}


@pytest.mark.semantics("R17", "U3")
def test_a_dataset_with_a_temporary_name_survives_a_kill(file: Path) -> None:
    with killed_tree(file) as tree:
        tree.rename(b"/d.npy", b"/d.npy~")
        tree.rename(b"/g/h.npy", b"/g/x.tmp")
        tree.rename(b"/g/x.tmp", b"/g/y.tmp")
    with killed_tree(file) as tree:
        assert names(tree) == {b"d.npy~", b"e.npy", b"g", b"h.npy"}
        assert read(tree, b"/d.npy~") == npy_bytes(OLD)
        assert names(tree, b"/g") == {b"y.tmp"}
        tree.unlink(b"/g/y.tmp")
    with writable_tree(file) as tree:
        assert names(tree, b"/g") == set()
        tree.rename(b"/d.npy~", b"/d.npy")
        assert read(tree, b"/d.npy") == npy_bytes(OLD)
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "e", "g", "h"}
        assert list(opened["g"]) == []
    assert not file.with_name("f.h5.h5fs-left").exists()


@pytest.mark.semantics("R17", "U3")
def test_a_temporary_name_takes_the_place_of_another(file: Path) -> None:
    with killed_tree(file) as tree:
        tree.rename(b"/d.npy", b"/d.npy~")
        tree.rename(b"/e.npy", b"/d.npy~")  # straight over it
        tree.rename(b"/g/h.npy", b"/x.tmp")
        save(tree, b"/d.npy", npy_bytes(NEW))
        tree.rename(b"/d.npy", b"/y.tmp")
        tree.rename(b"/x.tmp", b"/y.tmp")  # from one such name over another
        tree.make_folder(b"/.Trash-0")
        tree.make_folder(b"/.Trash-0/files")
        tree.rename(b"/h.npy", b"/.Trash-0/files/h.npy")
    with writable_tree(file) as tree:
        assert names(tree) == {b"d.npy~", b"g", b"y.tmp", b".Trash-0"}
        assert read(tree, b"/d.npy~") == npy_bytes(OLD + 1)
        assert read(tree, b"/y.tmp") == npy_bytes(OLD + 2)
        assert read(tree, b"/.Trash-0/files/h.npy") == npy_bytes(OLD + 2)
        tree.rename(b"/d.npy~", b"/d.npy")
        tree.rename(b"/y.tmp", b"/y.npy")
        tree.rename(b"/.Trash-0/files/h.npy", b"/h.npy")
    with h5py.File(file) as opened:
        assert set(opened) == {"d", "g", "h", "y"}
        assert opened["h"] == opened["y"]


@pytest.mark.semantics("R18")
def test_a_dataset_that_keeps_a_temporary_name_is_saved_beside_the_file(file: Path) -> None:
    with writable_tree(file) as tree:
        tree.rename(b"/d.npy", b"/d.npy~")
    with h5py.File(file) as opened:
        assert set(opened) == {"e", "g", "h"}
    assert (file.with_name("f.h5.h5fs-left") / "d.npy~").read_bytes() == npy_bytes(OLD)


def test_reading_starts_no_clock(file: Path) -> None:
    with writable_tree(file, commit_seconds=60) as tree:
        read(tree, b"/d.npy")
        assert store_of(tree)._changed_at is None
        assert store_of(tree).statistics().uncommitted == (
            type(store_of(tree).statistics().uncommitted)(0, 0, None, 0)
        )


@pytest.mark.semantics("R16")
@pytest.mark.parametrize("path", [b"/d.npy", b"/d.attrs.json", b"/new.npy"])
def test_times_that_are_set_before_the_close_stay(file: Path, path: bytes) -> None:
    data = b'{"a": 1}' if path.endswith(b"json") else npy_bytes(NEW)
    with writable_tree(file) as tree:
        save(tree, path, data)
        handle = tree.open(path, os.O_WRONLY | os.O_TRUNC, 1)
        tree.write(handle, memoryview(data), 0)
        tree.set_times(path, 5 * 10**9, 7 * 10**9)  # as `cp -a` does
        tree.flush(handle, 1)
        tree.release(handle)
        status = tree.get_status(path)
        assert (status.atime_ns, status.mtime_ns) == (5 * 10**9, 7 * 10**9)


@pytest.mark.semantics("R21")
@pytest.mark.parametrize("change", [remove, move_over])
def test_what_is_written_stays_when_the_name_cannot_go(
    file: Path, change: Callable[[WritableTree], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise NoSpaceError("the disk is full")

    with writable_tree(file) as tree:
        handle = tree.open(b"/d.npy", os.O_WRONLY | os.O_TRUNC, 1)
        tree.write(handle, memoryview(npy_bytes(NEW)), 0)
        with monkeypatch.context() as patch, pytest.raises(NoSpaceError):
            patch.setattr(store_of(tree), "delete_link", fail)
            patch.setattr(store_of(tree), "move_link", fail)
            change(tree)
        tree.flush(handle, 1)
        tree.release(handle)
        assert read(tree, b"/d.npy") == npy_bytes(NEW)
        assert b"e.npy" in names(tree)


@pytest.mark.semantics("R4")
@pytest.mark.parametrize("rows", [9, 1000, 3000, 5000])
def test_a_temporary_name_shows_what_was_written_by_the_other_name(
    tmp_path: Path, rows: int
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("b", data=np.arange(3000.0), chunks=(500,), maxshape=(None,))
    new = npy_bytes(np.full((rows,), 7.0))
    with writable_tree(tmp_path / "f.h5") as tree:
        tree.make_hard_link(b"/b.npy", b"/a.npy.tmp")
        save(tree, b"/b.npy", new)
        assert read(tree, b"/a.npy.tmp") == new
        assert tree.get_status(b"/a.npy.tmp").size_bytes == len(new)
        tree.rename(b"/a.npy.tmp", b"/a.npy")
        assert read(tree, b"/a.npy") == read(tree, b"/b.npy") == new


@pytest.mark.semantics("R2")
def test_a_reference_to_what_is_gone_is_in_the_way_of_nothing_new(file: Path) -> None:
    """The library keeps what it has read at the address of a removed object, and has no room there
    for a new one."""
    with h5py.File(file, "a") as opened:
        opened["r"] = np.array([opened["d"].ref], h5py.ref_dtype)
    with writable_tree(file) as tree:
        tree.unlink(b"/d.npy")
        for number in range(3):
            assert read(tree, b"/r.npy")
            save(tree, b"/new%d.npy" % number, npy_bytes(NEW))
    with h5py.File(file) as opened:
        assert {"new0", "new1", "new2"} <= set(opened)
