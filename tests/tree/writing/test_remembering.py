"""What a tree that writes remembers of the HDF5 file is what a tree finds that has just begun."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import save, store_of, writable_tree

from h5fs.errors import H5fsError, NotFoundError
from h5fs.tree import Tree, WritableTree
from h5fs.tree.lookup import Lookup

STEPS = 60
NAMES = [b"a", b"b", b"x.csv"]
FOLDERS = [b"", b"/g", b"/twice", b"/again", b"/g/deep"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file in which one change is seen at several paths, in other objects' text too."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as made:
        made.create_group("g/deep")
        made["again"] = made.create_group("twice")
        made["two"] = made["g/two"] = made["again/a"] = np.arange(3)
        made["names"] = [made["two"].ref]
        made["names"].attrs["leads"] = made["two"].ref
        made["soft"] = h5py.SoftLink("/g/two")
        made["itself"] = h5py.ExternalLink("file.h5", "/g")
    return path


def look(lookup: Lookup, path: bytes) -> Any:
    """Return all that a tree says of a path."""
    try:
        node = lookup.find(path)
        text = lookup.text_of(path) if path.endswith((b".json", b"names.npy")) else b""
        return lookup.status_of(path, node), text
    except H5fsError as error:
        return type(error)


def fresh_tree(tree: WritableTree) -> Tree:
    """Return a tree that remembers nothing, but for the times of the file as a mount has found it:
    those of objects whose headers keep none."""
    fresh = Tree(store_of(tree))
    fresh.lookup.status_of_file = tree._lookup.status_of_file
    return fresh


def every_path(tree: Tree, folder: bytes = b"") -> Iterator[bytes]:
    """Yield the paths of a tree, its attribute files too."""
    yield folder or b"/"
    for name in [*tree.list_folder(folder or b"/").names, b".attrs.json"]:
        path = folder + b"/" + name
        yield path
        with suppress(H5fsError):
            if tree.lookup.find(path).kind.name == "FOLDER":
                yield from every_path(tree, path)


def change(tree: WritableTree, rng: random.Random) -> None:
    """Do one thing that programs do, which may be refused."""
    path, other = (rng.choice(FOLDERS) + b"/" + rng.choice(NAMES) for _ in range(2))
    what = rng.randrange(11)
    if what <= 1:
        save(tree, path + b".npy", npy_bytes(np.arange(rng.randrange(1, 4))))
    elif what == 2:
        text = rng.choice([b'{"n": 1}', b'{"n": 2, "m": "x"}', b"{}"])
        save(tree, path + b".attrs.json", text)
    elif what == 3:
        tree.unlink(path + rng.choice([b".npy", b".attrs.json", b""]))
    elif what == 4:
        tree.rename(path + b".npy", other + b".npy")
    elif what == 5:
        tree.make_folder(path)
    elif what == 6:
        tree.remove_folder(path)
    elif what == 7:
        tree.make_hard_link(path + b".npy", other + b".npy")
    elif what == 8:
        tree.rename(rng.choice([path, *FOLDERS[1:]]), other)
    elif what == 9:
        text = rng.choice([b'{"n": 1}', b'{"n": 2, "m": "x"}', b"{}"])
        save(tree, rng.choice([path, *FOLDERS]) + b"/.attrs.json", text)
    else:
        tree.rename(b"/two.npy", path + b".npy")
        tree.rename(path + b".npy", b"/two.npy")


@pytest.mark.parametrize("seed", range(2))
def test_what_is_remembered_is_what_is_there(file: Path, seed: int) -> None:
    rng = random.Random(seed)
    seen: set[bytes] = set()
    with writable_tree(file) as tree:
        for step in range(STEPS):
            if step % 8 == 0:
                for folder in FOLDERS:
                    with suppress(H5fsError):
                        tree.list_folder(folder or b"/")
            with suppress(H5fsError):
                change(tree, rng)
            fresh = fresh_tree(tree)
            seen |= set(every_path(fresh)) if step % 4 == 0 else set()
            for path in sorted(seen):
                assert look(tree._lookup, path) == look(fresh.lookup, path), (step, path)


def change_and_look(tree: WritableTree, rng: random.Random, errors: list[BaseException]) -> None:
    try:
        for _ in range(8):
            with suppress(H5fsError):
                change(tree, rng)
            with suppress(H5fsError):
                tree.list_folder(rng.choice(FOLDERS) or b"/")
            with suppress(H5fsError):
                tree.get_status(rng.choice(FOLDERS) + b"/" + rng.choice(NAMES) + b".npy")
    except BaseException as error:
        errors.append(error)


@pytest.mark.semantics("R27")
@pytest.mark.parametrize("seed", range(2))
def test_what_is_remembered_after_changes_that_overlapped_is_what_is_there(
    file: Path, seed: int
) -> None:
    errors: list[BaseException] = []
    seen: set[bytes] = set()
    with writable_tree(file) as tree:
        for turn in range(5):
            threads = [
                threading.Thread(
                    target=change_and_look,
                    args=(tree, random.Random(f"{seed} {turn} {number}"), errors),
                )
                for number in range(4)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert errors == []
            fresh = fresh_tree(tree)
            seen |= set(every_path(fresh))
            for path in sorted(seen):
                assert look(tree._lookup, path) == look(fresh.lookup, path), (turn, path)


def questions_from_now_on(tree: WritableTree, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the method of each request that the tree's workers are sent."""
    asked: list[str] = []
    pool: Any = store_of(tree)._pool
    call = pool.call

    def note(method: str, *given: Any, **how: Any) -> Any:
        asked.append(method)
        return call(method, *given, **how)

    monkeypatch.setattr(pool, "call", note)
    return asked


def test_a_file_that_is_saved_costs_one_question_and_its_attributes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.h5"
    with h5py.File(file, "w") as made:
        made.create_group("g")
    with writable_tree(file) as tree:
        tree.make_folder(b"/g/new")
        asked = questions_from_now_on(tree, monkeypatch)
        for name in (b"/g/new/a", b"/g/new/b"):
            with pytest.raises(NotFoundError):
                tree.get_status(name + b".npy")
            save(tree, name + b".npy", npy_bytes(np.arange(3)))
            save(tree, name + b".attrs.json", b'{"units": "K"}')
            tree.get_status(name + b".attrs.json")
            tree.get_status(name + b".npy")
        assert asked == ["write_array", "write_attributes"] * 2
        tree.rename(b"/g/new/a.npy", b"/g/new/c.npy")
        tree.get_status(b"/g/new/c.npy")
        tree.get_status(b"/g/new/c.attrs.json")
        tree.unlink(b"/g/new/c.npy")
        tree.unlink(b"/g/new/b.npy")
        tree.remove_folder(b"/g/new")
        assert asked[4:] == [
            "move_link", "read_attributes", "delete_link", "delete_link", "delete_link"
        ]  # fmt: skip


def test_a_new_folder_costs_one_question_and_so_do_its_attributes_and_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.h5"
    with h5py.File(file, "w") as made:
        made.create_group("g")
    with writable_tree(file) as tree:
        tree.make_folder(b"/g/first")
        asked = questions_from_now_on(tree, monkeypatch)
        tree.make_folder(b"/g/new")
        save(tree, b"/g/new/.attrs.json", b'{"units": "K"}')
        tree.get_status(b"/g/new/.attrs.json")
        with pytest.raises(NotFoundError):
            tree.get_status(b"/g/new/a.npy")
        with pytest.raises(NotFoundError):
            tree.get_status(b"/g/other")
        tree.rename(b"/g/new", b"/g/other")
        with pytest.raises(NotFoundError):
            tree.get_status(b"/g/new")
        tree.get_status(b"/g/other")
        with pytest.raises(NotFoundError):
            tree.get_status(b"/g/other/a.npy")
        assert asked == [
            "get_link", "create_group", "write_attributes", "get_link", "move_link"
        ]  # fmt: skip
        assert b'"units"' in tree._lookup.text_of(b"/g/other/.attrs.json")


def test_files_that_are_removed_one_by_one_are_asked_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, count = tmp_path / "file.h5", 40
    with h5py.File(file, "w") as made:
        for number in range(count):
            made[f"g/x{number}"] = np.arange(3)
    with writable_tree(file) as tree:
        asked = questions_from_now_on(tree, monkeypatch)
        for number in range(count):
            path = b"/g/x%d.npy" % number
            assert tree.get_status(path).size_bytes == len(npy_bytes(np.arange(3)))
            tree.unlink(path)
            with pytest.raises(NotFoundError):
                tree.get_status(path)
        assert asked.count("delete_link") == count
        assert asked.count("list_links") == 1
        assert len(asked) < count + 20
