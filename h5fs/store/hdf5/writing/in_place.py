"""How elements are written to a dataset that stays: found once, since programs write many times.

Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from h5py import h5d, h5p, h5s
from msgspec import Struct

from h5fs.errors import InvalidArrayError, ReadOnlyError, UnsupportedTypeError, show_path
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier
from h5fs.store.hdf5.types.array_types import WriteType, kept_type
from h5fs.store.hdf5.writing.array_writer import write_range
from h5fs.store.hdf5.writing.chunk_changes import ChunkChanges
from h5fs.store.hdf5.writing.creating import check_can_encode, lies_in_file
from h5fs.store.hdf5.writing.lossy_filters import may_lose
from h5fs.store.hdf5.writing.narrow_types import check_holds


class InPlace(Struct, frozen=True):
    """How elements of ``dtype``, as the ``.npy`` file has them, are written to an open dataset.

    ``creation``: the dataset's properties. ``is_filtered``: its chunks go through filters;
    ``may_lose``: through one that may not give back what it takes.
    ``space``: its dataspace, right as long as the dataset has the shape that it had.
    """

    dtype: np.dtype[Any]
    write_type: WriteType
    creation: h5p.PropDCID
    is_filtered: bool
    may_lose: bool
    space: h5s.SpaceID


def find_in_place(opened: OpenIdentifier, dtype: np.dtype[Any], path: bytes) -> InPlace:
    """Return how elements of ``dtype`` are written to an open dataset, and keep that with it.

    Raises ``ReadOnlyError``, ``UnsupportedTypeError``.
    """
    known: InPlace | None = opened.in_place
    if known is not None and known.dtype == dtype:
        return known
    dataset_id, creation = opened.identifier, opened.creation
    write_type = kept_type(dataset_id.get_type(), dtype)
    if creation is None or (write_type is not None and write_type.dtype.hasobject):
        # Kept ones may be made up where a fill value is text (`creation_of`).
        creation = dataset_id.get_create_plist()
    if not lies_in_file(creation):
        raise ReadOnlyError(f"{show_path(path)}: its data are in other places")
    if write_type is None:
        raise UnsupportedTypeError("elements of this type cannot be changed in place")
    check_can_encode(creation)
    is_filtered = creation.get_layout() == h5d.CHUNKED and creation.get_nfilters() > 0
    space = dataset_id.get_space()
    opened.in_place = found = InPlace(
        dtype, write_type, creation, is_filtered, is_filtered and may_lose(dataset_id), space
    )
    return found


def prepare_write(
    dataset_id: h5d.DatasetID, in_place: InPlace, array: np.ndarray[Any, Any], start: int,
    path: bytes,
) -> Callable[[Callable[[], None]], None]:  # fmt: skip
    """Return what writes elements from row-major index ``start`` on, given ``on_progress``.

    Raises ``InvalidArrayError`` for elements that would not be the same when they are read again.
    """
    write_type = in_place.write_type
    write_type.convert(array)
    check_holds(array, write_type, path)
    if not in_place.is_filtered:
        return lambda _: write_range(dataset_id, array, start, write_type, in_place.space)
    changes = ChunkChanges(
        dataset_id, write_type, dataset_id.get_space().get_simple_extent_dims(),
        [(start, start + len(array))], lambda low, high: array[low - start : high - start],
    )  # fmt: skip
    if not changes.need_whole_chunks():
        return lambda _: write_range(dataset_id, array, start, write_type, in_place.space)
    if in_place.may_lose and not changes.are_held():
        raise InvalidArrayError(
            f"{show_path(path)}: its lossy filter cannot hold what was written to it; write the "
            "whole array anew"
        )
    return changes.write
