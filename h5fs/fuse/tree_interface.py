"""The tree that mode r asks."""

from __future__ import annotations

import os
from typing import Protocol

from h5fs.tree.dentries import Dentries
from h5fs.tree.status import Status


class ReadableTree(Protocol):
    """What ``Operations`` calls, each from any thread.

    Paths are absolute bytes. ``handle`` is what ``open`` returned. Raises ``H5fsError``s.
    """

    def get_status(self, path: bytes) -> Status: ...
    def list_folder(self, path: bytes) -> Dentries: ...
    def read_link(self, path: bytes) -> bytes: ...
    def open(self, path: bytes, flags: int) -> int: ...
    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int: ...
    def release(self, handle: int) -> None: ...
    def get_file_system_status(self) -> os.statvfs_result: ...
    def list_xattrs(self, path: bytes) -> list[bytes]: ...
    def get_xattr(self, path: bytes, name: bytes) -> bytes: ...

    def keeps_cache(self, handle: int) -> bool:
        """Whether the pages that the kernel has of the file are its content. Asked once, at open.
        """
        ...

    def version(self) -> object:
        """What answers come from: the same object as long as those that were given stay true."""
        ...

    def keeps_folder(self, path: bytes) -> bool:
        """Whether the listing that the kernel has of a folder is what it would get. Asked once, at
        ``opendir``."""
        ...
