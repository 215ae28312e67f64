"""FUSE calls to tree calls and back: the only room that imports the FUSE binding.

Converts arguments, calls the tree once, converts the result; decides nothing. Its guard is the one
place where exceptions become errnos, and it is total: whatever happens behind it, libfuse gets a
valid answer. Calls arrive on libfuse's threads.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fuse

from h5fs.errors import H5fsError, MountError, show_path
from h5fs.options import MountOptions
from h5fs.tree import Tree

_log = logging.getLogger(__name__)

# Errors that are answers, not news: programs ask for what is not there all the time.
_QUIET = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENODATA})

# fusepy decodes paths strictly and outside any guard. Latin-1 maps every byte to one character and
# back, so that it cannot fail; the true bytes are restored before the tree sees them.
_ENCODING = "latin-1"

# Nothing changes in mode r, so that the kernel may keep what it was told for a day.
_TIMEOUT_SECONDS = 86400

_pinned = threading.local()
_MOST_PINNED = 64
_pin_count = itertools.count()


def serve(tree: Tree, options: MountOptions, on_ready: Callable[[], None]) -> None:
    """Mount the tree and answer the kernel until it is unmounted or a signal ends it.

    ``on_ready`` is called, on a libfuse thread, when the kernel has accepted the mount. Raises
    ``MountError`` when libfuse cannot mount; what it wrote to stderr says why.
    """
    mountpoint = os.fsencode(options.mountpoint).decode(_ENCODING)
    arguments = fuse_arguments(options)
    try:
        # In the foreground always: mounting.py has put the process where it belongs.
        _Binding(
            _Operations(tree, on_ready, has_xattrs=options.has_xattrs), mountpoint,
            encoding=_ENCODING, foreground=True, **arguments,
        )  # fmt: skip
    except RuntimeError as error:
        raise MountError(f"libfuse could not mount at {options.mountpoint} ({error})") from None


def fuse_arguments(options: MountOptions) -> dict[str, str | bool]:
    """Return libfuse's options: those of mode r, then what the user gave."""
    arguments: dict[str, str | bool] = {
        "ro": True,
        "use_ino": True,
        "kernel_cache": True,
        "entry_timeout": str(_TIMEOUT_SECONDS),
        "attr_timeout": str(_TIMEOUT_SECONDS),
        "negative_timeout": str(_TIMEOUT_SECONDS),
        "fsname": os.fsencode(options.store.file).decode(_ENCODING),
        "subtype": "h5fs",
    }
    for name, value in options.fuse:
        arguments[name] = True if value is None else os.fsencode(value).decode(_ENCODING)
    if "allow_other" in arguments or "allow_root" in arguments:
        # Else other users could read what the HDF5 file's mode denies them.
        arguments["default_permissions"] = True
    return {name: _escape(value) for name, value in arguments.items()}


def _escape(value: str | bool) -> str | bool:
    """Escape what would end an option in libfuse's list."""
    return value if isinstance(value, bool) else value.replace("\\", "\\\\").replace(",", "\\,")


class _Binding(fuse.FUSE):  # type: ignore[misc]
    """fusepy's FUSE with a guard that cannot turn an error into success."""

    @staticmethod
    def _wrapper(function: Callable[..., Any], *arguments: Any) -> int:
        try:
            _pin_thread_state()
            return function(*arguments) or 0
        except H5fsError as error:
            level = logging.DEBUG if error.errno in _QUIET else logging.WARNING
            what = f"{function.__name__} {_path_of(arguments)}"
            _log.log(level, "%s: %s: %s", what, os.strerror(error.errno), error)
            return -error.errno
        except BaseException:
            # Nothing may pass: an exception would be lost in ctypes, and read as success.
            _log.exception("%s %s: unexpected", function.__name__, _path_of(arguments))
            return -errno.EIO


class _Operations:
    """The operations that mode r needs, under the names that fusepy looks for.

    What is missing here libfuse answers itself: a read-only kernel mount asks for nothing else.
    """

    use_ns = True

    # Left unset the kernel is told once that there are none, and asks no more.
    getxattr: Callable[..., bytes] | None = None
    listxattr: Callable[..., list[str]] | None = None

    def __init__(self, tree: Tree, on_ready: Callable[[], None], *, has_xattrs: bool) -> None:
        self._tree = tree
        self._on_ready = on_ready
        if has_xattrs:
            self.getxattr = self._getxattr
            self.listxattr = self._listxattr

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return getattr(self, operation)(*arguments)

    def init(self, _path: str) -> None:
        self._on_ready()

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        status = self._tree.get_status(path.encode(_ENCODING))
        return {
            "st_ino": status.inode,
            "st_mode": status.mode,
            "st_nlink": status.hard_link_count,
            "st_uid": status.uid,
            "st_gid": status.gid,
            "st_size": status.size_bytes,
            "st_blocks": status.blocks,
            "st_blksize": status.preferred_read_bytes,
            "st_atime": status.atime_ns,
            "st_mtime": status.mtime_ns,
            "st_ctime": status.ctime_ns,
        }

    def readdir(self, path: str, _handle: int) -> Iterator[str | tuple[str, dict[str, int], int]]:
        yield "."
        yield ".."
        for dentry in self._tree.list_folder(path.encode(_ENCODING)):
            name = dentry.name.decode(_ENCODING)
            yield name, {"st_ino": dentry.inode, "st_mode": dentry.mode}, 0

    def readlink(self, path: str) -> str:
        return self._tree.read_link(path.encode(_ENCODING)).decode(_ENCODING)

    def open(self, path: str, flags: int) -> int:
        return self._tree.open(path.encode(_ENCODING), flags)

    def read(self, _path: str, size: int, offset: int, handle: int) -> bytes:
        return bytes(self._tree.read(handle, size, offset))

    def release(self, _path: str, handle: int) -> None:
        self._tree.release(handle)

    def _getxattr(self, path: str, name: str, *_position: int) -> bytes:
        return self._tree.get_xattr(path.encode(_ENCODING), name.encode(_ENCODING))

    def _listxattr(self, path: str) -> list[str]:
        names = self._tree.list_xattrs(path.encode(_ENCODING))
        return [name.decode(_ENCODING) for name in names]

    def statfs(self, _path: str) -> dict[str, int]:
        status = self._tree.get_file_system_status()
        names = (
            "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree",
            "f_favail", "f_flag", "f_namemax",
        )  # fmt: skip
        return {name: getattr(status, name) for name in names}


def _path_of(arguments: tuple[Any, ...]) -> str:
    """Return the path that libfuse passes first to nearly every operation."""
    path = arguments[0] if arguments else None
    return show_path(path) if isinstance(path, bytes) else ""


def _pin_thread_state() -> None:
    """Keep this thread's Python state between calls.

    ctypes makes a thread state when libfuse calls in and drops it at the return; one unmatched
    ``PyGILState_Ensure`` keeps it for as long as the thread lives (`find` over 100,000 files took
    7.3 s without and 2.5 s with it). The state outlives its thread, 10 KB each, so that only so
    many threads get one: libfuse 2 ends those that were needed for a burst.
    """
    if not getattr(_pinned, "is_pinned", False):
        _pinned.is_pinned = True
        if next(_pin_count) < _MOST_PINNED:
            ctypes.pythonapi.PyGILState_Ensure()
