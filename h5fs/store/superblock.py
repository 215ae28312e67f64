"""What a file's first bytes say before the HDF5 library sees it.

Format: HDF5 File Format Specification 3.0, section II (superblock) and "File Locking under SWMR"
for the consistency flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_FIRST_USER_BLOCK = 512
_OPEN_FOR_WRITE = 0x01


@dataclass(frozen=True, slots=True)
class Superblock:
    """``offset_bytes``: where it starts, after a user block; ``is_open_for_write``: the flag that
    a writer sets in versions 2 and 3 and clears when it closes the file."""

    offset_bytes: int
    version: int
    is_open_for_write: bool


def read_superblock(file: BinaryIO) -> Superblock | None:
    """Return the superblock, or None when the file has none: it is not an HDF5 file."""
    size = file.seek(0, 2)
    offset = 0
    while offset + len(SIGNATURE) <= size:
        file.seek(offset)
        head = file.read(12)
        if head.startswith(SIGNATURE) and len(head) == 12:
            version = head[8]
            # Versions 0 and 1 have sizes of other fields there; only 3 honours the flag.
            flags = head[11] if version >= 3 else 0
            return Superblock(offset, version, bool(flags & _OPEN_FOR_WRITE))
        offset = offset * 2 if offset else _FIRST_USER_BLOCK
    return None
