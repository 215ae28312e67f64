"""libfuse's calls, answered by the tree: raw arguments in, C structures out.

Each method converts arguments, calls the tree once, and converts the result; it decides nothing.
Paths are the bytes that the kernel sent. A buffer of libfuse is an address, valid until the call
returns. Runs on the session's threads, many at a time; keeps nothing but the folders that are open.
"""

from __future__ import annotations

import ctypes
import errno
import stat
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any

from h5fs.errors import H5fsError, NotAGroupError, NotFoundError, StaleError, show_path
from h5fs.fuse.guard import guarded
from h5fs.fuse.latencies import CallMeter
from h5fs.fuse.library.binding import Binding
from h5fs.fuse.library.structures import (
    NANOSECONDS,
    STATVFS_FIELDS,
    status_dtype,
    status_packer,
    statvfs_packer,
)
from h5fs.fuse.mounted_part import below
from h5fs.fuse.open_folders import OpenFolder
from h5fs.fuse.tree_interface import TreeInterface
from h5fs.tree.dentries import Dentries
from h5fs.tree.handles import Handles
from h5fs.tree.status import Status

# Every pointer except a path is a plain number here, as memmove and from_address take it. A getattr
# that the tree answers at once takes 4.4 us in all; with fusepy's own functions it takes 11.4 us.
_PATH = (c_char_p,)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "readlink": (*_PATH, c_void_p, c_size_t),
    "open": (*_PATH, c_void_p),
    "opendir": (*_PATH, c_void_p),
    "releasedir": (*_PATH, c_void_p),
    "read": (*_PATH, c_void_p, c_size_t, c_int64, c_void_p),
    "release": (*_PATH, c_void_p),
    "statfs": (*_PATH, c_void_p),
    "getxattr": (*_PATH, c_char_p, c_void_p, c_size_t),
    "listxattr": (*_PATH, c_void_p, c_size_t),
}
_READDIR_PLUS = 1  # FUSE_READDIR_PLUS: statuses are wanted

_PyBUF_WRITE = 0x200
view_memory = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, ctypes.c_ssize_t, c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)


class Operations:
    """The operations of mode r. libfuse answers the others itself, as for any read-only mount."""

    def __init__(
        self,
        tree: TreeInterface,
        binding: Binding,
        *,
        on_init: Callable[[int, int | None], None],
        has_xattrs: bool,
        caches_folders: bool = False,
        part: bytes = b"",
        meter: CallMeter | None = None,
        note_nodes: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._meter = meter or CallMeter()
        self._tree: TreeInterface = tree
        self._binding = binding
        self._on_init = on_init
        module = binding.module
        self._pack_status = status_packer(module.c_stat).pack
        self._status_bytes = ctypes.sizeof(module.c_stat)
        self._pack_statvfs = statvfs_packer(module.c_statvfs).pack
        self._file_info = module.fuse_file_info
        self._handle_offset = module.fuse_file_info.fh.offset
        self._flags_offset = module.fuse_file_info.flags.offset
        self._folders: Handles[OpenFolder] = Handles()
        # The last refusal to read each file, by its handle.
        self._refused: dict[int, str] = {}
        self._status_layout = status_dtype(module.c_stat)
        self._caches_folders = caches_folders and binding.libfuse.KEEPS_LISTINGS
        self._has_xattrs = has_xattrs
        self._part = part
        self._note_nodes = note_nodes

    def prototypes(self) -> dict[str, tuple[Any, ...]]:
        """Return the arguments of each function that libfuse may call."""
        return {**self._binding.libfuse.PROTOTYPES, **_PROTOTYPES}

    def make_table(self, around: Callable[[Callable[..., int]], Callable[..., int]]) -> Any:
        """Return the binding's ``fuse_operations``, whose functions call these methods.

        Each method is guarded, and ``around`` wraps the guarded function.
        """
        table = self._binding.module.fuse_operations()
        fields = {field[0]: field[1] for field in table._fields_}
        for name, arguments in self.prototypes().items():
            if "xattr" in name and not self._has_xattrs:
                continue  # the kernel learns from the first answer that there are no xattrs
            result = c_void_p if name == "init" else c_int
            method_name = self._binding.libfuse.METHODS.get(name, name)
            method = below(self._part, getattr(self, method_name))
            function = around(guarded(method, self._meter.of(method_name)))
            callback = ctypes.CFUNCTYPE(result, *arguments)(function)
            # A cast keeps its source alive, and the table keeps what is assigned to it.
            setattr(table, name, ctypes.cast(callback, fields[name]))
        return table

    def init(self, connection: int, config: int | None = None) -> None:
        """The kernel has accepted the mount."""
        self._on_init(connection, config)

    def getattr(self, path: bytes, buffer: int, _file_info: int | None = None) -> None:
        """``stat``."""
        status = self._status_in_part(path) if self._part else self._tree.get_status(path)
        self._put_status(status, buffer)

    fgetattr = getattr

    def _status_in_part(self, path: bytes) -> Status:
        """Return a status; nothing is there while something else is in the place of the group."""
        try:
            status = self._tree.get_status(path)
            is_there = path != self._part or stat.S_ISDIR(status.mode)
        except NotAGroupError:
            if stat.S_ISDIR(self._tree.get_status(self._part).mode):
                raise
            is_there = False
        if not is_there:
            raise NotFoundError(f"{show_path(self._part)} is no longer a group")
        return status

    def _put_status(self, status: Status, buffer: int) -> None:
        data = self._pack_status(
            (
                status.inode,
                status.mode,
                status.hard_link_count,
                status.uid,
                status.gid,
                status.size_bytes,
                status.blocks,
                status.preferred_read_bytes,
                *divmod(status.atime_ns, NANOSECONDS),
                *divmod(status.mtime_ns, NANOSECONDS),
                *divmod(status.ctime_ns, NANOSECONDS),
            )
        )
        ctypes.memmove(buffer, data, self._status_bytes)
        self._note_nodes(1)

    def opendir(self, path: bytes, file_info: int) -> None:
        """``opendir(3)``. Nothing is listed yet."""
        folder = OpenFolder(self._status_layout)
        if self._caches_folders:
            info = self._file_info.from_address(file_info)
            info.cache_readdir = 1
            info.keep_cache = self._tree.keeps_folder(path)
            folder.version = self._tree.version()
        handle = self._folders.add(folder)
        c_uint64.from_address(file_info + self._handle_offset).value = handle

    def readdir(
        self,
        path: bytes | None,
        collector: int,
        filler: int,
        offset: int,
        file_info: int,
        flags: int = 0,
    ) -> None:
        """As many dentries as libfuse has room for, with their statuses when it asks for them."""
        handle = c_uint64.from_address(file_info + self._handle_offset).value
        folder = self._folders.get(handle)
        if not offset or not folder.is_listed:
            self._list(folder, path, offset)
        if flags & _READDIR_PLUS:
            folder.complete(offset)
        gives_statuses = bool(flags & _READDIR_PLUS) and self._may_give_statuses(folder)
        self._note_nodes(
            self._binding.libfuse.fill(
                collector, filler, folder.entries(offset), gives_statuses=gives_statuses
            )
        )

    def _may_give_statuses(self, folder: OpenFolder) -> bool:
        """Whether the statuses in a listing are not those of an old version by now."""
        return self._tree.version() is folder.version

    def _list(self, folder: OpenFolder, path: bytes | None, offset: int) -> None:
        version = self._tree.version()
        if offset and folder.version not in (None, version):
            # The beginning came from the kernel's cache, and belongs to another version.
            raise StaleError("the HDF5 file has changed while the folder is being read")
        folder.version = version
        # Without a path the folder was removed while it is open, and has no dentries.
        folder.list(Dentries.of(()) if path is None else self._list_at(path))

    def _list_at(self, path: bytes) -> Dentries:
        try:
            return self._tree.list_folder(path)
        except NotAGroupError as error:
            if path != self._part:
                raise
            # It was opened while there was a group in the place of the mounted one.
            raise NotFoundError(f"{show_path(path)} is no longer a group") from error

    def releasedir(self, _path: bytes | None, file_info: int) -> None:
        """``closedir(3)``."""
        self._folders.remove(c_uint64.from_address(file_info + self._handle_offset).value)

    def readlink(self, path: bytes, buffer: int, size: int) -> None:
        """A symbolic link's text, cut to what the kernel has room for."""
        text = self._tree.read_link(path)[: size - 1] + b"\0"
        ctypes.memmove(buffer, text, len(text))

    def open(self, path: bytes, file_info: int) -> None:
        """``open(2)``."""
        flags = c_int.from_address(file_info + self._flags_offset).value
        handle = self._tree.open(path, flags)
        c_uint64.from_address(file_info + self._handle_offset).value = handle
        if self._tree.keeps_cache(handle):
            self._file_info.from_address(file_info).keep_cache = 1

    def read(self, _path: bytes, buffer: int, size: int, offset: int, file_info: int) -> int:
        """Let the tree write into libfuse's buffer."""
        handle = c_uint64.from_address(file_info + self._handle_offset).value
        view = view_memory(buffer, size, _PyBUF_WRITE)
        try:
            count: int = self._tree.read_into(handle, view, offset)
        except H5fsError as error:
            # The kernel asks again, for less, before it gives up: the log needs only one line.
            error.is_news = error.is_news and self._refused.get(handle) != str(error)
            self._refused[handle] = str(error)
            raise
        # libfuse frees its memory next. Code that has kept the view gets an exception, not a crash.
        view.release()
        if not 0 <= count <= size:
            raise ValueError(f"{count} bytes read of {size}")
        return count

    def release(self, _path: bytes, file_info: int) -> None:
        """The last ``close(2)``."""
        handle = c_uint64.from_address(file_info + self._handle_offset).value
        self._refused.pop(handle, None)
        self._tree.release(handle)

    def statfs(self, _path: bytes, buffer: int) -> None:
        """``statvfs(3)``."""
        status = self._tree.get_file_system_status()
        data = self._pack_statvfs([getattr(status, name) for name in STATVFS_FIELDS.values()])
        ctypes.memmove(buffer, data, len(data))

    def getxattr(self, path: bytes, name: bytes, buffer: int | None, size: int) -> int:
        """One extended attribute."""
        return _answer_with(self._tree.get_xattr(path, name), buffer, size)

    def listxattr(self, path: bytes, buffer: int | None, size: int) -> int:
        """The names of the extended attributes."""
        names = b"".join(name + b"\0" for name in self._tree.list_xattrs(path))
        return _answer_with(names, buffer, size)


def _answer_with(data: bytes, buffer: int | None, size: int) -> int:
    """Copy the data to the buffer and return its length; with size 0 return only the length."""
    if not buffer or not size:
        return len(data)
    if len(data) > size:
        return -errno.ERANGE
    ctypes.memmove(buffer, data, len(data))
    return len(data)
