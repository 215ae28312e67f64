"""Attributes of one object, read and written to the bit.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import functools
import math
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from h5py import h5, h5a, h5d, h5f, h5g, h5o, h5p, h5s, h5t
from msgspec import Struct

from h5fs.errors import (
    AttributeTooLargeError,
    H5fsError,
    UnreadableError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.model.datatype_rules import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_ELEMENTS
from h5fs.model.datatypes import (
    Datatype,
    FloatType,
    IntegerType,
    StringType,
    count_values,
    is_variable,
    size_in_memory,
)
from h5fs.model.objects import Attribute, UnreadableAttribute
from h5fs.store.hdf5.library_errors import explain, reading
from h5fs.store.hdf5.objects.references import (
    PathFinder,
    PathOf,
    read_reference,
    store_reference,
)
from h5fs.store.hdf5.types.dataspaces import dataspace_of
from h5fs.store.hdf5.types.elements_in_memory import pack_elements, unpack_elements
from h5fs.store.hdf5.types.library_calls import read_memory, write_memory
from h5fs.store.hdf5.types.type_ids import create_datatype, describe_datatype, simple_type

# An object header message has a 16-bit size. An attribute's message holds, beside the name, the
# datatype and the data, its own head and the dataspace (8 + 16 bytes a dimension), padded.
_MAX_MESSAGE_BYTES: Final = 0xFFFF
_MESSAGE_HEAD_BYTES: Final = 64
_SURELY_SMALL_BYTES: Final = 2**10
_OLD_HEADER: Final = 1
_KEEPS_ORDER: Final = 1 << 2  # a flag of a header: the order of creation of attributes is tracked


def list_names(object_id: Any, creation: Any = None, info: Any = None) -> tuple[bytes, ...]:
    """Return the names of an object's attributes, in the order that HDF5 iterates them.

    That is the order of creation where the object keeps it, else that of the names, as in h5py.
    ``creation``, ``info``: the object's creation properties, or what ``H5Oget_info`` says of it,
    where they are known. Raises ``UnreadableError``.
    """
    with reading("list of attributes"):
        names = _iterate(object_id, _iteration_index(object_id, creation, info), h5.ITER_INC)
        # A name that stands twice is damage; only its first attribute can be opened.
        return tuple(dict.fromkeys(names))


def _ignore_progress() -> None:
    """Hear of progress, and do nothing."""


def read_attributes(
    object_id: Any,
    *,
    creation: Any = None,
    info: Any = None,
    paths: PathOf | None = None,
    on_progress: Callable[[], None] = _ignore_progress,
    written: Iterable[Attribute] = (),
) -> tuple[Attribute | UnreadableAttribute, ...]:
    """Return an object's attributes, in the order of ``list_names``.

    ``object_id``: the identifier of an open group, dataset or committed datatype; ``creation`` and
    ``info`` as for ``list_names``. ``paths``: gives
    the targets of references by address; without it the first reference causes a walk through the
    file. ``on_progress`` is called before each attribute. Attributes beyond ``MAX_ELEMENTS``
    elements in all are unreadable. ``written``: those that were just written, which are not read
    where that would find the same. Raises ``UnreadableError`` when attributes cannot be listed.
    """
    with reading("number of attributes"):
        count = h5a.get_num_attrs(object_id) if info is None else info.num_attrs
    if count > MAX_ATTRIBUTES:
        raise UnreadableError(f"{count} attributes, more than {MAX_ATTRIBUTES}")
    if not count:  # as of most groups
        return ()
    path_of = paths or PathFinder(object_id)
    known = {each.name: each for each in written if _is_read_as_written(each)}
    attributes: list[Attribute | UnreadableAttribute] = []
    room = MAX_ELEMENTS
    for name in list_names(object_id, creation, info):
        on_progress()
        found: Attribute | UnreadableAttribute | None = known.get(name)
        if not isinstance(found, Attribute) or found.value_count > room:
            found = _read_or_explain(object_id, name, path_of, room)
        if isinstance(found, Attribute):
            room -= found.value_count
        attributes.append(found)
    return tuple(attributes)


def _is_read_as_written(attribute: Attribute) -> bool:
    datatype = attribute.type
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        # A null character ends a string, and an empty one may be null.
        return all(element and b"\0" not in element for element in attribute.elements)
    return isinstance(datatype, IntegerType | FloatType | StringType)


def _read_or_explain(
    object_id: Any, name: bytes, path_of: PathOf, room: int
) -> Attribute | UnreadableAttribute:
    try:
        return read_attribute(object_id, name, paths=path_of, most_elements=room)
    except H5fsError as error:
        return UnreadableAttribute(name, str(error))


def read_attribute(
    object_id: Any,
    name: bytes,
    *,
    paths: PathOf | None = None,
    most_elements: int = MAX_ELEMENTS,
) -> Attribute:
    """Return one attribute. Raises ``UnreadableError``, ``UnsupportedTypeError``."""
    with reading(f"attribute {show_path(name)}"):
        attribute_id = h5a.open(object_id, name)
        type_id = attribute_id.get_type()
        datatype = describe_datatype(type_id)
        shape = _shape_of(attribute_id.get_space())
        if shape is None:
            return Attribute(name, datatype, None, ())
        size = math.prod(shape) * size_in_memory(datatype)
        if size_in_memory(datatype) != type_id.get_size():
            raise UnsupportedTypeError(f"elements of {type_id.get_size()} bytes in memory")
        if size > MAX_ATTRIBUTE_BYTES:
            raise UnreadableError(f"{size} bytes, more than {MAX_ATTRIBUTE_BYTES}")
        if math.prod(shape) * count_values(datatype) > most_elements:
            raise UnreadableError(f"more than {MAX_ELEMENTS} elements, with those before it")
        if not size:
            return Attribute(name, datatype, shape, ())
        unpack = functools.partial(
            unpack_elements,
            datatype=datatype,
            read_reference=functools.partial(
                read_reference, object_id=object_id, path_of=paths or PathFinder(object_id)
            ),
        )
        if is_variable(datatype):
            elements = read_memory(attribute_id, type_id, unpack, size=size)
        else:
            # With the file's own type as memory type the library copies the bits.
            array = np.empty(shape, np.dtype((np.void, type_id.get_size())))
            attribute_id.read(array, mtype=type_id)
            elements = unpack(array.tobytes())
        return Attribute(name, datatype, shape, tuple(elements))


def write_attribute(object_id: Any, attribute: Attribute) -> None:
    """Create an attribute, or give the one of that name this type, shape and elements.

    An attribute of equal type and shape is overwritten, and keeps its place in the order of
    creation. Any other is replaced by a new attribute only once that is complete, so that a failure
    leaves the old one. Raises ``AttributeTooLargeError``, ``UnsupportedTypeError``,
    ``UnreadableError``.
    """
    prepare_attribute(object_id, attribute).write()


class PreparedAttribute(Struct, frozen=True):
    """An attribute that an object can have; ``owners`` keep alive what ``memory`` points to."""

    object_id: Any
    attribute: Attribute
    type_id: h5t.TypeID
    memory: bytes
    owners: list[Any]

    def write(self) -> None:
        """Write it, as ``write_attribute`` says."""
        object_id, attribute, name = self.object_id, self.attribute, self.attribute.name
        with reading(name, "write attribute "):
            if not h5a.exists(object_id, name):
                _create(object_id, name, attribute, self.type_id, self.memory)
            elif (like := _find_like(object_id, attribute)) is not None:
                _write_elements(*like, self.memory)
            else:
                _replace(object_id, attribute, self.type_id, self.memory)


def prepare_attribute(object_id: Any, attribute: Attribute) -> PreparedAttribute:
    """Return an attribute ready to be written; change nothing. Raises as ``write_attribute``."""
    with reading(attribute.name, "write attribute "):
        owners: list[Any] = []
        memory = _pack(object_id, attribute, owners)
        datatype = attribute.type
        is_simple = isinstance(datatype, IntegerType | FloatType | StringType)
        type_id = simple_type(datatype) if is_simple else create_datatype(datatype)
        if not is_simple or len(memory) + len(attribute.name) > _SURELY_SMALL_BYTES:
            from h5fs.store.hdf5.types.array_types import check_size

            check_size(type_id)
            _check_room(object_id, attribute, type_id, len(memory))
        return PreparedAttribute(object_id, attribute, type_id, memory, owners)


def delete_attributes(
    object_id: Any,
    names: Iterable[bytes],
    *,
    on_progress: Callable[[], None] = _ignore_progress,
) -> None:
    """Delete attributes that are there, the last one of the header first.

    The library closes the gap that each deletion leaves: deleting 1,000 attributes takes 57 s from
    the first on, and 2 s from the last on. Raises ``UnreadableError``.
    """
    with reading("list of attributes"):
        found = _iterate(object_id, h5.INDEX_NAME, h5.ITER_NATIVE)
    places = {name: place for place, name in enumerate(found)}
    for name in sorted(places.keys() & names, key=places.__getitem__, reverse=True):
        on_progress()
        with reading(f"delete attribute {show_path(name)}"):
            h5a.delete(object_id, name)


def _iterate(object_id: Any, index: int, order: int) -> list[bytes]:
    """Return the names of an object's attributes in an order of the library's."""
    names: list[bytes] = []
    try:
        h5a.iterate(object_id, names.append, index_type=index, order=order)
        return names
    except RuntimeError:
        # To iterate, the library opens the object anew, without its settings: it then refuses a
        # dataset whose raw data it was told to look for in a folder.
        is_dataset = isinstance(object_id, h5d.DatasetID)
        if not is_dataset or not object_id.get_access_plist().get_efile_prefix():
            raise
    count = h5a.get_num_attrs(object_id)
    opened = (h5a.open(object_id, index=i, index_type=index, order=order) for i in range(count))
    return [each.name for each in opened]


def _iteration_index(object_id: Any, creation: Any, info: Any) -> int:
    if creation is None and info is not None:
        # As the properties of a group say, which take the library four times as long.
        keeps_order = info.hdr.version > _OLD_HEADER and info.hdr.flags & _KEEPS_ORDER
        return int(h5.INDEX_CRT_ORDER if keeps_order else h5.INDEX_NAME)
    # A file's identifier has no creation properties for attributes: its root group does.
    if isinstance(object_id, h5f.FileID):
        object_id = h5g.open(object_id, b"/")
    try:
        order = (creation or object_id.get_create_plist()).get_attr_creation_order()
    except Exception:  # any of h5py's: a fill value that cannot be read keeps all properties back
        return int(h5.INDEX_NAME)
    return int(h5.INDEX_CRT_ORDER if order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME)


def _shape_of(space_id: h5s.SpaceID) -> tuple[int, ...] | None:
    if space_id.get_simple_extent_type() == h5s.NULL:
        return None
    return tuple(space_id.get_simple_extent_dims())


def _space_of(shape: tuple[int, ...] | None) -> h5s.SpaceID:
    return h5s.create(h5s.NULL) if shape is None else dataspace_of(shape)


def _pack(object_id: Any, attribute: Attribute, owners: list[Any]) -> bytes:
    store = functools.partial(store_reference, object_id=object_id)
    count = math.prod(attribute.shape) if attribute.shape is not None else 0
    size = count * size_in_memory(attribute.type)
    if size > MAX_ATTRIBUTE_BYTES:
        raise AttributeTooLargeError(f"{size} bytes, more than {MAX_ATTRIBUTE_BYTES}")
    memory = pack_elements(attribute.elements, attribute.type, store_reference=store, owners=owners)
    if len(memory) != size:
        raise UnsupportedTypeError(f"{len(memory)} bytes of elements where there must be {size}")
    return memory


def _check_room(object_id: Any, attribute: Attribute, type_id: h5t.TypeID, size: int) -> None:
    """Refuse an attribute that needs dense storage on an object that cannot have dense storage."""
    needed = _MESSAGE_HEAD_BYTES + 16 * len(attribute.shape or ()) + len(attribute.name)
    needed += len(type_id.encode()) + _size_in_file(attribute.type, size)
    if needed > _MAX_MESSAGE_BYTES and h5o.get_info(object_id).hdr.version == _OLD_HEADER:
        raise AttributeTooLargeError(
            "larger than 64 KiB, and the object is of the old format that cannot hold it"
            " (files made with libver 'v108' or later can)"
        )


def _size_in_file(datatype: Datatype, size: int) -> int:
    # A char pointer becomes a length, an address and an index, 16 bytes; all else is no larger.
    return 2 * size if is_variable(datatype) else size


def _find_like(object_id: Any, attribute: Attribute) -> tuple[h5a.AttrID, h5t.TypeID] | None:
    """Return an object's attribute of the same name, shape and type, and its type, if there is."""
    try:
        existing_id = h5a.open(object_id, attribute.name)
        if _shape_of(existing_id.get_space()) != attribute.shape:
            return None
        type_id = existing_id.get_type()
        return (existing_id, type_id) if describe_datatype(type_id) == attribute.type else None
    except Exception:  # any of h5py's; what cannot be read is replaced
        return None


def _replace(object_id: Any, attribute: Attribute, type_id: h5t.TypeID, memory: bytes) -> None:
    new_name, old_name = (f".h5fs-{role}-{uuid.uuid4().hex}".encode() for role in ("new", "old"))
    _create(object_id, new_name, attribute, type_id, memory)
    try:
        h5a.rename(object_id, attribute.name, old_name)
        try:
            h5a.rename(object_id, new_name, attribute.name)
        except Exception:
            h5a.rename(object_id, old_name, attribute.name)
            raise
    except Exception:
        h5a.delete(object_id, new_name)
        raise
    h5a.delete(object_id, old_name)


def _create(
    object_id: Any, name: bytes, attribute: Attribute, type_id: h5t.TypeID, memory: bytes
) -> None:
    attribute_id = h5a.create(object_id, name, type_id, _space_of(attribute.shape))
    try:
        _write_elements(attribute_id, type_id, memory)
    except Exception as error:
        h5a.delete(object_id, name)
        raise UnreadableError(explain(error)) from error


def _write_elements(attribute_id: h5a.AttrID, type_id: h5t.TypeID, memory: bytes) -> None:
    if memory:
        # With the attribute's own type as memory type the library copies the bits.
        write_memory(attribute_id, type_id, memory)
