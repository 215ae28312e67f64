"""The parts of the writing tree: each by itself, over a store in memory that keeps the promise."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.memory_store import MemoryStore
from support.reference import npy_bytes
from support.trees import names, read, save

import h5fs.tree.writing
from h5fs.errors import (
    BadHandleError,
    CrossFileError,
    ExistsError,
    H5fsError,
    InvalidNameError,
    IsAGroupError,
    NotEmptyError,
    NotFoundError,
)
from h5fs.model.objects import ObjectRef
from h5fs.store.interface import WritingStore
from h5fs.tree import Tree, WritableTree
from h5fs.tree.writing.commits import Commits
from h5fs.tree.writing.files_of_array import FilesOfArrays
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.name_rules import NameRules
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.names.scratch_entries import ScratchEntry
from h5fs.tree.writing.opened_files import OpenedFile, OpenedFiles
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.remakings import Remakings
from h5fs.tree.writing.removals import Removals
from h5fs.tree.writing.renames import Renames
from h5fs.tree.writing.statuses import Statuses

ROOM = Path(h5fs.tree.writing.__file__).parent
ARRAY = npy_bytes(np.arange(5.0))
SOURCES = {each.stem: ast.parse(each.read_text(encoding="utf-8")) for each in ROOM.glob("*.py")}


class Parts:
    """Parts put together by hand, over a store with a group ``g`` and a dataset ``d``."""

    def __init__(self, *, takes_scratch: bool = True) -> None:
        self.store = MemoryStore()
        tree = WritableTree(self.store)  # type: ignore[arg-type]
        tree.make_folder(b"/g")
        save(tree, b"/d.npy", ARRAY)
        store: Any = self.store
        self.pending = Pending()
        self.lookup = Tree(store).lookup
        self.places = Places(self.pending, self.lookup)
        self.opened = OpenedFiles()
        self.rules = NameRules(
            self.pending, self.lookup, self.places, takes_scratch=takes_scratch, mountpoint=b"/m"
        )
        self.keeper = Keeper(store, self.pending, self.lookup, self.places)
        self.statuses = Statuses(
            self.pending, self.lookup, self.places, self.opened, self.keeper, lambda _path: None
        )
        in_flight = ChangesInFlight()
        others = FilesOfArrays(store, self.pending, self.lookup, self.opened, self.keeper)
        remakings = Remakings(store, self.pending, self.lookup, self.places)
        self.commits = Commits(
            store, self.pending, self.lookup, self.places, self.opened, self.keeper, others,
            remakings, in_flight,
        )  # fmt: skip
        self.removals = Removals(
            store, self.pending, self.lookup, self.places, self.keeper, remakings, in_flight
        )
        self.renames = Renames(
            store, self.pending, self.lookup, self.places, self.rules, self.keeper, self.commits,
            self.removals,
        )  # fmt: skip
        self.store.calls.clear()

    def stage(self, path: bytes, data: bytes) -> WritableFile:
        file = WritableFile(path, inode=self.pending.new_inode())
        file.begin(empty=True).write(data, 0)
        self.pending.stage(file)
        return file


@pytest.fixture
def parts() -> Parts:
    return Parts()


# How they are put together.


def private_names_of_others(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and not (isinstance(node.value, ast.Name) and node.value.id == "self")
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize("module", SOURCES)
def test_no_part_knows_anothers_private_names(module: str) -> None:
    assert list(private_names_of_others(SOURCES[module])) == []


@pytest.mark.parametrize("module", SOURCES)
def test_no_class_inherits_behaviour_of_this_room(module: str) -> None:
    own = {c.name for t in SOURCES.values() for c in ast.walk(t) if isinstance(c, ast.ClassDef)}
    bases = {
        ast.unparse(base)
        for each in ast.walk(SOURCES[module])
        if isinstance(each, ast.ClassDef)
        for base in each.bases
    }
    assert bases.isdisjoint({*own, "Tree"})


def test_no_part_knows_the_tree() -> None:
    for module, tree in SOURCES.items():
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert module == "writable_tree" or named.isdisjoint({"Tree", "WritableTree"})


def test_a_tree_is_held_to_what_the_stores_interface_promises() -> None:
    promised = {name for each in WritingStore.__mro__ for name in vars(each)}
    own = {"array", "attribute_names", "names", "held", "calls", "is_closed"}
    assert {n for n in vars(MemoryStore) if not n.startswith("_")} <= promised | own

    store = MemoryStore()
    tree = WritableTree(store, leftovers=Path("unused"))  # type: ignore[arg-type]
    tree.make_folder(b"/g")
    save(tree, b"/g/a.attrs.json", b'{"unit": "K"}')
    save(tree, b"/g/.a.npy.Ab3dEf", ARRAY)
    tree.rename(b"/g/.a.npy.Ab3dEf", b"/g/a.npy")
    tree.rename(b"/g", b"/h")
    tree.make_hard_link(b"/h/a.npy", b"/h/b.npy")
    tree.make_symbolic_link(b"h/a.npy", b"/c.npy")
    tree.rename(b"/h/a.npy", b"/h/a.npy~")
    assert names(tree, b"/h") == {b"a.npy~", b"b.npy", b"b.attrs.json"}
    tree.rename(b"/h/a.npy~", b"/h/a.npy")
    tree.unlink(b"/h/b.npy")
    tree.truncate(b"/h/a.npy", len(ARRAY), None)
    assert read(tree, b"/h/a.npy") == ARRAY
    assert store.array(b"/h/a").tolist() == [0, 1, 2, 3, 4]
    assert store.attribute_names(b"/h/a") == {b"unit"}
    assert names(tree) == {b"c.npy", b"h"}
    tree.close()
    assert store.is_closed and store.held == []


# Each by itself.


def test_a_handle_keeps_its_file_and_a_handle_that_reads_takes_no_bytes() -> None:
    opened = OpenedFiles()
    file, ref = WritableFile(b"/a.npy"), ObjectRef(0, 4, b"/a")
    one, other = opened.add(OpenedFile(1, file, held=ref)), opened.add(OpenedFile(2, held=ref))
    assert (file.opened, opened.count()) == (1, 2)
    assert opened.get_writable(one) is file
    with pytest.raises(BadHandleError, match="to read only"):
        opened.get_writable(other)
    assert opened.is_held(ref, apart_from=file)
    opened.remove(other)
    assert not opened.is_held(ref, apart_from=file)
    opened.remove(one)
    assert (file.opened, opened.count()) == (0, 0)
    with pytest.raises(BadHandleError, match="is not open"):
        opened.get(one)


def test_a_place_is_what_is_pending_before_what_the_file_has(parts: Parts) -> None:
    places = parts.places
    assert places.is_there(b"/d.npy") and places.is_there(b"/g")
    assert not places.is_there(b"/x.npy")
    parts.pending.add_whiteout(b"/d.npy")
    assert not places.is_there(b"/d.npy")
    with pytest.raises(NotFoundError, match="removed"):
        places.find_visible(b"/d.npy")
    parts.stage(b"/g/x.tmp", b"")
    assert places.is_there(b"/g/x.tmp")
    with pytest.raises(NotEmptyError):
        places.check_empty(parts.lookup.find(b"/g"), b"/g")


def test_in_a_scratch_folder_every_name_is_taken_and_none_has_a_meaning(parts: Parts) -> None:
    with pytest.raises(InvalidNameError):
        parts.rules.check_scratch(b"/report.txt")
    parts.pending.add_scratch(b"/.git", ScratchEntry(1))
    parts.rules.check_scratch(b"/.git/report.txt")
    assert parts.places.folder_and_meaning(b"/.git/d.npy") == (parts.lookup.find(b"/"), None)


@pytest.mark.parametrize("path", [b"/.x.npy.swp", b"/.git"])
def test_without_a_place_for_leftovers_nothing_is_outside_of_the_file(path: bytes) -> None:
    rules = Parts(takes_scratch=False).rules
    with pytest.raises(InvalidNameError):
        rules.check_scratch(path)
    assert not rules.is_scratch_folder(path, None)
    assert not rules.is_scratch_link(path)


def test_times_of_a_folder_change_with_its_names_and_last(parts: Parts) -> None:
    parts.statuses.set_times(b"/g", None, 5, 6)
    assert parts.statuses.of_path(b"/g").mtime_ns == 6
    parts.statuses.note_change_in(b"/g/x.npy")
    status = parts.statuses.of_path(b"/g")
    assert status.atime_ns == 5 and status.mtime_ns > 6
    assert stat.S_IMODE(status.mode) & 0o200


def test_a_commit_makes_an_object_and_what_waited_for_it_is_applied(parts: Parts) -> None:
    waiting = parts.stage(b"/x.attrs.json", b'{"unit": "K"}')
    parts.commits.commit(waiting)
    assert waiting.kept_as is not None and parts.pending.staged(b"/x.attrs.json") is waiting
    parts.commits.commit(parts.stage(b"/x.npy", ARRAY))
    assert parts.store.attribute_names(b"/x") == {b"unit"}
    assert parts.pending.staged_files() == [] and waiting.kept_as is None


def test_what_is_kept_is_taken_up_by_the_next_mount(parts: Parts) -> None:
    parts.keeper.keep(parts.stage(b"/.git/x.attrs.json", b"{}"))
    parts.keeper.move_dataset_in(parts.lookup.find(b"/d.npy"), b"/d.npy~")
    store: Any = parts.store
    pending = Pending()
    places = Places(pending, parts.lookup)
    taken = Keeper(store, pending, parts.lookup, places).take_up()
    assert sorted(each.path for each in taken) == [b"/.git/x.attrs.json", b"/d.npy~"]
    assert pending.scratch(b"/.git") is not None
    buffer = bytearray(len(ARRAY))
    dataset = pending.staged(b"/d.npy~")
    assert dataset is not None and dataset.read_into(memoryview(buffer), 0) == len(ARRAY)
    assert bytes(buffer) == ARRAY


def test_a_file_that_is_open_outlives_its_name(parts: Parts) -> None:
    file = parts.stage(b"/x.tmp", b"abc")
    handle = parts.opened.add(OpenedFile(1, file, writes=True))
    parts.removals.unlink(b"/x.tmp")
    assert file.is_gone and file.size_bytes == 3
    parts.opened.remove(handle)
    parts.removals.drop(file)
    assert file.draft is None


def test_a_file_that_is_open_takes_bytes_when_its_folder_is_gone_too() -> None:
    tree = WritableTree(MemoryStore())  # type: ignore[arg-type]
    tree.make_folder(b"/g")
    handle = tree.create(b"/g/a.npy", os.O_WRONLY, 1)
    tree.unlink(b"/g/a.npy")
    tree.remove_folder(b"/g")
    tree.write(handle, memoryview(ARRAY), 0)
    tree.flush(handle, 1)
    tree.release(handle)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda p: p.removals.unlink(b"/g"), IsAGroupError),
        (lambda p: p.removals.unlink(b"/x.npy"), NotFoundError),
        (lambda p: p.renames.rename(b"/d.npy", b"/g", 0), H5fsError),
        (lambda p: p.renames.rename(b"/g", b"/.git/g", 0), CrossFileError),
        (lambda p: p.renames.rename(b"/g", b"/g/g", 0), InvalidNameError),
        (lambda p: p.renames.rename(b"/d.npy", b"/g", 1), ExistsError),
        (lambda p: p.renames.rename(b"/d.npy", b"/report.txt", 0), InvalidNameError),
    ],
)
def test_what_is_refused_changes_nothing(
    parts: Parts, act: Callable[[Parts], None], error: type[H5fsError]
) -> None:
    parts.pending.add_scratch(b"/.git", ScratchEntry(1))
    with pytest.raises(error):
        act(parts)
    assert parts.store.calls == []
    assert parts.pending.staged_files() == [] and parts.pending.edited_files() == []


def test_a_rename_that_fails_leaves_both_names_as_they_were(parts: Parts) -> None:
    file, replaced = parts.stage(b"/.x.npy.tmp", b"no array"), parts.stage(b"/x.npy", b"old")
    with pytest.raises(H5fsError):
        parts.renames.rename(b"/.x.npy.tmp", b"/x.npy", 0)
    assert parts.pending.staged(b"/.x.npy.tmp") is file
    assert parts.pending.staged(b"/x.npy") is replaced and not replaced.is_gone


def test_a_dataset_goes_to_a_temporary_name_and_back_as_one_object(parts: Parts) -> None:
    before = parts.lookup.find(b"/d.npy").info.ref
    parts.renames.rename(b"/d.npy", b"/d.npy~", 0)
    assert parts.store.names() == {b"g"} and parts.store.held == [before]
    parts.renames.rename(b"/d.npy~", b"/g/e.npy", 0)
    assert parts.lookup.find(b"/g/e.npy").info.ref == before
    assert parts.store.held == [] and parts.store.calls == ["move_link", "move_link"]


def test_a_file_is_opened_written_and_closed_as_the_kernel_does_it() -> None:
    store = MemoryStore()
    tree = WritableTree(store, commits_at_close=True)  # type: ignore[arg-type]
    save(tree, b"/a.npy", ARRAY)
    assert store.calls[-1] == "commit"
    handle = tree.open(b"/a.npy", os.O_RDWR, 1)
    tree.write(handle, memoryview(np.float64(7).tobytes()), len(ARRAY) - 8)
    tree.release(handle)
    assert store.array(b"/a").tolist() == [0, 1, 2, 3, 7]
    assert store.held == []
