"""Removals: names that go, and what becomes of the files that had them. Under the tree's lock."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from h5fs.errors import (
    H5fsError,
    IsAGroupError,
    NotAGroupError,
    NotPermittedError,
    show_path,
)
from h5fs.projection.names import encode_name
from h5fs.store.interface import WritingStore
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node, NodeKind
from h5fs.tree.writing.draft_to_object import delete_attributes
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile

_log = logging.getLogger(__name__)

# What belongs to one link, with which it goes. An attribute file goes alone.
_OF_ONE_LINK = frozenset(
    {NodeKind.ARRAY, NodeKind.DATATYPE, NodeKind.SOFT_LINK, NodeKind.ATTRIBUTES}
)


class Removals:
    """Deletes links and attributes, and lets go of files that have no name any more."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places, keeper: Keeper
    ) -> None:
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._keeper = keeper

    def unlink(self, path: bytes) -> None:
        """Answer ``unlink``."""
        staged = self._pending.unstage(path)
        if staged is not None:
            self.let_disappear(staged)
            return
        entry = self._pending.scratch(path)
        if entry is not None:
            if entry.is_folder:
                raise IsAGroupError(f"{show_path(path)} is a folder")
            self._pending.remove_scratch(path)
            return
        node = self._places.find_own(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        with self._changing(node):
            self.delete(path, node)
        self.end_editing_of(node)

    def remove_folder(self, path: bytes) -> None:
        """Answer ``rmdir``: delete the link to an empty group, or a scratch folder."""
        entry = self._pending.scratch(path)
        if self._pending.staged(path) is not None or (entry is not None and not entry.is_folder):
            raise NotAGroupError(f"{show_path(path)} is not a folder")
        if entry is not None:
            self._places.check_nothing_outside_in(path)
            self._pending.remove_scratch(path)
            return
        node = self._lookup.find_folder(path)
        if node.link is None or node.parent is None:
            raise NotPermittedError("the root group")
        self._places.check_own(node, path)
        self._places.check_empty(node, path)
        with self._lookup.changing_link(node.parent, node.link.name) as change:
            self._store.delete_link(node.parent.info.ref, node.link.name)
            change.is_gone = True
        self._pending.forget_times(node.inode)

    @contextmanager
    def _changing(self, node: Node) -> Iterator[None]:
        """Forget what was found of a file that the block deletes."""
        if node.parent is None or node.link is None or node.kind not in _OF_ONE_LINK:
            with self._lookup.changing():
                yield
            return
        with self._lookup.changing_link(node.parent, node.link.name) as change:
            yield
            change.is_gone = node.kind is not NodeKind.ATTRIBUTES

    def delete(self, path: bytes, node: Node) -> None:
        """Delete what the HDF5 file has of a file; the caller ends its editing afterwards.

        Of a dataset of sequences the first of the two files becomes a whiteout; the dataset goes
        with the second.
        """
        if node.kind is NodeKind.ATTRIBUTES:
            self._delete_attributes(node)
            return
        assert node.link is not None and node.parent is not None
        if node.kind in (NodeKind.VALUES, NodeKind.OFFSETS):
            partner = encode_name(node.link.name, PARTNERS[PROJECTIONS[node.kind]])
            partner_path = path.rpartition(b"/")[0] + b"/" + partner
            if not self._pending.is_whited_out(partner_path):
                self._pending.add_whiteout(path)
                return
            self._pending.remove_whiteout(partner_path)
        self._store.delete_link(node.parent.info.ref, node.link.name)
        for kind in (NodeKind.ARRAY, NodeKind.ATTRIBUTES, NodeKind.OFFSETS):
            self._pending.forget_times(node.inode if node.is_symbolic_link else node.inode_of(kind))

    def _delete_attributes(self, node: Node) -> None:
        self._pending.hold_times(node.info, self._lookup.status_of_file(0))
        delete_attributes(self._store, node.info.ref)

    def end_editing_of(self, node: Node) -> None:
        """Let what is written to a node go, once the node is gone; not before, as that may fail."""
        edited = self._pending.end_editing_of(node)
        if edited is not None:
            self.let_disappear(edited)

    def let_disappear(self, file: WritableFile) -> None:
        """A file has lost its name: it goes with its last handle."""
        file.is_gone = True
        self._pending.stop_awaiting(file)
        self._keeper.forget(file)
        file.has_other_names = file.node is not None and file.node.info.hard_link_count > 1
        if file.origin is not None:
            self.end_hiding(file.origin)
        if not file.opened:
            self.drop(file)

    def let_replaced_disappear(self, file: WritableFile, kept_as: bytes | None) -> None:
        """A file's name is another's now, which may be kept as this one was: by ``kept_as``."""
        if file.kept_as == kept_as:
            file.kept_as = None
        self.let_disappear(file)

    def drop(self, file: WritableFile) -> None:
        """Give up a file that nobody has open: what was written, and the object held for it."""
        file.discard()
        if file.held is not None:
            held, file.held = file.held, None
            self._store.let_go(held)

    def end_hiding(self, path: bytes) -> None:
        """Delete what was renamed away and has not come back."""
        if not self._pending.remove_whiteout(path):
            return
        try:
            node = self._lookup.find(path)
            if node.kind is NodeKind.ATTRIBUTES:
                with self._lookup.changing():
                    self._delete_attributes(node)
        except H5fsError as error:
            _log.warning("%s: %s", show_path(path), error)

    def end_all_hiding(self) -> None:
        """At the end: delete all that was renamed away."""
        for path in self._pending.list_whiteouts():
            self.end_hiding(path)
