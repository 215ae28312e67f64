"""HDF5's terms for properties of datatypes, as JSON has them: the names in HDF5's C library."""

from __future__ import annotations

from typing import Final

from h5fs.model.datatypes import (
    BitPadding,
    ByteOrder,
    CharacterSet,
    Normalisation,
    ReferenceKind,
    StringPadding,
)

STRING_PADDINGS: Final = {
    StringPadding.NULL_TERMINATED: "H5T_STR_NULLTERM",
    StringPadding.NULL_PADDED: "H5T_STR_NULLPAD",
    StringPadding.SPACE_PADDED: "H5T_STR_SPACEPAD",
}
CHARACTER_SETS: Final = {
    CharacterSet.ASCII: "H5T_CSET_ASCII",
    CharacterSet.UTF8: "H5T_CSET_UTF_8",
}
REFERENCE_BASES: Final = {
    ReferenceKind.OBJECT: "H5T_STD_REF_OBJ",
    ReferenceKind.REGION: "H5T_STD_REF_DSETREG",
    ReferenceKind.STANDARD: "H5T_STD_REF",
}
REFERENCE_SIZES: Final = {
    ReferenceKind.OBJECT: 8,
    ReferenceKind.REGION: 12,
    ReferenceKind.STANDARD: 64,
}
BYTE_ORDERS: Final = {
    ByteOrder.LITTLE: "H5T_ORDER_LE",
    ByteOrder.BIG: "H5T_ORDER_BE",
    ByteOrder.VAX: "H5T_ORDER_VAX",
}
BIT_PADDINGS: Final = {BitPadding.ZERO: "H5T_PAD_ZERO", BitPadding.ONE: "H5T_PAD_ONE"}
NORMALISATIONS: Final = {
    Normalisation.IMPLIED: "H5T_NORM_IMPLIED",
    Normalisation.SET: "H5T_NORM_MSBSET",
    Normalisation.NONE: "H5T_NORM_NONE",
}
VARIABLE: Final = "H5T_VARIABLE"

FLOAT_FIELDS: Final = (
    ("signPosition", "sign_position"),
    ("exponentPosition", "exponent_position"),
    ("exponentSize", "exponent_size"),
    ("exponentBias", "exponent_bias"),
    ("mantissaPosition", "mantissa_position"),
    ("mantissaSize", "mantissa_size"),
)
"""Keys in JSON and fields of ``FloatType``."""
