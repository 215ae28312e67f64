"""How a chunked dataset is read by its chunks, said without loading what reads them.

Under the store's lock.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5p

from h5fs.model.objects import Chunked, Filter
from h5fs.store.chunks.decodable import can_decode
from h5fs.store.chunks.geometry import Grid
from h5fs.store.hdf5.reading.datasets import MAX_INDEXED_CHUNKS
from h5fs.store.hdf5.reading.filters_of import filters_of
from h5fs.store.hdf5.types.memory_types import MemoryType


def describe_chunks(
    dataset_id: h5d.DatasetID, creation: h5p.PropDCID, memory: MemoryType, *, whole_edges: bool
) -> Chunked | None:
    """Return how a chunked dataset of fixed-size elements is read by its chunks.

    None when only the library can read it: it has no elements, or too many chunks. ``whole_edges``:
    chunks that stick out of the array are stored filtered, like all others.
    """
    shape = dataset_id.get_space().get_simple_extent_dims()
    chunk_shape = creation.get_chunk()
    item_bytes = memory.dtype.itemsize
    if not prod(shape) or not item_bytes:
        return None
    if Grid(shape, chunk_shape, item_bytes).chunk_count > MAX_INDEXED_CHUNKS:
        return None
    filters: tuple[Filter, ...] | None = None
    if whole_edges and dataset_id.get_type().equal(memory.type_id):
        filters = filters_of(creation)
        if not can_decode(filters, item_bytes):
            filters = None
    fill_value = bytes(item_bytes)
    if (
        filters is not None
        and creation.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED
        and creation.get_fill_time() != h5d.FILL_TIME_NEVER
    ):
        value = _fill_value(creation, memory)
        if value is None:
            filters = None  # the library reads the chunks that were never written, too
        else:
            fill_value = value
    return Chunked(chunk_shape, filters, fill_value)


def _fill_value(creation: Any, memory: MemoryType) -> bytes | None:
    """Return the element that a chunk that was never written is full of.

    None where h5py cannot ask for it: of array types, and of all that the library converts to no
    type of numpy's (bitfields, opaque elements).
    """
    if memory.dtype.shape or memory.given_type_id is not None:
        return None
    value = np.zeros((), memory.dtype)
    try:
        creation.get_fill_value(value)
    except Exception:  # any of h5py's
        return None
    return value.tobytes()
