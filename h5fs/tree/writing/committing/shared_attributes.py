"""Attributes of objects with several hard links, which a program removes by one of the names.

Under the tree's lock.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from h5fs.errors import H5fsError, show_path
from h5fs.lru_cache import LruCache
from h5fs.model.objects import Attribute, ObjectRef
from h5fs.store.interface import WritingStore
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.committing.draft_to_object import delete_attributes
from h5fs.tree.writing.names.places import attributes_path
from h5fs.tree.writing.pending.processes import Process, process_of

_log = logging.getLogger(__name__)

_MOST_REMEMBERED = 1024
_OBJECT_KINDS = (NodeKind.ARRAY, NodeKind.DATATYPE, NodeKind.VALUES, NodeKind.OFFSETS)


@dataclass(frozen=True)
class _Deleted:
    """The attributes that an object had: by which of its names, and who has deleted them."""

    path: bytes
    process: Process
    attributes: tuple[Attribute, ...]


class SharedAttributes:
    """Deletes attributes, and brings them back when it was a name that went, not they.

    HDF5 has one set of attributes for all hard links of an object. Who removes a folder of hard
    links (``rm -r``) removes ``x.attrs.json`` there, and ``x.npy`` next: as on any file system, the
    other names keep what they have. Where another program removes the name, the attributes were
    removed by themselves, and stay so.
    """

    def __init__(self, store: WritingStore, lookup: Lookup) -> None:
        self._store = store
        self._lookup = lookup
        self._deleted: LruCache[ObjectRef, _Deleted] = LruCache(_MOST_REMEMBERED)

    def delete(self, path: bytes, node: Node, pid: int) -> None:
        """Delete the attributes whose file is at ``path``, for the process ``pid``."""
        ref = node.info.ref
        attributes = delete_attributes(self._store, ref)
        if node.info.hard_link_count > 1 and attributes:
            self._deleted.put(ref, _Deleted(path, process_of(pid), attributes))

    def bring_back(self, path: bytes, node: Node, pid: int) -> None:
        """A file is about to lose its name, by the process ``pid``: its object's other names have
        the attributes again that it has deleted by this one, unless they got others meanwhile."""
        ref = node.info.ref
        deleted = self._deleted.get(ref)
        if deleted is None or node.kind not in _OBJECT_KINDS or node.link is None:
            return
        is_last = node.info.hard_link_count < 2  # another object may get its number
        is_of_name = deleted.path == attributes_path(path, node.link.name)
        if is_last or is_of_name:
            self._deleted.remove(ref)
        if is_last or not is_of_name or deleted.process != process_of(pid):
            return
        try:
            if not self._store.read_attributes(ref):
                with self._lookup.changing():
                    self._store.write_attributes(ref, deleted.attributes, ())
        except H5fsError as error:
            _log.warning("attributes of %s are not brought back: %s", show_path(path), error)
