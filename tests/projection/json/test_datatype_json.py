"""Datatypes as JSON: short where numpy can spell them, lossless always."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from strategies.attributes import QUAD, VAX_F, X87, datatypes

from h5fs.errors import InvalidAttributesError
from h5fs.model.datatypes import (
    ArrayType,
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
    SequenceType,
    StringPadding,
    StringType,
)
from h5fs.projection.json.datatype_documents import (
    datatype_document,
    datatype_from_json,
    datatype_to_json,
)
from h5fs.projection.json.numpy_spelling import (
    BOOLEAN,
    complex_compound,
    standard_float,
    standard_integer,
)
from h5fs.projection.json.strict_json import JsonValue, parse_json, write_json

F4 = standard_float(4, ByteOrder.LITTLE)
U1 = standard_integer(1, ByteOrder.LITTLE, signed=False)

EXAMPLES: list[tuple[Datatype, JsonValue]] = [
    (F4, "<f4"),
    (standard_integer(8, ByteOrder.BIG, signed=True), ">i8"),
    (U1, "|u1"),
    (BOOLEAN, "|b1"),
    (complex_compound(standard_float(8, ByteOrder.LITTLE)), "<c16"),
    (CompoundType(5, (Member(b"x", 0, F4), Member(b"y", 4, U1))), [["x", "<f4"], ["y", "|u1"]]),
    (CompoundType(8, (Member(b"v", 0, ArrayType(F4, (2,))),)), [["v", "<f4", [2]]]),
    (
        CompoundType(8, (Member(b"x", 0, F4),)),
        {
            "class": "H5T_COMPOUND",
            "size": 8,
            "fields": [{"name": "x", "offset": 0, "type": "<f4"}],
        },
    ),
    (
        StringType(5, StringPadding.NULL_PADDED, CharacterSet.UTF8),
        {
            "class": "H5T_STRING",
            "charSet": "H5T_CSET_UTF_8",
            "strPad": "H5T_STR_NULLPAD",
            "length": 5,
        },
    ),
    (
        StringType(None, StringPadding.NULL_TERMINATED, CharacterSet.ASCII),
        {
            "class": "H5T_STRING",
            "charSet": "H5T_CSET_ASCII",
            "strPad": "H5T_STR_NULLTERM",
            "length": "H5T_VARIABLE",
        },
    ),
    (
        EnumType(U1, ((b"RAW", 0), (b"DARK", 1))),
        {"class": "H5T_ENUM", "base": "|u1", "mapping": {"RAW": 0, "DARK": 1}},
    ),
    (
        EnumType(U1, ((b"\xff", 0), (b"\xff", 1))),
        {"class": "H5T_ENUM", "base": "|u1", "mapping": [["%FF", 0], ["%FF", 1]]},
    ),
    (SequenceType(F4), {"class": "H5T_VLEN", "base": "<f4"}),
    (ArrayType(F4, (2, 3)), {"class": "H5T_ARRAY", "base": "<f4", "dims": [2, 3]}),
    (
        ReferenceType(8, ReferenceKind.OBJECT),
        {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"},
    ),
    (
        ReferenceType(12, ReferenceKind.REGION),
        {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_DSETREG"},
    ),
    (OpaqueType(3, b"tag"), {"class": "H5T_OPAQUE", "size": 3, "tag": "tag"}),
]


@pytest.mark.parametrize(("datatype", "value"), EXAMPLES)
def test_a_type_has_its_short_form_or_its_class_object(
    datatype: Datatype, value: JsonValue
) -> None:
    assert datatype_to_json(datatype) == value
    assert datatype_from_json(value) == datatype


@given(datatypes)
def test_any_type_comes_back_from_its_json(datatype: Datatype) -> None:
    text = write_json(datatype_to_json(datatype)).encode()
    assert datatype_from_json(parse_json(text)) == datatype


@given(datatypes)
def test_a_document_is_json_of_two_spaces_that_ends_its_line(datatype: Datatype) -> None:
    document = datatype_document(datatype)
    assert document.endswith(b"\n")
    assert datatype_from_json(json.loads(document)) == datatype
    indents = {len(line) - len(line.lstrip(b" ")) for line in document.splitlines()}
    assert all(indent % 2 == 0 for indent in indents)


@pytest.mark.parametrize(
    "datatype", [X87, QUAD, VAX_F, standard_integer(1, ByteOrder.BIG, signed=True)]
)
def test_what_numpy_cannot_spell_is_spelled_out(datatype: Datatype) -> None:
    value = datatype_to_json(datatype)
    assert value["class"] in ("H5T_FLOAT", "H5T_INTEGER")
    assert value["precision"] == datatype.bits.precision


@given(datatypes)
def test_a_short_form_is_a_dtype_of_the_same_size_for_numpy(datatype: Datatype) -> None:
    value = datatype_to_json(datatype)
    if isinstance(value, str):
        assert np.dtype(value).str == value


@pytest.mark.parametrize(
    ("spelling", "spelled"), [("f4", "<f4"), ("=i2", "<i2"), ("?", "|b1"), (">u1", "|u1")]
)
def test_looser_dtype_strings_are_understood(spelling: str, spelled: str) -> None:
    assert datatype_from_json(spelling) == datatype_from_json(spelled)


def test_a_dtype_string_of_bytes_is_what_h5py_makes_of_it() -> None:
    padded = StringType(5, StringPadding.NULL_PADDED, CharacterSet.ASCII)
    assert datatype_from_json("S5") == padded


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "float",
        "<f16",
        "O",
        "S0",
        [["x"]],
        [["x", "<f4", [0]]],
        [],
        {"class": "H5T_NONSENSE"},
        {"class": ["H5T_VLEN"]},
        {"class": "H5T_VLEN"},
        {"class": "H5T_VLEN", "base": "<f4", "typo": 1},
        {"class": "H5T_ARRAY", "base": "<f4", "dims": [0]},
        {"class": "H5T_ARRAY", "base": "<f4", "dims": [2**31, 2**31]},
        {"class": "H5T_ENUM", "base": "<f4", "mapping": {}},
        {"class": "H5T_ENUM", "base": "|u1", "mapping": {"x": 256}},
        {"class": "H5T_STRING", "length": 0},
        {"class": "H5T_STRING", "length": True},
        {
            "class": "H5T_INTEGER",
            "size": 4,
            "order": "H5T_ORDER_LE",
            "precision": 33,
            "signed": True,
        },
        {"class": "H5T_OPAQUE", "size": 1, "tag": "x" * 249},
        {"class": "H5T_OPAQUE", "size": 2**40},
        {"class": "H5T_COMPOUND", "size": 4, "fields": [{"name": "x", "offset": 4, "type": "<f4"}]},
        {"class": "H5T_COMPLEX", "size": 8, "base": "<i4"},
    ],
)
def test_what_is_no_type_is_refused(value: JsonValue) -> None:
    with pytest.raises(InvalidAttributesError):
        datatype_from_json(value)


def test_nesting_without_end_is_refused() -> None:
    value: JsonValue = "<f4"
    for _ in range(100):
        value = {"class": "H5T_VLEN", "base": value}
    with pytest.raises(InvalidAttributesError):
        datatype_from_json(value)
    value = "<f4"
    for _ in range(100):
        value = [["x", value]]
    with pytest.raises(InvalidAttributesError):
        datatype_from_json(value)


def test_integers_of_any_precision_say_their_layout() -> None:
    odd = datatype_from_json(
        {
            "class": "H5T_INTEGER",
            "size": 4,
            "order": "H5T_ORDER_BE",
            "precision": 12,
            "offset": 3,
            "signed": True,
        }
    )
    assert isinstance(odd, IntegerType)
    assert (odd.bits.precision, odd.bits.offset, odd.signed) == (12, 3, True)
