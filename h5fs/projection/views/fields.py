"""Values of an array as the fields of a table, thousands at a time.

Numbers go through msgspec's JSON encoder, which writes the shortest decimal that reads back to the
same float64 (faster than numpy's or pandas' own ways by ten times); everything else is done to all
values at once, too, where numpy can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from h5fs.projection.views.columns import ColumnRun, FieldKind
from h5fs.projection.views.quoting import quote_text
from h5fs.projection.views.short_floats import as_float64

Bytes = npt.NDArray[np.uint8]

_COMMA = ord(",")


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields one after another: ``text`` has a comma behind each, which ``lengths`` do not count.

    ``are_padded``: which fields may have blanks before them.
    """

    text: Bytes
    lengths: npt.NDArray[np.int64]
    are_padded: npt.NDArray[np.bool_]


def format_fields(run: ColumnRun, values: npt.NDArray[Any]) -> Fields:
    """Return the fields of values, row-major; ``values`` are flat and of the run's dtype."""
    if run.kind is FieldKind.FLOAT:
        return _format_floats(values)
    if run.kind in (FieldKind.INTEGER, FieldKind.ROW):
        return _numbers(msgspec.json.encode(values.tolist()), len(values))
    if run.kind is FieldKind.DURATION:
        return _format_durations(values)
    return _texts(_TEXTS_OF[run.kind](run, values))


# --- numbers


def _numbers(encoded: bytes, count: int) -> Fields:
    """Return the fields of a JSON array of numbers."""
    text = np.frombuffer(bytearray(encoded), np.uint8)[1:]
    if not count:
        return Fields(text[:0], np.zeros(0, np.int64), np.zeros(0, np.bool_))
    text[-1] = _COMMA
    ends = np.flatnonzero(text == _COMMA)
    return Fields(text, np.diff(ends, prepend=-1) - 1, np.ones(count, np.bool_))


# JSON has no words for these: a number of the same length is written, and then overwritten.
_PLACEHOLDERS = ((0.0, b"nan"), (0.5, b"inf"), (0.25, b"-inf"))


def _format_floats(values: npt.NDArray[Any]) -> Fields:
    if values.dtype.itemsize > 8:
        return _format_long_floats(values)
    wide = as_float64(values)
    are_finite = np.isfinite(wide)
    if are_finite.all():
        return _numbers(msgspec.json.encode(wide.tolist()), len(wide))
    masks = (np.isnan(wide), wide == np.inf, wide == -np.inf)
    wide = wide.copy()
    for mask, (placeholder, _) in zip(masks, _PLACEHOLDERS, strict=True):
        wide[mask] = placeholder
    fields = _numbers(msgspec.json.encode(wide.tolist()), len(wide))
    for mask, (_, word) in zip(masks, _PLACEHOLDERS, strict=True):
        _write_over(fields, mask, word)
    return Fields(fields.text, fields.lengths, are_finite)


def _write_over(fields: Fields, mask: npt.NDArray[np.bool_], word: bytes) -> None:
    """Write a word over fields of the same length."""
    ends = np.cumsum(fields.lengths + 1) - 1
    starts = (ends - fields.lengths)[mask]
    for place, character in enumerate(word):
        fields.text[starts + place] = character


def _format_long_floats(values: npt.NDArray[Any]) -> Fields:
    fields = _texts([str(value).encode() for value in values])
    return Fields(fields.text, fields.lengths, np.isfinite(values))


def _format_durations(values: npt.NDArray[Any]) -> Fields:
    """Return durations as numbers of their unit, and ``NaT``."""
    counts = values.astype(values.dtype.newbyteorder("=")).view(np.int64).copy()
    mask = np.isnat(values)
    counts[mask] = 100  # as long as "NaT"
    fields = _numbers(msgspec.json.encode(counts.tolist()), len(counts))
    if mask.any():
        _write_over(fields, mask, b"NaT")
    return Fields(fields.text, fields.lengths, ~mask)


# --- what is no number


def _texts(texts: list[bytes]) -> Fields:
    joined = b",".join(texts) + b"," if texts else b""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    text = np.frombuffer(bytearray(joined), np.uint8)
    return Fields(text, lengths, np.zeros(len(texts), np.bool_))


def _booleans(_run: ColumnRun, values: npt.NDArray[Any]) -> list[bytes]:
    return [b"true" if value else b"false" for value in values.tolist()]


def _dates(_run: ColumnRun, values: npt.NDArray[Any]) -> list[bytes]:
    native = values.astype(values.dtype.newbyteorder("="))
    if not len(native):
        return []
    # Dates that numpy cannot count in single units (a step of a thousand years, many times over)
    # are their numbers: numpy 2.5 has an error for them, and earlier ones another date.
    counts = native.view(np.int64)
    most = (2**63 - 1) // np.datetime_data(native.dtype)[1]
    is_far = ((counts > most) | (counts < -most)) & ~np.isnat(native)
    near = np.where(is_far, np.array("NaT", native.dtype), native)
    texts = np.datetime_as_string(near).astype("S")
    return [
        b"%d" % count if far else text
        for text, count, far in zip(texts.tolist(), counts.tolist(), is_far.tolist(), strict=True)
    ]


def _strings(_run: ColumnRun, values: npt.NDArray[Any]) -> list[bytes]:
    if values.dtype.kind == "U":
        return [quote_text(value.encode("utf-8", "replace")) for value in values.tolist()]
    return [quote_text(value) for value in values.tolist()]


def _names(run: ColumnRun, values: npt.NDArray[Any]) -> list[bytes]:
    # Of two names for one value the first one counts, as in HDF5.
    names = {value: quote_text(name) for name, value in reversed(run.members)}
    return [names.get(value) or b"%d" % value for value in values.tolist()]


def _opaque(run: ColumnRun, values: npt.NDArray[Any]) -> list[bytes]:
    size = run.dtype.itemsize
    digits = values.tobytes().hex().encode()
    return [b"0x" + digits[2 * at : 2 * (at + size)] for at in range(0, len(values) * size, size)]


_TEXTS_OF = {
    FieldKind.BOOLEAN: _booleans,
    FieldKind.DATE: _dates,
    FieldKind.TEXT: _strings,
    FieldKind.NAMED: _names,
    FieldKind.OPAQUE: _opaque,
}
