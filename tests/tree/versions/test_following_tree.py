"""Trees over files that change, without a mount: what is opened when, and closed when."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.waiting import wait_until

from h5fs.errors import CannotOpenError, StaleError
from h5fs.tree import FolderTree, FollowingTree
from h5fs.tree.folders import folder_tree
from h5fs.tree.folders.local_folder import LocalFolder
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.versions.local_version import FollowedPath

SIGNATURE = b"\x89HDF\r\n\x1a\n"


class FakeTree:
    """Shows the text of the file that it was opened over."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_bytes()
        if b"bad" in self.text:
            raise CannotOpenError("as asked")
        self.is_closed = False

    def read_link(self, _path: bytes) -> bytes:
        assert not self.is_closed
        return self.text

    def get_status(self, _path: bytes) -> Any:
        assert not self.is_closed
        return None

    def open(self, _path: bytes, _flags: int) -> int:
        assert not self.is_closed
        return 1

    def read_into(self, _handle: int, buffer: memoryview, offset: int) -> int:
        assert not self.is_closed
        data = self.text[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def release(self, _handle: int) -> None: ...

    def statistics(self) -> Any:
        return TreeStatistics()

    def close(self) -> None:
        self.is_closed = True


class Place:
    """A file, and the trees that were opened over it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.trees: list[FakeTree] = []
        self.tree = FollowingTree(FollowedPath(file, self._open))

    def _open(self, identity: tuple[int, int]) -> Any:
        status = self.file.stat()
        assert identity == (status.st_dev, status.st_ino)
        self.trees.append(FakeTree(self.file))
        return self.trees[-1]

    def replace(self, text: bytes) -> None:
        new = self.file.with_suffix(".new")
        new.write_bytes(text)
        new.rename(self.file)
        self.tree.check()


def read(tree: FollowingTree, handle: int) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: tree.read_into(handle, memoryview(buffer), 0)])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "f").write_bytes(b"one")
    return Place(tmp_path / "f")


def test_a_file_is_opened_for_the_first_question_and_closed_when_it_is_idle(place: Place) -> None:
    assert not place.tree.is_open
    assert place.tree.read_link(b"/") == b"one"
    assert not place.tree.close_if_idle(60)
    handle = place.tree.open(b"/x", os.O_RDONLY)
    assert not place.tree.close_if_idle(0)
    place.tree.release(handle)
    assert place.tree.close_if_idle(0)
    assert place.trees[0].is_closed and not place.tree.is_open
    changes = place.tree.check()
    assert place.tree.read_link(b"/") == b"one"
    assert place.tree.check() == changes  # the same version again is no change
    assert place.tree.keeps_cache(place.tree.open(b"/x", os.O_RDONLY))


@pytest.mark.semantics("P6", "F1")
def test_the_names_that_the_kernel_shall_forget_are_those_of_the_mounts_root(place: Place) -> None:
    for path in (b"/a", b"/b/c"):
        place.tree.get_status(path)
    assert place.tree.take_names() == {b"a"}
    part = FollowingTree(FollowedPath(place.file, place._open), part=b"/b/c")
    for path in (b"/b/c", b"/b/c/x", b"/b/c/x/y", b"/b/d"):
        part.get_status(path)
    assert part.take_names() == {b"x"}


def test_the_old_version_is_closed_with_the_last_file_that_is_open_of_it(place: Place) -> None:
    told: list[int] = []
    place.tree.on_change = lambda: told.append(len(place.trees))
    old = place.tree.open(b"/x", os.O_RDONLY)
    place.replace(b"second")
    assert place.tree.read_link(b"/") == b"second"
    assert told
    assert read(place.tree, old) == b"one"
    with pytest.raises(StaleError):  # the kernel may have the size of the old version
        place.tree.open(b"/x", os.O_RDONLY)
    place.tree.get_status(b"/x")
    new = place.tree.open(b"/x", os.O_RDONLY)
    assert not place.tree.keeps_cache(new)
    assert read(place.tree, new) == b"second"
    with pytest.raises(StaleError):
        read(place.tree, old)
    again = place.tree.open(b"/x", os.O_RDONLY)
    assert place.tree.keeps_cache(again)
    assert not place.trees[0].is_closed
    place.tree.release(old)
    assert place.trees[0].is_closed
    place.tree.close()
    assert place.trees[1].is_closed


def test_what_cannot_be_opened_leaves_the_old_version(place: Place) -> None:
    assert place.tree.read_link(b"/") == b"one"
    place.replace(b"bad one")
    assert place.tree.read_link(b"/") == b"one"
    place.file.unlink()
    assert place.tree.read_link(b"/") == b"one"
    place.file.write_bytes(b"third one")
    place.tree.check()
    wait_until(lambda: place.tree.read_link(b"/") == b"third one")


def test_a_rewritten_file_is_stale_where_it_is_open(place: Place) -> None:
    old = place.tree.open(b"/x", os.O_RDONLY)
    place.file.write_bytes(b"longer than before")
    with pytest.raises(StaleError):
        read(place.tree, old)
    assert place.tree.read_link(b"/") == b"longer than before"


@pytest.mark.semantics("H4")
def test_a_folder_closes_files_that_nobody_looks_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f.h5").write_bytes(SIGNATURE + b"rest")
    places: list[Place] = []

    def open_tree(file: Path) -> FollowingTree:
        places.append(Place(file))
        return places[-1].tree

    tree = FolderTree(LocalFolder(tmp_path, open_tree))
    assert tree.read_link(b"/f.h5/x") == SIGNATURE + b"rest"
    tree.check()
    assert places[0].tree.is_open
    assert folder_tree.IDLE_SECONDS == 60
    monkeypatch.setattr(folder_tree, "IDLE_SECONDS", 0)
    tree.check()
    assert not places[0].tree.is_open
    assert tree.read_link(b"/f.h5/x") == SIGNATURE + b"rest"
