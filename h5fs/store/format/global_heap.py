"""Global heap collections, in which HDF5 files keep text of variable length.

Pure functions over bytes that nobody has checked; a collection that is damaged gives None.

Format: HDF5 File Format Specification 3.0, III.E.
"""

from __future__ import annotations

HEAD_BYTES = 16
"""Enough to know a collection's size."""

MOST_BYTES = 2**20
"""Larger collections are left to the library."""

_SIGNATURE = b"GCOL\x01"
_ALIGNMENT = 8


def read_size(head: bytes, size_of_lengths: int) -> int | None:
    """Return the size of the collection that begins with ``head``; None for damage, or too much."""
    if not head.startswith(_SIGNATURE):
        return None
    size = int.from_bytes(head[8 : 8 + size_of_lengths], "little")
    return size if HEAD_BYTES <= size <= MOST_BYTES else None


def find_objects(collection: bytes, size_of_lengths: int) -> dict[int, bytes] | None:
    """Return the objects of a collection by their index."""
    objects: dict[int, bytes] = {}
    at = 8 + size_of_lengths
    head_bytes = 8 + size_of_lengths
    while at + head_bytes <= len(collection):
        index = int.from_bytes(collection[at : at + 2], "little")
        if not index:  # the free space, which is last
            return objects
        start = at + head_bytes
        size = int.from_bytes(collection[at + 8 : start], "little")
        if start + size > len(collection) or index in objects:
            return None
        objects[index] = collection[start : start + size]
        at = start + -(-size // _ALIGNMENT) * _ALIGNMENT
    return objects
