"""A file on a file system of this machine: its bytes, and what ``stat`` and ``statvfs`` say."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import IO, Final

from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.store.sources.interface import WholeSource


class LocalFile(WholeSource):
    """A ``Source`` by an open descriptor, which it does not close."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor

    @property
    def size_bytes(self) -> int:
        return os.fstat(self.descriptor).st_size

    @property
    def version(self) -> Hashable:
        found = os.fstat(self.descriptor)
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return os.preadv(self.descriptor, (buffer,), offset)

    def status(self) -> FileStatus:
        """Return what ``fstat`` says. Raises ``OSError``."""
        found = os.fstat(self.descriptor)
        return FileStatus(
            found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_atime_ns,
            found.st_mtime_ns,
        )  # fmt: skip

    def space(self) -> SpaceStatus:
        """Return what ``fstatvfs`` says. Raises ``OSError``."""
        return space_at(self.descriptor)


def temporary_folder() -> Path:
    """Return where files without a name are made: as a rule /var/tmp, since /tmp may be memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")


def make_unnamed() -> IO[bytes]:
    """Return a new file without a name in ``temporary_folder()``. Raises ``OSError``."""
    import tempfile  # takes long to import, and few need it

    return tempfile.TemporaryFile(prefix="h5fs-", dir=temporary_folder())


def space_at(place: int | bytes) -> SpaceStatus:
    """Return what ``statvfs`` says of a path or a descriptor. Raises ``OSError``."""
    found = os.statvfs(place)
    return SpaceStatus(
        block_bytes=found.f_bsize, fragment_bytes=found.f_frsize, fragments=found.f_blocks,
        free_fragments=found.f_bfree, available_fragments=found.f_bavail, inodes=found.f_files,
        free_inodes=found.f_ffree, available_inodes=found.f_favail, flags=found.f_flag,
        longest_name=found.f_namemax,
    )  # fmt: skip
