"""Versions of an object on another machine, where others put new ones in its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from h5fs.errors import H5fsError
from h5fs.model.location import Url
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_object import RemoteObject
from h5fs.tree.tree import Tree
from h5fs.tree.versions.version import Version


class RemoteVersion(Version):
    """A version of an object. Its bytes are never another version's: each request names it."""

    __slots__ = ()

    def holds(self) -> bool:
        return not self.is_closed


class FollowedObject:
    """What a server has at a URL.

    ``open_tree`` makes a tree of a version, and closes it with the tree. The server is asked every
    ``revalidate_seconds`` whether it still has that version, in a thread of its own; a request for
    bytes that finds another one is noticed, too.
    """

    may_grow = False
    again_seconds = 5.0  # an attempt costs requests

    def __init__(
        self,
        url: Url,
        files: RemoteFiles,
        open_tree: Callable[[RemoteObject], Tree],
        revalidate_seconds: float,
    ) -> None:
        self.name = url.shown
        self._url = url
        self._files = files
        self._open_tree = open_tree
        self._revalidate_seconds = revalidate_seconds
        self._remote: RemoteObject | None = None
        self._due = 0.0
        self._asking = threading.Lock()  # held by the thread that asks the server

    def look(self) -> Hashable | None:
        remote = self._remote
        if remote is None:
            return None
        if time.monotonic() >= self._due and self._asking.acquire(blocking=False):
            self._due = time.monotonic() + self._revalidate_seconds
            asking = threading.Thread(
                target=self._ask, args=(remote,), name="h5fs-revalidate", daemon=True
            )
            try:
                asking.start()
            except RuntimeError:  # the system allows no more threads: the next look tries again
                self._asking.release()
        return (remote.version, "replaced") if remote.is_replaced else remote.version

    def _ask(self, remote: RemoteObject) -> None:
        try:
            remote.revalidate()
        except (H5fsError, OSError):
            return  # the server is away, which reads will tell; it is asked again
        finally:
            self._asking.release()

    def suspect(self) -> bool:
        self._due = 0.0
        return False

    def interrupt(self) -> None:
        self._files.fetcher.close()

    def open(self) -> RemoteVersion:
        remote = self._files.open(self._url)
        tree = self._open_tree(remote)
        self._remote = remote
        self._due = time.monotonic() + self._revalidate_seconds
        return RemoteVersion(tree, remote.version)
