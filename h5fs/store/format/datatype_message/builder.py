"""Plain values to datatype messages. Pure functions; format in `datatype_message.numbers`."""

from __future__ import annotations

import struct

from h5fs.errors import UnsupportedTypeError
from h5fs.model.datatypes import (
    BitfieldType,
    BitLayout,
    BitPadding,
    ByteOrder,
    ComplexType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    OpaqueType,
    ReferenceKind,
    ReferenceType,
    StringType,
    TimeType,
)
from h5fs.store.format.datatype_message.numbers import (
    BIG_ENDIAN_FLAG,
    BITFIELD,
    CHARACTER_SETS,
    COMPLEX,
    COMPLEX_FLAGS,
    ENUM,
    FLOAT,
    INNER_PADDING_FLAG,
    INTEGER,
    LSB_PADDING_FLAG,
    MSB_PADDING_FLAG,
    NORMALISATIONS,
    OPAQUE,
    REFERENCE,
    REFERENCE_KINDS,
    SIGNED_FLAG,
    STRING,
    STRING_PADDINGS,
    TIME,
    VAX_FLAG,
    VLEN,
    VLEN_STRING,
    vlen_string_base,
)


def build_message(datatype: Datatype) -> bytes:
    """Return the datatype message of the oldest version that can describe ``datatype``.

    Old libraries can read the oldest version; HDF5 itself chooses it, too. Compounds, arrays and
    sequences are made through the library's interface instead. Raises ``UnsupportedTypeError``
    when no message can describe the datatype.
    """
    try:
        return _build(datatype, version=_oldest_version(datatype))
    except (OverflowError, ValueError, struct.error) as error:
        raise UnsupportedTypeError(f"no HDF5 datatype can be this: {error}") from error


def _oldest_version(datatype: Datatype) -> int:
    if isinstance(datatype, ComplexType):
        return 5
    if isinstance(datatype, ReferenceType) and datatype.kind is ReferenceKind.STANDARD:
        return 4
    if isinstance(datatype, FloatType) and datatype.bits.order is ByteOrder.VAX:
        return 3
    return 1


def _build(datatype: Datatype, *, version: int) -> bytes:
    if isinstance(datatype, EnumType):
        return _build_enum(datatype, version)
    if isinstance(datatype, ComplexType):
        base = _build(datatype.base, version=version)
        return _head(COMPLEX, version, COMPLEX_FLAGS, datatype.size_bytes) + base
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        flags = VLEN_STRING | STRING_PADDINGS.index(datatype.padding) << 4
        flags |= CHARACTER_SETS.index(datatype.charset) << 8
        return _head(VLEN, version, flags, 8) + _build(
            vlen_string_base(datatype.order), version=version
        )
    return _build_atomic(datatype, version)


def _build_atomic(datatype: Datatype, version: int) -> bytes:
    if isinstance(datatype, IntegerType):
        flags = _bit_flags(datatype.bits) | (SIGNED_FLAG if datatype.signed else 0)
        return _head(INTEGER, version, flags, datatype.bits.size_bytes) + _bit_range(datatype.bits)
    if isinstance(datatype, BitfieldType):
        flags = _bit_flags(datatype.bits)
        return _head(BITFIELD, version, flags, datatype.bits.size_bytes) + _bit_range(datatype.bits)
    if isinstance(datatype, FloatType):
        return _build_float(datatype, version)
    if isinstance(datatype, TimeType):
        flags = BIG_ENDIAN_FLAG if datatype.order is ByteOrder.BIG else 0
        head = _head(TIME, version, flags, datatype.size_bytes)
        return head + struct.pack("<H", datatype.precision)
    if isinstance(datatype, StringType) and datatype.size_bytes is not None:
        flags = STRING_PADDINGS.index(datatype.padding)
        flags |= CHARACTER_SETS.index(datatype.charset) << 4
        return _head(STRING, version, flags, datatype.size_bytes)
    if isinstance(datatype, OpaqueType):
        tag = datatype.tag + bytes(-len(datatype.tag) % 8)
        if len(tag) > 0xFF:
            raise ValueError("opaque tag longer than 248 bytes")
        return _head(OPAQUE, version, len(tag), datatype.size_bytes) + tag
    if isinstance(datatype, ReferenceType):
        flags = REFERENCE_KINDS.index(datatype.kind)
        if datatype.kind is ReferenceKind.STANDARD:
            flags |= 1 << 4  # version of the reference's own encoding (H5R_ENCODE_VERSION)
        return _head(REFERENCE, version, flags, datatype.size_bytes)
    raise ValueError(f"{datatype!r} is no datatype")


def _build_float(datatype: FloatType, version: int) -> bytes:
    flags = _bit_flags(datatype.bits) | _set(datatype.inner_padding, INNER_PADDING_FLAG)
    flags |= NORMALISATIONS.index(datatype.normalisation) << 4
    if not 0 <= datatype.sign_position <= 0xFF:
        raise ValueError("sign beyond bit 255")
    head = _head(FLOAT, version, flags | datatype.sign_position << 8, datatype.bits.size_bytes)
    return (
        head
        + _bit_range(datatype.bits)
        + struct.pack(
            "<BBBBI",
            datatype.exponent_position,
            datatype.exponent_size,
            datatype.mantissa_position,
            datatype.mantissa_size,
            datatype.exponent_bias,
        )
    )


def _build_enum(datatype: EnumType, version: int) -> bytes:
    base = datatype.base
    if len(datatype.members) > 0xFFFF:
        raise ValueError("more than 65535 members")
    parts = [_head(ENUM, version, len(datatype.members), base.bits.size_bytes)]
    parts.append(_build(base, version=version))
    parts += [_build_name(name) for name, _ in datatype.members]
    parts += [base.stored(value) for _, value in datatype.members]
    return b"".join(parts)


def _head(type_class: int, version: int, flags: int, size_bytes: int) -> bytes:
    return struct.pack("<II", type_class | version << 4 | flags << 8, size_bytes)


def _build_name(name: bytes) -> bytes:
    if b"\0" in name:
        raise ValueError("a member's name holds a null byte")
    return name + bytes(8 - len(name) % 8)


def _bit_range(bits: BitLayout) -> bytes:
    return struct.pack("<HH", bits.offset, bits.precision)


def _bit_flags(bits: BitLayout) -> int:
    flags = _set(bits.lsb_padding, LSB_PADDING_FLAG) | _set(bits.msb_padding, MSB_PADDING_FLAG)
    if bits.order is ByteOrder.LITTLE:
        return flags
    if bits.order is ByteOrder.BIG:
        return flags | BIG_ENDIAN_FLAG
    if bits.order is ByteOrder.VAX:
        return flags | BIG_ENDIAN_FLAG | VAX_FLAG
    raise ValueError(f"byte order {bits.order.value} in an atomic type")


def _set(padding: BitPadding, flag: int) -> int:
    if padding is BitPadding.BACKGROUND:
        raise ValueError("background padding has no place in a file")
    return flag if padding is BitPadding.ONE else 0
