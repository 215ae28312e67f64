"""Calls that overlap, by several threads: as if one had been made after another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.overlapping import (
    KEPT,
    SlowStore,
    State,
    array_of,
    describe,
    find_order,
    play_together,
)
from support.trees import save

from h5fs.errors import H5fsError
from h5fs.tree import Tree, WritableTree

ROUNDS = 60
START: State = (((b"/d", 0),), ((0, 0),), 0)


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Let threads take turns more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def look(tree: Any, path: bytes) -> Any:
    try:
        node = tree.lookup.find(path)
        return node.inode, tree.lookup.status_of(path, node)
    except H5fsError as error:
        return type(error)


@pytest.mark.semantics("R27")
@pytest.mark.parametrize("fails", [0, 12])
def test_calls_that_overlap_have_an_order(fails: int) -> None:
    overlaps = 0
    for seed in range(ROUNDS):
        store = SlowStore(seed)
        tree = WritableTree(store)  # type: ignore[arg-type]
        tree.make_folder(b"/d")
        save(tree, KEPT, array_of(1))
        store.fails = fails
        recorder = play_together(tree, seed, threads=4, steps=5)
        store.fails = 0
        events = recorder.events
        assert find_order(events, START) is not None, f"seed {seed}\n{describe(events)}"
        overlaps += store.overlaps
        check_what_is_remembered(tree, store)
    assert overlaps > ROUNDS


def check_what_is_remembered(tree: WritableTree, store: SlowStore) -> None:
    """What the tree remembers is what one finds that has just begun."""
    fresh = Tree(store)  # type: ignore[arg-type]
    assert tree._in_flight.count == 0
    waiting = list(fresh.list_folder(b"/").names)
    while waiting:
        path = b"/" + waiting.pop()
        assert look(tree._shown, path) == look(fresh, path), path
        if not path.endswith((b".npy", b".json")):
            names = fresh.list_folder(path).names
            assert sorted(tree._shown.list_folder(path).names) == sorted(names)
            waiting += [path[1:] + b"/" + name for name in names]
    for file in tree._pending.staged_files():
        assert file.draft is not None and not file.is_gone
