"""The `.npy` file of an array that is not in memory.

Format: NEP 1, "A Simple File Format for NumPy Arrays". numpy itself writes the header, so that it
has exactly the bytes that ``np.save`` of the installed numpy writes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.errors import InvalidArrayError, TooLargeError, UnsupportedTypeError
from h5fs.projection.npy_literal import parse_literal

OFFSET_MAX = 2**63 - 1
"""Largest file size that ``off_t`` holds."""


class NpyFile(Struct, frozen=True):
    """An ``.npy`` file: header bytes, then ``element_count`` elements of ``item_bytes`` each."""

    header: bytes
    shape: tuple[int, ...]
    item_bytes: int

    @property
    def element_count(self) -> int:
        """Number of elements in the array."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Size of the whole file.

        Raises ``TooLargeError`` when ``off_t`` cannot hold it.
        """
        size = len(self.header) + self.element_count * self.item_bytes
        if size > OFFSET_MAX:
            raise TooLargeError(f"the .npy file would have {size} bytes")
        return size


def npy_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that a ``.npy`` file can spell for elements in memory of h5py's ``dtype``.

    h5py's metadata goes; a compound's members come in the order of their offsets; an array of
    arrays is one array.
    """
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        base = npy_dtype(base)
        return np.dtype((base.base, shape + base.shape))
    if dtype.names is None or dtype.fields is None:
        return np.dtype(dtype.str)
    fields = sorted(((name, *dtype.fields[name][:2]) for name in dtype.names), key=lambda f: f[2])
    return np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [npy_dtype(member) for _, member, _ in fields],
            "offsets": [offset for _, _, offset in fields],
            "itemsize": dtype.itemsize,
        }
    )


def project_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> NpyFile:
    """Return the ``.npy`` file of a C-order array of ``shape`` and ``dtype``.

    The dimensions of a subarray dtype trail the shape in the file, as in numpy's own arrays; the
    element stays the whole subarray. Raises ``UnsupportedTypeError`` for a dtype that the format
    has no spelling for.
    """
    base, trailing = dtype.base, dtype.shape
    if base.hasobject:
        raise UnsupportedTypeError(f"dtype {dtype} would need pickle")
    return NpyFile(format_header(base, shape + trailing), shape, dtype.itemsize)


@functools.lru_cache(maxsize=1024)  # a file often has thousands of arrays of one dtype and shape
def format_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header that ``np.save`` writes for a C-order array.

    Raises ``UnsupportedTypeError`` for a dtype that the format has no spelling for.
    """
    try:
        description = np.lib.format.dtype_to_descr(dtype)
    except ValueError as error:  # the fields overlap
        raise UnsupportedTypeError(f"no .npy spelling for dtype {dtype}: {error}") from None
    fields = {"descr": description, "fortran_order": False, "shape": shape}
    # In the order that np.save tries them: 1.0 unless the header is too long or not latin-1.
    for write in (np.lib.format.write_array_header_1_0, np.lib.format.write_array_header_2_0):
        file = io.BytesIO()
        try:
            write(file, fields)
        except ValueError:
            continue
        return file.getvalue()
    return _format_header_3_0(dtype, shape)


class _HeaderWritten(Exception):
    """Stops ``write_array`` after the header, before it touches an element."""


class _HeaderOnly(io.BytesIO):
    def write(self, data: Any, /) -> int:
        if self.tell():
            raise _HeaderWritten
        return super().write(data)


def _format_header_3_0(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header in format 3.0, for field names beyond latin-1.

    numpy has public functions for 1.0 and 2.0, but not for 3.0. So it writes an array that takes no
    memory, and is stopped at the first element.
    """
    array = np.broadcast_to(np.zeros((), dtype), shape)
    file = _HeaderOnly()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with contextlib.suppress(_HeaderWritten):
            np.lib.format.write_array(file, array, version=(3, 0), allow_pickle=False)
    return file.getvalue()


_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
# HDF5 keeps a datatype in at most 64 KiB; no name in it becomes more than four times as long here.
_MAX_HEADER_BYTES = 2**18
_MAX_DTYPE_CHARACTERS = 100  # of one field
_MAX_RANK = 32  # HDF5's


class NpyHeader(Struct, frozen=True):
    """What the header of a ``.npy`` file says, and how many bytes it takes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran_order: bool
    size_bytes: int

    @property
    def file_bytes(self) -> int:
        """Size of a whole file with this header."""
        return self.size_bytes + prod(self.shape) * self.dtype.itemsize


def parse_header(data: bytes) -> NpyHeader | None:
    """Return what the first bytes of a ``.npy`` file say; None when there are too few.

    Raises ``InvalidArrayError`` for what is no header, an array of objects, or a shape that no
    file can have.
    """
    if not _MAGIC.startswith(data[: len(_MAGIC)]):
        raise InvalidArrayError("not a .npy file")
    if len(data) < len(_MAGIC) + 2:
        return None
    version = data[6], data[7]
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise InvalidArrayError(f".npy format version {version[0]}.{version[1]}")
    start = 8 + _LENGTH_BYTES[version[0]]
    if len(data) < start:
        return None
    length = int.from_bytes(data[8:start], "little")
    if length > _MAX_HEADER_BYTES:
        raise InvalidArrayError(f"a header of {length} bytes")
    if len(data) < start + length:
        return None
    encoding = "utf-8" if version[0] == 3 else "latin-1"
    try:
        text = data[start : start + length].decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidArrayError(f"no header of a .npy file: {error}") from None
    dtype, shape, is_fortran_order = _parse_fields(text)
    header = NpyHeader(dtype, shape, is_fortran_order, start + length)
    if max((header.file_bytes, *shape)) > OFFSET_MAX:
        raise InvalidArrayError(f"an array of shape {shape} is larger than any file")
    return header


@functools.lru_cache(maxsize=16)  # one file is asked about twice, and the next one is often alike
def _parse_fields(text: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        fields = parse_literal(text)
        if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
            raise ValueError("not a dictionary of descr, fortran_order and shape")
        _check_spellings(fields["descr"])
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
        _check_names(dtype)
    except Exception as error:  # numpy may raise anything for text that is no dtype
        raise InvalidArrayError(f"no header of a .npy file: {error!s:.200}") from None
    shape, order = fields["shape"], fields["fortran_order"]
    is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not is_shape or not isinstance(order, bool):
        raise InvalidArrayError(f"shape {shape!r:.80}, fortran_order {order!r:.20}")
    if dtype.hasobject:
        raise InvalidArrayError("an array of objects: only pickle could read it")
    if len(shape) + len(dtype.shape) > _MAX_RANK:
        raise InvalidArrayError(f"{len(shape)} dimensions, more than {_MAX_RANK}")
    return dtype, shape, order


def _check_spellings(descr: Any) -> None:
    """Refuse long dtype strings, which numpy would parse for a long time: "i4,i4,..." is one."""
    if isinstance(descr, str):
        if len(descr) > _MAX_DTYPE_CHARACTERS:
            raise ValueError(f"a dtype of {len(descr)} characters")
    elif isinstance(descr, tuple):
        _check_spellings(descr[0] if descr else None)  # of a subarray
    elif isinstance(descr, list):
        for field in descr:
            _check_spellings(field[1] if isinstance(field, tuple) and len(field) > 1 else None)


def _check_names(dtype: np.dtype[Any]) -> None:
    """Refuse names of fields that HDF5 cannot have. Raises ``ValueError``."""
    if dtype.subdtype is not None:
        _check_names(dtype.base)
    for name, field in (dtype.fields or {}).items():
        if "\0" in name:  # HDF5 would cut the name there
            raise ValueError(f"a field's name with a null character: {name!r:.40}")
        name.encode("utf-8", "surrogateescape")
        _check_names(field[0])
