"""Attributes as plain JSON, and back to the bit."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.attributes import QUAD, VAX_F, X87, attribute_sets

from h5fs.errors import InvalidAttributesError
from h5fs.model.datatypes import (
    ArrayType,
    BitfieldType,
    BitLayout,
    ByteOrder,
    CharacterSet,
    ComplexType,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    Member,
    Normalisation,
    OpaqueType,
    ReferenceKind,
    ReferenceType,
    SequenceType,
    StringPadding,
    StringType,
)
from h5fs.model.objects import Attribute, Element, RegionTarget, UnreadableAttribute
from h5fs.projection.json.attribute_file import (
    FLOAT64,
    INT64,
    TEXT,
    attributes_from_json,
    attributes_to_json,
)
from h5fs.projection.json.numpy_spelling import (
    BOOLEAN,
    complex_compound,
    standard_float,
    standard_integer,
)

LE = ByteOrder.LITTLE
F4 = standard_float(4, LE)
U1 = standard_integer(1, LE, signed=False)
U2 = standard_integer(2, LE, signed=False)
OBJECT = ReferenceType(8, ReferenceKind.OBJECT)
REGION = ReferenceType(12, ReferenceKind.REGION)
MODE = EnumType(U1, ((b"RAW", 0), (b"DARK", 1)))
NULL_PADDED = StringType(4, StringPadding.NULL_PADDED, CharacterSet.ASCII)
NULL_TERMINATED = StringType(4, StringPadding.NULL_TERMINATED, CharacterSet.ASCII)
BFLOAT16 = FloatType(BitLayout(2, LE, 16), 15, 7, 8, 127, 0, 7, Normalisation.IMPLIED)


def refuse_constant(constant: str) -> None:
    raise AssertionError(f"bare {constant}")


def strictly(data: bytes) -> Any:
    return json.loads(data, parse_constant=refuse_constant)


def f4(*numbers: float) -> tuple[bytes, ...]:
    return tuple(struct.pack("<f", number) for number in numbers)


def f8(*numbers: float) -> tuple[bytes, ...]:
    return tuple(struct.pack("<d", number) for number in numbers)


def i8(*numbers: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(8, "little", signed=True) for number in numbers)


def one(datatype: Datatype, *elements: Element, shape: tuple[int, ...] | None = ()) -> Attribute:
    return Attribute(b"x", datatype, shape, elements)


def shown(attribute: Attribute) -> Any:
    """Return the JSON value of an attribute, which comes back from it."""
    data = attributes_to_json([attribute])
    assert attributes_from_json(data) == (attribute,)
    return strictly(data)["x"]


@pytest.mark.semantics("A4")
@given(attribute_sets())
def test_any_attributes_come_back_from_their_json(attributes: tuple[Attribute, ...]) -> None:
    data = attributes_to_json(attributes)
    strictly(data)
    assert attributes_from_json(data) == attributes
    assert attributes_from_json(data, attributes) == attributes


@pytest.mark.semantics("A1", "A2")
def test_the_example_of_the_design_page_is_what_is_written() -> None:
    attributes = [
        Attribute(b"units", TEXT, (), (b"m",)),
        Attribute(b"gain", F4, (), f4(0.1)),
        Attribute(b"window", U2, (2, 2), (b"\0\0", b"\0\2", b"\0\0", b"\0\2")),
        Attribute(b"limit", FLOAT64, (), f8(float("inf"))),
        Attribute(b"mode", MODE, (), (b"\0",)),
    ]
    text = attributes_to_json(attributes).decode()
    assert text == (
        "{\n"
        '  "units": "m",\n'
        '  "gain": 0.1,\n'
        '  "window": [[0, 512], [0, 512]],\n'
        '  "limit": "Infinity",\n'
        '  "mode": "RAW",\n'
        '  "$types": {\n'
        '    "gain": "<f4",\n'
        '    "window": "<u2",\n'
        '    "limit": "<f8",\n'
        '    "mode": {"class": "H5T_ENUM", "base": "|u1", "mapping": {"RAW": 0, "DARK": 1}}\n'
        "  }\n"
        "}\n"
    )


def test_plain_types_need_no_types() -> None:
    attributes = (
        Attribute(b"units", TEXT, (), (b"m",)),
        Attribute(b"scale", FLOAT64, (), f8(0.5)),
        Attribute(b"origin", INT64, (3,), i8(0, 0, 0)),
        Attribute(b"flags", BOOLEAN, (2,), (b"\1", b"\0")),
        Attribute(b"names", TEXT, (2, 1), (b"a", "é".encode())),
        Attribute(b"nothing", FLOAT64, None, ()),
        Attribute(b"empty", FLOAT64, (0,), ()),
    )
    assert strictly(attributes_to_json(attributes)) == {
        "units": "m",
        "scale": 0.5,
        "origin": [0, 0, 0],
        "flags": [True, False],
        "names": [["a"], ["é"]],
        "nothing": None,
        "empty": [],
    }
    assert attributes_from_json(attributes_to_json(attributes)) == attributes


def test_no_attributes_are_an_empty_object() -> None:
    assert attributes_to_json([]) == b"{}\n"
    assert attributes_from_json(b"{}") == ()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        (one(F4, *f4(float("nan"))), "NaN"),
        (one(F4, *f4(-float("inf"))), "-Infinity"),
        (one(FLOAT64, b"\1\0\0\0\0\0\xf8\x7f"), "NaN(0x7ff8000000000001)"),
        (one(FLOAT64, b"\0\0\0\0\0\0\xf8\xff"), "-NaN"),
        (one(BFLOAT16, b"\xcd\x3d"), 0.1),
        (one(VAX_F, b"\x80\x40\0\0"), 1.0),
        (one(VAX_F, b"\0\0\1\0"), "0x00000001"),
        (one(U1, b"\xff"), 255),
        (one(BitfieldType(BitLayout(1, LE, 8)), b"\xff"), 255),
        (one(MODE, b"\1"), "DARK"),
        (one(MODE, b"\7"), 7),
        (one(BOOLEAN, b"\1"), True),
        (one(BOOLEAN, b"\2"), 2),
        (one(EnumType(U1, ((b"0xff", 0),)), b"\0"), 0),
        (one(EnumType(U2, BOOLEAN.members), b"\1\0"), True),
        (one(NULL_PADDED, b"ab\0\0"), "ab"),
        (one(NULL_TERMINATED, b"ab\0x"), "ab"),
        (one(NULL_TERMINATED, b"abcd", b"a\0bc", b"\0\xff\0\0", shape=(3,)), ["abcd", "a", ""]),
        (one(NULL_PADDED, b"a\0b\0"), "a\0b"),
        (one(StringType(4, StringPadding.SPACE_PADDED, CharacterSet.UTF8), b"ab  "), "ab"),
        (one(TEXT, b""), ""),
        (one(TEXT, None), None),
        (one(TEXT, None, b"a", shape=(2,)), [None, "a"]),
        (one(TEXT, b"\xff"), "/w=="),
        (one(OpaqueType(2, b"tag"), b"\0\1"), "AAE="),
        (one(OpaqueType(8, b"NUMPY:<M8[s]"), bytes(8)), "1970-01-01T00:00:00"),
        (one(OpaqueType(8, b"NUMPY:<M8[D]"), b"\0" * 7 + b"\x80"), "NaT"),
        (one(OpaqueType(8, b"NUMPY:<m8[s]"), b"\5" + bytes(7)), 5),
        (one(complex_compound(F4), f4(1, -0.0)), [1.0, -0.0]),
        (one(ComplexType(8, F4), b"".join(f4(1, 2))), [1.0, 2.0]),
        (one(ArrayType(U1, (2, 1)), (b"\1", b"\2")), [[1], [2]]),
        (one(SequenceType(U1), (b"\1", b"\2")), [1, 2]),
        (one(SequenceType(U1), (), (b"\1",), shape=(2,)), [[], [1]]),
        (one(OBJECT, b"/group/data"), "/group/data"),
        (one(OBJECT, b"/latin-\xe9"), "/latin-%E9"),
        (one(OBJECT, None), None),
        (
            one(REGION, RegionTarget(b"/d", blocks=(((0, 1), (2, 3)),))),
            {"path": "/d", "blocks": [[[0, 1], [2, 3]]]},
        ),
        (one(REGION, RegionTarget(b"/d", points=((1,),))), {"path": "/d", "points": [[1]]}),
        (one(REGION, RegionTarget(b"/d", everything=True)), {"path": "/d", "everything": True}),
        (
            one(CompoundType(3, (Member(b"a", 0, U1), Member(b"b/c", 1, U2))), (b"\1", b"\2\0")),
            {"a": 1, "b/c": 2},
        ),
    ],
)
def test_a_value_is_spelled_plainly_and_comes_back(attribute: Attribute, value: Any) -> None:
    assert shown(attribute) == value


def test_members_of_one_name_which_a_damaged_file_has_are_a_list_and_stay() -> None:
    twins = CompoundType(2, (Member(b"a", 0, U1), Member(b"a", 1, U1)))
    attribute = one(twins, (b"\1", b"\2"))
    data = attributes_to_json([attribute])
    assert strictly(data)["x"] == [1, 2]
    assert attributes_from_json(data, [attribute]) == (attribute,)
    with pytest.raises(InvalidAttributesError):  # the library makes no such type
        attributes_from_json(data)


def test_what_lies_behind_a_strings_end_stays_with_the_strings_that_stay() -> None:
    attribute = one(NULL_TERMINATED, b"a\0xy", b"b\0zz", shape=(2,))
    document = json.loads(attributes_to_json([attribute]))
    document["x"][1] = "new"
    (changed,) = attributes_from_json(json.dumps(document).encode())
    assert changed.elements == (b"a\0xy", b"new\0")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2**40, 0), None])
@pytest.mark.parametrize("datatype", [F4, TEXT, SequenceType(F4), OBJECT, FLOAT64])
def test_empty_and_null_keep_type_and_shape(
    datatype: Datatype, shape: tuple[int, ...] | None
) -> None:
    assert shown(one(datatype, shape=shape)) == (None if shape is None else [])


@given(st.binary(min_size=4, max_size=4))
def test_float32_is_the_decimal_that_numpy_prints(bits: bytes) -> None:
    number = np.frombuffer(bits, "<f4")[0]
    value = shown(one(F4, bits))
    if np.isfinite(number):
        assert value == float(str(number))


def test_a_long_double_prints_all_its_digits() -> None:
    third = 2**63 | (2**63 - 1) // 3  # 1.333..., its 64-bit mantissa
    stored = third.to_bytes(8, "little") + (16383).to_bytes(2, "little") + bytes(6)
    data = attributes_to_json([one(X87, stored)])
    assert b'"x": 1.3333333333333333333,' in data
    assert attributes_from_json(data) == (one(X87, stored),)


def test_padding_bits_of_a_number_are_not_data() -> None:
    clean = QUAD.bits.stored(0)
    x87_one = (2**63).to_bytes(8, "little") + (16383).to_bytes(2, "little")
    dirty = one(X87, x87_one + b"dirty!")
    data = attributes_to_json([dirty])
    assert strictly(data)["x"] == 1.0
    assert attributes_from_json(data) == (one(X87, x87_one + bytes(6)),)
    assert attributes_from_json(data, [dirty]) == (dirty,)
    assert shown(one(QUAD, clean)) == 0.0


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"a/b", "a/b"),
        (b"line\nbreak", "line\nbreak"),
        (b"$types", "$$types"),
        (b"$$", "$$$"),
        (b"\xff", "%FF"),
        (b"%FF", "%25FF"),
        (b"50%", "50%"),
        ("é".encode(), "é"),
    ],
)
def test_an_attribute_of_any_name_has_a_key_of_its_own(name: bytes, key: str) -> None:
    attribute = Attribute(name, INT64, (), i8(1))
    data = attributes_to_json([attribute])
    assert strictly(data) == {key: 1}
    assert attributes_from_json(data) == (attribute,)


@pytest.mark.semantics("A3")
def test_an_unreadable_attribute_is_named_and_the_others_are_there() -> None:
    good = Attribute(b"good", INT64, (), i8(1))
    data = attributes_to_json([UnreadableAttribute(b"$bad", "no filter"), good])
    assert strictly(data) == {"good": 1, "$unreadable": {"$$bad": "no filter"}}
    assert attributes_from_json(data) == (good,)


@pytest.mark.semantics("A6")
def test_without_an_entry_the_existing_type_holds_what_it_can_exactly() -> None:
    old = [
        Attribute(b"gain", F4, (), f4(1)),
        Attribute(b"count", U1, (), (b"\1",)),
        Attribute(b"mode", MODE, (), (b"\0",)),
        Attribute(b"text", NULL_PADDED, (), (b"abcd",)),
        Attribute(b"list", F4, (2,), f4(1, 2)),
    ]
    data = b'{"gain": 0.1, "count": 255, "mode": 1, "text": "ab", "list": [1, "NaN", 3]}'
    assert attributes_from_json(data, old) == (
        Attribute(b"gain", F4, (), f4(0.1)),
        Attribute(b"count", U1, (), (b"\xff",)),
        Attribute(b"mode", MODE, (), (b"\1",)),
        Attribute(b"text", NULL_PADDED, (), (b"ab\0\0",)),
        Attribute(b"list", F4, (3,), f4(1, float("nan"), 3)),
    )


def test_without_an_entry_what_the_existing_type_cannot_hold_gets_the_implied_one() -> None:
    old = [
        Attribute(b"gain", F4, (), f4(1)),
        Attribute(b"count", U1, (), (b"\1",)),
        Attribute(b"mode", MODE, (), (b"\0",)),
        Attribute(b"text", NULL_PADDED, (), (b"abcd",)),
        Attribute(b"flag", BOOLEAN, (), (b"\1",)),
    ]
    data = b'{"gain": 0.123456789, "count": 256, "mode": "LIGHT", "text": "abcde", "flag": 0.5}'
    assert attributes_from_json(data, old) == (
        Attribute(b"gain", FLOAT64, (), f8(0.123456789)),
        Attribute(b"count", INT64, (), i8(256)),
        Attribute(b"mode", TEXT, (), (b"LIGHT",)),
        Attribute(b"text", TEXT, (), (b"abcde",)),
        Attribute(b"flag", FLOAT64, (), f8(0.5)),
    )


def test_null_for_an_existing_number_is_a_null_dataspace_of_its_type() -> None:
    old = [Attribute(b"x", F4, (), f4(1))]
    assert attributes_from_json(b'{"x": null}', old) == (Attribute(b"x", F4, None, ()),)


@pytest.mark.semantics("A6")
def test_what_the_library_keeps_for_itself_stays_unless_it_is_named() -> None:
    name, units = Attribute(b"NAME", TEXT, (), (b"lat",)), Attribute(b"units", TEXT, (), (b"m",))
    old = [name, Attribute(b"title", TEXT, (), (b"t",)), units]
    assert attributes_from_json(b'{"units": "m"}', old) == (units, name)
    assert attributes_from_json(b'{"units": "m", "NAME": null}', old) == (units,)
    (changed,) = attributes_from_json(b'{"NAME": "lon"}', old)
    assert changed == Attribute(b"NAME", TEXT, (), (b"lon",))
    assert attributes_from_json(b'{"NAME": null}') == ()


@pytest.mark.semantics("A4")
def test_a_null_dataspace_of_a_name_of_the_librarys_is_written_as_such() -> None:
    null = Attribute(b"CLASS", FLOAT64, None, ())
    assert attributes_from_json(attributes_to_json([null])) == (null,)
    assert attributes_from_json(attributes_to_json([null]), [null]) == (null,)


def test_an_entry_decides_over_the_existing_type() -> None:
    old = [Attribute(b"x", F4, (), f4(1))]
    data = b'{"x": 1, "$types": {"x": "<u2", "gone": "nonsense"}}'
    assert attributes_from_json(data, old) == (one(U2, b"\1\0"),)


@pytest.mark.semantics("A6")
@pytest.mark.parametrize(
    ("padding", "before", "size", "after"),
    [
        (StringPadding.NULL_TERMINATED, b"K", 4, b"degC"),  # as netCDF-C writes it
        (StringPadding.NULL_TERMINATED, b"K\0", 5, b"degC\0"),
        (StringPadding.NULL_PADDED, b"K\0", 4, b"degC"),
        (StringPadding.SPACE_PADDED, b"K ", 4, b"degC"),
    ],
)
def test_a_text_that_was_edited_makes_its_string_longer(
    padding: StringPadding, before: bytes, size: int, after: bytes
) -> None:
    old = Attribute(b"units", StringType(len(before), padding, CharacterSet.ASCII), (), (before,))
    edited = attributes_to_json([old]).replace(b'"K"', b'"degC"')
    new = Attribute(b"units", StringType(size, padding, CharacterSet.ASCII), (), (after,))
    assert attributes_from_json(edited, [old]) == (new,)
    # Of another object, the entry means what it says.
    for existing in ((), [Attribute(b"units", INT64, (), i8(1))]):
        with pytest.raises(InvalidAttributesError, match="4 bytes in a string of"):
            attributes_from_json(edited, existing)


@pytest.mark.semantics("A6")
def test_one_longer_text_of_several_makes_all_their_strings_longer() -> None:
    texts = [b"z", b"y", b"x"]
    strings = StringType(1, StringPadding.NULL_PADDED, CharacterSet.UTF8)
    old = Attribute(b"axes", strings, (3,), tuple(texts))
    edited = attributes_to_json([old]).replace(b'"y"', '"\N{GREEK SMALL LETTER PHI}"'.encode())
    (new,) = attributes_from_json(edited, [old])
    assert new.type == StringType(2, StringPadding.NULL_PADDED, CharacterSet.UTF8)
    assert new.elements == (b"z\0", "\N{GREEK SMALL LETTER PHI}".encode(), b"x\0")


def test_floats_that_are_whole_are_integers_where_the_type_is() -> None:
    data = b'{"x": 2e3, "$types": {"x": "<u2"}}'
    assert attributes_from_json(data) == (one(U2, b"\xd0\x07"),)
