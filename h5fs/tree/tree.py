"""The tree: every question that a file system is asked, answered for an HDF5 file.

Paths are absolute bytes (``b"/g/d.npy"``). Safe to call from any thread. Raises ``H5fsError``s.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from h5fs.errors import (
    H5fsError,
    IsAGroupError,
    NameTooLongError,
    NoAttributeError,
    NotAGroupError,
    NotALinkError,
    NotFoundError,
    ReadOnlyError,
    TooLargeError,
    UnreadableError,
    show_path,
)
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.link_table import Links
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectRef
from h5fs.model.settings import Limits
from h5fs.projection.names import (
    GROUP_ATTRIBUTES,
    NAME_MAX,
    Projection,
    decode_name,
    find_cut_names,
    is_listable,
)
from h5fs.store.interface import Store
from h5fs.tree.cache import LruCache
from h5fs.tree.content import ArrayContent, Content, TextContent, open_content
from h5fs.tree.dentries import Dentries
from h5fs.tree.description import Description
from h5fs.tree.handles import Handles
from h5fs.tree.link_targets import read_link_text
from h5fs.tree.listing import FolderListing
from h5fs.tree.nodes import (
    Node,
    NodeKind,
    make_attributes_node,
    make_node,
    make_offsets_node,
    make_root,
)
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Dentry, Status, make_dentry, make_status
from h5fs.tree.xattrs import USER_PREFIX, ExtendedAttributes

_log = logging.getLogger(__name__)

# In mode r nothing changes, so that what was found once stays true. The numbers bound memory to
# some tens of MB.
_NODES_KEPT = 8192
_MISSING_KEPT = 1024
_LISTING_BYTES_KEPT = 128 * 2**20
_CONTENTS_KEPT = 4096
_LARGEST_TEXT_KEPT_BYTES = 16 * 2**10
_WARNINGS_KEPT = 1024
_CUT_NAMES_KEPT = 16

# Files that stand beside an object's own, made from its node.
_BESIDE = {
    Projection.ATTRIBUTES: make_attributes_node,
    Projection.OFFSETS: make_offsets_node,
}


class Tree:
    """An HDF5 file as a file system."""

    def __init__(self, store: Store, max_depth: int = Limits().max_depth) -> None:
        self._store = store
        self._max_depth = max_depth
        self._listings: LruCache[ObjectRef, Links] = LruCache(
            _LISTING_BYTES_KEPT, lambda links: links.size_bytes
        )
        self._root: Node | None = make_root(store.root())
        self._listed: LruCache[bytes, FolderListing] = LruCache(
            _LISTING_BYTES_KEPT, lambda listed: listed.links.size_bytes
        )
        self._nodes: LruCache[bytes, Node] = LruCache(_NODES_KEPT)
        self._missing: LruCache[tuple[ObjectRef, bytes], bool] = LruCache(_MISSING_KEPT)
        self._contents: LruCache[tuple[NodeKind, ObjectRef], Content] = LruCache(_CONTENTS_KEPT)
        # One that was asked the size of is read next.
        self._large_contents: LruCache[tuple[NodeKind, ObjectRef], Content] = LruCache(2)
        self._cut_names: LruCache[ObjectRef, dict[bytes, bytes]] = LruCache(_CUT_NAMES_KEPT)
        self._xattrs = ExtendedAttributes(store)
        self._warned: LruCache[str, bool] = LruCache(_WARNINGS_KEPT)
        self._handles: Handles[Content] = Handles()
        # By file number; few, since the store bounds how many files are open.
        self._file_status: dict[int, FileStatus] = {}

    def get_status(self, path: bytes) -> Status:
        """Answer ``stat``. Reads no element of any dataset."""
        folder_path, _, name = path.rpartition(b"/")
        listed = self._listed.get(folder_path)
        status = listed.status_of(name) if listed is not None else None
        return status if status is not None else self._get_status(path)

    def _get_status(self, path: bytes) -> Status:
        return self._describe(path, self._find(path))

    def _describe(self, path: bytes, node: Node) -> Status:
        file = self._status_of_file(node.info.ref.file)
        if node.kind is NodeKind.FOLDER:
            return make_status(node, file, size_bytes=0, storage_bytes=0)
        if node.is_symbolic_link:
            text = read_link_text(self._store, node)
            return make_status(node, file, size_bytes=len(text), storage_bytes=0)
        if node.kind is NodeKind.UNREADABLE:
            raise UnreadableError(f"{show_path(path)}: the object header cannot be read")
        try:
            content = self._content_of(node)
            return make_status(
                node, file, size_bytes=content.size_bytes, storage_bytes=content.storage_bytes
            )
        except TooLargeError:
            raise
        except H5fsError as error:
            _log.debug("%s is listed without content: %s", show_path(path), error)
            return make_status(node, file, size_bytes=0, storage_bytes=0, is_readable=False)

    def describe(self, path: bytes) -> Description:
        """Return what is known of an object, without reading it where that can be."""
        node = self._find(path)
        count = node.info.attribute_count
        if node.is_symbolic_link:
            return Description("link", target=read_link_text(self._store, node))
        if node.kind is NodeKind.FOLDER:
            return Description("group", count)
        content = self._content_of(node)
        if not isinstance(content, ArrayContent):
            return Description("datatype", count, size_bytes=content.size_bytes)
        return Description(
            "dataset", count, shape=content.npy.shape, dtype=content.dataset.dtype,
            storage=self._store.describe_storage(node.info.ref), size_bytes=content.size_bytes,
        )  # fmt: skip

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``, without ``.`` and ``..``. Opens no dataset."""
        folder = self._find_folder(path)
        self._check_depth(folder)
        links = self._list_links(folder.info.ref)
        file = self._status_of_file(folder.info.ref.file)

        def list_link(link: Link) -> Iterator[Dentry]:
            node = self._make_child(folder, link)
            if node is None:
                return
            for shown in (
                make_attributes_node(folder, node), make_offsets_node(folder, node), node
            ):  # fmt: skip
                if shown is not None:
                    yield make_dentry(shown, file)

        if folder.info.ref.file:
            dentries = Dentries.of(dentry for link in links for dentry in list_link(link))
        else:
            listed = FolderListing(folder, links, file)
            self._listed.put(path.rstrip(b"/"), listed)
            dentries = listed.dentries(list_link)
        own_attributes = make_attributes_node(folder, folder)
        if own_attributes is None:
            return dentries
        return dentries.after(make_dentry(own_attributes, file))

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        node = self._find(path)
        if not node.is_symbolic_link:
            raise NotALinkError(f"{show_path(path)} is not a symbolic link")
        return read_link_text(self._store, node)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Answer ``listxattr``."""
        return self._xattrs.list(self._find(path))

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """Answer ``getxattr``. Raises ``NoAttributeError``."""
        if not name.startswith(USER_PREFIX):
            raise NoAttributeError(f"no extended attribute {show_path(name)}")
        return self._xattrs.get(self._find(path), name)

    def open(self, path: bytes, flags: int) -> int:
        """Open a file and return its handle. ``flags`` are those of ``open(2)``."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise ReadOnlyError(f"{show_path(path)}: the mount is read-only")
        node = self._find(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        content = self._content_of(node)
        # So that a file that stat refuses is refused here too.
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
        return self._handles.get(handle).read_into(buffer, offset)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes at ``offset`` of an open file; fewer only at its end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(handle, memoryview(buffer), offset)])

    def release(self, handle: int) -> None:
        """Forget a file handle."""
        self._handles.remove(handle)

    def forget(self) -> None:
        """Forget what was found: the HDF5 file has changed."""
        for cache in (self._listings, self._listed, self._nodes, self._missing, self._contents,
                      self._large_contents, self._cut_names):  # fmt: skip
            cache.clear()
        self._xattrs.forget()
        self._root = None

    def get_file_system_status(self) -> SpaceStatus:
        """Answer ``statfs``: that of the file system the HDF5 file is on."""
        return self._store.file_system_status()

    def statistics(self) -> TreeStatistics:
        """Return what the tree and its store hold now, and did. Waits for nothing."""
        return TreeStatistics(self._store.statistics(), self._handles.count())

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _find(self, path: bytes) -> Node:
        """Return the node of a path. Raises ``NotFoundError``, ``NotAGroupError``."""
        missing: list[bytes] = []
        node = None
        while node is None:
            if path in (b"/", b""):
                node = self._root = self._root or make_root(self._store.root())
                break
            node = self._nodes.get(path)
            if node is None:
                path, _, name = path.rpartition(b"/")
                missing.append(name)
        for name in reversed(missing):
            path = path.rstrip(b"/") + b"/" + name
            node = self._find_child(node, name)
            self._nodes.put(path, node)
        return node

    def _find_folder(self, path: bytes) -> Node:
        node = self._find(path)
        if node.kind is not NodeKind.FOLDER:
            raise NotAGroupError(f"{show_path(path)} is not a group")
        return node

    def _find_child(self, folder: Node, name: bytes) -> Node:
        check_length(name)
        if folder.kind is not NodeKind.FOLDER:
            raise NotAGroupError(f"{show_path(folder.name)} is not a group")
        self._check_depth(folder)
        node = self._match_child(folder, name)
        if node is None or node.name != name:
            raise NotFoundError(f"no {show_path(name)} in {show_path(folder.info.ref.path)}")
        return node

    def _check_depth(self, folder: Node) -> None:
        if folder.depth >= self._max_depth:
            raise UnreadableError(
                f"{show_path(folder.info.ref.path[:200])}...: groups more than {self._max_depth} "
                "deep (-o max_depth=N)"
            )

    def _match_child(self, folder: Node, name: bytes) -> Node | None:
        if name == GROUP_ATTRIBUTES:
            return make_attributes_node(folder, folder)
        meaning = decode_name(name)
        if meaning is None:
            return None
        if meaning.link_name is None:
            return self._find_cut_name(folder, name, meaning.projection)
        link = self._get_link(folder.info.ref, meaning.link_name)
        return self._project(folder, link, meaning.projection)

    def _list_links(self, group: ObjectRef) -> Links:
        """Return all links of a group; they are kept, since whoever lists them asks for each."""
        links = self._listings.get(group)
        if links is None:
            links = Links(self._store.list_links(group))
            self._listings.put(group, links)
        return links

    def _get_link(self, group: ObjectRef, name: bytes) -> Link:
        links = self._listings.get(group)
        if links is None:
            return self._ask_for_link(group, name)
        index = links.find(name)
        if index is None:
            raise NotFoundError(f"no link {show_path(name)} in {show_path(group.path)}")
        return links[index]

    def _ask_for_link(self, group: ObjectRef, name: bytes) -> Link:
        """Ask the store, but not again for what is not there: who makes a file asks five times."""
        if self._missing.get((group, name)) is None:
            try:
                return self._store.get_link(group, name)
            except NotFoundError:
                self._missing.put((group, name), True)
        raise NotFoundError(f"no link {show_path(name)} in {show_path(group.path)}")

    def _find_cut_name(self, folder: Node, name: bytes, projection: Projection) -> Node | None:
        """Return the node whose link name was too long for a dentry: only a look at all tells."""
        ref = folder.info.ref
        cut_names = self._cut_names.get(ref)
        if cut_names is None:
            cut_names = find_cut_names(self._list_links(ref).names())
            self._cut_names.put(ref, cut_names)
        if name not in cut_names:
            return None
        return self._project(folder, self._get_link(ref, cut_names[name]), projection)

    def _project(self, folder: Node, link: Link, projection: Projection) -> Node | None:
        node = self._make_child(folder, link)
        if node is None or projection not in _BESIDE or node.is_symbolic_link:
            return node
        return _BESIDE[projection](folder, node)

    def _make_child(self, folder: Node, link: Link) -> Node | None:
        where = f"{show_path(folder.info.ref.path)}: link {show_path(link.name)}"
        if not is_listable(link.name):
            self._warn_once(f"{where} has a name by which HDF5 cannot reach it; not listed")
            return None
        if link.kind is LinkKind.USER_DEFINED:
            self._warn_once(f"{where} is user-defined; not listed")
            return None
        return make_node(folder, link, self._target_of(folder, link, where))

    def _target_of(self, folder: Node, link: Link, where: str) -> ObjectInfo | None:
        if link.kind is LinkKind.HARD:
            return link.target
        if link.kind is LinkKind.SOFT and folder.info.ref.file == 0:
            return None  # a symbolic link, which the kernel follows
        # The root of another file is not in the mount, so that no symbolic link could lead there.
        try:
            return self._store.follow(folder.info.ref, link)
        except H5fsError as error:
            self._warn_once(f"{where} leads nowhere: {error}")
            return None

    def _content_of(self, node: Node) -> Content:
        key = (node.kind, node.info.ref)
        content = self._contents.get(key) or self._large_contents.get(key)
        if content is None:
            content = open_content(self._store, node)
            is_large = isinstance(content, TextContent) and (
                content.size_bytes > _LARGEST_TEXT_KEPT_BYTES
            )
            (self._large_contents if is_large else self._contents).put(key, content)
        return content

    def _status_of_file(self, number: int) -> FileStatus:
        if number not in self._file_status:
            self._file_status[number] = self._store.file_status(number)
        return self._file_status[number]

    def _warn_once(self, message: str) -> None:
        if self._warned.get(message) is None:
            self._warned.put(message, True)
            _log.warning("%s", message)


def check_length(name: bytes) -> None:
    """Raise ``NameTooLongError`` for a name that is longer than any dentry's."""
    if len(name) > NAME_MAX:
        raise NameTooLongError(f"a name of {len(name)} bytes, more than {NAME_MAX}")
