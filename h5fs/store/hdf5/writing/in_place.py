"""How elements are written to a dataset that stays: found once, since programs write many times.

Under the store's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from h5py import h5d, h5p, h5s
from msgspec import Struct

from h5fs.errors import ReadOnlyError, UnsupportedTypeError, show_path
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier
from h5fs.store.hdf5.types.array_types import WriteType, kept_type
from h5fs.store.hdf5.writing.creating import check_can_encode, lies_in_file


class InPlace(Struct, frozen=True):
    """How elements of ``dtype``, as the ``.npy`` file has them, are written to an open dataset.

    ``creation``: the dataset's properties. ``is_filtered``: its chunks go through filters.
    ``space``: its dataspace, right as long as the dataset has the shape that it had.
    """

    dtype: np.dtype[Any]
    write_type: WriteType
    creation: h5p.PropDCID
    is_filtered: bool
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
    opened.in_place = found = InPlace(dtype, write_type, creation, is_filtered, space)
    return found
