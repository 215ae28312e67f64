"""Nodes: what one dentry is, before anybody asks for its content.

Pure: links and objects come in as values, nodes go out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from h5fs.model.members import FastEnum
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import View
from h5fs.projection.names import GROUP_ATTRIBUTES, Projection, encode_name
from h5fs.projection.soft_links import endings_of


class NodeKind(FastEnum):
    """What a node shows."""

    FOLDER = "folder"
    ARRAY = "array"
    VALUES = "values of variable-length sequences"
    OFFSETS = "offsets of variable-length sequences"
    ATTRIBUTES = "attributes"
    DATATYPE = "datatype"
    SOFT_LINK = "soft link"
    ANCESTOR_LINK = "link to an ancestor"
    DANGLING_LINK = "dangling external link"
    UNREADABLE = "unreadable object"


AnyKind = NodeKind | View
"""What a node shows: an object of the HDF5 file, or what is made of an array to look at."""

SYMBOLIC_LINKS = frozenset({NodeKind.SOFT_LINK, NodeKind.ANCESTOR_LINK, NodeKind.DANGLING_LINK})

_WITHOUT_OBJECT = SYMBOLIC_LINKS | {NodeKind.UNREADABLE}


class Node(Struct, frozen=True, eq=False):
    """One dentry. ``info`` is the object that it shows; for a symbolic link, the group it is in.

    ``levels_up``: how far above its folder an ancestor link leads. ``link``: the link that a
    symbolic link stands for. ``depth``: how many folders are above a folder; 0 for the root.
    """

    kind: AnyKind
    name: bytes
    info: ObjectInfo
    parent: Node | None
    link: Link | None = None
    levels_up: int = 0
    depth: int = 0

    @property
    def is_symbolic_link(self) -> bool:
        """Whether the kernel sees a symbolic link."""
        return self.kind in SYMBOLIC_LINKS

    @property
    def is_view(self) -> bool:
        """Whether the file is made of an array for people to look at, and is only read."""
        return isinstance(self.kind, View)

    @property
    def inode(self) -> int:
        """Inode number: from the object's id, an attribute file's just before its object's.

        Hard links to one object share it. A symbolic link has no object of its own; its number
        comes from its group and name, and so is the same in every mount.
        """
        kind, ref = self.kind, self.info.ref
        if kind in _WITHOUT_OBJECT:
            return _hash_to_inode(ref, self.name) | 1 << 63
        if ref.file:
            return self.inode_of(kind)
        if kind in _POSITIONS:
            return object_inode(ref.id, kind)
        return ref.id + _OWN_POSITION & _ID_MASK

    def inode_of(self, kind: AnyKind) -> int:
        """Return the inode number of the file of another kind that shows the same object."""
        ref = self.info.ref
        if ref.file:
            position = _POSITIONS.get(kind, _OWN_POSITION)
            return (_hash_to_inode(ref, b"") >> 4 << 2) + position & (1 << 64) - 1
        return object_inode(ref.id, kind)


_OWN_POSITION = 2  # of the file or folder that is an object's own
_POSITIONS: dict[AnyKind, int] = {
    NodeKind.ATTRIBUTES: 1,
    NodeKind.OFFSETS: 3,
    # In the half of the numbers that no id of an object is in.
    **{view: 1 << 63 | position for position, view in enumerate(View, 1)},
}
_ID_MASK = (1 << 63) - 1
_INODE_MASK = (1 << 64) - 1


def object_inode(object_id: int, kind: AnyKind) -> int:
    """Return the inode number of the file of a kind that shows an object of the mounted file."""
    # Ids are 4 apart at least, so these few numbers after an object's id are its own.
    position = _POSITIONS.get(kind, _OWN_POSITION)
    return object_id + (position & _ID_MASK) & _ID_MASK | position & ~_ID_MASK


def object_inodes(object_ids: npt.NDArray[np.uint64], kind: AnyKind) -> npt.NDArray[np.uint64]:
    """Return the inode numbers of the files of a kind that show many objects."""
    position = _POSITIONS.get(kind, _OWN_POSITION)
    low = object_ids + np.uint64(position & _ID_MASK) & np.uint64(_ID_MASK)
    return low | np.uint64(position & ~_ID_MASK)


def mix_inode(inode: int, seed: int) -> int:
    """Return the inode number of an object in one of many HDF5 files, each with its own ``seed``.

    Objects of two files have the same number by a chance of about 2^-64. Programs that copy a
    folder go by these numbers: within a file they are in the order of its objects.
    """
    return (inode + seed) & _INODE_MASK or 1


def make_root(info: ObjectInfo) -> Node:
    """Return the node of the root group."""
    return Node(NodeKind.FOLDER, b"", info, None)


def make_node(folder: Node, link: Link, target: ObjectInfo | None) -> Node | None:
    """Return the node of a link in a folder, or None for one that is listed nowhere.

    ``target`` is what the link leads to; None for a soft link that is shown as a symbolic link, and
    for an external link that leads nowhere or where policy forbids.
    """
    if link.kind is LinkKind.USER_DEFINED:
        return None
    if target is None:
        # A soft link of another file leads nowhere (or it would have been followed). Its path, as a
        # symbolic link's text, could lead to an object of the mounted file.
        is_soft = link.kind is LinkKind.SOFT and folder.info.ref.file == 0
        kind = NodeKind.SOFT_LINK if is_soft else NodeKind.DANGLING_LINK
        return Node(kind, encode_name(link.name, link_projection(link)), folder.info, folder, link)
    kind, projection = _OF_OBJECT[target.kind]
    if target.holds_sequences:
        kind, projection = NodeKind.VALUES, Projection.VALUES
    name = encode_name(link.name, projection)
    if target.kind is ObjectKind.GROUP:
        levels_up = _levels_to_ancestor(folder, target.ref)
        if levels_up is not None:
            kind = NodeKind.ANCESTOR_LINK
            return Node(kind, name, folder.info, folder, link, levels_up)
    return Node(kind, name, target, folder, link, depth=folder.depth + 1)


def path_of(folder: Node) -> bytes:
    """Return the path of a folder in the mount; that of the root is empty."""
    path, node = b"", folder
    while node.parent is not None:
        path, node = b"/" + node.name + path, node.parent
    return path


def has_one_path(folder: Node, target: ObjectInfo | None) -> bool:
    """Whether a link in a folder is found by one path alone, and so is its object, if it has one.

    What an external link that leads back to the file adds to this is not known here.
    """
    node: Node | None = folder
    while node is not None:
        if node.info.hard_link_count > 1 or node.info.ref.file:
            return False
        node = node.parent
    return target is None or (
        target.hard_link_count == 1 and target.kind is not ObjectKind.UNREADABLE
    )


def link_projection(link: Link) -> Projection:
    """Return how the name of a link that is a symbolic link ends."""
    if link.kind is not LinkKind.SOFT:
        return Projection.FOLDER
    return endings_of(link.soft_target).own


def make_offsets_node(folder: Node, values: Node) -> Node | None:
    """Return the second file of a dataset of variable-length sequences; None for other nodes."""
    if values.kind is not NodeKind.VALUES or values.link is None:
        return None
    name = encode_name(values.link.name, Projection.OFFSETS)
    return Node(NodeKind.OFFSETS, name, values.info, folder, values.link)


def make_attributes_node(folder: Node, owner: Node) -> Node | None:
    """Return the attribute file of ``owner``, which is ``folder`` itself or a file in it.

    None when it has no attributes. A group's attribute file is inside the group.
    """
    if not owner.info.attribute_count or owner.is_symbolic_link:
        return None
    if owner is folder:
        return Node(NodeKind.ATTRIBUTES, GROUP_ATTRIBUTES, owner.info, folder)
    if owner.kind in (NodeKind.ARRAY, NodeKind.VALUES, NodeKind.DATATYPE):
        assert owner.link is not None
        name = encode_name(owner.link.name, Projection.ATTRIBUTES)
        return Node(NodeKind.ATTRIBUTES, name, owner.info, folder, owner.link)
    return None


PROJECTIONS: dict[AnyKind, Projection] = {
    NodeKind.ARRAY: Projection.ARRAY,
    NodeKind.VALUES: Projection.VALUES,
    NodeKind.OFFSETS: Projection.OFFSETS,
    NodeKind.ATTRIBUTES: Projection.ATTRIBUTES,
    NodeKind.DATATYPE: Projection.DATATYPE,
}
"""How the files of each kind are named."""

PARTNERS = {Projection.VALUES: Projection.OFFSETS, Projection.OFFSETS: Projection.VALUES}
"""The two files of a dataset of variable-length sequences, each with the other."""

_OF_OBJECT = {
    ObjectKind.GROUP: (NodeKind.FOLDER, Projection.FOLDER),
    ObjectKind.DATASET: (NodeKind.ARRAY, Projection.ARRAY),
    ObjectKind.DATATYPE: (NodeKind.DATATYPE, Projection.DATATYPE),
    ObjectKind.UNREADABLE: (NodeKind.UNREADABLE, Projection.FOLDER),
}


def _levels_to_ancestor(folder: Node, ref: ObjectRef) -> int | None:
    """Return how many levels above ``folder`` the group stands; 0 is the folder itself."""
    levels, node = 0, folder
    while node.info.ref != ref:
        if node.parent is None:
            return None
        levels, node = levels + 1, node.parent
    return levels


def _hash_to_inode(group: ObjectRef, name: bytes) -> int:
    import hashlib  # few links need a number of their own

    seed = b"%d %d " % (group.file, group.id) + name
    digest = hashlib.blake2b(seed, digest_size=8).digest()
    return int.from_bytes(digest, "little")


BESIDE = {Projection.ATTRIBUTES: make_attributes_node, Projection.OFFSETS: make_offsets_node}
"""What makes the files that stand beside an object's own, from its folder and its node."""
