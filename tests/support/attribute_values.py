"""Plain JSON values of attributes as h5py reads them, for comparison with ``.attrs.json``.

Independent of h5fs: it goes from what h5py's high-level interface returns.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import h5py
import numpy as np

from support.reference import as_array, sequence_base, text


class Anything:
    """Stands for a value that this reference does not predict (its presence is checked)."""

    def __repr__(self) -> str:
        return "<anything>"


def plain_value(value: Any, attribute: h5py.h5a.AttrID, file: h5py.File) -> Any:
    """Return the JSON value that h5py's value of an attribute stands for."""
    if isinstance(value, h5py.Empty):
        return None
    enum = h5py.check_enum_dtype(attribute.dtype)
    if attribute.dtype.itemsize > attribute.get_type().get_size():
        return Anything()  # h5py widens it; its shortest decimal is that of its own width
    return to_json(value, attribute.dtype, enum, file)


def to_json(value: Any, dtype: np.dtype[Any], enum: dict[str, int] | None, file: Any) -> Any:
    """Return nested lists of plain values."""
    while dtype.subdtype is not None:
        dtype = dtype.base
    if isinstance(value, np.ndarray) and value.ndim and not is_one_sequence(value, dtype):
        return [to_json(item, dtype, enum, file) for item in value]
    if isinstance(value, np.ndarray):
        value = value[()]
    if dtype.names is not None:
        return {n: to_json(value[n], dtype.fields[n][0], enum_of(dtype, n), file)
                for n in dtype.names}  # fmt: skip
    base = sequence_base(dtype)
    if base is not None:
        elements = as_array(value, base)  # in the byte order that h5py forgets
        return [to_json(item, base, h5py.check_enum_dtype(base), file) for item in elements]
    if enum is not None and not isinstance(value, np.bool_):
        names = [name for name, number in enum.items() if number == value]
        return names[0] if len(names) == 1 else Anything() if names else int(value)
    return scalar_to_json(value, file)


def is_one_sequence(value: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether an array is one variable-length sequence, and not an array of them."""
    return sequence_base(dtype) is not None and not isinstance(value.flat[0], np.ndarray)


def enum_of(dtype: np.dtype[Any], name: str) -> dict[str, int] | None:
    """Return the mapping of an enumerated member."""
    assert dtype.fields is not None
    return h5py.check_enum_dtype(dtype.fields[name][0].base)


def scalar_to_json(value: Any, file: Any) -> Any:
    """Return one plain value."""
    if isinstance(value, h5py.RegionReference):
        if value:
            h5py.h5r.get_region(value, file.id)
        return Anything() if value else None
    if isinstance(value, h5py.Reference):
        return text(value, file).decode("utf-8", "surrogateescape") or None
    if isinstance(value, bytes):
        return text_or_base64(value)
    if isinstance(value, str):
        return text_or_base64(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, np.complexfloating):
        return [scalar_to_json(value.real, file), scalar_to_json(value.imag, file)]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return value
    return Anything()  # opaque, datetimes


def text_or_base64(value: bytes) -> Any:
    """Return text as it is, or the base64 of what is not UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {base64.b64encode(value).decode()}


def same_value(expected: Any, shown: Any) -> bool:
    """Whether a JSON value says what was expected, floats by value in their own width."""
    if isinstance(expected, Anything):
        return True
    if isinstance(expected, set):  # base64, perhaps with the padding that h5py strips
        padded = next(iter(expected)).rstrip("=")
        return isinstance(shown, str) and shown.startswith(padded[: len(padded) // 4 * 4])
    if isinstance(expected, list):
        return (
            isinstance(shown, list)
            and len(expected) == len(shown)
            and all(same_value(e, s) for e, s in zip(expected, shown, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(shown, dict)
            and list(expected) == list(shown)
            and all(same_value(expected[key], shown[key]) for key in expected)
        )
    if isinstance(expected, np.floating):
        return same_float(expected, shown)
    return type(expected) is type(shown) and bool(expected == shown)


def same_float(expected: np.floating, shown: Any) -> bool:
    """Whether a number or a name such as "NaN" is this float."""
    if np.isnan(expected):
        return isinstance(shown, str) and "NaN" in shown
    if np.isinf(expected):
        return shown == ("-Infinity" if expected < 0 else "Infinity")
    if isinstance(shown, str) and shown.startswith("0x"):  # not canonical: all bits are shown
        stored = int.from_bytes(expected.tobytes(), "little")
        return int(shown, 16) % 2**80 == stored % 2**80
    if isinstance(shown, bool) or not isinstance(shown, int | float | str):
        return False
    same_sign = math.copysign(1, float(shown)) == math.copysign(1, float(expected))
    return bool(type(expected)(str(shown)) == expected) and same_sign
