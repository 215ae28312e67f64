"""Undoes the shuffle filter, which puts the first bytes of all items first, then all second bytes.

There are two ways. numpy copies with strides, a byte at a time. Blosc has the same filter,
vectorised, and imagecodecs has Blosc, but no function for the filter alone: so a header in front of
the shuffled bytes makes them a Blosc buffer of one block that is not compressed. In this way 256 MB
take 24 ms, with a copy to behind the header, and 88 ms with numpy (4-byte items, chunks of 1 MiB).

Sources: H5Zshuffle.c of the HDF5 library; README_CHUNK_FORMAT.rst of c-blosc.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from h5fs.store.chunks.packages import imagecodecs

Array = np.ndarray[Any, np.dtype[np.uint8]]

# Asked at import, which loads the library: a confined worker could not load it any more.
_HAS_BLOSC: Final = imagecodecs is not None and imagecodecs.BLOSC.available

# numpy writes this much at a time: it returns to each cache line once per byte plane, and a
# second-level cache holds this much.
_STEP_BYTES = 2**19
_MAX_PLANES = 32  # for larger items numpy's transposing copy is faster than plane by plane

# Blosc is vectorised for these item sizes; for others it is slower than numpy.
_VECTORISED_BYTES = frozenset({2, 4, 8, *range(16, 256)})
# Blosc allocates twice a block's size. From 32 MiB on malloc uses fresh pages each time, and numpy
# is three times as fast.
_MAX_BLOSC_BYTES = 15 * 2**20

# Versions of the format and of the compressor's format; flags (shuffled, blocks not split by
# planes); bytes of an item, of everything, of a block, of the buffer; where the first block begins;
# its stored size, which equals its full size where a block is not compressed.
_HEADER: Final = struct.Struct("<BBBBIIIII")
_FORMAT, _COMPRESSOR_FORMAT, _FLAGS = 2, 1, 0x01 | 0x10
_FIRST_BLOCK = 20

ROOM_BYTES: Final = _HEADER.size
"""Room for the header in front of shuffled bytes; callers that leave it there save a copy."""


def unshuffle(data: Array, item_bytes: int, out: Array, frame: Callable[[Array], Array]) -> None:
    """Fill ``out`` with the items whose bytes are in ``data``; bytes of no whole item come last.

    ``frame`` returns ``data``, themselves or copied, behind ``ROOM_BYTES`` that may be written to.
    All arrays are contiguous; ``out`` is as long as ``data``, and does not overlap it.
    """
    if _HAS_BLOSC and item_bytes in _VECTORISED_BYTES and len(data) <= _MAX_BLOSC_BYTES:
        _unshuffle_with_blosc(frame(data), item_bytes, out)
    else:
        unshuffle_with_numpy(data, item_bytes, out)


def _unshuffle_with_blosc(framed: Array, item_bytes: int, out: Array) -> None:
    size = len(out)
    _HEADER.pack_into(
        framed.data, 0, _FORMAT, _COMPRESSOR_FORMAT, _FLAGS, item_bytes,
        size, size, len(framed), _FIRST_BLOCK, size,
    )  # fmt: skip
    imagecodecs.blosc_decode(framed, out=out, numthreads=1)


def unshuffle_with_numpy(data: Array, item_bytes: int, out: Array) -> None:
    """Do the same without Blosc."""
    count = len(data) // item_bytes
    whole = count * item_bytes
    planes = data[:whole].reshape(item_bytes, count)
    items = out[:whole].reshape(count, item_bytes)
    if item_bytes > _MAX_PLANES:
        items[...] = planes.T
    else:
        step = _STEP_BYTES // item_bytes
        for start in range(0, count, step):
            _interleave(planes[:, start : start + step], items[start : start + step])
    out[whole:] = data[whole:]


def _interleave(planes: Array, items: Array) -> None:
    if len(planes) == 2:  # arithmetic is vectorised, a copy with strides is not: 1.7 times as fast
        words = items.view("<u2")[:, 0]
        words[...] = planes[1]
        np.left_shift(words, 8, out=words)
        np.bitwise_or(words, planes[0], out=words)
        return
    for index, plane in enumerate(planes):
        items[:, index] = plane
