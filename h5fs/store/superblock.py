"""What a file's first bytes say before the HDF5 library sees it.

Format: HDF5 File Format Specification 3.0, section II (superblock) and "File Locking under SWMR"
for the consistency flags.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from h5fs.store.lookup3 import checksum_blocks

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_FIRST_USER_BLOCK = 512
_MOST_POWERS = 4  # user blocks of up to 4096 bytes
_SUFFIXES = (
    b".h5", b".hdf5", b".hdf", b".he5", b".nc", b".nc4", b".cdf", b".nxs", b".nx5", b".h5ad",
    b".h5mu", b".loom", b".mat", b".nwb", b".cxi", b".keras", b".jld2", b".mnc", b".ims",
)  # fmt: skip
_ADDRESS_SIZE_AT = 9
_FLAGS_AT = 11
_OPEN_FOR_WRITE = 0x01
_SWMR_WRITE = 0x04


@dataclass(frozen=True, slots=True)
class Superblock:
    """``offset_bytes``: where it starts, after a user block; ``is_open_for_write``: the flag that
    a writer sets in versions 2 and 3 and clears when it closes the file; ``is_swmr``: it lets
    others read meanwhile (single writer, multiple readers)."""

    offset_bytes: int
    version: int
    is_open_for_write: bool
    is_swmr: bool = False


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
            is_swmr = bool(flags & _SWMR_WRITE)
            return Superblock(offset, version, bool(flags & _OPEN_FOR_WRITE), is_swmr)
        offset = offset * 2 if offset else _FIRST_USER_BLOCK
    return None


def is_hdf5_file(path: bytes) -> bool:
    """Whether a file begins as an HDF5 file does; False too for one that may not be read.

    HDF5 looks for the signature at 0, 512, 1024, 2048, ... to the end. Beyond the first few this
    asks only where the name speaks for HDF5, since each costs a disk a seek.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with io.FileIO(descriptor) as file:
        if path.lower().endswith(_SUFFIXES):
            with io.BufferedReader(file) as buffered:
                return read_superblock(buffered) is not None
        offsets = (0, *(_FIRST_USER_BLOCK << power for power in range(_MOST_POWERS)))
        return any(os.pread(descriptor, 8, offset) == SIGNATURE for offset in offsets)


def clear_write_mark(descriptor: int) -> bool:
    """Clear the mark of a file that is open for write; return False when there is none.

    The superblock is written at once, within one sector of the disk. Raises ``OSError``.
    """
    with io.FileIO(os.dup(descriptor)) as raw, io.BufferedReader(raw) as file:
        superblock = read_superblock(file)
    if superblock is None or not superblock.is_open_for_write:
        return False
    head = os.pread(descriptor, _FLAGS_AT + 1, superblock.offset_bytes)
    size = _FLAGS_AT + 1 + 4 * head[_ADDRESS_SIZE_AT]
    content = bytearray(os.pread(descriptor, size + 4, superblock.offset_bytes))
    content[_FLAGS_AT] &= ~(_OPEN_FOR_WRITE | _SWMR_WRITE) & 0xFF
    padded = np.frombuffer(bytes(content[:size]) + bytes(16), np.uint8)
    checksum = checksum_blocks(padded, np.array([0]), np.array([size]))
    content[size:] = int(checksum[0]).to_bytes(4, "little")
    os.pwrite(descriptor, content, superblock.offset_bytes)
    os.fsync(descriptor)
    return True
