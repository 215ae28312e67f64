"""Paths that are written over a dataset of object references, as references again.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5t

from h5fs.store.hdf5.objects.references import walk_for_paths
from h5fs.store.hdf5.types.array_types import WriteType, check_text
from h5fs.store.hdf5.writing.array_writer import ElementSource

_ADDRESS = np.dtype("u8")  # an object reference in memory
_MOST_BYTES = 2**26  # of text, which is read as a whole


def reference_type(file_type: h5t.TypeID) -> WriteType | None:
    """Return how references are written to a dataset of this type; None for any other type."""
    is_reference = file_type.get_class() == h5t.REFERENCE
    if not is_reference or file_type.get_size() != _ADDRESS.itemsize:  # regions are longer
        return None
    return WriteType(file_type, _ADDRESS, h5t.STD_REF_OBJ, is_raw=False)


def as_references(
    file_id: h5f.FileID, old_id: h5d.DatasetID, source: ElementSource
) -> tuple[ElementSource, WriteType] | None:
    """Return an array of paths as references to the objects, and how these are written.

    None where the dataset has no object references, or one of the elements is neither empty nor the
    path by which the reference is shown. Raises ``InvalidArrayError`` for what is no text.
    """
    write_type = reference_type(old_id.get_type())
    size = prod(source.shape) * source.dtype.itemsize
    if write_type is None or source.dtype.kind != "U" or size > _MOST_BYTES:
        return None
    texts = source.whole()
    check_text(texts)
    by_path = {path: address for address, path in walk_for_paths(file_id).items() if path}
    by_path[b""] = 0
    found = [by_path.get(text.encode()) for text in texts.reshape(-1).tolist()]
    if None in found:
        return None
    stored = np.array(found, _ADDRESS).view(np.uint8)

    def map_bytes(start: int, stop: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return stored[start:stop]

    return ElementSource(map_bytes, 0, _ADDRESS, source.shape, False, source.rank), write_type
