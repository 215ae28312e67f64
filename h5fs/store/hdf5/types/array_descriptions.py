"""What a dataset's shape and type tell of its files in the mount, before an element is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from h5fs.model.objects import DatasetInfo, Enumeration
from h5fs.projection.npy import npy_dtype

_TEXT = np.dtype("U1")
_OTHER = np.dtype("V1")


def describe_array(dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> DatasetInfo:
    """Return what is known of an array from the dtype with which h5py reads it, and from its shape.

    Where the type has parts of variable length, ``is_scanned`` is set, and the dtype is of the
    right kind only: a scan of the elements tells the width.
    """
    if not dtype.hasobject:
        return DatasetInfo(shape, npy_dtype(dtype), 0, enumerations=enumerations_of(dtype))
    is_text = dtype == np.dtype(object) and h5py.check_vlen_dtype(dtype) in (None, str, bytes)
    return DatasetInfo(shape, _TEXT if is_text else _OTHER, 0, is_scanned=True)


def enumerations_of(dtype: np.dtype[Any]) -> tuple[Enumeration, ...]:
    """Return the enumerations in a dtype that has h5py's metadata."""
    return tuple(_walk(dtype, ()))


def _walk(dtype: np.dtype[Any], path: tuple[bytes, ...]) -> Iterator[Enumeration]:
    if dtype.subdtype is not None:
        yield from _walk(dtype.base, path)
    elif dtype.names is not None and dtype.fields is not None:
        for name in dtype.names:
            own = name.encode("utf-8", "surrogateescape")
            yield from _walk(dtype.fields[name][0], (*path, own))
    else:
        members = h5py.check_enum_dtype(dtype)
        if members:
            yield Enumeration(path, tuple((_bytes_of(n), int(v)) for n, v in members.items()))


def _bytes_of(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode("utf-8", "surrogateescape")
