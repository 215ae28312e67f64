"""What ``stat``, ``readdir`` and ``statfs`` answer."""

from __future__ import annotations

import stat
from typing import Any

from msgspec import Struct

from h5fs.model.file_status import FileStatus
from h5fs.model.settings import View
from h5fs.tree.nodes import SYMBOLIC_LINKS, AnyKind, Node, NodeKind

NANOSECONDS = 10**9

PREFERRED_READ_BYTES = 128 * 2**10
"""``st_blksize``: the largest request that libfuse 2 passes on, so that ``cp`` and ``cat`` ask for
whole ones."""

# An attribute file is linked once for each of its object's names, but is no hard link of its own.
_COUNTED: frozenset[AnyKind] = frozenset(
    {NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS, NodeKind.DATATYPE, *View}
)

_BLOCK_BYTES = 512  # the unit of st_blocks


class Status(Struct, frozen=True):
    """A node's ``struct stat``. Times in nanoseconds since the epoch."""

    inode: int
    mode: int
    hard_link_count: int
    uid: int
    gid: int
    size_bytes: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    preferred_read_bytes: int = PREFERRED_READ_BYTES


class Dentry(Struct, frozen=True):
    """One entry of a folder: enough for ``readdir`` (``mode`` has the file type only).

    ``status``: what ``stat`` would say, where that is known at once.
    """

    name: bytes
    inode: int
    mode: int
    status: Status | None = None


# The ``S_IF...`` bits; all other nodes are files, an unreadable object, too.
_TYPES: dict[AnyKind, int] = {
    NodeKind.FOLDER: stat.S_IFDIR, **dict.fromkeys(SYMBOLIC_LINKS, stat.S_IFLNK)
}  # fmt: skip


def make_status(
    node: Node,
    file: FileStatus,
    *,
    size_bytes: int,
    storage_bytes: int,
    is_readable: bool = True,
) -> Status:
    """Return a node's status; ``file`` is that of the HDF5 file, whose owner and mode it takes.

    ``is_readable`` False takes all permissions away: the content would be an error, and a program
    that skips what it thinks is an empty file must not take it for one.
    """
    kind = _TYPES.get(node.kind, stat.S_IFREG)
    info = node.info
    mtime_ns = info.mtime * NANOSECONDS or file.mtime_ns
    return Status(
        inode=node.inode,
        mode=kind | (_permissions(kind, file.mode) if is_readable else 0),
        hard_link_count=info.hard_link_count if node.kind in _COUNTED else 1,
        uid=file.uid,
        gid=file.gid,
        size_bytes=size_bytes,
        blocks=blocks_of(storage_bytes, size_bytes if kind == stat.S_IFREG else 0),
        atime_ns=info.atime * NANOSECONDS or file.atime_ns,
        mtime_ns=mtime_ns,
        ctime_ns=info.ctime * NANOSECONDS or mtime_ns,
    )


def make_dentry(node: Node, file: FileStatus) -> Dentry:
    """Return a node's dentry; ``file`` is the status of the HDF5 file that lists it."""
    status = None
    # (An object of another file has the owner and mode of that one.)
    if (
        node.kind is NodeKind.FOLDER
        and node.parent is not None
        and node.info.ref.file == node.parent.info.ref.file
    ):
        status = make_status(node, file, size_bytes=0, storage_bytes=0)
    return Dentry(node.name, node.inode, _TYPES.get(node.kind, stat.S_IFREG), status)


def make_file_status(
    inode: int,
    file: FileStatus,
    size_bytes: int,
    storage_bytes: int,
    hard_link_count: int,
    mtime: int,
    ctime: int,
    atime: int,
) -> Status:
    """Return the status of a dataset's file, as ``make_status`` does, without a node."""
    mtime_ns = mtime * NANOSECONDS or file.mtime_ns
    return Status(
        inode, file_mode(file), hard_link_count, file.uid, file.gid, size_bytes,
        blocks_of(storage_bytes, size_bytes), atime * NANOSECONDS or file.atime_ns, mtime_ns,
        ctime * NANOSECONDS or mtime_ns,
    )  # fmt: skip


def file_mode(file: FileStatus) -> int:
    """Return the mode of a file that can be read."""
    return stat.S_IFREG | file.mode & 0o444


def blocks_of(storage_bytes: Any, size_bytes: Any) -> Any:
    """Return ``st_blocks`` for what the HDF5 file spends on a file, numbers or arrays of them.

    One at least where there are bytes to read: ``tar --sparse`` archives zeros for a file that has
    no block. Folders and symbolic links have none.
    """
    return -(-storage_bytes // _BLOCK_BYTES) + ((storage_bytes == 0) & (size_bytes > 0))


def as_folder(file_mode: int) -> int:
    """Return the mode of the folder that an HDF5 file is: who may read it may enter."""
    return stat.S_IFDIR | _permissions(stat.S_IFDIR, file_mode)


def _permissions(kind: int, file_mode: int) -> int:
    """Return the HDF5 file's read bits; who may read may also enter a folder."""
    if kind == stat.S_IFLNK:
        return 0o777
    read = file_mode & 0o444
    return read | read >> 2 if kind == stat.S_IFDIR else read
