"""Renames: links and files that get another name, which may commit them.

Three kinds of things are renamed: links of the HDF5 file; files that are staged, with a name that
may commit them; and scratch folders and symbolic links. Under the tree's lock.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from h5fs.errors import (
    CrossFileError,
    ExistsError,
    H5fsError,
    InvalidNameError,
    IsAGroupError,
    NotAGroupError,
    NotPermittedError,
    show_path,
)
from h5fs.model.objects import Link, LinkKind, ObjectInfo
from h5fs.projection.names import DentryName, Projection, encode_name
from h5fs.store.interface import WritingStore
from h5fs.tree.known_links import LinkChange, as_known
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node, NodeKind, link_projection
from h5fs.tree.writing.commits import Commits
from h5fs.tree.writing.committing.links_for_a_moment import put_link
from h5fs.tree.writing.committing.unseen_commits import ALONE_IN_OBJECT
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.name_rules import NameRules
from h5fs.tree.writing.names.places import Places, attributes_path, is_file_name
from h5fs.tree.writing.names.scratch_entries import ScratchEntry
from h5fs.tree.writing.names.soft_targets import with_ending
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.removals import Removals

_RENAME_NOREPLACE = 1
_PARTS = frozenset({*PARTNERS, Projection.ATTRIBUTES})  # of objects, whose place a link would take


class Renames:
    """Answers ``rename``."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places,
        rules: NameRules, keeper: Keeper, commits: Commits, removals: Removals,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._rules = rules
        self._keeper = keeper
        self._commits = commits
        self._removals = removals

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """Move a link, or give a file a name that commits it; the two paths may be the same."""
        if flags & ~_RENAME_NOREPLACE:
            raise InvalidNameError("an exchange of names, which HDF5 does not have")
        if flags & _RENAME_NOREPLACE and self._places.is_there(new):
            raise ExistsError(f"{show_path(new)} exists")
        if old == new:
            return
        if new.startswith(old + b"/"):
            raise InvalidNameError(f"{show_path(new)} is below {show_path(old)}")
        target, dataset = self._places.find_replaced(new), self._places.dataset_at(old)
        is_over = target is not None or self._pending.staged(new) is not None
        if is_over and dataset is not None and dataset == self._places.dataset_at(new):
            return  # two names of one file: POSIX leaves both
        entry = self._pending.scratch(old)
        if entry is not None:
            self._rename_scratch(old, new, entry)
            return
        staged = self._pending.staged(old)
        if staged is not None:
            self._rules.check_may_replace_scratch(new, is_folder=False)
            self._rename_staged(staged, new)
            return
        node = self._places.find_own(old)
        self._rules.check_may_replace_scratch(new, is_folder=node.kind is NodeKind.FOLDER)
        if node.kind is NodeKind.ATTRIBUTES:
            self._rename_attributes(old, new, node, target)
        else:
            folder, meaning = self._places.folder_and_meaning(new)
            if node.kind is NodeKind.ARRAY and not is_file_name(meaning):
                self._rename_to_scratch(node, new, target)
            else:
                self._rename_link(old, new, node, target, folder, meaning)
        self._pending.remove_scratch(new)

    # Files that are staged.

    def _rename_staged(self, file: WritableFile, new: bytes) -> None:
        folder, meaning = self._places.folder_and_file(new)
        is_array = meaning is not None and meaning.projection is Projection.ARRAY
        if meaning is None:
            self._rules.check_scratch(new)
        elif file.held is not None and meaning.link_name is not None and is_array:
            if file.is_changed:
                self._commits.write_over(file)
            self._bring_back(file, folder, meaning.link_name, new)
            return
        at_new, old = self._lookup.find_any(new), file.path
        edited = None if at_new is None else self._pending.edited(at_new)
        covered = self._lookup.find_any(old) if file.is_over else None
        with file.getting_name(new), self._pending.restored_on_error():
            replaced = self._pending.stage(file, new)
            if meaning is not None:
                self._commit_over_link(file)
            elif at_new is not None:
                raise ExistsError(f"{show_path(new)} is in the HDF5 file")
            self._keeper.follow_name(file)
        if replaced is not None:
            self._removals.let_replaced_disappear(replaced, file.kept_as)
        if edited is not None and edited is not file:
            self._removals.end_editing(edited)
        if meaning is not None and file.origin is not None and not file.is_dirty:
            self._end_origin(file, file.origin)
        if covered is not None:
            self._removals.rename_away(old, covered, file, has_name=meaning is not None)
        self._pending.remove_scratch(new)

    def _end_origin(self, file: WritableFile, origin: bytes) -> None:
        """Attributes that had a temporary name are an object's again: those that the object before
        has go, unless it is the same object."""
        file.origin = None
        before = self._lookup.find_any(origin)
        if file.node is not None and before is not None and before.info.ref == file.node.info.ref:
            self._pending.remove_whiteout(origin)
        else:
            self._removals.end_hiding(origin)

    def _commit_over_link(self, file: WritableFile) -> None:
        """Commit a file that takes a symbolic link's place, which is one step where the file is all
        of an object; the link is back if that fails."""
        _, meaning = self._places.folder_and_file(file.path)
        node = self._lookup.find_any(file.path)
        is_one_step = meaning is not None and meaning.projection in ALONE_IN_OBJECT
        if is_one_step or node is None or not node.is_symbolic_link or not file.is_changed:
            self._commits.commit(file)
            return
        assert node.link is not None and node.parent is not None
        with self._lookup.changing():
            self._store.delete_link(node.parent.info.ref, node.link.name)
        try:
            self._commits.commit(file)
        except H5fsError:
            with self._lookup.changing():
                self._store.create_link(node.parent.info.ref, node.link)
            raise

    def _bring_back(self, file: WritableFile, folder: Node, name: bytes, new: bytes) -> None:
        """Give a dataset that was renamed to a scratch name a link again."""
        target = self._lookup.find_any(new)
        if target is None:
            self._rules.check_free(folder, name, new)
        self._keeper.move_dataset_out(file, folder.info.ref, name)
        if target is not None:
            self._removals.end_editing_of(target)
        replaced = self._pending.stage(file, new)
        if replaced is not None:
            self._removals.let_disappear(replaced)
        self._pending.unstage(new)
        file.is_gone = not file.opened
        self._removals.drop(file)
        if file.opened:
            self._commits.settle(file)

    # Links of the HDF5 file, and attributes.

    def _rename_attributes(self, old: bytes, new: bytes, node: Node, target: Node | None) -> None:
        _, meaning = self._places.folder_and_file(new)
        if meaning is None:
            self._rules.check_scratch(new)
        elif meaning.projection is not Projection.ATTRIBUTES:
            raise InvalidNameError(f"{show_path(new)}: attributes are files NAME.attrs.json")
        is_same = target is not None and target.info.ref == node.info.ref
        if is_same and self._pending.staged(new) is None:
            # Two names of one object: POSIX leaves both files, and they have the same attributes.
            self._pending.remove_whiteout(new)
            return
        edited = None if target is None else self._pending.edited(target)
        file, replaced = self._stage_attributes(old, new, node)
        if replaced is not None:
            self._removals.let_replaced_disappear(replaced, file.kept_as)
        if edited is not None:
            self._removals.end_editing(edited)
        self._removals.rename_away(old, node, file, has_name=meaning is not None)

    def _stage_attributes(
        self, old: bytes, new: bytes, node: Node
    ) -> tuple[WritableFile, WritableFile | None]:
        """Stage the text of attributes under a new name, and commit it; return its file, and the
        staged file that was there. Who has the old one open goes on with it under the new name.
        """
        opened = self._pending.edited(node)
        file = opened or WritableFile(new, inode=self._pending.new_inode())
        before = file.draft, file.is_dirty, file.node, file.content
        draft = file.begin(empty=False)
        try:
            if opened is None:
                draft.write(self._lookup.text_of(old), 0)
            file.node = file.content = None  # it is another object's, or none's
            with self._pending.restored_on_error():
                self._pending.end_editing(file)
                replaced = self._pending.stage(file, new)
                self._commit_over_link(file)
        except BaseException:
            if before[0] is None:
                file.discard()
            _, file.is_dirty, file.node, file.content = before
            raise
        if opened is not None and file.is_dirty:  # the object before may have attributes again
            file.inode = self._pending.new_inode()
        return file, replaced

    def _rename_to_scratch(self, node: Node, new: bytes, target: Node | None) -> None:
        self._rules.check_scratch(new)
        if target is not None:
            raise ExistsError(f"{show_path(new)} is in the HDF5 file")
        file = self._keeper.move_dataset_in(node, new)
        replaced = self._pending.unstage(new)
        if replaced is not None:
            self._removals.let_replaced_disappear(replaced, file.kept_as)
        edited = self._pending.edited(node)
        if edited is not None and not self._places.leads_to(edited.path, node):
            # Who has it open by this name goes on with it, under its new name.
            self._pending.end_editing(edited)
            file = self._keeper.hand_over(file, edited)
        self._pending.stage(file)

    def _rename_link(
        self, old: bytes, new: bytes, node: Node, target: Node | None, folder: Node,
        meaning: DentryName | None,
    ) -> None:  # fmt: skip
        """Move a link to a folder; ``target``: what the HDF5 file has at ``new``."""
        if node.link is None or node.parent is None:
            raise NotPermittedError("the root group")
        if self._places.is_in_scratch(new):
            raise CrossFileError(
                f"{show_path(old)} is in the HDF5 file, and {show_path(new)} is not; copy it"
            )
        if node.kind is NodeKind.SOFT_LINK:
            projection = Projection.FOLDER if meaning is None else meaning.projection
        else:
            projection = PROJECTIONS.get(node.kind, Projection.FOLDER)
        name = self._rules.link_name(new, meaning, projection)
        is_same_link = folder.info.ref == node.parent.info.ref and name == node.link.name
        if target is not None and (not self._may_replace(node, target, new) or is_same_link):
            return  # it is one object, or one name in a group that has several paths
        if target is None and self._pending.staged(new) is None and not is_same_link:
            self._rules.check_free(folder, name, new)
        arrival, departure = self._changes(node, folder, name)
        with arrival, departure:
            moved = self._move_link(node, folder, DentryName(projection, name))
            if moved is not None and node.link.kind is LinkKind.HARD:
                arrival.link = Link(name, LinkKind.HARD, target=as_known(moved, node.info))
        if target is not None:
            self._removals.end_editing_of(target)
        times = self._pending.times_of(node.inode) if node.is_symbolic_link else None
        if times is not None:  # a symbolic link's inode number comes from its name
            self._pending.set_times(self._lookup.find(new).inode, *times)
        replaced = self._pending.unstage(new)
        if replaced is not None:
            self._removals.let_disappear(replaced)
        self._move_pending(old, new)
        if node.kind is not NodeKind.FOLDER:
            self._move_opened(node, old, new, name)
            attributes = attributes_path(new, name)
            self._move_awaiting(attributes_path(old, node.link.name), attributes)
            # What was renamed away there were the attributes of an object that has gone.
            self._pending.remove_whiteout(attributes)
        self._commits.apply_waiting(new, name)

    def _changes(
        self, node: Node, folder: Node, name: bytes
    ) -> tuple[LinkChange, AbstractContextManager[object]]:
        """Return blocks that forget what was found of a link that is moved: at its new name, and at
        the one before."""
        assert node.parent is not None and node.link is not None
        # What is in a group that moves has other paths from then on.
        is_empty = node.kind is NodeKind.FOLDER and self._lookup.is_known_empty(node.info.ref)
        if not is_empty and node.kind not in (NodeKind.ARRAY, NodeKind.DATATYPE):
            return self._lookup.changing(), nullcontext()
        arrival = self._lookup.changing_link(folder, name)
        departure = self._lookup.changing_link(node.parent, node.link.name)
        arrival.is_empty_group, departure.is_gone = is_empty, True
        return arrival, departure

    def _move_link(self, node: Node, folder: Node, meaning: DentryName) -> ObjectInfo | None:
        """Move a link; return its object, if that is known."""
        assert node.link is not None and node.parent is not None and meaning.link_name is not None
        group, name, new_group = node.parent.info.ref, node.link.name, folder.info.ref
        is_soft = node.kind is NodeKind.SOFT_LINK
        if not is_soft or meaning.projection is link_projection(node.link):
            return self._store.move_link(group, name, new_group, meaning.link_name)
        # Another link, since what its name ends in is in the path that it stores.
        link = with_ending(node.link, meaning, self._lookup.link_text(node))
        put_link(self._store, new_group, link)
        if (new_group, link.name) != (group, name):
            self._store.delete_link(group, name)  # a kill before that leaves both, as links do
        return None

    def _may_replace(self, node: Node, target: Node, new: bytes) -> bool:
        """Return False when both are one object, so that there is nothing to do; else check."""
        is_same_kind = target.kind is node.kind and not node.is_symbolic_link
        if is_same_kind and target.info.ref == node.info.ref:
            return False
        if target.kind is NodeKind.FOLDER:
            if node.kind is not NodeKind.FOLDER:
                raise IsAGroupError(f"{show_path(new)} is a group")
            self._places.check_empty(target, new)
        elif node.kind is NodeKind.FOLDER:
            raise NotAGroupError(f"{show_path(new)} is not a group")
        elif node.is_symbolic_link and PROJECTIONS.get(target.kind) in _PARTS:
            raise ExistsError(f"{show_path(new)} is in the HDF5 file")
        return True

    # What is outside of the HDF5 file.

    def _rename_scratch(self, old: bytes, new: bytes, entry: ScratchEntry) -> None:
        """Rename a folder or symbolic link that is outside of the HDF5 file."""
        folder, meaning = self._places.folder_and_meaning(new)
        self._rules.check_may_replace_scratch(new, is_folder=entry.is_folder)
        if entry.text is None:
            self._rename_scratch_folder(old, new, meaning)
            return
        link = None
        if not self._rules.is_scratch_link(new):
            link = self._rules.link_of_text(new, meaning, entry.text)
        replaced = self._pending.staged(new)
        if self._lookup.find_any(new) is not None:
            self._replace_by_link(new, folder, link)
        elif link is not None:
            with self._lookup.changing():
                self._store.create_link(folder.info.ref, link)
        self._pending.remove_scratch(old)
        if replaced is not None:
            self._pending.unstage(new)
            self._removals.let_disappear(replaced)
        self._pending.remove_scratch(new)
        if link is None:
            self._pending.add_scratch(new, entry)
        else:
            inode = self._lookup.find(new).inode
            self._pending.set_times(inode, entry.atime_ns, entry.mtime_ns)
            self._commits.apply_waiting(new, link.name)

    def _rename_scratch_folder(self, old: bytes, new: bytes, meaning: DentryName | None) -> None:
        if not self._rules.is_scratch_folder(new, meaning):
            raise CrossFileError(
                f"{show_path(old)} is not in the HDF5 file, and {show_path(new)} would be; copy it"
            )
        if self._lookup.find_any(new) is not None:
            raise ExistsError(f"{show_path(new)} is in the HDF5 file")
        self._pending.remove_scratch(new)
        self._move_pending(old, new)

    def _replace_by_link(self, path: bytes, folder: Node, link: Link | None) -> None:
        """Put a symbolic link in the place of what the HDF5 file has there."""
        node = self._places.find_visible(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        if link is None or PROJECTIONS.get(node.kind) in _PARTS:
            raise ExistsError(f"{show_path(path)} is in the HDF5 file")
        is_same = PROJECTIONS.get(node.kind) in ALONE_IN_OBJECT or node.is_symbolic_link
        with self._lookup.changing():
            if is_same and node.link is not None and node.link.name == link.name:
                put_link(self._store, folder.info.ref, link)
            else:
                self._removals.delete(path, node)
                self._store.create_link(folder.info.ref, link)
        self._removals.end_editing_of(node)

    # What is pending below a path that moves.

    def _move_pending(self, old: bytes, new: bytes) -> None:
        """Let files that are open or wait below a path be below the new one."""
        for file in self._pending.move(old, new):
            self._keeper.follow_name(file)

    def _move_opened(self, node: Node, old: bytes, new: bytes, name: bytes) -> None:
        """Let the other files of a link that are open to write go along: attributes, a partner."""
        assert node.link is not None
        for projection in PROJECTIONS.values() if self._pending.has_edited(node.info.ref) else ():
            here, there = (
                path.rpartition(b"/")[0] + b"/" + encode_name(link_name, projection)
                for path, link_name in ((old, node.link.name), (new, name))
            )
            self._pending.move_edited(node.info.ref, here, there)

    def _move_awaiting(self, old: bytes, new: bytes) -> None:
        """Let attributes that wait for what they refer to go along with their object."""
        file = self._pending.staged(old)
        if file is not None and file.awaits and self._pending.staged(new) is None:
            self._pending.stage(file, new)
            self._keeper.follow_name(file)
