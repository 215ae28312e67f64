"""Copies of datasets whose fill value is of variable length, which ``H5Ocopy`` does not take along.

The copy that the library makes (HDF5 2.0) has the address of a heap of the other file as its fill
value: nobody can open it, netCDF not even its file. Such a dataset is made anew here.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p, h5s, h5t

from h5fs.store.hdf5.objects.attributes import list_names
from h5fs.store.hdf5.writing.creating import create_without_link, link_new, link_properties

_ROWS_BYTES = 2**20


def remake_with_fill_value(
    original: h5d.DatasetID, group: h5g.GroupID, copy_name: bytes, name: bytes
) -> None:
    """Put a new dataset in place of the copy of ``original``, if the copy's fill value is broken.

    ``name`` is the dataset's within the copy ``copy_name`` in ``group``, ``.`` for the copy itself.
    References in its elements and attributes are left for the caller to write.
    """
    if not isinstance(original, h5d.DatasetID) or not _is_variable(original.get_type()):
        return
    creation = original.get_create_plist()
    if creation.fill_value_defined() != h5d.FILL_VALUE_USER_DEFINED:
        return
    path = copy_name if name == b"." else copy_name + b"/" + name
    old = h5o.open(group, path)
    new = create_without_link(group, old.get_type(), original.get_space(), creation)
    _copy_elements(original, new)
    for attribute in list_names(original):
        _copy_attribute(h5a.open(original, attribute), h5a.open(old, attribute), new, attribute)
    _exchange(group, copy_name, h5o.get_info(old).addr, new)


def _is_variable(type_id: h5t.TypeID) -> bool:
    if isinstance(type_id, h5t.TypeStringID):
        return bool(type_id.is_variable_str())
    return bool(type_id.detect_class(h5t.VLEN)) or _has_variable_string(type_id)


def _has_variable_string(type_id: h5t.TypeID) -> bool:
    if isinstance(type_id, h5t.TypeCompoundID):
        members = range(type_id.get_nmembers())
        return any(_is_variable(type_id.get_member_type(number)) for number in members)
    return isinstance(type_id, h5t.TypeArrayID) and _is_variable(type_id.get_super())


def _copy_elements(original: h5d.DatasetID, new: h5d.DatasetID) -> None:
    for start, count in _written_boxes(original):
        here = original.get_space()
        if count:
            here.select_hyperslab(start, count)
        there = h5s.create_simple(count) if count else h5s.create(h5s.SCALAR)
        array = np.empty(count, original.dtype)
        original.read(there, here, array)
        new.write(there, here, array)


def _written_boxes(dataset: h5d.DatasetID) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield start and shape of each part that was written, a chunk or some rows at a time.

    What was not written stays so: HDF5 cannot even read it where the fill value is of variable
    length and the file is open to be read only.
    """
    shape, creation = dataset.shape, dataset.get_create_plist()
    if not dataset.get_storage_size() or 0 in shape:
        return
    if creation.get_layout() == h5d.CHUNKED:
        chunk = creation.get_chunk()
        for number in range(dataset.get_num_chunks()):
            start = dataset.get_chunk_info(number).chunk_offset
            ends = zip(start, chunk, shape, strict=True)
            yield start, tuple(min(size, end - first) for first, size, end in ends)
        return
    rows = max(1, _ROWS_BYTES // (prod(shape[1:]) * dataset.dtype.itemsize))
    for first in range(0, shape[0] if shape else 1, rows):
        count = (min(rows, shape[0] - first), *shape[1:]) if shape else ()
        yield (first, *(0 for _ in shape[1:])), count


def _copy_attribute(original: h5a.AttrID, old: h5a.AttrID, new: h5d.DatasetID, name: bytes) -> None:
    """Copy one attribute; ``old`` is the library's copy, whose type is one of the new file."""
    space = original.get_space()
    made = h5a.create(new, name, old.get_type(), space)
    if space.get_simple_extent_type() != h5s.NULL:
        array = np.empty(original.shape, original.dtype)
        original.read(array)
        made.write(array)


def _exchange(group: h5g.GroupID, copy_name: bytes, address: int, new: h5d.DatasetID) -> None:
    """Let every hard link in a copy that leads to an address lead to a new dataset."""
    copy = h5o.open(group, copy_name)
    if not isinstance(copy, h5g.GroupID):
        group.unlink(copy_name)
        link_new(new, group, copy_name)
        return
    links: list[bytes] = []

    def note(name: bytes, info: h5l.LinkInfo) -> None:
        if info.type == h5l.TYPE_HARD and h5o.get_info(copy, name).addr == address:
            links.append(name)

    copy.links.visit(note, info=True)
    is_linked = False
    for link in links:
        folder, _, last = link.rpartition(b"/")
        parent = h5o.open(copy, folder or b".")
        following = _names_after(parent, last)
        parent.unlink(last)
        if is_linked:
            h5o.link(new, parent, last, link_properties(last))
        else:
            link_new(new, parent, last)
        is_linked = True
        for each in following:  # which keeps the order in which the links were made
            aside, properties = b".h5fs-moved-" + each, link_properties(each)
            parent.links.move(each, parent, aside, properties)
            parent.links.move(aside, parent, each, properties)


def _names_after(parent: h5g.GroupID, name: bytes) -> list[bytes]:
    """Return what was made after a link in its group, in this order, if the group knows it."""
    if not parent.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED:
        return []
    names = list(parent)  # in the order in which they were made
    return names[names.index(name) + 1 :]
