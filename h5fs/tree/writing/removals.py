"""Removals: names that go, and what becomes of the files that had them. Under the tree's lock."""

from __future__ import annotations

import logging

from h5fs.errors import (
    H5fsError,
    IsAGroupError,
    NotAGroupError,
    NotPermittedError,
    show_path,
)
from h5fs.projection.names import encode_name
from h5fs.store.interface import WritingStore
from h5fs.tree.known_links import LinkChange
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node, NodeKind
from h5fs.tree.writing.committing.draft_to_object import delete_attributes
from h5fs.tree.writing.committing.shared_attributes import SharedAttributes
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.places import Places, attributes_path
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.remakings import Remakings

_log = logging.getLogger(__name__)

# What belongs to one link, with which it goes. An attribute file goes alone.
_OF_ONE_LINK = frozenset(
    {NodeKind.ARRAY, NodeKind.DATATYPE, NodeKind.SOFT_LINK, NodeKind.ATTRIBUTES}
)


class Removals:
    """Deletes links and attributes, and lets go of files that have no name any more."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places,
        keeper: Keeper, remakings: Remakings, in_flight: ChangesInFlight,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._keeper = keeper
        self._remakings = remakings
        self._in_flight = in_flight
        self._attributes = SharedAttributes(store, lookup)

    def unlink(self, path: bytes, pid: int = 0) -> None:
        """Answer ``unlink``, of the process ``pid``. Raises ``OthersInFlightError``."""
        staged = self._pending.staged(path)
        if staged is not None:
            covered = self._lookup.find_any(path) if staged.is_over else None
            if staged.origin is not None or covered is not None:  # more goes than this file
                self._in_flight.insist_on_being_alone()
            if covered is not None:
                with self._changing(covered):
                    self.delete(path, covered, pid=pid)
            self._remakings.remember_again(pid, staged)
            self._note_refused_name(staged)
            self._pending.unstage(path)
            self._remakings.note_attributes_gone(path)
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
        edited = self._pending.edited(node)
        if edited is not None and edited.origin is not None:
            self._in_flight.insist_on_being_alone()
        self._attributes.bring_back(path, node, pid)
        removed = self._remakings.hold(pid, path, node)
        try:
            with self._changing(node) as change:
                self.delete(path, node, edited, is_alone=change.is_alone, pid=pid)
        except BaseException:
            self._remakings.let_go(removed)
            raise
        self._remakings.remember(pid, path, removed)
        is_first_of_pair = self._pending.is_whited_out(path)
        if node.kind is not NodeKind.ATTRIBUTES and node.link is not None and not is_first_of_pair:
            # Attributes that were renamed away are not those of what has the name next.
            self._pending.remove_whiteout(attributes_path(path, node.link.name))
        # A new object that was made meanwhile may have the number of one that nobody had open.
        if edited is not None:
            self.end_editing_of(node)

    def _note_refused_name(self, file: WritableFile) -> None:
        """A program removes its temporary file after a `rename` that was refused: so the change
        that it was to bring goes."""
        if file.refused_name is None or self._places.folder_and_file(file.path)[1] is not None:
            return  # what people have named they remove for good
        path, refusal = file.refused_name
        self._pending.refused.note(file, refusal, path, is_new=not self._places.is_there(path))

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
        self._pending.forget_copies(node.info.ref)
        self._remakings.forget_below(path)
        self._pending.forget_times(node.inode)

    def _changing(self, node: Node) -> LinkChange:
        """Forget what was found of a file that the block deletes."""
        if node.parent is None or node.link is None or node.kind not in _OF_ONE_LINK:
            return self._lookup.changing()
        change = self._lookup.changing_link(node.parent, node.link.name)
        change.is_gone = node.kind is not NodeKind.ATTRIBUTES
        return change

    def delete(
        self, path: bytes, node: Node, edited: WritableFile | None = None, *,
        is_alone: bool = False, pid: int = 0,
    ) -> None:  # fmt: skip
        """Delete what the HDF5 file has of a file; the caller ends its editing afterwards.

        ``edited``: the file in which it is edited. ``is_alone``: it is found by no other path.
        ``pid``: the process that removes it.

        Of a dataset of sequences the first of the two files becomes a whiteout; the dataset goes
        with the second.
        """
        if node.kind is NodeKind.ATTRIBUTES:
            self._pending.hold_times(node.info, self._lookup.status_of_file(0))
            with self._in_flight.waiting(path, edited, is_alone=is_alone):
                self._attributes.delete(path, node, pid)
            return
        assert node.link is not None and node.parent is not None
        if node.kind in (NodeKind.VALUES, NodeKind.OFFSETS):
            partner = encode_name(node.link.name, PARTNERS[PROJECTIONS[node.kind]])
            partner_path = path.rpartition(b"/")[0] + b"/" + partner
            if not self._pending.is_whited_out(partner_path):
                self._pending.add_whiteout(path)
                return
            self._pending.remove_whiteout(partner_path)
        kinds = (NodeKind.ARRAY, NodeKind.ATTRIBUTES, NodeKind.OFFSETS)
        inodes = {node.inode} if node.is_symbolic_link else {node.inode_of(kind) for kind in kinds}
        times = {inode: self._pending.times_of(inode) for inode in inodes}
        with self._in_flight.waiting(path, edited, is_alone=is_alone):
            self._store.delete_link(node.parent.info.ref, node.link.name)
        self._pending.forget_copies(node.info.ref)
        for inode, old in times.items():
            # Else it is a new object's number by now.
            if old is not None and self._pending.times_of(inode) == old:
                self._pending.forget_times(inode)

    def _delete_attributes(self, node: Node) -> None:
        self._pending.hold_times(node.info, self._lookup.status_of_file(0))
        delete_attributes(self._store, node.info.ref)

    def end_editing_of(self, node: Node) -> None:
        """Let what is written to a node go, once its name is gone; not before, as that may fail.

        Who has opened it by another name of its object goes on.
        """
        self._pending.forget_copies(node.info.ref)
        edited = self._pending.edited(node)
        if edited is None:
            return
        now = self._lookup.find_any(edited.path)
        is_shown = not self._pending.is_whited_out(edited.path)
        if now is not None and is_shown and self._places.leads_to(edited.path, node):
            edited.node = now
            return
        edited.node = node  # which knows of the names that were made since the `open`
        self.end_editing(edited)

    def end_editing(self, file: WritableFile) -> None:
        """Let a file go whose name and node are another's now."""
        self._pending.end_editing(file)
        self.let_disappear(file)

    def let_disappear(self, file: WritableFile) -> None:
        """A file has lost its name: it goes with its last handle."""
        file.is_gone = True
        self._remakings.forget_of(file)
        self._pending.stop_awaiting(file)
        file.node = file.node or self._keeper.shared_dataset(file)
        file.has_other_names = file.node is not None and file.node.info.hard_link_count > 1
        self._keeper.forget(file)
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

    def rename_away(
        self, path: bytes, node: Node, file: WritableFile, *, has_name: bool
    ) -> None:  # fmt: skip
        """What was to be seen at a path has another name, in a file: what the HDF5 file has there
        goes. ``has_name``: the new one is no scratch name."""
        if node.kind is not NodeKind.ATTRIBUTES:
            with self._changing(node):
                self.delete(path, node)
            return
        self._pending.add_whiteout(path)
        if not has_name:
            # Its attributes go when it does, unless others take their place: an editor saves so,
            # and what it cannot show shall stay.
            file.origin = path
        elif file.node is None or file.node.info.ref != node.info.ref:
            self.end_hiding(path)
        else:  # two names of one object, which has what was written
            self._pending.remove_whiteout(path)

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
