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


def read_link_text(store: Store, node: Node) -> bytes:
    """Return the text of a symbolic link.

    Raises ``TooLargeError`` when POSIX cannot hold it.
    """
    assert node.link is not None and node.parent is not None
    if node.kind is NodeKind.ANCESTOR_LINK:
        text = b"/".join([b".."] * node.levels_up) or b"."
    elif node.kind is NodeKind.SOFT_LINK:
        text = _soft_link_text(store, node.parent, node.link)
    else:
        text = dangling_text(node.link)
    if len(text) > _TARGET_MAX:
        raise TooLargeError(f"target of the link {node.link.name!r} has {len(text)} bytes")
    return text


def _soft_link_text(store: Store, folder: Node, link: Link) -> bytes:
    """Translate an HDF5 path to a POSIX path relative to the folder that the link is in.

    HDF5 knows no ``..``, skips ``.`` and empty components, and takes an absolute path from the root
    of the file, which is the mountpoint.
    """
    target = link.soft_target
    ending = endings_of(target).target
    components = [name for name in target.split(b"/") if name not in (b"", b".")]
    ups = [b".."] * folder.depth if target.startswith(b"/") else []
    if not components:
        return b"/".join(ups) or b"."
    middle = [encode_name(name, Projection.FOLDER) for name in components[:-1]]
    if ending is None:
        ending = _projection_of_target(store, folder, target)
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
        return OUTSIDE + b":" + without_ups(link.soft_target)
    # A colon within the file's name would end it.
    file = _UP_IN_FILE.sub(ESCAPED_UP, escape(link.external_file, b":"))
    return OUTSIDE + file + b":" + without_ups(link.external_path)
