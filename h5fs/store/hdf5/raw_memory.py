"""Elements in the library's memory form, read and written without h5py's conversions.

h5py reads and writes variable-length parts only as Python objects, which cannot tell a null string
from an empty one and convert (or refuse) what numpy has no type for; when its read is given the
file's own type instead, it leaks every string and sequence of the attribute (measured, h5py 3.16).
It writes no sequences of arrays. So ``H5Aread``, ``H5Awrite``, ``H5Dwrite`` and
``H5Dvlen_reclaim`` of the very library that h5py has loaded are called here, and only here,
through ctypes. Each call holds h5py's global lock.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import TypeVar

from h5py import h5a, h5d, h5s, h5t
from h5py._objects import phil

from h5fs.errors import UnreadableError

_Value = TypeVar("_Value")

_hid_t = ctypes.c_int64
_herr_t = ctypes.c_int
_DEFAULT_PROPERTIES = 0  # H5P_DEFAULT

_ARGUMENTS = {
    "H5Aread": (_hid_t, _hid_t, ctypes.c_void_p),
    "H5Awrite": (_hid_t, _hid_t, ctypes.c_void_p),
    "H5Dwrite": (_hid_t, _hid_t, _hid_t, _hid_t, _hid_t, ctypes.c_void_p),
    "H5Dvlen_reclaim": (_hid_t, _hid_t, _hid_t, ctypes.c_void_p),
}


def read_memory(
    attribute_id: h5a.AttrID, type_id: h5t.TypeID, use: Callable[[bytes], _Value], *, size: int
) -> _Value:
    """Return what ``use`` makes of the attribute's ``size`` bytes in the memory form of its type.

    What pointers in them lead to is valid only until ``use`` returns.
    Raises ``UnreadableError`` when the library cannot read it.
    """
    memory = ctypes.create_string_buffer(size)
    space_id = attribute_id.get_space()
    with phil:
        if _function("H5Aread")(attribute_id.id, type_id.id, memory) < 0:
            raise UnreadableError("the library cannot read its values (H5Aread)")
        try:
            return use(memory.raw)
        finally:
            _function("H5Dvlen_reclaim")(type_id.id, space_id.id, _DEFAULT_PROPERTIES, memory)


def write_memory(attribute_id: h5a.AttrID, type_id: h5t.TypeID, memory: bytes) -> None:
    """Write an attribute from the memory form of its type.

    Raises ``UnreadableError`` when the library cannot write it.
    """
    buffer = ctypes.create_string_buffer(memory, len(memory))
    with phil:
        if _function("H5Awrite")(attribute_id.id, type_id.id, buffer) < 0:
            raise UnreadableError("the library cannot write its values (H5Awrite)")


def write_elements(
    dataset_id: h5d.DatasetID, type_id: h5t.TypeID, space_id: h5s.SpaceID, address: int
) -> None:
    """Write the elements that are selected in a dataspace of the file's, from memory.

    ``address``: where they lie one after another, in the memory form of the type. Raises
    ``UnreadableError`` when the library cannot write them.
    """
    in_memory = h5s.create_simple((space_id.get_select_npoints(),))
    with phil:
        if _function("H5Dwrite")(
            dataset_id.id, type_id.id, in_memory.id, space_id.id, _DEFAULT_PROPERTIES, address
        ) < 0:  # fmt: skip
            raise UnreadableError("the library cannot write its elements (H5Dwrite)")


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(h5a.__file__)


def _function(name: str) -> Callable[..., int]:
    # A symbol is looked up in what the extension module itself was linked with, so this is the
    # library that made the identifiers, wherever it lies and whatever else the process has loaded.
    function = getattr(_library(), name)
    function.argtypes = _ARGUMENTS[name]
    function.restype = _herr_t
    return function  # type: ignore[no-any-return]
