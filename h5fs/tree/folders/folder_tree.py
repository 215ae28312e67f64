"""A folder of HDF5 files as a file system: each HDF5 file in it is a folder, the rest is as it is.

What is in the folder, and which files are HDF5 files, is told by its ``FolderContents``. An HDF5
file's tree is opened when somebody looks into it, and closed when nobody has for a while.
Read-only. Safe to call from any thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from h5fs.errors import NoAttributeError, ReadOnlyError, show_path
from h5fs.model.file_status import SpaceStatus
from h5fs.tree.dentries import Dentries
from h5fs.tree.folders.folder_contents import FolderContents, PassedFile
from h5fs.tree.handles import Handles
from h5fs.tree.nodes import mix_inode
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Status
from h5fs.tree.versions.following_tree import LOOK_SECONDS, FollowingTree

MOST_FILES_OPEN = 8
"""How many HDF5 files are open, unless more are in use at once; each has a worker process."""

IDLE_SECONDS = 60.0
"""How long an HDF5 file that nobody looks into stays open."""

_TREES_KEPT = 1024


@dataclass(eq=False, slots=True)
class _Hdf5File:
    """An HDF5 file below the folder. ``seed`` sets its inode numbers apart from other files'."""

    tree: FollowingTree
    seed: int
    seen_at: float


@dataclass(eq=False, slots=True)
class _Inside:
    """An open file of an HDF5 file."""

    file: _Hdf5File
    handle: int


class FolderTree:
    """Answers what ``Tree`` answers, for a folder.

    ``_lock`` protects ``_files``, for moments only: what is asked of a file's tree, which may wait
    for its disk and its workers, is asked without it.
    """

    def __init__(self, contents: FolderContents) -> None:
        self._contents = contents
        self.on_change: Callable[[], None] = lambda: None  # not needed: the kernel keeps little
        self._lock = threading.Lock()
        self._files: dict[bytes, _Hdf5File] = {}
        self._handles: Handles[PassedFile | _Inside] = Handles()
        self._ended = TreeStatistics()  # what trees that are forgotten have counted

    def forget(self) -> None:
        """Find out anew what is in the folder, and in every HDF5 file that somebody looks into."""
        self._contents.forget()
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
            return self._contents.get_status(path)
        self._make_way(file)
        status = file.tree.get_status(inner)
        return structs.replace(status, inode=mix_inode(status.inode, file.seed))

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``."""
        file, inner = self._find_to_look_into(path)
        if file is not None:
            dentries = file.tree.list_folder(inner)
            return dentries.with_inodes(lambda inode: mix_inode(inode, file.seed))
        return self._contents.list_folder(path)

    def keeps_folder(self, _path: bytes) -> bool:
        """Return False: files come and go."""
        return False

    def version(self) -> object:
        """Return this, whatever has changed."""
        return self

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        file, inner = self._find_to_look_into(path)
        if file is not None:
            return file.tree.read_link(inner)
        return self._contents.read_link(path)

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
        return self._contents.get_space()

    def open(self, path: bytes, flags: int) -> int:
        """Open a file and return its handle."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise ReadOnlyError(f"{show_path(path)}: the mount is read-only")
        file, inner = self._find_to_look_into(path)
        if file is not None:
            return self._handles.add(_Inside(file, file.tree.open(inner, flags)))
        return self._handles.add(self._contents.open_file(path))

    def keeps_cache(self, handle: int) -> bool:
        """Whether what the kernel has of the file is what it would read. Asked once, at open."""
        opened = self._handles.get(handle)
        return isinstance(opened, _Inside) and opened.file.tree.keeps_cache(opened.handle)

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of an open file; return how much."""
        opened = self._handles.get(handle)
        if isinstance(opened, _Inside):
            return opened.file.tree.read_into(opened.handle, buffer, offset)
        return opened.read_into(buffer, offset)

    def release(self, handle: int) -> None:
        """Forget a file handle."""
        opened = self._handles.remove(handle)
        if isinstance(opened, _Inside):
            opened.file.tree.release(opened.handle)
        else:
            opened.close()

    def statistics(self) -> TreeStatistics:
        """Return what all HDF5 files together hold now and have counted. Takes no lock."""
        total = self._ended
        for file in list(self._files.values()):
            total += file.tree.statistics()
        return structs.replace(total, open_file_count=self._handles.count())

    def close(self) -> None:
        """Close all HDF5 files."""
        files = self._all_files()
        with self._lock:
            self._files.clear()
        for file in files:
            file.tree.close()

    def interrupt(self) -> None:
        """Let calls that wait for another machine end with an error."""
        self._contents.interrupt()

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
        seed = self._contents.find_hdf5(path)
        if seed is None:
            # A file that is open goes on although its name is gone; a new question finds nothing.
            return None
        return self._enter(path, seed, now)

    def _enter(self, path: bytes, seed: int, now: float) -> _Hdf5File:
        with self._lock:
            file = self._files.get(path)
            if file is None:
                self._make_room()
                file = self._files[path] = _Hdf5File(self._contents.open_tree(path), seed, now)
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
