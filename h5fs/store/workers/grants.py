"""Which files beside the mounted one a worker may read: one by one, as links lead to them.

A worker is confined when it starts, for good. When an answer needs a file that the worker may not
read, the worker says so; the daemon checks the policy, and starts another worker that may read that
file, too. So a worker that a file has taken over cannot read other files in the same folder.

The daemon compares paths as text and never looks at the files: a path might be below its own mount,
and the daemon would wait for itself. Workers look at them before they are confined; a worker that
hangs there is killed.
"""

from __future__ import annotations

import io
import os
import select
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from h5fs.errors import ForbiddenError, H5fsError, UnreadableError, show_path
from h5fs.model.settings import ExternalPolicy
from h5fs.store.external_policy import check_path
from h5fs.system.kernel_mounts import read_mounts

_MOST_FILES = 4096
_KERNELS_OWN = (b"/proc/", b"/sys/", b"/dev/")


class Grants:
    """The real paths that the workers of one store may read. Safe to use from any thread.

    ``_lock`` protects ``_granted``; no other lock is taken while it is held.
    """

    def __init__(self, policy: ExternalPolicy, folder: Path) -> None:
        self._policy = policy
        self._folder = folder
        self._lock = threading.Lock()
        self._granted: dict[bytes, None] = {}

    def all(self) -> tuple[bytes, ...]:
        """Return the paths that are granted so far."""
        with self._lock:
            return tuple(self._granted)

    def add(self, paths: Iterable[bytes]) -> None:
        """Grant the paths that a worker asks for. Raises ``ForbiddenError`` by the policy."""
        wanted = dict.fromkeys(paths)
        mounts = _MOUNTS.find()
        for path in wanted:
            self._check(path, mounts)
        with self._lock:
            if len(self._granted | wanted) > _MOST_FILES:
                raise UnreadableError(f"links lead to more than {_MOST_FILES} files")
            self._granted |= wanted

    def add_early(self, paths: Iterable[Path]) -> None:
        """Grant the files that listed links lead to, where the policy allows: they will be needed.

        A path with symbolic links in it, or to no file, has no effect.
        """
        for path in paths:
            try:
                self.add([os.path.normpath(os.fsencode(path))])
            except H5fsError:
                continue  # following the link will raise

    def open(self, path: bytes) -> int:
        """Open for the daemon a file that workers read, by its real path.

        The path of what was opened is compared: a symbolic link that was put on the way meanwhile
        would lead past the policy. Raises ``ForbiddenError``, ``OSError``.
        """
        self._check(path, _MOUNTS.find())
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not _is_file_at(descriptor, path):
            os.close(descriptor)
            raise ForbiddenError(f"{show_path(path)} is no real path to a regular file any more")
        return descriptor

    def clear(self) -> bool:
        """Take all grants back, since workers hang at one; return whether there were any."""
        with self._lock:
            were_any = bool(self._granted)
            self._granted.clear()
        return were_any

    def _check(self, path: bytes, mounts: tuple[bytes, ...]) -> None:
        if os.path.normpath(path) != path or b"\0" in path:
            raise ForbiddenError(f"{show_path(path)} is no real path")
        check_path(os.fsdecode(path), self._policy, self._folder)
        # Files of the kernel show each process something else.
        if path.startswith(_KERNELS_OWN):
            raise ForbiddenError(f"{show_path(path)} is of the kernel")
        if any(path == mount or path.startswith(mount + b"/") for mount in mounts):
            raise ForbiddenError(f"{show_path(path)} is in an h5fs mount")


class OwnMounts:
    """Where h5fs is mounted, as the kernel's table has it. Safe to use from any thread.

    The table is read when it has changed, which ``poll`` tells (proc(5)): a virtual dataset may
    have thousands of files, and each is looked at.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0  # what polls in a process that was forked would tell both but once
        self._found: tuple[bytes, ...] = ()

    def find(self) -> tuple[bytes, ...]:
        """Return where h5fs is mounted now."""
        with self._lock:
            try:
                if self._process != os.getpid():
                    table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
                    self._table = io.FileIO(table)
                    self._poll = select.poll()
                    self._poll.register(self._table, select.POLLPRI)
                    self._process = os.getpid()
                elif not self._poll.poll(0):
                    return self._found
                mounts = (mount for mount in read_mounts() if mount.is_h5fs)
                self._found = tuple(os.fsencode(mount.mountpoint) for mount in mounts)
            except OSError:
                self._process, self._found = 0, ()
            return self._found


_MOUNTS = OwnMounts()


def open_granted(paths: Iterable[bytes]) -> tuple[list[int], frozenset[tuple[int, int]]]:
    """Return descriptors (O_PATH) of the files that exist, and their device and inode numbers.

    The worker calls this before it is confined.
    """
    descriptors, known = [], set()
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # the file is gone; a worker that needs a new one there asks again
        if _is_file_at(descriptor, path):
            found = os.fstat(descriptor)
            descriptors.append(descriptor)
            known.add((found.st_dev, found.st_ino))
        else:
            os.close(descriptor)
    return descriptors, frozenset(known)


def _is_file_at(descriptor: int, path: bytes) -> bool:
    """Whether a descriptor is of a regular file that no symbolic link has led to from its path."""
    is_real = os.readlink(b"/proc/self/fd/%d" % descriptor) == path
    return is_real and stat.S_ISREG(os.fstat(descriptor).st_mode)
