"""Datasets of variable-length sequences, written from their values and offsets.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from h5fs.errors import InvalidArrayError
from h5fs.store.hdf5.array_types import WriteType
from h5fs.store.hdf5.array_writer import Source

_ROWS_AT_ONCE = 4096


def sequence_type(base: WriteType) -> h5t.TypeID:
    """Return the type of sequences of such elements."""
    return h5t.vlen_create(base.file_type)


def check_offsets(offsets: np.ndarray[Any, Any], value_count: int) -> None:
    """Raise ``InvalidArrayError`` unless offsets cut all values into sequences."""
    if offsets.ndim != 1 or not len(offsets) or offsets[0] or offsets[-1] != value_count:
        raise InvalidArrayError(f"offsets that do not lead from 0 to {value_count}")
    if np.any(np.diff(offsets) < 0):
        raise InvalidArrayError("offsets that go back")


def write_rows(
    dataset_id: h5d.DatasetID,
    values: Source,
    offsets: np.ndarray[Any, Any],
    on_progress: Callable[[], None],
) -> None:
    """Write sequence i, ``values[offsets[i]:offsets[i + 1]]``, as element i."""
    check_offsets(offsets, values.shape[0])
    dtype = h5py.vlen_dtype(values.dtype)
    space = dataset_id.get_space()
    count = len(offsets) - 1
    for first in range(0, count, _ROWS_AT_ONCE):
        on_progress()
        stop = min(first + _ROWS_AT_ONCE, count)
        rows = np.empty(stop - first, dtype)
        for index in range(first, stop):
            start, end = int(offsets[index]), int(offsets[index + 1])
            rows[index - first] = np.array(values.rows(start, end))
        space.select_hyperslab((first,), (stop - first,))
        dataset_id.write(h5s.create_simple((stop - first,)), space, rows)
