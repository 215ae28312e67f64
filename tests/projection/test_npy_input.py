"""What programs may write as the header of a ``.npy`` file: read as numpy reads it, or refused."""

from __future__ import annotations

import ast
import io
import re
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from h5fs.errors import InvalidArrayError
from h5fs.projection.npy import format_header, parse_header
from h5fs.projection.npy_literal import parse_literal

DTYPES = npst.nested_dtypes()
ONE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


def header(text: str, version: int = 1) -> bytes:
    encoded = text.encode("utf-8" if version == 3 else "latin-1")
    length = len(encoded).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + encoded


def field(descr: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}"


def shape(text: str) -> str:
    return f"{{'descr': '<f8', 'fortran_order': False, 'shape': {text}, }}"


@pytest.mark.semantics("R8")
@given(DTYPES, npst.array_shapes(min_dims=0, min_side=0))
def test_every_header_that_numpy_writes_is_read(
    dtype: np.dtype[Any], dimensions: tuple[int, ...]
) -> None:
    try:
        data = format_header(dtype, dimensions)
        expected = np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
    except Exception:  # numpy's: empty parts make some ambiguous
        return
    assume(r"\x00" not in repr(dtype))  # HDF5 has no such names
    found = parse_header(data)
    assert found is not None
    assert (found.dtype, found.shape, found.is_fortran_order) == (expected, dimensions, False)
    assert found.size_bytes == len(data)


@pytest.mark.semantics("R8")
def test_three_thousand_fields_are_read_at_once() -> None:
    dtype = np.dtype([(f"field {number}", "<f8") for number in range(3000)])
    started = time.process_time()
    found = parse_header(format_header(dtype, (5,)))
    assert time.process_time() - started < 2
    assert found is not None
    assert found.dtype == dtype


@pytest.mark.semantics("R8")
@pytest.mark.parametrize(
    "text",
    [
        ONE,
        ONE.replace("(1,)", "(1L,)"),  # Python 2
        ONE.replace("'descr'", '"descr"'),
        ONE.replace("'<f8'", "'float64'"),
        ONE.replace(" ", ""),
        ONE.replace(" ", "\n\t ") + "  \n",
        ONE.replace("'<f8'", r"[('a\'\\\n\xe9\u20ac', '<f8'), (('title', 'b'), '<i2', (2, 3))]"),
    ],
)
def test_what_numpy_reads_is_read(text: str) -> None:
    found = parse_header(header(text))
    python_3 = text.replace("1L", "1")
    read = np.lib.format.read_array_header_1_0(io.BytesIO(header(python_3)[8:]))
    assert found is not None
    assert (found.shape, found.is_fortran_order, found.dtype) == read


LARGE = 250_000
BOMBS = {
    "hexadecimal shape": shape("(0x" + "f" * 5000 + ",)"),
    "shape of many digits": shape("(" + "9" * LARGE + ",)"),
    "shape of many dimensions": shape("(" + "1," * (LARGE // 2) + ")"),
    "brackets": "[" * LARGE,
    "braces": "{'a':" * (LARGE // 5),
    "parentheses around it": "(" * 300 + ONE + ")" * 300,
    "signs": "-" * LARGE + "1",
    "a record of text": field("'" + "i4," * (LARGE // 3) + "'"),
    "a repeat of parentheses": field("'" + "(" * LARGE + "i4'"),
    "a subarray of many dimensions": field("('<f8', (" + "1," * (LARGE // 2) + "))"),
    "nested fields": field("[('a', " * 99 + "'<f8'" + ")]" * 99 + "x"),
    "an endless item": field("'|V" + "9" * 90 + "'"),
    "a large item": shape("(9223372036854775807, 2)"),
    "a megabyte": " " * 2**20,
    "lone escape": field(r"[('\q', '<f8')]"),
    "beyond Unicode": field(r"[('\UFFFFFFFF', '<f8')]"),
    "sums": shape("(1+1,)"),
    "call": "__import__('os').system('true')",
    "bytes": ONE.replace("'<f8'", "b'<f8'"),
    "complex": shape("(1j,)"),
    "none": field("None"),
    "twice": ONE.replace("{", "{'shape': (2,), "),
    "no text for a key": "{1: 2}",
    "more keys": ONE.replace("{", "{'more': 1, "),
    "something after it": ONE + "1",
    "nothing": "",
    "objects": field("'|O'"),
    "null character in a name": field(r"[('a\x00b', '<f8')]"),
    "null character in an inner name": field(r"[('a', [('b\x00', '<f8')], (2,))]"),
    "half a character in a name": field(r"[('\ud800', '<f8')]"),
}


@pytest.mark.semantics("R8")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", BOMBS)
def test_a_header_made_to_cost_is_refused_soon(name: str, version: int) -> None:
    data = header(BOMBS[name], version)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(InvalidArrayError) as refused:
            parse_header(data)
        assert time.process_time() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 400


@given(
    st.binary(max_size=60)
    | st.text("{}[](),:'\"\\LuU 0123456789xTrueFalseNone<f8descrshapefortran_", max_size=60).map(
        lambda text: text.encode()
    )
)
@example(b"")
@example(ONE.encode())
def test_any_bytes_are_a_header_or_refused(text: bytes) -> None:
    for version in (1, 2, 3):
        length = len(text).to_bytes(2 if version == 1 else 4, "little")
        with suppress(InvalidArrayError):
            parse_header(b"\x93NUMPY" + bytes([version, 0]) + length + text)


literals = st.recursive(
    st.text(max_size=6) | st.integers(0, 10**20 - 1) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
)


@given(literals)
def test_a_literal_reads_back(value: object) -> None:
    assert parse_literal(repr(value)) == value
    assert parse_literal(ascii(value)) == value


@given(st.text(alphabet="[](){},:'\"\\ 019uLxn\n", max_size=20))
def test_what_is_read_is_what_python_reads(text: str) -> None:
    try:
        found = parse_literal(text)
    except ValueError:
        return
    # Python 2's 1L is 1; an L within a string stays.
    python_3 = re.sub(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|L""", r"\1", text, flags=re.DOTALL)
    assert found == ast.literal_eval(python_3.strip())
