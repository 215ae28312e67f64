"""Byte ranges of an array's data as ranges of elements, which is what the HDF5 library reads."""

from __future__ import annotations

from collections.abc import Callable

from h5fs.errors import UnreadableError, show_path
from h5fs.objects import DatasetInfo, ObjectRef
from h5fs.store.interface import ArrayPart

OFFSET_BYTES = 8
"""Size of an offset into the values of variable-length sequences."""

ReadElements = Callable[[int, int, memoryview], int]
"""Puts elements ``[start, stop)`` into a buffer; returns how many bytes that were."""


def item_bytes_of(dataset: DatasetInfo, part: ArrayPart) -> int:
    """Return the size of one element in a dataset's file."""
    return OFFSET_BYTES if part is ArrayPart.OFFSETS else dataset.dtype.itemsize


def read_through_library(
    read: ReadElements,
    ref: ObjectRef,
    dataset: DatasetInfo,
    part: ArrayPart,
    offset: int,
    buffer: memoryview,
) -> None:
    """Fill ``buffer`` with an array's data from byte ``offset`` on.

    Raises ``UnreadableError`` when fewer bytes came back than elements have.
    """
    item_bytes = item_bytes_of(dataset, part)
    start, skip = divmod(offset, item_bytes)
    stop = -(-(offset + len(buffer)) // item_bytes)
    wanted = (stop - start) * item_bytes
    is_whole = wanted == len(buffer)
    whole = buffer if is_whole else memoryview(bytearray(wanted))
    size = read(start, stop, whole)
    if size != wanted:
        raise UnreadableError(f"{show_path(ref.path)}: {size} of {wanted} bytes came back")
    if not is_whole:
        buffer[:] = whole[skip : skip + len(buffer)]
