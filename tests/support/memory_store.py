"""A store that writes, in memory, made from the promise of ``h5fs.store.interface`` alone.

For tests of what the tree asks a store: groups, arrays in C order, attributes and links, with no
HDF5 library and no process. A method that the tree must not need is not there.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from h5fs.errors import ExistsError, NotFoundError, UnreadableError
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import (
    Attribute,
    DatasetInfo,
    Link,
    LinkKind,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    Region,
)
from h5fs.store.interface import ArrayFile, ArrayPart
from h5fs.store.statistics import StoreStatistics

_ROOM = SpaceStatus(4096, 4096, 2**20, 2**20, 2**20)


@dataclass
class _Object:
    ref: ObjectRef
    kind: ObjectKind
    links: dict[bytes, Link] = field(default_factory=dict)
    attributes: dict[bytes, Attribute] = field(default_factory=dict)
    array: np.ndarray[Any, Any] | None = None


class MemoryStore:
    """Keeps what the promise says. ``calls``: the names of the methods that changed something."""

    def __init__(self) -> None:
        self._ids = itertools.count(4, 4)
        self._objects: dict[int, _Object] = {}
        self._root = self._make(ObjectKind.GROUP, b"/")
        self._hidden: ObjectRef | None = None
        self.held: list[ObjectRef] = []
        self.calls: list[str] = []
        self.is_closed = False

    def array(self, path: bytes) -> np.ndarray[Any, Any]:
        """Return the array of a dataset, by its HDF5 path."""
        found = self._at(path).array
        assert found is not None
        return found

    def attribute_names(self, path: bytes) -> set[bytes]:
        """Return the names of an object's attributes, by its HDF5 path."""
        return set(self._at(path).attributes)

    def names(self, path: bytes = b"/") -> set[bytes]:
        """Return the link names of a group, the hidden group's not."""
        return set(self._at(path).links)

    # What is asked.

    def root(self, file: int = 0) -> ObjectInfo:
        assert file == 0
        return self._info(self._root)

    def list_links(self, group: ObjectRef) -> LinkTable:
        links = [self.get_link(group, name) for name in sorted(self._of(group).links)]
        rows = np.zeros(len(links), ROW)
        for row, link in zip(rows, links, strict=True):
            if link.target is not None:
                row["object_id"] = link.target.ref.id
                row["dataset"] = row["array"] = -1
                row["kind"] = OBJECT_KINDS.index(link.target.kind)
                row["attribute_count"] = link.target.attribute_count
                row["hard_link_count"] = link.target.hard_link_count
        stops = np.cumsum([len(each.name) for each in links], dtype="<u8")
        others = {i: each for i, each in enumerate(links) if each.target is None}
        names = b"".join(each.name for each in links)
        return LinkTable(group, names, stops.tobytes(), rows.tobytes(), (), others)

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        link = self._of(group).links.get(name)
        if link is None:
            raise NotFoundError(f"no link {name!r}")
        if link.target is None:
            return link
        return Link(name, LinkKind.HARD, self._info(self._of(link.target.ref)))

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        array = self._of(ref).array
        if array is None:
            raise UnreadableError("no dataset")
        return DatasetInfo(array.shape, array.dtype, array.nbytes)

    def read_into(
        self, ref: ObjectRef, _dataset: DatasetInfo, _part: ArrayPart, offset: int,
        buffer: memoryview,
    ) -> None:  # fmt: skip
        array = self._of(ref).array
        assert array is not None
        buffer[:] = array.tobytes()[offset : offset + len(buffer)]

    def attributes_at_hand(self, _ref: ObjectRef) -> bytes | None:
        return None

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute, ...]:
        return tuple(self._of(ref).attributes.values())

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(path for path in paths if not self._is_there(path))

    def file_status(self, file: int) -> FileStatus:
        assert file == 0
        return FileStatus(0o644, os.getuid(), os.getgid(), 2**20, 1, 1)

    def file_system_status(self) -> SpaceStatus:
        return _ROOM

    def statistics(self) -> StoreStatistics:
        return StoreStatistics()

    # What is done.

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        return self._add(group, name, self._make(ObjectKind.GROUP, _join(group, name)))

    def create_link(self, group: ObjectRef, link: Link) -> None:
        self.calls.append("create_link")
        if link.name in self._of(group).links:
            raise ExistsError(f"{link.name!r} exists")
        self._of(group).links[link.name] = link

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        self.calls.append("delete_link")
        self.get_link(group, name)
        del self._of(group).links[name]

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> ObjectInfo | None:
        self.calls.append("move_link")
        self.get_link(group, name)
        self._of(new_group).links[new_name] = self._of(group).links.pop(name)
        return None

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        self.calls.append("write_array")
        data = array.data or os.pread(array.descriptor, array.size_bytes, 0)
        values = np.frombuffer(data, array.dtype, offset=array.data_start).reshape(array.shape)
        if name in self._of(group).links:
            target = self.get_link(group, name).target
            assert target is not None
            self._of(target.ref).array = values
            return self._info(self._of(target.ref))
        made = self._make(ObjectKind.DATASET, _join(group, name))
        made.array = values
        return self._add(group, name, made)

    def change_array(
        self, _ref: ObjectRef, _array: ArrayFile, _ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        return False

    def reserve_array(
        self, _group: ObjectRef, _shape: tuple[int, ...], _dtype: np.dtype[Any]
    ) -> Region | None:
        return None

    def write_elements(
        self, ref: ObjectRef, offset: int, data: bytes, _is_mapped: bool = False
    ) -> None:
        self.calls.append("write_elements")
        held = self._of(ref)
        assert held.array is not None
        changed = bytearray(held.array.tobytes())
        changed[offset : offset + len(data)] = data
        held.array = np.frombuffer(bytes(changed), held.array.dtype).reshape(held.array.shape)

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> tuple[ObjectInfo, tuple[Attribute, ...]]:
        self.calls.append("write_attributes")
        held = self._of(ref).attributes
        held.update({each.name: each for each in attributes})
        for name in gone:
            del held[name]
        return self._info(self._of(ref)), tuple(held.values())

    def data_version(self, _ref: ObjectRef) -> None:
        return None

    def hold(self, ref: ObjectRef) -> None:
        self.held.append(ref)

    def let_go(self, *refs: ObjectRef) -> None:
        for ref in refs:
            self.held.remove(ref)

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        if self._hidden is None and makes:
            self._hidden = self._make(ObjectKind.GROUP, b"/.hidden").ref
        return self._hidden

    def remove_hidden(self) -> None:
        self._hidden = None

    def commit(self, is_checkpoint: bool = False) -> None:
        self.calls.append("commit")

    def close(self) -> None:
        self.is_closed = True

    def _make(self, kind: ObjectKind, path: bytes) -> _Object:
        made = _Object(ObjectRef(0, next(self._ids), path), kind)
        self._objects[made.ref.id] = made
        return made

    def _add(self, group: ObjectRef, name: bytes, made: _Object) -> ObjectInfo:
        self.create_link(group, Link(name, LinkKind.HARD, self._info(made)))
        return self._info(made)

    def _of(self, ref: ObjectRef) -> _Object:
        return self._objects[ref.id]

    def _info(self, held: _Object) -> ObjectInfo:
        return ObjectInfo(held.ref, held.kind, len(held.attributes))

    def _at(self, path: bytes) -> _Object:
        here = self._root
        for name in path.split(b"/"):
            if name:
                target = self.get_link(here.ref, name).target
                assert target is not None
                here = self._of(target.ref)
        return here

    def _is_there(self, path: bytes) -> bool:
        try:
            self._at(path)
        except NotFoundError:
            return False
        return True


def _join(group: ObjectRef, name: bytes) -> bytes:
    return group.path.rstrip(b"/") + b"/" + name
