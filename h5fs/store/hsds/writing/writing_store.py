"""A domain of a data service as a store that writes, so that nothing is lost on the way.

The service has no transactions. So a new object is complete before it gets a name, an object that
is replaced keeps a name until the new one has its own, and before something is deleted the store
looks for what others do at the same time.
"""

from __future__ import annotations

import time
from math import prod
from typing import Any, Final

import numpy as np

from h5fs.errors import (
    ExistsError,
    ForbiddenError,
    GoneError,
    InvalidArrayError,
    LinkLoopError,
    LostChangesError,
    NotEmptyError,
    NotFoundError,
    StaleError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.model.datatypes import Datatype
from h5fs.model.objects import (
    Attribute,
    Link,
    LinkKind,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    Region,
    UnreadableAttribute,
)
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.hsds.answers import LinkAnswer, ObjectAnswer
from h5fs.store.hsds.datatype_json import parse_datatype, wire_bytes
from h5fs.store.hsds.object_descriptions import COLLECTIONS, KINDS, check_id, join_path, path_of
from h5fs.store.hsds.reading import selection_of
from h5fs.store.hsds.writing.array_sender import Elements, LentArray, LentSequences
from h5fs.store.hsds.writing.attribute_bodies import (
    attribute_title,
    delete_attributes,
    read_bodies,
    write_bodies,
)
from h5fs.store.hsds.writing.holding_store import HoldingHsdsStore
from h5fs.store.hsds.writing.link_bodies import (
    body_of,
    body_of_link,
    check_there,
    is_group,
)
from h5fs.store.hsds.writing.link_changes import REPLACED, Place
from h5fs.store.hsds.writing.new_types import describe_type, kept_type
from h5fs.store.hsds.writing.packing import attribute_to_json
from h5fs.store.hsds.writing.scale_attributes import lead_to_new
from h5fs.store.hsds.writing.shapes import (
    elements_of,
    may_grow,
    space_of,
    type_for,
    would_lose_rows,
)
from h5fs.store.interface import ArrayFile
from h5fs.store.resolving import Resolver

_LAYOUT_SECONDS: Final = 1.0
_LAYOUTS_KEPT: Final = 1024


class WritingHsdsStore(HoldingHsdsStore):
    """Answers the questions of ``h5fs.store.interface.WritingStore``."""

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        group_id = self._group_id(group)
        try:
            link = super().get_link(group, name)
        except NotFoundError:
            found = self._links.find_again(group_id, name)
            if found is None:
                raise
            return self._look_at_one(found, group)
        self._links.note_seen(group_id, name)
        return link

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        return self._create(group, name, "/groups", {})

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        return self._create(group, name, "/datatypes", {"type": describe_type(datatype)})

    def create_link(self, group: ObjectRef, link: Link) -> None:
        group_id = self._place(group, link.name)
        target_id = ""
        if link.kind is LinkKind.HARD:
            assert link.target is not None
            target_id = self._id_of(link.target.ref)
        with self._changing():
            self._links.make(group_id, link.name, body_of_link(link, target_id))
        if target_id:
            self._maps(0).forget()

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        group_id = self._place(group, name)
        found = check_there(self._links.find(group_id, name), group, name)
        with self._changing():
            self._links.delete(group_id, name)
            if is_group(body_of(found)) and not self._links.is_empty(found.id):
                # As another mount has made something in it meanwhile.
                self._links.make(group_id, name, body_of(found))
                raise NotEmptyError(f"{show_path(join_path(group.path, name))} is not empty")
        self._add_removed(found, (group.path, group_id, name))

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> ObjectInfo | None:
        group_id = self._place(group, name)
        new_id = self._place(new_group, new_name)
        with self._changing():
            found, old = self._links.move(
                (group.path, group_id, name), (new_group.path, new_id, new_name)
            )
        check_there(found, group, name)
        if old is not None:
            self._add_removed(old, (new_group.path, new_id, new_name))
        return None

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        group_id = self._place(group, name)
        # Of a new one the name must still be free, or whoever was quicker would lose theirs.
        old = None if array.is_new else self._old_dataset(group, group_id, name)
        datatype, trailing = type_for(old, array)
        lent = LentArray(array, datatype, trailing)
        if old is not None and would_lose_rows(old, lent.shape, array.old_rows):
            raise InvalidArrayError(
                f"{show_path(join_path(group.path, name))} cannot grow, as it was made, and others "
                "may have written to it: write the whole file anew"
            )
        return self._put_dataset(group, name, old, datatype, lent, is_new=array.is_new)

    def reserve_array(
        self, _group: ObjectRef, _shape: tuple[int, ...], _dtype: np.dtype[Any]
    ) -> Region | None:
        return None  # arrays go by way of a draft, as a whole and in large pieces

    def finish_array(
        self, group: ObjectRef, name: bytes, _region: Region, _tail: bytes
    ) -> ObjectInfo:
        raise LostChangesError(f"{show_path(join_path(group.path, name))}: no array is reserved")

    def drop_array(self, region: Region) -> None:
        """Do nothing: there is none."""

    def write_region(self, region: Region, _data: memoryview, _offset: int) -> None:
        raise LostChangesError(f"no array {region.number} is reserved")

    def clear_region(self, region: Region, _start: int, _stop: int) -> None:
        raise LostChangesError(f"no array {region.number} is reserved")

    def read_region(self, region: Region, _buffer: memoryview, _offset: int) -> None:
        raise LostChangesError(f"no array {region.number} is reserved")

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: ArrayFile, offsets: ArrayFile
    ) -> ObjectInfo:
        rows = LentSequences(values, offsets)
        is_new = values.is_new and offsets.is_new
        old = None if is_new else self._old_dataset(group, self._place(group, name), name)
        return self._put_dataset(group, name, old, rows.datatype, rows, is_new=is_new)

    def write_elements(
        self, ref: ObjectRef, offset: int, data: bytes, _is_mapped: bool = False
    ) -> None:
        answer, item_bytes, shape = self._layout_of(ref)
        start, skip = divmod(offset, item_bytes)
        stop = -(-(offset + len(data)) // item_bytes)
        if stop > prod(shape):
            raise StaleError(f"{show_path(ref.path)} has become shorter: open the file again")
        whole = bytearray(data)
        if skip or (offset + len(data)) % item_bytes:
            whole = self._with_edges(answer.id, shape, item_bytes, start, stop, skip, data)
        with self._changing():
            try:
                self._writer.write_range(answer.id, shape, start, memoryview(whole), item_bytes)
            finally:
                self._readers.forget_values(answer.id)

    def change_array(
        self, ref: ObjectRef, array: ArrayFile, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        answer = self._ask_for_dataset(ref)
        datatype = parse_datatype(answer.type)
        shape = answer.shape.shape() if answer.shape is not None else None
        if not shape or kept_type(datatype, array.dtype.base, array.dtype.shape) is None:
            return False
        old_rows = shape[0] if array.old_rows is None else array.old_rows
        if (
            len(shape) != len(array.shape)
            or shape[1:] != array.shape[1:]
            or (array.shape[0] < old_rows)
        ):
            return False
        if array.shape[0] > old_rows and not may_grow(answer, array.shape[0] - old_rows):
            return False
        if shape[0] < old_rows:
            raise StaleError(f"{show_path(ref.path)} has become shorter: open the file again")
        lent = LentArray(array, datatype, len(array.dtype.shape))
        with self._changing():
            try:
                parts = tuple(elements_of(ranges, lent.item_bytes, old_rows, shape))
                self._writer.write_ranges(answer.id, shape, lent, parts)
                if array.shape[0] > old_rows:
                    self._writer.append(answer.id, lent, old_rows)
            finally:
                self._readers.forget_values(answer.id)
                self._forget_layout(answer.id)
        return True

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> tuple[ObjectInfo, tuple[Attribute | UnreadableAttribute, ...]]:
        object_id, query = self._id_of(ref), self._query(0)
        bodies = {
            attribute_title(each.name): attribute_to_json(each, self._reference_to)
            for each in attributes
        }
        with self._changing():
            if bodies:
                write_bodies(self._client, query, object_id, bodies)
            delete_attributes(self._client, query, object_id, gone)
        return self._describe(object_id, 0, ref.path), self.read_attributes(ref)

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        root = self.root().ref
        return tuple(path for path in paths if self._walk(root, path) is None)

    def _create(
        self, group: ObjectRef, name: bytes, place: str, body: dict[str, Any]
    ) -> ObjectInfo:
        group_id = self._place(group, name)
        made = self._client.ask("POST", place, ObjectAnswer, self._query(0), body)
        with self._named_or_removed(made.id), self._changing():
            self._links.make(group_id, name, {"id": made.id})
        return self._describe(made.id, 0, join_path(group.path, name))

    def _put_dataset(
        self, group: ObjectRef, name: bytes, old: ObjectAnswer | None, datatype: Datatype,
        elements: Elements, *, is_new: bool,
    ) -> ObjectInfo:  # fmt: skip
        """Make a dataset, and only when it is complete give it its name, or names."""
        group_id, query = self._group_id(group), self._query(0)
        body = {
            "type": describe_type(datatype),
            **space_of(old, elements.shape, self._new_datasets),
        }
        made = self._client.ask("POST", "/datasets", ObjectAnswer, query, body)
        with self._named_or_removed(made.id), self._changing():
            chunk_shape = made.chunk_shape(len(elements.shape))
            self._writer.write_all(made.id, elements, datatype, chunk_shape)
            if old is None:
                try:
                    self._links.make(group_id, name, {"id": made.id})
                except ExistsError:
                    # One that was to be replaced was gone, and has come again meanwhile.
                    old = None if is_new else self._old_dataset(group, group_id, name)
                    if old is None:
                        raise
            if old is not None:
                self._take_place((group.path, group_id, name), old.id, made.id)
        return self._describe(made.id, 0, join_path(group.path, name))

    def _add_removed(self, link: LinkAnswer, place: Place) -> None:
        if link.id:
            self._removed.add(link.id, place=place if is_group(body_of(link)) else None)

    def _take_place(self, place: Place, old_id: str, new_id: str) -> None:
        """Give a complete dataset the names of another one, and its attributes.

        What another mount has put there since the old one was looked at is replaced with it.
        """
        path, group_id, name = place
        now = self._links.find(group_id, name)
        latest = now.id if now is not None and _is_dataset(now) else old_id
        attributes = self._copy_attributes(latest, new_id)
        old = self._links.put(path, group_id, name, {"id": new_id})
        if old is None or not _is_dataset(old):  # what had the name has another one, or is gone
            return
        if old.id != latest:
            attributes = self._copy_attributes(old.id, new_id)
        moved = self._other_names_of(old.id, place)
        self._lead_to(moved, old.id, new_id)
        # Another mount that has replaced this one since may not have seen these names yet.
        while moved:
            now = self._links.find(group_id, name)
            if now is None or now.id == new_id or not _is_dataset(now):
                break
            self._lead_to(moved, new_id, now.id)
            new_id = now.id
        lead_to_new(self._client, self._query(0), old.id, new_id, attributes)
        self._removed.add(old.id, successor=new_id, attributes=attributes)

    def _copy_attributes(self, old_id: str, new_id: str) -> dict[str, Any]:
        query = self._query(0)
        try:
            attributes = read_bodies(self._client, query, old_id)
        except GoneError:  # it has lost its last name a while ago
            return {}
        if attributes:
            write_bodies(self._client, query, new_id, attributes)
        return attributes

    def _lead_to(self, places: list[Place], old_id: str, new_id: str) -> None:
        for path, group_id, name in places:
            self._links.put(path, group_id, name, {"id": new_id}, only_over=old_id)

    def _old_dataset(self, group: ObjectRef, group_id: str, name: bytes) -> ObjectAnswer | None:
        found = self._links.find(group_id, name)
        if found is None:
            return None
        if not _is_dataset(found):
            path = show_path(join_path(group.path, name))
            raise ExistsError(f"{path} exists and is not a dataset")
        return self._object(check_id(found.id), 0)

    def _other_names_of(self, object_id: str, place: Place) -> list[Place]:
        """Return the other places whose names lead to an object."""
        return [
            (path, group_id, name)
            for group_id, path, name in self._maps(0).places_of(object_id)
            if (group_id, name) != place[1:] and REPLACED not in name
        ]

    def _layout_of(self, ref: ObjectRef) -> tuple[ObjectAnswer, int, tuple[int, ...]]:
        """Return what is known of a dataset whose elements have one size; a moment old at most."""
        object_id = self._id_of(ref)
        with self._changes_lock:
            known_at, answer = self._layouts.get(object_id, (0.0, None))
        if answer is None or time.monotonic() - known_at > _LAYOUT_SECONDS:
            answer = self._ask_for_dataset(ref)
            with self._changes_lock:
                if len(self._layouts) >= _LAYOUTS_KEPT:
                    self._layouts.clear()
                self._layouts[object_id] = (time.monotonic(), answer)
        item_bytes = wire_bytes(parse_datatype(answer.type))
        shape = answer.shape.shape() if answer.shape is not None else None
        if item_bytes is None or shape is None:
            raise UnsupportedTypeError("elements of this type cannot be changed in place")
        return answer, item_bytes, shape

    def _forget_layout(self, object_id: str) -> None:
        with self._changes_lock:
            self._layouts.pop(object_id, None)

    def _with_edges(
        self, object_id: str, shape: tuple[int, ...], item_bytes: int, start: int, stop: int,
        skip: int, data: bytes,
    ) -> bytearray:  # fmt: skip
        """Return whole elements: ``data`` with what the first and the last element lack there."""
        whole = bytearray((stop - start) * item_bytes)
        for each in {start, stop - 1}:
            (slab,) = split_into_hyperslabs(shape, each, each + 1)
            at = (each - start) * item_bytes
            self._client.read_into(
                f"{path_of(object_id)}/value", {**self._query(0), **selection_of(slab)},
                memoryview(whole)[at : at + item_bytes],
            )  # fmt: skip
        whole[skip : skip + len(data)] = data
        return whole

    def _walk(self, root: ObjectRef, path: bytes) -> ObjectInfo | None:
        try:
            return Resolver(self, leaves_file=False).walk(root, path)
        except (NotFoundError, LinkLoopError, ForbiddenError):
            return None

    def _reference_to(self, target: Any) -> bytes:
        """Return what the service keeps for a reference to an HDF5 path."""
        found = self._walk(self.root().ref, target) if isinstance(target, bytes) else None
        if found is None:
            raise UnsupportedTypeError("a reference to what has no path in the domain")
        object_id = self._id_of(found.ref)
        return f"{COLLECTIONS[object_id[0]]}/{object_id}".encode()


def _is_dataset(link: LinkAnswer) -> bool:
    return KINDS.get(link.id[:1]) is ObjectKind.DATASET
