"""Elements as the service sends them, to plain values and to numpy arrays.

On the wire an element of a fixed size is its bytes, without padding; a variable-length string or
sequence is its length in bytes (``<i4``) and then its bytes; an object reference is text. What
attributes of variable length hold comes as JSON only. Lengths are never believed: whatever does
not fit is an ``UnreadableError``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from h5fs.errors import UnreadableError
from h5fs.model.datatypes import (
    ArrayType,
    CompoundType,
    Datatype,
    ReferenceType,
    SequenceType,
    StringType,
)
from h5fs.model.objects import Element
from h5fs.store.hsds.datatype_json import REFERENCE_BYTES, element_dtype, wire_bytes

Array = np.ndarray[Any, Any]

TargetOf = Callable[[bytes], Element]
"""Returns what a reference leads to, by the text that the service keeps. Not for null references.
"""


def unpack(data: bytes, datatype: Datatype, count: int, target_of: TargetOf) -> list[Element]:
    """Return ``count`` elements that lie one after another in ``data``, and nothing else."""
    size = wire_bytes(datatype)
    if size is not None and len(data) != count * size:
        raise UnreadableError(f"{len(data)} of {count * size} bytes came back")
    reader = _Reader(data, target_of)
    elements = [reader.take(datatype) for _ in range(count)]
    if reader.position != len(data):
        raise UnreadableError(f"{len(data) - reader.position} bytes too many came back")
    return elements


def to_array(elements: Sequence[Element], datatype: Datatype) -> Array:
    """Return elements as h5py reads them: a flat array, with objects for variable-length parts."""
    dtype, count = element_dtype(datatype), len(elements)
    if not dtype.hasobject:
        array = np.frombuffer(b"".join(map(_flatten, elements)), dtype.base)
        return array.reshape(count, *dtype.shape)
    if isinstance(datatype, ArrayType):
        items = [item for element in elements for item in element]
        inner = to_array(items, datatype.base)
        return inner.reshape(count, *datatype.shape, *inner.shape[1:])
    array = np.zeros(count, dtype)
    if isinstance(datatype, CompoundType):
        for index, member in enumerate(datatype.members):
            column = to_array([element[index] for element in elements], member.type)
            array[member.name.decode("utf-8", "surrogateescape")] = column
        return array
    if isinstance(datatype, SequenceType):
        elements = [to_array(element, datatype.base) for element in elements]
    for index, element in enumerate(elements):
        array[index] = element
    return array


def elements_of_attribute(
    value: Any, is_encoded: bool, datatype: Datatype, shape: tuple[int, ...], target_of: TargetOf
) -> tuple[Element, ...]:
    """Return an attribute's elements from what stands in the service's JSON."""
    count = prod(shape)
    if value is None and wire_bytes(datatype) is not None:  # never written
        return tuple(unpack(bytes(count * (wire_bytes(datatype) or 0)), datatype, count, target_of))
    if is_encoded:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise UnreadableError("an attribute whose base64 is damaged") from None
        return tuple(unpack(data, datatype, count, target_of))
    items = [value]
    for _ in shape:
        items = [item for each in items for item in _items_of(each)]
    if not shape and isinstance(datatype, SequenceType) and not isinstance(value, list):
        items = [[]] if value is None else items
    if len(items) != count:
        raise UnreadableError(f"{len(items)} of {count} elements came back")
    return tuple(_from_json(item, datatype, target_of) for item in items)


class _Reader:
    """Takes elements from the front of what came back."""

    def __init__(self, data: bytes, target_of: TargetOf) -> None:
        self._data = data
        self._target_of = target_of
        self.position = 0

    def take(self, datatype: Datatype) -> Element:
        if isinstance(datatype, CompoundType):
            return tuple(self.take(member.type) for member in datatype.members)
        if isinstance(datatype, ArrayType):
            return tuple(self.take(datatype.base) for _ in range(prod(datatype.shape)))
        if isinstance(datatype, ReferenceType):
            text = self._bytes(REFERENCE_BYTES).rstrip(b"\0")
            return self._target_of(text) if text else None
        if isinstance(datatype, SequenceType):
            stop = self._length()
            stop += self.position
            items = []
            while self.position < stop:
                items.append(self.take(datatype.base))
            if self.position > stop:
                raise UnreadableError("a sequence that ends within an element")
            return tuple(items)
        size = wire_bytes(datatype)
        return self._bytes(self._length() if size is None else size)

    def _length(self) -> int:
        length = int.from_bytes(self._bytes(4), "little", signed=True)
        if length < 0:
            raise UnreadableError(f"an element of {length} bytes")
        return length

    def _bytes(self, size: int) -> bytes:
        start = self.position
        taken = self._data[start : start + size]
        if len(taken) != size:
            raise UnreadableError("fewer bytes came back than the elements have")
        self.position += size
        return taken


def _flatten(element: Element) -> bytes:
    return element if isinstance(element, bytes) else b"".join(map(_flatten, element))


def _items_of(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnreadableError("an attribute whose values do not fit its shape")
    return value


def _from_json(value: Any, datatype: Datatype, target_of: TargetOf) -> Element:
    if isinstance(datatype, CompoundType):
        items = _items_of(value)
        if len(items) != len(datatype.members):
            raise UnreadableError("an element with another number of members than its type")
        return tuple(
            _from_json(item, member.type, target_of)
            for item, member in zip(items, datatype.members, strict=True)
        )
    if isinstance(datatype, SequenceType):
        return tuple(_from_json(item, datatype.base, target_of) for item in _items_of(value))
    if isinstance(datatype, ArrayType):
        items = [value]
        for _ in datatype.shape:
            items = [item for each in items for item in _items_of(each)]
        if len(items) != prod(datatype.shape):
            raise UnreadableError("an array of another shape than its type")
        return tuple(_from_json(item, datatype.base, target_of) for item in items)
    if isinstance(datatype, ReferenceType):
        return target_of(str(value).encode()) if value else None
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise UnreadableError("a string that is none")
        return value.encode("utf-8", "surrogateescape")
    return _fixed_from_json(value, datatype)


def _fixed_from_json(value: Any, datatype: Datatype) -> bytes:
    dtype = element_dtype(datatype)
    try:
        item = value.encode() if isinstance(value, str) else value
        array = np.array([item], dtype)
        if array.shape != (1, *dtype.shape):
            raise ValueError("several values")
        return array.tobytes()
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(f"a value that its type does not hold: {error}") from None
