"""Rows of an array as the lines of a table: every line of a table has the same length.

The blanks that a field lacks, and must not have itself, go to a number: the next one in the line,
else the last one before the field. So numbers stay below each other, and readers drop the blanks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from h5fs.projection.views.columns import ColumnRun, FieldKind, Table
from h5fs.projection.views.fields import Fields, format_fields

_BLANK = ord(" ")
_NEWLINE = ord("\n")

Numbers = npt.NDArray[np.int64]


def format_lines(table: Table, first_row: int, row_count: int, data: Any) -> bytes:
    """Return lines of a table; ``data`` holds ``row_count`` rows from ``first_row`` on."""
    formatted = [
        format_fields(run, _values_of(run, table, first_row, row_count, data)) for run in table.runs
    ]
    counts = [run.count for run in table.runs]
    lengths = _side_by_side([fields.lengths for fields in formatted], counts, row_count)
    ends = _ends_of(table, formatted, lengths)
    starts = ends - lengths + np.arange(row_count)[:, None] * table.line_bytes
    lines = np.full(row_count * table.line_bytes, _BLANK, np.uint8)
    first = 0
    for run, fields in zip(table.runs, formatted, strict=True):
        _place(lines, fields, starts[:, first : first + run.count].reshape(-1))
        first += run.count
    lines[table.line_bytes - 1 :: table.line_bytes] = _NEWLINE
    return lines.tobytes()


def _values_of(
    run: ColumnRun, table: Table, first_row: int, row_count: int, data: Any
) -> npt.NDArray[Any]:
    """Return the values of a run's columns, row-major."""
    if run.kind is FieldKind.ROW:
        return np.arange(first_row, first_row + row_count)
    item_bytes = run.dtype.itemsize
    if not item_bytes or not row_count:
        return np.zeros(row_count * run.count, run.dtype)
    strides = (table.row_bytes, item_bytes)
    shape = (row_count, run.count)
    return np.ndarray(shape, run.dtype, data, run.offset, strides).reshape(-1)


def _side_by_side(
    each: list[npt.NDArray[Any]], counts: list[int], row_count: int
) -> npt.NDArray[Any]:
    """Join what is known of each run's fields: a row for each line, a column for each field."""
    columns = [some.reshape(row_count, count) for some, count in zip(each, counts, strict=True)]
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def _ends_of(table: Table, formatted: list[Fields], lengths: Numbers) -> Numbers:
    """Return where each field ends in its line."""
    counts = [run.count for run in table.runs]
    widths = np.repeat([run.width for run in table.runs], counts)
    ends: Numbers = np.cumsum(widths + 1) - 1
    if all(fields.are_padded.all() for fields in formatted):
        return ends
    are_padded = _side_by_side([fields.are_padded for fields in formatted], counts, len(lengths))
    missing = np.where(are_padded, 0, widths - lengths)
    if not missing.any():
        return ends
    blanks = np.where(are_padded, widths - lengths, 0)
    _move(missing, blanks, _takers(are_padded))
    shifted: Numbers = np.cumsum(blanks + lengths + 1, axis=1) - 1
    return shifted


def _move(missing: Numbers, blanks: Numbers, takers: Numbers) -> None:
    """Add the blanks that are missing to the fields that take them."""
    lines, columns = np.nonzero(missing)
    places = lines * blanks.shape[1] + takers[lines, columns]
    more = np.bincount(places, missing[lines, columns], blanks.size)
    blanks += more.astype(np.int64).reshape(blanks.shape)


def _takers(are_padded: npt.NDArray[np.bool_]) -> Numbers:
    """Return which column of the same line takes the blanks that a field lacks."""
    count = are_padded.shape[1]
    columns = np.arange(count)
    after = np.where(are_padded, columns, count)[:, ::-1]
    after = np.minimum.accumulate(after, axis=1)[:, ::-1]
    before = np.maximum.accumulate(np.where(are_padded, columns, -1), axis=1)
    # Each line has a number that takes blanks: that of its row, or an integer.
    takers: Numbers = np.where(after < count, after, before)
    return takers


def _place(lines: npt.NDArray[np.uint8], fields: Fields, starts: Numbers) -> None:
    """Copy fields, each with the comma behind it, to where they start."""
    sizes = fields.lengths + 1
    own_starts = np.cumsum(sizes) - sizes
    places = np.repeat(starts - own_starts, sizes)
    places += np.arange(len(places))
    lines[places] = fields.text
