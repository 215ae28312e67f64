"""The HDF5 types that numpy can spell, and their spelling. Pure: no I/O, no h5py, no numpy.

A dtype string means the HDF5 type that h5py makes for that dtype; a descr list means a compound of
such members, one straight after the other, with no padding.
"""

from __future__ import annotations

import math
import re
from typing import Final

from h5fs.errors import InvalidAttributesError
from h5fs.model.datatypes import (
    ArrayType,
    BitLayout,
    ByteOrder,
    CharacterSet,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    Member,
    Normalisation,
    StringPadding,
    StringType,
    size_in_memory,
)
from h5fs.projection.json.strict_json import JsonValue, name_to_text, show_value, text_to_name

BOOLEAN: Final = EnumType(
    IntegerType(BitLayout(1, ByteOrder.LITTLE, 8), signed=True), ((b"FALSE", 0), (b"TRUE", 1))
)
"""What h5py makes of numpy's bool."""

IEEE_FIELDS: Final = {2: (5, 10), 4: (8, 23), 8: (11, 52)}
"""Bits of exponent and mantissa, by size in bytes (IEEE 754 binary16, binary32, binary64)."""

_DTYPE = re.compile(r"([<>|=]?)([biufcS?])([1-9][0-9]{0,8})?")
_MAX_DEPTH = 64


def is_boolean(datatype: EnumType) -> bool:
    """Tell whether h5py reads an enumeration as booleans, whatever its base type."""
    return len(datatype.members) == 2 and set(datatype.members) == set(BOOLEAN.members)


def standard_integer(size_bytes: int, order: ByteOrder, *, signed: bool) -> IntegerType:
    """Return the integer type whose bits are all significant, as numpy's are."""
    return IntegerType(BitLayout(size_bytes, order, 8 * size_bytes), signed)


def standard_float(size_bytes: int, order: ByteOrder) -> FloatType:
    """Return the IEEE 754 type of 2, 4 or 8 bytes."""
    exponent, mantissa = IEEE_FIELDS[size_bytes]
    return FloatType(
        BitLayout(size_bytes, order, 8 * size_bytes),
        sign_position=8 * size_bytes - 1,
        exponent_position=mantissa,
        exponent_size=exponent,
        exponent_bias=(1 << exponent - 1) - 1,
        mantissa_position=0,
        mantissa_size=mantissa,
        normalisation=Normalisation.IMPLIED,
    )


def complex_compound(part: FloatType) -> CompoundType:
    """Return the compound that h5py makes of numpy's complex numbers."""
    size = part.bits.size_bytes
    return CompoundType(2 * size, (Member(b"r", 0, part), Member(b"i", size, part)))


def numpy_spelling(datatype: Datatype) -> JsonValue | None:
    """Return the dtype string or descr list of a datatype, None when numpy cannot spell it."""
    if datatype == BOOLEAN:
        return "|b1"
    if isinstance(datatype, IntegerType | FloatType):
        return _numpy_name(datatype)
    if isinstance(datatype, CompoundType):
        parts = [member.type for member in datatype.members]
        if parts and isinstance(parts[0], FloatType) and datatype == complex_compound(parts[0]):
            name = _numpy_name(parts[0])
            # numpy has no complex number of two half floats.
            if name is not None and parts[0].bits.size_bytes > 2:
                return f"{name[0]}c{datatype.size_bytes}"
        return _numpy_descr(datatype)
    return None


def _numpy_name(datatype: IntegerType | FloatType) -> str | None:
    size, order = datatype.bits.size_bytes, datatype.bits.order
    character = "<" if order is ByteOrder.LITTLE else ">"
    if isinstance(datatype, FloatType):
        if size in IEEE_FIELDS and datatype == standard_float(size, order):
            return f"{character}f{size}"
        return None
    if size not in (1, 2, 4, 8) or datatype != standard_integer(
        size, order, signed=datatype.signed
    ):
        return None
    if size == 1:
        # numpy gives one byte no byte order; H5Tequal tells the orders apart.
        character = "|"
        if order is not ByteOrder.LITTLE:
            return None
    return f"{character}{'i' if datatype.signed else 'u'}{size}"


def _numpy_descr(datatype: CompoundType) -> JsonValue | None:
    names = [member.name for member in datatype.members]
    if not names or b"" in names or len(set(names)) < len(names):
        return None
    descr: list[JsonValue] = []
    offset = 0
    for member in datatype.members:
        inner: Datatype = member.type
        shape: list[int] | None = None
        if isinstance(inner, ArrayType):
            shape, inner = list(inner.shape), inner.base
        spelling = numpy_spelling(inner)
        if spelling is None or member.offset != offset:
            return None
        field = [name_to_text(member.name), spelling]
        descr.append(field if shape is None else [*field, shape])
        offset += size_in_memory(member.type)
    return descr if offset == datatype.size_bytes else None


def parse_dtype(text: str) -> Datatype:
    """Return the type that h5py makes for a numpy dtype string; no order means little-endian.

    Raises ``InvalidAttributesError`` for all but integer, float, complex, bool and ``S``.
    """
    match = _DTYPE.fullmatch(text)
    if match is None:
        raise InvalidAttributesError(f"unknown dtype {show_value(text)}")
    kind, size = match[2], int(match[3] or 1)
    order = ByteOrder.BIG if match[1] == ">" else ByteOrder.LITTLE
    if text.endswith("?") or (kind == "b" and size == 1):
        return BOOLEAN
    if kind == "S" and match[3]:
        return StringType(size, StringPadding.NULL_PADDED, CharacterSet.ASCII)
    if kind in "iu" and size in (2, 4, 8):
        return standard_integer(size, order, signed=kind == "i")
    if kind in "iu" and match[3] == "1":
        return standard_integer(1, ByteOrder.LITTLE, signed=kind == "i")
    if kind == "f" and size in IEEE_FIELDS:
        return standard_float(size, order)
    if kind == "c" and size in (8, 16):
        return complex_compound(standard_float(size // 2, order))
    raise InvalidAttributesError(f"unknown dtype {show_value(text)}")


def parse_descr(descr: list[JsonValue], depth: int = 0) -> CompoundType:
    """Return the compound that a numpy descr list means, ``depth`` lists within another one.

    Raises ``InvalidAttributesError``.
    """
    members: list[Member] = []
    offset = 0
    for field in descr:
        if depth > _MAX_DEPTH or not isinstance(field, list) or len(field) not in (2, 3):
            raise InvalidAttributesError(f"a field is not [name, dtype]: {show_value(field)}")
        member_type = _parse_field_type(field[1], depth)
        if len(field) == 3:
            member_type = ArrayType(member_type, _parse_shape(field[2]))
        if not isinstance(field[0], str):
            raise InvalidAttributesError(f"a field's name is not a string: {show_value(field[0])}")
        members.append(Member(text_to_name(field[0]), offset, member_type))
        offset += size_in_memory(member_type)
    return CompoundType(offset, tuple(members))


def _parse_field_type(spelling: JsonValue, depth: int) -> Datatype:
    if isinstance(spelling, str):
        return parse_dtype(spelling)
    if isinstance(spelling, list):
        return parse_descr(spelling, depth + 1)
    raise InvalidAttributesError(f"not a dtype: {show_value(spelling)}")


def _parse_shape(shape: JsonValue) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise InvalidAttributesError(f"not the shape of a field: {show_value(shape)}")
    if math.prod(shape) >= 1 << 32:
        raise InvalidAttributesError(f"field of 2**32 elements or more: {show_value(shape)}")
    return tuple(shape)
