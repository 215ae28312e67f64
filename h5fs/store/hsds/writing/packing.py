"""Elements as the service takes them: the reverse of ``unpacking``. Pure.

On the wire an element of a fixed size is its bytes, without padding; a variable-length string or
sequence is its length in bytes (``<i4``) and then its bytes; an object reference is text. What an
attribute of variable length holds goes as JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from h5fs.errors import InvalidArrayError, UnsupportedTypeError
from h5fs.model.datatypes import (
    ArrayType,
    CompoundType,
    Datatype,
    ReferenceType,
    SequenceType,
    StringType,
)
from h5fs.model.objects import Attribute, Element
from h5fs.store.hsds.datatype_json import REFERENCE_BYTES, element_dtype, wire_bytes
from h5fs.store.hsds.writing.new_types import describe_type

Array = np.ndarray[Any, Any]

ReferenceTo = Callable[[Any], bytes]
"""Returns the text that the service keeps for a reference: ``datasets/`` and the object's id."""


def no_references(_target: Any) -> bytes:
    """Refuse references, which arrays of the mount do not have."""
    raise UnsupportedTypeError("references in an array")


def pack_array(
    array: Array, datatype: Datatype, reference_to: ReferenceTo = no_references
) -> bytes | memoryview:
    """Return the elements of an array of the datatype's own dtype, or of text.

    Raises ``InvalidArrayError`` for strings that are no text.
    """
    if array.dtype.kind == "U" or array.dtype.hasobject or _holds_text(array.dtype):
        return b"".join(_pack(each, datatype, reference_to) for each in array.reshape(-1))
    if array.dtype.names:
        return _without_padding(array).tobytes()
    return np.ascontiguousarray(array).reshape(-1).view("u1").data


def attribute_to_json(attribute: Attribute, reference_to: ReferenceTo) -> dict[str, Any]:
    """Return what the service takes for an attribute. Raises ``UnsupportedTypeError``."""
    body: dict[str, Any] = {"type": describe_type(attribute.type)}
    if attribute.shape is None:
        return {**body, "shape": "H5S_NULL"}
    if attribute.shape:
        body["shape"] = list(attribute.shape)
    if not prod(attribute.shape):
        return body
    if wire_bytes(attribute.type) is not None and not isinstance(attribute.type, ReferenceType):
        data = b"".join(
            _pack_plain(each, attribute.type, reference_to) for each in attribute.elements
        )
        return {**body, "value": base64.b64encode(data).decode("ascii"), "encoding": "base64"}
    values = [_to_json(each, attribute.type, reference_to) for each in attribute.elements]
    for size in reversed(attribute.shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return {**body, "value": values if attribute.shape else values[0]}


def _holds_text(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return _holds_text(dtype.base)
    if dtype.names is not None:
        return any(_holds_text(dtype[name]) for name in dtype.names)
    return dtype.kind == "U"


def _without_padding(array: Array) -> Array:
    assert array.dtype.names is not None and array.dtype.fields is not None
    fields = array.dtype.fields
    names = sorted(array.dtype.names, key=lambda name: fields[name][1])
    packed = [(name, _packed(fields[name][0])) for name in names]
    flat = np.empty(array.shape, packed)
    for name in names:
        member = array[name]
        flat[name] = _without_padding(member) if member.dtype.names else member
    return flat


def _packed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.subdtype is not None:
        return np.dtype((_packed(dtype.base), dtype.shape))
    if dtype.names is None or dtype.fields is None:
        return dtype
    fields = dtype.fields
    names = sorted(dtype.names, key=lambda name: fields[name][1])
    return np.dtype([(name, _packed(fields[name][0])) for name in names])


def _pack(value: Any, datatype: Datatype, reference_to: ReferenceTo) -> bytes:
    """Return one element that numpy holds."""
    if isinstance(datatype, CompoundType):
        if isinstance(value, np.complexfloating):
            return value.tobytes()
        return b"".join(
            _pack(value[member.name.decode()], member.type, reference_to)
            for member in _in_order(datatype)
        )
    if isinstance(datatype, ArrayType):
        flat = np.asarray(value).reshape(-1)
        return b"".join(_pack(each, datatype.base, reference_to) for each in flat)
    if isinstance(datatype, ReferenceType):
        return reference_to(value).ljust(REFERENCE_BYTES, b"\0")
    if isinstance(datatype, SequenceType):
        items = value if isinstance(value, np.ndarray) else ()
        return _with_length(b"".join(_pack(each, datatype.base, reference_to) for each in items))
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        return _with_length(_encode(value))
    if isinstance(datatype, StringType):
        return bytes(value).ljust(datatype.size_bytes or 0, b"\0")
    return np.asarray(value).tobytes()


def _pack_plain(element: Element, datatype: Datatype, reference_to: ReferenceTo) -> bytes:
    """Return one element that plain values hold."""
    if isinstance(datatype, CompoundType):
        parts = dict(zip(datatype.members, element, strict=True))
        return b"".join(
            _pack_plain(parts[member], member.type, reference_to) for member in _in_order(datatype)
        )
    if isinstance(datatype, ArrayType):
        return b"".join(_pack_plain(each, datatype.base, reference_to) for each in element)
    if isinstance(datatype, ReferenceType):
        text = reference_to(element) if element is not None else b""
        return text.ljust(REFERENCE_BYTES, b"\0")
    assert isinstance(element, bytes)
    return element


def _to_json(element: Element, datatype: Datatype, reference_to: ReferenceTo) -> Any:
    if isinstance(datatype, CompoundType):
        parts = dict(zip(datatype.members, element, strict=True))
        return [_to_json(parts[each], each.type, reference_to) for each in _in_order(datatype)]
    if isinstance(datatype, SequenceType):
        return [_to_json(each, datatype.base, reference_to) for each in element]
    if isinstance(datatype, ArrayType):
        values = [_to_json(each, datatype.base, reference_to) for each in element]
        for size in reversed(datatype.shape[1:]):
            values = [values[at : at + size] for at in range(0, len(values), size)]
        return values
    if isinstance(datatype, ReferenceType):
        return reference_to(element).decode() if element is not None else ""
    if isinstance(datatype, StringType):
        if element is None:
            raise UnsupportedTypeError("a string that is a null pointer")
        text = element if datatype.size_bytes is None else element.rstrip(b"\0")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise UnsupportedTypeError("text that is not UTF-8") from None
    dtype = element_dtype(datatype)
    if dtype.kind not in "biuf":
        raise UnsupportedTypeError(f"{dtype} beside elements of variable length")
    return np.frombuffer(element, dtype)[0].item()


def _in_order(datatype: CompoundType) -> list[Any]:
    return sorted(datatype.members, key=lambda member: member.offset)


def _encode(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    text = str(value) if value is not None else ""
    if "\0" in text:
        raise InvalidArrayError("a string with a null character, which ends a string in HDF5")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArrayError(f"no Unicode text: {text!r:.60}") from None


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data
