"""Filters that do not give back all elements that they take.

With a fixed number of bits, scale-offset cuts integers that are further apart without a word, and
one code is the fill value's; floats are rounded to a number of digits, and of NaN it makes other
numbers, or what the library cannot read. ZFP makes numbers of NaN and of infinity, and other
numbers of all that are near these. What such a filter makes of a chunk depends on all of its
elements. So chunks are tried out first, whole, in memory. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

from h5fs.errors import H5fsError
from h5fs.store.chunks.decodable import SZIP
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.types.array_types import WriteType
from h5fs.store.hdf5.writing.array_writer import ElementSource, boxes_of, write_selected
from h5fs.store.hdf5.writing.kept_filters import (
    gives_back_all,
    keep_filters,
    scratch_file,
)
from h5fs.store.hdf5.writing.narrow_types import are_same

_Array = np.ndarray[Any, Any]


def may_lose(dataset_id: h5d.DatasetID) -> bool:
    """Whether a dataset's filters may give back other elements than they take."""
    return bool(_lossy_filters(dataset_id))


def holds_whole(
    dataset_id: h5d.DatasetID,
    source: ElementSource,
    write_type: WriteType,
    on_progress: Callable[[], None],
) -> bool:
    """Whether a dataset's filters give back a whole array that is written to it."""
    if not may_lose(dataset_id) or 0 in source.shape:
        return True
    trial = Trial(dataset_id, write_type)
    rank = dataset_id.get_space().get_simple_extent_ndims()
    for _, array in boxes_of(dataset_id, source, rank):
        on_progress()
        if not trial.holds(array):
            return False
    return True


class Trial:
    """Tries out, in memory, what a dataset's filters make of whole chunks."""

    def __init__(self, dataset_id: h5d.DatasetID, write_type: WriteType) -> None:
        self._type_id, self._write_type = dataset_id.get_type(), write_type
        self._creation: h5p.PropDCID = dataset_id.get_create_plist()
        self._rank = len(self._creation.get_chunk())
        lossy = _lossy_filters(dataset_id)
        digits = [options[1] for code, options in lossy if code == h5z.FILTER_SCALEOFFSET]
        self._unit = 10.0 ** -min(digits) if len(digits) == len(lossy) else None
        self._is_exact = all(code == SZIP for code, _ in lossy)
        # What n-bit loses may be there by chance, in memory that the library has used before.
        self._holds_none = any(code == h5z.FILTER_NBIT for code, _ in lossy)
        for index in reversed(range(self._creation.get_nfilters())):
            self._creation.remove_filter(self._creation.get_filter(index)[0])
        keep_filters(self._creation, dataset_id, self._type_id, self._creation.get_chunk())

    def holds(self, array: _Array) -> bool:
        """Whether elements are the same when they are read; floats as far as digits are kept.

        Where it is no number of digits that says how precise a filter is, a float must stay finite,
        and be no further away than half of the largest number is from 0.
        """
        if self._holds_none:
            return False
        shape = array.shape[: self._rank]
        space = h5s.create_simple(shape, (h5s.UNLIMITED,) * self._rank)
        made_id = h5d.create(scratch_file(), None, self._type_id, space, self._creation)
        found = np.empty(array.shape, array.dtype)
        try:
            with reading("a dataset in memory"):
                write_selected(made_id, h5s.ALL, h5s.ALL, array, self._write_type)
                made_id.read(h5s.ALL, h5s.ALL, found, self._write_type.memory_type)
        except H5fsError:  # not all that a filter makes of NaN can be undone
            return False
        if self._is_exact or array.dtype.kind != "f":
            return are_same(array, found)
        with np.errstate(invalid="ignore", over="ignore"):
            is_near = np.abs(array - found) <= self._most(array)
        is_same = (array == found) | (np.isnan(array) & np.isnan(found))
        return bool((is_near | is_same).all())

    def _most(self, array: _Array) -> Any:
        if self._unit is not None:
            return self._unit + 2 * np.abs(np.spacing(array))
        return np.abs(array).max(initial=0, where=np.isfinite(array)) / 2


def _lossy_filters(dataset_id: h5d.DatasetID) -> list[tuple[int, tuple[int, ...]]]:
    creation = dataset_id.get_create_plist()
    if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters():
        return []
    type_id = dataset_id.get_type()
    if type_id.detect_class(h5t.VLEN) or type_id.dtype.hasobject:
        return []  # the library lets such types through no filter but those for any bytes
    found = (creation.get_filter(index) for index in range(creation.get_nfilters()))
    return [
        (code, options)
        for code, _, options, _ in found
        if not gives_back_all(type_id, code, options)
    ]
