"""Which statuses the kernel may keep: what only calls change that name the very path."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import save, writable_tree

from h5fs.tree.dentries import Dentries
from h5fs.tree.writing.writable_tree import WritableTree

ARRAY = npy_bytes(np.arange(6.0))
YEAR_2001_S = 10**9


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableTree]:
    file = tmp_path_factory.mktemp("lasting") / "f.h5"
    with h5py.File(file, "w") as opened:
        for name in ("a", "b", "two", "d/a", "g1/a", "noted"):
            opened[name] = np.arange(5)
        opened["other"] = opened["two"]
        opened["g2"] = opened["g1"]
        opened["soft"] = h5py.SoftLink("/a")
        opened["far"] = h5py.ExternalLink("far.h5", "/x")
        opened["noted"].attrs["k"] = 1
        opened["text"] = ["a", "bcd"]
        layout = h5py.VirtualLayout((5,), "i8")
        layout[:] = h5py.VirtualSource(".", "a", (5,))
        opened.create_virtual_dataset("virtual", layout)
        opened.create_dataset("kept", data=np.arange(3), track_times=True)
    with h5py.File(file.with_name("far.h5"), "w") as opened:
        opened["x"] = np.arange(3)
    with writable_tree(file) as tree:
        yield tree


def lasts(tree: WritableTree, path: str) -> bool:
    return tree.get_lasting_status(path.encode())[1]


def listed(tree: WritableTree, folder: str) -> dict[str, list[int] | None]:
    """Return what a listing says of size, times and mode of its files; None for nothing."""
    found: Dentries = tree.list_folder(folder.encode())
    rows = found.rows
    fields = ("inode", "mode", "size_bytes", "mtime_ns", "ctime_ns")
    return {
        name.decode(): status if has_status else None
        for name, has_status, *status in zip(
            found.names,
            rows["has_status"].tolist(),
            *(rows[name].tolist() for name in fields),
            strict=True,
        )
    }


@pytest.mark.semantics("R23")
@pytest.mark.parametrize("is_listed", [False, True])
def test_only_what_other_names_cannot_change_is_kept(tree: WritableTree, is_listed: bool) -> None:
    if is_listed:
        assert listed(tree, "/")["a.npy"] is not None
        for folder in ("/d", "/g1"):
            tree.list_folder(folder.encode())
    kept = {path: lasts(tree, path) for path in (
        "/a.npy", "/d/a.npy", "/d", "/noted.npy", "/kept.npy",
        "/two.npy", "/other.npy", "/g1", "/g2", "/g1/a.npy", "/g2/a.npy", "/soft", "/far.npy",
        "/noted.attrs.json", "/text.npy", "/virtual.npy",
    )}  # fmt: skip
    assert [path for path, is_kept in kept.items() if is_kept] == [
        "/a.npy", "/d/a.npy", "/d", "/noted.npy", "/kept.npy",
    ]  # fmt: skip


@pytest.mark.semantics("R23")
def test_a_listing_has_the_statuses_that_stat_gives(tree: WritableTree) -> None:
    tree.set_times(b"/b.npy", YEAR_2001_S * 10**9, YEAR_2001_S * 10**9 + 5)
    for folder in ("/", "/d/", "/g1/"):
        for name, row in listed(tree, folder.rstrip("/") or "/").items():
            status, is_kept = tree.get_lasting_status((folder + name).encode())
            if row is not None:
                assert is_kept, name
                assert row == [
                    status.inode, status.mode, status.size_bytes, status.mtime_ns, status.ctime_ns,
                ]  # fmt: skip
    assert listed(tree, "/")["b.npy"] is not None
    assert listed(tree, "/g1")["a.npy"] is None


@pytest.mark.semantics("R23")
def test_what_is_being_written_is_kept_again_afterwards(tree: WritableTree) -> None:
    handle = tree.open(b"/b.npy", 2)
    assert not lasts(tree, "/b.npy")
    assert listed(tree, "/")["b.npy"] is None
    assert lasts(tree, "/a.npy")
    before = tree.version()
    tree.write(handle, memoryview(ARRAY), 0)
    tree.flush(handle, 0)
    tree.release(handle)
    changed = tree.changed_since(before)
    assert changed is not None and tree.get_status(b"/b.npy").inode in changed
    assert tree.get_status(b"/a.npy").inode not in changed
    assert lasts(tree, "/b.npy")


@pytest.mark.semantics("R23", "R16")
def test_the_time_of_an_array_does_not_move_with_its_attributes(tree: WritableTree) -> None:
    before = tree.get_status(b"/kept.npy")
    while int(time.time()) <= before.mtime_ns // 10**9:  # the header has seconds
        time.sleep(0.05)
    save(tree, b"/kept.attrs.json", b'{"a": 1}')
    assert tree.get_status(b"/kept.npy") == before


@pytest.mark.semantics("R23", "R16")
def test_a_folder_whose_group_keeps_times_lasts_and_they_do_not_move_with_others(
    tree: WritableTree,
) -> None:
    tree.make_folder(b"/timed")
    tree.make_folder(b"/timed/inner")
    for name in (b"x", b"inner/x", b"inner/y"):
        save(tree, b"/timed/" + name + b".npy", ARRAY)
    save(tree, b"/timed/inner/.attrs.json", b'{"a": 0}')
    found = tree._lookup.find(b"/timed/inner")
    assert found.info.mtime, "groups that are made here keep times"
    tree._pending.forget_times(found.inode)  # as those that were set long ago
    before, is_kept = tree.get_lasting_status(b"/timed/inner")
    assert is_kept
    while int(time.time()) <= found.info.atime:  # the header has seconds
        time.sleep(0.05)
    save(tree, b"/timed/inner/x.npy", npy_bytes(np.arange(99)))
    save(tree, b"/timed/inner/.attrs.json", b'{"a": 1}')
    tree._lookup.forget()
    assert tree._lookup.find(b"/timed/inner").info.atime > found.info.atime
    assert tree.get_status(b"/timed/inner") == before
    save(tree, b"/timed/inner/new.npy", ARRAY)
    assert tree.get_status(b"/timed/inner").mtime_ns > before.mtime_ns


@pytest.mark.semantics("R23")
def test_a_new_file_s_status_is_kept_by_who_has_it_open_until_it_is_in_the_hdf5_file(
    tree: WritableTree,
) -> None:
    def lasts_open(handle: int, *, has_name: bool = True) -> bool:
        status, is_kept = tree.get_lasting_status_of_handle(handle, has_name=has_name)
        assert status == tree.get_status_of_handle(handle, has_name=has_name)
        return is_kept

    for name in (b"/new.npy", b"/new.attrs.json", b"/.scratch"):
        handle = tree.create(name, os.O_WRONLY | os.O_TRUNC, 1)
        assert lasts_open(handle) and not lasts(tree, name.decode())
        tree.write(handle, memoryview(ARRAY if name.endswith(b".npy") else b"{}"), 0)
        assert lasts_open(handle)
        tree.flush(handle, 1)
        assert lasts_open(handle) is (name == b"/.scratch"), name
        tree.unlink(name) if name != b"/new.attrs.json" else None
        assert not lasts_open(handle, has_name=False)
        tree.release(handle)
    handle = tree.open(b"/b.npy", os.O_RDWR, 1)
    assert not lasts_open(handle)
    tree.release(handle)
    tree.rename(b"/d/a.npy", b"/d/.a.npy")  # a dataset, which keeps its number
    handle = tree.open(b"/d/.a.npy", os.O_RDWR, 1)
    assert not lasts_open(handle)
    tree.release(handle)
    tree.rename(b"/d/.a.npy", b"/d/a.npy")
