"""Elements with variable-length parts: how wide they get, and arrays of one width for all.

``.npy`` has no variable-length type, and h5fs never uses pickle. So every such part gets the width
of its longest value:

- a variable-length string, or the path that a reference leads to, is ``U{n}``, n its characters,
  or ``S{n}``, n its bytes, when some value is not UTF-8;
- a variable-length sequence within a compound, an array or another sequence is a pair
  (``length``, ``values``), the values filled up with zeros.

Works on arrays as h5py reads them: objects stand for such parts, and the metadata of a dtype says
of which kind they are (``vlen``: a string type or the dtype of one value). Texts without a null may
come in a fixed width, too, filled up with nulls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from h5fs.model.objects import TextWidth
from h5fs.projection.npy import npy_dtype
from h5fs.projection.views.quoting import escape_text

Array = np.ndarray[Any, Any]

TextOf = Callable[[Any], bytes]
"""Returns the bytes that stand for one object: a string's own, or a reference's path."""


class Part(Protocol):
    """A part of a type: learns how wide its values are, then lays them out."""

    def measure(self, values: Array) -> int:
        """Learn from values, of any shape; return about how many bytes they take."""

    def dtype(self) -> np.dtype[Any]:
        """Return the dtype that holds every value measured so far."""

    def text_widths(self, path: tuple[bytes, ...]) -> tuple[TextWidth, ...]:
        """Return how long texts get in a table; ``path`` names the fields that lead here."""

    def convert(self, values: Array) -> Array:
        """Return values in that dtype, of the same shape (a subarray dtype's dimensions trail)."""


def make_part(dtype: np.dtype[Any], text_of_reference: TextOf) -> Part:
    """Return the part for elements that h5py reads as ``dtype``."""
    if not dtype.hasobject:
        return _Fixed(dtype)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return _Subarray(make_part(base, text_of_reference), shape)
    if dtype.names is not None and dtype.fields is not None:
        members = {
            name: make_part(dtype.fields[name][0], text_of_reference) for name in dtype.names
        }
        return _Compound(members)
    if _vlen_of(dtype) in (str, bytes):
        return _Text(_bytes_of_string)
    element = sequence_base(dtype)
    if element is not None:
        return _Sequence(make_part(element, text_of_reference), element)
    return _Text(text_of_reference)


def sequence_base(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype of one value where ``dtype`` is h5py's for variable-length sequences."""
    base = _vlen_of(dtype)
    return base if isinstance(base, np.dtype) else None


def _vlen_of(dtype: np.dtype[Any]) -> Any:
    """Return what h5py's ``check_vlen_dtype`` does: ``str``, ``bytes``, a dtype, or None."""
    return None if dtype.metadata is None else dtype.metadata.get("vlen")


def _bytes_of_string(value: Any) -> bytes:
    # Where the file has a null pointer, h5py leaves the 0 that it put into the new array.
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) else b""


class _Fixed:
    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = npy_dtype(dtype)

    def measure(self, values: Array) -> int:
        return values.nbytes

    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def text_widths(self, path: tuple[bytes, ...]) -> tuple[TextWidth, ...]:
        del path
        return ()

    def convert(self, values: Array) -> Array:
        # The same bytes, not a copy: numpy copies the members of a compound by their place, and
        # h5py has them in another order where the file declares them in another one.
        return values.view(self._dtype.base)


class _Text:
    def __init__(self, text_of: TextOf) -> None:
        self._text_of = text_of
        self._characters = 1  # numpy's own minimum, for arrays of empty strings
        self._bytes = 0
        self._field_bytes = 0
        self._is_utf8 = True

    def measure(self, values: Array) -> int:
        if values.dtype.kind == "S" and (size_bytes := self._measure_plain(values)) is not None:
            return size_bytes
        # All texts at once: one by one they take three times as long.
        texts, joined = self._texts(values)
        longest = max(map(len, texts), default=0)
        is_ascii = joined.isascii()
        self._bytes = max(self._bytes, longest)
        if is_ascii:
            self._characters = max(self._characters, longest)
        elif self._is_utf8:
            try:
                longest_text = max(len(text.decode("utf-8")) for text in texts)
                self._characters = max(self._characters, longest_text)
            except UnicodeDecodeError:
                self._is_utf8 = False
        if not is_ascii or b'"' in joined or b"\0" in joined:
            longest = max(len(escape_text(text)) for text in texts)
        self._field_bytes = max(self._field_bytes, longest)
        return len(joined)

    def _measure_plain(self, values: Array) -> int | None:
        """Measure texts of a fixed width; None unless they are ASCII without quotes."""
        rows = _rows_of(values)
        if not rows.size or rows.max() >= 128 or (rows == ord('"')).any():
            return None
        longest = int(np.flatnonzero(rows.any(axis=0)).max(initial=-1)) + 1
        self._bytes = max(self._bytes, longest)
        self._characters = max(self._characters, longest)
        self._field_bytes = max(self._field_bytes, longest)
        return int(np.count_nonzero(rows))

    def _texts(self, values: Array) -> tuple[list[bytes], bytes]:
        """Return the bytes of each text, and of all together."""
        texts: list[Any] = values.ravel().tolist()
        if self._text_of is _bytes_of_string:
            try:
                return texts, b"".join(texts)
            except TypeError:  # not all are bytes
                pass
        texts = [self._text_of(value) for value in texts]
        return texts, b"".join(texts)

    def dtype(self) -> np.dtype[Any]:
        if self._is_utf8:
            return np.dtype(f"<U{self._characters}")
        return np.dtype(f"S{max(self._bytes, 1)}")

    def text_widths(self, path: tuple[bytes, ...]) -> tuple[TextWidth, ...]:
        return (TextWidth(path, self._field_bytes, self._bytes),)

    def convert(self, values: Array) -> Array:
        dtype = self.dtype()
        if values.dtype.kind == "S" and self._is_utf8:
            rows = _rows_of(values)
            if rows.size and rows.max() < 128:
                array = np.zeros((len(rows), self._characters), "<u4")
                width = min(rows.shape[1], self._characters)  # what is behind are nulls
                array[:, :width] = rows[:, :width]
                return array.view(dtype).reshape(values.shape)
        texts, joined = self._texts(values)
        if not self._is_utf8:
            array = np.array(texts, dtype)
        elif joined.isascii():
            characters = np.array(texts, f"S{self._characters}").view(np.uint8)
            array = characters.astype("<u4").view(dtype)
        else:
            array = np.array([text.decode("utf-8") for text in texts], dtype)
        return array.reshape(values.shape)


def _rows_of(values: Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bytes of texts of a fixed width, a row for each."""
    rows = np.ascontiguousarray(values).view(np.uint8)
    return rows.reshape(values.size, values.dtype.itemsize)


class _Sequence:
    def __init__(self, element: Part, h5py_dtype: np.dtype[Any]) -> None:
        self._element = element
        self._h5py_dtype = h5py_dtype
        self._length = 0

    def measure(self, values: Array) -> int:
        total = 0
        for value in values.ravel().tolist():
            elements = as_elements(value, self._h5py_dtype)
            self._length = max(self._length, len(elements))
            total += self._element.measure(elements)
        return total

    def dtype(self) -> np.dtype[Any]:
        pair = np.dtype([("length", "<i8"), ("values", self._element.dtype(), (self._length,))])
        return npy_dtype(pair)  # an array of arrays is one array

    def text_widths(self, path: tuple[bytes, ...]) -> tuple[TextWidth, ...]:
        return self._element.text_widths((*path, b"values"))

    def convert(self, values: Array) -> Array:
        pairs = np.zeros(values.size, self.dtype())
        for pair, value in zip(pairs, values.ravel().tolist(), strict=True):
            elements = as_elements(value, self._h5py_dtype)
            pair["length"] = len(elements)
            pair["values"][: len(elements)] = self._element.convert(elements)
        return pairs.reshape(values.shape)


class _Subarray:
    def __init__(self, element: Part, shape: tuple[int, ...]) -> None:
        self._element = element
        self._shape = shape

    def measure(self, values: Array) -> int:
        return self._element.measure(values)

    def dtype(self) -> np.dtype[Any]:
        return npy_dtype(np.dtype((self._element.dtype(), self._shape)))

    def text_widths(self, path: tuple[bytes, ...]) -> tuple[TextWidth, ...]:
        return self._element.text_widths(path)

    def convert(self, values: Array) -> Array:
        return self._element.convert(values)


class _Compound:
    def __init__(self, members: dict[str, Part]) -> None:
        self._members = members

    def measure(self, values: Array) -> int:
        return sum(part.measure(values[name]) for name, part in self._members.items())

    def dtype(self) -> np.dtype[Any]:
        # Packed: HDF5's offsets mean nothing where members have other widths than in the file.
        return np.dtype([(name, part.dtype()) for name, part in self._members.items()])

    def text_widths(self, path: tuple[bytes, ...]) -> tuple[TextWidth, ...]:
        return tuple(
            width
            for name, part in self._members.items()
            for width in part.text_widths((*path, name.encode("utf-8", "surrogateescape")))
        )

    def convert(self, values: Array) -> Array:
        rows = np.zeros(values.shape, self.dtype())
        for name, part in self._members.items():
            rows[name] = part.convert(values[name])
        return rows


def as_elements(value: Any, dtype: np.dtype[Any]) -> Array:
    """Return one variable-length sequence as h5py read it, as a flat array; empty when null."""
    if not isinstance(value, np.ndarray):
        return np.zeros(0, dtype)
    # h5py 3.16 hands out big-endian values under a native dtype; the bytes are those of the file.
    return value if value.dtype.hasobject else value.view(dtype.base)
