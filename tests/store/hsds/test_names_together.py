"""Mounts that rename and remove names of each other: what one has saved is found, by some name."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from store.hsds.test_replaced_together import (
    A_PAUSE_SECONDS,
    before,
    full,
    links_of,
    store_of,
)
from store.hsds.test_shared_writing import (
    at_once,
    domain_of,
    load,
    names_in,
    opened_trees,
    save,
)
from support.hsds_service import Service
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import NotEmptyError
from h5fs.store.hsds.writing import link_changes
from h5fs.store.hsds.writing.link_bodies import digits_of
from h5fs.store.hsds.writing.link_changes import REPLACED
from h5fs.store.hsds.writing.removed_objects import KEPT
from h5fs.tree import SharedWritableTree

OLD_SECONDS = 1.1
"""What trees know of names is old then."""

ODD_TITLES = (
    "a%20b", "a+b", "a b", "%41", "q?x=1&y", "#h", "a[0]", "[a]", "*", "a*", "\\", "ü", ";x", "a,b",
    '"q"', "'", "{x}", "a\nb", "\t", "$", "-", "~", "|", "a%2Fb", "%", "%%", "titles", "x:y",
    "e\u0301", "日本", "\x01", "&amp;", "null", "True", "0", "?" * 200,
)  # fmt: skip


def values_in(tree: SharedWritableTree, folder: bytes = b"") -> dict[bytes, list[int]]:
    time.sleep(OLD_SECONDS)
    found = {}
    for dentry in tree.list_folder(folder or b"/"):
        if dentry.name.endswith(b".npy"):
            found[dentry.name] = np.unique(load(tree, folder + b"/" + dentry.name)).tolist()
    return found


def folder_for_both(one: SharedWritableTree, two: SharedWritableTree) -> None:
    one.make_folder(b"/f")
    time.sleep(OLD_SECONDS)
    assert b"f" in names_in(two)


@pytest.mark.semantics("G14")
def test_of_two_names_that_two_mounts_rename_over_each_other_one_stays(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2, later_seconds=0.5) as (one, two):
        save(one, b"/a.npy", full(1))
        save(one, b"/b.npy", full(2))
        for tree in (one, two):
            assert values_in(tree) == {b"a.npy": [1], b"b.npy": [2]}
        both = threading.Barrier(2)

        def wait() -> None:
            both.wait(PATIENCE_SECONDS)

        before(monkeypatch, links_of(one), "_find", wait, name=b"b")
        before(monkeypatch, links_of(two), "_find", wait, name=b"a")
        results = at_once([
            lambda: one.rename(b"/a.npy", b"/b.npy"),
            lambda: two.rename(b"/b.npy", b"/a.npy"),
        ])  # fmt: skip
        assert results == [None, None]
        found = values_in(one)
        assert found in ({b"a.npy": [1]}, {b"b.npy": [2]})


@pytest.mark.semantics("G14")
def test_of_three_names_that_three_mounts_rename_in_a_circle_at_least_one_stays_and_nobody_waits(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who waited for one that seems to be killed would not end before the test fails.
    monkeypatch.setattr(link_changes, "_REPLACED_WITHIN_SECONDS", 10 * PATIENCE_SECONDS)
    with opened_trees(service, tmp_path, 3, later_seconds=0.5) as trees:
        one, two, three = trees
        for value, name in enumerate(b"abc", 1):
            save(one, b"/%c.npy" % name, full(value))
        for tree in trees:
            assert len(values_in(tree)) == 3
        results = at_once([
            lambda: one.rename(b"/a.npy", b"/b.npy"),
            lambda: two.rename(b"/b.npy", b"/c.npy"),
            lambda: three.rename(b"/c.npy", b"/a.npy"),
        ])  # fmt: skip
        assert set(results) == {None}
        assert values_in(one)


@pytest.mark.semantics("G14")
def test_of_one_array_that_two_mounts_rename_back_and_forth_one_name_stays(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/a.npy", full(1))
        one.make_hard_link(b"/a.npy", b"/b.npy")
        both = threading.Barrier(2)
        links, place = links_of(one), (b"/", store_of(one)._root_id(0))

        def wait() -> None:
            with suppress(threading.BrokenBarrierError):
                both.wait(A_PAUSE_SECONDS)

        before(monkeypatch, links, "delete", wait, name=b"a")
        before(monkeypatch, links_of(two), "delete", wait, name=b"b")
        at_once([
            lambda: links.move((*place, b"a"), (*place, b"b")),
            lambda: links_of(two).move((*place, b"b"), (*place, b"a")),
        ])  # fmt: skip
        assert list(values_in(one).values()) == [[1]]


@pytest.mark.semantics("G14")
def test_of_two_mounts_that_find_what_a_killed_one_has_left_one_comes_after_the_other(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h5fs.store.hsds.writing.link_changes._REPLACED_WITHIN_SECONDS", 0.5)
    with opened_trees(service, tmp_path, 2, later_seconds=0.5) as (one, two):
        save(one, b"/a.npy", full(1))
        links, root_id = links_of(one), store_of(one)._root_id(0)
        found = links.find(root_id, b"a")
        assert found is not None
        links._keep((b"/", root_id, b"a"), found, set())  # and the mount is killed
        assert values_in(two) == values_in(one)
        both = threading.Barrier(2)

        def wait() -> None:
            with suppress(threading.BrokenBarrierError):
                both.wait(A_PAUSE_SECONDS / 4)

        before(monkeypatch, links, "_replace", wait)
        before(monkeypatch, links_of(two), "_make_where_free", wait)
        at_once([
            lambda: save(one, b"/a.npy", full(2)), lambda: two.rename(b"/a.npy", b"/b.npy"),
        ])  # fmt: skip
        found_values = values_in(one)
        assert found_values in ({b"b.npy": [2]}, {b"a.npy": [2], b"b.npy": [1]})


@pytest.mark.semantics("G15")
def test_a_folder_in_which_another_mount_has_just_saved_something_is_not_removed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        folder_for_both(one, two)
        before(
            monkeypatch, links_of(one), "delete", lambda: save(two, b"/f/d.npy", full(1)),
            name=b"f",
        )  # fmt: skip
        with pytest.raises(NotEmptyError):
            one.remove_folder(b"/f")
        assert values_in(two, b"/f") == {b"d.npy": [1]}


@pytest.mark.semantics("G15")
@pytest.mark.parametrize("is_taken", [False, True])
def test_a_folder_that_was_removed_while_another_mount_was_saving_in_it_is_back_some_seconds_later(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    with opened_trees(service, tmp_path, 2, later_seconds=1.0) as (one, two):
        folder_for_both(one, two)

        def remove() -> None:
            one.remove_folder(b"/f")
            if is_taken:
                one.make_folder(b"/f")

        before(monkeypatch, links_of(two), "make", remove, name=b"d")
        save(two, b"/f/d.npy", full(1))

        def folders_with_it() -> list[bytes]:
            time.sleep(OLD_SECONDS)
            names = sorted(names_in(two))
            return [name for name in names if values_in(two, b"/" + name) == {b"d.npy": [1]}]

        wait_until(lambda: len(folders_with_it()) == 1)
        (name,) = folders_with_it()
        assert name.startswith(b"f" + KEPT) if is_taken else name == b"f"


@pytest.mark.semantics("G14")
def test_no_folder_takes_the_place_of_one_in_which_another_mount_has_just_saved_something(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        one.make_folder(b"/g")
        folder_for_both(one, two)
        before(monkeypatch, links_of(one), "move", lambda: save(two, b"/f/d.npy", full(1)))
        with pytest.raises(NotEmptyError):
            one.rename(b"/g", b"/f")
        assert values_in(two, b"/f") == {b"d.npy": [1]}
        assert names_in(one) == {b"f", b"g"}


@pytest.mark.semantics("G14")
def test_a_link_of_any_name_is_replaced_moved_and_deleted_and_no_other_one(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 1) as (one,):
        save(one, b"/x.npy", full(0))
        save(one, b"/y.npy", full(1))
        store = store_of(one)
        links, root_id = links_of(one), store._root_id(0)
        x, y = (found for name in b"xy" if (found := links.find(root_id, bytes([name]))))

        def titles() -> set[str]:
            listed = service.ask("GET", f"/groups/{root_id}/links", domain_of(one))["links"]
            return {link["title"] for link in listed}

        for title in ODD_TITLES:
            others, name = titles() - {title}, title.encode()
            assert links.put(b"/", root_id, name, {"id": x.id}) is None
            replaced = links.put(b"/", root_id, name, {"id": y.id})
            assert replaced is not None
            assert replaced.id == x.id
            moved, _ = links.move((b"/", root_id, name), (b"/", root_id, name + b"-"))
            assert moved is not None
            assert moved.id == y.id
            assert titles() == others | {title + "-"}
            links._keep((b"/", root_id, name), x, set())
            assert links._is_being_replaced(root_id, name)
            links.delete(root_id, name + REPLACED + digits_of(f'{{"id": "{x.id}"}}'))
            assert not links._is_being_replaced(root_id, name)
            links.delete(root_id, name + b"-")
            assert titles() == others
