"""Undoes the scale-offset filter where it has packed integers.

A chunk is a header, and then a code of some bits for each element, the most significant bit first,
without gaps: the element's distance from the smallest one. Where the dataset has a fill value, the
largest code stands for that. The HDF5 library takes the codes apart one by one, which for 256,000
codes of 13 bits takes 0.9 ms; imagecodecs takes 0.34, and to add the smallest 0.13.

Format: what H5Zscaleoffset.c of the HDF5 library writes; the tests hold this against the library.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct

from h5fs.errors import UnreadableError
from h5fs.store.chunks.packages import imagecodecs

Array = np.ndarray[Any, np.dtype[np.uint8]]

# Asked at import, which loads the library: a confined worker could not load it any more.
IS_INSTALLED: Final = imagecodecs is not None and imagecodecs.PACKINTS.available

# In the header: how many bits a code has, in how many bytes the smallest element is, and that.
_SMALLEST_SIZE_AT, _SMALLEST_AT, _CODES_AT = 4, 5, 21
_SMALLEST_BYTES = 8
_MOST_PACKED_BITS = 32

# What the options of the filter are, by their places.
_KIND, _BITS, _COUNT, _CLASS, _ITEM_BYTES, _ORDER, _HAS_FILL, _FILL_AT = 0, 1, 2, 3, 4, 6, 7, 8
_OPTIONS_COUNT = 20
_OF_INTEGERS, _INTEGER, _BIG_ENDIAN = 2, 0, 1


class UnusualChunkError(UnreadableError):
    """A chunk is not as the library writes it; the library knows what it means."""


class Packing(Struct, frozen=True):
    """How the elements of a dataset are packed. ``fill_value``: what the largest code stands for.

    ``dtype`` is unsigned, also where the elements are not: sums wrap around alike.
    """

    count: int
    dtype: np.dtype[Any]
    fill_value: int | None


def read_packing(options: tuple[int, ...], item_bytes: int) -> Packing | None:
    """Return what the filter's options say; None where they do not say packed integers."""
    if len(options) != _OPTIONS_COUNT or options[_KIND] != _OF_INTEGERS:
        return None
    if options[_CLASS] != _INTEGER or options[_ITEM_BYTES] != item_bytes:
        return None
    if item_bytes not in (1, 2, 4, 8) or options[_ORDER] > 1 or options[_HAS_FILL] > 1:
        return None
    if options[_BITS] >= 8 * item_bytes:
        return None  # the filter does nothing
    order = ">" if options[_ORDER] == _BIG_ENDIAN else "<"
    fill_value = None
    if options[_HAS_FILL]:
        low, high = options[_FILL_AT : _FILL_AT + 2]
        fill_value = (high << 32 | low) & _largest(8 * item_bytes)
    return Packing(options[_COUNT], np.dtype(f"{order}u{item_bytes}"), fill_value)


class Unpacker:
    """Unpacks the chunks of a dataset; keeps memory for the codes of one."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._room = np.empty(0, np.uint8)

    def unpack(self, data: Array, out: Array) -> None:
        """Fill ``out`` with the elements of a chunk. Raises ``UnusualChunkError``."""
        count, dtype = self._packing.count, self._packing.dtype
        bits = int.from_bytes(data[:_SMALLEST_SIZE_AT].tobytes(), "little")
        if (
            len(data) < _CODES_AT
            or data[_SMALLEST_SIZE_AT] != _SMALLEST_BYTES
            or len(out) != count * dtype.itemsize
            or bits > 8 * dtype.itemsize
            or len(data) < _CODES_AT + -(-count * bits // 8)
        ):
            raise UnusualChunkError("scale-offset: a header that contradicts the rest")
        elements = out.view(dtype)
        packed = data[_CODES_AT : _CODES_AT + -(-count * bits // 8)]
        if bits == 8 * dtype.itemsize:  # they are as they were
            elements[...] = packed.view(dtype.newbyteorder("<"))
            return
        smallest = data[_SMALLEST_AT : _SMALLEST_AT + dtype.itemsize].view(f"<u{dtype.itemsize}")
        fill_value = self._packing.fill_value
        if not bits:
            elements[...] = smallest if fill_value is None else fill_value
            return
        codes = self._codes(packed, bits)[:count]
        native = dtype.newbyteorder("=")
        np.add(codes, smallest.astype(native), out=elements, dtype=native)
        if fill_value is not None:
            is_fill = codes == _largest(bits)
            if is_fill.any():
                elements[is_fill] = fill_value

    def _codes(self, packed: Array, bits: int) -> np.ndarray[Any, Any]:
        """Return the codes; behind them, more may be made of the last byte."""
        code_bytes = next(size for size in (1, 2, 4, 8) if bits <= 8 * size)
        if bits == 8 * code_bytes:
            return packed.view(f">u{code_bytes}")
        if bits > _MOST_PACKED_BITS:
            raise UnusualChunkError(f"scale-offset: codes of {bits} bits")
        room_bytes = 8 * len(packed) // bits * code_bytes
        if len(self._room) < room_bytes:
            self._room = np.empty(room_bytes, np.uint8)
        codes = self._room[:room_bytes].view(f"u{code_bytes}")
        imagecodecs.packints_decode(packed, codes.dtype, bits, out=codes)
        return codes


def _largest(bits: int) -> int:
    return (1 << bits) - 1
