"""Which files beside the mounted one a worker may read: one by one, as links lead to them.

A worker is confined when it starts, for good. Where an answer needs a file that it may not read, it
says so; the daemon looks at the policy, and a worker that may read that one, too, takes its place.
So nobody who has taken a worker over reads what merely lies in the same folder, unseen.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from h5fs.errors import CannotOpenError, ForbiddenError, H5fsError, UnreadableError, show_path
from h5fs.options import ExternalPolicy
from h5fs.store.policy import check_policy

_MOST_FILES = 4096


class Grant(Struct, frozen=True, array_like=True):
    """A file that may be read: its real path, and the device and inode number that are meant."""

    path: bytes
    device: int
    inode: int


class Grants:
    """What the workers of one store may read. Safe to use from any thread.

    ``_lock`` protects ``_granted``; nothing else is taken while it is held.
    """

    def __init__(self, policy: ExternalPolicy, folder: Path) -> None:
        self._policy = policy
        self._folder = folder
        self._lock = threading.Lock()
        self._granted: dict[bytes, Grant] = {}

    def all(self) -> tuple[Grant, ...]:
        """Return what is granted so far."""
        with self._lock:
            return tuple(self._granted.values())

    def add(self, paths: Iterable[bytes]) -> tuple[Grant, ...]:
        """Grant what a worker asks for, and return it.

        Raises ``ForbiddenError`` where the policy says no, ``CannotOpenError``.
        """
        found = tuple(map(self._look_at, paths))
        with self._lock:
            for grant in found:
                if len(self._granted) >= _MOST_FILES and grant.path not in self._granted:
                    raise UnreadableError(f"links lead to more than {_MOST_FILES} files")
                self._granted[grant.path] = grant
        return found

    def add_early(self, paths: Iterable[Path]) -> None:
        """Grant what links lead to that somebody lists, as far as it may be: it will be needed."""
        for path in paths:
            try:
                self.add([os.fsencode(os.path.realpath(path))])
            except H5fsError:
                continue  # whoever follows the link is told

    def _look_at(self, path: bytes) -> Grant:
        real = os.path.realpath(path)
        if real != path:
            raise ForbiddenError(f"{show_path(path)} is a symbolic link")
        check_policy(Path(os.fsdecode(real)), self._policy, self._folder)
        try:
            found = os.stat(real)
        except OSError as error:
            raise CannotOpenError(f"{show_path(path)}: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ForbiddenError(f"{show_path(path)} is not a regular file")
        return Grant(real, found.st_dev, found.st_ino)


def open_granted(grants: Iterable[Grant]) -> tuple[list[int], frozenset[tuple[int, int]]]:
    """Return descriptors (O_PATH) of the files that are still there, and which these are.

    For the worker, before it is confined.
    """
    descriptors, known = [], set()
    for grant in grants:
        try:
            descriptor = os.open(grant.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone: who needs what stands there now asks again
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == (grant.device, grant.inode):
            descriptors.append(descriptor)
            known.add((grant.device, grant.inode))
        else:
            os.close(descriptor)
    return descriptors, frozenset(known)
