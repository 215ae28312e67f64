"""Attribute files that are renamed in a domain, which others change at the same time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import h5py
import pytest
from store.hsds.test_shared_writing import open_tree
from support.hsds_service import Service

from h5fs.errors import NotFoundError
from h5fs.tree import SharedWritableTree

pytestmark = pytest.mark.semantics("G13", "R14")

NAMES = (
    pytest.param(b"/d.attrs.json", b"/d2.attrs.json", id="dataset"),
    pytest.param(b"/g/.attrs.json", b"/g2/.attrs.json", id="group"),
)


@pytest.fixture
def domain(service: Service, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Make a domain with a dataset and a group of two names each, and ``e`` beside them."""
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for name in ("d", "e", "bare"):
            opened[name] = [1.0]
        opened["d2"] = opened["d"]
        opened["g2"] = opened.create_group("g")
        for name in ("d", "g"):
            opened[name].attrs["old"] = 1
        opened["e"].attrs["own"] = 2
    name = "".join(each if each.isalnum() else "_" for each in request.node.name)
    return service.load(tmp_path / "f.h5", f"{name}.h5")


@pytest.fixture
def tree(service: Service, domain: str, tmp_path: Path) -> Iterator[SharedWritableTree]:
    with closing(open_tree(service, domain, tmp_path)) as opened:
        yield opened


@pytest.fixture
def other(service: Service, domain: str, tmp_path: Path) -> Iterator[SharedWritableTree]:
    """Mount the domain once more."""
    with closing(open_tree(service, domain, tmp_path / "other")) as opened:
        yield opened


def text_at(tree: SharedWritableTree, path: bytes) -> dict[str, int] | None:
    """Return what a file holds; None where there is none."""
    try:
        handle = tree.open(path, os.O_RDONLY)
    except NotFoundError:
        return None
    try:
        found: dict[str, int] = json.loads(tree.read(handle, 2**16, 0))
    finally:
        tree.release(handle)
    return found


@pytest.mark.parametrize(("old", "new"), NAMES)
@pytest.mark.parametrize("way", ["at once", "by a temporary name"])
def test_attributes_stay_when_they_are_renamed_to_another_name_of_their_object(
    tree: SharedWritableTree, other: SharedWritableTree, old: bytes, new: bytes, way: str
) -> None:
    at = old
    if way == "by a temporary name":
        at = old + b"~"
        tree.rename(old, at)
    tree.rename(at, new)
    assert [text_at(each, name) for each in (tree, other) for name in (old, new)] == [
        {"old": 1}
    ] * 4


@pytest.mark.parametrize(("old", "new"), NAMES)
def test_attributes_that_others_set_before_such_a_rename_stay(
    tree: SharedWritableTree, other: SharedWritableTree, old: bytes, new: bytes
) -> None:
    assert text_at(tree, old) == {"old": 1}
    owner = b"/d.npy" if b"d" in old else b"/g"
    other.change_attributes(owner, {b"late": b"3"})
    tree.rename(old, new)
    assert [text_at(each, name) for each in (tree, other) for name in (old, new)] == [
        {"old": 1, "late": 3}
    ] * 4


def test_attributes_get_another_objects_name_and_are_gone_from_theirs(
    tree: SharedWritableTree, other: SharedWritableTree
) -> None:
    tree.rename(b"/d.attrs.json", b"/bare.attrs.json")
    for each in (tree, other):
        found = [text_at(each, name) for name in (b"/d.attrs.json", b"/d2.attrs.json")]
        assert (found, text_at(each, b"/bare.attrs.json")) == ([None, None], {"old": 1})


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("is_read_before", [False, True])
def test_attributes_that_are_renamed_over_others_leave_what_others_set_meanwhile(
    tree: SharedWritableTree, other: SharedWritableTree, is_open: bool, is_read_before: bool
) -> None:
    if is_read_before:
        assert text_at(tree, b"/e.attrs.json") == {"own": 2}
    other.change_attributes(b"/e.npy", {b"late": b"3"})
    handle = tree.open(b"/d.attrs.json", os.O_RDWR) if is_open else None
    tree.rename(b"/d.attrs.json", b"/e.attrs.json")
    if handle is not None:
        tree.flush(handle, 0)
        tree.release(handle)
    # What this mount has never seen is what the text names: it is another object's, whole.
    expected = {"late": 3, "old": 1} if is_read_before else {"old": 1}
    for each in (tree, other):
        assert (text_at(each, b"/d.attrs.json"), text_at(each, b"/e.attrs.json")) == (
            None,
            expected,
        )
