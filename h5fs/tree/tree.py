"""The tree: every question that a file system is asked, answered for an HDF5 file.

Paths are absolute bytes (``b"/g/d.npy"``). Safe to call from any thread. Raises ``H5fsError``s.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from h5fs.errors import (
    IsAGroupError,
    NoAttributeError,
    NotALinkError,
    ReadOnlyError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.lru_cache import LruCache
from h5fs.model.file_status import SpaceStatus
from h5fs.model.objects import Link
from h5fs.model.settings import NO_VIEWS, Limits, ViewOptions
from h5fs.store.ahead.habits import Habits
from h5fs.store.interface import Store
from h5fs.tree.contents.content import ArrayContent, Content
from h5fs.tree.contents.view_content import Views, without_covered_views
from h5fs.tree.dentries import Dentries, FindStatuses
from h5fs.tree.description import Description
from h5fs.tree.handles import Handles
from h5fs.tree.link_targets import LinkTexts
from h5fs.tree.listing import FolderListing
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import (
    Node,
    NodeKind,
    make_attributes_node,
    make_offsets_node,
)
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Dentry, Status, make_dentry

if TYPE_CHECKING:
    from h5fs.tree.xattrs import ExtendedAttributes

_LISTING_BYTES_KEPT = 64 * 2**20


class Tree:
    """An HDF5 file as a file system.

    ``part``: the path of the folder that programs will see as the root; paths are those of the
    whole file all the same. ``habits``: of the programs that look at it, and at others with it.
    """

    def __init__(
        self, store: Store, max_depth: int = Limits().max_depth, *,
        views: ViewOptions = NO_VIEWS, part: bytes = b"", habits: Habits | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._views = Views(store, views)
        self.lookup = Lookup(
            store, max_depth, self._views, LinkTexts(store, part),
            forget_others=self._forget_listings,
        )  # fmt: skip
        self._listed: LruCache[bytes, FolderListing] = LruCache(
            _LISTING_BYTES_KEPT, lambda listed: listed.links.size_bytes
        )
        self._habits = habits or Habits()
        self._xattrs: ExtendedAttributes | None = None
        self._handles: Handles[Content] = Handles()

    def get_status(self, path: bytes) -> Status:
        """Answer ``stat``. Reads no element of any dataset."""
        listed = self.listed_status(path)
        return listed[1] if listed else self.lookup.status_of(path, self.lookup.find(path))

    def listed_status(self, path: bytes) -> tuple[Node, Status] | None:
        """Return the folder of a file, and the status that the folder's listing tells; None where
        it does not tell it.
        """
        folder_path, _, name = path.rpartition(b"/")
        listed = self._listed.get(folder_path)
        status = listed.status_of(name) if listed is not None else None
        return None if listed is None or status is None else (listed.folder, status)

    def describe(self, path: bytes) -> Description:
        """Return what is known of an object, without reading it where that can be."""
        node = self.lookup.find(path)
        count = node.info.attribute_count
        if node.is_symbolic_link:
            return Description("link", target=self.lookup.link_text(node))
        if node.kind is NodeKind.FOLDER:
            return Description("group", count)
        content = self.lookup.content_of(node)
        if not isinstance(content, ArrayContent):
            return Description("datatype", count, size_bytes=content.size_bytes)
        return Description(
            "dataset", count, shape=content.npy.shape, dtype=content.dataset.dtype,
            storage=self._store.describe_storage(node.info.ref), size_bytes=content.size_bytes,
        )  # fmt: skip

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``, without ``.`` and ``..``. Opens no dataset."""
        folder = self.lookup.find_folder(path)
        self.lookup.check_depth(folder)
        links = self.lookup.list_links(folder.info.ref)
        file = self.lookup.status_of_file(folder.info.ref.file)

        def list_link(link: Link) -> Iterator[Dentry]:
            node = self.lookup.make_child(folder, link)
            if node is None:
                return
            beside = make_attributes_node(folder, node), make_offsets_node(folder, node)
            for shown in (*beside, *self._views.listed_nodes(folder, node), node):
                if shown is not None:
                    yield make_dentry(shown, file)

        if folder.info.ref.file:
            every = Dentries.of(dentry for link in links for dentry in list_link(link))
            dentries = without_covered_views(every)
        else:
            listed = FolderListing(folder, links, file, self._views)
            self._listed.put(path.rstrip(b"/"), listed)
            dentries = listed.dentries(list_link)
            dentries.find_statuses = self._status_finder(path, listed)
        own_attributes = make_attributes_node(folder, folder)
        if own_attributes is None:
            return dentries
        return dentries.after(make_dentry(own_attributes, file))

    def _status_finder(self, path: bytes, listed: FolderListing) -> FindStatuses:
        """Return a function that finds the statuses of attribute files, while programs ask for
        these.
        """
        is_eager = self._habits.lists_with_sizes(listed.asked_files)
        where = path.rstrip(b"/") + b"/"

        def find_statuses(names: list[bytes]) -> dict[bytes, Status]:
            if not (is_eager or listed.asked_files.asked_count):
                return {}
            found = {name: self.lookup.status_at_hand(where + name) for name in names}
            return {name: status for name, status in found.items() if status is not None}

        return find_statuses

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        node = self.lookup.find(path)
        if not node.is_symbolic_link:
            raise NotALinkError(f"{show_path(path)} is not a symbolic link")
        return self.lookup.link_text(node)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Answer ``listxattr``."""
        return self._extended_attributes().list(self.lookup.find(path))

    def _extended_attributes(self) -> ExtendedAttributes:
        from h5fs.tree.xattrs import ExtendedAttributes

        if self._xattrs is None:
            self._xattrs = ExtendedAttributes(self._store)  # two threads make the same
        return self._xattrs

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """Answer ``getxattr``. Raises ``NoAttributeError``."""
        from h5fs.tree.xattrs import USER_PREFIX

        if not name.startswith(USER_PREFIX):
            raise NoAttributeError(f"no extended attribute {show_path(name)}")
        return self._extended_attributes().get(self.lookup.find(path), name)

    def read_attribute_text(self, path: bytes, only: Container[bytes] | None = None) -> bytes:
        """Return what the attribute file of an object has, or would have if it had attributes.

        ``only``: the names of those that are asked for; the others may be missing.
        """
        node = self.lookup.find(path)
        if node.is_symbolic_link:
            raise UnsupportedTypeError(f"{show_path(path)} is a link; name what it leads to")
        text = self._store.attributes_at_hand(node.info.ref)
        if text is not None:
            return text
        attributes = self._store.read_attributes(node.info.ref)
        if only is not None:
            attributes = tuple(each for each in attributes if each.name in only)
            if not attributes:
                return b"{}"
        from h5fs.projection.json.attribute_file import attributes_to_json

        return attributes_to_json(attributes)

    def open(self, path: bytes, flags: int) -> int:
        """Open a file and return its handle. ``flags`` are those of ``open(2)``."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise ReadOnlyError(f"{show_path(path)}: the mount is read-only")
        node = self.lookup.find(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        content = self.lookup.content_of(node)
        # A file that stat refuses is refused here, too.
        _ = content.size_bytes
        return self._handles.add(content)

    def keeps_cache(self, _handle: int) -> bool:
        """Whether what the kernel has of an open file is its content: nothing changes here."""
        return True

    def keeps_folder(self, _path: bytes) -> bool:
        """Whether what the kernel has of a folder is its listing."""
        return True

    def version(self) -> object:
        """Return what answers come from: always this."""
        return self

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of an open file; return how much."""
        file = self._handles.get(handle)
        with self.lookup.noticing_replaced():
            return file.read_into(buffer, offset)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes at ``offset`` of an open file; fewer only at its end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(handle, memoryview(buffer), offset)])

    def release(self, handle: int) -> None:
        """Forget a file handle."""
        self._handles.remove(handle)

    def forget(self) -> None:
        """Forget what was found: the HDF5 file has changed."""
        self.lookup.forget()

    def get_file_system_status(self) -> SpaceStatus:
        """Answer ``statfs``: that of the file system the HDF5 file is on."""
        return self._store.file_system_status()

    def statistics(self) -> TreeStatistics:
        """Return what the tree and its store hold now, and did. Waits for nothing."""
        return TreeStatistics(self._store.statistics(), self._handles.count())

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _forget_listings(self, folder: bytes | None) -> None:
        if folder is None:
            self._listed.clear()
        else:
            self._listed.remove(folder)
        if self._xattrs is not None:
            self._xattrs.forget()
