"""Which chunks of a dataset were written: what the library lists, checked before it is believed.

Functions over open identifiers; they keep nothing. Under the store's lock.

HDF5 up to 2.0 reads the right chunk for given coordinates, but lists wrong coordinates for chunks
in an extensible array whose one unlimited dimension is not the first. Such an array numbers its
chunks with that dimension moved to the front, while ``H5Dchunk_iter`` (and ``H5Dget_chunk_info``
and ``H5Dget_chunk_info_by_coord``) counts with the dimensions in their own order
(``H5D__earray_idx_get_addr`` and ``H5D__earray_idx_iterate_cb``, H5Dearray.c). No function tells
which index a dataset has. So both readings of such a list are tried, and the library is asked for a
chunk that only one of them has.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from h5py import h5d, h5i, h5s

from h5fs.errors import show_path
from h5fs.store.chunks.geometry import Grid
from h5fs.store.hdf5.library_errors import explain

_log = logging.getLogger(__name__)

_Integers = npt.NDArray[np.int64]

_PROGRESS_CHUNKS = 2**16
_MOST = 2**62  # the largest product that is computed here, so that none wraps around


@dataclass(frozen=True)
class WrittenChunks:
    """The chunks that were written: their ``numbers`` in the grid, ascending.

    Of each also how many bytes it takes in the file, and its HDF5 address.
    """

    numbers: _Integers
    sizes: _Integers
    addresses: _Integers


class _UntrustedListError(Exception):
    """The list of chunks cannot be right; the message says why."""


def list_written_chunks(
    dataset_id: h5d.DatasetID, grid: Grid, on_progress: Callable[[], None]
) -> WrittenChunks | None:
    """Return which chunks of a dataset were written; None when the library's list is wrong.

    A list is believed when each chunk is within the array and listed once, and when the number of
    chunks and their bytes in all agree with the dataset's storage. Else the log says why not.
    """
    try:
        listed = _list_chunks(dataset_id, on_progress)
        _check_totals(dataset_id, listed.sizes)
        return _read_list(dataset_id, grid, listed)
    except _UntrustedListError as error:
        reason = str(error)
    except Exception as error:  # any of h5py's: the list breaks off, but chunks may still be found
        reason = explain(error)
    name = show_path(h5i.get_name(dataset_id) or b"a dataset without a name")
    _log.warning(
        "%s: HDF5's list of its chunks is not believed, each is looked up: %s", name, reason
    )
    return None


@dataclass(frozen=True)
class _Listed:
    """What the library lists: where each chunk begins in the array (a row), sizes, addresses."""

    offsets: npt.NDArray[np.uint64]
    sizes: _Integers
    addresses: _Integers


def _list_chunks(dataset_id: h5d.DatasetID, on_progress: Callable[[], None]) -> _Listed:
    rank = dataset_id.get_space().get_simple_extent_ndims()
    offsets, sizes, addresses = array("Q"), array("Q"), array("Q")

    def note(chunk: Any) -> None:
        offsets.extend(chunk.chunk_offset)
        sizes.append(chunk.size)
        addresses.append(chunk.byte_offset or 0)
        if not len(sizes) % _PROGRESS_CHUNKS:
            on_progress()

    dataset_id.chunk_iter(note)
    rows = np.frombuffer(offsets, np.uint64).reshape(-1, rank)
    columns = (np.frombuffer(each, np.uint64).astype(np.int64) for each in (sizes, addresses))
    return _Listed(rows, *columns)


def _check_totals(dataset_id: h5d.DatasetID, sizes: _Integers) -> None:
    count, size_bytes = dataset_id.get_num_chunks(), dataset_id.get_storage_size()
    if len(sizes) != count:
        raise _UntrustedListError(f"it has {len(sizes)} chunks, the dataset {count}")
    if int(sizes.sum()) != size_bytes:
        raise _UntrustedListError(f"it has {sizes.sum()} bytes, the dataset {size_bytes}")


def _read_list(dataset_id: h5d.DatasetID, grid: Grid, chunks: _Listed) -> WrittenChunks:
    offsets = chunks.offsets
    chunk_shape = np.array(grid.chunk_shape, np.uint64)
    if (offsets % chunk_shape).any() or (offsets >= _MOST).any():
        raise _UntrustedListError("a chunk begins within another")
    positions = (offsets // chunk_shape).astype(np.int64)
    space = dataset_id.get_space()
    limits = space.get_simple_extent_dims(maxdims=True)
    unlimited = [axis for axis, limit in enumerate(limits) if limit == h5s.UNLIMITED]
    if len(unlimited) != 1 or unlimited[0] == 0:
        return _written_chunks(grid, positions, chunks)
    try:
        listed = _written_chunks(grid, positions, chunks)
    except _UntrustedListError:
        return _written_chunks(grid, _put_back(positions, grid, limits, unlimited[0]), chunks)
    try:
        put_back = _written_chunks(grid, _put_back(positions, grid, limits, unlimited[0]), chunks)
    except _UntrustedListError:
        return listed
    return _choose(dataset_id, grid, listed, put_back)


def _written_chunks(grid: Grid, positions: _Integers, chunks: _Listed) -> WrittenChunks:
    """Return chunks by their numbers. Raises ``_UntrustedListError``."""
    if grid.chunk_count > _MOST:
        raise _UntrustedListError(f"the array has room for {grid.chunk_count} chunks")
    outside = (positions >= np.array(grid.counts)).any(axis=1)
    if outside.any():
        at = positions[outside][0] * grid.chunk_shape
        raise _UntrustedListError(f"it has a chunk outside of the array, at {tuple(at.tolist())}")
    strides = [prod(grid.counts[axis + 1 :]) for axis in range(len(grid.counts))]
    numbers = positions @ np.array(strides, np.int64)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    if (numbers[1:] == numbers[:-1]).any():
        raise _UntrustedListError("it has a chunk twice")
    return WrittenChunks(numbers, chunks.sizes[order], chunks.addresses[order])


def _put_back(
    positions: _Integers, grid: Grid, limits: tuple[int, ...], unlimited: int
) -> _Integers:
    """Return the positions of chunks if their numbers had a dimension moved to the front.

    Raises ``_UntrustedListError``.
    """
    counts = [-(-limit // size) for limit, size in zip(limits, grid.chunk_shape, strict=True)]
    behind = prod(counts[unlimited + 1 :])
    if positions[:, :unlimited].any() or (positions > _MOST // max(behind, 1)).any():
        raise _UntrustedListError("it has a chunk outside of the array")
    index = positions[:, unlimited] * behind
    for axis in range(unlimited + 1, len(counts)):
        index += positions[:, axis] * prod(counts[axis + 1 :])
    found = np.zeros_like(positions)
    for axis in reversed(range(len(counts))):
        if axis != unlimited:
            index, found[:, axis] = np.divmod(index, min(counts[axis], _MOST))
    found[:, unlimited] = index
    return found


def _choose(
    dataset_id: h5d.DatasetID, grid: Grid, one: WrittenChunks, other: WrittenChunks
) -> WrittenChunks:
    """Return which of two readings has a chunk where the library finds one of that size.

    Raises ``_UntrustedListError``.
    """
    numbers = np.union1d(one.numbers, other.numbers)
    sizes = np.stack([_sizes_at(one, numbers), _sizes_at(other, numbers)])
    differing = np.flatnonzero(sizes[0] != sizes[1])
    if not len(differing):
        return one
    place = differing[np.argmin(sizes[:, differing].max(axis=0))]  # the least to read
    try:
        _, raw = dataset_id.read_direct_chunk(grid.box(int(numbers[place])).start)
        found = len(raw)
    except Exception:  # any of h5py's: no chunk is there
        found = 0
    for reading, size in zip((one, other), sizes[:, place].tolist(), strict=True):
        if size == found:
            return reading
    raise _UntrustedListError("the library finds chunks elsewhere than it lists them")


def _sizes_at(chunks: WrittenChunks, numbers: _Integers) -> _Integers:
    sizes = np.zeros(len(numbers), np.int64)
    sizes[np.searchsorted(numbers, chunks.numbers)] = chunks.sizes
    return sizes
