"""Datatypes for what is written: numpy's as plain values, and plain values as the service's JSON.

A new dataset has the type that a careful user of h5py would give it. The service keeps no padding
of compounds, so that members follow one another. Pure.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import numpy as np

from h5fs.errors import InvalidAttributesError, UnsupportedTypeError
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
    StringPadding,
    StringType,
    size_in_memory,
)
from h5fs.projection.json.attribute_file import TEXT
from h5fs.projection.json.datatype_terms import STRING_PADDINGS
from h5fs.projection.json.numpy_spelling import parse_dtype, standard_float, standard_integer
from h5fs.projection.npy import npy_dtype
from h5fs.store.hsds.datatype_json import element_dtype

_CHARACTER_SETS: Final = {CharacterSet.ASCII: "H5T_CSET_ASCII", CharacterSet.UTF8: "H5T_CSET_UTF8"}


def natural_type(dtype: np.dtype[Any]) -> Datatype:
    """Return the type of a new dataset for arrays of ``dtype``. Raises ``UnsupportedTypeError``."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ArrayType(natural_type(base), shape)
    if dtype.names is not None and dtype.fields is not None:
        return _natural_compound(dtype)
    if dtype.kind == "U":
        return TEXT
    if dtype.kind == "V" and dtype.itemsize:
        return OpaqueType(dtype.itemsize, b"")
    if dtype.kind == "S":
        return StringType(dtype.itemsize or 1, StringPadding.NULL_PADDED, CharacterSet.ASCII)
    if dtype.kind in "biufc":
        with suppress(InvalidAttributesError):  # of long doubles
            return parse_dtype(dtype.str)
    raise UnsupportedTypeError(f"the service has no type for dtype {dtype}")


def kept_type(
    datatype: Datatype, dtype: np.dtype[Any], trailing: tuple[int, ...] = ()
) -> Datatype | None:
    """Return a dataset's type if arrays of ``dtype`` are written to it as they are; else None.

    ``trailing`` are the last dimensions of the array, which elements that are arrays take.
    """
    try:
        shown = element_dtype(datatype)
    except UnsupportedTypeError:
        return None
    if datatype == TEXT or (_is_text(datatype) and dtype.kind == "U"):
        return datatype if dtype.kind == "U" else None
    if shown.hasobject:
        return None
    shown = npy_dtype(shown)
    return datatype if shown.base == dtype.base and shown.shape == trailing else None


def describe_type(datatype: Datatype) -> Any:
    """Return the service's JSON of a datatype. Raises ``UnsupportedTypeError``."""
    if isinstance(datatype, IntegerType | FloatType):
        return _describe_number(datatype)
    if isinstance(datatype, StringType):
        return {
            "class": "H5T_STRING", "charSet": _CHARACTER_SETS[datatype.charset],
            "strPad": STRING_PADDINGS[datatype.padding],
            "length": datatype.size_bytes or "H5T_VARIABLE",
        }  # fmt: skip
    if isinstance(datatype, OpaqueType):
        made = {"class": "H5T_OPAQUE", "size": datatype.size_bytes}
        return {**made, "tag": _text(datatype.tag)} if datatype.tag else made
    if isinstance(datatype, EnumType):
        members = [{"name": _text(name), "value": value} for name, value in datatype.members]
        return {"class": "H5T_ENUM", "base": describe_type(datatype.base), "members": members}
    if isinstance(datatype, CompoundType):
        fields = [
            {"name": _text(member.name), "type": describe_type(member.type)}
            for member in sorted(datatype.members, key=lambda member: member.offset)
        ]
        return {"class": "H5T_COMPOUND", "fields": fields}
    if isinstance(datatype, ArrayType):
        base = describe_type(datatype.base)
        return {"class": "H5T_ARRAY", "dims": list(datatype.shape), "base": base}
    if isinstance(datatype, SequenceType):
        return {"class": "H5T_VLEN", "base": describe_type(datatype.base)}
    if isinstance(datatype, ReferenceType) and datatype.kind is ReferenceKind.OBJECT:
        return {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}
    raise UnsupportedTypeError(f"{datatype!r:.200} is none of the service's types")


def _natural_compound(dtype: np.dtype[Any]) -> CompoundType:
    assert dtype.names is not None and dtype.fields is not None
    if not dtype.names or any("\0" in name for name in dtype.names):
        raise UnsupportedTypeError("a structured dtype without fields, or with no name for one")
    members, offset = [], 0
    for name in sorted(dtype.names, key=lambda name: dtype.fields[name][1]):  # type: ignore[index]
        inner = natural_type(dtype.fields[name][0])
        members.append(Member(name.encode("utf-8", "surrogateescape"), offset, inner))
        offset += size_in_memory(inner)
    return CompoundType(offset, tuple(members))


def _describe_number(datatype: IntegerType | FloatType) -> Any:
    bits = datatype.bits
    if isinstance(datatype, FloatType):
        letter = "IEEE_F"
        is_standard = bits.size_bytes in (2, 4, 8) and (
            datatype == standard_float(bits.size_bytes, bits.order)
        )
    else:
        letter = "STD_I" if datatype.signed else "STD_U"
        is_standard = bits.size_bytes in (1, 2, 4, 8) and datatype == standard_integer(
            bits.size_bytes, bits.order, signed=datatype.signed
        )
    if not is_standard:
        raise UnsupportedTypeError(f"{datatype!r:.200} is none of the service's types")
    kind = "H5T_FLOAT" if isinstance(datatype, FloatType) else "H5T_INTEGER"
    return {"class": kind, "base": f"H5T_{letter}{8 * bits.size_bytes}{bits.order.value}"}


def _is_text(datatype: Datatype) -> bool:
    return (
        isinstance(datatype, StringType)
        and datatype.size_bytes is None
        and datatype.charset is CharacterSet.UTF8
    )


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise UnsupportedTypeError("a name within a type that is not UTF-8") from None
