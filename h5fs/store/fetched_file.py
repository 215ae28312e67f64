"""A mounted file that comes bit by bit from another machine: one version of one object there."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from h5fs.errors import CannotOpenError
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.store.chunks.chunk_fetcher import ChunkFetcher
from h5fs.store.file_checks import check_superblock
from h5fs.store.format.superblock import read_superblock
from h5fs.store.sources.remote_object import RemoteObject
from h5fs.store.workers.worker_file import FileKind, WorkerFile

_BLOCK_BYTES = 4096
_LONGEST_NAME = 255


class FetchedFile:
    """A ``MountedFile`` over an object, which it closes. ``name``: for messages."""

    problem = None

    def __init__(self, name: str, remote: RemoteObject) -> None:
        self.source = remote
        self._name = name
        self._own: tuple[int, ...] = ()

    def open(self) -> None:
        name = self._name
        superblock = read_superblock(self.source)
        if superblock is None:
            raise CannotOpenError(f"{name} is not an HDF5 file (it has no HDF5 signature)")
        check_superblock(name, superblock, advice=", or it was copied meanwhile")
        self._own = self.source.open_read_only()

    def for_workers(self) -> WorkerFile:
        return WorkerFile(FileKind.FETCHED, self._own, self._fetch)

    def _fetch(self, ranges: Sequence[tuple[int, int]], unit_bytes: int) -> None:
        self.source.ensure(ranges, unit_bytes=unit_bytes)

    def status(self) -> FileStatus:
        """Return a read-only file of this process's user, as old as the server says."""
        modified = self.source.version.modified
        mtime_ns = int(modified.timestamp() * 10**9) if modified is not None else 0
        return FileStatus(
            stat.S_IFREG | 0o444, os.getuid(), os.getgid(), self.source.size_bytes, mtime_ns,
            mtime_ns,
        )  # fmt: skip

    def space(self) -> SpaceStatus:
        """Return a file system that this file fills."""
        blocks = -(-self.source.size_bytes // _BLOCK_BYTES)
        return SpaceStatus(
            block_bytes=_BLOCK_BYTES, fragment_bytes=_BLOCK_BYTES, fragments=blocks,
            free_fragments=0, available_fragments=0, inodes=0, free_inodes=0, available_inodes=0,
            flags=os.ST_RDONLY, longest_name=_LONGEST_NAME,
        )  # fmt: skip

    def chunk_fetcher(self) -> ChunkFetcher:
        return ChunkFetcher(self.source)

    def interrupt(self) -> None:
        self.source.close()

    def close(self) -> None:
        self.source.close()
        own, self._own = self._own, ()
        for descriptor in own:
            os.close(descriptor)
