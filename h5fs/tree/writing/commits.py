"""Commits: what a draft becomes, by the name of its file, or what it waits for.

Under the tree's lock.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from h5fs.errors import (
    H5fsError,
    InvalidArrayError,
    InvalidNameError,
    MixedPagesError,
    ReadOnlyError,
    StaleError,
    UnreadableError,
    UnsupportedTypeError,
    show_path,
)
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.projection.names import DentryName, Projection
from h5fs.store.interface import WritingStore
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PARTNERS, Node, NodeKind
from h5fs.tree.writing.committing.draft_to_object import (
    commit_array,
    commit_datatype,
    existing_attributes,
    is_as_shown,
    plan_attributes,
    read_header,
    reads_alike,
    refers_to_objects,
)
from h5fs.tree.writing.committing.pairs import Pairs
from h5fs.tree.writing.committing.unseen_commits import ALONE_IN_OBJECT, UnseenCommits
from h5fs.tree.writing.files_of_array import FilesOfArrays
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.places import Places, attributes_path
from h5fs.tree.writing.opened_files import OpenedFiles
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.drafts import Draft
from h5fs.tree.writing.pending.last_removals import RemovedObject
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.remakings import Remakings

_log = logging.getLogger(__name__)

_MOST_TOLD = 5
_CANNOT_TAKE = (InvalidArrayError, ReadOnlyError, UnreadableError, UnsupportedTypeError)


class Commits:
    """Makes drafts part of the HDF5 file, now or when what they wait for is there."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places,
        opened: OpenedFiles, keeper: Keeper, others: FilesOfArrays, remakings: Remakings,
        in_flight: ChangesInFlight,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._opened = opened
        self._keeper = keeper
        self._others = others
        self._remakings = remakings
        self._in_flight = in_flight
        self._pairs = Pairs(store, pending, lookup, places)
        self._unseen = UnseenCommits(store, lookup, places, remakings)
        self.text_before: Callable[[WritableFile, ObjectRef], bytes | None] = lambda *_: None
        """Returns the text of attributes that a program has started from, where others may have
        changed them since."""
        self.grows_beneath_readers = False
        """Whether who reads an array goes on reading what it has when more rows are added."""

    def commit(self, file: WritableFile) -> None:
        """Make a draft part of the HDF5 file, unless it has to wait for something.

        Raises ``InvalidArrayError``, ``InvalidAttributesError`` and what the store raises; the
        draft stays then, and so does what the HDF5 file has. Raises ``OthersInFlightError`` for
        attributes that refer to other objects.
        """
        if not file.is_changed or (file.is_gone and not file.has_other_names):
            return
        if file.is_mixed:
            raise MixedPagesError("mapped pages were refused, and what was written is not whole")
        if file.is_gone:
            self._commit_gone(file)
            return
        folder, meaning = self._places.folder_and_file(file.path)
        if meaning is None:
            if self._keeper.shared_dataset(file) is not None:
                self.write_over(file)
            return  # a scratch file
        if meaning.projection is not Projection.ATTRIBUTES:
            self._be_alone_for_what_waits(file.path, meaning.link_name)
        before = file.node
        is_done = self._commit_as_made_anew(meaning, folder, file)
        if not is_done:
            self._let_wait(file, meaning)
            return
        self.settle(file)
        self._keeper.renew_datasets()
        if before is not None and before.kind is NodeKind.ARRAY and file.node is not None:
            self._others.go_on(before.info.ref, file.node, file)
        if meaning.link_name is not None and meaning.projection is not Projection.ATTRIBUTES:
            self.apply_waiting(file.path, meaning.link_name)

    def _be_alone_for_what_waits(self, path: bytes, link_name: bytes | None) -> None:
        """Be alone where attributes that refer to objects have waited for this one: as they are
        applied when it is there, it would be too late then."""
        if link_name is None:
            return
        waiting = self._pending.staged(attributes_path(path, link_name))
        if waiting is not None and waiting.may_refer:
            self._in_flight.insist_on_being_alone()

    def try_to_commit(self, file: WritableFile, *, is_last: bool = False) -> None:
        """Commit a draft that nobody waits for: what refuses it is told in the log.

        ``is_last``: the file is saved next, and its reason told with that.
        """
        file.refusal = ""
        try:
            self.commit(file)
        except H5fsError as error:
            file.refusal = str(error)
            if file.size_bytes and not is_last:  # nothing is lost with what `touch` makes
                _log.warning("%s is not in the HDF5 file: %s", show_path(file.path), error)

    def write_over(self, file: WritableFile) -> Node:
        """Bring what was written to a dataset by a temporary name into it, for all its names;
        return what these lead to then. Raises what ``commit`` does."""
        assert file.held is not None
        self._in_flight.insist_on_being_alone()
        self._others.complete_drafts(file.held, file)
        old = file.held
        new = self._keeper.write_over(file, is_read=self._is_held_by_others(file.held, file))
        self._keeper.renew_datasets()
        self._end_draft(file)
        self._others.go_on(old, new, file)
        return new

    def _commit_gone(self, file: WritableFile) -> None:
        """Bring what was written to a file that has lost its name to the other names of its array,
        if it is one. Raises ``StaleError``."""
        if file.node is None or file.node.kind is not NodeKind.ARRAY:
            raise StaleError(f"{show_path(file.path)} is gone; its other names stay as they are")
        self._in_flight.insist_on_being_alone()
        with self._keeper.linking(file):
            file.node = self.write_over(file)
            self._others.hold_for(file, file.node.info.ref)

    def _end_draft(self, file: WritableFile) -> None:
        """Let a file read as the HDF5 file has it, unless somebody has it open to whom that would
        be something else than what was written."""
        file.is_dirty = False
        is_alike = file.content is not None and reads_alike(file.draft, file.content)
        if is_alike or not file.opened:
            file.discard()

    def settle(self, file: WritableFile) -> None:
        """A draft has become part of the HDF5 file: let the file be what is there.

        Whoever has it open goes on seeing what was written, where that is not what is shown now.
        """
        self._pending.settle(file)
        self._keeper.forget(file)
        self._remakings.forget_of(file)
        if file.held is not None:  # it had a temporary name, and is another dataset now
            held, file.held = file.held, None
            self._others.let_go(held)
        node = self._lookup.find_any(file.path)
        if node is None:  # attributes that are none leave no file
            file.discard()
            file.node = file.content = None
            return
        file.node, file.inode = node, node.inode
        file.content = self._lookup.content_of(node)
        if file.opened and node.kind is not NodeKind.ATTRIBUTES:
            self._others.hold_for(file, node.info.ref)
        self._end_draft(file)
        self._pending.set_times(node.inode, file.atime_ns, file.mtime_ns)
        if file.opened:
            self._pending.begin_editing(node, file)

    def apply_waiting(self, path: bytes, link_name: bytes) -> None:
        """Apply what has waited for an object, at ``path`` now: its attributes, others' to it."""
        waiting = self._pending.staged(attributes_path(path, link_name))
        if waiting is not None and not waiting.awaits:
            self.try_to_commit(waiting)
        if not self._pending.awaits_any():
            return
        group = self._lookup.find_folder(path.rpartition(b"/")[0] or b"/").info.ref
        for file in self._pending.arrived(group.path.rstrip(b"/") + b"/" + link_name):
            self.try_to_commit(file)

    def commit_all(self) -> None:
        """At the end: commit what can be, what is being edited before what waits for it."""
        for file in self._pending.edited_files():
            if file.is_changed:
                self.try_to_commit(file, is_last=True)
            if file.is_changed and file.node is not None:  # its last `close` was not heard of yet
                self._pending.refused.note(file, file.refusal)
        for file in self._pending.staged_files():
            self.try_to_commit(file, is_last=True)

    def apply_in_part(self) -> None:
        """At the end: apply those attributes that refer to nothing that never came."""
        for file in self._pending.staged_files():
            try:
                self._apply_in_part(file)
            except H5fsError as error:
                file.refusal = str(error)

    def _apply_in_part(self, file: WritableFile) -> None:
        folder, meaning = self._places.folder_and_file(file.path)
        if not file.awaits or meaning is None or file.draft is None:
            return
        owner = self._places.owner_of(folder, meaning.link_name)
        if owner is not None:
            with self._lookup.changing():
                plan = plan_attributes(
                    existing_attributes(self._store, self._lookup, owner), file.draft
                )
                missing, *_ = plan.apply(self._store, owner, in_part=True)
            where = ", ".join(show_path(target) for target in missing[:_MOST_TOLD])
            file.refusal = f"attributes refer to what is not there ({where})"

    def _let_wait(self, file: WritableFile, meaning: DentryName) -> None:
        """Keep a file that cannot become part of the HDF5 file yet; a kill does not harm it."""
        self._keeper.keep(file)
        is_of_object = meaning.projection is Projection.ATTRIBUTES
        file.refusal = (
            "its object is missing"
            if is_of_object
            else "the other file of the pair does not fit it"
        )
        if file.node is not None:
            # What is shown, until it can be applied, is what was written.
            self._pending.let_wait(file)

    def _commit_as_made_anew(self, meaning: DentryName, folder: Node, file: WritableFile) -> bool:
        """Commit a file; where its program has removed an object to make it anew, over that."""
        files = [file]
        if meaning.projection in PARTNERS and meaning.link_name is not None:
            partner = self._pairs.complete_partner(meaning.projection, meaning.link_name, file)
            if partner is None:
                return self._commit_as(meaning, folder, file)
            files.append(partner)
        removed = self._remakings.find(file.path, folder, meaning, files)
        if removed is None:
            return self._commit_as(meaning, folder, file)
        self._in_flight.insist_on_being_alone()
        assert file.draft is not None
        if meaning.projection is not Projection.DATATYPE:
            read_header(file.draft)  # what is no array is refused before anything changes
        if not removed.has_other_names:
            try:
                self._commit_over_removed(removed, meaning, folder, files)
            except _CANNOT_TAKE as error:
                _log.info("%s cannot be what was removed: %s", show_path(file.path), error)
                self._commit_beside(removed, meaning, folder, files)
        else:
            self._commit_beside(removed, meaning, folder, files)
        for each in files:
            self._pending.remove_whiteout(each.path)
        for other in files[1:]:
            self.settle(other)
        return True

    def _commit_over_removed(
        self, removed: RemovedObject, meaning: DentryName, folder: Node, files: list[WritableFile]
    ) -> None:
        file, old = files[0], removed.node.info.ref
        self._others.complete_drafts(old, file)
        is_read = meaning.projection is Projection.ARRAY and self._is_held_by_others(old, file)
        self._unseen.over_removed(removed, meaning, folder, files, is_read=is_read)

    def _commit_beside(
        self, removed: RemovedObject, meaning: DentryName, folder: Node, files: list[WritableFile]
    ) -> None:
        """Commit a file as another object than the removed one: where others have that, like it."""
        name, attributes = removed.link_name, self._remakings.attributes_of(removed, files[0].path)
        if removed.has_other_names and meaning.projection is Projection.ARRAY:
            files[0].stored_like = removed.node.info.ref
        try:
            self._unseen.beside_removed(meaning, folder, name, files, attributes)
        except _CANNOT_TAKE as error:
            if files[0].stored_like is None:
                raise
            _log.info("%s cannot be stored as before: %s", show_path(files[0].path), error)
            files[0].stored_like = None
            self._unseen.beside_removed(meaning, folder, name, files, attributes)
        finally:
            files[0].stored_like = None
        if attributes is not None and attributes.is_dirty:  # they refer to what is gone
            self._pending.stage(attributes)

    def _commit_as(self, meaning: DentryName, folder: Node, file: WritableFile) -> bool:
        group, name, draft = folder.info.ref, meaning.link_name, file.draft
        assert draft is not None
        if meaning.projection is Projection.ATTRIBUTES:
            return self._commit_attributes(folder, name, file, draft)
        if name is None:
            raise InvalidNameError(f"{show_path(file.path)}: the name is too long")
        is_there = self._lookup.get_any_link(group, name) is not None
        before = self._lookup.find_any(file.path) if is_there else None
        if before is not None and before.is_symbolic_link and meaning.projection in ALONE_IN_OBJECT:
            self._in_flight.insist_on_being_alone()
            self._unseen.over_link(meaning, folder, name, file, before)
            return True
        if meaning.projection is Projection.ARRAY:
            self._commit_array(folder, name, file, draft)
            return True
        with self._lookup.changing():
            if meaning.projection is not Projection.DATATYPE:
                others = self._pairs.commit(meaning.projection, folder, name, file)
                for other in others or ():
                    self.settle(other)
                return others is not None
            commit_datatype(
                self._store, group, name, draft, lambda: self._lookup.text_of(file.path)
            )
        return True

    def _commit_array(self, folder: Node, name: bytes, file: WritableFile, draft: Draft) -> None:
        replaced = self._places.find_overwritten(folder, name, file.path)
        if replaced is not None and is_as_shown(draft, self._places.readable_content_of(replaced)):
            return
        if replaced is not None:
            self._others.complete_drafts(replaced.info.ref, file)
        is_read = replaced is not None and self._is_read(replaced, file)
        with self._lookup.changing_link(folder, name) as change:
            waiting = functools.partial(
                self._in_flight.waiting, file.path, file, is_alone=change.is_alone
            )
            old = None if file.node is None or replaced is None else replaced.info.ref
            info = commit_array(self._store, folder.info.ref, name, file, waiting, is_read=is_read)
            if old is not None and info is not None and info.ref != old and self._keeper.keeps(old):
                self._keeper.follow_replaced(old, info)
                info = None  # it has more links now
            change.link = None if info is None else Link(name, LinkKind.HARD, target=info)
        if replaced is not None and (info is None or info.ref != replaced.info.ref):
            self._pending.forget_copies(replaced.info.ref)

    def _commit_attributes(
        self, folder: Node, name: bytes | None, file: WritableFile, draft: Draft
    ) -> bool:
        owner = self._places.owner_of(folder, name)
        if owner is None:
            file.may_refer = refers_to_objects(draft)
            self._pending.stop_awaiting(file)
            return False
        self._pending.hold_times(owner, self._lookup.status_of_file(0))
        is_alone = name is not None and self._lookup.is_alone(folder, name)
        waiting = functools.partial(self._in_flight.waiting, file.path, file, is_alone=is_alone)
        existing = existing_attributes(self._store, self._lookup, owner, waiting)
        plan = plan_attributes(existing, draft, before=self.text_before(file, owner.ref))
        if plan.targets:  # what they refer to may come or go at other paths
            self._in_flight.insist_on_being_alone()
        missing: tuple[bytes, ...] = ()
        if not plan.is_empty or self._lookup.is_shared:
            with (
                self._lookup.changing_group(folder)
                if name is None
                else self._lookup.changing_link(folder, name)
            ) as change:
                missing, owner, change.attributes = plan.apply(self._store, owner, waiting)
                change.link = Link(change.name, LinkKind.HARD, target=owner)
        self._pending.await_targets(file, missing)
        if file.awaits:
            return False
        self._pending.remove_whiteout(file.path)
        return True

    def _is_read(self, node: Node, file: WritableFile) -> bool:
        """Whether something reads the dataset that the file is to become, and will go on with what
        that was: a handle other than the file's own, or a temporary name, when the file has been
        renamed to the dataset's name.
        """
        if self.grows_beneath_readers:
            return False
        if file.node is None and self._keeper.keeps(node.info.ref):
            return True
        return self._is_held_by_others(node.info.ref, file)

    def _is_held_by_others(self, ref: ObjectRef, file: WritableFile) -> bool:
        """Whether a handle other than the file's own has a dataset that the file is to become."""
        if self.grows_beneath_readers or not self._opened.is_held(ref, apart_from=file):
            return False
        self._opened.note_replaced(ref)
        return True
