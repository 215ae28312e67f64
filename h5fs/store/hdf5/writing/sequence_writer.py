"""Datasets of variable-length sequences, written from their values and offsets.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5t

from h5fs.errors import InvalidArrayError, UnsupportedTypeError
from h5fs.store.hdf5.types.array_types import WriteType, natural_type
from h5fs.store.hdf5.types.library_calls import write_elements
from h5fs.store.hdf5.writing.array_writer import ElementSource

_ROWS_AT_ONCE = 2**16
_BYTES_AT_ONCE = 16 * 2**20

_HVL = np.dtype([("length", np.uintp), ("pointer", np.uintp)])  # `hvl_t` of H5Tpublic.h


def element_type(dtype: np.dtype[Any], shape: tuple[int, ...]) -> WriteType:
    """Return the type of the elements of sequences whose values are such an array.

    Values of more than one dimension are sequences of arrays. Raises ``InvalidArrayError``,
    ``UnsupportedTypeError``.
    """
    if not shape:
        raise InvalidArrayError("the values of sequences have no dimension")
    item = np.dtype((dtype, shape[1:]))
    base = natural_type(item)
    if not base.is_raw:
        raise UnsupportedTypeError("sequences of text")
    if base.file_type.get_size() != item.itemsize:
        raise UnsupportedTypeError("sequences of elements that have parts of no bytes")
    return base


def sequence_type(base: WriteType) -> h5t.TypeID:
    """Return the type of sequences of such elements, in the file and in memory."""
    return h5t.vlen_create(base.file_type)


def check_offsets(offsets: np.ndarray[Any, Any], value_count: int) -> None:
    """Raise ``InvalidArrayError`` unless offsets cut all values into sequences."""
    if offsets.ndim != 1 or not len(offsets) or offsets[0] or offsets[-1] != value_count:
        raise InvalidArrayError(f"offsets that do not lead from 0 to {value_count}")
    if np.any(np.diff(offsets) < 0):
        raise InvalidArrayError("offsets that go back")


def write_rows(
    dataset_id: h5d.DatasetID,
    base: WriteType,
    values: ElementSource,
    offsets: np.ndarray[Any, Any],
    on_progress: Callable[[], None],
) -> None:
    """Write sequence i, ``values[offsets[i]:offsets[i + 1]]``, as element i."""
    check_offsets(offsets, values.shape[0])
    # An array in Fortran order has its rows everywhere.
    whole = np.ascontiguousarray(values.whole()) if values.is_fortran_order else None
    item_bytes = prod(values.shape[1:]) * values.dtype.itemsize
    memory_type = sequence_type(base)
    space = dataset_id.get_space()
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
        space.select_hyperslab((first,), (stop - first,))
        write_elements(dataset_id, memory_type, space, rows.ctypes.data)
        first = stop
