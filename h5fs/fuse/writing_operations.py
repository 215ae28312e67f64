"""libfuse's calls in a write mode: those of mode r, and those that change something.

As in ``operations``, each method converts arguments, calls the tree once, and converts the result.
libfuse passes None for the path of a file that has lost its name while it is open. Only libfuse 3
gets here (``check_options``).
"""

from __future__ import annotations

import ctypes
import errno
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

from h5fs.errors import ExistsError, NamelessError, NotFoundError, show_path
from h5fs.fuse.callers import caller_finder
from h5fs.fuse.kept_pages import KeptPages, Pages
from h5fs.fuse.latencies import CallMeter
from h5fs.fuse.library.binding import Binding
from h5fs.fuse.library.current_requests import NO_HANDLE, CurrentRequests
from h5fs.fuse.library.structures import NANOSECONDS
from h5fs.fuse.open_folders import OpenFolder
from h5fs.fuse.open_nodes import OpenFolderStatuses, OpenNodes
from h5fs.fuse.operations import Operations, view_memory
from h5fs.fuse.tree_interface import WritingTreeInterface
from h5fs.projection.names import Projection, decode_name
from h5fs.tree.status import Status

_PATH = (c_char_p,)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "truncate": (*_PATH, c_int64, c_void_p),
    "rename": (*_PATH, *_PATH, c_uint),
    "chmod": (*_PATH, c_uint32, c_void_p),
    "chown": (*_PATH, c_uint32, c_uint32, c_void_p),
    "utimens": (*_PATH, c_void_p, c_void_p),
    "create": (*_PATH, c_uint32, c_void_p),
    "mknod": (*_PATH, c_uint32, c_uint64),
    "write": (*_PATH, c_void_p, c_size_t, c_int64, c_void_p),
    "flush": (*_PATH, c_void_p),
    "fsync": (*_PATH, c_int, c_void_p),
    "fsyncdir": (*_PATH, c_int, c_void_p),
    "mkdir": (*_PATH, c_uint32),
    "rmdir": _PATH,
    "unlink": _PATH,
    "link": (*_PATH, *_PATH),
    "symlink": (*_PATH, *_PATH),
    "setxattr": (*_PATH, c_char_p, c_void_p, c_size_t, c_int),
    "removexattr": (*_PATH, c_char_p),
}

_PyBUF_READ = 0x100
_NO_ID = 2**32 - 1
# From <sys/stat.h>; they stand where the nanoseconds are.
_UTIME_NOW = 2**30 - 1
_UTIME_OMIT = 2**30 - 2


class WritingOperations(Operations):
    """The operations of the write modes.

    What the kernel keeps is told to it in two ways. A status lasts if only calls change it that
    name this very file or, for a folder, an entry of it (``get_lasting_status``); at the end of
    such a call that does more than the kernel knows, ``forget_status`` is called with the node, so
    that answers that are on their way are not kept either. So it is with an open file that is new;
    ``close`` ends with ``forget_status``. All other statuses are given for once.
    And at each ``open`` the kernel hears whether its pages are the file's (``KeptPages``).
    """

    _tree: WritingTreeInterface

    def __init__(
        self,
        tree: WritingTreeInterface,
        binding: Binding,
        *,
        on_init: Callable[[int, int | None], None],
        has_xattrs: bool,
        requests: CurrentRequests,
        forget_status: Callable[[int], None],
        part: bytes = b"",
        meter: CallMeter | None = None,
        note_nodes: Callable[[int], None] = lambda _count: None,
    ) -> None:
        super().__init__(
            tree, binding, on_init=on_init, has_xattrs=has_xattrs, part=part, meter=meter,
            note_nodes=note_nodes,
        )  # fmt: skip
        self._requests = requests
        # Lets the kernel forget the status of a file or folder that a call has changed.
        self._forget = forget_status
        self._pages = KeptPages()
        self._nodes = OpenNodes()
        requests.may_be_open = self._nodes.may_be_open
        self._open_folders = OpenFolderStatuses()
        self._find_caller = caller_finder(binding)
        self._file_info = binding.module.fuse_file_info
        self._two_times = binding.module.c_timespec * 2

    def prototypes(self) -> dict[str, tuple[Any, ...]]:
        """Return the arguments of each function that libfuse may call."""
        return {**super().prototypes(), **_PROTOTYPES}

    def getattr(self, path: bytes | None, buffer: int, file_info: int | None = None) -> None:
        """``stat``, and ``fstat``: of a handle, or of a node, perhaps without a path."""
        folder = self._open_folders.find(self._requests.node()) if path is None else None
        if folder is not None:
            self._requests.let_pass()
            self._put_status(folder, buffer)
            return
        handle = self._find_handle(path, file_info)
        if handle is not None:
            has_name = path is not None
            status, lasts = self._tree.get_lasting_status_of_handle(handle, has_name=has_name)
            self._requests.let_pass(status=not lasts)
        else:
            assert path is not None
            status, lasts = self._lasting_status(path, is_of_node=file_info is not None)
            if not lasts:
                self._requests.let_pass()
        self._put_status(status, buffer)

    def _lasting_status(self, path: bytes, *, is_of_node: bool) -> tuple[Status, bool]:
        """Return what is at a path, or an open file of the node that has lost that name.

        libfuse thinks that the node has it where there was no `unlink`: views and attributes go
        with their array. The kernel may do so, too, of an array that was removed by another name:
        then it has to hear that nothing is there.
        """
        try:
            return self._tree.get_lasting_status(path)
        except NotFoundError:
            asks_for_node = is_of_node and _goes_with_another(path)
            handle = self._nodes.find(self._requests.node()) if asks_for_node else None
            if handle is None:
                raise
        return self._tree.get_lasting_status_of_handle(handle, has_name=False)

    def open(self, path: bytes, file_info: int) -> None:
        """``open(2)``."""
        flags = c_int.from_address(file_info + self._flags_offset).value
        handle = self._tree.open(path, flags, self._find_caller())
        self._put_handle(handle, path, file_info, self._requests.node())

    def opendir(self, path: bytes, file_info: int) -> None:
        """``opendir(3)``. What it is can be asked when the folder has lost its name, too."""
        status = self._tree.get_status(path)
        super().opendir(path, file_info)
        self._open_folders.open(self._handle(file_info), self._requests.node(), status)

    def releasedir(self, path: bytes | None, file_info: int) -> None:
        """``closedir(3)``."""
        self._open_folders.release(self._handle(file_info))
        super().releasedir(path, file_info)

    def create(self, path: bytes, mode: int, file_info: int) -> None:
        """``open(2)`` of a file that is not there."""
        flags = c_int.from_address(file_info + self._flags_offset).value
        handle = self._tree.create(path, flags, self._find_caller(), mode & 0o7777)
        self._put_handle(handle, path, file_info, 0)
        self._forget(self._requests.node())

    def mknod(self, _path: bytes, _mode: int, _device: int) -> int:
        """Refuse pipes, sockets and devices (the kernel makes files by ``create``)."""
        return -errno.EPERM

    def write(
        self, _path: bytes | None, buffer: int, size: int, offset: int, file_info: int
    ) -> int:
        """Let the tree read libfuse's buffer."""
        view = view_memory(buffer, size, _PyBUF_READ)
        handle, node = self._handle(file_info), self._requests.node()
        self._pages.writes(handle, node)
        self._nodes.use(handle, node)
        is_page = bool(self._file_info.from_address(file_info).writepage)
        is_mixed = is_page and self._pages.are_mixed(handle, self._tree.page_content(handle))
        try:
            self._tree.write(handle, view, offset, is_page=is_page, is_mixed=is_mixed)
        finally:
            # libfuse reuses its memory next. Code that has kept the view gets an exception.
            view.release()
        return size

    def flush(self, _path: bytes | None, file_info: int) -> None:
        """``close(2)`` of one descriptor."""
        handle, node = self._handle(file_info), self._requests.node()
        may_write = self._note_use(handle, node)
        try:
            self._tree.flush(handle, self._find_caller())
        finally:
            if may_write:
                self._forget(node)

    def fsync(self, _path: bytes | None, _datasync: int, file_info: int) -> None:
        """``fsync`` and ``fdatasync``."""
        handle, node = self._handle(file_info), self._requests.node()
        may_write = self._note_use(handle, node)
        try:
            self._tree.fsync(handle)
        finally:
            if may_write:
                self._forget(node)

    def release(self, path: bytes, file_info: int) -> None:
        """The last ``close(2)``."""
        handle, node = self._handle(file_info), self._requests.node()
        may_write = self._note_use(handle, node)
        try:
            self._nodes.release(handle)
            super().release(path, file_info)
        finally:
            if may_write:
                self._forget(node)
        self._pages.release(handle, node)

    def _note_use(self, handle: int, node: int) -> bool:
        """Take note that a handle is of a node; return whether it may write.

        When that call ends, the kernel is to forget the node's status.
        """
        self._nodes.use(handle, node)
        return self._pages.writes(handle, node)

    def fsyncdir(self, path: bytes | None, _datasync: int, _file_info: int) -> None:
        """``fsync`` of a folder; also of a removed folder, so that it stays removed."""
        self._tree.sync_folder(b"/" if path is None else path)

    def truncate(self, path: bytes | None, size: int, file_info: int | None = None) -> None:
        """``truncate`` and ``ftruncate``."""
        node, handle = self._requests.node(), self._find_handle(path, file_info)
        self._pages.forget(node)
        if handle is not None:
            self._nodes.use(handle, node)
        self._tree.truncate(path, size, handle)

    def mkdir(self, path: bytes, _mode: int) -> None:
        """``mkdir(2)``."""
        self._tree.make_folder(path)
        self._forget(self._requests.node())

    def rmdir(self, path: bytes) -> None:
        """``rmdir(2)``."""
        self._tree.remove_folder(path)
        self._forget(self._requests.node())

    def unlink(self, path: bytes) -> None:
        """``unlink(2)``; or libfuse is to forget a name, if nothing has it."""
        if self._requests.is_forgetting():
            self._check_is_free(path)
            return
        self._tree.unlink(path, self._find_caller())
        self._forget(self._requests.node())

    def _check_is_free(self, path: bytes) -> None:
        with suppress(NotFoundError):
            self._tree.get_status(path)
            raise ExistsError(f"{show_path(path)} exists")

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        """``rename(2)`` and ``renameat2``."""
        new_folder = self._requests.other_node()
        self._tree.rename(old, new, flags, self._find_caller())
        self._forget(self._requests.node())
        self._forget(new_folder)

    def link(self, existing: bytes, new: bytes) -> None:
        """``link(2)``."""
        file = self._requests.other_node()
        self._tree.make_hard_link(existing, new)
        self._forget(self._requests.node())
        self._forget(file)

    def symlink(self, text: bytes, path: bytes) -> None:
        """``symlink(2)``."""
        self._tree.make_symbolic_link(text, path)
        self._forget(self._requests.node())

    def setxattr(self, path: bytes, name: bytes, buffer: int | None, size: int, flags: int) -> None:
        """``setxattr(2)``."""
        value = ctypes.string_at(buffer, size) if buffer and size else b""
        self._tree.set_xattr(path, name, value, flags)

    def removexattr(self, path: bytes, name: bytes) -> None:
        """``removexattr(2)``."""
        self._tree.remove_xattr(path, name)

    def chmod(self, path: bytes | None, mode: int, _file_info: int | None = None) -> None:
        """``chmod``; the kernel sends the file's type along."""
        self._tree.set_mode(path, mode & 0o7777)

    def chown(self, path: bytes | None, uid: int, gid: int, _file_info: int | None = None) -> None:
        """``chown``."""
        self._tree.set_owner(path, -1 if uid == _NO_ID else uid, -1 if gid == _NO_ID else gid)

    def utimens(self, path: bytes | None, times: int | None, file_info: int | None = None) -> None:
        """``utimensat``, and ``futimens``, perhaps without a path."""
        handle = self._find_handle(path, file_info)
        now_ns = time.time_ns()
        atime_ns: int | None = now_ns
        mtime_ns: int | None = now_ns
        if times:
            accessed, modified = self._two_times.from_address(times)
            atime_ns, mtime_ns = _to_ns(accessed, now_ns), _to_ns(modified, now_ns)
        self._tree.set_times(path, atime_ns, mtime_ns, handle)

    def _may_give_statuses(self, folder: OpenFolder) -> bool:
        """Leave out the statuses that have changed since the folder was listed."""
        changed = self._tree.changed_since(folder.version)
        if changed:
            folder.leave_out(changed)
        return changed is not None

    def _handle(self, file_info: int) -> int:
        return c_uint64.from_address(file_info + self._handle_offset).value

    def _find_handle(self, path: bytes | None, file_info: int | None) -> int | None:
        """Return the handle that a request about a status is about; None: the path tells."""
        handle = NO_HANDLE
        if file_info:
            handle = c_uint64.from_address(file_info + self._handle_offset).value
        if handle != NO_HANDLE:
            return handle
        found = self._nodes.find(self._requests.node()) if path is None else None
        if path is None and found is None:
            raise NamelessError("no open file has this node, or a new one that was not used yet")
        return found

    def _put_handle(self, handle: int, path: bytes, file_info: int, node: int) -> None:
        c_uint64.from_address(file_info + self._handle_offset).value = handle
        try:
            only_reads = self._tree.only_reads(handle)
            pages = self._share_pages(handle, node, only_reads=only_reads)
        except BaseException:
            # libfuse releases only what was opened.
            self._tree.release(handle)
            raise
        self._nodes.open(handle, node, path.rpartition(b"/")[2])
        info = self._file_info.from_address(file_info)
        if pages is Pages.BYPASSED:
            info.direct_io = 1
        elif pages is Pages.KEPT:
            info.keep_cache = 1
        # The kernel then does not ask at each `close`. A libfuse before 3.11 has no such field.
        info.noflush = only_reads

    def _share_pages(self, handle: int, node: int, *, only_reads: bool) -> Pages:
        """Return what a handle does with the kernel's pages of a node."""
        is_bypassing = self._tree.bypasses_cache(handle)
        content, pages = self._tree.page_content(handle), Pages.DROPPED
        if not only_reads:
            pages = self._pages.open_to_write(handle, node, content)
        elif content is not None and not is_bypassing:
            pages = self._pages.open_to_read(handle, node, content)
        return Pages.BYPASSED if is_bypassing else pages


def _to_ns(time: Any, now_ns: int) -> int | None:
    if time.tv_nsec == _UTIME_OMIT:
        return None
    if time.tv_nsec == _UTIME_NOW:
        return now_ns
    return int(time.tv_sec * NANOSECONDS + time.tv_nsec)


def _goes_with_another(path: bytes) -> bool:
    """Whether a file may lose its name with another file: a view, attributes, one of a pair."""
    meaning = decode_name(path.rpartition(b"/")[2])
    return meaning is None or meaning.projection not in (Projection.ARRAY, Projection.DATATYPE)
