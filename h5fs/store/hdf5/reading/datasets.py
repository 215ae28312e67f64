"""Datasets: opening them, and what their headers say.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from h5py import h5d, h5p, h5s, h5z

from h5fs.errors import StaleError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo, Layout, ObjectRef, StorageInfo
from h5fs.store.chunks.geometry import Grid
from h5fs.store.hdf5.types.array_descriptions import describe_array
from h5fs.store.hdf5.types.memory_types import memory_type

MAX_INDEXED_CHUNKS = 2**22
"""An index of more chunks would take more memory than it is worth; the library looks them up."""

_LAYOUTS = {
    h5d.COMPACT: Layout.COMPACT,
    h5d.CONTIGUOUS: Layout.CONTIGUOUS,
    h5d.CHUNKED: Layout.CHUNKED,
    h5d.VIRTUAL: Layout.VIRTUAL,
}

# A sequential reader goes row by row, through all the chunks that a row touches: where HDF5's cache
# cannot hold these, each is decoded again for the next row. A chunk larger than the cache is
# decoded again for every request.
_MAX_BAND_BYTES = 64 * 2**20


def creation_of(dataset_id: h5d.DatasetID) -> h5p.PropDCID:
    """Return a dataset's creation properties, or default ones where it has none that can be read.

    The library cannot read them when the fill value is of variable length and its text cannot be
    found; the data can be read nevertheless. The properties then say contiguous, without filters;
    and it is certain that the data lie in the dataset's own file. Raises what h5py raises.
    """
    try:
        return dataset_id.get_create_plist()
    except Exception:  # any of h5py's
        if not _lies_in_its_file(dataset_id):
            raise
        return h5p.create(h5p.DATASET_CREATE)


def _lies_in_its_file(dataset_id: h5d.DatasetID) -> bool:
    """Whether a dataset is surely neither virtual nor kept in external files."""
    try:
        dataset_id.get_num_chunks()
    except Exception:  # any of h5py's: it has no chunks
        return dataset_id.get_offset() is not None
    return True


def tune_dataset(
    dataset_id: h5d.DatasetID,
    creation: h5p.PropDCID,
    file_id: Any,
    ref: ObjectRef,
    *,
    folder: Path,
    sources_folder: Path | None,
    is_read_by_chunk: bool,
) -> tuple[h5d.DatasetID, int]:
    """Return a dataset as it was opened, or opened again with settings that suit it.

    Returns, too, how much memory HDF5 may keep its decoded chunks in.
    HDF5 looks for raw data outside the file in ``folder``, and for the sources of a virtual dataset
    in ``sources_folder`` where it does not know the file's path. ``is_read_by_chunk``: the daemon
    reads chunks one by one where possible, and keeps them itself.
    """
    layout = creation.get_layout()
    if layout == h5d.COMPACT or (layout == h5d.CONTIGUOUS and not creation.get_external_count()):
        return dataset_id, 0
    cache_bytes = 0
    access = None
    if layout == h5d.CHUNKED:
        slots, cache_bytes, preemption = _default_chunk_cache()
        wanted_bytes = _wanted_bytes(dataset_id, creation, is_read_by_chunk=is_read_by_chunk)
        if wanted_bytes > cache_bytes:
            access, cache_bytes = h5p.create(h5p.DATASET_ACCESS), wanted_bytes
            access.set_chunk_cache(slots, wanted_bytes, preemption)
    elif creation.get_external_count():
        access = h5p.create(h5p.DATASET_ACCESS)
        # A relative name of a raw data file would be taken from the working directory.
        access.set_efile_prefix(os.fsencode(folder))
    elif layout == h5d.VIRTUAL and sources_folder is not None:
        access = h5p.create(h5p.DATASET_ACCESS)
        access.set_virtual_prefix(os.fsencode(sources_folder))
    if access is None:
        return dataset_id, cache_bytes
    dataset_id.close()
    return h5d.open(file_id, ref.path, access), cache_bytes


def _wanted_bytes(
    dataset_id: h5d.DatasetID, creation: h5p.PropDCID, *, is_read_by_chunk: bool
) -> int:
    """Return how much memory a chunked dataset's decoded chunks should have; 0: as usual."""
    chunk_shape = creation.get_chunk()
    chunk_bytes = int(prod(chunk_shape) * dataset_id.get_type().get_size())
    band_bytes = _band_bytes(dataset_id, chunk_shape, chunk_bytes)
    wanted_bytes = max(min(band_bytes, _MAX_BAND_BYTES), chunk_bytes)
    is_large = wanted_bytes > _default_chunk_cache()[1]
    if is_large and is_read_by_chunk and _is_read_by_chunk(dataset_id, chunk_shape):
        return 0
    return wanted_bytes


@functools.cache
def _default_chunk_cache() -> tuple[int, int, float]:
    """Return slots, bytes and preemption of a dataset's chunk cache, where nobody sets them."""
    slots, cache_bytes, preemption = h5p.create(h5p.DATASET_ACCESS).get_chunk_cache()
    return slots, cache_bytes, preemption


def _is_read_by_chunk(dataset_id: h5d.DatasetID, chunk_shape: tuple[int, ...]) -> bool:
    """Whether the daemon keeps decoded chunks, so that HDF5's own cache would gain nothing."""
    try:
        memory = memory_type(dataset_id.get_type())
    except UnsupportedTypeError:
        return True
    shape = dataset_id.get_space().get_simple_extent_dims()
    grid = Grid(shape, chunk_shape, 1)
    return not memory.dtype.hasobject and grid.chunk_count <= MAX_INDEXED_CHUNKS


def chunk_bytes_of(dataset_id: h5d.DatasetID, creation: h5p.PropDCID) -> int:
    """Return the size of one decoded chunk; 0 for other layouts."""
    if creation.get_layout() != h5d.CHUNKED:
        return 0
    return int(prod(creation.get_chunk()) * dataset_id.get_type().get_size())


def _band_bytes(dataset_id: h5d.DatasetID, chunk_shape: tuple[int, ...], chunk_bytes: int) -> int:
    """Return the size of all chunks that one row touches, and of one more."""
    shape = dataset_id.get_space().get_simple_extent_dims()
    across = prod(-(-n // c) for n, c in zip(shape[1:], chunk_shape[1:], strict=True))
    return int((across + 1) * chunk_bytes)


def check_filters(dataset_id: h5d.DatasetID, creation: h5p.PropDCID) -> None:
    """Raise ``UnsupportedTypeError`` when elements are stored through a filter that is missing."""
    if creation.get_layout() != h5d.CHUNKED or not creation.get_nfilters():
        return
    for index in range(creation.get_nfilters()):
        code, _, _, name = creation.get_filter(index)
        if h5z.filter_avail(code) or dataset_id.get_num_chunks() == 0:
            continue
        if not dataset_id.get_chunk_info(0).filter_mask & 1 << index:
            raise UnsupportedTypeError(
                f"filter {code} ({name.decode('utf-8', 'replace')}) is not installed; "
                "most are in: pip install hdf5plugin"
            )


def shape_of(dataset_id: h5d.DatasetID) -> tuple[int, ...] | None:
    """Return a dataset's shape, None for a null dataspace."""
    space = dataset_id.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        return None
    shape: tuple[int, ...] = space.get_simple_extent_dims()
    return shape


@contextmanager
def keeping_shape(dataset_id: h5d.DatasetID, shape: tuple[int, ...] | None) -> Iterator[None]:
    """Raise ``StaleError`` unless elements have their places in ``shape`` before and after.

    A virtual dataset grows by itself where sources do, or where there are more of them. More rows
    behind the last one change no place; longer rows do. None: nobody knows a shape.
    """
    _check_places(dataset_id, shape)
    yield
    _check_places(dataset_id, shape)


def _check_places(dataset_id: h5d.DatasetID, shape: tuple[int, ...] | None) -> None:
    now = None if shape is None else shape_of(dataset_id)
    if now == shape:
        return
    if not now or not shape or now[1:] != shape[1:] or now[0] < shape[0]:
        raise StaleError(f"the shape was {shape}, and is {now}: open it again")


def describe_storage(dataset_id: h5d.DatasetID) -> StorageInfo:
    """Return how a dataset is stored."""
    creation = dataset_id.get_create_plist()
    layout = _LAYOUTS[creation.get_layout()]
    shape = shape_of(dataset_id)
    return StorageInfo(
        layout=layout,
        shape=shape,
        maxshape=None if shape is None else _max_shape(dataset_id.get_space()),
        chunk_shape=creation.get_chunk() if layout is Layout.CHUNKED else None,
        filters=tuple(_describe_filter(creation, i) for i in range(creation.get_nfilters())),
        fill_value=_fill_value(dataset_id, creation),
        storage_size_bytes=dataset_id.get_storage_size(),
        array=_describe_array(dataset_id, shape),
    )


def _describe_array(dataset_id: h5d.DatasetID, shape: tuple[int, ...] | None) -> DatasetInfo | None:
    try:
        return describe_array(memory_type(dataset_id.get_type()).dtype, shape)
    except UnsupportedTypeError:
        return None


def _describe_filter(creation: Any, index: int) -> str:
    code, _, options, name = creation.get_filter(index)
    text = name.decode("utf-8", "replace") or str(code)
    return f"{text}({','.join(map(str, options))})" if options else text


def _fill_value(dataset_id: h5d.DatasetID, creation: Any) -> bytes | None:
    if creation.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED:
        return None
    try:
        dtype = memory_type(dataset_id.get_type()).dtype
        if dtype.hasobject or dtype.shape:
            return None
        value = np.zeros((), dtype)
        creation.get_fill_value(value)
    except Exception:  # any of h5py's: a type that numpy cannot hold has no value to show
        return None
    return value.tobytes()


def _max_shape(space: h5s.SpaceID) -> tuple[int | None, ...]:
    dims: tuple[int, ...] = space.get_simple_extent_dims(maxdims=True)
    return tuple(None if size == h5s.UNLIMITED else size for size in dims)
