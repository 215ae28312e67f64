"""The columns of a table: which there are, how wide their fields get, and so how long a line is.

All of it follows from a dataset's shape and type (and, for text of variable length, from the scan
that its ``.npy`` file needs anyway), so that the size of a table is known before an element is
read.

What readers of CSV take for padding was found by trial (see ``[V6]`` in SEMANTICS.md): each of them
takes blanks before a number; none drops blanks around or within quotes; and pandas takes ``nan``,
``inf``, ``true`` and dates for text where a blank is beside them. So only numbers are padded, also
for the other fields of their line. A table in which a line may have no number has a first column
``row``, the number of the row.
"""

from __future__ import annotations

import functools
import itertools
from enum import Enum
from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo, Enumeration, TextWidth
from h5fs.projection.npy import OFFSET_MAX
from h5fs.projection.views.quoting import quote_text

MOST_COLUMNS = 16_384
"""As many as LibreOffice and Excel show."""

MOST_LINE_BYTES = 2**24
"""A line is made as a whole, so that it must not be too long."""

ROW_COLUMN = "row"
_VALUE_COLUMN = "value"
_MOST_RANK = 2
_QUOTES = 2


class FieldKind(Enum):
    """How the fields of a column are written."""

    ROW = "number of the row"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATE = "date"
    DURATION = "duration"
    TEXT = "text"
    NAMED = "enumeration"
    OPAQUE = "opaque"


class ColumnRun(Struct, frozen=True):
    """Columns of one dtype, whose values lie one after another from byte ``offset`` of a row on.

    ``width``: of the longest field. ``names``: of the columns. ``members``: of an enumeration.
    """

    kind: FieldKind
    dtype: np.dtype[Any]
    offset: int
    width: int
    names: tuple[str, ...]
    members: tuple[tuple[bytes, int], ...] = ()

    @property
    def count(self) -> int:
        """Number of columns."""
        return len(self.names)


class Table(Struct, frozen=True):
    """A table: its header line, and ``row_count`` lines of ``line_bytes`` each.

    A row is ``row_bytes`` of the array.
    """

    header: bytes
    runs: tuple[ColumnRun, ...]
    row_count: int
    row_bytes: int
    line_bytes: int

    @property
    def size_bytes(self) -> int:
        """Size of the whole file. Raises ``TooLargeError`` when ``off_t`` cannot hold it."""
        size = len(self.header) + self.row_count * self.line_bytes
        if size > OFFSET_MAX:
            raise TooLargeError(f"the table would have {size} bytes")
        return size


def is_tabular(shape: tuple[int, ...] | None) -> bool:
    """Whether datasets of a shape have tables: they have at most two dimensions."""
    return shape is None or len(shape) <= _MOST_RANK


def project_table(dataset: DatasetInfo) -> Table:
    """Return the table of a dataset.

    Raises ``UnsupportedTypeError`` for more than two dimensions, and ``TooLargeError`` where the
    table would have too many columns or too long lines.
    """
    shape = (0,) if dataset.shape is None else dataset.shape
    if not is_tabular(shape):
        raise UnsupportedTypeError(f"a table of {len(shape)} dimensions")
    return _project(shape, dataset.dtype, dataset.enumerations, dataset.text_widths)


@functools.lru_cache(maxsize=1024)  # a file often has thousands of arrays of one dtype and shape
def _project(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    enumerations: tuple[Enumeration, ...],
    text_widths: tuple[TextWidth, ...],
) -> Table:
    row_count = shape[0] if shape else 1
    if len(shape) > 1 and shape[1] > MOST_COLUMNS:
        raise TooLargeError(f"a table of more than {MOST_COLUMNS} columns")
    row_dtype = np.dtype((dtype, shape[1:])) if len(shape) > 1 else dtype
    # Columns are named by number where no field gives a name.
    is_matrix = len(shape) > 1 or dtype.subdtype is not None
    walk = _Walk(enumerations, text_widths)
    walk.add(row_dtype, 0, "", is_matrix=is_matrix)
    runs = walk.runs
    if not _always_has_number(runs):
        width = len(str(max(row_count - 1, 0)))
        row = ColumnRun(FieldKind.ROW, np.dtype("<i8"), 0, width, (ROW_COLUMN,))
        runs = [row, *runs]
    names = [name for run in runs for name in run.names]
    line_bytes = sum(run.count * (run.width + 1) for run in runs)
    if line_bytes > MOST_LINE_BYTES:
        raise TooLargeError(f"a table with lines of {line_bytes} bytes")
    header = ",".join(map(_quote_name, names)).encode("utf-8", "backslashreplace") + b"\n"
    return Table(header, tuple(runs), row_count, row_dtype.itemsize, line_bytes)


def _always_has_number(runs: list[ColumnRun]) -> bool:
    """Whether each line has a number that may have blanks before it: all floats may be nan."""
    return any(run.kind is FieldKind.INTEGER for run in runs)


class _Walk:
    """Gathers the columns of a row's dtype."""

    def __init__(
        self, enumerations: tuple[Enumeration, ...], text_widths: tuple[TextWidth, ...]
    ) -> None:
        self.runs: list[ColumnRun] = []
        self._enumerations = {each.path: each for each in enumerations}
        self._text_widths = {each.path: each.size_bytes + _QUOTES for each in text_widths}
        self._count = 0

    def add(
        self,
        dtype: np.dtype[Any],
        offset: int,
        name: str,
        *,
        path: tuple[bytes, ...] = (),
        is_matrix: bool = False,
    ) -> None:
        """Add the columns of a part of a row."""
        if dtype.names is not None and dtype.fields is not None:
            for field in dtype.names:
                inner, at = dtype.fields[field][:2]
                own = f"{name}.{field}" if name else field
                inside = (*path, field.encode("utf-8", "surrogateescape"))
                self.add(inner, offset + at, own, path=inside)
        elif dtype.subdtype is None:
            self._add_run(dtype, offset, (name or _VALUE_COLUMN,), path)
        else:
            self._add_array(dtype, offset, name, path=path, is_matrix=is_matrix)

    def _add_array(
        self,
        dtype: np.dtype[Any],
        offset: int,
        name: str,
        *,
        path: tuple[bytes, ...],
        is_matrix: bool,
    ) -> None:
        base, shape = dtype.base, dtype.shape
        count = int(np.prod(shape, dtype=object))
        self._check(count)
        names = []
        for index in itertools.product(*map(range, shape)):
            number = ",".join(map(str, index))
            names.append(number if is_matrix else f"{name}[{number}]")
        if base.names is None:
            if count:
                self._add_run(base, offset, tuple(names), path)
            return
        for place, own in enumerate(names):
            self.add(base, offset + place * base.itemsize, own, path=path)

    def _check(self, more: int) -> None:
        if self._count + more > MOST_COLUMNS:
            raise TooLargeError(f"a table of more than {MOST_COLUMNS} columns")

    def _add_run(
        self, dtype: np.dtype[Any], offset: int, names: tuple[str, ...], path: tuple[bytes, ...]
    ) -> None:
        if dtype.kind == "c":
            parts = tuple(f"{each}.{part}" for each in names for part in ("real", "imag"))
            if names == (_VALUE_COLUMN,):
                parts = ("real", "imag")
            names, dtype = parts, _real_dtype(dtype)
        self._count += len(names)
        self._check(0)
        members: tuple[tuple[bytes, int], ...] = ()
        enumeration = self._enumerations.get(path)
        if enumeration is not None and dtype.kind in "iu":
            kind, members = FieldKind.NAMED, enumeration.members
            width = _named_width(enumeration, dtype)
        else:
            kind, width = _kind_and_width(dtype)
            if kind is FieldKind.TEXT:
                width = self._text_widths.get(path, width)
        self.runs.append(ColumnRun(kind, dtype, offset, width, names, members))


def _real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the two numbers that a complex one is."""
    return np.dtype(f"{dtype.byteorder}f{dtype.itemsize // 2}")


_FLOAT_WIDTHS = {
    2: len("-0.000061035"),
    4: len("-9999999000000000.0"),
    8: len("-2.2250738585072014e-308"),
    16: len("-1.18973149535723176502e+4932"),
}


def _kind_and_width(dtype: np.dtype[Any]) -> tuple[FieldKind, int]:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return FieldKind.INTEGER, max(len(str(limits.min)), len(str(limits.max)))
    if dtype.kind == "f":
        return FieldKind.FLOAT, _FLOAT_WIDTHS[dtype.itemsize]
    if dtype.kind == "b":
        return FieldKind.BOOLEAN, len("false")
    if dtype.kind == "M":
        return FieldKind.DATE, _date_width(dtype)
    if dtype.kind == "m":
        return FieldKind.DURATION, len(str(-(2**63)))
    if dtype.kind == "S":
        # Two for each byte: a quote is doubled, and a byte beyond ASCII may be a Latin-1 letter.
        return FieldKind.TEXT, 2 * dtype.itemsize + _QUOTES
    if dtype.kind == "U":
        return FieldKind.TEXT, dtype.itemsize + _QUOTES  # four bytes for each character, as UTF-8
    if dtype.kind == "V":
        return FieldKind.OPAQUE, 2 * dtype.itemsize + len("0x")
    raise UnsupportedTypeError(f"no table has a column of {dtype}")


# How many characters the year of the first or last date may have beyond four.
_MORE_YEAR_DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 1, "ps": 1, "fs": 1, "as": 1}


def _date_width(dtype: np.dtype[Any]) -> int:
    unit, step = np.datetime_data(dtype)
    if unit == "generic":
        raise UnsupportedTypeError("dates without a unit")
    # The year of a coarse unit has as many digits as the number that is stored.
    more = _MORE_YEAR_DIGITS.get(unit, 16) if step == 1 else 16
    return len(str(np.zeros(1, dtype.newbyteorder("="))[0])) + more


def _named_width(enumeration: Enumeration, dtype: np.dtype[Any]) -> int:
    limits = np.iinfo(dtype)
    return max(
        len(str(limits.min)), len(str(limits.max)),
        *(len(quote_text(name)) for name, _ in enumeration.members),
    )  # fmt: skip


def _quote_name(name: str) -> str:
    """Return a name as a field of the header: in quotes where RFC 4180 asks for them."""
    text = "".join(c if c.isprintable() else " " for c in name)
    if any(c in text for c in ',"') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text
