"""HDF5 datatypes to plain values and back: equal for H5Tequal, or refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from h5py import h5a, h5t
from hypothesis import given
from strategies.attributes import VAX_F, X87, datatypes

from h5fs.errors import H5fsError, UnsupportedTypeError
from h5fs.model.datatypes import (
    BitLayout,
    BitPadding,
    ByteOrder,
    CharacterSet,
    CompoundType,
    Datatype,
    EnumType,
    IntegerType,
    Member,
    OpaqueType,
    ReferenceKind,
    ReferenceType,
    StringPadding,
    StringType,
)
from h5fs.projection.json.numpy_spelling import BOOLEAN, complex_compound, standard_float
from h5fs.store.format.datatype_message.parser import parse_message
from h5fs.store.hdf5.types.type_ids import create_datatype, describe_datatype

PREDEFINED = sorted(name for name in dir(h5t) if isinstance(getattr(h5t, name), h5t.TypeID))


@given(datatypes)
def test_any_described_type_is_created_and_described_alike(datatype: Datatype) -> None:
    created = create_datatype(datatype)
    assert create_datatype(describe_datatype(created)).equal(created)


@pytest.mark.parametrize("name", PREDEFINED)
def test_every_predefined_type_is_described_exactly(name: str) -> None:
    tid = getattr(h5t, name)
    assert create_datatype(describe_datatype(tid)).equal(tid)


def test_an_integer_keeps_precision_offset_and_padding() -> None:
    tid = h5t.STD_I32BE.copy()
    tid.set_precision(12)
    tid.set_offset(3)
    tid.set_pad(h5t.PAD_ONE, h5t.PAD_ZERO)
    assert describe_datatype(tid) == IntegerType(
        BitLayout(4, ByteOrder.BIG, 12, 3, BitPadding.ONE, BitPadding.ZERO), signed=True
    )


def test_a_vax_float_is_described_as_one_though_its_message_is_too_old_for_it() -> None:
    tid = h5t.IEEE_F32LE.copy()
    tid.set_order(h5t.ORDER_VAX)
    tid.set_ebias(VAX_F.exponent_bias)
    assert describe_datatype(tid) == VAX_F
    assert create_datatype(VAX_F).equal(tid)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize != 16, reason="no 80-bit long double here")
def test_the_long_double_of_x86_is_the_80_bit_one() -> None:
    assert describe_datatype(h5t.NATIVE_LDOUBLE) == X87


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.dtype("?"), BOOLEAN),
        (np.dtype(">c8"), complex_compound(standard_float(4, ByteOrder.BIG))),
        (
            h5py.string_dtype("ascii"),
            StringType(None, StringPadding.NULL_TERMINATED, CharacterSet.ASCII),
        ),
        (np.dtype("S5"), StringType(5, StringPadding.NULL_PADDED, CharacterSet.ASCII)),
        (h5py.opaque_dtype("<M8[s]"), OpaqueType(8, b"NUMPY:<M8[s]")),
        (h5py.ref_dtype, ReferenceType(8, ReferenceKind.OBJECT)),
        (h5py.regionref_dtype, ReferenceType(12, ReferenceKind.REGION)),
    ],
)
def test_what_h5py_makes_of_a_numpy_dtype(dtype: np.dtype, expected: Datatype) -> None:
    assert describe_datatype(h5t.py_create(dtype, logical=True)) == expected


def test_enumeration_values_beyond_63_bits_are_exact() -> None:
    base = IntegerType(BitLayout(8, ByteOrder.BIG, 64), signed=False)
    enum = EnumType(base, ((b"all", 2**64 - 1), (b"none", 0)))
    assert describe_datatype(create_datatype(enum)) == enum


def test_a_committed_type_comes_out_as_its_transient_copy() -> None:
    dtype = np.dtype([("text", h5py.string_dtype()), ("refs", h5py.ref_dtype, (2,)), ("x", "<i2")])
    transient = h5t.py_create(dtype, logical=True)
    with h5py.File("committed", "w", driver="core", backing_store=False) as file:
        file["type"] = dtype
        file.attrs.create("value", h5py.Empty(dtype), dtype=file["type"])
        attribute_type = h5a.open(file.id, b"value").get_type()
        assert attribute_type.committed()
        described = {describe_datatype(tid) for tid in (file["type"].id, attribute_type)}
    assert described == {describe_datatype(transient)}


def test_background_padding_is_refused_as_no_file_can_hold_it() -> None:
    bits = BitLayout(4, ByteOrder.LITTLE, 8, msb_padding=BitPadding.BACKGROUND)
    with pytest.raises(UnsupportedTypeError):
        create_datatype(IntegerType(bits, signed=False))


@pytest.mark.parametrize(
    "impossible",
    [
        IntegerType(BitLayout(4, ByteOrder.LITTLE, 33), signed=False),
        CompoundType(8, ()),
        CompoundType(1, (Member(b"x", 0, standard_float(8, ByteOrder.LITTLE)),)),
        CompoundType(8, (Member(b"x", 0, BOOLEAN), Member(b"y", 0, BOOLEAN))),
        CompoundType(2, (Member(b"x", 0, BOOLEAN), Member(b"x", 1, BOOLEAN))),
        OpaqueType(1, b"x" * 249),
        EnumType(BOOLEAN.base, ((b"x", 128),)),
    ],
)
def test_an_impossible_type_is_refused(impossible: Datatype) -> None:
    with pytest.raises(H5fsError):
        create_datatype(impossible)


def test_a_message_that_is_cut_short_or_unknown_is_refused() -> None:
    message = create_datatype(BOOLEAN).encode()[2:]
    for length in range(len(message)):
        with pytest.raises(UnsupportedTypeError):
            parse_message(message[:length])
    with pytest.raises(UnsupportedTypeError):
        parse_message(b"\x1f" + message[1:])


def test_types_nested_without_end_are_refused() -> None:
    tid = h5t.STD_I8LE
    for _ in range(100):
        tid = h5t.vlen_create(tid)
    with pytest.raises(UnsupportedTypeError, match="nested deeper"):
        describe_datatype(tid)
