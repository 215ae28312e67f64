"""Paths of objects that references lead to: right after each change, and found without a walk."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_small_changes import Written, written

from h5fs.errors import H5fsError
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.projection.json.attribute_file import INT64
from h5fs.store.hdf5.objects import references
from h5fs.store.hdf5.objects.references import walk_for_paths
from h5fs.store.hdf5.writing.hidden_group import leads_to

GROUPS = (b"", b"/g", b"/h", b"/g/deep")
NAMES = (b"a", b"b", b"c", b"deep")


@pytest.mark.semantics("R29")
@pytest.mark.parametrize("seed", range(12))
def test_paths_that_are_kept_lead_to_their_objects_after_any_change(
    tmp_path: Path, seed: int
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", libver="latest" if seed % 2 else "earliest") as made:
        made["g/a"] = made["h/b"] = made["g/deep/c"] = np.arange(3)
    choose = random.Random(seed)
    seen: set[int] = set()
    with written(file) as it:
        file_id, changes = it.store._files.file_id(0), Changes(it, choose)
        for _ in range(150):
            with suppress(H5fsError):  # what is there already, or not there
                changes.any()()
            found, path_of = walk_for_paths(file_id), it.store._path_of(0)
            for address, path in found.items():
                kept = path_of(address)
                assert (kept is None) == (path is None), (address, path, kept)
                assert kept is None or leads_to(file_id, kept, address), (address, path, kept)
            for address in seen.difference(found):  # the next object may get the number
                assert path_of(address) is None
            seen.update(found)
        assert changes.count > 30


class Changes:
    """Changes of links, chosen at random. ``count``: how many were made."""

    def __init__(self, it: Written, choose: random.Random) -> None:
        self._it, self._choose = it, choose
        self._held: list[int] = []
        self.count = 0

    def any(self) -> Callable[[], Any]:
        """Return one."""
        kinds = (self._save, self._save, self._remove, self._move, self._link, self._group)
        kinds = (*kinds, self._datatype)
        return self._choose.choice((*kinds, self._drop))

    def _place(self) -> tuple[ObjectRef, bytes]:
        path = self._choose.choice(GROUPS)
        group = self._it.root
        for name in path.split(b"/")[1:]:
            target = self._it.store.get_link(group, name).target
            assert target is not None
            group = target.ref
        return group, self._choose.choice(NAMES)

    def _save(self) -> None:
        group, name = self._place()
        self._it.save(group, name, np.zeros(self._choose.randrange(1, 9)))
        self.count += 1

    def _remove(self) -> None:
        group, name = self._place()
        self._it.store.delete_link(group, name, self._opened(group, name))
        self.count += 1

    def _move(self) -> None:
        (group, name), (new_group, new_name) = self._place(), self._place()
        if not new_group.path.startswith(group.path.rstrip(b"/") + b"/" + name):
            opened = self._opened(new_group, new_name)
            self._it.store.move_link(group, name, new_group, new_name, opened)
            self.count += 1

    def _link(self) -> None:
        (group, name), (new_group, new_name) = self._place(), self._place()
        link = Link(new_name, LinkKind.HARD, target=self._it.store.get_link(group, name).target)
        self._it.store.create_link(new_group, link)
        self.count += 1

    def _group(self) -> None:
        self._it.store.create_group(*self._place())
        self.count += 1

    def _datatype(self) -> None:
        self._it.store.create_datatype(*self._place(), INT64)
        self.count += 1

    def _drop(self) -> None:
        self._it.store.drop_nameless(tuple(self._held))
        self._held.clear()

    def _opened(self, group: ObjectRef, name: bytes) -> tuple[int, ...]:
        """Have a program, perhaps, hold the object that is about to lose a link."""
        target = self._it.store.get_link(group, name).target
        if target is not None and self._choose.random() < 0.5:
            self._held.append(target.ref.id)
        return tuple(self._held)


def test_variables_that_are_saved_one_after_another_need_one_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as made:
        made["scale"] = np.arange(3)
    with written(file) as it:
        walks: list[object] = []

        def walk(object_id: Any) -> dict[int, bytes | None]:
            walks.append(object_id)
            return walk_for_paths(object_id)

        monkeypatch.setattr(references, "walk_for_paths", walk)
        for number in range(20):
            name, moved = b"x%d" % number, b"y%d" % number
            ref = it.save(it.root, name, np.zeros(number)).ref
            assert it.store._path_of(0)(ref.id) == b"/" + name
            it.store.move_link(it.root, name, it.root, moved)
            assert it.store._path_of(0)(ref.id) == b"/" + moved
            it.store.delete_link(it.root, moved, (ref.id,))
            assert it.store._path_of(0)(ref.id) is None
            it.store.drop_nameless((ref.id,))
        assert len(walks) == 1
