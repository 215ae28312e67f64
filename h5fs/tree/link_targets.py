"""The text of symbolic links: where soft, ancestor and dangling links lead, as POSIX paths."""

from __future__ import annotations

import re

from h5fs.errors import H5fsError, TooLargeError
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectKind
from h5fs.projection.names import OUTSIDE, Projection, encode_name, escape
from h5fs.projection.soft_links import ESCAPED_UP, endings_of, without_ups
from h5fs.store.interface import Store
from h5fs.tree.nodes import Node, NodeKind

_TARGET_MAX = 4095
"""Longest symbolic link text in bytes (PATH_MAX on Linux, less its null)."""

_UP_IN_FILE = re.compile(rb"(?<=/)\.\.(?![^/])")  # the first name follows `external:`

_SUFFIXED = {
    ObjectKind.DATASET: Projection.ARRAY,
    ObjectKind.DATATYPE: Projection.DATATYPE,
}


class LinkTexts:
    """Texts of symbolic links in a mount of a file, or of a part of it.

    ``part`` is the path of the folder that is the root of the mount, in a mount of the whole file;
    empty: the whole file is mounted. What is outside of the part is in no text but that of a
    dangling link.
    """

    def __init__(self, store: Store, part: bytes = b"") -> None:
        self._store = store
        self._part = part.split(b"/")[1:]

    def read(self, node: Node) -> bytes:
        """Return the text of a symbolic link.

        Raises ``TooLargeError`` when POSIX cannot hold it.
        """
        assert node.link is not None and node.parent is not None
        if node.kind is NodeKind.ANCESTOR_LINK:
            text = self._ancestor_text(node.parent, node.levels_up)
        elif node.kind is NodeKind.SOFT_LINK:
            text = self._soft_link_text(node.parent, node.link)
        else:
            text = dangling_text(node.link)
        if len(text) > _TARGET_MAX:
            raise TooLargeError(f"target of the link {node.link.name!r} has {len(text)} bytes")
        return text

    def _ancestor_text(self, folder: Node, levels_up: int) -> bytes:
        if levels_up <= folder.depth - len(self._part):
            return b"/".join([b".."] * levels_up) or b"."
        ancestor: Node | None = folder
        for _ in range(levels_up):
            ancestor = ancestor and ancestor.parent
        assert ancestor is not None
        return _outside_text(ancestor.info.ref.path)

    def _soft_link_text(self, folder: Node, link: Link) -> bytes:
        """Translate an HDF5 path to a POSIX path relative to the folder that the link is in.

        HDF5 knows no ``..``, skips ``.`` and empty components, and takes an absolute path from the
        root of the file, which is the mountpoint or above it.
        """
        target = link.soft_target
        ending = endings_of(target).target
        components = [name for name in target.split(b"/") if name not in (b"", b".")]
        ups: list[bytes] = []
        if target.startswith(b"/"):
            above, components = components[: len(self._part)], components[len(self._part) :]
            if [encode_name(name, Projection.FOLDER) for name in above] != self._part:
                return dangling_text(link)
            ups = [b".."] * (folder.depth - len(self._part))
        if not components:
            return b"/".join(ups) or b"."
        middle = [encode_name(name, Projection.FOLDER) for name in components[:-1]]
        if ending is None:
            ending = _projection_of_target(self._store, folder, target)
        last = encode_name(components[-1], ending)
        return b"/".join([*ups, *middle, last])


def _projection_of_target(store: Store, folder: Node, target: bytes) -> Projection:
    """Return how the last component of a soft link's target is listed in its own folder."""
    try:
        group, link = store.find_link(folder.info.ref, target)
        if link is None or link.kind is LinkKind.SOFT:
            return Projection.FOLDER
        info: ObjectInfo = store.follow(group, link)
    except H5fsError:  # it dangles: any name will do, and a plain one says most
        return Projection.FOLDER
    if info.holds_sequences:
        return Projection.VALUES
    return _SUFFIXED.get(info.kind, Projection.FOLDER)


def dangling_text(link: Link) -> bytes:
    """Return a text that leads nowhere and says what was meant: ``external:FILE:/PATH``.

    No name in a mount begins with ``external:``, so that the kernel finds nothing at its first
    step. Programs that resolve a text without looking (``realpath -m``) stay in its folder, since
    no ``..`` is in it. ``soft_targets`` reads it back.
    """
    if link.kind is LinkKind.SOFT:
        return _outside_text(link.soft_target)
    # A colon within the file's name would end it.
    file = _UP_IN_FILE.sub(ESCAPED_UP, escape(link.external_file, b":"))
    return OUTSIDE + file + b":" + without_ups(link.external_path)


def _outside_text(path: bytes) -> bytes:
    return OUTSIDE + b":" + without_ups(path)
