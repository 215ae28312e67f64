"""Byte ranges of an array's data as ranges of elements, which is what the HDF5 library reads."""

from __future__ import annotations

from collections.abc import Callable

from h5fs.errors import UnreadableError

OFFSET_BYTES = 8
"""Size of an offset into the values of variable-length sequences."""

ReadElements = Callable[[int, int], bytes | bytearray]
"""Returns elements ``[start, stop)``."""


def read_through_library(
    read: ReadElements, item_bytes: int, offset: int, size: int
) -> bytes | bytearray:
    """Return ``size`` bytes of an array's data from byte ``offset`` on.

    Raises ``UnreadableError`` when fewer bytes came back than elements have.
    """
    start, skip = divmod(offset, item_bytes)
    stop = -(-(offset + size) // item_bytes)
    data = read(start, stop)
    wanted = (stop - start) * item_bytes
    if len(data) != wanted:
        raise UnreadableError(f"{len(data)} of {wanted} bytes came back")
    return data if size == wanted else bytes(memoryview(data)[skip : skip + size])
