"""Arrays that are written: the HDF5 type that each gets, and its elements as h5py takes them.

A new dataset has the type that a careful user of h5py would give it. An existing dataset keeps its
type where that shows as the array's dtype. Pure but for HDF5 datatypes in memory.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from h5py import h5t

from h5fs.errors import DatatypeTooLargeError, InvalidArrayError, UnsupportedTypeError
from h5fs.projection.npy import npy_dtype
from h5fs.store.hdf5.library_errors import explain
from h5fs.store.hdf5.types.memory_types import MemoryType, memory_type

Array = np.ndarray[Any, Any]

# Messages of object headers have sizes of 16 bits. (H5Tencode returns two bytes more.)
_MOST_ENCODED_BYTES = 0xFFFF

_PLAIN_KINDS = "biufcS"  # dtypes that are equal have the same HDF5 type

_TEXT: np.dtype[Any] = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class WriteType:
    """How elements of a ``.npy`` file are handed to HDF5.

    ``file_type`` is the dataset's. ``dtype`` is h5py's for an array in memory, ``memory_type`` the
    HDF5 type of its elements. ``is_raw``: the file holds elements just as the ``.npy`` file does.
    Of a plain type, ``shown``: how elements are read again; ``lies_as_shown``: just as they lie.
    ``read_type_id``: the HDF5 type of elements that are read again, where that is another one than
    ``memory_type``.
    """

    file_type: h5t.TypeID
    dtype: np.dtype[Any]
    memory_type: h5t.TypeID
    is_raw: bool
    shown: MemoryType | None = None
    lies_as_shown: bool = False
    read_type_id: h5t.TypeID | None = None

    def convert(self, array: Array) -> Array:
        """Return elements as h5py takes them.

        Raises ``InvalidArrayError`` for strings that HDF5 cannot have.
        """
        if not self.dtype.hasobject:
            return array
        try:
            return _convert(array, self.dtype)
        except (ValueError, SystemError) as error:  # of numbers that are no characters
            raise InvalidArrayError(f"no Unicode text: {error}") from None


def natural_type(dtype: np.dtype[Any]) -> WriteType:
    """Return the type for a new dataset of an array of ``dtype``.

    ``U`` is variable-length UTF-8, bool h5py's enumeration, dates are h5py's opaque types. Raises
    ``UnsupportedTypeError``.
    """
    if dtype.kind in _PLAIN_KINDS and dtype.metadata is None:
        return _plain_type(dtype)
    return _make_natural_type(dtype)


@functools.lru_cache(maxsize=64)
def _plain_type(dtype: np.dtype[Any]) -> WriteType:
    """Return the natural type of single numbers or strings, which most arrays have."""
    made = _make_natural_type(dtype)
    check_size(made.file_type)
    shown = memory_type(made.file_type)
    return replace(made, shown=shown, lies_as_shown=bool(made.file_type.equal(shown.type_id)))


def _make_natural_type(dtype: np.dtype[Any]) -> WriteType:
    natural = _natural(dtype)
    try:
        file_type = h5t.py_create(natural, logical=True)
        in_memory = h5t.py_create(natural) if natural.hasobject else file_type
    except Exception as error:  # any of h5py's
        raise UnsupportedTypeError(f"no HDF5 type for dtype {dtype}: {explain(error)}") from error
    return WriteType(file_type, natural, in_memory, is_raw=not natural.hasobject)


def check_size(file_type: h5t.TypeID) -> None:
    """Raise ``DatatypeTooLargeError`` for a type that no object header can describe."""
    size = len(file_type.encode())
    if size > _MOST_ENCODED_BYTES:
        raise DatatypeTooLargeError(
            f"a datatype whose description has {size} bytes, more than the 64 KiB that HDF5 stores"
        )


def kept_type(file_type: h5t.TypeID, dtype: np.dtype[Any]) -> WriteType | None:
    """Return how an array of ``dtype`` is written to a dataset of this type, keeping the type.

    None where the dataset would show another dtype, or cannot take it.
    """
    try:
        memory = memory_type(file_type)
    except UnsupportedTypeError:
        return None
    if not memory.dtype.hasobject:
        return _kept_fixed(file_type, memory, dtype)
    if not _takes_text(memory.dtype, dtype) or not _is_utf8(file_type):
        return None
    return WriteType(file_type, memory.dtype, memory.type_id, is_raw=False)


def _kept_fixed(
    file_type: h5t.TypeID, memory: MemoryType, dtype: np.dtype[Any]
) -> WriteType | None:
    shown = npy_dtype(memory.dtype)
    if shown.base != dtype.base and shown != dtype:
        return None
    in_memory = memory.given_type_id or h5t.py_create(memory.dtype, logical=True)
    has_ended_text = holds_ended_text(file_type)
    if not in_memory.equal(file_type) and (has_ended_text or _holds_enumeration(file_type)):
        in_memory = _with_own_members(file_type, memory.dtype)
        if in_memory is None:
            return None
    is_raw = bool(file_type.equal(in_memory))
    read_type_id = memory.type_id if has_ended_text else None
    return WriteType(file_type, memory.dtype, in_memory, is_raw, read_type_id=read_type_id)


def _holds_enumeration(file_type: h5t.TypeID) -> bool:
    return bool(file_type.detect_class(h5t.ENUM))


def holds_ended_text(file_type: h5t.TypeID) -> bool:
    """Whether a type of fixed size has text of a fixed length that a null ends."""
    if isinstance(file_type, h5t.TypeStringID):
        return bool(file_type.get_strpad() == h5t.STR_NULLTERM)
    if isinstance(file_type, h5t.TypeCompoundID):
        members = range(file_type.get_nmembers())
        return any(holds_ended_text(file_type.get_member_type(number)) for number in members)
    return isinstance(file_type, h5t.TypeArrayID) and holds_ended_text(file_type.get_super())


def _with_own_members(file_type: h5t.TypeID, dtype: np.dtype[Any]) -> h5t.TypeID | None:
    """Return the type of elements that lie in memory as ``dtype`` says, with a type's own
    enumerations and texts that a null ends. None where an enumeration's integers are shown as wider
    ones.

    HDF5 converts no integer to an enumeration. Of a text that takes all its bytes it would make
    one that lacks the last byte, for the null; but PyTables, pandas and netCDF write such texts
    without a null, and every reader takes them so.
    """
    if isinstance(file_type, h5t.TypeStringID) and holds_ended_text(file_type):
        return file_type
    if isinstance(file_type, h5t.TypeEnumID):
        base = file_type.get_super()
        is_whole = base.get_precision() == 8 * dtype.itemsize == 8 * file_type.get_size()
        return file_type if is_whole else None
    if isinstance(file_type, h5t.TypeArrayID) and dtype.subdtype is not None:
        (base, shape), own = dtype.subdtype, file_type.get_array_dims()
        inner = shape[len(own) :]  # an array of arrays is shown as one
        made = _with_own_members(file_type.get_super(), np.dtype((base, inner)) if inner else base)
        return None if made is None else h5t.array_create(made, own)
    if not isinstance(file_type, h5t.TypeCompoundID) or dtype.fields is None:
        return memory_type(file_type).type_id
    compound = h5t.create(h5t.COMPOUND, dtype.itemsize)
    for number in range(file_type.get_nmembers()):
        name = file_type.get_member_name(number)
        member_dtype, offset = dtype.fields[name.decode("utf-8", "surrogateescape")][:2]
        member = _with_own_members(file_type.get_member_type(number), member_dtype)
        if member is None:
            return None
        compound.insert(name, offset, member)
    return compound


def _takes_text(memory: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Whether ``dtype`` is ``memory`` with strings of a fixed width for those of any length."""
    if not memory.hasobject:
        return npy_dtype(memory) == dtype
    if memory.names is not None:
        return dtype.names == memory.names and all(
            _takes_text(memory[name], dtype[name]) for name in memory.names
        )
    if memory.subdtype is not None:
        if dtype.subdtype is None:
            return False
        (inner, shape), (given, given_shape) = memory.subdtype, dtype.subdtype
        return shape == given_shape and _takes_text(inner, given)
    info = h5py.check_string_dtype(memory)
    # Bytes, once written as text, would be shown as text, too.
    return info is not None and info.length is None and dtype.kind == "U"


def _is_utf8(file_type: h5t.TypeID) -> bool:
    """Whether all strings of a type may be any text."""
    if isinstance(file_type, h5t.TypeStringID):
        return bool(file_type.get_cset() == h5t.CSET_UTF8)
    if isinstance(file_type, h5t.TypeCompoundID):
        members = (file_type.get_member_type(i) for i in range(file_type.get_nmembers()))
        return all(_is_utf8(member) for member in members)
    if isinstance(file_type, h5t.TypeArrayID):
        return _is_utf8(file_type.get_super())
    return True


def _natural(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_natural(base), shape))
    if dtype.names is not None and dtype.fields is not None:
        return _natural_compound(dtype)
    if dtype.kind == "U":
        return _TEXT
    if dtype.kind in "mM":
        opaque: np.dtype[Any] = h5py.opaque_dtype(dtype)
        return opaque
    if dtype.hasobject:
        raise UnsupportedTypeError("an array of objects, which only pickle could write")
    if not dtype.itemsize:
        # HDF5 has no elements of 0 bytes: empty strings take one.
        if dtype.kind == "S":
            return np.dtype("S1")
        raise UnsupportedTypeError(f"elements of no bytes (dtype {dtype})")
    return dtype


def _natural_compound(dtype: np.dtype[Any]) -> np.dtype[Any]:
    assert dtype.names is not None and dtype.fields is not None
    if not dtype.names:
        raise UnsupportedTypeError("a structured dtype without fields")
    if any("\0" in name for name in dtype.names):
        raise UnsupportedTypeError("a field name with a null character, which ends a name in HDF5")
    members = [_natural(dtype.fields[name][0]) for name in dtype.names]
    if any(member != dtype.fields[name][0] for name, member in
           zip(dtype.names, members, strict=True)):  # fmt: skip
        return np.dtype(list(zip(dtype.names, members, strict=True)))
    return np.dtype(
        {
            "names": list(dtype.names),
            "formats": members,
            "offsets": [dtype.fields[name][1] for name in dtype.names],
            "itemsize": dtype.itemsize,
        }
    )


def _convert(array: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.names is not None:
        converted = np.empty(array.shape, dtype)
        for name in dtype.names:
            # The dimensions of a member that is an array come after those of the array itself.
            member = dtype[name]
            converted[name] = (
                _convert(array[name], member.base)
                if member.hasobject
                else _as_declared(array[name], member.base)
            )
        return converted
    if not dtype.hasobject:
        return array
    converted = np.empty(array.shape, dtype)
    flat = converted.reshape(-1)
    for index, value in enumerate(array.reshape(-1).tolist()):
        flat[index] = _check_text(value)
    return converted


def _as_declared(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return elements with the members of a compound in the order in which ``dtype`` has them.

    numpy copies members by their place, and a ``.npy`` file has them in the order of their offsets.
    """
    return array.view(dtype) if array.dtype == npy_dtype(dtype) else array


def check_text(array: Array) -> None:
    """Raise ``InvalidArrayError`` for strings that HDF5 cannot have; checks all of them at once.

    ``array`` holds elements as the ``.npy`` file does.
    """
    if array.dtype.names is not None:
        for name in array.dtype.names:
            check_text(array[name])
        return
    if array.dtype.kind != "U" or not array.dtype.itemsize or not array.size:
        return
    order = array.dtype.str[0]
    codes = np.ascontiguousarray(array).reshape(-1).view(order + "u4")
    if codes.max() > 0x10FFFF or np.any(codes >> 11 == 0xD800 >> 11):
        raise InvalidArrayError("no Unicode text: numbers that are no characters")
    codes = codes.reshape(-1, array.dtype.itemsize // 4)
    if np.any((codes[:, :-1] == 0) & (codes[:, 1:] != 0)):
        raise InvalidArrayError("a string with a null character, which ends a string in HDF5")


def _check_text(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):
        return value
    if "\0" in value:
        raise InvalidArrayError("a string with a null character, which ends a string in HDF5")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArrayError(f"no Unicode text: {value!r:.60}") from None
    return value
