"""Statuses in a mount that writes: what the HDF5 file says, with what is pending laid over it.

Keeps nothing itself; under the tree's lock.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from h5fs.errors import NotAGroupError, NotFoundError, StaleError
from h5fs.projection.names import Projection
from h5fs.tree.contents.content import ArrayContent, Content
from h5fs.tree.dentries import Dentries
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import SYMBOLIC_LINKS, AnyKind, Node, NodeKind
from h5fs.tree.status import Status, make_status
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.places import Places, check_no_view
from h5fs.tree.writing.opened_files import OpenedFile, OpenedFiles
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile

_ARRAY: Final = Projection.ARRAY.suffix
_TYPE: Final = 0o170000  # S_IFMT
_WRITABLE: Final = frozenset[AnyKind](NodeKind) - SYMBOLIC_LINKS


class Statuses:
    """What ``stat`` and ``fstat`` say, and the times that programs and changes set."""

    def __init__(
        self,
        pending: Pending,
        lookup: Lookup,
        places: Places,
        opened: OpenedFiles,
        keeper: Keeper,
        listed_status: Callable[[bytes], tuple[Node, Status] | None],
    ) -> None:
        self._pending = pending
        self._opened = opened
        self._keeper = keeper
        self._listed_status = listed_status
        self._lookup = lookup
        self._places = places

    def of_path(self, path: bytes) -> Status:
        """Answer ``stat``."""
        return self.lasting_of_path(path)[0]

    def lasting_of_path(self, path: bytes) -> tuple[Status, bool]:
        """Answer ``stat``; return also whether only calls that name this very path change that.

        So it is with arrays of one name, unless they are being written, and with folders, whose
        entries belong to them here. What else there is may change with something else: attribute
        files and pairs with their objects, symbolic links with what they lead to.
        """
        file = self._pending.staged(path)
        if file is not None:
            return self._of_staged(file), False
        entry = self._pending.scratch(path)
        if entry is not None:
            return entry.status(self._lookup.files.latest(0)), False
        if path.endswith(_ARRAY) and (listed := self._by_listing(path)) is not None:
            return listed
        node = self._places.find_visible(path)
        status = self._as_in_mount(self._lookup.status_of(path, node), node)
        edited = None if node.kind is NodeKind.FOLDER else self._pending.edited(node)
        if edited is None:
            return status, self._lasts(node, status)
        if edited.is_dirty or edited.is_as_written:
            status = _with_draft(status, edited)
        return status, False

    def _lasts(self, node: Node, status: Status) -> bool:
        """Whether only calls that name this very path change a status, with nothing pending."""
        info = node.info
        if node.kind is NodeKind.FOLDER:
            if has_other_paths(node):
                return False
            # Times that the HDF5 file keeps of a group change with its attributes and links, also
            # where a call names others. From now on they are those that the kernel keeps.
            if self._pending.times_of(status.inode) is None:
                self._pending.hold_times(info, self._lookup.status_of_file(0))
            return True
        if node.kind is not NodeKind.ARRAY or info.hard_link_count != 1 or info.ref.file:
            return False
        if self._opened.reads_replaced:
            return False
        is_readable = bool(status.mode & 0o777)
        if not is_readable or node.parent is None or has_other_paths(node.parent):
            return False
        if info.dataset is not None:
            return True
        content = self._lookup.content_of(node)
        if not isinstance(content, ArrayContent) or content.dataset.is_scanned:
            return False
        # The size of a virtual dataset may follow that of its sources.
        return content.dataset.data is not None

    def _by_listing(self, path: bytes) -> tuple[Status, bool] | None:
        """Return the status of an array by the listing of its folder; None: take a closer look."""
        if self._pending.is_whited_out(path):
            return None
        listed = self._listed_status(path)
        if listed is None:
            return None
        folder, status = listed
        # One of those that are being edited may be this array, by any of its names.
        if any(file.inode == status.inode for file in self._pending.edited_files()):
            return None
        # Listings are kept of the mounted file alone.
        status = self._with_changes(status, is_writable=True)
        is_alone = status.hard_link_count == 1 and not has_other_paths(folder)
        return status, is_alone and not self._opened.reads_replaced

    def of_listing(self, folder: Node, dentries: Dentries) -> Dentries:
        """Return a listing of the HDF5 file with those statuses that ``lasting_of_path`` gives."""
        rows = dentries.rows.copy()
        lasts = rows["has_status"]
        lasts &= (rows["mode"] & _TYPE == stat.S_IFREG) & (rows["hard_link_count"] == 1)
        if has_other_paths(folder) or self._opened.reads_replaced:
            lasts[:] = False
        for file in self._pending.edited_files():
            lasts &= rows["inode"] != file.inode
        of_file = self._lookup.status_of_file(0)
        rows["mode"][lasts] |= of_file.mode & 0o222
        if self._pending.has_times:
            inodes = rows["inode"].tolist()
            for place in np.flatnonzero(lasts).tolist():
                if (times := self._pending.times_of(inodes[place])) is not None:
                    rows["atime_ns"][place], rows["mtime_ns"][place] = times
        rows["ctime_ns"][lasts] = rows["mtime_ns"][lasts]
        return Dentries(dentries.names, rows)

    def lasting_of_opened(self, opened: OpenedFile, *, has_name: bool) -> tuple[Status, bool]:
        """Answer ``fstat``; return also whether only calls about this file change that, until it is
        closed. ``has_name``: the file still has the name that it was opened by.

        So it is with a new file: the HDF5 file has nothing of it before the first `close`.
        """
        file = opened.file
        if has_name and file is not None and file.node is None and not file.is_gone:
            return self._of_staged(file), file.held is None and not file.is_kept
        status = self._of_opened(opened)
        if has_name or status.hard_link_count == 0:
            return status, False
        status = msgspec.structs.replace(status, hard_link_count=status.hard_link_count - 1)
        return status, False

    def _of_opened(self, opened: OpenedFile) -> Status:
        file = opened.file
        if file is None:
            assert opened.node is not None
            return self._of_content(opened.node, opened.content)
        if file.node is None or (file.is_gone and not file.has_other_names):
            return self._of_staged(file)
        return _with_draft(self._of_content(file.node, file.content), file)

    def set_times(
        self, path: bytes | None, handle: int | None, atime_ns: int | None, mtime_ns: int | None
    ) -> None:
        """Answer ``utimensat``: the times last as long as the mount. None leaves one as it is.

        A file without a path has a handle.
        """
        if path is None:
            assert handle is not None
            self._set_times_of(self._opened.get(handle), atime_ns, mtime_ns)
            return
        status = self.of_path(path)
        atime_ns = status.atime_ns if atime_ns is None else atime_ns
        mtime_ns = status.mtime_ns if mtime_ns is None else mtime_ns
        entry = self._pending.staged(path) or self._pending.scratch(path)
        if entry is not None:
            entry.atime_ns, entry.mtime_ns = atime_ns, mtime_ns
            return
        node = self._lookup.find(path)
        check_no_view(node, path)
        edited = self._pending.edited(node)
        if edited is not None:  # at its `close`, which comes later, they are set once more
            edited.atime_ns, edited.mtime_ns = atime_ns, mtime_ns
        self._pending.set_times(node.inode, atime_ns, mtime_ns)

    def _set_times_of(self, opened: OpenedFile, atime_ns: int | None, mtime_ns: int | None) -> None:
        file = opened.file
        if file is None:
            raise StaleError("the times of a file that is only read, and has no name any more")
        file.atime_ns = file.atime_ns if atime_ns is None else atime_ns
        file.mtime_ns = file.mtime_ns if mtime_ns is None else mtime_ns

    def note_change_in(self, path: bytes) -> None:
        """Let the times of a path's folder be now: an entry has come or gone."""
        self._pending.refused.forget(path)
        folder_path, now_ns = path.rpartition(b"/")[0], time.time_ns()
        entry = self._pending.scratch(folder_path)
        if entry is not None:
            entry.mtime_ns = now_ns
            return
        try:
            folder = self._lookup.find_folder(folder_path or b"/")
        except (NotFoundError, NotAGroupError):
            return  # it went with what was in it
        inode = folder.inode
        times = self._pending.times_of(inode)
        if times is None:
            times = self._lookup.files.latest(folder.info.ref.file).atime_ns, now_ns
        self._pending.set_times(inode, times[0], now_ns)

    def _of_staged(self, file: WritableFile) -> Status:
        """Return the status of what the HDF5 file does not have: nobody is asked, so that a program
        that has made a new file is not told that this failed."""
        of_file = self._lookup.files.latest(0)
        size = file.size_bytes
        links = 0 if file.is_gone else self._keeper.hard_link_count(file)
        return Status(
            inode=file.inode, mode=stat.S_IFREG | of_file.mode & 0o666, hard_link_count=links,
            uid=of_file.uid, gid=of_file.gid, size_bytes=size, blocks=-(-size // 512),
            atime_ns=file.atime_ns, mtime_ns=file.mtime_ns, ctime_ns=file.mtime_ns,
        )  # fmt: skip

    def _of_content(self, node: Node, content: Content | None) -> Status:
        """Return the status of a file that is open, whatever its path leads to by now.

        The kernel gives a reader no more bytes than this says, so that the size must be that of
        the bytes the reader gets, and never 0 for want of an answer.
        """
        size, storage = (0, 0) if content is None else (content.size_bytes, content.storage_bytes)
        of_file = self._lookup.status_of_file(node.info.ref.file)
        status = make_status(node, of_file, size_bytes=size, storage_bytes=storage)
        return self._as_in_mount(status, node)

    def _as_in_mount(self, status: Status, node: Node) -> Status:
        """Return a node's status with what a mount that writes adds: permissions, times."""
        is_writable = node.info.ref.file == 0 and node.kind in _WRITABLE
        return self._with_changes(status, is_writable=is_writable)

    def _with_changes(self, status: Status, *, is_writable: bool) -> Status:
        mode = status.mode
        if is_writable and mode & 0o777:
            mode |= self._lookup.status_of_file(0).mode & 0o222
        times = self._pending.times_of(status.inode)
        atime_ns, mtime_ns = times or (status.atime_ns, status.mtime_ns)
        return msgspec.structs.replace(
            status, mode=mode, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=mtime_ns
        )


def has_other_paths(folder: Node) -> bool:
    """Whether a folder, or one that it is in, has several hard links, or is in another file."""
    node: Node | None = folder
    while node is not None and node.parent is not None:
        if node.info.hard_link_count > 1 or node.info.ref.file:
            return True
        node = node.parent
    return False


def _with_draft(status: Status, file: WritableFile) -> Status:
    if file.draft is None:
        return status
    return msgspec.structs.replace(
        status, size_bytes=file.draft.size_bytes, mtime_ns=file.mtime_ns, ctime_ns=file.mtime_ns
    )
