"""Scale-offset filters that do not give back all elements that they take.

With a fixed number of bits, integers further apart are cut without a word, and one code is the
fill value's; floats are rounded to a number of digits, and of NaN it makes other numbers, or
what the library cannot read. What the filter makes of a chunk depends on all of its elements. So
chunks are tried out first, whole, in memory, and written whole. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z
from msgspec import Struct

from h5fs.errors import H5fsError
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.types.array_types import WriteType
from h5fs.store.hdf5.types.dataspaces import dataspace_of
from h5fs.store.hdf5.writing.array_writer import (
    ElementSource,
    boxes_of,
    fill_element,
    write_selected,
)
from h5fs.store.hdf5.writing.kept_filters import keep_filters, scratch_file

_Array = np.ndarray[Any, Any]
_OPTIONS = 20  # as many as the library has made of the two that were given
_AUTOMATIC_BITS = (h5z.SO_INT, 0)


class ChunkChanges(Struct, frozen=True):
    """Elements that a dataset of ``shape`` is about to get; chunks are read, and written, whole.

    ``parts``: ranges of elements, counted row-major. ``elements`` gives those of a range.
    """

    dataset_id: h5d.DatasetID
    write_type: WriteType
    shape: tuple[int, ...]
    parts: list[tuple[int, int]]
    elements: Callable[[int, int], _Array]

    def are_held(self) -> bool:
        """Whether chunks hold what they are to get, and what they keep."""
        if not may_lose(self.dataset_id):
            return True
        trial = _Trial(self.dataset_id, self.write_type)
        return all(trial.holds(array) for _, array in self._chunks())

    def write(self, on_progress: Callable[[], None]) -> None:
        """Write the chunks, to the dataset that has the shape by now."""
        space = self.dataset_id.get_space()
        for box, array in self._chunks():
            on_progress()
            space.select_hyperslab(box.start, box.count)
            write_selected(self.dataset_id, dataspace_of(box.count), space, array, self.write_type)

    def _chunks(self) -> Iterator[tuple[Box, _Array]]:
        chunk_shape = self.dataset_id.get_create_plist().get_chunk()
        grid = Grid(self.shape, chunk_shape, self.dataset_id.get_type().get_size())
        touched: dict[int, list[tuple[int, int]]] = {}
        for part in self.parts:
            if part[0] < part[1]:
                for number in (n for under in grid.chunks_under(*part) for n in under):
                    touched.setdefault(number, []).append(part)
        for number, parts in sorted(touched.items()):
            box = grid.box(number)
            ends = zip(box.start, box.count, strict=True)
            axes = np.ix_(*(np.arange(first, first + count) for first, count in ends))
            places = np.ravel_multi_index(axes, self.shape)
            array, kept = np.empty(box.count, self.write_type.dtype), np.ones(box.count, bool)
            for start, stop in parts:
                is_new = (places >= start) & (places < stop)
                wanted = places[is_new]
                if wanted.size:
                    low, high = int(wanted[0]), int(wanted[-1]) + 1
                    array[is_new] = self.elements(low, high)[wanted - low]
                    kept[is_new] = False
            if kept.all():
                continue
            if kept.any():  # others are written whole, also where they cannot be read
                array[kept] = self._read(box)[kept]
            yield box, array

    def _read(self, box: Box) -> _Array:
        """Return what a chunk has: the fill value where the dataset has not grown so far yet."""
        dtype, type_id = self.write_type.dtype, self.dataset_id.get_type()
        array = np.full(box.count, fill_element(self.dataset_id.get_create_plist(), type_id, dtype))
        space = self.dataset_id.get_space()
        limits = zip(box.start, box.count, space.get_simple_extent_dims(), strict=True)
        count = tuple(max(min(n, size - first), 0) for first, n, size in limits)
        if prod(count):
            space.select_hyperslab(box.start, count)
            found = np.empty(count, dtype)
            self.dataset_id.read(dataspace_of(count), space, found, self.write_type.memory_type)
            array[tuple(slice(n) for n in count)] = found
        return array


def may_lose(dataset_id: h5d.DatasetID) -> bool:
    """Whether a scale-offset filter of a dataset may give back other elements than it takes."""
    return bool(_lossy_options(dataset_id))


def holds_whole(
    dataset_id: h5d.DatasetID,
    source: ElementSource,
    write_type: WriteType,
    on_progress: Callable[[], None],
) -> bool:
    """Whether a dataset's scale-offset filters give back a whole array that is written to it."""
    if not may_lose(dataset_id) or not prod(source.shape):
        return True
    trial = _Trial(dataset_id, write_type)
    for _, array in boxes_of(dataset_id, source, len(source.shape)):
        on_progress()
        if not trial.holds(array):
            return False
    return True


class _Trial:
    """Tries out, in memory, what a dataset's filters make of whole chunks."""

    def __init__(self, dataset_id: h5d.DatasetID, write_type: WriteType) -> None:
        self._type_id, self._write_type = dataset_id.get_type(), write_type
        self._creation: h5p.PropDCID = dataset_id.get_create_plist()
        digits = [options[1] for options in _lossy_options(dataset_id)]
        self._unit = 10.0 ** -min(digits)
        for index in reversed(range(self._creation.get_nfilters())):
            self._creation.remove_filter(self._creation.get_filter(index)[0])
        keep_filters(self._creation, dataset_id, self._type_id, self._creation.get_chunk())

    def holds(self, array: _Array) -> bool:
        """Whether elements are the same when they are read; floats as far as digits are kept."""
        space = h5s.create_simple(array.shape, (h5s.UNLIMITED,) * array.ndim)
        made_id = h5d.create(scratch_file(), None, self._type_id, space, self._creation)
        found = np.empty(array.shape, array.dtype)
        try:
            with reading("a dataset in memory"):
                write_selected(made_id, h5s.ALL, h5s.ALL, array, self._write_type)
                made_id.read(h5s.ALL, h5s.ALL, found, self._write_type.memory_type)
        except H5fsError:  # not all that the filter makes of NaN can be undone
            return False
        if array.dtype.kind != "f":
            return np.array_equal(array, found)
        with np.errstate(invalid="ignore", over="ignore"):
            most = self._unit + 2 * np.abs(np.spacing(array))
            is_near = np.abs(array - found) <= most
        is_same = (array == found) | (np.isnan(array) & np.isnan(found))
        return bool((is_near | is_same).all())


def _lossy_options(dataset_id: h5d.DatasetID) -> list[tuple[int, ...]]:
    creation = dataset_id.get_create_plist()
    if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters():
        return []
    if not isinstance(dataset_id.get_type(), h5t.TypeIntegerID | h5t.TypeFloatID):
        return []
    found = [creation.get_filter(index) for index in range(creation.get_nfilters())]
    return [
        options
        for code, _, options, _ in found
        if code == h5z.FILTER_SCALEOFFSET
        and len(options) == _OPTIONS
        and options[:2] != _AUTOMATIC_BITS
    ]
