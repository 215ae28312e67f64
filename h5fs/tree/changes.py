"""What programs do to the names of a mount that writes: each call one step."""

from __future__ import annotations

from pathlib import Path

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
from h5fs.objects import Link, LinkKind, ObjectRef
from h5fs.options import Limits
from h5fs.projection.names import (
    GROUP_ATTRIBUTES,
    DentryName,
    Projection,
    encode_name,
)
from h5fs.store.hidden_names import kept_name
from h5fs.store.interface import WritingStore
from h5fs.tree.committing import (
    delete_attributes,
)
from h5fs.tree.drafting import DraftingTree
from h5fs.tree.keeping import attributes_path
from h5fs.tree.nodes import PARTNERS, PROJECTIONS, Node, NodeKind
from h5fs.tree.soft_targets import link_from_text
from h5fs.tree.writable_file import WritableFile

_RENAME_NOREPLACE = 1


class WritableTree(DraftingTree):
    """An HDF5 file as a file system that can be written to."""

    def __init__(
        self,
        store: WritingStore,
        max_depth: int = Limits().max_depth,
        *,
        mountpoint: bytes = b"",
        leftovers: Path | None = None,
        commits_at_close: bool = False,
    ) -> None:
        super().__init__(
            store, max_depth, mountpoint=mountpoint, leftovers=leftovers,
            commits_at_close=commits_at_close,
        )  # fmt: skip
        for file in self._take_up():
            self._try_to_commit(file)

    def sync_folder(self, _path: bytes) -> None:
        """Answer ``fsync`` of a folder."""
        self._writer.commit(False)

    def make_folder(self, path: bytes) -> None:
        """Answer ``mkdir``: create a group."""
        with self._lock:
            folder, meaning = self._place_of_any(path)
            if meaning is None or meaning.projection is not Projection.FOLDER:
                raise InvalidNameError(f"{show_path(path)}: no folder can have this name")
            if self._is_there(path):
                raise ExistsError(f"{show_path(path)} exists")
            assert meaning.link_name is not None
            with self._changing():
                self._writer.create_group(folder.info.ref, meaning.link_name)
            self._apply_waiting(path.rpartition(b"/")[0], meaning.link_name)

    def remove_folder(self, path: bytes) -> None:
        """Answer ``rmdir``: delete the link to an empty group."""
        with self._lock:
            node = self._find_folder(path)
            if node.link is None or node.parent is None:
                raise NotPermittedError("the root group")
            self._check_own(node, path)
            self._check_empty(node, path)
            with self._changing():
                self._writer.delete_link(node.parent.info.ref, node.link.name)

    def unlink(self, path: bytes) -> None:
        """Answer ``unlink``."""
        with self._lock:
            staged = self._staged.pop(path, None)
            if staged is not None:
                self._let_disappear(staged)
                return
            node = self._find_visible(path)
            self._check_own(node, path)
            if node.kind is NodeKind.FOLDER:
                raise IsAGroupError(f"{show_path(path)} is a group")
            edited = self._editing.pop((node.kind, node.info.ref), None)
            if edited is not None:
                self._let_disappear(edited)
            with self._changing():
                self._delete(path, node)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        """Answer ``rename``: move a link, or give a file a name that commits it."""
        with self._lock:
            if flags & ~_RENAME_NOREPLACE:
                raise InvalidNameError("an exchange of names, which HDF5 does not have")
            if flags & _RENAME_NOREPLACE and self._is_there(new):
                raise ExistsError(f"{show_path(new)} exists")
            if old == new:
                return
            if old in self._staged:
                self._rename_staged(old, new)
                return
            node = self._find_visible(old)
            self._check_own(node, old)
            if node.kind is NodeKind.ATTRIBUTES:
                self._rename_attributes(old, new, node)
            elif node.kind is NodeKind.ARRAY and self._place(new)[1] is None:
                self._rename_to_scratch(old, new, node)
            else:
                self._rename_link(old, new, node)

    def make_hard_link(self, existing: bytes, new: bytes) -> None:
        """Answer ``link``."""
        with self._lock:
            if existing in self._staged:
                raise NotPermittedError(f"{show_path(existing)} is not in the HDF5 file yet")
            node = self._find_visible(existing)
            self._check_own(node, existing)
            if node.kind not in (NodeKind.ARRAY, NodeKind.DATATYPE):
                raise NotPermittedError(f"{show_path(existing)}: no hard link to this")
            if node.info.ref.file:
                raise CrossFileError(f"{show_path(existing)} is in another HDF5 file")
            folder, meaning = self._place(new)
            if self._is_there(new):
                raise ExistsError(f"{show_path(new)} exists")
            if meaning is None and node.kind is NodeKind.ARRAY:
                self._check_scratch(new)
                self._link_scratch(new, node)  # `ln -f` renames it then
                return
            name = self._link_name(new, meaning, PROJECTIONS[node.kind])
            with self._changing():
                link = Link(name, LinkKind.HARD, target=node.info)
                self._writer.create_link(folder.info.ref, link)
            self._apply_waiting(new.rpartition(b"/")[0], name)

    def make_symbolic_link(self, text: bytes, path: bytes) -> None:
        """Answer ``symlink``: create a soft link."""
        with self._lock:
            folder, meaning = self._place_of_any(path)
            name = self._link_name(path, meaning, Projection.FOLDER)
            if self._is_there(path):
                raise ExistsError(f"{show_path(path)} exists")
            link = link_from_text(name, text, path.rpartition(b"/")[0], self._mountpoint)
            with self._changing():
                self._writer.create_link(folder.info.ref, link)
            self._apply_waiting(path.rpartition(b"/")[0], name)

    def set_mode(self, path: bytes | None, _mode: int) -> None:
        """Answer ``chmod``: accepted, and not stored."""
        self._check_is_there(path)

    def set_owner(self, path: bytes | None, _uid: int, _gid: int) -> None:
        """Answer ``chown``: accepted, and not stored."""
        self._check_is_there(path)

    def set_times(self, path: bytes | None, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Answer ``utimensat``: the times last as long as the mount."""
        if path is None:
            return
        with self._lock:
            status = self.get_status(path)
            atime_ns = status.atime_ns if atime_ns is None else atime_ns
            mtime_ns = status.mtime_ns if mtime_ns is None else mtime_ns
            staged = self._staged.get(path)
            if staged is not None:
                staged.atime_ns, staged.mtime_ns = atime_ns, mtime_ns
                return
            node = self._find(path)
            if not node.is_symbolic_link:
                self._times[node.kind, node.info.ref] = (atime_ns, mtime_ns)

    def _link_name(self, path: bytes, meaning: DentryName | None, projection: Projection) -> bytes:
        if meaning is None or meaning.link_name is None or meaning.projection is not projection:
            wanted = projection.value.decode() or "no ending of a file's"
            raise InvalidNameError(f"{show_path(path)}: the name must have {wanted}")
        return meaning.link_name

    def _find_visible(self, path: bytes) -> Node:
        if path in self._hidden:
            raise NotFoundError(f"{show_path(path)} was removed")
        return self._find(path)

    def _check_own(self, node: Node, path: bytes) -> None:
        if node.parent is not None and node.parent.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")

    def _check_empty(self, node: Node, path: bytes) -> None:
        has_attributes = node.info.attribute_count and (
            path + b"/" + GROUP_ATTRIBUTES not in self._hidden
        )
        if has_attributes or len(self._list_links(node.info.ref)) or (
            self._staged_in(path.rstrip(b"/") + b"/")
        ):
            raise NotEmptyError(f"{show_path(path)} is not empty")

    def _check_is_there(self, path: bytes | None) -> None:
        if path is not None:
            self.get_status(path)

    def _delete(self, path: bytes, node: Node) -> None:
        if node.kind is NodeKind.ATTRIBUTES:
            delete_attributes(self._writer, node.info.ref)
            return
        assert node.link is not None and node.parent is not None
        if node.kind in (NodeKind.VALUES, NodeKind.OFFSETS):
            partner = encode_name(node.link.name, PARTNERS[PROJECTIONS[node.kind]])
            partner_path = path.rpartition(b"/")[0] + b"/" + partner
            if partner_path not in self._hidden:
                self._hidden.add(path)  # the dataset goes with the other one
                return
            self._hidden.discard(partner_path)
        self._writer.delete_link(node.parent.info.ref, node.link.name)
        for kind in NodeKind:
            self._times.pop((kind, node.info.ref), None)

    def _rename_staged(self, old: bytes, new: bytes) -> None:
        file = self._staged[old]
        folder, meaning = self._place(new)
        if meaning is None:
            self._check_scratch(new)
        elif file.held is not None and meaning.link_name is not None and (
            meaning.projection is Projection.ARRAY and not file.is_changed
        ):
            self._bring_back(file, folder, meaning.link_name, new)
            return
        replaced = self._staged.pop(new, None)
        del self._staged[old]
        file.path = new
        self._staged[new] = file
        try:
            if meaning is not None:
                self._commit_file(file)
            elif self._is_node(new):
                raise ExistsError(f"{show_path(new)} is in the HDF5 file")
            self._rename_kept(file)
        except H5fsError:
            file.path = old
            self._staged.pop(new, None)
            self._staged[old] = file
            if replaced is not None:
                self._staged[new] = replaced
            raise
        if replaced is not None:
            self._let_disappear(replaced)

    def _bring_back(self, file: WritableFile, folder: Node, name: bytes, new: bytes) -> None:
        """Give a dataset that was renamed to a scratch name a link again."""
        assert file.node is None and file.held_info is not None
        hidden = self._writer.hidden_group()
        assert hidden is not None and file.kept_as is not None
        if not self._is_node(new):
            self._check_free_for(folder, name, new)
        elif self._find(new).info.ref == file.held:
            return  # two names of one file: POSIX leaves both
        with self._changing():
            self._writer.move_link(hidden, file.kept_as, folder.info.ref, name)
        file.kept_as = None
        self._staged.pop(file.path, None)
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
        replaced = self._staged.pop(new, None)
        self._staged[new] = file
        try:
            self._commit_file(file)
        except H5fsError:
            self._staged.pop(new, None)
            if replaced is not None:
                self._staged[new] = replaced
            raise
        if replaced is not None:
            self._let_disappear(replaced)
        self._hidden.add(old)
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
        self._content_of(node)  # what cannot be read keeps its name
        hidden = self._writer.hidden_group()
        assert hidden is not None
        replaced = self._staged.pop(new, None)
        if replaced is not None:
            self._let_disappear(replaced)
        name = kept_name(new, is_dataset=True)
        with self._changing():
            self._writer.move_link(node.parent.info.ref, node.link.name, hidden, name)
        self._stage_kept(new, hidden, name)

    def _link_scratch(self, new: bytes, node: Node) -> None:
        """Give a dataset a temporary name beside its own."""
        self._content_of(node)
        hidden = self._writer.hidden_group()
        assert hidden is not None
        name = kept_name(new, is_dataset=True)
        with self._changing():
            self._writer.create_link(hidden, Link(name, LinkKind.HARD, target=node.info))
        self._stage_kept(new, hidden, name)

    def _stage_kept(self, path: bytes, hidden: ObjectRef, name: bytes) -> None:
        """Let a dataset be seen by a temporary name that it has got."""
        info = self._get_link(hidden, name).target
        assert info is not None
        self._writer.hold(info.ref)
        self._staged[path] = file = self._scratch_file(path, info)
        file.kept_as = name

    def _rename_link(self, old: bytes, new: bytes, node: Node) -> None:
        if node.link is None or node.parent is None:
            raise NotPermittedError("the root group")
        projection = PROJECTIONS.get(node.kind, Projection.FOLDER)
        folder, meaning = self._place_of_any(new)
        name = self._link_name(new, meaning, projection)
        if new.startswith(old + b"/"):
            raise InvalidNameError(f"{show_path(new)} is below {show_path(old)}")
        if self._is_node(new) and not self._may_replace(node, self._find(new), new):
            return
        if not self._is_node(new) and new not in self._staged:
            self._check_free_for(folder, name, new)
        with self._changing():
            self._writer.move_link(
                node.parent.info.ref, node.link.name, folder.info.ref, name
            )
        replaced = self._staged.pop(new, None)
        if replaced is not None:
            self._let_disappear(replaced)
        self._move_paths(old, new)
        if node.kind is not NodeKind.FOLDER:
            self._move_awaiting(
                attributes_path(old, node.link.name), attributes_path(new, name)
            )
        self._apply_waiting(new.rpartition(b"/")[0], name)

    def _may_replace(self, node: Node, target: Node, new: bytes) -> bool:
        """Return False when both are one object, so that there is nothing to do; else check."""
        if target.kind is NodeKind.FOLDER:
            if node.kind is not NodeKind.FOLDER:
                raise IsAGroupError(f"{show_path(new)} is a group")
            self._check_empty(target, new)
        elif node.kind is NodeKind.FOLDER:
            raise NotAGroupError(f"{show_path(new)} is not a group")
        is_same = target.kind is node.kind and target.info.ref == node.info.ref
        if is_same and not node.is_symbolic_link:
            return False
        edited = self._editing.pop((target.kind, target.info.ref), None)
        if edited is not None:
            self._let_disappear(edited)
        return True
