"""The numbers of the HDF5 datatype message: its classes, versions and flags.

Format: HDF5 File Format Specification version 3.0, section IV.A.2.d, "The Datatype Message"; for
complex numbers the message of version 5, as HDF5 2.0 writes it. A message is little-endian: class
in bits 0-3 and version in bits 4-7 of the first byte, three bytes of flags, four of size, then what
the class adds. `datatype_message.parser` reads messages and `datatype_message.builder` writes them.
"""

from __future__ import annotations

from typing import Final

from h5fs.model.datatypes import (
    BitLayout,
    ByteOrder,
    CharacterSet,
    IntegerType,
    Normalisation,
    ReferenceKind,
    StringPadding,
)

INTEGER: Final = 0
FLOAT: Final = 1
TIME: Final = 2
STRING: Final = 3
BITFIELD: Final = 4
OPAQUE: Final = 5
COMPOUND: Final = 6
REFERENCE: Final = 7
ENUM: Final = 8
VLEN: Final = 9
ARRAY: Final = 10
COMPLEX: Final = 11

BIG_ENDIAN_FLAG: Final = 0x01
LSB_PADDING_FLAG: Final = 0x02
MSB_PADDING_FLAG: Final = 0x04
SIGNED_FLAG: Final = 0x08
INNER_PADDING_FLAG: Final = 0x08
VAX_FLAG: Final = 0x40
VLEN_STRING: Final = 1
COMPLEX_FLAGS: Final = 0x01  # both parts of one type, rectangular form: the only one there is

NORMALISATIONS: Final = (Normalisation.NONE, Normalisation.SET, Normalisation.IMPLIED)
STRING_PADDINGS: Final = (
    StringPadding.NULL_TERMINATED,
    StringPadding.NULL_PADDED,
    StringPadding.SPACE_PADDED,
)
CHARACTER_SETS: Final = (CharacterSet.ASCII, CharacterSet.UTF8)
REFERENCE_KINDS: Final = (ReferenceKind.OBJECT, ReferenceKind.REGION, ReferenceKind.STANDARD)


def vlen_string_base(order: ByteOrder) -> IntegerType:
    """Return the element type that the library gives variable-length strings: H5T_NATIVE_UCHAR."""
    return IntegerType(BitLayout(1, order, 8), signed=False)


def offset_size(compound_size_bytes: int) -> int:
    """Return how many bytes a version 3 message spends on each member's offset."""
    return max(1, (compound_size_bytes.bit_length() + 7) // 8)
