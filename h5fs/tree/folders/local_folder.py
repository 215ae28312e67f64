"""A folder of this machine: its HDF5 files, and the rest, which is passed through as it is."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from h5fs.errors import NotALinkError, PassedThroughError, show_path
from h5fs.lru_cache import LruCache
from h5fs.model.file_status import SpaceStatus
from h5fs.store.format.superblock import is_hdf5_file
from h5fs.store.sources.local_file import space_at
from h5fs.tree.dentries import Dentries
from h5fs.tree.status import Dentry, Status, as_folder
from h5fs.tree.versions.following_tree import FollowingTree

_SIGNATURES_KEPT = 65_536


class _OpenFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(self, buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._descriptor, [buffer], offset)
        except OSError as error:
            raise PassedThroughError.of(error, b"") from None

    def close(self) -> None:
        os.close(self._descriptor)


class LocalFolder:
    """Keeps the promise of ``FolderContents``. A file is an HDF5 file by its signature.

    ``open_tree(file)`` makes the tree of an HDF5 file, which opens it later.
    """

    def __init__(self, folder: Path, open_tree: Callable[[Path], FollowingTree]) -> None:
        self._root = os.fsencode(folder)
        self._open_tree = open_tree
        self._signatures: LruCache[tuple[int, int, int, int], bool] = LruCache(_SIGNATURES_KEPT)

    def get_status(self, path: bytes) -> Status:
        return self._status_of(path, self._stat(path))

    def list_folder(self, path: bytes) -> Dentries:
        try:
            with os.scandir(self._real(path)) as entries:
                return Dentries.of(map(self._dentry, entries))
        except OSError as error:
            raise PassedThroughError.of(error, path) from None

    def read_link(self, path: bytes) -> bytes:
        try:
            return os.readlink(self._real(path))
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise NotALinkError(f"{show_path(path)} is not a symbolic link") from None
            raise PassedThroughError.of(error, path) from None

    def open_file(self, path: bytes) -> _OpenFile:
        try:
            how = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            return _OpenFile(os.open(self._real(path), how))
        except OSError as error:
            raise PassedThroughError.of(error, path) from None

    def get_space(self) -> SpaceStatus:
        try:
            return space_at(self._root)
        except OSError as error:
            raise PassedThroughError.of(error, b"/") from None

    def find_hdf5(self, path: bytes) -> int | None:
        try:
            status = os.lstat(self._real(path))
        except OSError:
            return None
        return _seed_of(status) if self._is_hdf5(path, status) else None

    def open_tree(self, path: bytes) -> FollowingTree:
        return self._open_tree(Path(os.fsdecode(self._real(path))))

    def forget(self) -> None:
        pass  # what is there is looked at each time

    def interrupt(self) -> None:
        pass  # nobody waits but for the disk

    def _is_hdf5(self, path: bytes, status: os.stat_result) -> bool:
        if not stat.S_ISREG(status.st_mode):
            return False
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._signatures.get(version)
        if known is None:
            known = is_hdf5_file(self._real(path))
            self._signatures.put(version, known)
        return known

    def _real(self, path: bytes) -> bytes:
        return self._root if path == b"/" else self._root + path

    def _stat(self, path: bytes) -> os.stat_result:
        try:
            return os.lstat(self._real(path))
        except OSError as error:
            raise PassedThroughError.of(error, path) from None

    def _dentry(self, entry: os.DirEntry[bytes]) -> Dentry:
        """Return what ``stat`` will say of an entry, as far as ``readdir`` says it."""
        if entry.is_symlink():
            kind = stat.S_IFLNK
        elif entry.is_dir() or (entry.is_file() and self._is_listed_as_hdf5(entry)):
            kind = stat.S_IFDIR
        elif entry.is_file():
            kind = stat.S_IFREG
        else:
            kind = 0  # a pipe, a socket, a device: the kernel asks
        return Dentry(entry.name, entry.inode(), kind)

    def _is_listed_as_hdf5(self, entry: os.DirEntry[bytes]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # it has gone since it was listed
            return False
        return self._is_hdf5(entry.path[len(self._root) :], status)

    def _status_of(self, path: bytes, found: os.stat_result) -> Status:
        mode = found.st_mode if stat.S_ISLNK(found.st_mode) else found.st_mode & ~0o222
        size_bytes, hard_links = found.st_size, found.st_nlink
        if self._is_hdf5(path, found):
            mode, size_bytes = as_folder(found.st_mode), 0
        if stat.S_ISDIR(mode):
            hard_links = 1  # as of every folder here: it says nothing about folders within
        return Status(
            inode=found.st_ino, mode=mode, hard_link_count=hard_links, uid=found.st_uid,
            gid=found.st_gid, size_bytes=size_bytes, blocks=found.st_blocks,
            atime_ns=found.st_atime_ns, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns,
        )  # fmt: skip


def _seed_of(status: os.stat_result) -> int:
    digest = hashlib.blake2b(b"%d %d" % (status.st_dev, status.st_ino), digest_size=8).digest()
    return int.from_bytes(digest, "little")
