"""Datatype messages to plain values. Pure functions over bytes.

The format is described in `datatype_message.numbers`.
"""

from __future__ import annotations

from h5fs.errors import UnsupportedTypeError
from h5fs.model.datatype_rules import MAX_DEPTH, check_datatype
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
    Member,
    OpaqueType,
    ReferenceType,
    SequenceType,
    StringType,
    TimeType,
)
from h5fs.store.format.datatype_message.numbers import (
    ARRAY,
    BIG_ENDIAN_FLAG,
    BITFIELD,
    CHARACTER_SETS,
    COMPLEX,
    COMPLEX_FLAGS,
    COMPOUND,
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
    offset_size,
    vlen_string_base,
)


def parse_message(message: bytes) -> Datatype:
    """Return the datatype that a datatype message describes.

    Raises ``UnsupportedTypeError`` for a datatype that ``h5fs.model.datatypes`` cannot describe.
    """
    try:
        datatype = _Parser(message).parse()
        check_datatype(datatype)
    except (IndexError, ValueError) as error:
        raise UnsupportedTypeError(f"datatype message of an unknown form: {error}") from error
    return datatype


class _Parser:
    """Reads one message from its front to its end."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._position = 0

    def parse(self, depth: int = 0) -> Datatype:
        """Return the datatype whose message starts here."""
        if depth > MAX_DEPTH:
            raise UnsupportedTypeError(f"datatype nested deeper than {MAX_DEPTH}")
        head = self._unsigned(4)
        type_class, version, flags = head & 0xF, head >> 4 & 0xF, head >> 8
        size = self._unsigned(4)
        if type_class == COMPOUND:
            return self._compound(version, flags, size, depth)
        if type_class == ENUM:
            return self._enum(version, flags, depth)
        if type_class == ARRAY:
            return self._array(version, depth)
        if type_class == VLEN:
            return self._variable_length(flags, depth)
        if type_class == COMPLEX:
            if flags != COMPLEX_FLAGS:
                raise ValueError(f"complex with flags {flags:#x}")
            return ComplexType(size, self.parse(depth + 1))
        return self._atomic(type_class, flags, size)

    def _atomic(self, type_class: int, flags: int, size: int) -> Datatype:
        if type_class == INTEGER:
            return IntegerType(self._bits(flags, size), signed=bool(flags & SIGNED_FLAG))
        if type_class == BITFIELD:
            return BitfieldType(self._bits(flags, size))
        if type_class == FLOAT:
            return self._float(flags, size)
        if type_class == TIME:
            return TimeType(size, _order(flags & BIG_ENDIAN_FLAG), precision=self._unsigned(2))
        if type_class == STRING:
            return StringType(size, STRING_PADDINGS[flags & 0xF], CHARACTER_SETS[flags >> 4 & 0xF])
        if type_class == OPAQUE:
            return OpaqueType(size, self._take(flags & 0xFF).rstrip(b"\0"))
        if type_class == REFERENCE:
            return ReferenceType(size, REFERENCE_KINDS[flags & 0xF])
        raise ValueError(f"class {type_class}")

    def _bits(self, flags: int, size: int) -> BitLayout:
        offset, precision = self._unsigned(2), self._unsigned(2)
        return BitLayout(
            size,
            _order(flags),
            precision,
            offset,
            lsb_padding=_padding(flags & LSB_PADDING_FLAG),
            msb_padding=_padding(flags & MSB_PADDING_FLAG),
        )

    def _float(self, flags: int, size: int) -> FloatType:
        bits = self._bits(flags, size)
        exponent_position, exponent_size, mantissa_position, mantissa_size = self._take(4)
        return FloatType(
            bits,
            sign_position=flags >> 8 & 0xFF,
            exponent_position=exponent_position,
            exponent_size=exponent_size,
            exponent_bias=self._unsigned(4),
            mantissa_position=mantissa_position,
            mantissa_size=mantissa_size,
            normalisation=NORMALISATIONS[flags >> 4 & 0x3],
            inner_padding=_padding(flags & INNER_PADDING_FLAG),
        )

    def _compound(self, version: int, flags: int, size: int, depth: int) -> CompoundType:
        members = []
        for _ in range(flags & 0xFFFF):
            name = self._name(version)
            offset = self._unsigned(4 if version < 3 else offset_size(size))
            if version == 1 and any(self._take(28)[:1]):
                raise ValueError("member with dimensions of its own")
            members.append(Member(name, offset, self.parse(depth + 1)))
        return CompoundType(size, tuple(members))

    def _enum(self, version: int, flags: int, depth: int) -> EnumType:
        base = self.parse(depth + 1)
        if not isinstance(base, IntegerType):
            raise ValueError("enumeration of something other than integers")
        names = [self._name(version) for _ in range(flags & 0xFFFF)]
        values = []
        for _ in names:
            stored = self._take(base.bits.size_bytes)
            values.append(base.value(stored))
            if base.stored(values[-1]) != stored:
                raise ValueError("enumeration value with bits outside of its precision")
        return EnumType(base, tuple(zip(names, values, strict=True)))

    def _array(self, version: int, depth: int) -> ArrayType:
        rank = self._unsigned(1)
        if version < 3:
            self._take(3)
        shape = tuple(self._unsigned(4) for _ in range(rank))
        if version < 3:
            self._take(4 * rank)  # a permutation that was never implemented
        return ArrayType(self.parse(depth + 1), shape)

    def _variable_length(self, flags: int, depth: int) -> Datatype:
        base = self.parse(depth + 1)
        if flags & 0xF != VLEN_STRING:
            return SequenceType(base)
        if not isinstance(base, IntegerType) or base != vlen_string_base(base.bits.order):
            raise ValueError("variable-length string of something other than unsigned bytes")
        padding, charset = STRING_PADDINGS[flags >> 4 & 0xF], CHARACTER_SETS[flags >> 8 & 0xF]
        return StringType(None, padding, charset, base.bits.order)

    def _name(self, version: int) -> bytes:
        stop = self._message.index(b"\0", self._position)
        name = self._message[self._position : stop]
        self._take(len(name) + 1 if version >= 3 else len(name) // 8 * 8 + 8)
        return name

    def _unsigned(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _take(self, size: int) -> bytes:
        taken = self._message[self._position : self._position + size]
        if len(taken) < size:
            raise ValueError("cut short")
        self._position += size
        return taken


def _order(flags: int) -> ByteOrder:
    if flags & VAX_FLAG and flags & BIG_ENDIAN_FLAG:
        return ByteOrder.VAX
    return ByteOrder.BIG if flags & BIG_ENDIAN_FLAG else ByteOrder.LITTLE


def _padding(flag: int) -> BitPadding:
    return BitPadding.ONE if flag else BitPadding.ZERO
