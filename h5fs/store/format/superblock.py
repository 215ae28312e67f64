"""What a file's first bytes say before the HDF5 library sees it.

Format: HDF5 File Format Specification 3.0, section II (superblock) and "File Locking under SWMR"
for the consistency flags.
"""

from __future__ import annotations

import os

from msgspec import Struct

from h5fs.errors import CannotOpenError
from h5fs.store.format.lookup3 import checksum
from h5fs.store.sources.interface import Source, read_bytes
from h5fs.store.sources.local_file import LocalFile

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
_SIZES = (2, 4, 8, 16, 32)
_MARKED_VERSION = 3
LAST_VERSION = 3
"""The newest version of the superblock."""


class Superblock(Struct, frozen=True):
    """What a superblock says.

    ``offset_bytes``: where the superblock starts, after a user block. ``is_open_for_write``: the
    flag that a writer sets in version 3, and clears when it closes the file. ``is_swmr``: that
    writer lets others read meanwhile (single writer, multiple readers). ``size_of_addresses`` and
    ``size_of_lengths``: as the file states them, 0 where the file ends before that.
    """

    offset_bytes: int
    version: int
    is_open_for_write: bool
    is_swmr: bool
    size_of_addresses: int
    size_of_lengths: int

    @property
    def is_known(self) -> bool:
        """Whether HDF5 has this version; of another one, the fields beside it mean nothing."""
        return self.version <= LAST_VERSION


def read_superblock(source: Source) -> Superblock | None:
    """Return the superblock, or None when the file has none: it is not an HDF5 file."""
    size = source.size_bytes
    offset = 0
    while offset + len(SIGNATURE) <= size:
        head = read_bytes(source, offset, 15)
        if head.startswith(SIGNATURE) and len(head) >= 12:
            version = head[8]
            # Versions 0 and 1 have other fields there; only 3 honours the flag.
            flags = head[_FLAGS_AT] if version == _MARKED_VERSION else 0
            at = 13 if version < 2 else _ADDRESS_SIZE_AT
            sizes = head[at : at + 2].ljust(2, b"\0")
            is_open, is_swmr = bool(flags & _OPEN_FOR_WRITE), bool(flags & _SWMR_WRITE)
            return Superblock(offset, version, is_open, is_swmr, *sizes)
        offset = offset * 2 if offset else _FIRST_USER_BLOCK
    return None


def read_missing_end(source: Source) -> tuple[int, int] | None:
    """Return the size of a file that is cut short, and the size that its superblock states.

    None for a file that is not cut short.
    """
    found = read_superblock(source)
    if found is None or not found.is_known:
        return None
    addresses = read_addresses(source, found)
    size = source.size_bytes
    if addresses is None:
        return size, found.offset_bytes + _end_of_addresses(found)
    # The base address, one other address, then where the file ends.
    return (size, addresses[2]) if size < addresses[2] < 2**63 else None


def read_addresses(source: Source, superblock: Superblock) -> list[int] | None:
    """Return the four addresses of a superblock, or None when the file ends within them.

    In versions 0 and 1 those are the base, the free space, the file's end and the driver
    information; in 2 and 3 the base, the extension, the file's end and the root group.
    """
    stop = _end_of_addresses(superblock)
    head = read_bytes(source, superblock.offset_bytes, stop)
    if not superblock.is_known or len(head) < stop:
        return None
    width = (stop - _first_address(superblock)) // 4
    starts = range(_first_address(superblock), stop, width)
    return [int.from_bytes(head[at : at + width], "little") for at in starts]


def _first_address(superblock: Superblock) -> int:
    return {0: 24, 1: 28}.get(superblock.version, 12)


def _end_of_addresses(superblock: Superblock) -> int:
    return _first_address(superblock) + 4 * (superblock.size_of_addresses or 8)


def has_hdf5_name(path: bytes) -> bool:
    """Whether a file's name is one that HDF5 files have."""
    return path.lower().endswith(_SUFFIXES)


def is_hdf5_file(path: bytes) -> bool:
    """Whether a file begins as an HDF5 file does; False too for one that may not be read.

    HDF5 looks for the signature at 0, 512, 1024, 2048, ... to the end. Each look costs the disk a
    seek: so only a file with an HDF5 file's name is looked at beyond the first few places.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if has_hdf5_name(path):
            return read_superblock(LocalFile(descriptor)) is not None
        offsets = (0, *(_FIRST_USER_BLOCK << power for power in range(_MOST_POWERS)))
        return any(os.pread(descriptor, 8, offset) == SIGNATURE for offset in offsets)
    finally:
        os.close(descriptor)


def clear_write_mark(descriptor: int) -> bool:
    """Clear the mark of a file that is open for write; return False when there is none.

    The superblock is written by one call, within one sector of the disk. Raises
    ``CannotOpenError`` for a superblock that is damaged or of an unknown version; ``OSError``.
    """
    superblock = read_superblock(LocalFile(descriptor))
    if superblock is not None and not superblock.is_known:
        raise CannotOpenError(explain_version(superblock) + "; nothing is changed")
    if superblock is None or not superblock.is_open_for_write:
        return False
    content = _read_marked(descriptor, superblock)
    if content is None:
        raise CannotOpenError(
            "its superblock is damaged (its checksum is wrong), so that the mark may be damage, "
            "too; nothing is changed"
        )
    content[_FLAGS_AT] &= ~(_OPEN_FOR_WRITE | _SWMR_WRITE) & 0xFF
    content[-4:] = checksum(content[:-4])
    os.pwrite(descriptor, content, superblock.offset_bytes)
    os.fsync(descriptor)
    return True


def explain_version(superblock: Superblock) -> str:
    """Return the message about a superblock of an unknown version."""
    return (
        f"its superblock has version {superblock.version}, and HDF5 has 0 to {LAST_VERSION}: it is "
        "damaged, or of a newer HDF5 than this h5fs knows"
    )


def _read_marked(descriptor: int, superblock: Superblock) -> bytearray | None:
    """Return the bytes of a superblock with a mark; None for a damaged one."""
    head = os.pread(descriptor, _FLAGS_AT + 1, superblock.offset_bytes)
    if len(head) <= _FLAGS_AT or not set(head[_ADDRESS_SIZE_AT:_FLAGS_AT]) <= set(_SIZES):
        return None
    size = _FLAGS_AT + 1 + 4 * head[_ADDRESS_SIZE_AT]
    content = bytearray(os.pread(descriptor, size + 4, superblock.offset_bytes))
    is_whole = len(content) == size + 4 and content[size:] == checksum(content[:size])
    return content if is_whole else None
