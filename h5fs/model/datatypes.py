"""HDF5 datatypes as plain values.

These frozen classes say everything that ``H5Tequal`` compares, in the vocabulary of the HDF5
datatype message (HDF5 File Format Specification, section IV.A.2.d). They cross rooms and
processes, so they hold ints, bytes, strings and each other, never an h5py object. Only `store`
turns them into HDF5 datatypes and back; only `projection` turns them into numpy dtypes and JSON.
"""

from __future__ import annotations

import math
from enum import Enum

from msgspec import Struct


class ByteOrder(Enum):
    """Order of an atomic type's bytes; NONE for types to which it does not apply."""

    LITTLE = "LE"
    BIG = "BE"
    VAX = "VAX"
    MIXED = "MIXED"
    NONE = "NONE"


class BitPadding(Enum):
    """What fills the bits around the significant ones."""

    ZERO = "ZERO"
    ONE = "ONE"
    BACKGROUND = "BACKGROUND"


class StringPadding(Enum):
    """What fills a fixed-length string after its text."""

    NULL_TERMINATED = "NULLTERM"
    NULL_PADDED = "NULLPAD"
    SPACE_PADDED = "SPACEPAD"


class CharacterSet(Enum):
    """The declared encoding of a string; what the bytes really are is another matter."""

    ASCII = "ASCII"
    UTF8 = "UTF-8"


class Normalisation(Enum):
    """How a float's mantissa states its most significant bit."""

    IMPLIED = "IMPLIED"
    SET = "MSBSET"
    NONE = "NONE"


class ReferenceKind(Enum):
    """What a reference points to; STANDARD is the opaque H5T_STD_REF of HDF5 1.12 and later."""

    OBJECT = "OBJECT"
    REGION = "REGION"
    STANDARD = "STANDARD"


class BitLayout(Struct, frozen=True, tag=True, tag_field="class"):
    """Where an atomic type's significant bits lie: ``size_bytes`` in all, the rest in bits."""

    size_bytes: int
    order: ByteOrder
    precision: int
    offset: int = 0
    lsb_padding: BitPadding = BitPadding.ZERO
    msb_padding: BitPadding = BitPadding.ZERO

    def significant(self, stored: bytes) -> int:
        """Return the significant bits of ``stored`` (``size_bytes`` bytes) as an unsigned int."""
        whole = int.from_bytes(self.swapped(stored), "little")
        return whole >> self.offset & (1 << self.precision) - 1

    def stored(self, significant: int) -> bytes:
        """Return ``size_bytes`` bytes with those significant bits and the padding around them.

        Raises ``OverflowError`` when ``significant`` is negative or wider than the precision.
        """
        if significant >> self.precision:
            raise OverflowError(f"more than {self.precision} bits")
        whole = significant << self.offset
        if self.lsb_padding is BitPadding.ONE:
            whole |= (1 << self.offset) - 1
        if self.msb_padding is BitPadding.ONE:
            top = self.offset + self.precision
            whole |= (1 << 8 * self.size_bytes) - (1 << top)
        return self.swapped(whole.to_bytes(self.size_bytes, "little"))

    def swapped(self, stored: bytes) -> bytes:
        """Return stored bytes in little-endian order, or little-endian ones as stored."""
        if self.order is ByteOrder.BIG:
            return stored[::-1]
        if self.order is ByteOrder.VAX:  # 16-bit words, each little-endian, the highest one first
            return b"".join(stored[i : i + 2] for i in range(len(stored) - 2, -1, -2))
        return stored


class IntegerType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_INTEGER: two's complement when signed."""

    bits: BitLayout
    signed: bool

    def value(self, stored: bytes) -> int:
        """Return the integer in ``stored``, whatever its padding bits are."""
        significant = self.bits.significant(stored)
        if self.signed and significant >> self.bits.precision - 1:
            significant -= 1 << self.bits.precision
        return significant

    def can_hold(self, value: int) -> bool:
        """Tell whether ``value`` is in the type's range."""
        lowest = -(1 << self.bits.precision - 1) if self.signed else 0
        return lowest <= value < lowest + (1 << self.bits.precision)

    def stored(self, value: int) -> bytes:
        """Return ``value`` as stored. Raises ``OverflowError`` when the type cannot hold it."""
        if not self.can_hold(value):
            raise OverflowError(f"integer out of range for {self.bits.precision} bits")
        return self.bits.stored(value & (1 << self.bits.precision) - 1)


class BitfieldType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_BITFIELD."""

    bits: BitLayout


class FloatType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_FLOAT; positions and sizes in bits, counted from the least significant one."""

    bits: BitLayout
    sign_position: int
    exponent_position: int
    exponent_size: int
    exponent_bias: int
    mantissa_position: int
    mantissa_size: int
    normalisation: Normalisation
    inner_padding: BitPadding = BitPadding.ZERO


class ComplexType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_COMPLEX of HDF5 2.0: real part, then imaginary part."""

    size_bytes: int
    base: Datatype


class StringType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_STRING; ``size_bytes`` is None for a variable-length string.

    ``order``: the byte order of a variable-length string's characters. It means nothing, but makes
    H5Tequal tell strings of big-endian machines from strings of little-endian ones.
    """

    size_bytes: int | None
    padding: StringPadding
    charset: CharacterSet
    order: ByteOrder = ByteOrder.LITTLE


class OpaqueType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_OPAQUE with its tag, as stored."""

    size_bytes: int
    tag: bytes


class TimeType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_TIME, deprecated and never implemented by the library; ``precision`` in bits."""

    size_bytes: int
    order: ByteOrder
    precision: int


class EnumType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_ENUM: names (bytes as stored) and their values in the base type, in stored order."""

    base: IntegerType
    members: tuple[tuple[bytes, int], ...]


class Member(Struct, frozen=True, tag=True, tag_field="class"):
    """One member of a compound; ``offset`` in bytes from the element's start."""

    name: bytes
    offset: int
    type: Datatype


class CompoundType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_COMPOUND; ``size_bytes`` counts padding too."""

    size_bytes: int
    members: tuple[Member, ...]


class ArrayType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_ARRAY of ``shape``, row-major."""

    base: Datatype
    shape: tuple[int, ...]


class SequenceType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_VLEN: a variable-length sequence of ``base``."""

    base: Datatype


class ReferenceType(Struct, frozen=True, tag=True, tag_field="class"):
    """H5T_REFERENCE."""

    size_bytes: int
    kind: ReferenceKind


Datatype = (
    IntegerType
    | BitfieldType
    | FloatType
    | ComplexType
    | StringType
    | OpaqueType
    | TimeType
    | EnumType
    | CompoundType
    | ArrayType
    | SequenceType
    | ReferenceType
)


def holds_references(datatype: Datatype) -> bool:
    """Whether elements of a type are references, or have some."""
    if isinstance(datatype, CompoundType):
        return any(holds_references(member.type) for member in datatype.members)
    if isinstance(datatype, ArrayType | SequenceType):
        return holds_references(datatype.base)
    return isinstance(datatype, ReferenceType)


def size_in_memory(datatype: Datatype) -> int:
    """Return an element's size in bytes as a 64-bit library lays it out in memory (H5Tget_size)."""
    if isinstance(datatype, IntegerType | BitfieldType | FloatType):
        return datatype.bits.size_bytes
    if isinstance(datatype, EnumType):
        return datatype.base.bits.size_bytes
    if isinstance(datatype, ArrayType):
        return math.prod(datatype.shape) * size_in_memory(datatype.base)
    if isinstance(datatype, SequenceType):
        return 16  # hvl_t: length and pointer
    if datatype.size_bytes is None:
        return 8  # char pointer
    return datatype.size_bytes


def count_values(datatype: Datatype) -> int:
    """Return how many plain values an element is: members and items one by one, a sequence one."""
    if isinstance(datatype, CompoundType):
        return sum(count_values(member.type) for member in datatype.members)
    if isinstance(datatype, ArrayType):
        return math.prod(datatype.shape) * count_values(datatype.base)
    return 1


def is_variable(datatype: Datatype) -> bool:
    """Tell whether elements hold pointers (variable-length strings, sequences) or references."""
    if isinstance(datatype, SequenceType | ReferenceType):
        return True
    if isinstance(datatype, StringType):
        return datatype.size_bytes is None
    if isinstance(datatype, ArrayType):
        return is_variable(datatype.base)
    if isinstance(datatype, CompoundType):
        return any(is_variable(member.type) for member in datatype.members)
    return False
