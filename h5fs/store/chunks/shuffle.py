"""The shuffle filter undone: bytes that were put together by their place in an item, put back.

Two ways. numpy's copies with strides move a byte at a time. Blosc has the same filter, vectorised,
and imagecodecs has Blosc, but shows no function for the filter alone: so what is shuffled is made
a Blosc buffer of one block that is stored as it is, by a header in front of it. 256 MB take 24 ms
so, with a copy to behind the header, and 88 ms with numpy (4-byte items, chunks of 1 MiB).

Sources: H5Zshuffle.c of the HDF5 library; README_CHUNK_FORMAT.rst of c-blosc.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from h5fs.store.chunks.packages import imagecodecs

Array = np.ndarray[Any, np.dtype[np.uint8]]

# Asked for here, which loads the library: a worker that has given up its rights cannot.
_HAS_BLOSC: Final = imagecodecs is not None and imagecodecs.BLOSC.available

# What numpy writes at a time: it comes back to each line of the cache once per byte plane, and a
# second-level cache holds this much.
_STEP_BYTES = 2**19
_MAX_PLANES = 32  # of larger items, numpy's transposing copy is faster than plane by plane

# Blosc has vectors for these; of other sizes it is slower than numpy.
_VECTORISED_BYTES = frozenset({2, 4, 8, *range(16, 256)})
# Blosc takes memory for itself, twice a block. From 32 MiB on malloc makes that of fresh pages each
# time, and numpy is three times as fast.
_MAX_BLOSC_BYTES = 15 * 2**20

# Version of the format and of the compressor's; flags: shuffled, a block is not split by planes;
# bytes of an item, of everything, of a block, of the buffer; where the first block begins, and how
# many bytes it takes: as many as it has, which is how Blosc marks one that is not compressed.
_HEADER: Final = struct.Struct("<BBBBIIIII")
_FORMAT, _COMPRESSOR_FORMAT, _FLAGS = 2, 1, 0x01 | 0x10
_FIRST_BLOCK = 20

ROOM_BYTES: Final = _HEADER.size
"""What is wanted in front of shuffled bytes; who leaves it there saves a copy."""


def unshuffle(data: Array, item_bytes: int, out: Array, frame: Callable[[Array], Array]) -> None:
    """Fill ``out`` with the items whose bytes are in ``data``; what is left over comes last.

    ``frame`` returns ``data``, themselves or copied, behind ``ROOM_BYTES`` that may be written to.
    All are contiguous; ``out`` is as long as ``data``, and apart.
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
