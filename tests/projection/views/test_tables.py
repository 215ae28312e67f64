"""Tables: every line has the same length, whole or in pieces, and reads back to equal values."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.dtypes import SCALARS, compounds

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo, Enumeration, TextWidth
from h5fs.projection.views.columns import MOST_COLUMNS, Table, project_table
from h5fs.projection.views.lines import format_lines
from h5fs.projection.views.quoting import escape_text
from h5fs.projection.views.short_floats import as_float64

DTYPES = st.one_of(
    SCALARS,
    npst.datetime64_dtypes(endianness="?"),
    st.just(np.dtype("M8[10s]")),
    npst.timedelta64_dtypes(endianness="?"),
    compounds(st.one_of(SCALARS, compounds(SCALARS))),
)
SHAPES = st.one_of(st.just(()), npst.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5))


def table_of(array: npt.NDArray[Any], **more: Any) -> tuple[Table, bytes]:
    """Return the table of an array, and its lines."""
    table = project_table(DatasetInfo(array.shape, array.dtype, 0, **more))
    return table, format_lines(table, 0, table.row_count, array.tobytes())


def read_back(table: Table, lines: bytes) -> list[dict[str, str]]:
    """Return the rows as Python's csv module reads them, without ``row``."""
    text = io.StringIO((table.header + lines).decode(), newline="")
    names, *rows = csv.reader(text, strict=True)
    assert all(len(row) == len(names) for row in rows)
    expected = [name for run in table.runs for name in run.names]
    assert len(names) == len(expected)
    if expected[:1] == ["row"] and table.runs[0].kind.name == "ROW":
        assert [row[0].strip() for row in rows] == [str(i) for i in range(len(rows))]
        return [dict(zip(range(len(names) - 1), row[1:], strict=True)) for row in rows]  # type: ignore[arg-type]
    return [dict(zip(range(len(names)), row, strict=True)) for row in rows]  # type: ignore[arg-type]


def leaves(value: Any, dtype: np.dtype[Any]) -> list[Any]:
    """Return the scalars of an element in the order of the columns."""
    if dtype.names is not None and dtype.fields is not None:
        return [leaf for name in dtype.names for leaf in leaves(value[name], dtype.fields[name][0])]
    if dtype.subdtype is not None:
        base = dtype.base
        flat = np.asarray(value).reshape(-1) if base.names is None else value.reshape(-1)
        return [leaf for each in flat for leaf in leaves(each, base)]
    if dtype.kind == "c":
        return [value.real, value.imag]
    return [value]


def is_far(value: Any) -> bool:
    """Whether numpy cannot say which date a number of its unit is."""
    return abs(int(value.view("i8"))) * np.datetime_data(value.dtype)[1] >= 2**63


def check_equal(text: str, value: Any) -> None:
    """Fail unless a field says a value."""
    kind = value.dtype.kind if isinstance(value, np.generic) else None
    if kind == "f":
        read = type(value)(text)
        assert np.isnan(value) if np.isnan(read) else read == value
        assert bool(np.signbit(read)) == bool(np.signbit(value)) or np.isnan(value)
    elif kind in ("i", "u"):
        assert int(text) == value
    elif kind == "b":
        assert text == str(bool(value)).lower()
    elif kind == "M" and not np.isnat(value) and is_far(value):
        assert int(text) == value.view("i8")
    elif kind == "M":
        assert text == str(np.datetime_as_string(value)) or (text == "NaT" and np.isnat(value))
    elif kind == "m":
        assert text == "NaT" if np.isnat(value) else int(text) == value.view("i8")
    elif kind == "V":
        assert text == "0x" + value.tobytes().hex()
    elif isinstance(value, bytes):
        try:
            assert text == value.decode().replace("\0", "\\0")
        except UnicodeDecodeError:
            assert text == value.decode("latin-1").replace("\0", "\\0")
    else:
        assert text == str(value).encode("utf-8", "replace").decode().replace("\0", "\\0")


@st.composite
def arrays(draw: st.DrawFn) -> npt.NDArray[Any]:
    dtype = np.dtype(draw(DTYPES))
    shape = draw(SHAPES)
    count = int(np.prod(shape)) * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=count, max_size=count)))
    array = np.ndarray(shape, dtype, data)
    for leaf, width in unicode_parts(dtype):
        part = array
        for name in leaf:
            part = part[name]
        part[...] = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=width))
    return array


def unicode_parts(dtype: np.dtype[Any]) -> list[tuple[list[str], int]]:
    """Return the fields of text, which random bytes are none of, and how many characters fit."""
    if dtype.subdtype is not None:
        return unicode_parts(dtype.base)
    if dtype.names is None or dtype.fields is None:
        return [([], dtype.itemsize // 4)] if dtype.kind == "U" else []
    return [
        ([name, *rest], width)
        for name in dtype.names
        for rest, width in unicode_parts(dtype.fields[name][0])
    ]


@pytest.mark.semantics("V4", "V5", "V6")
@settings(max_examples=300, deadline=None)
@given(arrays())
def test_every_line_has_the_same_length_and_parses_back_to_equal_values(
    array: npt.NDArray[Any],
) -> None:
    table, lines = table_of(array)
    assert len(lines) == table.row_count * table.line_bytes
    assert table.size_bytes == len(table.header) + len(lines)
    assert all(lines[at - 1 : at] == b"\n" for at in
               range(table.line_bytes, len(lines) + 1, table.line_bytes))  # fmt: skip
    rows = array if array.ndim else array.reshape(1)
    row_dtype = np.dtype((array.dtype, array.shape[1:])) if array.ndim > 1 else array.dtype
    for fields, row in zip(read_back(table, lines), rows, strict=True):
        values = leaves(row, row_dtype)
        for text, value in zip(fields.values(), values, strict=True):
            check_equal(text, value)


@pytest.mark.semantics("V5")
@pytest.mark.parametrize("byte_order", "<>")
def test_dates_beyond_all_calendars_are_numbers(byte_order: str) -> None:
    counts = np.array([2**62, 1, -(2**63), -(2**62)])
    _, lines = table_of(counts.view("M8[25s]").astype(f"{byte_order}M8[25s]"))
    assert [line.split(b",")[-1].strip() for line in lines.splitlines()] == [
        b"4611686018427387904", b"1970-01-01T00:00:25", b"NaT", b"-4611686018427387904"
    ]  # fmt: skip


@pytest.mark.semantics("V3")
@settings(max_examples=100, deadline=None)
@given(arrays(), st.data())
def test_lines_made_in_pieces_are_those_made_at_once(
    array: npt.NDArray[Any], data: st.DataObject
) -> None:
    table, lines = table_of(array)
    first = data.draw(st.integers(0, table.row_count))
    last = data.draw(st.integers(first, table.row_count))
    raw = array.tobytes()[first * table.row_bytes : last * table.row_bytes]
    made = format_lines(table, first, last - first, raw)
    assert made == lines[first * table.line_bytes : last * table.line_bytes]


@pytest.mark.semantics("V5")
@pytest.mark.parametrize("dtype", ["<f2", ">f2"])
def test_every_float16_is_its_shortest_decimal(dtype: str) -> None:
    values = np.arange(2**16, dtype="<u2").view("<f2").astype(dtype)
    values = values[np.isfinite(values)]
    wide = as_float64(values)
    assert np.array_equal(wide.astype("f2"), values)
    expected = [float(value) if value == np.trunc(value) else float(str(value)) for value in values]
    assert expected == wide.tolist()  # a whole number is written as it is


@pytest.mark.semantics("V5")
@settings(deadline=None)
@given(npst.arrays("u4", 500))
@example(np.array([1, 0x00800000, 0x7F7FFFFF, 0x80000000], "u4"))
def test_every_float32_is_its_shortest_decimal(bits: npt.NDArray[Any]) -> None:
    values = bits.view("f4")
    values = values[np.isfinite(values)]
    assert [float(str(value)) for value in values] == as_float64(values).tolist()


@pytest.mark.semantics("V6")
def test_a_number_takes_the_blanks_of_what_must_have_none() -> None:
    array = np.array(
        [(1, b"ab", 1.5, True), (-200, b"abcd", np.nan, False)],
        [("n", "i2"), ("s", "S4"), ("x", "f4"), ("b", "?")],
    )
    table, lines = table_of(array)
    assert table.header == b"n,s,x,b\n"
    assert lines.decode().splitlines() == [
        '     1,"ab",' + " " * 23 + "1.5,true",
        " " * 21 + ' -200,"abcd",nan,false',
    ]  # the blanks of "ab" went to 1.5, those of nan to -200


@pytest.mark.semantics("V6")
@pytest.mark.parametrize("dtype", ["f8", "c16", [("a", "f4"), ("b", "f2")]])
def test_no_blank_is_beside_nan_where_all_of_a_line_is_nan(dtype: Any) -> None:
    array = np.ones(3, dtype)
    array[1] = np.frombuffer(b"\xff" * array.dtype.itemsize, dtype)[0]  # every float in it is nan
    table, lines = table_of(array)
    number, *floats = lines.decode().splitlines()[1].split(",")
    assert number.strip() == "1"
    assert set(floats) == {"nan"}
    assert len(lines) == 3 * table.line_bytes


@pytest.mark.semantics("V6")
@pytest.mark.parametrize(
    ("dtype", "shape", "has_row"),
    [
        ("i4", (3,), False), ("f8", (3,), True), ("f8", (3, 2), True), ("?", (3, 4), True),
        ("S3", (3,), True), ("c16", (3,), True), ([("a", "S2"), ("b", "f4")], (3,), True),
        ([("a", "S2"), ("b", "i4")], (3,), False), ("M8[s]", (), True),
    ],
)  # fmt: skip
def test_a_table_whose_lines_may_have_no_number_numbers_its_rows(
    dtype: Any, shape: tuple[int, ...], has_row: bool
) -> None:
    table = project_table(DatasetInfo(shape, np.dtype(dtype), 0))
    assert table.header.startswith(b"row,") == has_row


@pytest.mark.semantics("V4")
def test_columns_are_named_by_fields_and_numbers() -> None:
    nested = np.dtype([("a", [("b", "i4"), ("c", "f4", (2,))]), ("d", "c8"), ('e,"', "i1", (1, 2))])
    table = project_table(DatasetInfo((1,), nested, 0))
    assert table.header == b'a.b,a.c[0],a.c[1],d.real,d.imag,"e,""[0,0]","e,""[0,1]"\n'
    assert project_table(DatasetInfo((2, 3), np.dtype("i4"), 0)).header == b"0,1,2\n"
    assert project_table(DatasetInfo((2,), np.dtype("c16"), 0)).header == b"row,real,imag\n"
    assert project_table(DatasetInfo((2,), np.dtype(("i4", (2,))), 0)).header == b"0,1\n"
    pairs = np.dtype([("p", "i2"), ("q", "i2")])
    assert project_table(DatasetInfo((2, 2), pairs, 0)).header == b"0.p,0.q,1.p,1.q\n"
    assert project_table(DatasetInfo(None, np.dtype("i4"), 0)).size_bytes == len("value\n")


@pytest.mark.semantics("V5")
def test_enumerations_are_written_by_their_names() -> None:
    dtype = np.dtype([("state", "i1"), ("n", "i4")])
    names = (Enumeration((b"state",), ((b"on", 1), (b'off "now"', 2))),)
    array = np.array([(1, 10), (2, 11), (3, 12)], dtype)
    table, lines = table_of(array, enumerations=names)
    rows = [tuple(row.values()) for row in read_back(table, lines)]
    assert [(state, int(n)) for state, n in rows] == [("on", 10), ('off "now"', 11), ("3", 12)]


@pytest.mark.semantics("V6")
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_text_is_as_wide_as_the_longest_of_it(texts: list[bytes]) -> None:
    array = np.array(texts)
    if not array.dtype.itemsize:
        return
    longest = max(len(escape_text(text)) for text in array.tolist())
    table, lines = table_of(array, text_widths=(TextWidth((), longest),))
    assert table.line_bytes == len('0,""\n') + longest
    assert len(lines) == table.line_bytes * len(texts)


@pytest.mark.semantics("V4")
def test_what_has_no_table() -> None:
    with pytest.raises(UnsupportedTypeError):
        project_table(DatasetInfo((2, 2, 2), np.dtype("i4"), 0))
    with pytest.raises(TooLargeError):
        project_table(DatasetInfo((2, MOST_COLUMNS + 1), np.dtype("i1"), 0))
    with pytest.raises(TooLargeError):
        project_table(DatasetInfo((2,), np.dtype("S10000000"), 0))
    assert project_table(DatasetInfo((2, MOST_COLUMNS), np.dtype("i1"), 0)).size_bytes
