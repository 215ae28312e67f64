"""Elements in the library's memory form, read and written without h5py's conversions.

h5py reads and writes variable-length parts only as Python objects, which cannot tell a null string
from an empty one and convert (or refuse) what numpy has no type for; when its read is given the
file's own type instead, it leaks every string and sequence of the attribute (measured, h5py 3.16).
It writes no sequences of arrays, and counts no links. So ``H5Aread``, ``H5Awrite``, ``H5Dwrite``,
``H5Dvlen_reclaim``, ``H5Oincr_refcount``, ``H5Odecr_refcount`` and ``H5Ewalk2`` of the very library
that h5py has loaded are called here, and only here, through ctypes. Each call holds h5py's global
lock.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from h5py import h5a, h5d, h5s, h5t
from h5py._objects import phil

from h5fs.errors import UnreadableError

_Value = TypeVar("_Value")

_hid_t = ctypes.c_int64
_herr_t = ctypes.c_int
_DEFAULT_PROPERTIES = 0  # H5P_DEFAULT

_DEFAULT_STACK = 0  # H5E_DEFAULT
_INNERMOST_FIRST = 0  # H5E_WALK_UPWARD


class _Error(ctypes.Structure):
    """``H5E_error2_t``: one entry of the error stack."""

    _fields_ = [
        ("class_id", _hid_t),
        ("major", _hid_t),
        ("minor", _hid_t),
        ("line", ctypes.c_uint),
        ("function", ctypes.c_char_p),
        ("file", ctypes.c_char_p),
        ("desc", ctypes.c_char_p),
    ]


_WALKER = ctypes.CFUNCTYPE(_herr_t, ctypes.c_uint, ctypes.POINTER(_Error), ctypes.c_void_p)

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "H5Aread": (_hid_t, _hid_t, ctypes.c_void_p),
    "H5Awrite": (_hid_t, _hid_t, ctypes.c_void_p),
    "H5Dwrite": (_hid_t, _hid_t, _hid_t, _hid_t, _hid_t, ctypes.c_void_p),
    "H5Ewalk2": (_hid_t, ctypes.c_int, _WALKER, ctypes.c_void_p),
    "H5Dvlen_reclaim": (_hid_t, _hid_t, _hid_t, ctypes.c_void_p),
    "H5Oincr_refcount": (_hid_t,),
    "H5Odecr_refcount": (_hid_t,),
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
            raise UnreadableError(f"the library cannot read its values: {_reason()}")
        try:
            return use(memory.raw)
        finally:
            _function("H5Dvlen_reclaim")(type_id.id, space_id.id, _DEFAULT_PROPERTIES, memory)


def write_memory(attribute_id: h5a.AttrID, type_id: h5t.TypeID, memory: bytes) -> None:
    """Write an attribute from the memory form of its type.

    Raises ``UnreadableError`` when the library cannot write it.
    """
    with phil:
        if _function("H5Awrite")(attribute_id.id, type_id.id, memory) < 0:
            raise UnreadableError(f"the library cannot write its values: {_reason()}")


def write_elements(
    dataset_id: h5d.DatasetID, type_id: h5t.TypeID, space_id: h5s.SpaceID, address: int
) -> None:
    """Write elements of a dataset: those that the dataspace ``space_id`` selects.

    ``address``: where in memory they lie, one after another, in the memory form of the type. Raises
    ``UnreadableError`` when the library cannot write them.
    """
    in_memory = h5s.create_simple((space_id.get_select_npoints(),))
    with phil:
        if _function("H5Dwrite")(
            dataset_id.id, type_id.id, in_memory.id, space_id.id, _DEFAULT_PROPERTIES, address
        ) < 0:  # fmt: skip
            raise UnreadableError(f"the library cannot write its elements: {_reason()}")


def count_link(object_id: Any, change: Literal[1, -1]) -> None:
    """Let an object have a link more or less than there are. Raises ``UnreadableError``."""
    name = "H5Oincr_refcount" if change > 0 else "H5Odecr_refcount"
    with phil:
        if _function(name)(object_id.id) < 0:
            raise UnreadableError(f"the library cannot count its links: {_reason()}")


def _reason() -> str:
    """Return why the last call failed: the innermost reason that the library tells."""
    reasons: list[str] = []

    def note(_depth: int, error: Any, _data: Any) -> int:
        reasons.append((error.contents.desc or b"").decode("utf-8", "replace"))
        return 0

    _function("H5Ewalk2")(_DEFAULT_STACK, _INNERMOST_FIRST, _WALKER(note), None)
    return " ".join(reasons[0].split()) if reasons else "it does not say why"


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(h5a.__file__)


@functools.cache
def _function(name: str) -> Callable[..., int]:
    # The symbol is looked up in what h5py's extension module is linked with: the very library that
    # made the identifiers, whatever else the process has loaded.
    function = getattr(_library(), name)
    function.argtypes = _ARGUMENTS[name]
    function.restype = _herr_t
    return function  # type: ignore[no-any-return]
