"""A file whose disk or workers are slow keeps nobody waiting who asks for something else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.waiting import PATIENCE_SECONDS

from h5fs.errors import StaleError
from h5fs.tree import FolderTree, FollowingTree
from h5fs.tree.folders import folder_tree
from h5fs.tree.folders.local_folder import LocalFolder
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.versions.local_version import FollowedPath

SIGNATURE = b"\x89HDF\r\n\x1a\n        "


class Slowness:
    """Something that waits until it may go on; ``entered`` says that somebody waits."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()

    def wait(self) -> None:
        self.entered.set()
        assert self.may_go.wait(PATIENCE_SECONDS)

    @contextmanager
    def held(self) -> Iterator[None]:
        self.entered.clear()
        self.may_go.clear()
        try:
            yield
        finally:
            self.may_go.set()


class SlowTree:
    """A tree that shows the file's text, and is opened and closed as slowly as asked."""

    def __init__(self, file: Path, opening: Slowness, closing: Slowness) -> None:
        self.text = file.read_bytes()
        self.closing = closing
        opening.wait()

    def read_link(self, _path: bytes) -> bytes:
        return self.text

    def open(self, _path: bytes, _flags: int) -> int:
        return 1

    def release(self, _handle: int) -> None: ...

    def statistics(self) -> Any:
        return TreeStatistics()

    def close(self) -> None:
        self.closing.wait()


class Folder:
    """A folder of files, of which that called ``slow.h5`` can be held up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opening, self.closing = Slowness(), Slowness()
        self.names = ["slow.h5", "a.h5", "b.h5"]
        for name in self.names:
            (path / name).write_bytes(SIGNATURE + b"one")
        self.tree = FolderTree(LocalFolder(path, self._open_tree))

    def _open_tree(self, file: Path) -> FollowingTree:
        is_slow = file.name == "slow.h5"
        opening, closing = (self.opening, self.closing) if is_slow else (Slowness(), Slowness())
        return FollowingTree(FollowedPath(file, lambda _: SlowTree(file, opening, closing)))  # type: ignore[arg-type,return-value]

    def read(self, name: str) -> bytes:
        return self.tree.read_link(f"/{name}/x".encode())

    def replace(self, name: str) -> None:
        new = self.path / "new"
        new.write_bytes(SIGNATURE + b"two")
        os.replace(new, self.path / name)

    def open_and_close(self) -> None:
        # Stale after ``forget``, until the kernel has asked for the status.
        with suppress(StaleError):
            self.tree.release(self.tree.open(b"/a.h5/x", os.O_RDONLY))

    def work(self) -> list[Callable[[], object]]:
        """What others may ask for, and the watcher does, at any time."""
        return [
            lambda: self.read("a.h5"),
            lambda: self.read("b.h5"),
            lambda: self.tree.get_status(b"/"),
            lambda: self.tree.get_status(b"/slow.h5"),
            lambda: self.tree.list_folder(b"/"),
            self.open_and_close,
            self.tree.check,
            self.tree.forget,
            self.tree.statistics,
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    for name in folder.names:
        assert folder.read(name).endswith(b"one")
    return folder


def do_all_at_once(work: list[Callable[[], object]]) -> None:
    """Do all; each within a time that is short but for a machine that stands still."""
    with ThreadPoolExecutor(len(work)) as threads:
        for done in [threads.submit(each) for each in work]:
            done.result(PATIENCE_SECONDS / 2)


@pytest.mark.semantics("H5")
def test_while_one_file_is_opened_slowly_its_neighbours_answer(folder: Folder) -> None:
    time.sleep(0.5)  # longer than an answer is taken to hold
    folder.replace("slow.h5")
    with ThreadPoolExecutor(1) as asker:
        with folder.opening.held():
            asked = asker.submit(folder.read, "slow.h5")
            assert folder.opening.entered.wait(PATIENCE_SECONDS)
            do_all_at_once(folder.work())
            assert not asked.done()
        assert asked.result(PATIENCE_SECONDS).endswith(b"two")


@pytest.mark.semantics("H5")
@pytest.mark.parametrize("way", ["idle", "replaced", "released", "too many"])
def test_while_one_file_is_closed_slowly_its_neighbours_answer(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    handle = folder.tree.open(b"/slow.h5/x", os.O_RDONLY) if way == "released" else None
    time.sleep(0.5)
    act: Callable[[], object] = folder.tree.check
    if way == "replaced":
        folder.replace("slow.h5")
        act = lambda: folder.read("slow.h5")  # noqa: E731
    elif way == "released":
        folder.replace("slow.h5")
        folder.read("slow.h5")
        act = lambda: folder.tree.release(handle)  # type: ignore[arg-type]  # noqa: E731
    elif way == "idle":
        monkeypatch.setattr(folder_tree, "IDLE_SECONDS", 0)
    else:
        (folder.path / "c.h5").write_bytes(SIGNATURE + b"one")
        monkeypatch.setattr(folder_tree, "MOST_FILES_OPEN", 1)
        act = lambda: folder.read("c.h5")  # noqa: E731
    with ThreadPoolExecutor(1) as actor, folder.closing.held():
        acted = actor.submit(act)
        assert folder.closing.entered.wait(PATIENCE_SECONDS)
        monkeypatch.undo()
        do_all_at_once(folder.work())
        acted.result(PATIENCE_SECONDS)  # it waits no longer than a moment itself


def test_what_is_opened_while_the_mount_ends_is_closed_as_well(folder: Folder) -> None:
    time.sleep(0.5)
    folder.replace("slow.h5")
    with ThreadPoolExecutor(1) as asker:
        with folder.opening.held():
            asked = asker.submit(folder.read, "slow.h5")
            assert folder.opening.entered.wait(PATIENCE_SECONDS)
            folder.tree.close()
            folder.closing.entered.clear()
        with pytest.raises(Exception):  # noqa: B017
            asked.result(PATIENCE_SECONDS)
        assert folder.closing.entered.is_set()


def test_listing_a_folder_closes_no_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_tree, "MOST_FILES_OPEN", 3)
    (folder.path / "c.h5").write_bytes(SIGNATURE + b"one")
    time.sleep(0.5)
    folder.closing.entered.clear()
    folder.tree.list_folder(b"/")
    for name in [*folder.names, "c.h5"]:
        folder.tree.get_status(f"/{name}".encode())
    assert not folder.closing.entered.is_set()
    folder.read("c.h5")
    assert folder.closing.entered.is_set()
