"""A prefix of an object store as a folder: its HDF5 files, and the rest, which is passed through.

Everything that is shown of a file comes from listings, so that no object is asked about by itself.
So an HDF5 file is known by its name alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from h5fs.errors import (
    CannotOpenError,
    H5fsError,
    IsAGroupError,
    NotAGroupError,
    NotALinkError,
    NotFoundError,
    show_path,
)
from h5fs.lru_cache import LruCache
from h5fs.model.file_status import SpaceStatus
from h5fs.model.location import Url
from h5fs.store.format.superblock import has_hdf5_name
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_folder import RemoteEntry
from h5fs.store.sources.remote_object import RemoteObject
from h5fs.tree.dentries import Dentries
from h5fs.tree.status import NANOSECONDS, Dentry, Status, as_folder, blocks_of
from h5fs.tree.versions.following_tree import FollowingTree

_LISTINGS_KEPT = 1024
_FILE_MODE = stat.S_IFREG | 0o444


@dataclass(frozen=True, slots=True)
class _Listing:
    """What was in a folder at a time, by names."""

    entries: dict[bytes, RemoteEntry]
    listed_at: float


class _OpenObject:
    def __init__(self, remote: RemoteObject) -> None:
        self._remote = remote

    def read_into(self, buffer: memoryview, offset: int) -> int:
        # Files that are passed through are usually read to their end.
        stop = offset + len(buffer)
        self._remote.fetch_ahead([(stop, stop + 4 * len(buffer))])
        return self._remote.read_into(buffer, offset)

    def close(self) -> None:
        self._remote.close()


class RemotePrefix:
    """Keeps the promise of ``FolderContents``.

    ``open_tree(url)`` makes the tree of an HDF5 file, which opens it later. A listing is believed
    for ``revalidate_seconds``. ``_lock`` lets one thread at a time ask the server for a listing.
    """

    def __init__(
        self,
        url: Url,
        files: RemoteFiles,
        open_tree: Callable[[Url], FollowingTree],
        revalidate_seconds: float,
    ) -> None:
        self._url = url
        self._files = files
        self._folder = files.open_folder(url)
        self._open_tree = open_tree
        self._revalidate_seconds = revalidate_seconds
        self._lock = threading.Lock()
        self._listings: LruCache[bytes, _Listing] = LruCache(_LISTINGS_KEPT)
        self._valid_from = -inf

    def get_status(self, path: bytes) -> Status:
        entry = self._entry(path)
        version = entry.version if entry is not None else None
        is_file = version is not None and not has_hdf5_name(path)
        size_bytes = version.size_bytes if version is not None and is_file else 0
        modified = version.modified if version is not None else None
        mtime_ns = int(modified.timestamp() * NANOSECONDS) if modified is not None else 0
        return Status(
            inode=_number_of(self._url, path), mode=_FILE_MODE if is_file else as_folder(0o444),
            hard_link_count=1, uid=os.getuid(), gid=os.getgid(), size_bytes=size_bytes,
            blocks=blocks_of(size_bytes, size_bytes), atime_ns=mtime_ns, mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
        )  # fmt: skip

    def list_folder(self, path: bytes) -> Dentries:
        entry = self._entry(path)
        if entry is not None and entry.version is not None:
            raise NotAGroupError(f"{show_path(path)} is no folder")
        folder = path.rstrip(b"/") + b"/"
        return Dentries.of(
            Dentry(
                name, _number_of(self._url, folder + name),
                stat.S_IFREG if each.version and not has_hdf5_name(name) else stat.S_IFDIR,
            )
            for name, each in self._list(path).entries.items()
        )  # fmt: skip

    def read_link(self, path: bytes) -> bytes:
        self._entry(path)
        raise NotALinkError(f"{show_path(path)} is not a symbolic link")

    def open_file(self, path: bytes) -> _OpenObject:
        entry = self._entry(path)
        if entry is None or entry.version is None:
            raise IsAGroupError(f"{show_path(path)} is a folder")
        return _OpenObject(self._files.open(self._url_of(path)))

    def get_space(self) -> SpaceStatus:
        """Return a file system of no size: nobody knows how much is there."""
        return SpaceStatus(4096, 4096, 0, 0, 0, flags=os.ST_RDONLY)

    def find_hdf5(self, path: bytes) -> int | None:
        if path == b"/" or not has_hdf5_name(path):
            return None
        try:
            entry = self._entry(path)
        except H5fsError:
            return None  # asking for its status will say why
        is_file = entry is not None and entry.version is not None
        return _number_of(self._url, path) if is_file else None

    def open_tree(self, path: bytes) -> FollowingTree:
        return self._open_tree(self._url_of(path))

    def forget(self) -> None:
        self._valid_from = time.monotonic()

    def interrupt(self) -> None:
        self._files.fetcher.close()

    def check(self) -> None:
        """List the folder itself. Raises ``CannotOpenError`` where there is nothing."""
        try:
            self._list(b"/")
        except H5fsError as error:
            raise CannotOpenError(str(error)) from None

    def _entry(self, path: bytes) -> RemoteEntry | None:
        """Return what its folder's listing has at a path; None for the mounted folder itself."""
        if path == b"/":
            return None
        above, _, name = path.rpartition(b"/")
        found = self._list(above or b"/").entries.get(name)
        if found is None:
            raise NotFoundError(f"{show_path(path)} is not there")
        return found

    def _list(self, path: bytes) -> _Listing:
        known = self._listings.get(path)
        if known is None or not self._is_valid(known):
            with self._lock:
                known = self._listings.get(path)
                if known is None or not self._is_valid(known):
                    known = self._ask(path)
                    self._listings.put(path, known)
        return known

    def _is_valid(self, listing: _Listing) -> bool:
        age = time.monotonic() - listing.listed_at
        return age < self._revalidate_seconds and listing.listed_at >= self._valid_from

    def _ask(self, path: bytes) -> _Listing:
        now = time.monotonic()
        try:
            below = path.decode().strip("/")
        except UnicodeDecodeError:
            raise NotFoundError(f"{show_path(path)} is not there") from None
        found = {entry.name.encode(): entry for entry in self._folder.entries(below)}
        return _Listing({name: each for name, each in found.items() if b"\0" not in name}, now)

    def _url_of(self, path: bytes) -> Url:
        return Url(self._url.text.rstrip("/") + path.decode())


def _number_of(url: Url, path: bytes) -> int:
    digest = hashlib.blake2b(os.fsencode(url.shown) + b"\0" + path, digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
