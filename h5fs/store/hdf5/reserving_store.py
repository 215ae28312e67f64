"""Datasets that get their place in the file before they get their data, and a name at last.

The daemon writes the data to their place itself. What it has left blank is noted: what programs
write there later, by a map, need not go through the log (``blank_pages``).
"""

from __future__ import annotations

import itertools
import os
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5g, h5o

from h5fs.errors import ExistsError, LostChangesError, show_path
from h5fs.model.objects import ObjectInfo, ObjectRef, Region
from h5fs.model.settings import NewDatasets, StoreOptions
from h5fs.store.hdf5.logged_main import PAGE_BYTES, LoggedMain
from h5fs.store.hdf5.objects.links import join_path
from h5fs.store.hdf5.stepwise_store import StepwiseStore
from h5fs.store.hdf5.types.array_types import check_size, natural_type
from h5fs.store.hdf5.writing.array_writer import write_tail
from h5fs.store.hdf5.writing.blank_data import BlankData
from h5fs.store.hdf5.writing.creating import create_dataset, drop_new, link_new
from h5fs.store.hdf5.writing.hidden_group import check_visible
from h5fs.store.library_interface import ChangedObjects


class ReservingStore(StepwiseStore):
    """The part of a ``WritingHdf5Store`` that reserves datasets."""

    def __init__(self, options: StoreOptions, logged: LoggedMain, **others: Any) -> None:
        super().__init__(options, logged, **others)
        self._new_datasets: NewDatasets = options.new_datasets
        self._reserved: dict[int, h5d.DatasetID] = {}
        # Numbers of no other worker: a number that a dead worker gave must not be found here.
        self._reserved_numbers = itertools.count(os.getpid() << 32)
        self._blank = BlankData(self._file)

    @property
    def may_be_replaced(self) -> bool:
        """Whether another process can take over: reserved datasets are lost with this one."""
        return not self._reserved

    def end_step(self, changed: ChangedObjects) -> None:
        """Commit what a step has changed; what it has changed is not blank any more."""
        self._blank.note_change(changed)
        super().end_step(changed)

    def reserve_array(
        self, group: ObjectRef, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Region | None:
        with self._changing(b"a new array"):
            write_type = natural_type(dtype)
            item_bytes = write_type.file_type.get_size()
            is_plain = write_type.is_raw and item_bytes == dtype.itemsize
            if not is_plain or self._new_datasets != NewDatasets():
                return None
            check_size(write_type.file_type)
            with self._step(()):
                file_id = self._files.file_id(0)
                new_id = create_dataset(
                    file_id, shape, item_bytes, write_type, self._new_datasets, None,
                    inherited=self._inherited(group), takes_space=True,
                )  # fmt: skip
                h5f.flush(file_id)
                start, size = new_id.get_offset(), prod(shape) * item_bytes
                whole = size // PAGE_BYTES * PAGE_BYTES
                if (
                    start is None
                    or start % PAGE_BYTES
                    or not (self._file.allows_direct_write(start, start + whole))
                ):
                    drop_new(new_id)
                    return None
            # From here on the file has the dataset, without a name. If it is never finished, only
            # its space in the file is lost.
            number = next(self._reserved_numbers)
            self._reserved[number] = new_id
            return Region(number, start, whole)

    def finish_array(
        self, group: ObjectRef, name: bytes, region: Region, tail: bytes
    ) -> ObjectInfo:
        with self._changing(join_path(group.path, name)):
            if region.number not in self._reserved:
                raise LostChangesError(f"the array for {show_path(name)} is lost")
            parent = self._free_place(group, name)
            with self._step(()):
                new_id = self._reserved.pop(region.number)
                self._file.note_direct_write()
                write_tail(new_id, tail)
                link_new(new_id, parent, name)
            self._blank.note(h5o.get_info(new_id).addr, region)
        return self._info(group, name)

    def drop_array(self, region: Region) -> None:
        with self._changing(b"an array"), self._step(()):
            new_id = self._reserved.pop(region.number, None)
            if new_id is not None:
                drop_new(new_id)

    def _free_place(self, group: ObjectRef, name: bytes) -> h5g.GroupID:
        check_visible(group.path, name)
        parent = self._group_id(group)
        if parent.links.exists(name):
            raise ExistsError(f"{show_path(join_path(group.path, name))} exists")
        return parent
