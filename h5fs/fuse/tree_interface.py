"""What the FUSE room asks of a tree: in mode r, and beyond that in a mode that writes."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Protocol

from h5fs.model.file_status import SpaceStatus
from h5fs.tree.contents.page_content import PageContent
from h5fs.tree.dentries import Dentries
from h5fs.tree.status import Status


class TreeInterface(Protocol):
    """What ``Operations`` calls, each from any thread.

    Paths are absolute bytes. ``handle`` is what ``open`` returned. Raises ``H5fsError``s.
    """

    def get_status(self, path: bytes) -> Status: ...
    def list_folder(self, path: bytes) -> Dentries: ...
    def read_link(self, path: bytes) -> bytes: ...
    def open(self, path: bytes, flags: int) -> int: ...
    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int: ...
    def release(self, handle: int) -> None: ...
    def get_file_system_status(self) -> SpaceStatus: ...
    def list_xattrs(self, path: bytes) -> list[bytes]: ...
    def get_xattr(self, path: bytes, name: bytes) -> bytes: ...

    def keeps_cache(self, handle: int) -> bool:
        """Whether the pages that the kernel has of the file are still true. Asked once, at open."""
        ...

    def version(self) -> object:
        """What answers come from: the same object as long as earlier answers stay true."""
        ...

    def keeps_folder(self, path: bytes) -> bool:
        """Whether the kernel's listing of a folder is still true. Asked at ``opendir``."""
        ...


class WritingTreeInterface(TreeInterface, Protocol):
    """What ``WritingOperations`` calls, each from any thread.

    Paths are absolute bytes. ``handle`` is what ``open`` or ``create`` returned. ``pid`` is the
    calling process, 0 when it is not known. Raises ``H5fsError``s.
    """

    def open(self, path: bytes, flags: int, pid: int = 0) -> int:
        """``flags`` may have ``O_TRUNC``; ``O_CREAT`` and ``O_EXCL`` are the kernel's."""
        ...

    def create(self, path: bytes, flags: int, pid: int = 0, mode: int = 0o666) -> int:
        """Make a file. There was no such dentry just before; ``O_EXCL`` insists that there is none.

        ``mode`` is the permission bits that the program gave, 0 to 0o7777.
        """
        ...

    def bypasses_cache(self, handle: int) -> bool:
        """Whether reads and writes shall go past the kernel's page cache. Asked once, at open."""
        ...

    def only_reads(self, handle: int) -> bool:
        """Whether a handle neither writes nor reads what others write meanwhile."""
        ...

    def page_content(self, handle: int) -> PageContent | None:
        """Return what a handle reads of the HDF5 file; None where it reads a draft."""
        ...

    def changed_since(self, version: object) -> Set[int] | None:
        """Return the inode numbers of files whose status has changed since then; None for any."""
        ...

    def get_lasting_status(self, path: bytes) -> tuple[Status, bool]:
        """``stat``, and whether the kernel may keep the answer: no call changes it that names
        another file or, for a folder, no entry of it.
        """
        ...

    def get_lasting_status_of_handle(self, handle: int, *, has_name: bool) -> tuple[Status, bool]:
        """``fstat``, and whether the kernel may keep the answer until the file is closed, but not
        that the file has this name. ``has_name``: it still has the name that it was opened by.
        """
        ...

    def write(
        self, handle: int, data: memoryview, offset: int, *, is_page: bool = False,
        is_mixed: bool = False,
    ) -> None:  # fmt: skip
        """Write all of ``data``, or raise. ``data`` is valid until the call returns.

        ``is_page``: these are pages that programs have mapped, of which they have changed a part;
        ``is_mixed``: others have the file open, and fill the same pages with another content.
        """
        ...

    def flush(self, handle: int, pid: int) -> None:
        """``close(2)`` of one descriptor, of perhaps many; an error here is that of ``close``."""
        ...

    def fsync(self, handle: int) -> None: ...
    def sync_folder(self, path: bytes) -> None: ...

    def truncate(self, path: bytes | None, size: int, handle: int | None) -> None:
        """``truncate``, or ``ftruncate`` with a handle: the path may be None then."""
        ...

    def make_folder(self, path: bytes) -> None: ...
    def remove_folder(self, path: bytes) -> None: ...
    def unlink(self, path: bytes, pid: int = 0) -> None: ...

    def rename(self, old: bytes, new: bytes, flags: int, pid: int = 0) -> None:
        """``flags`` are those of ``renameat2``."""
        ...

    def make_hard_link(self, existing: bytes, new: bytes) -> None: ...
    def make_symbolic_link(self, text: bytes, path: bytes) -> None: ...

    def set_xattr(self, path: bytes, name: bytes, value: bytes, flags: int) -> None:
        """``flags`` are those of ``setxattr``."""
        ...

    def remove_xattr(self, path: bytes, name: bytes) -> None: ...

    def set_mode(self, path: bytes | None, mode: int) -> None:
        """``mode`` is the permission bits, 0 to 0o7777."""
        ...

    def set_owner(self, path: bytes | None, uid: int, gid: int) -> None:
        """-1 leaves the owner or group as it is."""
        ...

    def call_when_waiting(self, function: Callable[[], None]) -> None:
        """Have a function called by each call that begins to wait for the store as those do that
        ``count_waiting`` counts, on its thread."""
        ...

    def count_waiting(self) -> int:
        """Return how many calls wait for the store, and hinder no other."""
        ...

    def set_times(
        self,
        path: bytes | None,
        atime_ns: int | None,
        mtime_ns: int | None,
        handle: int | None = None,
    ) -> None:
        """None leaves the time as it is. ``handle``: of a file that has no name any more."""
        ...
