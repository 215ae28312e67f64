"""Which HDF5 datatypes are valid, and how large attributes may be. Pure.

The library checks the arguments of its setters, but hardly checks datatype messages, and then
computes with them. So types from JSON are checked before they reach the library, and types from a
damaged file before h5fs computes with them. Rules from the HDF5 reference manual (H5Tset_precision,
H5Tset_fields, H5Tinsert, H5Tarray_create).
"""

from __future__ import annotations

from typing import Final

from h5fs.model.datatypes import (
    ArrayType,
    BitfieldType,
    BitLayout,
    BitPadding,
    ByteOrder,
    ComplexType,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    OpaqueType,
    SequenceType,
    StringType,
    TimeType,
    size_in_memory,
)

MAX_DEPTH: Final = 64
"""How deep types may nest; each level is a level of recursion, here and in the library."""
MAX_RANK: Final = 32
"""H5S_MAX_RANK: most dimensions of a dataspace or an array type."""

MAX_ATTRIBUTE_BYTES: Final = 1 << 28
"""Largest attribute that is read or written: memory holds its elements several times over."""

MAX_ATTRIBUTES: Final = 1 << 16
"""Most attributes of an object that are read: looking one up by its name takes 50 us or more."""

MAX_ELEMENTS: Final = 1 << 21
"""Most elements of an object's attributes together, members of compounds and items of arrays
counted one by one (``count_values``): each is a Python value of 100 bytes."""

_MAX_SIZE_BYTES: Final = (1 << 32) - 1
_MAX_NUMBER_BYTES: Final = 8191  # the precision, in bits, is a 16-bit number
_MAX_TAG_BYTES: Final = 248


def check_datatype(datatype: Datatype, depth: int = 0) -> None:
    """Raise ``ValueError`` unless HDF5 can have such a type, ``depth`` levels within another."""
    _require(depth <= MAX_DEPTH, f"nested deeper than {MAX_DEPTH}")
    size = size_in_memory(datatype)
    _require(1 <= size <= _MAX_SIZE_BYTES, f"{size} bytes")
    if isinstance(datatype, IntegerType | BitfieldType):
        _check_bits(datatype.bits)
    elif isinstance(datatype, FloatType):
        _check_float(datatype)
    elif isinstance(datatype, EnumType):
        _check_enum(datatype)
    elif isinstance(datatype, CompoundType):
        _check_compound(datatype, depth)
    elif isinstance(datatype, ArrayType):
        _require(1 <= len(datatype.shape) <= MAX_RANK, f"array of {len(datatype.shape)} dimensions")
        _require(all(0 < n <= _MAX_SIZE_BYTES for n in datatype.shape), "array dimension of 0")
        check_datatype(datatype.base, depth + 1)
    elif isinstance(datatype, SequenceType):
        check_datatype(datatype.base, depth + 1)
    elif isinstance(datatype, ComplexType):
        _require(isinstance(datatype.base, FloatType), "complex number of something not a float")
        _require(datatype.size_bytes == 2 * size_in_memory(datatype.base), "size of a complex")
        check_datatype(datatype.base, depth + 1)
    elif isinstance(datatype, OpaqueType):
        _require(len(datatype.tag) <= _MAX_TAG_BYTES, "opaque tag longer than 248 bytes")
    elif isinstance(datatype, StringType):
        orders = (ByteOrder.LITTLE,) if datatype.size_bytes else (ByteOrder.LITTLE, ByteOrder.BIG)
        _require(datatype.order in orders, "byte order of a string")
    elif isinstance(datatype, TimeType):
        _require(0 < datatype.precision <= 8 * datatype.size_bytes, "precision of a time")
        _require(datatype.order in (ByteOrder.LITTLE, ByteOrder.BIG), "byte order of a time")


def _require(claim: bool, problem: str) -> None:
    if not claim:
        raise ValueError(f"impossible datatype: {problem}")


def _check_bits(bits: BitLayout) -> None:
    _require(bits.size_bytes <= _MAX_NUMBER_BYTES, f"number of {bits.size_bytes} bytes")
    _require(bits.precision > 0, "precision of 0 bits")
    _require(bits.offset + bits.precision <= 8 * bits.size_bytes, "precision beyond the size")
    _require(bits.order in (ByteOrder.LITTLE, ByteOrder.BIG, ByteOrder.VAX), "byte order")
    paddings = (bits.lsb_padding, bits.msb_padding)
    _require(BitPadding.BACKGROUND not in paddings, "background padding")
    if bits.order is ByteOrder.VAX:
        _require(bits.size_bytes % 2 == 0, "VAX order of an odd number of bytes")


def _check_float(datatype: FloatType) -> None:
    _check_bits(datatype.bits)
    top = datatype.bits.offset + datatype.bits.precision
    exponent = range(
        datatype.exponent_position, datatype.exponent_position + datatype.exponent_size
    )
    mantissa = range(
        datatype.mantissa_position, datatype.mantissa_position + datatype.mantissa_size
    )
    sign = range(datatype.sign_position, datatype.sign_position + 1)
    parts = sorted((sign, exponent, mantissa), key=lambda part: (part.start, part.stop))
    _require(all(parts[i].stop <= parts[i + 1].start for i in (0, 1)), "parts that overlap")
    _require(all(part.stop <= top and part.start <= 0xFF for part in parts), "parts beyond the top")
    _require(0 < len(exponent) <= 0xFF and 0 < len(mantissa) <= 0xFF, "empty parts")


def _check_enum(datatype: EnumType) -> None:
    _check_bits(datatype.base.bits)
    _require(datatype.base.bits.order is not ByteOrder.VAX, "byte order")
    _require(0 < len(datatype.members) <= 0xFFFF, f"{len(datatype.members)} members")
    for name, value in datatype.members:
        _require(bool(name), "member without a name")
        _require(datatype.base.can_hold(value), f"enumeration value {value}")


def _check_compound(datatype: CompoundType, depth: int) -> None:
    _require(0 < len(datatype.members) <= 0xFFFF, f"{len(datatype.members)} members")
    stop = 0
    for member in sorted(datatype.members, key=lambda member: member.offset):
        _require(bool(member.name), "member without a name")
        _require(member.offset >= stop, f"members that overlap at byte {member.offset}")
        check_datatype(member.type, depth + 1)
        stop = member.offset + size_in_memory(member.type)
    _require(stop <= datatype.size_bytes, "members beyond the size")
