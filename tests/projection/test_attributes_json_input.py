"""What programs may write into a ``.attrs.json``: attributes, or refused with a reason."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.attributes import attribute_sets

from h5fs.errors import InvalidAttributesError
from h5fs.objects import Attribute
from h5fs.projection.attributes_json import INT64, attributes_from_json, attributes_to_json


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"x": NaN}',
        b'{"x": 1, "x": 2}',
        b'{"x": {"y": 1, "y": 2}}',
        b'{"x": {}}',
        b'{"x": [1, "a"]}',
        b'{"x": [true, 1]}',
        b'{"x": [[1], [1, 2]]}',
        b'{"x": [null]}',
        b'{"x": 9223372036854775808}',
        b'{"x": 1e400}',
        b'{"x": "\\ud800"}',
        b'{"x": "a\\u0000b"}',
        b'{"\\u0000": 1}',
        b'{"": 1}',
        b'{"$x": 1}',
        b'{"x": 1, "$types": []}',
        b'{"x": 1, "$types": {"x": "nonsense"}}',
        b'{"x": 1, "$types": {"x": {"type": "<f4", "typo": 1}}}',
        b'{"x": 1, "$types": {"x": {"type": "<f4", "shape": [2]}}}',
        b'{"x": 1, "$types": {"x": {"type": "<f4", "shape": "H5S_NULL"}}}',
        b'{"x": [], "$types": {"x": {"type": "<f4", "shape": [0, -1]}}}',
        b'{"x": 256, "$types": {"x": "|u1"}}',
        b'{"x": 1.5, "$types": {"x": "|u1"}}',
        b'{"x": 1e999999999, "$types": {"x": "|u1"}}',
        b'{"x": 1e39, "$types": {"x": "<f4"}}',
        b'{"x": true, "$types": {"x": "|u1"}}',
        b'{"x": "0x1", "$types": {"x": "<f4"}}',
        b'{"x": "abc", "$types": {"x": "S2"}}',
        b'{"x": "!", "$types": {"x": {"class": "H5T_OPAQUE", "size": 1, "tag": ""}}}',
        b'{"x": {"y": 1}, "$types": {"x": [["z", "<f4"]]}}',
        b'{"x": "", "$types": {"x": {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}}}',
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x": ' + b"9" * 5000 + b"}",
        b'{"x": 0.' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_not_attributes_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidAttributesError):
        attributes_from_json(data)


@given(
    st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_attributes_or_refused(data: bytes) -> None:
    with suppress(InvalidAttributesError):
        attributes_from_json(data)


plain_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
json_values = st.recursive(
    plain_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(attribute_sets(), st.lists(json_values, min_size=4, max_size=4))
def test_any_value_for_an_existing_attribute_is_taken_exactly_or_refused(
    existing: tuple[Attribute, ...], values: list[Any]
) -> None:
    keys = [key for key in json.loads(attributes_to_json(existing)) if key != "$types"]
    data = json.dumps(dict(zip(keys, values, strict=False))).encode()
    try:
        attributes = attributes_from_json(data, existing)
    except InvalidAttributesError:
        return
    assert attributes_from_json(attributes_to_json(attributes)) == attributes


@given(attribute_sets(), json_values)
def test_any_value_with_any_type_is_taken_or_refused(
    attributes: tuple[Attribute, ...], value: Any
) -> None:
    document = json.loads(attributes_to_json(attributes))
    for key in document:
        if key != "$types":
            document[key] = value
    with suppress(InvalidAttributesError):
        attributes_from_json(json.dumps(document).encode())


def test_a_number_that_is_no_member_of_an_enumeration_takes_a_type_of_its_own() -> None:
    (old,) = attributes_from_json(b'{"u": true}')
    (new,) = attributes_from_json(b'{"u": 3}', [old])
    assert new.type == INT64
    (kept,) = attributes_from_json(b'{"u": 1}', [old])
    assert kept == old
