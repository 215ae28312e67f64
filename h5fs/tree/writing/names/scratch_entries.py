"""Folders outside of the HDF5 file, and the symbolic links in them."""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass, field

from h5fs.errors import NotALinkError, show_path
from h5fs.model.file_status import FileStatus
from h5fs.tree.status import Dentry, Status, as_folder


@dataclass(eq=False, slots=True)
class ScratchEntry:
    """A folder, or, with a ``text``, a symbolic link."""

    inode: int
    text: bytes | None = None
    atime_ns: int = field(default_factory=time.time_ns)
    mtime_ns: int = field(default_factory=time.time_ns)

    @property
    def is_folder(self) -> bool:
        """Whether the entry is a folder."""
        return self.text is None

    def read_link(self, path: bytes) -> bytes:
        """Return the text. Raises ``NotALinkError``."""
        if self.text is None:
            raise NotALinkError(f"{show_path(path)} is not a symbolic link")
        return self.text

    def dentry(self, name: bytes) -> Dentry:
        """Return the entry as ``readdir`` tells it."""
        return Dentry(name, self.inode, stat.S_IFDIR if self.is_folder else stat.S_IFLNK)

    def status(self, file: FileStatus) -> Status:
        """Return the entry as ``stat`` tells it; ``file`` is the status of the HDF5 file."""
        mode = stat.S_IFLNK | 0o777
        if self.is_folder:
            mode = as_folder(file.mode) | file.mode & 0o222
        return Status(
            inode=self.inode, mode=mode, hard_link_count=1, uid=file.uid, gid=file.gid,
            size_bytes=len(self.text or b""), blocks=0, atime_ns=self.atime_ns,
            mtime_ns=self.mtime_ns, ctime_ns=self.mtime_ns,
        )  # fmt: skip
