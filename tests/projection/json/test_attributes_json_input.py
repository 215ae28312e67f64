"""What programs may write into a ``.attrs.json``: attributes, or refused with a reason."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.attributes import attribute_sets

from h5fs.errors import AttributeTooLargeError, InvalidAttributesError
from h5fs.model.datatypes import ArrayType, Datatype
from h5fs.model.objects import Attribute, Element
from h5fs.projection.json.attribute_file import INT64, attributes_from_json, attributes_to_json
from h5fs.projection.json.strict_json import MAX_VALUES


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
        b'{"x": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
        b'{"x": ' + b"[" * 257 + b"1" + b"]" * 257 + b"}",
        b'{"x": ' + b'{"a": ' * 300 + b"1" + b"}" * 300 + b"}",
        b'{"x": 1, "$types": {"x": ' + b'{"class": "H5T_VLEN", "base": ' * 300 + b"1" + b"}" * 302,
        b'{"x": 1e99999999999999999999}',
        b'{"x": 1e-99999999999999999999}',
        b'{"x": 1e4999, "$types": {"x": "<i8"}}',
        b'\xef\xbb\xbf{"x": 1}',
        '{"x": 1}'.encode("utf-16"),
        b'{"x": 1} {}',
        b'{"x": 1}\0',
        b'{"x": 1,}',
        b"{'x': 1}",
        b'{"x": 01}',
        b'{"x": +1}',
        b'{"x": -Infinity}',
        b'{"x": "a\nb"}',
        b'{"x": 1, "$types": null}',
        b'{"x": 1, "$types": {"x": "\\ud800"}}',
        b'{"x": 1, "$types": {"x": [["\\ud800", "<f8"]]}}',
        b'{"x": {"\\ud800": 1}, "$types": {"x": [["a", "<f8"]]}}',
        b'{"x": [1, 2], "$types": {"x": {"class": "H5T_COMPOUND", "size": 16, "fields": ['
        b'{"name": "a", "offset": 0, "type": "<f8"}, {"name": "a", "offset": 8, "type": "<f8"}]}}}',
        b'{"x": [], "$types": {"x": {"type": "<f8", "shape": [9223372036854775807, 0.5]}}}',
        b'{"x": [], "$types": {"x": {"type": "<f8", "shape": [2147483648, 2147483648]}}}',
        b'{"x": [], "$types": {"x": {"class": "H5T_ARRAY", "base": "<f8", "dims": ['
        + b"9" * 4000
        + b"]}}}",
    ],
)
def test_what_is_not_attributes_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidAttributesError) as refused:
        attributes_from_json(data)
    assert len(str(refused.value)) < 410


STRING = '{"class": "H5T_STRING", "length": 4294967295}'
HUGE_INTEGER = '{"class": "H5T_INTEGER", "size": 8191, "order": "H5T_ORDER_LE", "signed": true}'
LARGE_COMPOUND = (
    '{"class": "H5T_COMPOUND", "size": 4294967295, '
    '"fields": [{"name": "a", "offset": 0, "type": "<f8"}]}'
)
MEMBERS = ", ".join(f'["m{number}", "<f8"]' for number in range(10_000))
NAMES = ", ".join(f'"m{number}": {number}' for number in range(10_000))
BOMBS = {
    "long strings": f'{{"x": ["a", "b"], "$types": {{"x": {STRING}}}}}',
    "long strings in sequences": '{"x": [["a", "b"]], "$types": {"x": {"class": "H5T_VLEN", '
    f'"base": {STRING}}}}}}}',
    "large numbers in a sequence": f'{{"x": [{"1," * 99_999}1], "$types": {{"x": '
    f'{{"class": "H5T_VLEN", "base": {HUGE_INTEGER}}}}}}}',
    "a padded compound": f'{{"x": {{"a": 1}}, "$types": {{"x": {LARGE_COMPOUND}}}}}',
    "many members": f'{{"x": {{{NAMES}}}, "$types": {{"x": [{MEMBERS}]}}}}',
    "many attributes": "{" + ",".join(f'"{number}": 1' for number in range(66_000)) + "}",
}


@pytest.mark.semantics("R8")
@pytest.mark.parametrize("name", BOMBS)
def test_a_short_text_takes_no_gigabytes(name: str) -> None:
    data = BOMBS[name].encode()
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(AttributeTooLargeError):
            attributes_from_json(data)
        assert time.process_time() - started < 10
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.semantics("R8")
@pytest.mark.parametrize(
    "data",
    [
        b'{"x": [' + b"[]," * (MAX_VALUES + 1) + b"[]]}",
        b'{"x": [' + b'"",' * (MAX_VALUES + 1) + b'""]}',
        b'{"x": "' + b"9" * 2**24 + b'", "y": ' + b"9" * 2**24 + b"}",
        b"[" * 2**24,
    ],
    ids=["lists", "strings", "digits", "brackets"],
)
def test_megabytes_are_refused_before_they_are_gigabytes(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidAttributesError):
            attributes_from_json(data)
        assert tracemalloc.get_traced_memory()[1] < 256 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.semantics("A2")
def test_commas_and_brackets_in_a_long_text_are_no_values() -> None:
    text = '[{,\\"' * (MAX_VALUES // 3 + 1)
    (found,) = attributes_from_json(json.dumps({"x": text}).encode())
    assert found.elements == (text.encode(),)


DATES = {"ns": "<M8[ns]", "D": ">M8[D]", "weeks": "<M8[7D]", "no unit": "<M8"}


@pytest.mark.semantics("A2", "A4")
@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("ns", "9999-01-01"),
        ("ns", "2020-01-01T00:00:00.123456789123"),
        ("ns", "99999999999999999999-01-01"),
        ("ns", "999999999999999999-01-01"),
        ("D", "2020-01-01T10:00"),
        ("weeks", "2020-01-01"),
        ("no unit", "2020-01-01"),
        ("D", "2020-02-30"),
        ("D", "٢٠٢٠-01-01"),
    ],
)
def test_a_date_that_its_type_cannot_hold_is_refused(unit: str, text: str) -> None:
    opaque = {"class": "H5T_OPAQUE", "size": 8, "tag": f"NUMPY:{DATES[unit]}"}
    data = json.dumps({"x": text, "$types": {"x": opaque}}).encode()
    with pytest.raises(InvalidAttributesError):
        attributes_from_json(data)


@pytest.mark.semantics("A2")
@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("ns", "2020-01-01"), ("ns", "2020-01-01T10:00:00.100"), ("ns", "2020-01-01T10:00:00.1"),
        ("D", "2020"), ("D", "-0100-02-01"), ("D", "12020-01-01"), ("weeks", "2020-01-02"),
        ("no unit", "NaT"), ("ns", "NaT"), ("D", "2020-01-01T00"),
    ],
)  # fmt: skip
def test_a_date_is_stored_as_numpy_stores_it(unit: str, text: str) -> None:
    dtype = np.dtype(DATES[unit])
    opaque = {"class": "H5T_OPAQUE", "size": 8, "tag": f"NUMPY:{DATES[unit]}"}
    data = json.dumps({"x": text, "$types": {"x": opaque}}).encode()
    (found,) = attributes_from_json(data)
    assert found.elements == (np.array([text], dtype).tobytes(),)


@pytest.mark.semantics("A3")
def test_elements_too_deep_for_json_are_left_out_with_the_reason() -> None:
    deep: Datatype = INT64
    for _ in range(10):
        deep = ArrayType(deep, (1,) * 30)
    element: Element = INT64.stored(1)
    for _ in range(10):
        element = (element,)
    shown = json.loads(attributes_to_json([Attribute(b"x", deep, (), (element,))]))
    assert shown == {"$unreadable": {"x": "its elements are nested too deeply for JSON"}}


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsnx$types\\u \n', max_size=80))
def test_any_text_like_json_is_attributes_or_refused(text: str) -> None:
    with suppress(InvalidAttributesError, AttributeTooLargeError):
        attributes_from_json(text.encode())


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
