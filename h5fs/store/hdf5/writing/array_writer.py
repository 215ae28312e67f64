"""Writes the elements of a ``.npy`` file into a dataset, from a file that the daemon lends.

Row-major arrays go in bands of whole chunks, so that memory stays bounded; compressed ones chunk by
chunk, compressed on all cores. Functions over open identifiers; they keep nothing. Under the
store's lock.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5s, h5t, h5z
from msgspec import Struct

from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.chunks.packages import deflate
from h5fs.store.hdf5.types.array_types import WriteType, check_text
from h5fs.store.hdf5.types.dataspaces import dataspace_of
from h5fs.system.cores import count_cores

Array = np.ndarray[Any, Any]
MapBytes = Callable[[int, int], np.ndarray[Any, np.dtype[np.uint8]]]
"""Returns bytes ``[start, stop)`` of what is to be written."""

_BAND_BYTES = 8 * 2**20
_ELEMENTS_AT_ONCE = 2**17
_CHUNKS_AHEAD = 3  # for each core: what is compressed while HDF5 writes


class ElementSource(Struct, frozen=True):
    """The elements of an array, as the ``.npy`` file has them.

    ``data_start``: where the elements begin among the bytes that ``map_bytes`` gives. ``shape``:
    the dimensions in the ``.npy`` file, those of a subarray dtype included; ``dtype``: its base
    dtype. ``rank``: how many of the dimensions are the dataset's.
    """

    map_bytes: MapBytes
    data_start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran_order: bool
    rank: int

    def rows(self, start: int, stop: int) -> Array:
        """Return ``array[start:stop]`` of a C-order array of at least one dimension."""
        row = prod(self.shape[1:])
        return self.any_elements(start * row, stop * row).reshape((stop - start, *self.shape[1:]))

    def whole(self) -> Array:
        """Return the array."""
        flat = self.any_elements(0, prod(self.shape))
        return flat.reshape(self.shape, order="F" if self.is_fortran_order else "C")

    def columns(self, start: int, stop: int) -> Array:
        """Return ``array[..., start:stop]`` of a Fortran-order array."""
        column = prod(self.shape[:-1])
        flat = self.any_elements(start * column, stop * column)
        return flat.reshape((*self.shape[:-1], stop - start), order="F")

    def flat(self, start: int, stop: int) -> Array:
        """Return elements as they lie there, counted in ``dtype.shape`` of the base each."""
        per_element = prod(self.shape[self.rank :])
        return self.any_elements(start * per_element, stop * per_element)

    def any_elements(self, start: int, stop: int) -> Array:
        """Return some of the elements of the base dtype, in whichever order they lie there."""
        size = self.dtype.itemsize
        if not size:
            return np.zeros(stop - start, self.dtype)
        first = self.data_start + start * size
        return self.map_bytes(first, self.data_start + stop * size).view(self.dtype)


def write_array(
    dataset_id: h5d.DatasetID,
    source: ElementSource,
    write_type: WriteType,
    on_progress: Callable[[], None],
) -> None:
    """Write all elements of a dataset that has the array's shape."""
    if not prod(source.shape):
        return
    space = dataset_id.get_space()
    shape = space.get_simple_extent_dims()
    if not shape:
        write_selected(dataset_id, h5s.ALL, h5s.ALL, source.whole(), write_type)
        return
    options = _direct_options(dataset_id, write_type)
    if options is not None and not source.is_fortran_order:
        _write_chunks(dataset_id, source, options, on_progress)
        return
    for box, part in boxes_of(dataset_id, source, len(shape)):
        on_progress()
        space.select_hyperslab(box.start, box.count)
        write_selected(dataset_id, dataspace_of(box.count), space, part, write_type)


def write_plain(
    dataset_id: h5d.DatasetID,
    source: ElementSource,
    write_type: WriteType,
    on_progress: Callable[[], None],
) -> None:
    """Do as ``write_array``, with a dataset that was made contiguous: a small array in one go."""
    if 0 < prod(source.shape) * source.dtype.itemsize <= _BAND_BYTES:
        on_progress()
        write_selected(dataset_id, h5s.ALL, h5s.ALL, source.whole(), write_type)
    else:
        write_array(dataset_id, source, write_type, on_progress)


def check_elements(
    source: ElementSource, write_type: WriteType, on_progress: Callable[[], None]
) -> None:
    """Raise ``InvalidArrayError`` for elements that ``write_array`` could not convert."""
    if not write_type.dtype.hasobject:
        return
    count = prod(source.shape)
    step = max(_BAND_BYTES // max(source.dtype.itemsize, 1), 1)
    for start in range(0, count, step):
        on_progress()
        check_text(source.any_elements(start, min(start + step, count)))


def check_parts(source: ElementSource, parts: list[tuple[int, int]], write_type: WriteType) -> None:
    """Raise ``InvalidArrayError`` for elements that ``write_parts`` could not convert."""
    if write_type.dtype.hasobject:
        for first, last in _pieces(parts):
            check_text(source.flat(first, last))


def write_range(
    dataset_id: h5d.DatasetID, array: Array, start: int, write_type: WriteType,
    space: h5s.SpaceID | None = None,
) -> None:  # fmt: skip
    """Write elements from row-major index ``start`` on; ``array`` is flat, but for the dimensions
    that an element of an HDF5 array type has.

    ``space``: the dataset's own, whose selection may change.
    """
    space = dataset_id.get_space() if space is None else space
    shape, trailing = space.get_simple_extent_dims(), array.shape[1:]
    done = 0
    for slab in split_into_hyperslabs(shape, start, start + len(array)):
        count = prod(slab.count)
        part = array[done : done + count]
        if slab.count:
            space.select_hyperslab(slab.start, slab.count)
            in_memory = dataspace_of(slab.count)
            write_selected(
                dataset_id, in_memory, space, part.reshape(*slab.count, *trailing), write_type
            )
        else:
            write_selected(dataset_id, h5s.ALL, h5s.ALL, part.reshape(trailing), write_type)
        done += count


def write_parts(
    dataset_id: h5d.DatasetID,
    source: ElementSource,
    parts: list[tuple[int, int]],
    write_type: WriteType,
    on_progress: Callable[[], None],
) -> None:
    """Write ranges of elements, counted row-major, as a source has them."""
    trailing = source.shape[source.rank :]
    for first, last in _pieces(parts):
        part = source.flat(first, last).reshape(-1, *trailing)
        write_range(dataset_id, part, first, write_type)
        on_progress()


def _pieces(parts: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, stop in parts:
        for first in range(start, stop, _ELEMENTS_AT_ONCE):
            yield first, min(first + _ELEMENTS_AT_ONCE, stop)


def write_tail(dataset_id: h5d.DatasetID, tail: bytes) -> None:
    """Write the last elements of a dataset, from the bytes that the file is to hold."""
    if not tail:
        return
    file_type = dataset_id.get_type()
    dtype = np.dtype((np.void, file_type.get_size()))
    elements = np.frombuffer(tail, dtype)
    count = dataset_id.get_space().get_simple_extent_npoints()
    raw = WriteType(file_type, dtype, file_type, is_raw=True)
    write_range(dataset_id, elements, count - len(elements), raw)


def write_selected(
    dataset_id: h5d.DatasetID, in_memory: Any, space: Any, array: Array, write_type: WriteType
) -> None:
    """Write an array to what is selected of a dataset."""
    converted = np.ascontiguousarray(write_type.convert(array))
    if not converted.dtype.hasobject:
        # As bytes: what HDF5 makes of them is said by the type, not by numpy's dtype.
        converted = converted.reshape(-1).view(np.uint8)
    dataset_id.write(in_memory, space, converted, write_type.memory_type)


def boxes_of(
    dataset_id: h5d.DatasetID, source: ElementSource, rank: int
) -> Iterator[tuple[Box, Array]]:
    """Yield boxes that cover a dataset, and the elements of each."""
    shape = source.shape[:rank]
    creation = dataset_id.get_create_plist()
    is_chunked = creation.get_layout() == h5d.CHUNKED
    axis = rank - 1 if source.is_fortran_order else 0
    if source.is_fortran_order and len(source.shape) != rank:
        # The dimensions of an HDF5 array type trail, and cannot be cut here.
        yield Box((0,) * rank, shape), source.whole()
        return
    step = creation.get_chunk()[axis] if is_chunked else 1
    across = max(prod(source.shape) // shape[axis] * source.dtype.itemsize, 1)
    step *= max(1, _BAND_BYTES // (step * across))
    for first in range(0, shape[axis], step):
        stop = min(first + step, shape[axis])
        start, count = [0] * rank, list(shape)
        start[axis], count[axis] = first, stop - first
        take = source.columns if source.is_fortran_order else source.rows
        yield Box(tuple(start), tuple(count)), take(first, stop)


@dataclass(frozen=True)
class _DirectOptions:
    """Filters that are applied here: shuffle, then deflate of a level; None for neither."""

    shuffles: bool
    level: int | None


def _direct_options(dataset_id: h5d.DatasetID, write_type: WriteType) -> _DirectOptions | None:
    """Return the filters of a dataset that can be compressed here; None when only HDF5 can."""
    creation = dataset_id.get_create_plist()
    if creation.get_layout() != h5d.CHUNKED or not write_type.is_raw:
        return None
    found = [creation.get_filter(index) for index in range(creation.get_nfilters())]
    codes = [code for code, _, _, _ in found]
    if codes not in ([h5z.FILTER_DEFLATE], [h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE]):
        return None
    return _DirectOptions(len(codes) == 2, found[-1][2][0])


def _write_chunks(
    dataset_id: h5d.DatasetID,
    source: ElementSource,
    options: _DirectOptions,
    on_progress: Callable[[], None],
) -> None:
    """Compress chunks on all cores, and write each as it is."""
    rank = dataset_id.get_space().get_simple_extent_ndims()
    item_bytes = source.dtype.itemsize * prod(source.shape[rank:])
    creation = dataset_id.get_create_plist()
    grid = Grid(source.shape[:rank], creation.get_chunk(), item_bytes)
    fill = fill_element(creation, dataset_id.get_type(), source.dtype)
    cores = count_cores()
    waiting: deque[tuple[Box, Future[bytes]]] = deque()

    def write_first() -> None:
        box, future = waiting.popleft()
        dataset_id.write_direct_chunk(box.start, future.result(), 0)
        on_progress()

    with ThreadPoolExecutor(cores) as pool:
        for number in range(grid.chunk_count):
            box = grid.box(number)
            rows = source.rows(box.start[0], box.start[0] + box.count[0])
            waiting.append((box, pool.submit(_compress, grid, box, rows, fill, options)))
            if len(waiting) > _CHUNKS_AHEAD * cores:
                write_first()
        while waiting:
            write_first()


def fill_element(creation: Any, type_id: h5t.TypeID, dtype: np.dtype[Any]) -> Array:
    """Return the element to fill a chunk beyond the array with: it shows when the dataset grows."""
    # Of texts the type tells the encoding, without which the library converts none.
    value = np.zeros((), type_id.dtype if isinstance(type_id, h5t.TypeStringID) else dtype)
    if creation.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        creation.get_fill_value(value)
    return value


def _compress(grid: Grid, box: Box, rows: Array, fill: Array, options: _DirectOptions) -> bytes:
    inner = tuple(slice(s, s + n) for s, n in zip(box.start[1:], box.count[1:], strict=True))
    part = rows[(slice(None), *inner)]
    if box.count != grid.chunk_shape:
        trailing = rows.shape[len(grid.chunk_shape) :]
        whole = np.full((*grid.chunk_shape, *trailing), fill, rows.dtype)
        whole[tuple(slice(0, n) for n in box.count)] = part
        part = whole
    data: Array = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
    if options.shuffles and grid.item_bytes > 1:
        data = np.ascontiguousarray(data.reshape(-1, grid.item_bytes).T).reshape(-1)
    return _deflate(data, options.level)


def _deflate(data: Array, level: int | None) -> bytes:
    level = 6 if level is None else level
    if deflate is not None and level:
        return bytes(deflate.zlib_compress(data, level))
    return zlib.compress(data.data, level)
