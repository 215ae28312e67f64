"""What ``stat`` and ``statvfs`` say of an HDF5 file, whoever keeps it."""

from __future__ import annotations

from msgspec import Struct


class FileStatus(Struct, frozen=True):
    """The fields of a ``struct stat`` that the mount takes from the HDF5 file.

    ``mode`` has the permissions, as ``st_mode`` has them. Times are in nanoseconds since the epoch.
    """

    mode: int
    uid: int
    gid: int
    size_bytes: int
    atime_ns: int
    mtime_ns: int


class NumberedFile(Struct, frozen=True, array_like=True):
    """A file beside the mounted one, as it was when it got its number: real path and identity.

    Where an object is in a file is told by a worker, and its bytes are read by the daemon or by
    another worker: each must have the same file, whatever stands at the path by now.
    """

    path: bytes
    device: int
    inode: int


class SpaceStatus(Struct, frozen=True):
    """A ``struct statvfs``. Sizes are counted in fragments, as ``f_blocks`` and its like are.

    ``available_...``: what users other than root may take of what is free.
    """

    block_bytes: int
    fragment_bytes: int
    fragments: int
    free_fragments: int
    available_fragments: int
    inodes: int = 0
    free_inodes: int = 0
    available_inodes: int = 0
    flags: int = 0
    longest_name: int = 255
