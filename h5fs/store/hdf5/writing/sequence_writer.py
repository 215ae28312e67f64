"""Datasets of variable-length sequences, written from their values and offsets.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5s, h5t

from h5fs.errors import InvalidArrayError, UnsupportedTypeError
from h5fs.model.settings import NewDatasets
from h5fs.projection.npy import npy_dtype
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.hdf5.types.array_types import WriteType, check_size, kept_type, natural_type
from h5fs.store.hdf5.types.library_calls import write_elements
from h5fs.store.hdf5.writing.array_writer import ElementSource
from h5fs.store.hdf5.writing.creating import Inherited, create_dataset
from h5fs.store.hdf5.writing.narrow_types import holds_array

_ROWS_AT_ONCE = 2**16
_BYTES_AT_ONCE = 16 * 2**20

_HVL = np.dtype([("length", np.uintp), ("pointer", np.uintp)])  # `hvl_t` of H5Tpublic.h


@dataclass(frozen=True)
class WrittenSequences:
    """The type of a dataset of sequences: in the file, in memory, and as what takes a place."""

    file_type: h5t.TypeID
    memory_type: h5t.TypeID

    def as_written(self) -> WriteType:
        """Return it as that of any dataset."""
        return WriteType(self.file_type, np.dtype(object), self.memory_type, is_raw=False)


def sequence_type(
    values: ElementSource, old_id: h5d.DatasetID | None, on_progress: Callable[[], None]
) -> WrittenSequences:
    """Return the type of sequences of these values: that of the dataset which they replace, where
    it shows the same values.

    Values of more than one dimension are sequences of arrays. Raises ``InvalidArrayError``,
    ``UnsupportedTypeError``, ``DatatypeTooLargeError``.
    """
    if not values.shape:
        raise InvalidArrayError("the values of sequences have no dimension")
    item = np.dtype((values.dtype, values.shape[1:]))
    kept = None if old_id is None else _kept_base(old_id.get_type(), item)
    if old_id is not None and kept is not None and holds_array(values, kept, on_progress):
        return WrittenSequences(old_id.get_type(), h5t.vlen_create(kept.memory_type))
    base = natural_type(item)
    if not base.is_raw:
        raise UnsupportedTypeError("sequences of text")
    if base.file_type.get_size() != item.itemsize:
        raise UnsupportedTypeError("sequences of elements that have parts of no bytes")
    check_size(base.file_type)
    made = h5t.vlen_create(base.file_type)
    return WrittenSequences(made, made)


def _kept_base(old: h5t.TypeID, item: np.dtype[Any]) -> WriteType | None:
    """Return how values are written to sequences of a type that shows them as they are."""
    base = kept_type(old.get_super(), item) if isinstance(old, h5t.TypeVlenID) else None
    if base is None or base.dtype.hasobject or npy_dtype(base.dtype) != item:
        return None
    return base if base.memory_type.get_size() == item.itemsize else None


def create_sequences(
    file_id: h5f.FileID, count: int, written: WrittenSequences, old_id: h5d.DatasetID | None,
    inherited: Inherited,
) -> h5d.DatasetID:  # fmt: skip
    """Return a new dataset of so many sequences, which has no link yet: of the shape of the one
    that they replace, if it has as many, else of one dimension."""
    shape = (count,)
    if old_id is not None and isinstance(old_id.get_type(), h5t.TypeVlenID):
        space = old_id.get_space()
        old_shape = space.get_simple_extent_dims()
        if space.get_simple_extent_type() != h5s.NULL and prod(old_shape) == count:
            shape = old_shape
    return create_dataset(
        file_id, shape, written.file_type.get_size(), written.as_written(), NewDatasets(), old_id,
        inherited=inherited,
    )  # fmt: skip


def check_offsets(offsets: np.ndarray[Any, Any], value_count: int) -> None:
    """Raise ``InvalidArrayError`` unless offsets cut all values into sequences."""
    if offsets.ndim != 1 or not len(offsets) or offsets[0] or offsets[-1] != value_count:
        raise InvalidArrayError(f"offsets that do not lead from 0 to {value_count}")
    if np.any(np.diff(offsets) < 0):
        raise InvalidArrayError("offsets that go back")


def write_rows(
    dataset_id: h5d.DatasetID,
    memory_type: h5t.TypeID,
    values: ElementSource,
    offsets: np.ndarray[Any, Any],
    on_progress: Callable[[], None],
) -> None:
    """Write sequence i, ``values[offsets[i]:offsets[i + 1]]``, as element i, row-major."""
    check_offsets(offsets, values.shape[0])
    # An array in Fortran order has its rows everywhere.
    whole = np.ascontiguousarray(values.whole()) if values.is_fortran_order else None
    item_bytes = prod(values.shape[1:]) * values.dtype.itemsize
    space = dataset_id.get_space()
    shape = space.get_simple_extent_dims()
    count, first = len(offsets) - 1, 0
    while first < count:
        on_progress()
        start = int(offsets[first])
        most = start + _BYTES_AT_ONCE // max(item_bytes, 1)
        stop = int(np.searchsorted(offsets, most, "right")) - 1
        stop = min(max(stop, first + 1), first + _ROWS_AT_ONCE, count)
        end = int(offsets[stop])
        part = values.rows(start, end) if whole is None else whole[start:end]
        rows = np.zeros(stop - first, _HVL)
        rows["length"] = np.diff(offsets[first : stop + 1])
        rows["pointer"] = part.ctypes.data + (offsets[first:stop] - start) * item_bytes
        address = rows.ctypes.data
        for slab in split_into_hyperslabs(shape, first, stop):
            if shape:  # of a scalar, all is selected
                space.select_hyperslab(slab.start, slab.count)
            write_elements(dataset_id, memory_type, space, address)
            address += prod(slab.count) * _HVL.itemsize
        first = stop
