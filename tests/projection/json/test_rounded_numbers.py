"""Attributes edited by programs that have no number but float64, such as jq 1.6 and node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from strategies.attributes import QUAD, attribute_sets

from h5fs.model.datatypes import ByteOrder, CompoundType, Datatype, EnumType, Member
from h5fs.model.objects import Attribute, Element
from h5fs.projection.json.attribute_file import (
    FLOAT64,
    INT64,
    attributes_from_json,
    attributes_to_json,
)
from h5fs.projection.json.floats import store_float
from h5fs.projection.json.numpy_spelling import standard_integer

UINT64 = standard_integer(8, ByteOrder.LITTLE, signed=False)
COUNTER = CompoundType(16, (Member(b"n", 0, UINT64), Member(b"m", 8, INT64)))
MODE = EnumType(INT64, ((b"LOW", 1), (b"HIGH", 2**53 + 1)))
LARGE = (2**53 + 1, 1499816949527975237, 2**63 - 1)


def u8(*numbers: int) -> tuple[bytes, ...]:
    return tuple(map(UINT64.stored, numbers))


def attribute(datatype: Datatype, elements: tuple[Element, ...], *, is_list: bool) -> Attribute:
    return Attribute(b"x", datatype, (len(elements),) if is_list else (), elements)


ATTRIBUTES = {
    "int64": attribute(INT64, (INT64.stored(1499816949527975237),), is_list=False),
    "lowest int64": attribute(INT64, (INT64.stored(-(2**63)),), is_list=False),
    "uint64": attribute(UINT64, u8(2**64 - 1), is_list=False),
    "a number that float64 has, and prints otherwise": attribute(UINT64, u8(2**60), is_list=False),
    "list": attribute(INT64, tuple(map(INT64.stored, LARGE)), is_list=True),
    "compound": attribute(
        COUNTER, ((UINT64.stored(2**64 - 3), INT64.stored(-(2**62) - 1)),), is_list=True
    ),
    "value of an enumeration": attribute(MODE, (MODE.base.stored(2**53 + 1),), is_list=False),
    "no value of an enumeration": attribute(MODE, (MODE.base.stored(2**53 + 3),), is_list=False),
    "quad": attribute(
        QUAD, (store_float(Decimal("0.1234567890123456789012345678901234"), QUAD),), is_list=False
    ),
    "beyond float64": attribute(
        QUAD, (store_float(Decimal("1e-4000"), QUAD),), is_list=False
    ),
    "negative zero": attribute(FLOAT64, (bytes(7) + b"\x80",), is_list=False),
}  # fmt: skip


def print_as_float(text: str) -> Any:
    """Return what stands for a number in a document that only knows float64."""
    number = min(max(float(text), -sys.float_info.max), sys.float_info.max)
    exact = Decimal(repr(number))
    return int(exact) if exact == int(exact) and abs(number) < 1e21 else number


def through_float64(document: bytes) -> bytes:
    """Do what JavaScript does with a document: ``JSON.stringify(JSON.parse(document))``."""
    return json.dumps(
        json.loads(document, parse_int=print_as_float, parse_float=print_as_float)
    ).encode()


def through(command: list[str], document: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    return subprocess.run(command, input=document, capture_output=True, check=True).stdout


JQ = ["jq", ".other = 1"]
NODE = [
    "node", "-e",
    "let d = JSON.parse(require('fs').readFileSync(0)); d.other = 1;"
    "console.log(JSON.stringify(d, null, 2))",
]  # fmt: skip


@pytest.mark.semantics("A6")
@pytest.mark.parametrize("command", [JQ, NODE], ids=["jq", "node"])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_what_nobody_edited_survives_a_program_without_integers(
    name: str, command: list[str]
) -> None:
    old = ATTRIBUTES[name]
    edited = through(command, attributes_to_json([old]))
    kept, other = attributes_from_json(edited, [old])
    assert kept == old
    assert other.name == b"other"


@pytest.mark.semantics("A6")
@given(attribute_sets())
def test_attributes_of_every_type_survive_float64(existing: tuple[Attribute, ...]) -> None:
    edited = through_float64(attributes_to_json(existing))
    assert attributes_from_json(edited, existing) == existing


@pytest.mark.semantics("A6")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"[9007199254740992, 5, 9223372036854776000]", [LARGE[0], 5, LARGE[2]]),
        (b"[9007199254740992, 1499816949527975200]", list(LARGE[:2])),
        (b"[9.007199254740992e+15, 1499816949527975200, 7, 8]", [*LARGE[:2], 7, 8]),
        (b"[9007199254740994, 1499816949527975200]", [2**53 + 2, LARGE[1]]),
    ],
)
def test_elements_that_were_edited_change_and_the_others_stay(
    value: bytes, expected: list[int]
) -> None:
    old = ATTRIBUTES["list"]
    (new,) = attributes_from_json(b'{"x": ' + value + b"}", [old])
    assert new.type == INT64
    assert list(map(INT64.value, new.elements)) == expected


@pytest.mark.semantics("A6")
def test_a_program_that_keeps_integers_is_believed() -> None:
    old = ATTRIBUTES["list"]
    exact = [LARGE[0] - 1, LARGE[1], LARGE[2]]  # the first is also how float64 prints the old one
    (new,) = attributes_from_json(json.dumps({"x": exact}).encode(), [old])
    assert list(map(INT64.value, new.elements)) == exact


@pytest.mark.semantics("A6")
def test_a_number_near_its_rounding_is_a_change() -> None:
    old = ATTRIBUTES["int64"]
    (new,) = attributes_from_json(b'{"x": 1499816949527975236}', [old])
    assert INT64.value(new.elements[0]) == 1499816949527975236


@pytest.mark.semantics("A6")
def test_a_zero_with_a_point_has_its_sign() -> None:
    old = ATTRIBUTES["negative zero"]
    (new,) = attributes_from_json(b'{"x": 0.0}', [old])
    assert new.elements == (bytes(8),)


@pytest.mark.semantics("A6")
def test_a_number_of_another_type_is_what_it_says() -> None:
    old = ATTRIBUTES["int64"]
    data = b'{"x": 1499816949527975200, "$types": {"x": "<u8"}}'
    (new,) = attributes_from_json(data, [old])
    assert new == Attribute(b"x", UINT64, (), u8(1499816949527975200))
