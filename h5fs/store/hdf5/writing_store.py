"""The store of a mode that writes: one operation, one step from a whole file to the next.

Each operation checks first and changes then. After it the library is made to hand over what it
holds, and the log gets a commit that outlives this process. When something fails in between, this
store is done for: what it has of the file is no longer what the log has. The worker then ends, and
the next one begins at the last commit.
"""

from __future__ import annotations

import errno
import functools
import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5g, h5o

from h5fs.datatypes import Datatype
from h5fs.errors import (
    ChangeFailedError,
    ExistsError,
    H5fsError,
    InvalidArrayError,
    LostChangesError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UnreadableError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.objects import Attribute, Link, LinkKind, ObjectInfo, ObjectRef
from h5fs.options import NewDatasets, StoreOptions
from h5fs.store.hdf5 import attributes as attribute_functions
from h5fs.store.hdf5.array_types import WriteType, kept_type, natural_type
from h5fs.store.hdf5.array_writer import Source, write_part, write_range, write_tail
from h5fs.store.hdf5.creating import (
    can_take,
    create_dataset,
    lies_in_file,
    link_properties,
)
from h5fs.store.hdf5.datatypes import create_datatype
from h5fs.store.hdf5.links import join_path
from h5fs.store.hdf5.logged_main import PAGE_BYTES, LoggedMain
from h5fs.store.hdf5.replacing import Replacement
from h5fs.store.hdf5.sequences import element_type, sequence_type, write_rows
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.hdf5.translation import reading
from h5fs.store.interface import ArrayPart, NewArray

_log = logging.getLogger(__name__)

_MOST_LOG_BYTES = 2**26


class WritingHdf5Store(Hdf5Store):
    """Answers the questions of ``h5fs.store.interface.WritingLibraryStore``.

    ``is_broken``: it must not be used any more.
    """

    def __init__(self, options: StoreOptions, logged: LoggedMain, **others: Any) -> None:
        super().__init__(options, logged=logged, **others)
        self._file = logged.file
        self._new_datasets: NewDatasets = options.new_datasets
        self._held: Counter[ObjectRef] = Counter()
        self._held_ids: dict[ObjectRef, Any] = {}
        self._reserved: dict[int, h5d.DatasetID] = {}
        # No other worker's: who asks for one that has died must not get another.
        self._reserved_numbers = itertools.count(os.getpid() << 32)

    @property
    def may_be_replaced(self) -> bool:
        """What has no name, and is held or reserved, goes with this process."""
        return not self._reserved and not self._held

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            parent = self._free_place(group, name)
            with self._step():
                h5g.create(parent, name, link_properties())
        return self._info(group, name)

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            type_id = create_datatype(datatype)
            parent = self._free_place(group, name)
            with self._step():
                type_id.commit(parent, name, link_properties())
        return self._info(group, name)

    def create_link(self, group: ObjectRef, link: Link) -> None:
        with self._changing(join_path(group.path, link.name)):
            parent = self._free_place(group, link.name)
            with self._step():
                if link.kind is LinkKind.SOFT:
                    parent.links.create_soft(link.name, link.soft_target, link_properties())
                elif link.kind is LinkKind.EXTERNAL:
                    parent.links.create_external(
                        link.name, link.external_file, link.external_path, link_properties()
                    )
                else:
                    assert link.target is not None
                    target = self._open(link.target.ref).identifier
                    h5o.link(target, parent, link.name, link_properties())

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        with self._changing(join_path(group.path, name)):
            parent = self._group_id(group)
            if not parent.links.exists(name):
                raise NotFoundError(f"no link {show_path(name)}")
            with self._step():
                self._forget_all()
                self._group_id(group).unlink(name)

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> None:
        with self._changing(join_path(group.path, name)):
            if not self._group_id(group).links.exists(name):
                raise NotFoundError(f"no link {show_path(name)}")
            with self._step():
                self._forget_all()
                target = self._group_id(new_group)
                if target.links.exists(new_name):
                    target.unlink(new_name)
                self._group_id(group).links.move(
                    name, target, new_name, link_properties()
                )

    def write_array(self, group: ObjectRef, name: bytes, array: NewArray) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            source = self._source(array)
            old_id = self._old_dataset(group, name)
            with self._step():
                self._forget_all()
                self._replacement(group, name, old_id).write(source, array)
        return self._info(group, name)

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: NewArray, offsets: NewArray
    ) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            old_id = self._old_dataset(group, name)
            base = element_type(values.dtype, values.shape)
            with self._step():
                self._forget_all()
                where = self._source(offsets).whole().astype("<i8")
                count = len(where) - 1
                write_type = WriteType(sequence_type(base), base.dtype, base.memory_type, False)
                new_id = create_dataset(
                    self._files.file_id(0), (count,), 16, write_type, NewDatasets(), None
                )
                write_rows(new_id, base, self._source(values), where, self._on_progress)
                self._replacement(group, name, old_id).put(new_id)
        return self._info(group, name)

    def reserve_array(
        self, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[int, int, int] | None:
        with self._changing(b"a new array"):
            write_type = natural_type(dtype)
            item_bytes = write_type.file_type.get_size()
            is_plain = write_type.is_raw and item_bytes == dtype.itemsize
            if not is_plain or self._new_datasets != NewDatasets():
                return None
            with self._step():
                file_id = self._files.file_id(0)
                new_id = create_dataset(
                    file_id, shape, item_bytes, write_type, self._new_datasets, None,
                    takes_space=True,
                )  # fmt: skip
                h5f.flush(file_id)
                start, size = new_id.get_offset(), prod(shape) * item_bytes
                whole = size // PAGE_BYTES * PAGE_BYTES
                if start is None or start % PAGE_BYTES or not (
                    self._file.allows_direct_write(start, start + whole)
                ):
                    return None
            # From here on the file has it, without a name; should nobody finish it, its space in
            # the file is lost, and no more.
            number = next(self._reserved_numbers)
            self._reserved[number] = new_id
            return number, start, whole

    def finish_array(self, group: ObjectRef, name: bytes, number: int, tail: bytes) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            if number not in self._reserved:
                raise LostChangesError(f"the array for {show_path(name)} is lost")
            parent = self._free_place(group, name)
            with self._step():
                new_id = self._reserved.pop(number)
                self._file.note_direct_write()
                write_tail(new_id, tail)
                h5o.link(new_id, parent, name, link_properties())
        return self._info(group, name)

    def drop_array(self, number: int) -> None:
        with self._changing(b"an array"), self._step():
            self._reserved.pop(number, None)

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None:
        with self._changing(ref.path):
            dataset_id = self._dataset_id(ref)
            dtype = self._projected(ref).dtype
            write_type = kept_type(dataset_id.get_type(), dtype)
            if not lies_in_file(dataset_id):
                raise ReadOnlyError(f"{show_path(ref.path)}: its data are in other places")
            if write_type is None:
                raise UnsupportedTypeError("elements of this type cannot be changed in place")
            item = dtype.itemsize
            start, skip = divmod(offset, item)
            stop = -(-(offset + len(data)) // item)
            whole = bytearray(data)
            if skip or (offset + len(data)) % item:
                whole = bytearray(self.read_elements(ref, ArrayPart.ELEMENTS, start, stop))
                whole[skip : skip + len(data)] = data
            elements = np.frombuffer(whole, dtype.base).reshape(-1, *dtype.shape)
            write_type.convert(elements)  # what it refuses is refused before anything is done
            with self._step():
                write_range(dataset_id, elements, start, write_type)
                self._forget_scans(ref)

    def change_array(
        self, ref: ObjectRef, array: NewArray, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        with self._changing(ref.path):
            dataset_id = self._dataset_id(ref)
            write_type = kept_type(dataset_id.get_type(), array.dtype)
            if write_type is None or not can_take(dataset_id, write_type, array.shape):
                return False
            source = self._source(array)
            with self._step():
                if dataset_id.get_space().get_simple_extent_dims() != array.shape:
                    dataset_id.set_extent(array.shape)
                for low, high in ranges:
                    # Whole elements: what was there is in the file that is lent, too.
                    item = array.dtype.itemsize
                    write_part(
                        dataset_id, source, low // item, -(-high // item), write_type,
                        self._on_progress,
                    )  # fmt: skip
                self._forget_scans(ref)
            return True

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> None:
        with self._changing(ref.path):
            identifier = self._open(ref).identifier
            with self._step(attributes=True):
                for name in gone:
                    attribute_functions.delete_attribute(identifier, name)
                for attribute in attributes:
                    attribute_functions.write_attribute(identifier, attribute)

    def hold(self, ref: ObjectRef) -> None:
        with self._lock:
            if not self._held[ref]:
                self._held_ids[ref] = self._open(ref).identifier
            self._held[ref] += 1

    def let_go(self, ref: ObjectRef) -> None:
        with self._changing(ref.path):
            self._held[ref] -= 1
            if self._held[ref] > 0:
                return
            del self._held[ref]
            identifier = self._held_ids.pop(ref, None)
            if identifier is None or h5o.get_info(identifier).rc:
                return
            with self._step():  # it has no link left, and goes now
                self._opened.pop(ref, None)
                identifier.close()

    def commit(self, is_checkpoint: bool) -> None:
        with self._lock, self._failing("commit"):
            h5f.flush(self._files.file_id(0))
            if is_checkpoint:
                self._file.checkpoint()
            else:
                self._file.commit(durable=True)

    def _open(self, ref: ObjectRef) -> Any:
        if ref.file == 0 and ref in self._held_ids and ref not in self._opened:
            self._adopt(ref, self._held_ids[ref])
        return super()._open(ref)

    def _open_identifier(self, ref: ObjectRef) -> Any:
        identifier = super()._open_identifier(ref)
        # Its path may lead to another object by now, after a worker has died that kept this one.
        if ref.file == 0 and h5o.get_info(identifier).addr != ref.address:
            raise UnreadableError(f"{show_path(ref.path)}: another object has its name now")
        return identifier

    @contextmanager
    def _changing(self, what: bytes) -> Iterator[None]:
        """Hold the lock; what h5py raises before a step is a refusal that names ``what``."""
        with self._lock, reading(what):
            yield

    @contextmanager
    def _step(self, *, attributes: bool = False) -> Iterator[None]:
        """Commit what is done within, or be broken.

        ``attributes``: a refusal of one of them is told as it is.
        """
        with self._failing("change the file", keeps_refusals=attributes):
            yield
            h5f.flush(self._files.file_id(0))
            self._file.commit(durable=False)
            self._bound_log()

    def _bound_log(self) -> None:
        """Bring the log into the file when it has grown large. A failure harms nothing."""
        if self._file.log_bytes <= _MOST_LOG_BYTES:
            return
        try:
            self._file.checkpoint()
        except OSError as error:
            if self._file.failure is not None:
                raise
            _log.warning("the log stays at %d bytes: %s", self._file.log_bytes, error)

    @contextmanager
    def _failing(self, what: str, *, keeps_refusals: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.is_broken = True
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"{what}: {error.strerror}") from error
            raise LostChangesError(f"{what}: {error}") from error
        except Exception as error:  # any of h5py's: what it has done so far is undone by the log
            self.is_broken = True
            is_refusal = isinstance(error, InvalidArrayError | UnsupportedTypeError)
            if isinstance(error, H5fsError) and (keeps_refusals or is_refusal):
                raise
            raise ChangeFailedError(f"{what}: {' '.join(str(error).split())}") from error

    def _source(self, array: NewArray) -> Source:
        map_bytes = functools.partial(self._segments.map, array.segment)
        base, trailing = array.dtype.base, array.dtype.shape
        return Source(
            map_bytes, array.data_start, base, array.shape + trailing, array.is_fortran_order,
            len(array.shape),
        )

    def _replacement(
        self, group: ObjectRef, name: bytes, old_id: h5d.DatasetID | None
    ) -> Replacement:
        return Replacement(
            self._files.file_id(0), self._group_id(group), name, old_id, self._new_datasets,
            self._on_progress,
        )  # fmt: skip

    def _free_place(self, group: ObjectRef, name: bytes) -> h5g.GroupID:
        parent = self._group_id(group)
        if parent.links.exists(name):
            raise ExistsError(f"{show_path(join_path(group.path, name))} exists")
        return parent

    def _old_dataset(self, group: ObjectRef, name: bytes) -> h5d.DatasetID | None:
        parent = self._group_id(group)
        if not parent.links.exists(name):
            return None
        path = show_path(join_path(group.path, name))
        link = self.get_link(group, name)
        # Opened as for reading: with its own settings for data in other files.
        identifier = None if link.target is None else self._open(link.target.ref).identifier
        if not isinstance(identifier, h5d.DatasetID):
            raise ExistsError(f"{path} exists and is not a dataset")
        if identifier.get_create_plist().get_external_count():
            raise ReadOnlyError(f"{path}: its data are in other files, which are only read")
        return identifier

    def _info(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        link = self.get_link(group, name)
        assert link.target is not None
        return link.target

    def _forget_all(self) -> None:
        """Let go of whatever may be another object's, or nobody's, after the next step."""
        self._opened.clear()
        self._cached_bytes = 0
        self._scanned.clear()
        self._read.clear()
        self._object_paths.clear()

    def _forget_scans(self, ref: ObjectRef) -> None:
        self._scanned.pop(ref, None)
        self._read.pop(ref, None)

