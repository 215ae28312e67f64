"""Two mounts that replace, rename or remove one name at the same time: what was closed stays."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store.hsds.test_shared_writing import (
    as_npy,
    at_once,
    domain_of,
    errnos,
    load,
    names_in,
    open_tree,
    opened_trees,
    save,
)
from support.hsds_service import Service
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import ExistsError, H5fsError, UnreadableError
from h5fs.model.settings import ExternalPolicy
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.store.hsds.writing.link_changes import REPLACED, LinkChanges
from h5fs.store.hsds.writing.removed_objects import LATER_SECONDS
from h5fs.store.hsds.writing.writing_store import WritingHsdsStore
from h5fs.tree import SharedWritableTree
from h5fs.tree.versions import renewing_tree
from h5fs.tree.versions.renewing_tree import RENEWED_SECONDS, RenewingTree

A_PAUSE_SECONDS = 0.7


def full(value: int, length: int = 10) -> np.ndarray[Any, Any]:
    return np.full(length, value)


def store_of(tree: SharedWritableTree) -> WritingHsdsStore:
    store = tree._store
    assert isinstance(store, WritingHsdsStore)
    return store


def links_of(tree: SharedWritableTree) -> LinkChanges:
    return store_of(tree)._links


def before(
    monkeypatch: pytest.MonkeyPatch, part: object, method: str, do: Callable[[], object],
    *, name: bytes | None = None,
) -> None:  # fmt: skip
    """Let something happen before the first call of a method (for a name), in one mount."""
    original, is_done = getattr(part, method), threading.Event()

    def late(*given: Any, **named: Any) -> Any:
        if (name is None or name in given) and not is_done.is_set():
            is_done.set()
            do()
        return original(*given, **named)

    monkeypatch.setattr(part, method, late)


def datasets_of(service: Service, domain: str) -> list[str]:
    found = service.ask("GET", "/datasets", domain)["datasets"]
    assert isinstance(found, list)
    return found


@pytest.mark.semantics("G14")
def test_a_name_that_this_mount_has_replaced_itself_is_not_free_while_another_one_replaces_it(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", full(0))
        save(one, b"/d.npy", full(1))
        two.rename(b"/d.npy", b"/d.h5fs-replaced-0.npy")
        back = threading.Timer(A_PAUSE_SECONDS, two.rename, (b"/d.h5fs-replaced-0.npy", b"/d.npy"))
        back.start()
        save(one, b"/d.npy", full(2))
        back.join(PATIENCE_SECONDS)
        assert names_in(two) == {b"d.npy"}
        assert (load(one, b"/d.npy") == 2).all()


@pytest.mark.semantics("G14", "G15")
def test_an_array_that_another_mount_has_replaced_meanwhile_is_replaced_with_all_that_is_its(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        domain = domain_of(one)
        save(one, b"/d.npy", full(0))
        one.make_hard_link(b"/d.npy", b"/again.npy")

        def replace() -> None:
            save(two, b"/d.npy", full(1))
            two.change_attributes(b"/d.npy", {b"unit": b"m"})

        before(monkeypatch, links_of(one), "put", replace, name=b"d")
        save(one, b"/d.npy", full(2))
        for tree in (one, two):
            assert [np.unique(load(tree, path)).tolist() for path in (b"/d.npy", b"/again.npy")] \
                == [[2], [2]]  # fmt: skip
        assert two.get_xattr(b"/d.npy", b"user.unit") == b"m"
        wait_until(lambda: len(datasets_of(service, domain)) == 1)


@pytest.mark.semantics("G14")
def test_an_array_is_replaced_that_was_deleted_while_the_new_elements_were_on_their_way(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        domain = domain_of(one)
        save(one, b"/d.npy", full(0))
        two.change_attributes(b"/d.npy", {b"unit": b"m"})
        (old,) = datasets_of(service, domain)

        def replace() -> None:
            save(two, b"/d.npy", full(1))
            wait_until(lambda: old not in datasets_of(service, domain))

        before(monkeypatch, store_of(one)._writer, "write_all", replace)
        save(one, b"/d.npy", full(2))
        assert (load(two, b"/d.npy") == 2).all()
        assert two.get_xattr(b"/d.npy", b"user.unit") == b"m"


@pytest.mark.semantics("G14")
def test_all_names_lead_to_the_array_of_the_mount_that_was_last_whoever_was_still_at_it(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", full(0))
        one.make_hard_link(b"/d.npy", b"/again.npy")
        before(
            monkeypatch, links_of(one), "put", lambda: save(two, b"/d.npy", full(1)),
            name=b"again",
        )  # fmt: skip
        save(one, b"/d.npy", full(2))
        for path in (b"/d.npy", b"/again.npy"):
            assert np.unique(load(two, path)).tolist() == [1]


@pytest.mark.semantics("G14")
def test_a_hard_link_that_another_mount_has_made_leads_to_the_new_array_too(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", full(0))
        assert (load(two, b"/d.npy") == 0).all()
        one.make_hard_link(b"/d.npy", b"/again.npy")
        save(two, b"/d.npy", full(1))
        assert (load(one, b"/again.npy") == 1).all()


@pytest.mark.semantics("G14", "G15")
def test_a_mount_that_is_slow_to_delete_what_it_replaces_deletes_nothing_else(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        domain = domain_of(one)
        save(one, b"/d.npy", full(0))
        assert (load(two, b"/d.npy") == 0).all()
        quick = threading.Thread(target=save, args=(two, b"/d.npy", full(1)))
        is_slow = threading.Event()

        def be_slow() -> None:
            is_slow.set()
            quick.start()
            time.sleep(A_PAUSE_SECONDS)

        before(monkeypatch, links_of(one), "_delete", be_slow, name=b"d")
        save(one, b"/d.npy", full(2))
        assert is_slow.is_set()
        quick.join(PATIENCE_SECONDS)
        assert np.unique(load(one, b"/d.npy")).tolist() == [1]
        wait_until(lambda: len(datasets_of(service, domain)) == 1)
        assert names_in(one) == {b"d.npy"}


@pytest.mark.semantics("G14")
def test_what_another_mount_saves_while_its_name_is_renamed_is_not_lost(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", full(0))
        assert (load(two, b"/d.npy") == 0).all()
        saving = threading.Thread(target=save, args=(two, b"/d.npy", full(1)))

        def save_meanwhile() -> None:
            saving.start()
            saving.join(3 * A_PAUSE_SECONDS)

        before(monkeypatch, links_of(one), "delete", save_meanwhile, name=b"d")
        one.rename(b"/d.npy", b"/e.npy")
        saving.join(PATIENCE_SECONDS)
        time.sleep(1.1)  # what the trees know of the names is old then
        # As if one had come after the other: which one was first, nobody knows.
        found = {name: np.unique(load(two, b"/" + name)).tolist() for name in names_in(two)}
        assert found in ({b"d.npy": [1], b"e.npy": [0]}, {b"e.npy": [1]})


@pytest.mark.semantics("G14")
def test_of_two_mounts_that_rename_one_name_the_first_one_has_it(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", full(0))
        assert (load(two, b"/d.npy") == 0).all()
        problems: list[H5fsError] = []

        def rename() -> None:
            try:
                two.rename(b"/d.npy", b"/f.npy")
            except H5fsError as error:
                problems.append(error)

        renaming = threading.Thread(target=rename)

        def rename_meanwhile() -> None:
            renaming.start()
            renaming.join(3 * A_PAUSE_SECONDS)

        before(monkeypatch, links_of(one), "delete", rename_meanwhile, name=b"d")
        one.rename(b"/d.npy", b"/e.npy")
        renaming.join(PATIENCE_SECONDS)
        time.sleep(1.1)  # what the trees know of the names is old then
        assert [each.errno for each in problems] == [errno.ENOENT]
        assert names_in(two) == {b"e.npy"}


@pytest.mark.semantics("G14")
def test_a_folder_that_another_mount_has_made_meanwhile_is_not_replaced_by_an_array(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 2) as (one, two):
        save(one, b"/d.npy", full(0))

        def make_folder() -> None:
            two.unlink(b"/d.npy")
            two.make_folder(b"/d")
            save(two, b"/d/kept.npy", full(1))

        before(monkeypatch, links_of(one), "put", make_folder, name=b"d")
        with pytest.raises(ExistsError):
            save(one, b"/d.npy", full(2))
        assert (load(two, b"/d/kept.npy") == 1).all()


class KilledError(BaseException):
    """As if the process had ended here."""


@pytest.mark.semantics("G14")
@pytest.mark.parametrize("is_away", [False, True])
def test_what_a_mount_leaves_that_is_killed_while_it_replaces_hinders_nobody_for_long(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    with opened_trees(service, tmp_path, 1) as (one,):
        save(one, b"/d.npy", full(0))
        killed = open_tree(service, domain_of(one), tmp_path)
        monkeypatch.setattr("h5fs.store.hsds.writing.link_changes._REPLACED_WITHIN_SECONDS", 0.5)

        def die() -> None:
            monkeypatch.setattr(store_of(killed)._client, "_send", be_dead)
            raise KilledError

        def be_dead(*_: object, **__: object) -> None:
            raise UnreadableError("this mount was killed")

        if is_away:
            before(monkeypatch, links_of(killed), "_make", die, name=b"d")
        else:
            before(monkeypatch, links_of(killed), "_delete", die, name=b"d")
        with pytest.raises((KilledError, UnreadableError)):
            save(killed, b"/d.npy", full(1))
        with suppress(UnreadableError):
            killed.close()
        time.sleep(1.1)  # what the trees know of the names is old then
        (left,) = [name for name in names_in(one) if REPLACED in name]
        save(one, b"/d.npy", full(2))
        assert (load(one, b"/d.npy") == 2).all()
        if is_away:  # the only name of what was there
            assert (load(one, b"/" + left) == 0).all()
        else:
            wait_until(lambda: names_in(one) == {b"d.npy"})


@pytest.mark.semantics("G10", "G14")
def test_of_four_mounts_that_replace_one_array_again_and_again_none_is_refused(
    service: Service, tmp_path: Path
) -> None:
    with opened_trees(service, tmp_path, later_seconds=LATER_SECONDS) as trees:
        domain = domain_of(trees[0])
        save(trees[0], b"/d.npy", full(0))
        trees[0].make_hard_link(b"/d.npy", b"/again.npy")

        def replace(number: int) -> None:
            for each in range(4):
                save(trees[number], b"/d.npy", full(10 * number + each, 10 + each))

        results = at_once([lambda number=n: replace(number) for n in range(len(trees))])
        assert errnos(results) == []
        last, again = (np.unique(load(trees[0], path)) for path in (b"/d.npy", b"/again.npy"))
        assert last.tolist() == again.tolist()
        assert len(last) == 1
        assert last[0] % 10 == 3
        wait_until(lambda: len(datasets_of(service, domain)) == 1)
        assert names_in(trees[0]) == {b"d.npy", b"again.npy"}


@pytest.mark.semantics("G5")
def test_an_open_that_waits_for_the_kernel_opens_what_is_there_afterwards(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_trees(service, tmp_path, 1) as (one,):
        save(one, b"/d.npy", full(0, 100))
        reading = RenewingTree(
            HsdsStore(
                Client(service.access), domain_of(one), service.access.bucket, ExternalPolicy.NONE,
                2**24,
            )
        )  # fmt: skip
        with closing(reading):
            assert reading.get_status(b"/d.npy").size_bytes == 128 + 100 * 8
            save(one, b"/d.npy", full(1, 1000))
            time.sleep(RENEWED_SECONDS + 0.05)
            sleep, replaced = time.sleep, threading.Event()

            def replace_meanwhile(seconds: float) -> None:
                if replaced.is_set():
                    sleep(seconds)
                    return
                replaced.set()
                save(one, b"/d.npy", full(2, 10))
                # As if that had taken as long as the kernel keeps what it was told.
                monkeypatch.setattr(renewing_tree, "KERNEL_SECONDS", 0.0)

            # So that the machine may take as long as it likes to save.
            monkeypatch.setattr(renewing_tree, "KERNEL_SECONDS", 10 * PATIENCE_SECONDS)
            monkeypatch.setattr("h5fs.tree.versions.renewing_tree.time.sleep", replace_meanwhile)
            handle = reading.open(b"/d.npy", os.O_RDONLY)
            assert replaced.is_set()
            size = reading.get_status(b"/d.npy").size_bytes
            assert reading.read(handle, 2**20, 0) == as_npy(full(2))
            assert size == len(as_npy(full(2)))
            reading.release(handle)
