"""``rename`` in a mount that writes: links, what waits, and what is outside of the HDF5 file."""

from __future__ import annotations

from h5fs.errors import (
    CrossFileError,
    ExistsError,
    H5fsError,
    InvalidNameError,
    IsAGroupError,
    NotAGroupError,
    NotEmptyError,
    NotFoundError,
    NotPermittedError,
    ReadOnlyError,
    show_path,
)
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.projection.names import (
    GROUP_ATTRIBUTES,
    DentryName,
    Projection,
    encode_name,
)
from h5fs.store.hidden_names import kept_name
from h5fs.tree.link_targets import read_link_text
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node, NodeKind, link_projection
from h5fs.tree.writing.committing import delete_attributes
from h5fs.tree.writing.drafting import DraftingTree
from h5fs.tree.writing.keeping import attributes_path
from h5fs.tree.writing.scratch_entries import ScratchEntry
from h5fs.tree.writing.soft_targets import link_from_text, with_ending
from h5fs.tree.writing.writable_file import WritableFile

_RENAME_NOREPLACE = 1


class RenamingTree(DraftingTree):
    """Moving links and files; ``changes`` has the other calls that change names."""

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        """Answer ``rename``: move a link, or give a file a name that commits it."""
        with self._lock:
            if flags & ~_RENAME_NOREPLACE:
                raise InvalidNameError("an exchange of names, which HDF5 does not have")
            if flags & _RENAME_NOREPLACE and self._is_there(new):
                raise ExistsError(f"{show_path(new)} exists")
            if old == new:
                return
            if new.startswith(old + b"/"):
                raise InvalidNameError(f"{show_path(new)} is below {show_path(old)}")
            self._rename(old, new)
            self._note_change_in(old)
            self._note_change_in(new)

    def _rename(self, old: bytes, new: bytes) -> None:
        entry = self._pending.scratch(old)
        if entry is not None:
            self._rename_scratch(old, new, entry)
            return
        staged = self._pending.staged(old)
        if staged is not None:
            self._check_may_replace_scratch(new, is_folder=False)
            self._rename_staged(staged, new)
            return
        node = self._find_visible(old)
        self._check_own(node, old)
        self._check_may_replace_scratch(new, is_folder=node.kind is NodeKind.FOLDER)
        if node.kind is NodeKind.ATTRIBUTES:
            self._rename_attributes(old, new, node)
        elif node.kind is NodeKind.ARRAY and self._place(new)[1] is None:
            self._rename_to_scratch(old, new, node)
        else:
            self._rename_link(old, new, node)
        self._pending.remove_scratch(new)

    def _link_name(self, path: bytes, meaning: DentryName | None, projection: Projection) -> bytes:
        if meaning is None or meaning.link_name is None or meaning.projection is not projection:
            wanted = projection.value.decode() or "no ending of a file's"
            raise InvalidNameError(f"{show_path(path)}: the name must have {wanted}")
        return meaning.link_name

    def _find_visible(self, path: bytes) -> Node:
        if self._pending.is_hidden(path):
            raise NotFoundError(f"{show_path(path)} was removed")
        return self.lookup.find(path)

    def _check_own(self, node: Node, path: bytes) -> None:
        if node.parent is not None and node.parent.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")

    def _check_empty(self, node: Node, path: bytes) -> None:
        has_attributes = node.info.attribute_count and (
            not self._pending.is_hidden(path + b"/" + GROUP_ATTRIBUTES)
        )
        if has_attributes or len(self.lookup.list_links(node.info.ref)):
            raise NotEmptyError(f"{show_path(path)} is not empty")
        self._check_nothing_outside_in(path)

    def _delete(self, path: bytes, node: Node) -> None:
        if node.kind is NodeKind.ATTRIBUTES:
            delete_attributes(self._writer, node.info.ref)
            return
        assert node.link is not None and node.parent is not None
        if node.kind in (NodeKind.VALUES, NodeKind.OFFSETS):
            partner = encode_name(node.link.name, PARTNERS[PROJECTIONS[node.kind]])
            partner_path = path.rpartition(b"/")[0] + b"/" + partner
            if not self._pending.is_hidden(partner_path):
                self._pending.hide(path)  # the dataset goes with the other one
                return
            self._pending.unhide(partner_path)
        self._writer.delete_link(node.parent.info.ref, node.link.name)
        for kind in (NodeKind.ARRAY, NodeKind.ATTRIBUTES, NodeKind.OFFSETS):
            self._pending.forget_times(node.inode if node.is_symbolic_link else node.inode_of(kind))

    def _rename_staged(self, file: WritableFile, new: bytes) -> None:
        folder, meaning = self._place(new)
        if meaning is None:
            self._check_scratch(new)
        elif (
            file.held is not None
            and meaning.link_name is not None
            and (meaning.projection is Projection.ARRAY and not file.is_changed)
        ):
            self._bring_back(file, folder, meaning.link_name, new)
            return
        with self._pending.restored_on_error():
            replaced = self._pending.stage(file, new)
            if meaning is not None:
                self._commit_over_link(file)
            elif self._is_node(new):
                raise ExistsError(f"{show_path(new)} is in the HDF5 file")
            self._rename_kept(file)
        if replaced is not None:
            self._let_replaced_disappear(replaced, file.kept_as)
        self._pending.remove_scratch(new)

    def _commit_over_link(self, file: WritableFile) -> None:
        """Commit a file that takes a symbolic link's place; the link is back if that fails."""
        try:
            node = self.lookup.find(file.path)
        except NotFoundError:
            node = None
        if node is None or not node.is_symbolic_link or not file.is_changed:
            self._commit_file(file)
            return
        assert node.link is not None and node.parent is not None
        with self.lookup.changing():
            self._writer.delete_link(node.parent.info.ref, node.link.name)
        try:
            self._commit_file(file)
        except H5fsError:
            with self.lookup.changing():
                self._writer.create_link(node.parent.info.ref, node.link)
            raise

    def _bring_back(self, file: WritableFile, folder: Node, name: bytes, new: bytes) -> None:
        """Give a dataset that was renamed to a scratch name a link again."""
        assert file.node is None and file.held_info is not None
        hidden = self._writer.hidden_group()
        assert hidden is not None and file.kept_as is not None
        if not self._is_node(new):
            self._check_free_for(folder, name, new)
        elif self.lookup.find(new).info.ref == file.held:
            return  # two names of one file: POSIX leaves both
        with self.lookup.changing():
            self._writer.move_link(hidden, file.kept_as, folder.info.ref, name)
        file.kept_as = None
        self._pending.unstage(file.path)
        file.path = new
        file.is_gone = not file.opened
        self._drop(file)
        if file.opened:
            self._settle(file)

    def _rename_attributes(self, old: bytes, new: bytes, node: Node) -> None:
        _, meaning = self._place(new)
        if meaning is None:
            self._check_scratch(new)
        elif meaning.projection is not Projection.ATTRIBUTES:
            raise InvalidNameError(f"{show_path(new)}: attributes are files NAME.attrs.json")
        file = WritableFile(new, inode=next(self._inodes))
        draft = file.begin(empty=True)
        draft.write(self._text_of(old), 0)
        with self._pending.restored_on_error():
            replaced = self._pending.stage(file)
            self._commit_over_link(file)
        if replaced is not None:
            self._let_replaced_disappear(replaced, file.kept_as)
        self._pending.hide(old)
        if meaning is None:
            # Its attributes go when it does, unless others take their place: an editor saves so,
            # and what it cannot show shall stay.
            file.origin = old
        else:
            self._end_hiding(old)

    def _rename_to_scratch(self, old: bytes, new: bytes, node: Node) -> None:
        assert node.link is not None and node.parent is not None
        self._check_scratch(new)
        if self._is_node(new):
            raise ExistsError(f"{show_path(new)} is in the HDF5 file")
        self.lookup.content_of(node)  # what cannot be read keeps its name
        hidden = self._writer.hidden_group()
        assert hidden is not None
        name = kept_name(new, is_dataset=True)
        with self.lookup.changing():
            self._writer.move_link(node.parent.info.ref, node.link.name, hidden, name)
        try:
            file = self._kept_file(new, hidden, name)
        except H5fsError:  # in the hidden group alone, the dataset would go when the mount ends
            with self.lookup.changing():
                self._writer.move_link(hidden, name, node.parent.info.ref, node.link.name)
            raise
        replaced = self._pending.unstage(new)
        if replaced is not None:
            self._let_replaced_disappear(replaced, name)
        self._pending.stage(file)

    def _link_scratch(self, new: bytes, node: Node) -> None:
        """Give a dataset a temporary name beside its own."""
        self.lookup.content_of(node)
        hidden = self._writer.hidden_group()
        assert hidden is not None
        name = kept_name(new, is_dataset=True)
        with self.lookup.changing():
            self._writer.create_link(hidden, Link(name, LinkKind.HARD, target=node.info))
        self._pending.stage(self._kept_file(new, hidden, name))

    def _kept_file(self, path: bytes, hidden: ObjectRef, name: bytes) -> WritableFile:
        """Return the file by which a dataset is seen that has got a temporary name; it is held."""
        info = self.lookup.get_link(hidden, name).target
        assert info is not None
        file = self._scratch_file(path, info)
        self._writer.hold(info.ref)
        file.kept_as = name
        return file

    def _rename_link(self, old: bytes, new: bytes, node: Node) -> None:
        if node.link is None or node.parent is None:
            raise NotPermittedError("the root group")
        folder, meaning = self._place_of_any(new)
        if self._is_in_scratch(new):
            raise CrossFileError(
                f"{show_path(old)} is in the HDF5 file, and {show_path(new)} is not; copy it"
            )
        if node.kind is NodeKind.SOFT_LINK:
            projection = Projection.FOLDER if meaning is None else meaning.projection
        else:
            projection = PROJECTIONS.get(node.kind, Projection.FOLDER)
        name = self._link_name(new, meaning, projection)
        target = self.lookup.find(new) if self._is_node(new) else None
        if target is not None and not self._may_replace(node, target, new):
            return
        is_same_link = folder.info.ref == node.parent.info.ref and name == node.link.name
        if target is None and self._pending.staged(new) is None and not is_same_link:
            self._check_free_for(folder, name, new)
        with self.lookup.changing():
            self._move_link(node, folder, meaning)
        if target is not None:
            self._end_editing_of(target)
        times = self._pending.times_of(node.inode) if node.is_symbolic_link else None
        if times is not None:  # a symbolic link's inode number comes from its name
            self._pending.set_times(self.lookup.find(new).inode, *times)
        replaced = self._pending.unstage(new)
        if replaced is not None:
            self._let_disappear(replaced)
        self._move_paths(old, new)
        if node.kind is not NodeKind.FOLDER:
            self._move_awaiting(attributes_path(old, node.link.name), attributes_path(new, name))
        self._apply_waiting(new.rpartition(b"/")[0], name)

    def _move_link(self, node: Node, folder: Node, meaning: DentryName | None) -> None:
        assert node.link is not None and node.parent is not None
        assert meaning is not None and meaning.link_name is not None
        group = node.parent.info.ref
        if node.kind is NodeKind.SOFT_LINK and meaning.projection is not link_projection(node.link):
            # Another link, since what its name ends in is in the path that it stores.
            link = with_ending(node.link, meaning, read_link_text(self._store, node))
            is_same_name = group == folder.info.ref and link.name == node.link.name
            if is_same_name:
                self._writer.delete_link(group, node.link.name)
            elif self._has_link(folder, link.name):
                self._writer.delete_link(folder.info.ref, link.name)
            self._writer.create_link(folder.info.ref, link)
            if not is_same_name:
                self._writer.delete_link(group, node.link.name)
            return
        self._writer.move_link(group, node.link.name, folder.info.ref, meaning.link_name)

    def _has_link(self, folder: Node, name: bytes) -> bool:
        try:
            self.lookup.get_link(folder.info.ref, name)
        except NotFoundError:
            return False
        return True

    def _rename_scratch(self, old: bytes, new: bytes, entry: ScratchEntry) -> None:
        """Rename a folder or symbolic link that is outside of the HDF5 file."""
        folder, meaning = self._place_of_any(new)
        self._check_may_replace_scratch(new, is_folder=entry.is_folder)
        if entry.is_folder:
            if not self._is_scratch_folder_name(new, meaning):
                raise CrossFileError(
                    f"{show_path(old)} is not in the HDF5 file, and {show_path(new)} would be; "
                    "copy it"
                )
            if self._is_node(new):
                raise ExistsError(f"{show_path(new)} is in the HDF5 file")
            self._pending.remove_scratch(new)
            self._move_paths(old, new)
            return
        link = None
        if not self._is_scratch_link_name(new):
            assert entry.text is not None
            link = self._link_of_text(new, meaning, entry.text)
        replaced = self._pending.staged(new)
        if self._is_node(new):
            self._replace_by_link(new, folder, link)
        elif link is not None:
            with self.lookup.changing():
                self._writer.create_link(folder.info.ref, link)
        self._pending.remove_scratch(old)
        if replaced is not None:
            self._pending.unstage(new)
            self._let_disappear(replaced)
        self._pending.remove_scratch(new)
        if link is None:
            self._pending.add_scratch(new, entry)
        else:
            self._pending.set_times(self.lookup.find(new).inode, entry.atime_ns, entry.mtime_ns)
            self._apply_waiting(new.rpartition(b"/")[0], link.name)

    def _replace_by_link(self, path: bytes, folder: Node, link: Link | None) -> None:
        """Put a symbolic link in the place of what the HDF5 file has there."""
        node = self._find_visible(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        if link is None:
            raise ExistsError(f"{show_path(path)} is in the HDF5 file")
        with self.lookup.changing():
            self._delete(path, node)
            self.forget()
            self._writer.create_link(folder.info.ref, link)
        self._end_editing_of(node)

    def _link_of_text(self, path: bytes, meaning: DentryName | None, text: bytes) -> Link:
        if meaning is None or meaning.link_name is None:
            raise InvalidNameError(f"{show_path(path)}: no symbolic link can have this name")
        return link_from_text(meaning, text, path.rpartition(b"/")[0], self._mountpoint)

    def _may_replace(self, node: Node, target: Node, new: bytes) -> bool:
        """Return False when both are one object, so that there is nothing to do; else check."""
        if target.kind is NodeKind.FOLDER:
            if node.kind is not NodeKind.FOLDER:
                raise IsAGroupError(f"{show_path(new)} is a group")
            self._check_empty(target, new)
        elif node.kind is NodeKind.FOLDER:
            raise NotAGroupError(f"{show_path(new)} is not a group")
        is_same = target.kind is node.kind and target.info.ref == node.info.ref
        return not is_same or node.is_symbolic_link
