"""Lookup: from paths to nodes, and what is known of nodes, as the HDF5 file has them.

What was found is kept until ``forget``, or until a change of the one link that it belongs to. Safe
to call from any thread. Raises ``H5fsError``s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from h5fs.errors import (
    H5fsError,
    NotAGroupError,
    NotFoundError,
    TooLargeError,
    UnreadableError,
    show_path,
)
from h5fs.lru_cache import LruCache
from h5fs.model.file_status import FileStatus
from h5fs.model.link_table import Links
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectRef
from h5fs.model.settings import View
from h5fs.projection.names import (
    FILE_PROJECTIONS,
    GROUP_ATTRIBUTES,
    AnyProjection,
    Projection,
    check_length,
    decode_name,
    decode_view_name,
    encode_names,
    find_cut_names,
    is_listable,
)
from h5fs.store.interface import Store
from h5fs.tree.contents.content import (
    Attributes,
    Content,
    TextContent,
    open_content,
    read_all,
    written_attributes_content,
)
from h5fs.tree.contents.known_contents import KnownContents
from h5fs.tree.contents.view_content import Views
from h5fs.tree.file_statuses import FileStatuses
from h5fs.tree.known_links import Known, KnownLinks, LinkChange, NoticingReplaced
from h5fs.tree.link_targets import LinkTexts
from h5fs.tree.nodes import (
    BESIDE,
    Node,
    NodeKind,
    has_one_path,
    make_attributes_node,
    make_node,
    make_root,
    path_of,
)
from h5fs.tree.status import Status, make_status

_log = logging.getLogger(__name__)

# In mode r nothing changes, so that what was found once stays true. The numbers bound memory to
# some tens of MB.
_NODES_KEPT, _WARNINGS_KEPT, _CUT_NAMES_KEPT = 8192, 1024, 16


class Lookup:
    """Nodes by path, with their links, contents and statuses.

    ``forget_others`` is called with ``forget``: whoever keeps more of the same file forgets it too,
    all of it or, when it is called with the path of a folder, what it has of that folder.
    """

    def __init__(
        self, store: Store, max_depth: int, views: Views, link_texts: LinkTexts, *,
        forget_others: Callable[[bytes | None], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._views = views
        self._projections = (Projection.FOLDER, *FILE_PROJECTIONS, *views.kinds)
        self._link_texts = link_texts
        self._max_depth = max_depth
        self._forget_others = forget_others
        self._root: Node | None = make_root(store.root())
        self._links = KnownLinks(store)
        self._nodes: LruCache[bytes, Node] = LruCache(_NODES_KEPT)
        self._contents = KnownContents()
        self._cut_names: LruCache[ObjectRef, dict[bytes, bytes]] = LruCache(_CUT_NAMES_KEPT)
        self._warned: LruCache[str, bool] = LruCache(_WARNINGS_KEPT)
        self.files = FileStatuses(store)
        self.status_of_file: Callable[[int], FileStatus] = self.files.present
        """Return the status of an HDF5 file, by its number in an ``ObjectRef``."""
        self.is_shared = False
        """Whether others change the HDF5 file: then everything is forgotten with each change."""
        self._noticing = NoticingReplaced(self.forget)
        self._has_aliases = False  # an external link has led to the mounted file

    def forget(self) -> None:
        """Forget what was found: the HDF5 file has changed."""
        self._nodes.clear()
        self._cut_names.clear()
        self._contents.forget()
        self._links.forget()
        self._root = None
        self._forget_others(None)

    def noticing_replaced(self) -> NoticingReplaced:
        """Forget what was found, when a file that links lead to has been replaced."""
        return self._noticing

    def changing(self) -> LinkChange:
        """Forget what was found, when the block has changed the HDF5 file or has failed."""
        return LinkChange(self._end_change)

    def changing_link(self, folder: Node, name: bytes) -> LinkChange:
        """Forget what was found of one link, when the block has changed it or its object.

        The block says in the ``LinkChange`` what there is afterwards. Everything is forgotten where
        more may have changed than what is found by this path alone, and when the block fails.
        """
        known = self._links.known(folder.info.ref, name)
        return LinkChange(self._end_change, folder, name, known, self._is_alone(folder, known))

    def changing_group(self, folder: Node) -> LinkChange:
        """Forget what was found of a group, when the block has changed its attributes."""
        link = folder.link
        if folder.parent is None or link is None or link.kind is not LinkKind.HARD:
            return self.changing()
        return self.changing_link(folder.parent, link.name)

    def _end_change(self, change: LinkChange, has_failed: bool) -> None:
        folder, name = change.folder, change.name
        # Other calls may have been answered meanwhile; one may have found a second way here.
        if has_failed or folder is None or not change.is_alone or self._has_aliases:
            self.forget()
        else:
            self._forget_link(folder, name, change)
        if has_failed or folder is None:
            return
        if change.is_gone:
            self._links.note_gone(folder.info.ref, name)
            return
        self._links.note(folder.info.ref, name, change.link)
        if change.link is not None and (target := change.link.target) is not None:
            self._contents.forget_own(target.ref)  # its number may have been another object's
            if change.is_empty_group:
                self._links.note_empty_group(target.ref)
            if change.attributes:
                node = Node(NodeKind.ATTRIBUTES, b"", target, folder)
                self.keep_content(node, written_attributes_content(change.attributes))

    def is_alone(self, folder: Node, name: bytes) -> bool:
        """Whether a link's object is known, and no other path leads to it or into its group."""
        return self._is_alone(folder, self._links.known(folder.info.ref, name))

    def _is_alone(self, folder: Node, known: Known | None) -> bool:
        if known is None or self._has_aliases or self.is_shared:
            return False
        return has_one_path(folder, known.target if isinstance(known, Link) else None)

    def _forget_link(self, folder: Node, name: bytes, change: LinkChange) -> None:
        group, folder_path, known = folder.info.ref, path_of(folder), change.known
        if isinstance(known, Link) and known.target is not None:
            self._contents.forget_own(known.target.ref)
            now = None if change.link is None else change.link.target
            if now is None or now.ref != known.target.ref:  # else its attributes are others
                self._links.forget_group(known.target.ref)
        # The link's dentry has one of several names, depending on what the link has led to.
        start = folder_path + b"/"
        paths = [start + each for each in encode_names(name, self._projections)]
        inside = paths[0] + b"/" + GROUP_ATTRIBUTES  # the first is that of a folder
        self._nodes.remove(inside, *paths)
        self._contents.forget_dependent()
        self._cut_names.remove(group)
        self._forget_others(folder_path)

    def status_of(self, path: bytes, node: Node) -> Status:
        """Return the status of a node, which is found at ``path``. Reads no element."""
        file = self.status_of_file(node.info.ref.file)
        if node.kind is NodeKind.FOLDER:
            return make_status(node, file, size_bytes=0, storage_bytes=0)
        if node.is_symbolic_link:
            size_bytes = len(self.link_text(node))
            return make_status(node, file, size_bytes=size_bytes, storage_bytes=0)
        if node.kind is NodeKind.UNREADABLE:
            raise UnreadableError(f"{show_path(path)}: the object header cannot be read")
        try:
            content = self.content_of(node)
            size_bytes, storage_bytes = content.size_bytes, content.storage_bytes
            return make_status(node, file, size_bytes=size_bytes, storage_bytes=storage_bytes)
        except TooLargeError:
            raise
        except H5fsError as error:
            _log.debug("%s is listed without content: %s", show_path(path), error)
            return make_status(node, file, size_bytes=0, storage_bytes=0, is_readable=False)

    def status_at_hand(self, path: bytes) -> Status | None:
        """Return the status of an attribute file that is at hand, or will be in a moment."""
        try:
            node = self.find(path)
            if node.kind is not NodeKind.ATTRIBUTES:
                return None
            if self._contents.get(node) is None:
                text = self._store.attributes_at_hand(node.info.ref)
                if text is None:
                    return None
                self.keep_content(node, TextContent(text))
            return self.status_of(path, node)
        except H5fsError:
            return None  # whoever asks for this file alone gets the error

    def find(self, path: bytes) -> Node:
        """Return the node of a path. Raises ``NotFoundError``, ``NotAGroupError``."""
        node = self._nodes.get(path) or self._walk(path)
        if node is None:
            raise NotFoundError(f"{show_path(path)}: no such file or folder")
        return node

    def find_any(self, path: bytes) -> Node | None:
        """Return the node of a path; None where the HDF5 file has none in that folder."""
        try:
            return self._nodes.get(path) or self._walk(path)
        except NotFoundError:  # a group went while it was listed
            return None

    def _walk(self, path: bytes) -> Node | None:
        """Return the node of a path that is not at hand; None where there is none."""
        missing: list[bytes] = []
        node: Node | None = None
        while node is None:
            if path in (b"/", b""):
                node = self._root = self._root or make_root(self._store.root())
                break
            path, _, name = path.rpartition(b"/")
            missing.append(name)
            node = self._nodes.get(path) if path else self._root
        for name in reversed(missing):
            path = path.rstrip(b"/") + b"/" + name
            node = self._find_child(node, name)
            if node is None:
                return None
            self._nodes.put(path, node)
        return node

    def find_folder(self, path: bytes) -> Node:
        """Return the node of a group's folder. Raises ``NotFoundError``, ``NotAGroupError``."""
        node = (self._root if path == b"/" else None) or self.find(path)
        if node.kind is not NodeKind.FOLDER:
            raise NotAGroupError(f"{show_path(path)} is not a group")
        return node

    def _find_child(self, folder: Node, name: bytes) -> Node | None:
        check_length(name)
        if folder.kind is not NodeKind.FOLDER:
            if folder.kind is NodeKind.UNREADABLE:  # it may be a group
                raise UnreadableError(f"{show_path(folder.name)}: the object header cannot be read")
            raise NotAGroupError(f"{show_path(folder.name)} is not a group")
        if folder.depth >= self._max_depth:
            self.check_depth(folder)
        if name == GROUP_ATTRIBUTES:
            return make_attributes_node(folder, folder)
        node, meant = None, decode_name(name)
        if meant is not None:
            node = self._find_meant(folder, name, meant.projection, meant.link_name)
        is_other = node is None or node.name != name
        if is_other and self._views.kinds:
            found = decode_view_name(name, self._views.kinds)
            node = None if found is None else self._find_meant(folder, name, *found)
            is_other = node is None or node.name != name
        return None if is_other else node

    def check_depth(self, folder: Node) -> None:
        """Raise ``UnreadableError`` for a group so deep that what is in it is not shown."""
        if folder.depth >= self._max_depth:
            path = show_path(folder.info.ref.path[:200])
            depth = self._max_depth
            raise UnreadableError(f"{path}...: groups more than {depth} deep (-o max_depth=N)")

    def _find_meant(
        self, folder: Node, name: bytes, projection: AnyProjection, link_name: bytes | None
    ) -> Node | None:
        link_name = link_name or self._find_cut_name(folder.info.ref, name)
        if link_name is None:
            return None
        link = self.get_any_link(folder.info.ref, link_name)
        return None if link is None else self._project(folder, link, projection)

    def list_links(self, group: ObjectRef) -> Links:
        """Return all links of a group; they are kept, since whoever lists them asks for each."""
        with self.noticing_replaced():
            return self._links.list(group)

    def note_changed_elements(self) -> None:
        """Forget what shows elements of the HDF5 file: some were written in place."""
        self._views.pictures.forget()

    def is_known_empty(self, group: ObjectRef) -> bool:
        """Whether a group is known to have no links, without asking."""
        return bool(self._links.is_known_empty(group))

    def has_links(self, group: ObjectRef) -> bool:
        """Whether a group has any links."""
        return not self._links.is_empty(group)

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        """Return one link of a group. Raises ``NotFoundError``."""
        link = self.get_any_link(group, name)
        if link is None:
            raise NotFoundError(f"no link {show_path(name)} in {show_path(group.path)}")
        return link

    def get_any_link(self, group: ObjectRef, name: bytes) -> Link | None:
        """Return one link of a group; None where there is none."""
        known = self._links.known(group, name)
        if known is None:
            with self.noticing_replaced():
                known = self._links.ask(group, name)
        return known if isinstance(known, Link) else None

    def _find_cut_name(self, group: ObjectRef, name: bytes) -> bytes | None:
        """Return the link name that was too long for a dentry: only a look at all tells."""
        cut_names = self._cut_names.get(group)
        if cut_names is None:
            cut_names = find_cut_names(self.list_links(group).names())
            self._cut_names.put(group, cut_names)
        return cut_names.get(name)

    def _project(self, folder: Node, link: Link, projection: AnyProjection) -> Node | None:
        node = self.make_child(folder, link)
        if isinstance(projection, View):
            return self._views.node(folder, node, projection)
        if node is None or projection not in BESIDE or node.is_symbolic_link:
            return node
        return BESIDE[projection](folder, node)

    def make_child(self, folder: Node, link: Link) -> Node | None:
        """Return the node of a link's own dentry; None where the link is not listed."""
        if not is_listable(link.name):
            self._warn_once(folder, link, "has a name by which HDF5 cannot reach it; not listed")
            return None
        if link.kind is LinkKind.USER_DEFINED:
            self._warn_once(folder, link, "is user-defined; not listed")
            return None
        target = link.target if link.kind is LinkKind.HARD else self._follow(folder, link)
        return make_node(folder, link, target)

    def _follow(self, folder: Node, link: Link) -> ObjectInfo | None:
        if link.kind is LinkKind.SOFT and folder.info.ref.file == 0:
            return None  # a symbolic link, which the kernel follows
        # The root of another file is not in the mount, so that no symbolic link could lead there.
        try:
            target = self._store.follow(folder.info.ref, link)
        except H5fsError as error:
            self._warn_once(folder, link, f"leads nowhere: {error}")
            return None
        self._has_aliases = self._has_aliases or target.ref.file == 0
        return target

    def content_of(self, node: Node) -> Content:
        """Return what a file's bytes come from."""
        content = self._contents.get(node)
        if content is None:
            with self.noticing_replaced():
                content = open_content(self._store, node, self._views)
            self._contents.keep(node, content)
        return content

    def link_text(self, node: Node) -> bytes:
        """Return the text of a symbolic link. Raises ``TooLargeError``."""
        return self._link_texts.read(node)

    def keep_content(self, node: Node, content: Content) -> None:
        """Let a node have a content from now on, until what was found is forgotten."""
        self._contents.keep(node, content)

    def known_attributes(self, owner: ObjectRef) -> Attributes | None:
        """Return the attributes of an object, if they are at hand."""
        return self._contents.attributes_of(owner)

    def text_of(self, path: bytes) -> bytes:
        """Return all bytes of a file that is text; none where the HDF5 file has none."""
        node = self.find_any(path)
        return b"" if node is None else read_all(self.content_of(node))

    def forget_files(self) -> None:
        """Forget the statuses of HDF5 files, which ``forget`` does not."""
        self.files.forget()

    def _warn_once(self, folder: Node, link: Link, what: str) -> None:
        message = f"{show_path(folder.info.ref.path)}: link {show_path(link.name)} {what}"
        if self._warned.get(message) is None:
            self._warned.put(message, True)
            _log.warning("%s", message)
