"""Numbers in bytes of a file."""

from __future__ import annotations


def number_at(data: bytes, at: int, size_bytes: int) -> int:
    """Return the unsigned integer at a place. Raises ``IndexError`` where the bytes end before."""
    part = data[at : at + size_bytes]
    if len(part) < size_bytes:
        raise IndexError(at)
    return int.from_bytes(part, "little")
