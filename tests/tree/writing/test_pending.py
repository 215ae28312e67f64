"""What is pending, against a plain model; and taken back, all of it, when a block raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from h5fs.model.objects import ObjectInfo, ObjectKind, ObjectRef
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.names.scratch_entries import ScratchEntry
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile

MOST_TIMES = 4
PATHS = [b"/a", b"/b", b"/a/x", b"/a/y", b"/b/x", b"/a/x/p", b"/ab"]
TARGETS = [b"/t", b"/t/u", b"/tu"]
FOLDERS = [b"/", b"/a", b"/b", b"/a/x"]
NODES = [
    Node(kind, b"n", ObjectInfo(ObjectRef(0, address, b"/n"), ObjectKind.DATASET), None)
    for address in (800, 1600)
    for kind in (NodeKind.ARRAY, NodeKind.ATTRIBUTES)
]
FILES = [WritableFile(b"/f%d" % number, inode=number) for number in range(4)]

paths, files = st.sampled_from(PATHS), st.integers(0, len(FILES) - 1)
nodes, targets = st.integers(0, len(NODES) - 1), st.sets(st.sampled_from(TARGETS))
inodes = st.integers(1, 6)


def moved(path: bytes, old: bytes, new: bytes) -> bytes:
    return new + path[len(old) :] if path == old or path.startswith(old + b"/") else path


class Model:
    """All that is pending in plain dicts, with files by their numbers."""

    def __init__(self) -> None:
        self.staged: dict[bytes, int] = {}
        self.edited: dict[int, int] = {}
        self.whiteouts: set[bytes] = set()
        self.scratch: dict[bytes, int] = {}
        self.paths = {number: b"/f%d" % number for number in range(len(FILES))}
        self.awaits: dict[int, frozenset[bytes]] = {n: frozenset() for n in range(len(FILES))}
        self.times: dict[int, tuple[int, int]] = {}

    def copy(self) -> Model:
        other = Model()
        for name, value in vars(self).items():
            setattr(other, name, value.copy())
        return other

    def stage(self, number: int, path: bytes) -> int | None:
        self.staged = {each: other for each, other in self.staged.items() if other != number}
        replaced = self.staged.get(path)
        self.staged[path], self.paths[number] = number, path
        return replaced

    def move(self, old: bytes, new: bytes) -> None:
        for name in ("staged", "scratch"):
            before: dict[bytes, int] = getattr(self, name)
            stay = {path: value for path, value in before.items() if moved(path, old, new) == path}
            go = {moved(p, old, new): value for p, value in before.items() if p not in stay}
            setattr(self, name, {**stay, **go})
            if name == "staged":
                self.paths.update({number: path for path, number in go.items()})
        for number in set(self.edited.values()):
            self.paths[number] = moved(self.paths[number], old, new)
        self.whiteouts = {moved(path, old, new) for path in self.whiteouts}


class PendingMachine(RuleBasedStateMachine):
    """``Pending`` and its model get the same calls; some within a block that raises."""

    def __init__(self) -> None:
        super().__init__()
        for number, file in enumerate(FILES):
            file.path, file.awaits = b"/f%d" % number, frozenset()
        self.pending, self.model = Pending(MOST_TIMES), Model()
        self.entries = [ScratchEntry(100 + number) for number in range(3)]

    def change(self, data: Any) -> None:
        """Make one change."""
        name = data.draw(st.sampled_from(CHANGES))
        getattr(self, f"change_{name}")(data.draw)

    def change_stage(self, draw: Any) -> None:
        number, path = draw(files), draw(paths)
        if number in self.model.edited.values():
            return  # no file is both
        replaced = self.pending.stage(FILES[number], path)
        assert replaced is self.file(self.model.stage(number, path))

    def change_unstage(self, draw: Any) -> None:
        path = draw(paths)
        assert self.pending.unstage(path) is self.file(self.model.staged.pop(path, None))

    def change_begin_editing(self, draw: Any) -> None:
        number, node = draw(files), draw(nodes)
        if number in self.model.staged.values() or number in self.model.edited.values():
            return
        self.pending.begin_editing(NODES[node], FILES[number])
        self.model.edited[node] = number

    def change_end_editing(self, draw: Any) -> None:
        number = draw(files)
        self.pending.end_editing(FILES[number])
        edited = self.model.edited.items()
        self.model.edited = {node: each for node, each in edited if each != number}

    def change_let_wait(self, draw: Any) -> None:
        number = draw(files)
        if number not in self.model.edited.values():
            return
        self.pending.let_wait(FILES[number])
        edited = self.model.edited.items()
        self.model.edited = {node: each for node, each in edited if each != number}
        self.model.stage(number, self.model.paths[number])
        self.model.whiteouts.discard(self.model.paths[number])

    def change_hide(self, draw: Any) -> None:
        path = draw(paths)
        if draw(st.booleans()):
            self.pending.add_whiteout(path)
            self.model.whiteouts.add(path)
        else:
            assert self.pending.remove_whiteout(path) == (path in self.model.whiteouts)
            self.model.whiteouts.discard(path)

    def change_scratch(self, draw: Any) -> None:
        path, entry = draw(paths), draw(st.none() | st.integers(0, 2))
        if entry is None:
            self.pending.remove_scratch(path)
            self.model.scratch.pop(path, None)
        else:
            self.pending.add_scratch(path, self.entries[entry])
            self.model.scratch[path] = entry

    def change_move(self, draw: Any) -> None:
        old, new = draw(paths), draw(paths)
        if new.startswith(old + b"/") or old.startswith(new + b"/") or old == new:
            return
        below = tuple(each for each in self.model.staged if moved(each, old, new) != each)
        expected = {id(FILES[self.model.staged[each]]) for each in below}
        if any(moved(each, old, new) in self.model.staged for each in below):
            return  # the tree never moves onto what is there
        assert {id(file) for file in self.pending.move(old, new)} == expected
        self.model.move(old, new)

    def change_awaits(self, draw: Any) -> None:
        number, new = draw(files), frozenset(draw(targets))
        self.pending.await_targets(FILES[number], new)
        self.model.awaits[number] = new

    def change_arrived(self, draw: Any) -> None:
        target = draw(st.sampled_from(TARGETS))
        expected = set()
        for number, old in self.model.awaits.items():
            new = frozenset(each for each in old if moved(each, target, b"/gone") == each)
            self.model.awaits[number] = new
            if old and not new and self.model.staged.get(self.model.paths[number]) == number:
                expected.add(id(FILES[number]))
        assert {id(file) for file in self.pending.arrived(target)} == expected

    def change_times(self, draw: Any) -> None:
        inode, value = draw(inodes), draw(st.none() | st.integers(0, 9))
        self.model.times.pop(inode, None)
        if value is None:
            self.pending.forget_times(inode)
            return
        self.pending.set_times(inode, value, value + 1)
        self.model.times[inode] = (value, value + 1)
        while len(self.model.times) > MOST_TIMES:
            del self.model.times[next(iter(self.model.times))]

    @rule(data=st.data())
    def succeed(self, data: Any) -> None:
        self.change(data)

    @rule(data=st.data(), count=st.integers(1, 5))
    def succeed_in_a_block(self, data: Any, count: int) -> None:
        with self.pending.restored_on_error():
            for _ in range(count):
                self.change(data)

    @rule(data=st.data(), count=st.integers(1, 5))
    def fail(self, data: Any, count: int) -> None:
        before = self.model.copy()
        with pytest.raises(KeyboardInterrupt), self.pending.restored_on_error():
            for _ in range(count):
                self.change(data)
            raise KeyboardInterrupt
        before.times = self.model.times  # these are set when a change is done
        self.model = before

    @rule(number=files)
    def settle(self, number: int) -> None:
        path = self.model.paths[number]
        with pytest.raises(KeyboardInterrupt), self.pending.restored_on_error():
            self.pending.add_whiteout(b"/gone")
            self.pending.settle(FILES[number])
            raise KeyboardInterrupt
        if self.model.staged.get(path) == number:
            del self.model.staged[path]
        edited = self.model.edited.items()
        self.model.edited = {node: each for node, each in edited if each != number}
        self.model.awaits[number] = frozenset()
        assert self.pending.remove_whiteout(b"/gone")

    @invariant()
    def is_as_the_model(self) -> None:
        pending, model = self.pending, self.model
        for path in PATHS:
            assert pending.staged(path) is self.file(model.staged.get(path))
            number = model.scratch.get(path)
            assert pending.scratch(path) is (None if number is None else self.entries[number])
            assert pending.is_outside(path) == (path in model.staged or path in model.scratch)
            assert pending.is_whited_out(path) == (path in model.whiteouts)
        for node, known in enumerate(NODES):
            assert pending.edited(known) is self.file(model.edited.get(node))
        assert {id(file) for file in pending.staged_files()} == self.ids(model.staged.values())
        assert {id(file) for file in pending.edited_files()} == self.ids(model.edited.values())
        assert set(pending.list_whiteouts()) == model.whiteouts
        for number, file in enumerate(FILES):
            assert (file.path, file.awaits) == (model.paths[number], model.awaits[number])
        assert pending.awaits_any() == any(model.awaits.values())
        for inode in range(1, 7):
            assert pending.times_of(inode) == model.times.get(inode)

    @invariant()
    def folders_have_what_is_in_them(self) -> None:
        for folder in FOLDERS:
            start = folder.rstrip(b"/") + b"/"
            model = self.model
            inside = [
                (path.removeprefix(start), number)
                for path, number in [
                    *model.staged.items(), *((p, 100 + n) for p, n in model.scratch.items())
                ]
                if path.rpartition(b"/")[0] + b"/" == start
            ]  # fmt: skip
            inodes = [
                (name, number if number >= 100 else FILES[number].inode) for name, number in inside
            ]
            listed = [(each.name, each.inode) for each in self.pending.in_folder(folder)]
            assert sorted(listed) == sorted(inodes)
            assert self.pending.has_any_in(folder) == bool(inside)
            whiteouts = {p.removeprefix(start) for p in model.whiteouts if p.startswith(start)}
            assert self.pending.whiteouts_in(folder) == {n for n in whiteouts if b"/" not in n}

    def file(self, number: int | None) -> WritableFile | None:
        return None if number is None else FILES[number]

    def ids(self, numbers: Any) -> set[int]:
        return {id(FILES[number]) for number in numbers}


CHANGES = [name.removeprefix("change_") for name in dir(PendingMachine) if "change_" in name]

TestPending = PendingMachine.TestCase
TestPending.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@contextmanager
def raising(pending: Pending) -> Iterator[None]:
    with pytest.raises(ZeroDivisionError), pending.restored_on_error():
        yield
        raise ZeroDivisionError


def test_attributes_that_are_written_again_and_again_are_awaited_once() -> None:
    pending, file = Pending(), WritableFile(b"/a.attrs.json")
    pending.stage(file)
    for _ in range(100):
        pending.await_targets(file, [b"/never"])
    assert pending.arrived(b"/never") == [file]
    pending.await_targets(file, [b"/never"])
    pending.stop_awaiting(file)
    assert not pending.awaits_any()


def test_a_file_that_was_replaced_is_back_when_the_block_raises() -> None:
    pending = Pending()
    old, new = WritableFile(b"/a.npy"), WritableFile(b"/.a.tmp")
    pending.stage(old)
    pending.stage(new)
    with raising(pending):
        assert pending.stage(new, b"/a.npy") is old
        assert pending.staged_files() == [new]
    assert pending.staged(b"/a.npy") is old and old.path == b"/a.npy"
    assert pending.staged(b"/.a.tmp") is new and new.path == b"/.a.tmp"


def test_drafts_are_counted_once_and_those_that_are_committed_not() -> None:
    pending, node = Pending(), NODES[0]
    file, read, waiting = WritableFile(b"/a"), WritableFile(b"/b"), WritableFile(b"/c")
    file.begin(empty=True)
    read.begin(empty=True)
    read.is_dirty = False
    pending.stage(file)
    pending.begin_editing(node, file)
    pending.stage(read)
    pending.stage(waiting)
    assert pending.drafts() == [file.draft]
