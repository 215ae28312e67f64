"""Workers that hang, or crash, behind the commit of a change: the answer is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import names, read, save, store_of, writable_tree

from h5fs.errors import H5fsError, LostChangesError, UnreadableError
from h5fs.store.workers.connection import WorkerConnection
from h5fs.store.workers.worker_errors import WorkerDiedError, WorkerHungError
from h5fs.tree import WritableTree

ARRAY = np.arange(6.0)
LARGE = np.arange(2.0**18)
FAILURES = [WorkerHungError("no answer within 1 s"), WorkerDiedError("ended by SIGSEGV")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = ARRAY
        opened["e"] = ARRAY
        opened.create_dataset("grows", data=ARRAY, maxshape=(None,), chunks=(4,))
    return path


CHANGES: dict[str, tuple[str, Callable[[WritableTree], None]]] = {
    "attributes": ("write_attributes", lambda tree: save(tree, b"/d.attrs.json", b'{"b": 2}')),
    "array": ("write_array", lambda tree: save(tree, b"/new.npy", npy_bytes(ARRAY))),
    "large": ("finish_array", lambda tree: save(tree, b"/new.npy", npy_bytes(LARGE))),
    "over": ("write_array", lambda tree: save(tree, b"/d.npy", npy_bytes(ARRAY.reshape(2, 3)))),
    "folder": ("create_group", lambda tree: tree.make_folder(b"/new")),
    "unlink": ("delete_link", lambda tree: tree.unlink(b"/d.npy")),
    "rename": ("move_link", lambda tree: tree.rename(b"/d.npy", b"/new.npy")),
}


@contextmanager
def failing(
    method: str, failure: Exception, monkeypatch: pytest.MonkeyPatch, *, is_told: bool
) -> Iterator[list[str]]:
    """Let the worker that is asked for a method fail when it has committed the change.

    ``is_told``: it has told of the commit before. Yields the methods that were asked for.
    """
    call, note, asked = WorkerConnection.call, WorkerConnection._note_change, []

    def call_noted(self: Any, method: str, *arguments: Any, **how: Any) -> Any:
        asked.append(method)
        return call(self, method, *arguments, **how)

    def note_and_fail(self: Any, body: memoryview) -> Any:
        if asked[-1] != method or asked.count(method) > 1:
            return note(self, body)
        if is_told:
            note(self, body)
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(WorkerConnection, "call", call_noted)
        patched.setattr(WorkerConnection, "_note_change", note_and_fail)
        yield asked


def content(file: Path) -> dict[str, Any]:
    with h5py.File(file) as opened:
        return {
            name: (each[...].tolist() if isinstance(each, h5py.Dataset) else None,
                   dict(each.attrs)) for name, each in opened.items()
        }  # fmt: skip


@pytest.mark.semantics("R22")
@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_in_the_file_succeeds_though_its_worker_failed_then(
    file: Path, tmp_path: Path, name: str, failure: Exception, is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    method, change = CHANGES[name]
    expected = tmp_path / "expected.h5"
    expected.write_bytes(file.read_bytes())
    with writable_tree(expected, commit_seconds=None) as tree:
        change(tree)
    with writable_tree(file, commit_seconds=None) as tree:
        with failing(method, failure, monkeypatch, is_told=is_told) as asked:
            change(tree)
        assert asked.count(method) == 1
        if name == "attributes":
            assert b'"b": 2' in read(tree, b"/d.attrs.json")
    assert content(file) == content(expected)


@pytest.mark.semantics("R22")
@pytest.mark.parametrize("failure", FAILURES)
def test_a_change_that_is_in_the_file_and_cannot_be_read_back_is_an_error_that_says_so(
    file: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_ref: object) -> Any:
        raise UnreadableError("the HDF5 library hangs")

    with writable_tree(file, commit_seconds=None) as tree:
        monkeypatch.setattr(store_of(tree), "read_attributes", refuse)
        with (
            failing("write_attributes", failure, monkeypatch, is_told=False),
            pytest.raises(H5fsError, match="is in the file, and cannot be read back"),
        ):
            save(tree, b"/d.attrs.json", b'{"b": 2}')
    with h5py.File(file) as opened:
        assert opened["d"].attrs["b"] == 2


@pytest.mark.semantics("R22")
@pytest.mark.parametrize("failure", FAILURES)
def test_a_change_whose_worker_fails_before_the_commit_is_lost(
    file: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = WorkerConnection.call

    def fail(self: Any, method: str, *arguments: Any, **how: Any) -> Any:
        if method == "delete_link":
            raise failure
        return call(self, method, *arguments, **how)

    with writable_tree(file, commit_seconds=None) as tree:
        with monkeypatch.context() as patched, pytest.raises(LostChangesError) as raised:
            patched.setattr(WorkerConnection, "call", fail)
            tree.unlink(b"/d.npy")
        assert "nobody knows" not in str(raised.value)
        assert b"d.npy" in names(tree)


@pytest.mark.semantics("R22")
def test_where_the_log_cannot_be_followed_the_error_says_that_nobody_knows(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with writable_tree(file, commit_seconds=None) as tree:
        state = store_of(tree)._state
        with failing("delete_link", FAILURES[0], monkeypatch, is_told=False):
            monkeypatch.setattr(state.file, "open_beside_writer", _refuse)
            with pytest.raises(LostChangesError, match="nobody knows whether"):
                tree.unlink(b"/d.npy")
    with h5py.File(file) as opened:
        assert "d" not in opened
    caplog.clear()


def _refuse() -> None:
    raise OSError("the log cannot be read")
