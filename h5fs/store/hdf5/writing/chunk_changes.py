"""Elements written to chunks that stay: tried out before, where a filter may lose something.

Where a chunk is stored anew in as many bytes as before, the library (HDF5 2.0) forgets to store
which filters were skipped, as one is that makes a chunk no smaller: what was filtered is read as if
it had not been, or the other way round. So a chunk for which that may come true is stored in
another length first. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, Final

import numpy as np
from h5py import h5d, h5z
from msgspec import Struct

from h5fs.errors import H5fsError
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.types.array_types import WriteType
from h5fs.store.hdf5.types.dataspaces import dataspace_of
from h5fs.store.hdf5.writing.array_writer import fill_element, write_selected
from h5fs.store.hdf5.writing.lossy_filters import Trial, may_lose

_Array = np.ndarray[Any, Any]
_OF_ONE_LENGTH: Final = frozenset({h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
_CHECKSUM_BYTES = 4


def first_changed_element(
    old_shape: tuple[int, ...], shape: tuple[int, ...], parts: list[tuple[int, int]]
) -> int:
    """Return before which element a dataset stays as it is, counted row-major in both shapes, when
    it gets ``shape`` and the elements of ``parts``."""
    first = min([start for start, stop in parts if start < stop], default=prod(shape))
    if old_shape == shape:
        return first
    if old_shape[1:] != shape[1:]:
        return 0
    return min(first, prod(old_shape), prod(shape))


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
        trial = Trial(self.dataset_id, self.write_type)
        return all(trial.holds(array) for _, array in self._chunks())

    def need_whole_chunks(self) -> bool:
        """Whether ``write`` has to write them: the library alone would lose something."""
        if may_lose(self.dataset_id):
            return True
        dtype = self.write_type.dtype
        if dtype.hasobject or dtype.subdtype is not None:
            return False
        skipping = _Skipping(self.dataset_id)
        return any(skipping.may_be_forgotten(box) for box, _ in self._touched())

    def write(self, on_progress: Callable[[], None]) -> None:
        """Write the chunks, to the dataset that has the shape by now."""
        skipping = _Skipping(self.dataset_id)
        for box, array in self._chunks():
            on_progress()
            if skipping.may_be_forgotten(box):
                self._write_chunk(box, np.zeros_like(array))
                self.dataset_id.flush()
            self._write_chunk(box, array)

    def _write_chunk(self, box: Box, array: _Array) -> None:
        space = self.dataset_id.get_space()
        space.select_hyperslab(box.start, box.count)
        write_selected(self.dataset_id, dataspace_of(box.count), space, array, self.write_type)

    def _touched(self) -> Iterator[tuple[Box, list[tuple[int, int]]]]:
        """Yield the chunks that get elements, and the parts that each gets some of."""
        chunk_shape = self.dataset_id.get_create_plist().get_chunk()
        grid = Grid(self.shape, chunk_shape, self.dataset_id.get_type().get_size())
        touched: dict[int, list[tuple[int, int]]] = {}
        for part in self.parts:
            if part[0] < part[1]:
                for number in (n for under in grid.chunks_under(*part) for n in under):
                    touched.setdefault(number, []).append(part)
        for number, parts in sorted(touched.items()):
            yield grid.box(number), parts

    def _chunks(self) -> Iterator[tuple[Box, _Array]]:
        for box, parts in self._touched():
            ends = zip(box.start, box.count, strict=True)
            axes = np.ix_(*(np.arange(first, first + count) for first, count in ends))
            places = np.ravel_multi_index(axes, self.shape)
            array = np.empty(box.count, self.write_type.dtype)
            kept = np.ones(box.count, bool)
            for start, stop in parts:
                is_new = (places >= start) & (places < stop)
                wanted = places[is_new]
                if wanted.size:
                    low, high = int(wanted[0]), int(wanted[-1]) + 1
                    given = self.elements(low, high).reshape(-1, *array.shape[len(box.count) :])
                    array[is_new] = given[wanted - low]
                    kept[is_new] = False
            if kept.all():
                continue
            if kept.any():  # others are written whole, also where they cannot be read
                array[kept] = self._read(box)[kept]
            yield box, array

    def _read(self, box: Box) -> _Array:
        """Return what a chunk has: the fill value where the dataset has not grown so far yet."""
        dtype, type_id = self.write_type.dtype, self.dataset_id.get_type()
        array = np.empty(box.count, dtype)
        array[...] = fill_element(self.dataset_id.get_create_plist(), type_id, dtype)
        space = self.dataset_id.get_space()
        limits = zip(box.start, box.count, space.get_simple_extent_dims(), strict=True)
        count = tuple(max(min(n, size - first), 0) for first, n, size in limits)
        if prod(count):
            space.select_hyperslab(box.start, count)
            found = np.empty(count, dtype)
            self.dataset_id.read(dataspace_of(count), space, found, self.write_type.memory_type)
            array[tuple(slice(n) for n in count)] = found
        return array


class _Skipping:
    """Which chunks of a dataset the library may store in the same length, filtered otherwise."""

    def __init__(self, dataset_id: h5d.DatasetID) -> None:
        creation = dataset_id.get_create_plist()
        self._dataset_id = dataset_id
        self._shape = dataset_id.get_space().get_simple_extent_dims()
        size = prod(creation.get_chunk()) * dataset_id.get_type().get_size()
        self._sizes = (size, size + _CHECKSUM_BYTES)
        codes = {creation.get_filter(index)[0] for index in range(creation.get_nfilters())}
        # Of several, one may make of a chunk what another made of it before.
        self._are_several = len(codes - _OF_ONE_LENGTH) > 1

    def may_be_forgotten(self, box: Box) -> bool:
        if any(first >= size for first, size in zip(box.start, self._shape, strict=True)):
            return False
        try:  # `get_chunk_info_by_coord` goes through all chunks before it
            with reading("a chunk"):
                mask, raw = self._dataset_id.read_direct_chunk(box.start)
        except H5fsError:
            return False  # it is not stored
        return self.is_doubtful(mask, len(raw))

    def is_doubtful(self, mask: int, size_bytes: int) -> bool:
        return self._are_several or bool(mask) or size_bytes in self._sizes


def drop_doubtful_chunks(dataset_id: h5d.DatasetID) -> None:
    """Drop a dataset's chunks, before all are written, if one of them may be stored wrongly."""
    creation = dataset_id.get_create_plist()
    if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters():
        return
    skipping, doubtful = _Skipping(dataset_id), []

    def note(info: h5d.StoreInfo) -> bool | None:
        if skipping.is_doubtful(info.filter_mask, info.size):
            doubtful.append(info)
            return True  # ends it
        return None

    dataset_id.chunk_iter(note)
    if doubtful:
        shape = dataset_id.get_space().get_simple_extent_dims()
        dataset_id.set_extent((0,) * len(shape))
        dataset_id.set_extent(shape)
