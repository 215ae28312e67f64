"""What the superblock says of a file's format: where addresses count from, how long they are."""

from __future__ import annotations

from msgspec import Struct

from h5fs.store.format.superblock import Superblock, read_superblock
from h5fs.store.sources.interface import Source

_SIZES = (2, 4, 8)


class FileLayout(Struct, frozen=True):
    """What the superblock says of the whole file; all in bytes.

    ``base_offset`` is where HDF5's addresses count from (a user block precedes it).
    """

    base_offset: int
    size_of_addresses: int
    size_of_lengths: int


def read_file_layout(source: Source) -> FileLayout | None:
    """Return what the superblock says, None when there is none or it is not one that is known."""
    try:
        found = read_superblock(source)
    except OSError:
        return None
    return None if found is None else layout_of(found)


def layout_of(found: Superblock) -> FileLayout | None:
    """Return what a superblock says, None when it is not one that is known."""
    if not found.is_known:
        return None
    if found.size_of_addresses not in _SIZES or found.size_of_lengths not in _SIZES:
        return None
    # Like the library, take the superblock's own offset for the base address, not what it states.
    return FileLayout(found.offset_bytes, found.size_of_addresses, found.size_of_lengths)
