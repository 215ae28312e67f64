"""The store of a mode that writes: one operation, one step from a whole file to the next.

Each operation checks everything before it changes anything: an error within a step would end this
process (``stepwise_store``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from h5py import h5d, h5g, h5l, h5o

from h5fs.errors import (
    ExistsError,
    H5fsError,
    NotFoundError,
    ReadOnlyError,
    UnreadableError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.model.datatypes import Datatype
from h5fs.model.objects import (
    Attribute,
    Link,
    LinkKind,
    ObjectInfo,
    ObjectRef,
    UnreadableAttribute,
)
from h5fs.store.hdf5.objects.attributes import (
    delete_attributes,
    prepare_attribute,
    read_attributes,
)  # fmt: skip
from h5fs.store.hdf5.objects.links import describe_opened, join_path, look_at
from h5fs.store.hdf5.reading.direct_reading import has_whole_edges
from h5fs.store.hdf5.reserving_store import ReservingStore
from h5fs.store.hdf5.types.array_types import check_size, kept_type
from h5fs.store.hdf5.types.type_ids import create_datatype
from h5fs.store.hdf5.writing.array_writer import (
    ElementSource,
    check_parts,
    write_parts,
)
from h5fs.store.hdf5.writing.chunk_changes import ChunkChanges, first_changed_element
from h5fs.store.hdf5.writing.copying import CopySource, copy_as, copy_contents
from h5fs.store.hdf5.writing.creating import (
    can_take,
    check_can_encode,
    link_properties,
)
from h5fs.store.hdf5.writing.hidden_group import changed_without, check_visible, unlink_or_keep
from h5fs.store.hdf5.writing.in_place import find_in_place, prepare_write
from h5fs.store.hdf5.writing.kept_elements import check_kept
from h5fs.store.hdf5.writing.narrow_types import holds_part
from h5fs.store.hdf5.writing.replacing import Replacement
from h5fs.store.hdf5.writing.sequence_writer import (
    check_offsets,
    create_sequences,
    sequence_type,
    write_rows,
)
from h5fs.store.hidden_names import is_hidden
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import ChangedPart, NewArray, Uncopied


class WritingHdf5Store(ReservingStore):
    """Answers what ``h5fs.store.library_interface.WritingLibraryStore`` promises.

    ``is_broken``: it must not be used any more.
    """

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            parent = self._free_place(group, name)
            with self._step(()):
                new_id = h5g.create(
                    parent, name, link_properties(name), self._inherited(group).group
                )
            info = describe_opened(new_id, join_path(group.path, name), look_at(new_id))
            self._note_path(info.ref.id, info.ref.path)
        return info

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            type_id = create_datatype(datatype)
            check_size(type_id)
            parent = self._free_place(group, name)
            with self._step(()):
                type_id.commit(parent, name, link_properties(name))
            info = self._info(group, name)
            self._note_path(info.ref.id, info.ref.path)
        return info

    def create_link(self, group: ObjectRef, link: Link) -> None:
        with self._changing(join_path(group.path, link.name)):
            parent = self._free_place(group, link.name)
            target, properties = None, link_properties(link.name)
            if link.target is not None:
                target = self._opened.open(link.target.ref).identifier
            with self._step(()):
                if link.kind is LinkKind.SOFT:
                    parent.links.create_soft(link.name, link.soft_target, properties)
                elif link.kind is LinkKind.EXTERNAL:
                    parent.links.create_external(
                        link.name, link.external_file, link.external_path, properties
                    )
                else:
                    h5o.link(target, parent, link.name, properties)
            if link.target is not None:
                self._note_path(link.target.ref.id, join_path(group.path, link.name))

    def delete_link(self, group: ObjectRef, name: bytes, opened: tuple[int, ...] = ()) -> None:
        with self._changing(join_path(group.path, name)):
            parent = self._group_id(group)
            info = self._link_info(parent, group, name)
            changed = changed_without(parent, name, info)
            with self._step(changed):
                self._forget_all(group, unlinked=changed)
                unlink_or_keep(parent, name, info, opened, self._make_hidden)

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes,
        opened: tuple[int, ...] = (),
    ) -> ObjectInfo | None:  # fmt: skip
        with self._changing(join_path(group.path, name)):
            parent = self._group_id(group)
            info = self._link_info(parent, group, name)
            check_visible(new_group.path, new_name)
            if name == new_name and group == new_group:  # a group may have several paths
                return self.get_link(group, name).target
            target = self._group_id(new_group)
            over = target.links.get_info(new_name) if target.links.exists(new_name) else None
            changed = () if over is None else changed_without(target, new_name, over)
            moved = changed_without(parent, name, info) if self._object_paths else None
            unlinked = None if moved is None or changed is None else moved + changed
            with self._step(changed):
                self._forget_all(group, new_group, unlinked=unlinked)
                if over is not None:
                    unlink_or_keep(target, new_name, over, opened, self._make_hidden)
                parent.links.move(name, target, new_name, link_properties(new_name))
            if info.type != h5l.TYPE_HARD:
                return None
            path = join_path(new_group.path, new_name)
            self._note_path(info.u, path)
            with suppress(H5fsError):  # the link is moved; whoever asks for it is told why
                return self._links.describe_object(target, new_name, file=new_group.file, path=path)
            return None

    def write_array(self, group: ObjectRef, name: bytes, array: NewArray) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            source = self._source(array)
            replacement = self._replacement(
                group, name, keeps_old=array.is_read, stored_like=array.stored_like
            )
            plan = replacement.plan(source, array)
            with self._step(replacement.changed):
                self._forget_all(group, unlinked=replacement.unlinked)
                written = replacement.write(plan)
            del replacement  # closes the dataset that was replaced
            info = self._info_of(written, join_path(group.path, name))
            self._note_path(info.ref.id, info.ref.path)
        return info

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: NewArray, offsets: NewArray,
        opened: tuple[int, ...] = (),
    ) -> ObjectInfo:  # fmt: skip
        with self._changing(join_path(group.path, name)):
            replacement = self._replacement(group, name, opened=opened)
            source = self._source(values)
            new_type = sequence_type(source, replacement.old_id, self._on_progress)
            where = self._source(offsets).whole()
            check_offsets(where, values.shape[0])
            replacement.check()
            with self._step(replacement.changed):
                self._forget_all()
                new_id = create_sequences(
                    replacement.file_id, len(where) - 1, new_type, replacement.old_id,
                    replacement.inherited,
                )  # fmt: skip
                write_rows(
                    new_id, new_type.memory_type, source, where.astype("<i8"), self._on_progress
                )
                replacement.put(new_id)
            del replacement
        return self._info(group, name)

    def write_elements(
        self, ref: ObjectRef, offset: int, data: bytes, is_mapped: bool = False
    ) -> None:
        with self._changing(ref.path):
            opened = self._opened_dataset(ref)
            dataset_id, dtype = opened.identifier, self._projected(ref).dtype
            in_place = find_in_place(opened, dtype, ref.path)
            item = dtype.itemsize
            start, skip = divmod(offset, item)
            stop = -(-(offset + len(data)) // item)
            whole: bytes | bytearray = data
            if skip or (offset + len(data)) % item:
                whole = bytearray(self.read_elements(ref, ArrayPart.ELEMENTS, start, stop))
                whole[skip : skip + len(data)] = data
            elements = np.frombuffer(whole, dtype.base).reshape(-1, *dtype.shape)
            if in_place.is_filtered:
                self._check_kept(ref, dataset_id, in_place.creation, None, [(start, stop)])
            write = prepare_write(dataset_id, in_place, elements, start, ref.path)
            with self._blank.filling(is_mapped), self._step((ChangedPart(ref.id, start * item),)):
                write(self._on_progress)
                self._forget_elements(ref)

    def change_array(
        self, ref: ObjectRef, array: NewArray, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        with self._changing(ref.path):
            dataset_id = self._dataset_id(ref)
            write_type = kept_type(dataset_id.get_type(), array.dtype)
            if write_type is None or not can_take(dataset_id, write_type, array.shape):
                return False
            creation = dataset_id.get_create_plist()
            check_can_encode(creation)
            source, item = self._source(array), array.dtype.itemsize
            # Whole elements: the lent file also has the bytes beside the changed ones.
            parts = [(low // item, -(-high // item)) for low, high in ranges]
            if not all(holds_part(source, start, stop, write_type) for start, stop in parts):
                return False
            check_parts(source, parts, write_type)
            self._check_kept(ref, dataset_id, creation, array.shape, parts)
            changes = ChunkChanges(dataset_id, write_type, array.shape, parts, source.flat)
            if not changes.are_held():
                return False
            is_filtered = creation.get_layout() == h5d.CHUNKED and creation.get_nfilters() > 0
            needs_whole_chunks = is_filtered and changes.need_whole_chunks()
            old_shape = dataset_id.get_space().get_simple_extent_dims()
            start = first_changed_element(old_shape, array.shape, parts)
            with self._step((ChangedPart(ref.id, start * item),)):
                if old_shape != array.shape:
                    dataset_id.set_extent(array.shape)
                    self._opened.open(ref).in_place = None
                if needs_whole_chunks:
                    changes.write(self._on_progress)
                else:
                    write_parts(dataset_id, source, parts, write_type, self._on_progress)
                self._forget_elements(ref)
            return True

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> tuple[ObjectInfo, tuple[Attribute | UnreadableAttribute, ...]]:
        with self._changing(ref.path):
            opened = self._opened.open(ref)
            identifier = opened.identifier
            prepared = [prepare_attribute(identifier, each) for each in attributes]
            with self._step((), attributes=True):
                if gone:
                    delete_attributes(identifier, gone, on_progress=self._on_progress)
                for each in prepared:
                    self._on_progress()
                    each.write()
            info = look_at(identifier)
            return describe_opened(identifier, ref.path, info), read_attributes(
                identifier, creation=opened.creation, info=info, paths=self._path_of(ref.file),
                on_progress=self._on_progress, written=attributes,
            )  # fmt: skip

    def _check_kept(
        self, ref: ObjectRef, dataset_id: Any, creation: Any, shape: tuple[int, ...] | None,
        ranges: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Raise ``UnreadableError`` when what a change would keep beside ``ranges`` is damaged."""
        if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters():
            return  # what is kept is not read
        shape = shape or dataset_id.get_space().get_simple_extent_dims()
        try:
            check_kept(dataset_id, shape, ranges, whole_edges=has_whole_edges(self._files, ref))
        except (UnreadableError, UnsupportedTypeError) as error:
            raise type(error)(f"{show_path(ref.path)}: {error}") from None

    def copy_object(
        self, file: bytes, path: bytes, group: ObjectRef, name: bytes
    ) -> tuple[Uncopied, ...]:
        with self._changing(join_path(group.path, name)):
            number = self._files.find_external(file, linking_file=0)
            source = CopySource(self._files.file_id(number), path)
            target = self._free_place(group, name) if name else self._group_id(group)
            source.check(target)
            with self._step(()):
                self._forget_all()
                target = self._group_id(group)
                if not name:
                    return copy_contents(source, target, group.path, self._on_progress)
                copy_as(source, target, group.path, name, self._on_progress)
            return ()

    def _source(self, array: NewArray) -> ElementSource:
        data = array.data

        def map_bytes(start: int, stop: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
            if data is None:
                return self._shared_buffers.map(array.shared_buffer, start, stop)
            return np.frombuffer(data, np.uint8, stop - start, start)

        base, trailing = array.dtype.base, array.dtype.shape
        return ElementSource(
            map_bytes, array.data_start, base, array.shape + trailing, array.is_fortran_order,
            len(array.shape),
        )  # fmt: skip

    def _replacement(
        self, group: ObjectRef, name: bytes, *, keeps_old: bool = False,
        opened: tuple[int, ...] = (), stored_like: ObjectRef | None = None,
    ) -> Replacement:  # fmt: skip
        check_visible(group.path, name)
        parent = self._group_id(group)
        old_id = self._old_dataset(parent, group, name)
        is_beside = old_id is None and stored_like is not None
        if old_id is None and stored_like is not None:
            identifier = self._opened.open(stored_like).identifier
            old_id = identifier if isinstance(identifier, h5d.DatasetID) else None
        keeps_old = old_id is not None and (keeps_old or h5o.get_info(old_id).addr in opened)
        return Replacement(
            self._files.file_id(0), parent, self._inherited(group), name, old_id,
            self._new_datasets, keeps_old or is_beside, self._on_progress, is_beside,
        )  # fmt: skip

    def _link_info(self, parent: h5g.GroupID, group: ObjectRef, name: bytes) -> Any:
        """Return what the library says of a link. Raises ``NotFoundError``."""
        if not is_hidden(group.path, name):
            try:
                return parent.links.get_info(name)
            except Exception:  # any of h5py's
                if parent.links.exists(name):
                    raise
        raise NotFoundError(f"no link {show_path(join_path(group.path, name))}")

    def _old_dataset(
        self, parent: h5g.GroupID, group: ObjectRef, name: bytes
    ) -> h5d.DatasetID | None:
        if not parent.links.exists(name):
            return None
        path = show_path(join_path(group.path, name))
        link = self.get_link(group, name)
        # Opened as for reading: with its own settings for data in other files.
        identifier = None if link.target is None else self._opened.open(link.target.ref).identifier
        if not isinstance(identifier, h5d.DatasetID):
            raise ExistsError(f"{path} exists and is not a dataset")
        if identifier.get_create_plist().get_external_count():
            raise ReadOnlyError(f"{path}: its data are in other files, which are only read")
        return identifier
