"""A tree over data that others change at any time, and of which nobody says that they changed.

What names and statuses say is asked again when it is ``RENEWED_SECONDS`` old; together with what
the kernel keeps (``h5fs.fuse.library.arguments``) that makes a second. What a file holds is asked
at each ``open``, as in NFS. A file that is open reads by what was true at its opening; once
somebody opens it and finds another shape, type or text, or another object, it is stale, since the
kernel has one cache for both. Until then its size is what the kernel hears, if that was larger: it
reads no further than that, and would end a file early without a word.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, Protocol, TypeVar

import msgspec

from h5fs.errors import GoneError, IsAGroupError, ReadOnlyError, StaleError, show_path
from h5fs.lru_cache import LruCache
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import KERNEL_SECONDS, NO_VIEWS, Limits, ViewOptions
from h5fs.store.interface import Store
from h5fs.tree.contents.content import ArrayContent, Content, TextContent, open_content
from h5fs.tree.dentries import Dentries
from h5fs.tree.listing import FolderListing
from h5fs.tree.nodes import AnyKind, Node, NodeKind
from h5fs.tree.status import Status
from h5fs.tree.tree import Tree

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

RENEWED_SECONDS: Final = 0.2

_MOST_OPENINGS: Final = 3
_LISTINGS_KEPT: Final = 1024
_STATUSES_KEPT: Final = 65_536
_UNDERWAY_SECONDS: Final = 0.05  # an answer reaches the kernel a little after it was given

_Key = tuple[AnyKind, ObjectRef] | bytes


@dataclass(eq=False, slots=True)
class _OpenContent:
    """What an open file holds. ``subject``: of which object it is which file."""

    path: bytes
    subject: tuple[AnyKind, ObjectRef]
    content: Content
    is_stale: bool = False

    @property
    def keys(self) -> tuple[_Key, _Key]:
        return self.subject, self.path

    @property
    def size_bytes(self) -> int:
        return self.content.size_bytes

    @property
    def storage_bytes(self) -> int:
        return self.content.storage_bytes

    def read_into(self, buffer: memoryview, offset: int) -> int:
        if self.is_stale:
            raise StaleError(
                f"{show_path(self.subject[1].path)} has changed since it was opened: close the "
                "file, and open it again"
            )
        return self.content.read_into(buffer, offset)


class SharedStore(Store, Protocol):
    """A store of data that others change, which keeps what was read, or read ahead, of a dataset
    for those who have it open.
    """

    def forget_values(self, ref: ObjectRef) -> None:
        """Forget what was read of a dataset: reads that begin now have what it holds by now.

        The kernel drops its pages when a file is opened; but who has the file open for longer
        fills them again, for all. So this is called at each ``open``.
        """
        ...


class RenewingTree(Tree):
    """Answers what ``Tree`` answers.

    ``_files_lock`` protects ``_files``, the open files of each object and of each path, for moments
    only.
    """

    def __init__(
        self, store: SharedStore, max_depth: int = Limits().max_depth, *,
        views: ViewOptions = NO_VIEWS, part: bytes = b"",
    ) -> None:  # fmt: skip
        super().__init__(store, max_depth, views=views, part=part)
        self._forget_values = store.forget_values
        self._renewed_at = time.monotonic()
        self._files_lock = threading.Lock()
        self._files: dict[_Key, set[_OpenContent]] = {}
        # Listings of whole folders take long, and count as new from their end on.
        self._fresh: LruCache[bytes, tuple[float, FolderListing | None]] = LruCache(_LISTINGS_KEPT)
        self._dentries: LruCache[bytes, tuple[float, Dentries]] = LruCache(_LISTINGS_KEPT)
        # Which sizes of files the kernel may have, and since when.
        self._told: LruCache[bytes, tuple[float, int]] = LruCache(_STATUSES_KEPT)

    def get_status(self, path: bytes) -> Status:
        folder_path, _, name = path.rpartition(b"/")
        listed_at, listed = self._fresh.get(folder_path) or (0.0, None)
        if listed is not None and time.monotonic() - listed_at < RENEWED_SECONDS:
            status = listed.status_of(name)
            if status is not None and status.size_bytes >= self._open_bytes(path):
                return status
        status = self._ask(self._find_status, path)
        open_bytes = self._open_bytes(path)
        if status.size_bytes < open_bytes and stat.S_ISREG(status.mode):
            status = msgspec.structs.replace(status, size_bytes=open_bytes)
        self._told.put(path, (time.monotonic(), status.size_bytes))
        return status

    def list_folder(self, path: bytes) -> Dentries:
        key = path.rstrip(b"/")
        listed_at, dentries = self._dentries.get(key) or (0.0, None)
        if dentries is not None and time.monotonic() - listed_at < KERNEL_SECONDS:
            # Without statuses: the kernel has them from that listing, and for no longer.
            return dentries.with_statuses(0)[0]
        dentries = self._ask(super().list_folder, path)
        listed = self._listed.get(key)
        self._fresh.put(key, (time.monotonic(), listed))
        if self._has_become_shorter(key, listed):
            dentries = dentries.with_statuses(0)[0]
        self._dentries.put(key, (time.monotonic(), dentries))
        return dentries

    def read_link(self, path: bytes) -> bytes:
        return self._ask(super().read_link, path)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        return self._ask(super().list_xattrs, path)

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        return self._ask(super().get_xattr, path, name)

    def open(self, path: bytes, flags: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise ReadOnlyError(f"{show_path(path)}: the mount is read-only")
        for _ in range(_MOST_OPENINGS):
            handle = self._ask(self._open, path)
            if not self._waits_for_kernel(path, self._handles.get(handle).size_bytes):
                return handle
            # Others may have replaced it meanwhile, and the kernel will be told of theirs.
            self.release(handle)
            self._renew()
        return self._ask(self._open, path)

    def keeps_cache(self, _handle: int) -> bool:
        """Return False: others may have written."""
        return False

    def keeps_folder(self, path: bytes) -> bool:
        """Whether the folder was listed just now."""
        listed_at, _ = self._fresh.get(path.rstrip(b"/")) or (0.0, None)
        return time.monotonic() - listed_at < KERNEL_SECONDS

    def release(self, handle: int) -> None:
        content = self._handles.remove(handle)
        assert isinstance(content, _OpenContent)
        with self._files_lock:
            for key in content.keys:
                files = self._files[key]
                files.discard(content)
                if not files:
                    del self._files[key]

    def _open_bytes(self, path: bytes) -> int:
        """Return the size of the largest file that is open by a path, and is not stale."""
        with self._files_lock:
            files = list(self._files.get(path, ()))
        return max((each.size_bytes for each in files if not each.is_stale), default=0)

    def _has_become_shorter(self, folder_path: bytes, listed: FolderListing | None) -> bool:
        """Whether a file that is open is listed with a smaller size; so as well if none is."""
        with self._files_lock:
            paths = [key for key in self._files if isinstance(key, bytes)]
        for path in paths:
            parent, _, name = path.rpartition(b"/")
            if parent == folder_path:
                status = listed.status_of(name) if listed is not None else None
                if status is None or status.size_bytes < self._open_bytes(path):
                    return True
        return False

    def _find_status(self, path: bytes) -> Status:
        return self.lookup.status_of(path, self.lookup.find(path))

    def _open(self, path: bytes) -> int:
        node = self.lookup.find(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        self._forget_values(node.info.ref)
        content = open_content(self._store, _without_dataset(node), self._views)
        # A file that stat refuses is refused here, too.
        _ = content.size_bytes
        subject = (node.kind, node.info.ref)
        self.lookup.keep_content(node, content)
        opened = _OpenContent(path, subject, content)
        with self._files_lock:
            for key in opened.keys:
                files = self._files.setdefault(key, set())
                for other in files:
                    is_same = other.subject == subject and _are_alike(other.content, content)
                    other.is_stale |= not is_same
                files.add(opened)
        return self._handles.add(opened)

    def _waits_for_kernel(self, path: bytes, size_bytes: int) -> bool:
        """Wait until the kernel has no other size of a file: it would read no further than that.

        That takes less than a second, and only where the size has changed within the last one.
        Returns whether it took time.
        """
        folder_path, _, name = path.rpartition(b"/")
        listed_at, listed = self._fresh.get(folder_path) or (0.0, None)
        status = listed.status_of(name) if listed is not None else None
        told = [self._told.get(path) or (0.0, size_bytes)]
        if status is not None:
            told.append((listed_at, status.size_bytes))
        until = max(
            (told_at + KERNEL_SECONDS + _UNDERWAY_SECONDS for told_at, size in told if
             size != size_bytes), default=0.0,
        )  # fmt: skip
        seconds = until - time.monotonic()
        if seconds > 0:
            time.sleep(seconds)
            return True
        self._told.put(path, (time.monotonic(), size_bytes))
        return False

    def _ask(
        self,
        ask: Callable[_Parameters, _Result],
        *given: _Parameters.args,
        **named: _Parameters.kwargs,
    ) -> _Result:
        """Forget what is too old, then ask; once more where an object was gone meanwhile."""
        if time.monotonic() - self._renewed_at > RENEWED_SECONDS:
            self._renew()
        try:
            return ask(*given, **named)
        except GoneError:
            self._renew()
            return ask(*given, **named)

    def _renew(self) -> None:
        self._renewed_at = time.monotonic()
        self.forget()
        self.lookup.forget_files()


def _without_dataset(node: Node) -> Node:
    """Return a node of which nothing is known that can change."""
    info = msgspec.structs.replace(node.info, dataset=None)
    return Node(node.kind, node.name, info, node.parent, node.link, node.levels_up, node.depth)


def _are_alike(one: Content, other: Content) -> bool:
    """Whether the pages of one file may be read for the other's."""
    if isinstance(one, ArrayContent) and isinstance(other, ArrayContent):
        return (one.npy, one.dataset.value_count) == (other.npy, other.dataset.value_count)
    return isinstance(one, TextContent) and one == other
