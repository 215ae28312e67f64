"""Dimension scales in a domain go on knowing what they are attached to when arrays are replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from store.hsds.test_shared_writing import at_once, errnos, open_tree, save
from support.hsds_service import Service
from support.waiting import wait_until

from h5fs.errors import UnreadableError
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.writing import scale_attributes
from h5fs.store.hsds.writing.removed_objects import LATER_SECONDS
from h5fs.tree import SharedWritableTree


@contextmanager
def trees_with_scales(
    service: Service, folder: Path, count: int, later_seconds: float = 0.1
) -> Iterator[list[SharedWritableTree]]:
    with h5py.File(folder / "a.h5", "w") as file:
        for name, value in {"x": np.zeros(3), "y": np.zeros(4), "e": np.zeros(3),
                            "d": np.zeros((3, 4))}.items():  # fmt: skip
            file[name] = value
        for name in "xy":
            file[name].make_scale(name)
        for name, scales in {"d": "xy", "e": "x"}.items():
            for dimension, scale in zip(file[name].dims, scales, strict=True):
                dimension.attach_scale(file[scale])
    domain = service.load(folder / "a.h5", f"scales-{os.urandom(4).hex()}.h5")
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(open_tree(service, domain, folder, later_seconds)))
            for _ in range(count)
        ]


def attribute(tree: SharedWritableTree, path: bytes, name: str) -> Any:
    handle = tree.open(path + b".attrs.json", os.O_RDONLY)
    try:
        return json.loads(tree.read(handle, 2**20, 0)).get(name)
    finally:
        tree.release(handle)


def all_know_each_other(tree: SharedWritableTree) -> bool:
    found = [attribute(tree, path, "REFERENCE_LIST") for path in (b"/x", b"/y")]
    attached = [
        sorted(((each["dataset"], each["dimension"]) for each in entries), key=str)
        for entries in found
    ]
    return (
        attached == [[("/d", 0), ("/e", 0)], [("/d", 1)]]
        and attribute(tree, b"/d", "DIMENSION_LIST") == [["/x"], ["/y"]]
        and attribute(tree, b"/e", "DIMENSION_LIST") == [["/x"]]
    )


@pytest.mark.semantics("G14")
def test_scales_and_what_they_are_attached_to_know_each_other_when_one_is_replaced(
    service: Service, tmp_path: Path
) -> None:
    with trees_with_scales(service, tmp_path, 1) as (tree,):
        assert all_know_each_other(tree)
        for path, array in {b"/x.npy": np.ones(5), b"/d.npy": np.ones((5, 4)),
                            b"/e.npy": np.ones(5, "<i2")}.items():  # fmt: skip
            save(tree, path, array)
            assert all_know_each_other(tree)


@pytest.mark.semantics("G14")
def test_scales_and_what_they_are_attached_to_know_each_other_when_all_are_replaced_at_once(
    service: Service, tmp_path: Path
) -> None:
    with trees_with_scales(service, tmp_path, 4, LATER_SECONDS) as trees:
        arrays = {b"/x.npy": np.ones(5), b"/d.npy": np.ones((5, 4)), b"/e.npy": np.ones(5, "<i2"),
                  b"/y.npy": np.ones(4, "<i2")}  # fmt: skip
        doings = [
            lambda tree=tree, path=path, array=array: save(tree, path, array)
            for tree, (path, array) in zip(trees, arrays.items(), strict=True)
        ]
        assert errnos(at_once(doings)) == []
        wait_until(lambda: all_know_each_other(trees[0]))


@pytest.mark.semantics("G14")
def test_what_another_mount_has_taken_back_is_made_good_some_seconds_later(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trees_with_scales(service, tmp_path, 1) as (tree,):
        with monkeypatch.context() as patch:
            patch.setattr(scale_attributes, "write_bodies", lambda *_: None)
            save(tree, b"/x.npy", np.ones(5))
        wait_until(lambda: all_know_each_other(tree))


@pytest.mark.semantics("G14")
def test_what_cannot_be_told_is_in_the_log(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(_client: Client, _query: object, object_id: str) -> None:
        raise UnreadableError(f"{object_id}: the service has failed")

    with trees_with_scales(service, tmp_path, 1) as (tree,):
        monkeypatch.setattr(scale_attributes, "read_bodies", fail)
        save(tree, b"/x.npy", np.ones(5))
        assert "does not know what it belongs to" in caplog.text
