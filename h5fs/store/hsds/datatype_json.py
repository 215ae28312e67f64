"""Datatypes of the service: its JSON to plain values, and the numpy dtypes of elements.

The service names atomic types as the HDF5 library's predefined ones (``H5T_STD_I32LE``). It keeps
no offsets of compounds (members follow one another), no bitfields, and as enumerations and arrays
only what numpy has. Format: https://hdf5-json.readthedocs.io ("Type objects"), and h5json 2.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np

from h5fs.errors import InvalidAttributesError, UnsupportedTypeError
from h5fs.model.datatype_rules import MAX_DEPTH, check_datatype
from h5fs.model.datatypes import (
    ArrayType,
    CharacterSet,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    Member,
    OpaqueType,
    ReferenceKind,
    ReferenceType,
    SequenceType,
    StringType,
    size_in_memory,
)
from h5fs.projection.json.datatype_terms import STRING_PADDINGS
from h5fs.projection.json.numpy_spelling import parse_dtype

REFERENCE_BYTES: Final = 48
"""An object reference as the service keeps it: ``datasets/`` and the object's id, in ASCII."""

_PREDEFINED: Final = re.compile(r"H5T_(?:STD_([IU])|IEEE_(F))(8|16|32|64)(LE|BE)?\Z")
_CHARACTER_SETS: Final = {
    "H5T_CSET_ASCII": CharacterSet.ASCII,
    "H5T_CSET_UTF8": CharacterSet.UTF8,
    "H5T_CSET_UTF-8": CharacterSet.UTF8,
    "H5T_CSET_UTF_8": CharacterSet.UTF8,
}
_PADDINGS: Final = {term: padding for padding, term in STRING_PADDINGS.items()}
_LARGEST: Final = 1 << 32


class _Reference:
    """Marks references in the metadata of a dtype, as ``h5py.Reference`` does."""


def parse_datatype(value: Any) -> Datatype:
    """Return the datatype that the service's JSON describes.

    Sizes and offsets are those in memory, where a variable-length string takes 8 bytes. Raises
    ``UnsupportedTypeError``.
    """
    try:
        datatype = _parse(value, 0)
        check_datatype(datatype)
    except (ValueError, InvalidAttributesError) as error:
        raise UnsupportedTypeError(f"a type of the service that is not known: {error}") from error
    return datatype


def element_dtype(datatype: Datatype) -> np.dtype[Any]:
    """Return the dtype that h5py would give to elements, with its metadata.

    Objects stand for variable-length parts and references. Raises ``UnsupportedTypeError``.
    """
    if isinstance(datatype, IntegerType | FloatType):
        letter = "f"
        if isinstance(datatype, IntegerType):
            letter = "i" if datatype.signed else "u"
        order = ">" if datatype.bits.order.value == "BE" else "<"
        return np.dtype(f"{order}{letter}{datatype.bits.size_bytes}")
    if isinstance(datatype, EnumType):
        is_boolean = dict(datatype.members) == {b"FALSE": 0, b"TRUE": 1}
        base = element_dtype(datatype.base)
        return np.dtype(bool) if is_boolean and base == np.dtype("i1") else base
    if isinstance(datatype, StringType):
        if datatype.size_bytes is not None:
            return np.dtype(f"S{datatype.size_bytes}")
        is_text = datatype.charset is CharacterSet.UTF8
        return _object({"vlen": str if is_text else bytes})
    if isinstance(datatype, OpaqueType):
        return np.dtype(f"V{datatype.size_bytes}")
    if isinstance(datatype, ReferenceType) and datatype.kind is ReferenceKind.OBJECT:
        return _object({"ref": _Reference})
    if isinstance(datatype, SequenceType):
        return _object({"vlen": element_dtype(datatype.base)})
    if isinstance(datatype, ArrayType):
        return np.dtype((element_dtype(datatype.base), datatype.shape))
    if isinstance(datatype, CompoundType):
        return _compound_dtype(datatype)
    raise UnsupportedTypeError("region references, which the service does not keep exactly")


def wire_bytes(datatype: Datatype) -> int | None:
    """Return how long an element is on the wire; None where that is not the same for all."""
    if isinstance(datatype, ReferenceType):
        return REFERENCE_BYTES if datatype.kind is ReferenceKind.OBJECT else None
    if isinstance(datatype, SequenceType):
        return None
    if isinstance(datatype, StringType):
        return datatype.size_bytes
    if isinstance(datatype, ArrayType):
        base = wire_bytes(datatype.base)
        return None if base is None else base * prod(datatype.shape)
    if isinstance(datatype, CompoundType):
        sizes = [wire_bytes(member.type) for member in datatype.members]
        return sum(size or 0 for size in sizes) if None not in sizes else None
    return size_in_memory(datatype)


def _object(metadata: dict[str, Any]) -> np.dtype[Any]:
    return np.dtype("O", metadata=metadata)


def _compound_dtype(datatype: CompoundType) -> np.dtype[Any]:
    members = [(member.name, element_dtype(member.type)) for member in datatype.members]
    (first, *others) = members
    if (
        [name for name, _ in members] == [b"r", b"i"]
        and first[1].kind == "f"
        and (others[0][1] == first[1])
    ):
        return np.dtype(f"{first[1].str[0]}c{2 * first[1].itemsize}")
    return np.dtype([(name.decode("utf-8", "surrogateescape"), dtype) for name, dtype in members])


def _parse(value: Any, depth: int) -> Datatype:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return _predefined(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r:.60} is no datatype")
    kind = value.get("class")
    if kind in ("H5T_INTEGER", "H5T_FLOAT"):
        datatype = _predefined(value.get("base"))
        if isinstance(datatype, IntegerType) != (kind == "H5T_INTEGER"):
            raise ValueError(f"{kind} of base {value.get('base')!r:.60}")
        return datatype
    if kind == "H5T_STRING":
        return _parse_string(value)
    if kind == "H5T_OPAQUE":
        return OpaqueType(_size(value.get("size")), str(value.get("tag", "")).encode())
    if kind == "H5T_REFERENCE":
        is_region = value.get("base") == "H5T_STD_REF_DSETREG"
        return (
            ReferenceType(12, ReferenceKind.REGION)
            if is_region
            else ReferenceType(8, ReferenceKind.OBJECT)
        )
    if kind == "H5T_VLEN":
        return SequenceType(_parse(value.get("base"), depth + 1))
    if kind == "H5T_ARRAY":
        return _parse_array(value, depth)
    if kind == "H5T_ENUM":
        return _parse_enum(value, depth)
    if kind == "H5T_COMPOUND":
        return _parse_compound(value, depth)
    raise ValueError(f"class {kind!r:.60}")


def _predefined(name: Any) -> Datatype:
    found = _PREDEFINED.match(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"{name!r:.60} is no predefined type")
    letter = (found[1] or found[2]).lower()
    size = int(found[3]) // 8
    order = "|" if size == 1 else ">" if found[4] == "BE" else "<"
    return parse_dtype(f"{order}{letter}{size}")


def _parse_string(value: Mapping[str, Any]) -> Datatype:
    length = value.get("length")
    charset = _CHARACTER_SETS.get(str(value.get("charSet", "H5T_CSET_ASCII")))
    padding = _PADDINGS.get(str(value.get("strPad", "H5T_STR_NULLPAD")))
    if charset is None or padding is None:
        raise ValueError("a string of an unknown character set or padding")
    return StringType(None if length == "H5T_VARIABLE" else _size(length), padding, charset)


def _parse_array(value: Mapping[str, Any], depth: int) -> Datatype:
    dims = value.get("dims")
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(dims, list | tuple):
        raise ValueError("an array without dimensions")
    return ArrayType(_parse(value.get("base"), depth + 1), tuple(_size(each) for each in dims))


def _parse_enum(value: Mapping[str, Any], depth: int) -> Datatype:
    base = _parse(value.get("base"), depth + 1)
    members = value.get("members", value.get("mapping"))
    pairs: list[tuple[Any, Any]] = []
    if isinstance(members, Mapping):
        pairs = list(members.items())
    elif isinstance(members, list):
        pairs = [(each.get("name"), each.get("value")) for each in members if
                 isinstance(each, Mapping)]  # fmt: skip
    if not isinstance(base, IntegerType) or not all(
        isinstance(name, str) and type(number) is int for name, number in pairs
    ):
        raise ValueError("an enumeration that does not fit together")
    return EnumType(base, tuple((name.encode(), number) for name, number in pairs))


def _parse_compound(value: Mapping[str, Any], depth: int) -> Datatype:
    fields = value.get("fields")
    if not isinstance(fields, list):
        raise ValueError("a compound without fields")
    members, offset = [], 0
    for field in fields:
        if not isinstance(field, Mapping) or not isinstance(field.get("name"), str):
            raise ValueError("a field without a name")
        datatype = _parse(field.get("type"), depth + 1)
        members.append(Member(field["name"].encode(), offset, datatype))
        offset += size_in_memory(datatype)
    return CompoundType(offset, tuple(members))


def _size(value: Any) -> int:
    if type(value) is not int or not 0 < value < _LARGEST:
        raise ValueError(f"a size of {value!r:.60}")
    return value
