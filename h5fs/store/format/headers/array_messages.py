"""The dataspace and datatype messages of datasets, without padding, each pair kept once.

Nothing here decodes a datatype; it only follows the message's own counts, so that a message which
comes out of here cannot lead the HDF5 library's decoder (which is not told a size) past its end.

Format: HDF5 File Format Specification 3.0, IV.A.2.b (dataspace message) and IV.A.2.d (datatype
message); its numbers are in ``datatype_message.numbers``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from h5fs.store.format.datatype_message.numbers import (
    ARRAY,
    BITFIELD,
    COMPLEX,
    COMPOUND,
    ENUM,
    FLOAT,
    INTEGER,
    OPAQUE,
    REFERENCE,
    STRING,
    TIME,
    VLEN,
    offset_size,
)
from h5fs.store.format.file_layout import FileLayout

RANK_MAX = 32

_TABLE_BYTES_MAX = 64 << 20
"""A limit for damaged headers that overlap: each could have the same bytes as another message."""
_DEPTH_MAX = 64
_PROPERTY_BYTES = {INTEGER: 4, FLOAT: 12, TIME: 2, STRING: 0, BITFIELD: 4, REFERENCE: 0}
_NULL_SPACE = 2


class ArrayTable:
    """Distinct (dataspace message, datatype message) pairs, each with a number."""

    def __init__(self, layout: FileLayout) -> None:
        self.arrays: list[tuple[bytes, bytes]] = []
        self.size_bytes: list[int] = []
        """Of all elements of each, as HDF5 stores them contiguously."""
        self._layout = layout
        self._numbers: dict[tuple[bytes, bytes], int] = {}
        self._as_read: dict[tuple[bytes, bytes], int] = {}
        self._held_bytes = 0

    def number_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> list[int]:
        """Return the number of each pair of messages as read; -1 for one not in a plain form."""
        known = self._as_read
        return [known[pair] if pair in known else self._add(pair) for pair in pairs]

    def _add(self, as_read: tuple[bytes, bytes]) -> int:
        space, padded_type = as_read
        self._held_bytes += len(space) + len(padded_type)
        if self._held_bytes > _TABLE_BYTES_MAX:
            return -1
        length = measure_datatype(padded_type)
        if length is None:
            number = -1
        else:
            pair = (space, padded_type[:length])
            number = self._numbers.setdefault(pair, len(self.arrays))
            if number == len(self.arrays):
                self.arrays.append(pair)
                shape = read_shape(space, self._layout)
                element_bytes = _unsigned(padded_type, 4)
                self.size_bytes.append(0 if shape is None else math.prod(shape) * element_bytes)
        self._as_read[as_read] = number
        return number


def read_shape(space: bytes, layout: FileLayout) -> tuple[int, ...] | None:
    """Return the current dimensions of a dataspace message of a table; None for a null one."""
    version, rank = space[0], space[1]
    if version == 2 and space[3] == _NULL_SPACE:
        return None
    width = layout.size_of_lengths
    start = 8 if version == 1 else 4
    places = range(start, start + rank * width, width)
    return tuple(int.from_bytes(space[at : at + width], "little") for at in places)


def measure_datatype(message: bytes) -> int | None:
    """Return the length of a datatype message without padding; None when its end is missing."""
    try:
        return _end_of_datatype(message, 0, 0)
    except (IndexError, ValueError):
        return None


def _end_of_datatype(message: bytes, start: int, depth: int) -> int:
    """Return where the datatype that starts there ends. Raises IndexError, ValueError."""
    if depth > _DEPTH_MAX:
        raise ValueError("nested too deep")
    type_class, version = message[start] & 0x0F, message[start] >> 4
    if not 1 <= version <= 5:
        raise ValueError("version")
    at = _after(message, start, 8)
    if type_class in _PROPERTY_BYTES:
        return _after(message, at, _PROPERTY_BYTES[type_class])
    if type_class == OPAQUE:
        return _after(message, at, message[start + 1])
    if type_class in (VLEN, COMPLEX):
        return _end_of_datatype(message, at, depth + 1)
    if type_class == ARRAY:
        return _end_of_array(message, start, depth)
    if type_class == COMPOUND:
        return _end_of_compound(message, start, depth)
    if type_class == ENUM:
        return _end_of_enum(message, start, depth)
    raise ValueError("class")


def _end_of_array(message: bytes, start: int, depth: int) -> int:
    at, rank = start + 8, message[start + 8]
    dimensions_at = at + 1 if message[start] >> 4 >= 3 else at + 4
    # Versions before 3 have a permutation as well, which was never implemented.
    base = _after(message, dimensions_at, 4 * rank if dimensions_at == at + 1 else 8 * rank)
    end = _end_of_datatype(message, base, depth + 1)
    dimensions = (_unsigned(message, dimensions_at + 4 * axis) for axis in range(rank))
    # Where sizes differ, the library corrects them when it opens a dataset, and only then.
    if _unsigned(message, start + 4) != math.prod(dimensions) * _unsigned(message, base + 4):
        raise ValueError("array of another size")
    return end


def _end_of_compound(message: bytes, start: int, depth: int) -> int:
    version = message[start] >> 4
    size = _unsigned(message, start + 4)
    # Version 1 has dimensions for each member, whether used or not.
    after_name = {1: 32, 2: 4}.get(version) or offset_size(size)
    at = start + 8
    for _ in range(int.from_bytes(message[start + 1 : start + 3], "little")):
        at = _after(message, _after_name(message, at, version), after_name)
        at = _end_of_datatype(message, at, depth + 1)
    return at


def _end_of_enum(message: bytes, start: int, depth: int) -> int:
    count = int.from_bytes(message[start + 1 : start + 3], "little")
    base = start + 8
    at = _end_of_datatype(message, base, depth + 1)
    for _ in range(count):
        at = _after_name(message, at, message[start] >> 4)
    return _after(message, at, count * _unsigned(message, base + 4))


def _after_name(message: bytes, at: int, version: int) -> int:
    length = message.index(b"\0", at) - at
    return _after(message, at, length + 1 if version >= 3 else length // 8 * 8 + 8)


def _after(message: bytes, at: int, size: int) -> int:
    if at + size > len(message):
        raise ValueError("cut short")
    return at + size


def _unsigned(message: bytes, at: int) -> int:
    return int.from_bytes(message[at : at + 4], "little")
