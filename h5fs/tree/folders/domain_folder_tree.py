"""A folder of domains of a data service as a file system: each domain in it is a folder.

A domain's tree is opened when somebody looks into it. Read-only. Safe to call from any thread.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import structs

from h5fs.errors import (
    IsAGroupError,
    NoAttributeError,
    NotAGroupError,
    NotALinkError,
    NotFoundError,
    show_path,
)
from h5fs.lru_cache import LruCache
from h5fs.model.file_status import SpaceStatus
from h5fs.model.objects import DomainEntry
from h5fs.tree.dentries import Dentries
from h5fs.tree.handles import Handles
from h5fs.tree.nodes import mix_inode
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Dentry, Status
from h5fs.tree.versions.renewing_tree import RENEWED_SECONDS, RenewingTree, SharedStore

_FOLDER_MODE: Final = stat.S_IFDIR | 0o555
_MOST_OPEN: Final = 32
_LISTINGS_KEPT: Final = 1024


class DomainSource(Protocol):
    """What keeps the domains. Paths are those below the folder, ``/`` itself."""

    def list(self, path: bytes) -> tuple[DomainEntry, ...]: ...

    def open_store(self, path: bytes) -> SharedStore: ...

    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Domain:
    """A domain that was looked into. ``seed`` sets its inode numbers apart from others'."""

    tree: RenewingTree
    seed: int
    file_count: int = 0


class DomainFolderTree:
    """Answers what ``Tree`` answers, for a folder.

    ``_lock`` protects ``_domains``, those that are open, the one used longest ago first; nothing
    else is taken while it is held.
    """

    def __init__(self, folder: DomainSource, max_depth: int) -> None:
        self._folder = folder
        self._max_depth = max_depth
        self._lock = threading.Lock()
        self._domains: OrderedDict[bytes, _Domain] = OrderedDict()
        self._listings: LruCache[bytes, tuple[float, dict[bytes, DomainEntry]]] = LruCache(
            _LISTINGS_KEPT
        )
        self._handles: Handles[tuple[_Domain, int]] = Handles()
        self._ended = TreeStatistics()  # what trees that are closed have counted

    def get_status(self, path: bytes) -> Status:
        """Answer ``stat``. Opens no domain to answer for itself."""
        place, inner, entry = self._find(path)
        if inner != b"/":
            domain = self._domain(place, entry)
            status = domain.tree.get_status(inner)
            return structs.replace(status, inode=mix_inode(status.inode, domain.seed))
        mtime_ns = entry.mtime_ns if entry is not None else 0
        return Status(
            inode=_inode_of(place), mode=_FOLDER_MODE, hard_link_count=1, uid=os.getuid(),
            gid=os.getgid(), size_bytes=0, blocks=0, atime_ns=mtime_ns, mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
        )  # fmt: skip

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``."""
        place, inner, entry = self._find(path)
        if entry is not None and not entry.is_folder:
            domain = self._domain(place, entry)
            dentries = domain.tree.list_folder(inner)
            return dentries.with_inodes(lambda inode: mix_inode(inode, domain.seed))
        return Dentries.of(
            Dentry(name, _inode_of(place.rstrip(b"/") + b"/" + name), stat.S_IFDIR)
            for name in self._list(place)
        )

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        place, inner, entry = self._find(path)
        if inner == b"/":
            raise NotALinkError(f"{show_path(path)} is not a symbolic link")
        return self._domain(place, entry).tree.read_link(inner)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Answer ``listxattr``; a folder has none."""
        place, inner, entry = self._find(path)
        is_folder = entry is None or entry.is_folder
        return [] if is_folder else self._domain(place, entry).tree.list_xattrs(inner)

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """Answer ``getxattr``. Raises ``NoAttributeError``."""
        place, inner, entry = self._find(path)
        if entry is None or entry.is_folder:
            raise NoAttributeError(f"no extended attribute {show_path(name)}")
        return self._domain(place, entry).tree.get_xattr(inner, name)

    def open(self, path: bytes, flags: int) -> int:
        """Open a file and return its handle."""
        place, inner, entry = self._find(path)
        if inner == b"/":
            raise IsAGroupError(f"{show_path(path)} is a folder")
        domain = self._domain(place, entry, adds_file=True)
        try:
            return self._handles.add((domain, domain.tree.open(inner, flags)))
        except BaseException:
            self._let_go(domain)
            raise

    def keeps_cache(self, _handle: int) -> bool:
        """Return False: others may have written."""
        return False

    def keeps_folder(self, _path: bytes) -> bool:
        """Return False: domains come and go."""
        return False

    def version(self) -> object:
        """Return this, whatever has changed."""
        return self

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of an open file; return how much."""
        domain, inner = self._handles.get(handle)
        return domain.tree.read_into(inner, buffer, offset)

    def release(self, handle: int) -> None:
        """Forget a file handle."""
        domain, inner = self._handles.remove(handle)
        domain.tree.release(inner)
        self._let_go(domain)

    def get_file_system_status(self) -> SpaceStatus:
        """Answer ``statfs``: nobody knows how much room a service has."""
        return SpaceStatus(4096, 4096, 0, 0, 0)

    def statistics(self) -> TreeStatistics:
        """Return what all domains together hold now and have counted. Takes no lock."""
        total = self._ended
        for domain in list(self._domains.values()):
            total += domain.tree.statistics()
        return structs.replace(total, open_file_count=self._handles.count())

    def close(self) -> None:
        """Close all domains."""
        with self._lock:
            domains = list(self._domains.values())
            self._domains.clear()
        for domain in domains:
            domain.tree.close()
        self._folder.close()

    def _find(self, path: bytes) -> tuple[bytes, bytes, DomainEntry | None]:
        """Return the place of the folder or domain that a path leads to, or into, and the rest.

        The entry is None for the mounted folder itself. Raises ``NotFoundError``.
        """
        place, entry = b"/", None
        names = [name for name in path.split(b"/") if name]
        for index, name in enumerate(names):
            entry = self._list(place).get(name)
            if entry is None:
                raise NotFoundError(f"{show_path(path)}: no such file or folder")
            place = place.rstrip(b"/") + b"/" + name
            if not entry.is_folder:
                return place, b"/" + b"/".join(names[index + 1 :]), entry
        return place, b"/", entry

    def _list(self, place: bytes) -> dict[bytes, DomainEntry]:
        listed_at, entries = self._listings.get(place) or (0.0, {})
        if time.monotonic() - listed_at > RENEWED_SECONDS:
            entries = {entry.name: entry for entry in self._folder.list(place)}
            self._listings.put(place, (time.monotonic(), entries))
        return entries

    def _domain(
        self, place: bytes, entry: DomainEntry | None, *, adds_file: bool = False
    ) -> _Domain:
        """Return a domain, opened when it is first looked into."""
        if entry is None or entry.is_folder:
            raise NotAGroupError(f"{show_path(place)} is no domain")
        with self._lock:
            domain = self._domains.get(place)
            if domain is not None:
                self._domains.move_to_end(place)
                domain.file_count += adds_file
                return domain
        opened = RenewingTree(self._folder.open_store(place), self._max_depth)
        with self._lock:
            domain = self._domains.get(place)
            if domain is None:
                domain = self._domains[place] = _Domain(opened, _inode_of(place))
            domain.file_count += adds_file
            unused = [key for key, each in self._domains.items() if not each.file_count]
            excess = unused[: max(len(self._domains) - _MOST_OPEN, 0)]
            gone = [self._domains.pop(key).tree for key in excess if key != place]
        for tree in gone if domain.tree is opened else (*gone, opened):
            self._ended += tree.statistics()
            tree.close()
        return domain

    def _let_go(self, domain: _Domain) -> None:
        with self._lock:
            domain.file_count -= 1


def _inode_of(place: bytes) -> int:
    digest = hashlib.blake2b(b"domain " + place, digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
