"""Workers that are killed over a change, before it is committed or after: nobody notices."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import kill, read, save, writable_tree

from h5fs.errors import ChangeFailedError, ExistsError, KilledChangeError, NotFoundError
from h5fs.store.repeating import ask_until_answered
from h5fs.store.workers.connection import WorkerConnection, WorkerDiedError
from h5fs.tree import WritableTree

ARRAY = np.arange(6.0)
LARGE = np.arange(2.0**18)


def _make(file: Path) -> Path:
    """Make a file with a group for each change, all alike."""
    with h5py.File(file, "w") as opened:
        for name in CHANGES:
            group = opened.create_group(name)
            group["d"] = ARRAY
            group["e"] = ARRAY + 1
            group["d"].attrs["a"] = 1
            group.create_group("g/empty")
            group.create_dataset("grows", data=ARRAY, maxshape=(None,), chunks=(4,))
    return file


def _write_within(tree: WritableTree, at: bytes) -> None:
    handle = tree.open(at + b"d.npy", os.O_RDWR, 1)
    tree.write(handle, memoryview(np.float64(9).tobytes()), len(npy_bytes(ARRAY)) - 8)
    tree.flush(handle, 1)
    tree.release(handle)


def _append(tree: WritableTree, at: bytes) -> None:
    handle = tree.open(at + b"grows.npy", os.O_RDWR, 1)
    longer = npy_bytes(np.arange(8.0))
    tree.write(handle, memoryview(longer)[len(npy_bytes(ARRAY)) :], len(npy_bytes(ARRAY)))
    tree.write(handle, memoryview(longer)[:128], 0)
    tree.flush(handle, 1)
    tree.release(handle)


def _pair(tree: WritableTree, at: bytes) -> None:
    save(tree, at + b"s.values.npy", npy_bytes(np.arange(3.0)))
    save(tree, at + b"s.offsets.npy", npy_bytes(np.array([0, 3])))


def _away_and_back(tree: WritableTree, at: bytes) -> None:
    tree.rename(at + b"d.npy", at + b"d.npy~")
    tree.rename(at + b"d.npy~", at + b"d.npy")


def _attributes_first(tree: WritableTree, at: bytes) -> None:
    save(tree, at + b"n.attrs.json", b'{"b": 2}')
    save(tree, at + b"n.npy", npy_bytes(ARRAY))


def _large(tree: WritableTree, at: bytes) -> None:
    save(tree, at + b"new.npy", npy_bytes(LARGE))
    assert read(tree, at + b"new.npy") == npy_bytes(LARGE)


TURNED, SQUARE = npy_bytes(ARRAY[::-1].copy()), npy_bytes(ARRAY.reshape(2, 3))

CHANGES: dict[str, Callable[[WritableTree, bytes], Any]] = {
    "mkdir": lambda tree, at: tree.make_folder(at + b"new"),
    "rmdir": lambda tree, at: tree.remove_folder(at + b"g/empty"),
    "unlink": lambda tree, at: tree.unlink(at + b"d.npy"),
    "unlink attributes": lambda tree, at: tree.unlink(at + b"d.attrs.json"),
    "rename": lambda tree, at: tree.rename(at + b"d.npy", at + b"g/d.npy"),
    "rename over": lambda tree, at: tree.rename(at + b"d.npy", at + b"e.npy"),
    "rename folder": lambda tree, at: tree.rename(at + b"g", at + b"h"),
    "rename away and back": _away_and_back,
    "link": lambda tree, at: tree.make_hard_link(at + b"d.npy", at + b"l.npy"),
    "symlink": lambda tree, at: tree.make_symbolic_link(b"d.npy", at + b"l"),
    "save": lambda tree, at: save(tree, at + b"new.npy", npy_bytes(ARRAY)),
    "save large": _large,
    "save over": lambda tree, at: save(tree, at + b"d.npy", TURNED),
    "save another": lambda tree, at: save(tree, at + b"d.npy", SQUARE),
    "attributes": lambda tree, at: save(tree, at + b"d.attrs.json", b'{"b": 2}'),
    "attributes first": _attributes_first,
    "datatype": lambda tree, at: save(tree, at + b"t.dtype.json", b'"<i4"'),
    "pair": _pair,
    "write within": _write_within,
    "append": _append,
    "fsync": lambda tree, at: tree.sync_folder(at.rstrip(b"/")),
}


def content(file: Path) -> dict[str, Any]:
    """Return everything in a file, in plain values."""
    found: dict[str, Any] = {}

    def visit(name: str, link: Any) -> None:
        with h5py.File(file) as opened:
            here = opened[name]
            value: Any = type(here).__name__
            if isinstance(here, h5py.Dataset):
                value = [np.array(each).tolist() for each in np.atleast_1d(here[()])]
            attributes = {key: np.array(each).tolist() for key, each in here.attrs.items()}
            found[name] = (type(link).__name__, value, attributes)

    with h5py.File(file) as opened:
        names: list[tuple[str, Any]] = []
        opened.visititems_links(lambda name, link: names.append((name, link)))
    for name, link in names:
        visit(name, link)
    return found


@pytest.mark.semantics("W3")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_changes_over_which_workers_are_killed_are_done_once(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, file = _make(tmp_path / "expected.h5"), _make(tmp_path / "f.h5")
    with writable_tree(expected, commit_seconds=None) as tree:
        for name, change in CHANGES.items():
            change(tree, b"/%s/" % name.encode())
    killed: set[tuple[str, str]] = set()
    now = ""
    dying: list[int] = []
    call, note = WorkerConnection.call, WorkerConnection._note_change

    def call_and_kill(self: Any, method: str, *arguments: Any, **how: Any) -> Any:
        if (now, method) in killed or method == "remove_hidden":
            return call(self, method, *arguments, **how)  # what is done again goes through
        killed.add((now, method))
        if moment == "before":
            kill(self.pid)
            return call(self, method, *arguments, **how)
        dying.append(self.pid)
        call(self, method, *arguments, **how)
        dying.clear()
        return die(self)  # it has committed nothing

    def die(connection: WorkerConnection) -> Any:
        kill(connection.pid)  # it has done it, and could not say so
        raise WorkerDiedError("the worker process was killed by SIGKILL")

    def note_or_die(self: WorkerConnection, body: memoryview) -> Any:
        if self.pid not in dying:
            return note(self, body)
        dying.clear()
        return die(self)

    with writable_tree(file, commit_seconds=None) as tree:
        reader = tree.open(b"/unlink/e.npy", os.O_RDONLY, 2)
        with monkeypatch.context() as patched:
            patched.setattr(WorkerConnection, "call", call_and_kill)
            patched.setattr(WorkerConnection, "_note_change", note_or_die)
            for name, change in CHANGES.items():
                now = name
                change(tree, b"/%s/" % name.encode())
        assert {name for name, _ in killed} == set(CHANGES)
        assert tree.read(reader, 10_000, 0) == npy_bytes(ARRAY + 1)
        tree.release(reader)
    assert content(file) == content(expected)


def test_what_says_that_a_change_was_done_counts_after_a_kill_alone() -> None:
    def answering(*answers: Any) -> Callable[[], Any]:
        left = list(answers)

        def ask() -> Any:
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask

    killed = KilledChangeError("killed")
    assert ask_until_answered("create_group", "x", answering(killed, 5)) == 5
    assert ask_until_answered("create_group", "x", answering(killed, ExistsError("x"))) is None
    assert ask_until_answered("delete_link", "x", answering(killed, NotFoundError("x"))) is None
    with pytest.raises(ExistsError):
        ask_until_answered("create_group", "x", answering(ExistsError("x")))
    exists = answering(ExistsError("x"))
    assert ask_until_answered("create_group", "x", exists, may_be_done=True) is None
    with pytest.raises(ExistsError):  # of another: the worker that was killed had not done it
        ask_until_answered(
            "create_group", "x", answering(killed, ExistsError("x")), has_committed=lambda: False
        )
    with pytest.raises(NotFoundError):
        ask_until_answered("create_group", "x", answering(killed, NotFoundError("x")))
    with pytest.raises(ChangeFailedError):
        ask_until_answered("x", "x", answering(ChangeFailedError("1"), ChangeFailedError("2")))
    with pytest.raises(KilledChangeError):
        ask_until_answered("x", "x", answering(*[killed] * 30))
