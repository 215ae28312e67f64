"""A folder of HDF5 files as a file system: each HDF5 file in it is a folder, the rest is as it is.

A file is an HDF5 file by its signature. Its tree is opened when somebody looks into it, and closed
when nobody has for a while. Read-only. Safe to call from any thread.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from h5fs.errors import (
    NoAttributeError,
    NotALinkError,
    PassedThroughError,
    ReadOnlyError,
    show_path,
)
from h5fs.model.file_status import SpaceStatus
from h5fs.store.format.superblock import is_hdf5_file
from h5fs.store.sources.local_file import space_at
from h5fs.tree.cache import LruCache
from h5fs.tree.dentries import Dentries
from h5fs.tree.handles import Handles
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Dentry, Status, as_folder
from h5fs.tree.versions.following_tree import LOOK_SECONDS, FollowingTree

MOST_FILES_OPEN = 8
"""How many HDF5 files are open, unless more are in use at once; each has a worker process."""

IDLE_SECONDS = 60.0
"""How long an HDF5 file that nobody looks into stays open."""

_SIGNATURES_KEPT = 65_536
_TREES_KEPT = 1024


@dataclass(eq=False, slots=True)
class _Hdf5File:
    """An HDF5 file below the folder. ``seed`` sets its inode numbers apart from other files'."""

    tree: FollowingTree
    seed: int
    seen_at: float


@dataclass(eq=False, slots=True)
class _Passed:
    """An open file that is passed through."""

    descriptor: int


@dataclass(eq=False, slots=True)
class _Inside:
    """An open file of an HDF5 file."""

    file: _Hdf5File
    handle: int


class FolderTree:
    """Answers what ``Tree`` answers, for a folder.

    ``open_tree(file)`` makes the tree of an HDF5 file, which opens it later.

    ``_lock`` protects ``_files``, for moments only: what is asked of a file's tree, which may wait
    for its disk and its workers, is asked without it.
    """

    def __init__(self, folder: Path, open_tree: Callable[[Path], FollowingTree]) -> None:
        self._root = os.fsencode(folder)
        self._open_tree = open_tree
        self.on_change: Callable[[], None] = lambda: None  # the kernel asks by itself
        self._lock = threading.Lock()
        self._files: dict[bytes, _Hdf5File] = {}
        self._signatures: LruCache[tuple[int, int, int, int], bool] = LruCache(
            _SIGNATURES_KEPT
        )
        self._handles: Handles[_Passed | _Inside] = Handles()
        self._ended = TreeStatistics()  # what trees that are forgotten have counted

    def forget(self) -> None:
        """Open every HDF5 file anew that somebody looks into."""
        for file in self._all_files():
            file.tree.forget()

    def check(self) -> int:
        """Close HDF5 files that nobody uses; forget those of long ago."""
        for file in self._all_files():
            if file.tree.is_open:
                file.tree.close_if_idle(IDLE_SECONDS)
        return 0

    def take_names(self) -> set[bytes]:
        """Return no names: the kernel asks again by itself."""
        return set()

    def get_status(self, path: bytes) -> Status:
        """Answer ``stat``. Opens no HDF5 file to answer for itself."""
        file, inner = self._find(path)
        if file is None or inner == b"/":
            return self._status_of(path, self._stat(path))
        self._make_way(file)
        status = file.tree.get_status(inner)
        return msgspec.structs.replace(status, inode=_mix(file, status.inode))

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``."""
        file, inner = self._find_to_look_into(path)
        if file is not None:
            return file.tree.list_folder(inner).with_inodes(lambda inode: _mix(file, inode))
        try:
            with os.scandir(self._real(path)) as entries:
                return Dentries.of(map(self._dentry, entries))
        except OSError as error:
            raise PassedThroughError.of(error, path) from None

    def keeps_folder(self, _path: bytes) -> bool:
        """Return False: files come and go."""
        return False

    def version(self) -> object:
        """Return what answers come from, whatever has changed in it: this."""
        return self

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        file, inner = self._find_to_look_into(path)
        if file is not None:
            return file.tree.read_link(inner)
        try:
            return os.readlink(self._real(path))
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise NotALinkError(f"{show_path(path)} is not a symbolic link") from None
            raise PassedThroughError.of(error, path) from None

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Answer ``listxattr``; what is passed through shows none."""
        file, inner = self._find_to_look_into(path)
        return file.tree.list_xattrs(inner) if file is not None else []

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """Answer ``getxattr``. Raises ``NoAttributeError``."""
        file, inner = self._find_to_look_into(path)
        if file is None:
            raise NoAttributeError(f"no extended attribute {show_path(name)}")
        return file.tree.get_xattr(inner, name)

    def get_file_system_status(self) -> SpaceStatus:
        """Answer ``statfs``: that of the file system the folder is on."""
        try:
            return space_at(self._root)
        except OSError as error:
            raise PassedThroughError.of(error, b"/") from None

    def open(self, path: bytes, flags: int) -> int:
        """Open a file and return its handle."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise ReadOnlyError(f"{show_path(path)}: the mount is read-only")
        file, inner = self._find_to_look_into(path)
        if file is not None:
            return self._handles.add(_Inside(file, file.tree.open(inner, flags)))
        try:
            how = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            return self._handles.add(_Passed(os.open(self._real(path), how)))
        except OSError as error:
            raise PassedThroughError.of(error, path) from None

    def keeps_cache(self, handle: int) -> bool:
        """Whether what the kernel has of the file is what it would read. Asked once, at open."""
        opened = self._handles.get(handle)
        return isinstance(opened, _Inside) and opened.file.tree.keeps_cache(opened.handle)

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of an open file; return how much."""
        opened = self._handles.get(handle)
        if isinstance(opened, _Inside):
            return opened.file.tree.read_into(opened.handle, buffer, offset)
        try:
            return os.preadv(opened.descriptor, [buffer], offset)
        except OSError as error:
            raise PassedThroughError.of(error, b"") from None

    def release(self, handle: int) -> None:
        """Forget a file handle."""
        opened = self._handles.remove(handle)
        if isinstance(opened, _Inside):
            opened.file.tree.release(opened.handle)
        else:
            os.close(opened.descriptor)

    def statistics(self) -> TreeStatistics:
        """Return what all HDF5 files together hold now and have counted. Takes no lock."""
        total = self._ended
        for file in list(self._files.values()):
            total += file.tree.statistics()
        return dataclasses.replace(total, open_file_count=self._handles.count())

    def close(self) -> None:
        """Close all HDF5 files."""
        files = self._all_files()
        with self._lock:
            self._files.clear()
        for file in files:
            file.tree.close()

    def _all_files(self) -> list[_Hdf5File]:
        with self._lock:
            return list(self._files.values())

    # Which file answers.

    def _find(self, path: bytes) -> tuple[_Hdf5File | None, bytes]:
        """Return the HDF5 file that a path leads into, and the path within; None for the rest."""
        end = path.find(b"/", 1)
        while True:
            above = path if end < 0 else path[:end]
            file = self._file_at(above)
            if file is not None:
                return file, path[len(above) :] or b"/"
            if end < 0:
                return None, path
            end = path.find(b"/", end + 1)

    def _file_at(self, path: bytes) -> _Hdf5File | None:
        """Return the HDF5 file that stands at a path; None when something else does."""
        now = time.monotonic()
        file = self._files.get(path)
        if file is not None and file.tree.is_open and now - file.seen_at < LOOK_SECONDS:
            return file
        try:
            status = os.lstat(self._real(path))
        except OSError:
            status = None
        if status is None or not self._is_hdf5(path, status):
            # A file that is open goes on although its name is gone; a new question finds nothing.
            return None
        return self._enter(path, status, now)

    def _enter(self, path: bytes, status: os.stat_result, now: float) -> _Hdf5File:
        seed = _seed_of(status)
        with self._lock:
            file = self._files.get(path)
            if file is None:
                self._make_room()
                real = Path(os.fsdecode(self._real(path)))
                file = self._files[path] = _Hdf5File(self._open_tree(real), seed, now)
            file.seed, file.seen_at = seed, now
            return file

    def _make_room(self) -> None:
        """Forget HDF5 files that are closed, when there are many."""
        if len(self._files) < _TREES_KEPT:
            return
        closed = [path for path, file in self._files.items() if not file.tree.is_open]
        for path in closed:
            self._ended += self._files.pop(path).tree.statistics()

    def _find_to_look_into(self, path: bytes) -> tuple[_Hdf5File | None, bytes]:
        """Do as ``_find``; before an HDF5 file is opened, close those that are too many."""
        file, inner = self._find(path)
        if file is not None:
            self._make_way(file)
        return file, inner

    def _make_way(self, newest: _Hdf5File) -> None:
        if newest.tree.is_open:
            return
        others = [file for file in self._all_files() if file.tree.is_open and file is not newest]
        excess = len(others) + 1 - MOST_FILES_OPEN
        for file in sorted(others, key=lambda other: other.tree.used_at):
            if excess > 0 and file.tree.close_if_idle(0):
                excess -= 1

    def _is_hdf5(self, path: bytes, status: os.stat_result) -> bool:
        if not stat.S_ISREG(status.st_mode):
            return False
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._signatures.get(version)
        if known is None:
            known = is_hdf5_file(self._real(path))
            self._signatures.put(version, known)
        return known

    # What is passed through.

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


def _mix(file: _Hdf5File, inode: int) -> int:
    """Return an inode number that no other file's objects have, but by a chance of 2^-64."""
    return (inode ^ file.seed) or 1
