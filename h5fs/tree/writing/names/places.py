"""Places in a mount that writes: what stands at a path, and what a name there means.

What is outside of the HDF5 file has its own folders: those whose names are hidden, as programs make
them for trash, checkpoints and repositories. In them every name is taken, and nothing is committed.
Changes nothing; under the tree's lock.
"""

from __future__ import annotations

from h5fs.errors import (
    ExistsError,
    H5fsError,
    NotAGroupError,
    NotEmptyError,
    NotFoundError,
    ReadOnlyError,
    show_path,
)
from h5fs.model.objects import LinkKind, ObjectInfo, ObjectKind, ObjectRef
from h5fs.projection.names import (
    GROUP_ATTRIBUTES,
    DentryName,
    Projection,
    check_length,
    decode_name,
    encode_name,
)
from h5fs.tree.contents.content import Content
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.pending.pending import Pending


class Places:
    """Paths, with what is pending laid over what the HDF5 file has."""

    def __init__(self, pending: Pending, lookup: Lookup) -> None:
        self._pending = pending
        self._lookup = lookup

    def is_there(self, path: bytes) -> bool:
        """Whether a path is anything's."""
        if self._pending.is_outside(path):
            return True
        return not self._pending.is_whited_out(path) and self._lookup.find_any(path) is not None

    def is_in_scratch(self, path: bytes) -> bool:
        """Whether the folder of a path is outside of the HDF5 file."""
        return self._pending.scratch(path.rpartition(b"/")[0]) is not None

    def find_visible(self, path: bytes) -> Node:
        """Return what the HDF5 file has at a path. Raises ``NotFoundError``, also if hidden."""
        if self._pending.is_whited_out(path):
            raise NotFoundError(f"{show_path(path)} was removed")
        return self._lookup.find(path)

    def find_own(self, path: bytes) -> Node:
        """Return what the mounted HDF5 file has at a path, and not another one that it links to."""
        node = self.find_visible(path)
        self.check_own(node, path)
        check_no_view(node, path)
        return node

    def find_replaced(self, path: bytes) -> Node | None:
        """Return what the HDF5 file has at a path that something is to get. Raises
        ``ReadOnlyError`` for a view, unless something else is shown there."""
        node = self._lookup.find_any(path)
        if node is not None and not self._pending.is_outside(path):
            check_no_view(node, path)
        return node

    def find_overwritten(self, folder: Node, link_name: bytes, path: bytes) -> Node | None:
        """Return what the HDF5 file has at a path that a file is to be committed to.

        Raises ``ExistsError`` where files of another kind show the object of that name: an array
        and a pair may be begun at the same time.
        """
        if self._lookup.get_any_link(folder.info.ref, link_name) is None:
            return None
        node = self._lookup.find_any(path)
        if node is None:
            raise ExistsError(f"{show_path(path)}: the HDF5 file has another object of that name")
        return node

    def owner_of(self, folder: Node, link_name: bytes | None) -> ObjectInfo | None:
        """Return the object whose attributes ``NAME.attrs.json`` are: a dataset or a datatype.

        Those of a group have no name, and are in its folder.
        """
        if link_name is None:
            return folder.info
        link = self._lookup.get_any_link(folder.info.ref, link_name)
        if link is None or link.kind is not LinkKind.HARD or link.target is None:
            return None
        return link.target if link.target.kind is not ObjectKind.GROUP else None

    def dataset_at(self, path: bytes) -> ObjectRef | None:
        """Return the dataset whose array is at a path, under a temporary name or another."""
        staged = self._pending.staged(path)
        if staged is not None:
            return staged.held
        node = self._lookup.find_any(path)
        return node.info.ref if node is not None and node.kind is NodeKind.ARRAY else None

    def readable_content_of(self, node: Node) -> Content | None:
        """Return what a node shows; None where that cannot be read."""
        try:
            return self._lookup.content_of(node)
        except H5fsError:
            return None

    def leads_to(self, path: bytes, node: Node) -> bool:
        """Whether the HDF5 file shows at a path what a node shows, too."""
        found = self._lookup.find_any(path)
        return found is not None and (found.kind, found.info.ref) == (node.kind, node.info.ref)

    def check_own(self, node: Node, path: bytes) -> None:
        """Raise ``ReadOnlyError`` for a link of another HDF5 file than the mounted one."""
        if node.parent is not None and node.parent.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")

    def check_empty(self, node: Node, path: bytes) -> None:
        """Raise ``NotEmptyError`` for a group that has links or attributes, or what is pending."""
        has_attributes = node.info.attribute_count and (
            not self._pending.is_whited_out(path + b"/" + GROUP_ATTRIBUTES)
        )
        if has_attributes or self._lookup.has_links(node.info.ref):
            raise NotEmptyError(f"{show_path(path)} is not empty")
        self.check_nothing_outside_in(path)

    def check_nothing_outside_in(self, path: bytes) -> None:
        """Raise when a folder has files or folders that the HDF5 file has not."""
        if self._pending.has_any_in(path):
            raise NotEmptyError(f"{show_path(path)} is not empty")

    def folder_and_file(self, path: bytes) -> tuple[Node, DentryName | None]:
        """Return the folder of a path, which may be written to, and what a file of that name is.

        None for a name that no file in the HDF5 file has, and in a scratch folder, for which the
        folder is the one in the HDF5 file that it is in.
        """
        folder, meaning = self.folder_and_meaning(path)
        return folder, meaning if is_file_name(meaning) else None

    def folder_and_meaning(self, path: bytes) -> tuple[Node, DentryName | None]:
        """Return the folder of a path, which may be written to, and what its name means."""
        folder_path, _, name = path.rpartition(b"/")
        check_length(name)
        entry = self._pending.scratch(folder_path)
        if entry is not None:
            if not entry.is_folder:
                raise NotAGroupError(f"{show_path(folder_path)} is not a folder")
            return self.folder_and_meaning(folder_path)[0], None
        folder = self._lookup.find_folder(folder_path or b"/")
        if folder.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")
        self._lookup.check_depth(folder)
        if name == GROUP_ATTRIBUTES:
            return folder, DentryName(Projection.ATTRIBUTES, None)
        return folder, decode_name(name)


def is_file_name(meaning: DentryName | None) -> bool:
    """Whether a name of that meaning is one of a file in the HDF5 file."""
    return meaning is not None and meaning.projection is not Projection.FOLDER


def check_no_view(node: Node, path: bytes) -> None:
    """Raise ``ReadOnlyError`` for what is made of an array to look at."""
    if node.is_view:
        raise ReadOnlyError(
            f"{show_path(path)} is made of the array beside it, and cannot be changed: write the "
            ".npy file, and leave views out of a copy"
        )


def attributes_path(path: bytes, link_name: bytes) -> bytes:
    """Return the path of an object's attributes, ``path`` being its own."""
    return path.rpartition(b"/")[0] + b"/" + encode_name(link_name, Projection.ATTRIBUTES)
