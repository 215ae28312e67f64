"""The tree of a mode that writes: files that are open, drafts, and the changes they become.

What is not (yet) in the HDF5 file is here: drafts of files that are being written, attributes that
wait for their dataset, scratch files. ``changes`` has what happens to names.

Lock order: ``_lock`` protects everything here and makes each call one step; the store is called
while it is held. Reads of data take it for moments only.
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
import threading
import time
from pathlib import Path

import msgspec

from h5fs.errors import (
    BadHandleError,
    H5fsError,
    IsAGroupError,
    NoAttributeError,
    NotFoundError,
    ReadOnlyError,
    show_path,
)
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import Limits
from h5fs.store.interface import WritingStore
from h5fs.tree.content import Content, TextContent
from h5fs.tree.dentries import Dentries
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.status import Status, make_status
from h5fs.tree.tree import Tree
from h5fs.tree.writing.opened_file import OpenedFile
from h5fs.tree.writing.pending import Pending
from h5fs.tree.writing.writable_file import WritableFile

_log = logging.getLogger(__name__)

_FILE_KINDS = frozenset(
    {NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS, NodeKind.ATTRIBUTES, NodeKind.DATATYPE}
)
_STAGED_INODES = 1 << 62


class WritableBase(Tree):
    """Finding, opening and describing files, whether the HDF5 file has them or not."""

    def __init__(
        self,
        store: WritingStore,
        max_depth: int = Limits().max_depth,
        *,
        mountpoint: bytes = b"",
        leftovers: Path | None = None,
        commits_at_close: bool = False,
    ) -> None:
        super().__init__(store, max_depth)
        self._writer = store
        self._mountpoint = mountpoint
        self._leftovers = leftovers
        self._commits_at_close = commits_at_close
        self._lock = threading.RLock()
        self._pending = Pending()
        self._open_handles: dict[int, OpenedFile] = {}
        self._numbers = itertools.count(1)
        self._inodes = itertools.count(_STAGED_INODES)

    def get_status(self, path: bytes) -> Status:
        with self._lock:
            file = self._pending.staged(path)
            if file is not None:
                return self._staged_status(file)
            entry = self._pending.scratch(path)
            if entry is not None:
                return entry.status(self.lookup.status_of_file(0))
            if self._pending.is_hidden(path):
                raise NotFoundError(f"{show_path(path)} was removed")
            return self._node_status(path, self.lookup.find(path))

    def get_status_of_handle(self, handle: int) -> Status:
        """Answer ``fstat``."""
        with self._lock:
            opened = self._handle(handle)
            file = opened.file
            if file is None:
                assert opened.node is not None
                return self._status_of_opened(opened.node, opened.content)
            if file.node is None or file.is_gone:
                return self._staged_status(file)
            return self._with_draft(self._status_of_opened(file.node, file.content), file)

    def list_folder(self, path: bytes) -> Dentries:
        with self._lock:
            new = self._pending.in_folder(path)
            if self._pending.scratch(path) is not None:
                return Dentries.of(new)
            gone = self._pending.hidden_in(path) | {dentry.name for dentry in new}
            dentries = super().list_folder(path)
            return dentries.changed(gone, new) if gone else dentries

    def keeps_folder(self, _path: bytes) -> bool:
        return False

    def read_link(self, path: bytes) -> bytes:
        with self._lock:
            entry = self._pending.scratch(path)
            return super().read_link(path) if entry is None else entry.read_link(path)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        with self._lock:
            return [] if self._pending.is_outside(path) else super().list_xattrs(path)

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        with self._lock:
            if self._pending.is_outside(path):
                raise NoAttributeError(f"{show_path(path)} is not in the HDF5 file")
            return super().get_xattr(path, name)

    def open(self, path: bytes, flags: int, pid: int = 0) -> int:
        with self._lock:
            writes = flags & os.O_ACCMODE != os.O_RDONLY
            file = self._pending.staged(path)
            if file is not None:
                if flags & os.O_TRUNC:
                    self._empty(file)
                opened = OpenedFile(pid, file, bypasses_cache=writes_anew(flags), writes=writes)
                return self._add_handle(opened)
            if self._pending.scratch(path) is not None:
                raise IsAGroupError(f"{show_path(path)} is a folder")
            if self._pending.is_hidden(path):
                raise NotFoundError(f"{show_path(path)} was removed")
            node = self.lookup.find(path)
            if node.kind is NodeKind.FOLDER:
                raise IsAGroupError(f"{show_path(path)} is a group")
            if not writes and not flags & os.O_TRUNC:
                return self._open_to_read(node, pid)
            return self._open_to_write(path, node, flags, pid)

    def bypasses_cache(self, handle: int) -> bool:
        """Whether reads and writes of a handle shall go past the kernel's cache.

        Reads, where they must not be mixed with what others wrote to the same path; writes, where
        the kernel would keep a copy for nobody.
        """
        with self._lock:
            return self._handle(handle).bypasses_cache

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        with self._lock:
            opened = self._handle(handle)
            content = opened.content
            if content is None:
                assert opened.file is not None
                if opened.file.draft is not None:
                    return opened.file.draft.read_into(buffer, offset)
                content = opened.file.content
        return content.read_into(buffer, offset) if content is not None else 0

    def _handle(self, handle: int) -> OpenedFile:
        try:
            return self._open_handles[handle]
        except KeyError:
            raise BadHandleError(f"file handle {handle} is not open") from None

    def _add_handle(self, opened: OpenedFile) -> int:
        number = next(self._numbers)
        self._open_handles[number] = opened
        if opened.file is not None:
            opened.file.opened += 1
        return number

    def _open_to_read(self, node: Node, pid: int) -> int:
        edited = self._pending.edited(node)
        content = self.lookup.content_of(node)
        _ = content.size_bytes  # what stat refuses is refused here too
        # The kernel keeps one copy of the pages for all who have a path open: whoever reads another
        # content than they do must not share it.
        is_replaced = edited is not None and edited.draft is not None
        bypasses_cache = is_replaced or self._is_read_otherwise(node, content)
        held = self._hold(node)
        return self._add_handle(OpenedFile(pid, None, node, content, held, bypasses_cache))

    def _is_read_otherwise(self, node: Node, content: Content) -> bool:
        """Whether a handle reads a text that was rewritten in place since it was opened."""
        return isinstance(content, TextContent) and any(
            opened.node is not None
            and opened.node.kind is node.kind
            and opened.node.info.ref == node.info.ref
            and opened.content != content
            for opened in self._open_handles.values()
        )

    def _open_to_write(self, path: bytes, node: Node, flags: int, pid: int) -> int:
        if node.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")
        if node.kind not in _FILE_KINDS:
            raise ReadOnlyError(f"{show_path(path)}: an object that cannot be read")
        file = self._pending.edited(node)
        if file is None:
            file = WritableFile(path, node, self._content_to_edit(node, flags), inode=node.inode)
            self._pending.begin_editing(node, file)
        if flags & os.O_TRUNC:
            self._empty(file)
        held = self._hold(node)
        bypasses_cache = writes_anew(flags)
        return self._add_handle(
            OpenedFile(pid, file, held=held, bypasses_cache=bypasses_cache, writes=True)
        )

    def _content_to_edit(self, node: Node, flags: int) -> Content | None:
        try:
            content = self.lookup.content_of(node)
            _ = content.size_bytes
        except H5fsError:
            if flags & os.O_TRUNC:
                return None  # what cannot be read can still be replaced
            raise
        return content

    def _hold(self, node: Node) -> ObjectRef | None:
        if node.kind is NodeKind.ATTRIBUTES or node.info.ref.file:
            return None
        self._writer.hold(node.info.ref)
        return node.info.ref

    def _empty(self, file: WritableFile) -> None:
        file.begin(empty=True)
        file.mtime_ns = time.time_ns()

    def _is_there(self, path: bytes) -> bool:
        if self._pending.is_outside(path):
            return True
        return not self._pending.is_hidden(path) and self._is_node(path)

    def _is_node(self, path: bytes) -> bool:
        """Whether the HDF5 file has something under a path."""
        try:
            self.lookup.find(path)
        except NotFoundError:
            return False
        return True

    def _staged_status(self, file: WritableFile) -> Status:
        of_file = self.lookup.status_of_file(0)
        draft = file.draft
        size = draft.size_bytes if draft is not None else file.size_bytes
        return Status(
            inode=file.inode, mode=stat.S_IFREG | of_file.mode & 0o666,
            hard_link_count=0 if file.is_gone else 1, uid=of_file.uid, gid=of_file.gid,
            size_bytes=size, blocks=-(-size // 512), atime_ns=file.atime_ns,
            mtime_ns=file.mtime_ns, ctime_ns=file.mtime_ns,
        )  # fmt: skip

    def _node_status(self, path: bytes, node: Node) -> Status:
        status = self._as_in_mount(self.lookup.status_of(path, node), node)
        edited = self._pending.edited(node)
        return status if edited is None else self._with_draft(status, edited)

    def _status_of_opened(self, node: Node, content: Content | None) -> Status:
        """Return the status of a file that is open, whatever its path leads to by now.

        The kernel gives a reader no more bytes than this says, so that the size must be that of
        the bytes the reader gets, and never 0 for want of an answer.
        """
        size, storage = (0, 0) if content is None else (content.size_bytes, content.storage_bytes)
        of_file = self.lookup.status_of_file(node.info.ref.file)
        status = make_status(node, of_file, size_bytes=size, storage_bytes=storage)
        return self._as_in_mount(status, node)

    def _as_in_mount(self, status: Status, node: Node) -> Status:
        """Return a node's status with what a mount that writes adds: permissions, times."""
        of_file = self.lookup.status_of_file(node.info.ref.file)
        mode = status.mode
        if node.info.ref.file == 0 and mode & 0o777 and not node.is_symbolic_link:
            mode |= of_file.mode & 0o222
        times = self._pending.times_of(node.inode)
        atime_ns, mtime_ns = times or (status.atime_ns, status.mtime_ns)
        return msgspec.structs.replace(
            status, mode=mode, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=mtime_ns
        )

    def _with_draft(self, status: Status, file: WritableFile) -> Status:
        if file.draft is None:
            return status
        return msgspec.structs.replace(
            status, size_bytes=file.draft.size_bytes, mtime_ns=file.mtime_ns,
            ctime_ns=file.mtime_ns,
        )  # fmt: skip


def writes_anew(flags: int) -> bool:
    """Whether a file is opened to write new content, and nothing else: no mapping, no reading."""
    return flags & os.O_ACCMODE == os.O_WRONLY and bool(flags & os.O_TRUNC)
