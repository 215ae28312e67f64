"""Types of the file that cannot hold all that the dtype can by which they are shown.

The library cuts numbers to the bits that an integer has, rounds floats, and ends texts where their
padding or a null does, without a word. So what such a type is to hold is converted here first, in
memory, to the type and back. Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np
from h5py import h5t

from h5fs.errors import InvalidArrayError, show_path
from h5fs.store.hdf5.types.array_types import WriteType
from h5fs.store.hdf5.writing.array_writer import ElementSource

_Array = np.ndarray[Any, Any]

_WHOLE_FLOATS: Final = (
    h5t.IEEE_F16LE, h5t.IEEE_F16BE, h5t.IEEE_F32LE, h5t.IEEE_F32BE, h5t.IEEE_F64LE,
    h5t.IEEE_F64BE, h5t.NATIVE_LDOUBLE,
)  # fmt: skip
_BYTES_AT_ONCE: Final = 2**24


def holds_array(
    source: ElementSource, write_type: WriteType, on_progress: Callable[[], None]
) -> bool:
    """Whether all elements of an array are the same when they are read again."""
    if _is_whole(write_type):
        return True
    parts = max(write_type.memory_type.get_size() // source.dtype.itemsize, 1)
    count = prod(source.shape)
    step = max(_BYTES_AT_ONCE // source.dtype.itemsize // parts, 1) * parts
    for start in range(0, count, step):
        on_progress()
        if not _holds(source.any_elements(start, min(start + step, count)), write_type):
            return False
    return True


def holds_part(source: ElementSource, start: int, stop: int, write_type: WriteType) -> bool:
    """Whether elements ``[start, stop)``, counted row-major, are the same when they are read."""
    if _is_whole(write_type):
        return True
    step = max(_BYTES_AT_ONCE // write_type.memory_type.get_size(), 1)
    return all(
        _holds(source.flat(first, min(first + step, stop)), write_type)
        for first in range(start, stop, step)
    )


def check_holds(array: _Array, write_type: WriteType, path: bytes) -> None:
    """Raise ``InvalidArrayError`` unless elements in memory are the same when they are read."""
    if not _is_whole(write_type) and not _holds(array, write_type):
        raise InvalidArrayError(
            f"{show_path(path)}: its HDF5 type cannot hold what was written to it; write the whole "
            "array anew"
        )


def _holds(array: _Array, write_type: WriteType) -> bool:
    if not array.size:
        return True
    memory, stored = write_type.memory_type, write_type.file_type
    before = np.ascontiguousarray(array).reshape(-1)
    data = before.view(np.uint8)
    count, item_bytes = len(data) // memory.get_size(), max(memory.get_size(), stored.get_size())
    converted = np.zeros(count * item_bytes, np.uint8)
    converted[: len(data)] = data
    background = np.zeros_like(converted)
    h5t.convert(memory, stored, count, converted, background)
    h5t.convert(stored, write_type.read_type_id or memory, count, converted, background)
    return are_same(before, converted[: len(data)].view(before.dtype))


def are_same(one: _Array, other: _Array) -> bool:
    """Whether two arrays have the same elements; NaN is NaN, and padding does not count."""
    if one.dtype.names is not None:  # what pads a compound is no data
        return all(are_same(one[name], other[name]) for name in one.dtype.names)
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def _is_whole(write_type: WriteType) -> bool:
    if write_type.dtype.hasobject or (write_type.is_raw and write_type.read_type_id is None):
        return True
    return not _is_narrow(write_type.file_type)


def _is_narrow(type_id: h5t.TypeID) -> bool:
    if isinstance(type_id, h5t.TypeCompoundID):
        members = range(type_id.get_nmembers())
        return any(_is_narrow(type_id.get_member_type(number)) for number in members)
    if isinstance(type_id, h5t.TypeArrayID):
        return _is_narrow(type_id.get_super())
    if isinstance(type_id, h5t.TypeStringID):
        return bool(type_id.get_strpad() != h5t.STR_NULLPAD)
    if isinstance(type_id, h5t.TypeFloatID):
        return not any(type_id.equal(each) for each in _WHOLE_FLOATS)
    is_number = isinstance(type_id, h5t.TypeIntegerID)
    return is_number and bool(type_id.get_precision() != 8 * type_id.get_size())
