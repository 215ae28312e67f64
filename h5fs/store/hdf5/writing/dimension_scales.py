"""Dimension scales, and what they are attached to, when one of them becomes another dataset.

Each has the addresses of the others in an attribute, by which HDF5's high-level library and netCDF
find them. Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from h5py import h5a, h5f, h5o
from msgspec.structs import replace

from h5fs.errors import H5fsError, show_path
from h5fs.model.objects import UnnamedTarget
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.objects.attributes import prepare_attribute, read_attribute
from h5fs.store.hdf5.objects.references import walk_for_paths

_log = logging.getLogger(__name__)

_ANSWERED_BY: Final = {b"REFERENCE_LIST": b"DIMENSION_LIST", b"DIMENSION_LIST": b"REFERENCE_LIST"}
"""Attributes that lead to other datasets, and those by which these lead back."""


def lead_to_new(file_id: h5f.FileID, old_id: Any, new_id: Any) -> None:
    """Let what knows a dataset as its scale, or is a scale of it, know the new one instead.

    What cannot be read, or is not there any more, stays as it is.
    """
    names = [name for name in _ANSWERED_BY if h5a.exists(old_id, name)]
    if not names:
        return
    old, new = (UnnamedTarget(h5o.get_info(each).addr) for each in (old_id, new_id))
    paths = walk_for_paths(file_id)
    for name in names:
        for address in dict.fromkeys(_addresses_in(old_id, name)):
            # One that no path leads to may be free space by now.
            path = paths.get(address)
            if path is not None and address != old.address:
                _exchange(file_id, path, _ANSWERED_BY[name], old, new)


def _addresses_in(object_id: Any, name: bytes) -> list[int]:
    try:
        attribute = read_attribute(object_id, name, paths=lambda _address: None)
    except H5fsError:
        return []
    return list(_addresses(attribute.elements))


def _addresses(element: Any) -> Iterator[int]:
    if isinstance(element, tuple):
        for each in element:
            yield from _addresses(each)
    elif isinstance(element, UnnamedTarget):
        yield element.address


def _exchange(
    file_id: h5f.FileID, path: bytes, name: bytes, old: UnnamedTarget, new: UnnamedTarget
) -> None:
    try:
        with reading(f"attribute {show_path(name)}"):
            object_id = h5o.open(file_id, path)
            if not h5a.exists(object_id, name):
                return
        attribute = read_attribute(object_id, name, paths=lambda _address: None)
        elements = tuple(_exchanged(each, old, new) for each in attribute.elements)
        if elements != attribute.elements:
            prepare_attribute(object_id, replace(attribute, elements=elements)).write()
    except H5fsError as error:
        _log.warning("%s does not know what it belongs to: %s", show_path(path), error)


def _exchanged(element: Any, old: UnnamedTarget, new: UnnamedTarget) -> Any:
    if isinstance(element, tuple):
        return tuple(_exchanged(each, old, new) for each in element)
    return new if element == old else element
