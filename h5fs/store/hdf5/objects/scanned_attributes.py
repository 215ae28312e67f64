"""Attributes of many objects, made of their headers past the library.

The library takes 0.1 ms for an attribute, nine tenths of it for opening the object, the attribute,
its type and its dataspace. This takes elements as they lie in the headers, and text of variable
length from the heaps. What a type is, is proved with the library, once for each. Everything that is
not plain is left to the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from h5py import h5t

from h5fs.model.datatypes import (
    ArrayType,
    BitfieldType,
    BitLayout,
    ComplexType,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    StringType,
    is_variable,
    size_in_memory,
)
from h5fs.model.objects import Attribute, Element
from h5fs.store.format import global_heap
from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.attribute_messages import RawAttribute, scan_attributes
from h5fs.store.hdf5.types.elements_in_memory import unpack_elements
from h5fs.store.hdf5.types.type_ids import describe_datatype
from h5fs.store.sources.interface import Source, read_bytes

_MESSAGE_PREFIX = b"\x03\x00"  # what H5Tencode writes before a datatype message
_TYPES_KEPT = 1024
_HEAPS_KEPT = 256
_LENGTH_BYTES = 4


class _NotPlainError(Exception):
    """The library has to be asked."""


class AttributeTypes:
    """What datatype messages mean, as far as elements of that type lie in headers as they are."""

    def __init__(self) -> None:
        self._types: dict[bytes, Datatype | None] = {}

    def of(self, message: bytes) -> Datatype | None:
        """Return the type that a message means; None for one that is left to the library."""
        if message not in self._types:
            if len(self._types) >= _TYPES_KEPT:
                self._types.clear()
            self._types[message] = _describe(message)
        return self._types[message]


def _describe(message: bytes) -> Datatype | None:
    try:
        type_id = h5t.decode(_MESSAGE_PREFIX + message)
        found = describe_datatype(type_id)
    except Exception:  # any of h5py's: the library has the last word
        return None
    return found if _is_plain(found) and size_in_memory(found) == type_id.get_size() else None


class ScannedAttributes:
    """Reads attributes of one file. ``source`` are its bytes; ``types`` outlive this."""

    def __init__(self, source: Source, layout: FileLayout, types: AttributeTypes) -> None:
        self._source = source
        self._layout = layout
        self._types = types
        self._heaps: dict[int, dict[int, bytes]] = {}

    def read(self, addresses: list[int]) -> list[tuple[Attribute, ...] | None]:
        """Return the attributes of the objects at those addresses, as the library iterates them.

        None for an object of which the library has to be asked.
        """
        raw = scan_attributes(self._source, self._layout, np.array(addresses, np.uint64))
        return [None if each is None else self._make_all(each) for each in raw]

    def _make_all(self, raw: list[RawAttribute]) -> tuple[Attribute, ...] | None:
        try:
            return tuple(map(self._make, raw))
        except _NotPlainError:
            return None

    def _make(self, raw: RawAttribute) -> Attribute:
        datatype = self._types.of(raw.datatype)
        if datatype is None:
            raise _NotPlainError
        if raw.shape is None:
            return Attribute(raw.name, datatype, None, ())
        count = prod(raw.shape)
        if isinstance(datatype, StringType) and datatype.size_bytes is None:
            return Attribute(raw.name, datatype, raw.shape, self._texts(raw.data, count))
        size = count * size_in_memory(datatype)
        if size > len(raw.data):
            raise _NotPlainError
        if count == 1 and not isinstance(datatype, CompoundType | ArrayType):
            return Attribute(raw.name, datatype, raw.shape, (raw.data[:size],))
        elements = unpack_elements(raw.data[:size], datatype, read_reference=_refuse)
        return Attribute(raw.name, datatype, raw.shape, tuple(elements))

    def _texts(self, data: bytes, count: int) -> tuple[bytes | None, ...]:
        width = _LENGTH_BYTES + self._layout.size_of_addresses + 4
        if count * width > len(data):
            raise _NotPlainError
        return tuple(self._text(data[at : at + width]) for at in range(0, count * width, width))

    def _text(self, reference: bytes) -> bytes | None:
        """Return the text that a length, the address of a heap and an index in it lead to."""
        length = int.from_bytes(reference[:_LENGTH_BYTES], "little")
        address = int.from_bytes(reference[_LENGTH_BYTES:-4], "little")
        if not address:
            return None
        text = self._heap(address).get(int.from_bytes(reference[-4:], "little"))
        if text is None or len(text) != length:
            raise _NotPlainError
        return text.partition(b"\0")[0]

    def _heap(self, address: int) -> dict[int, bytes]:
        heap = self._heaps.get(address)
        if heap is None:
            if len(self._heaps) >= _HEAPS_KEPT:
                self._heaps.clear()
            heap = self._heaps[address] = self._load_heap(address)
        return heap

    def _load_heap(self, address: int) -> dict[int, bytes]:
        lengths = self._layout.size_of_lengths
        try:
            offset = address + self._layout.base_offset
            head = read_bytes(self._source, offset, global_heap.HEAD_BYTES)
            size = global_heap.read_size(head, lengths)
            collection = b"" if size is None else read_bytes(self._source, offset, size)
        except (OSError, OverflowError):
            raise _NotPlainError from None
        objects = None
        if len(collection) == size:
            objects = global_heap.find_objects(collection, lengths)
        if objects is None:
            raise _NotPlainError
        return objects


def _is_plain(datatype: Datatype) -> bool:
    """Whether elements have their bits in the header, or are text of variable length.

    Numbers with bits that are not used are not plain: where there are many, the library takes the
    object for damaged.
    """
    if isinstance(datatype, StringType):
        return True
    return not is_variable(datatype) and all(
        not bits.offset and bits.precision == 8 * bits.size_bytes for bits in _numbers_in(datatype)
    )


def _numbers_in(datatype: Datatype) -> Iterator[BitLayout]:
    if isinstance(datatype, CompoundType):
        for member in datatype.members:
            yield from _numbers_in(member.type)
    elif isinstance(datatype, ArrayType | ComplexType | EnumType):
        yield from _numbers_in(datatype.base)
    elif isinstance(datatype, IntegerType | BitfieldType | FloatType):
        yield datatype.bits


def _refuse(_stored: bytes, _datatype: Any) -> Element:
    raise _NotPlainError
