"""Datasets of text as files of text: an element a line, for grep and for eyes.

Lines have the same length, like those of a table; blanks fill them up at their end. Nothing is
quoted: a character that would end the line, or make grep take the file for a binary one, is shown
as a blank.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.columns import ColumnRun, FieldKind, Table

MOST_TEXT_BYTES = 2**26
"""Larger files of text are not shown: ``grep -r`` goes through all of each."""

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_BLANKED = bytes.maketrans(b"\0\n\r\v\f", b"     ")
_BLANKED_IN_ONE = bytes.maketrans(b"\0", b" ")


def project_text(dataset: DatasetInfo) -> Table:
    """Return the lines of a dataset of text, as a table of one column without a header.

    The last dimension of an array of single characters is a line, as netCDF means it. Raises
    ``UnsupportedTypeError`` for what is no text, ``TooLargeError``.
    """
    shape, dtype = (0,) if dataset.shape is None else dataset.shape, dataset.dtype
    shape, dtype = (*shape, *dtype.shape), dtype.base
    if dtype.kind not in "SU":
        raise UnsupportedTypeError("no text")
    if dtype == np.dtype("S1") and len(shape) > 0 and shape[-1]:
        shape, dtype = shape[:-1], np.dtype(f"S{shape[-1]}")
    width = dtype.itemsize
    if dataset.text_widths:
        width = dataset.text_widths[0].text_bytes
    count = prod(shape)
    if count * (width + 1) > MOST_TEXT_BYTES:
        raise TooLargeError(f"a file of text of more than {MOST_TEXT_BYTES} bytes")
    run = ColumnRun(FieldKind.TEXT, dtype, 0, width, ("",))
    return Table(b"", (run,), count, dtype.itemsize, width + 1)


def format_text(table: Table, data: Any) -> bytes:
    """Return lines of a file of text; ``data`` holds their elements."""
    run = table.runs[0]
    blanked = _BLANKED_IN_ONE if table.row_count == 1 else _BLANKED
    values = np.frombuffer(data, run.dtype).tolist()
    if run.dtype.kind == "U":
        values = [value.encode("utf-8", "replace") for value in values]
    return b"".join(
        _as_utf8(text, run.width).translate(blanked).ljust(run.width) + b"\n" for text in values
    )


def _as_utf8(text: bytes, width: int) -> bytes:
    """Return text as UTF-8 of at most ``width`` bytes; what is not UTF-8 is taken for Latin-1."""
    if text.isascii():
        return text
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        latin = text.decode("latin-1").encode("utf-8")
        return latin if len(latin) <= width else _BEYOND_ASCII.sub(b"?", text)
    return text
