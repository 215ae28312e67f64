"""Datasets made for arrays: how they are stored, and how one takes another's place.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5g, h5o, h5p, h5s, h5t, h5z

from h5fs.errors import UnsupportedTypeError
from h5fs.model.settings import NewDatasets
from h5fs.store.hdf5.types.array_types import WriteType
from h5fs.store.hdf5.types.dataspaces import dataspace_of
from h5fs.store.hdf5.types.library_calls import count_link
from h5fs.store.hdf5.writing.kept_filters import keep_filters

_CHUNK_BYTES = 2**20

_MAX_CHUNK_ELEMENTS = 2**32 - 1


class Inherited:
    """What objects take over that are made in a group; read once, since it stays as it is."""

    def __init__(self, group_id: h5g.GroupID) -> None:
        self._properties: h5p.PropGCID = group_id.get_create_plist()

    @functools.cached_property
    def group(self) -> h5p.PropGCID:
        """The properties of a new group, which are for making it only."""
        properties = h5p.create(h5p.GROUP_CREATE)
        properties.set_link_creation_order(self._properties.get_link_creation_order())
        self.give_attribute_order(properties)
        return properties

    @functools.cached_property
    def plain_dataset(self) -> h5p.PropDCID:
        """The properties of a new contiguous dataset, which are for making it only."""
        properties = h5p.create(h5p.DATASET_CREATE)
        self.give_attribute_order(properties)
        properties.set_fill_time(h5d.FILL_TIME_IFSET)
        return properties

    def give_attribute_order(self, properties: Any) -> None:
        """Let a new object store attributes as the group does."""
        _keep_attribute_order(properties, self._properties)


def create_dataset(
    file_id: h5f.FileID,
    shape: tuple[int, ...],
    item_bytes: int,
    write_type: WriteType,
    options: NewDatasets,
    old_id: h5d.DatasetID | None,
    *,
    inherited: Inherited | None = None,
    takes_space: bool = False,
    loses_lossy: bool = False,
) -> h5d.DatasetID:
    """Return a new dataset that has no link yet; stored like ``old_id`` if it replaces that one.

    It keeps times if ``old_id`` does. It keeps the order in which attributes are created if
    ``old_id`` does, or else if its future group does, from which it has ``inherited``.
    ``takes_space``: its space in the file is allocated at once, unwritten. ``loses_lossy``: it has
    none of the filters that may lose something.
    """
    if old_id is not None:
        creation = _with_fill_value_of(old_id, write_type.file_type)
        old = old_id.get_create_plist()
        creation.set_obj_track_times(old.get_obj_track_times())
        _keep_attribute_order(creation, old)
    else:
        creation = h5p.create(h5p.DATASET_CREATE)
        if inherited is not None:
            inherited.give_attribute_order(creation)
    creation.set_fill_time(h5d.FILL_TIME_NEVER if takes_space else h5d.FILL_TIME_IFSET)
    if takes_space:
        creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    max_shape: tuple[int, ...] | None = None
    if old_id is not None:
        max_shape = _kept_max_shape(old_id, shape)
        _keep_properties(
            creation, old_id, shape, item_bytes, max_shape, write_type,
            loses_lossy=loses_lossy,
        )  # fmt: skip
    elif shape and 0 not in shape:
        _set_new_properties(creation, shape, item_bytes, options)
    if creation.get_layout() != h5d.CHUNKED:
        max_shape = None
    space = _make_space(shape, max_shape)
    return create_without_link(file_id, write_type.file_type, space, creation)


def create_plain_dataset(
    file_id: h5f.FileID, shape: tuple[int, ...], write_type: WriteType, inherited: Inherited
) -> h5d.DatasetID:
    """Return what ``create_dataset`` does of ``NewDatasets()``, where nothing is replaced."""
    space = _make_space(shape, None)
    return create_without_link(file_id, write_type.file_type, space, inherited.plain_dataset)


def create_without_link(
    file_id: h5f.FileID | h5g.GroupID,
    type_id: h5t.TypeID,
    space: h5s.SpaceID,
    creation: h5p.PropDCID,
) -> h5d.DatasetID:
    """Return a new dataset that ``link_new`` or ``drop_new`` comes to, sooner or later.

    The library counts no link of it, and deletes it when it is closed, unless it has got one. But
    where its header has left the library's cache meanwhile, and is read again, it counts as one
    with a link (headers of HDF5 1.8 have no number of links); the library then forgets that it must
    not be deleted: its chunks, or its data, were given to others while it had a name (HDF5 2.0.0;
    some 2,000 chunks are enough for that). So it is counted as one with a link from the beginning.
    """
    new_id = h5d.create(file_id, None, type_id, space, creation)
    count_link(new_id, 1)
    return new_id


def link_new(new_id: h5d.DatasetID, group: h5g.GroupID, name: bytes) -> None:
    """Give a dataset of ``create_without_link`` its first name.

    It is never without a link, not even for a moment: the names of a group of HDF5 1.6 are one
    entry of the library's cache, and where these are more than it has room for, the library reads
    them when it adds the name, and lets the dataset's header go.
    """
    h5o.link(new_id, group, name, link_properties(name))
    count_link(new_id, -1)


def drop_new(new_id: h5d.DatasetID) -> None:
    """Let a dataset of ``create_without_link`` be deleted when it is closed."""
    count_link(new_id, -1)


def _make_space(shape: tuple[int, ...], max_shape: tuple[int, ...] | None) -> h5s.SpaceID:
    return h5s.create_simple(shape, max_shape) if max_shape else dataspace_of(shape)


def _set_new_properties(
    creation: Any, shape: tuple[int, ...], item_bytes: int, options: NewDatasets
) -> None:
    chunk_shape = options.chunk_shape
    if chunk_shape is not None and len(chunk_shape) == len(shape):
        chunk_shape = tuple(map(min, chunk_shape, shape))
    elif options.gzip_level is not None or options.shuffles:
        chunk_shape = choose_chunk_shape(shape, item_bytes)
    else:
        return
    creation.set_chunk(chunk_shape)
    if options.shuffles:
        creation.set_shuffle()
    if options.gzip_level is not None:
        creation.set_deflate(options.gzip_level)


def choose_chunk_shape(shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    """Return chunks of whole rows, about 1 MiB each, for an array read from front to back."""
    room = max(_CHUNK_BYTES // max(item_bytes, 1), 1)
    chunk = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        chunk[axis] = max(1, min(shape[axis], room))
        room //= chunk[axis]
    return tuple(chunk)


def _kept_max_shape(old_id: h5d.DatasetID, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    space = old_id.get_space()
    if space.get_simple_extent_type() != h5s.SIMPLE:
        return None
    most: tuple[int, ...] = space.get_simple_extent_dims(maxdims=True)
    fits = len(most) == len(shape) and all(
        limit == h5s.UNLIMITED or size <= limit for size, limit in zip(shape, most, strict=True)
    )
    return most if fits else None


def _keep_properties(
    creation: Any,
    old_id: h5d.DatasetID,
    shape: tuple[int, ...],
    item_bytes: int,
    max_shape: tuple[int, ...] | None,
    write_type: WriteType,
    *,
    loses_lossy: bool,
) -> None:
    old = old_id.get_create_plist()
    if old.get_layout() != h5d.CHUNKED or not shape:
        return
    old_chunk = old.get_chunk()
    limits = max_shape or shape
    if len(old_chunk) == len(shape):
        chunk = tuple(
            chunk if limit == h5s.UNLIMITED else max(1, min(chunk, limit))
            for chunk, limit in zip(old_chunk, limits, strict=True)
        )
    else:
        chunk = choose_chunk_shape(tuple(max(size, 1) for size in shape), item_bytes)
    if prod(chunk) > _MAX_CHUNK_ELEMENTS:
        return
    creation.set_chunk(chunk)
    keep_filters(creation, old_id, write_type.file_type, chunk, loses_lossy=loses_lossy)


def _with_fill_value_of(old_id: h5d.DatasetID, type_id: h5t.TypeID) -> h5p.PropDCID:
    """Return the properties of a new dataset, contiguous and without filters, whose fill value is
    that of an old one where both have one type.

    It stays in the library: h5py (3.16) stores an address in the place of a text of fixed length.
    """
    properties = old_id.get_create_plist()
    is_kept = properties.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED
    if not is_kept or not old_id.get_type().equal(type_id):
        return h5p.create(h5p.DATASET_CREATE)
    if isinstance(type_id, h5t.TypeStringID) and type_id.is_variable_str():
        # Equal are also texts in ASCII and in UTF-8, of which the library makes no other.
        value = np.zeros(1, old_id.get_type().dtype)
        properties.get_fill_value(value)
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_fill_value(np.array(value[0], type_id.dtype))
        return properties
    for index in reversed(range(properties.get_nfilters())):
        properties.remove_filter(properties.get_filter(index)[0])
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_DEFAULT)
    return properties


def can_take(
    dataset_id: h5d.DatasetID, write_type: WriteType | None, shape: tuple[int, ...]
) -> bool:
    """Whether a dataset can hold an array in place: its dtype is the same, and the shape fits."""
    if write_type is None:
        return False
    creation = dataset_id.get_create_plist()
    if not lies_in_file(creation):
        return False
    space = dataset_id.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        return False
    old_shape = space.get_simple_extent_dims()
    if old_shape == shape:
        return True
    return creation.get_layout() == h5d.CHUNKED and bool(_kept_max_shape(dataset_id, shape))


def check_can_encode(creation: h5p.PropDCID) -> None:
    """Raise ``UnsupportedTypeError`` when elements go through a filter that cannot be applied.

    ``creation``: the dataset's properties.
    """
    for index in range(creation.get_nfilters()):
        code, flags, _, name = creation.get_filter(index)
        encodes = h5z.filter_avail(code) and (
            h5z.get_filter_info(code) & h5z.FILTER_CONFIG_ENCODE_ENABLED
        )
        if not encodes and not flags & h5z.FLAG_OPTIONAL:
            raise UnsupportedTypeError(
                f"filter {code} ({name.decode('utf-8', 'replace')}) is not installed, or only "
                "decodes; most are in: pip install hdf5plugin"
            )


def lies_in_file(creation: h5p.PropDCID) -> bool:
    """Whether the data of a dataset with these properties are its own, in its own file."""
    return creation.get_layout() != h5d.VIRTUAL and not creation.get_external_count()


def _keep_attribute_order(properties: Any, old: Any) -> None:
    """Let a new object store attributes as another does: order of creation, dense storage."""
    properties.set_attr_creation_order(old.get_attr_creation_order())
    if old.get_attr_phase_change() != properties.get_attr_phase_change():
        properties.set_attr_phase_change(*old.get_attr_phase_change())


def link_properties(name: bytes) -> h5p.PropLCID:
    """Return how a link of this name is made: as one in ASCII where the name is, as h5py does.

    For a link in UTF-8 the library gives up the symbol table of a group, which is how programs
    before HDF5 1.8 keep groups, and h5py, too, unless it is told otherwise.
    """
    return _link_properties(h5t.CSET_ASCII if name.isascii() else h5t.CSET_UTF8)


@functools.cache
def _link_properties(character_set: int) -> h5p.PropLCID:
    properties = h5p.create(h5p.LINK_CREATE)
    properties.set_char_encoding(character_set)
    return properties
