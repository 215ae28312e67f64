"""What programs do to the names of a mount that writes: each call one step."""

from __future__ import annotations

from pathlib import Path

from h5fs.errors import (
    CrossFileError,
    ExistsError,
    InvalidNameError,
    IsAGroupError,
    NotAGroupError,
    NotPermittedError,
    show_path,
)
from h5fs.model.objects import Link, LinkKind
from h5fs.model.settings import Limits
from h5fs.projection.names import (
    Projection,
)
from h5fs.store.interface import WritingStore
from h5fs.tree.nodes import PROJECTIONS, NodeKind
from h5fs.tree.writing.renaming import RenamingTree
from h5fs.tree.writing.scratch_names import is_scratch_link_name


class WritableTree(RenamingTree):
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
            is_scratch = self._is_scratch_folder_name(path, meaning)
            if not is_scratch and (
                meaning is None
                or meaning.projection is not Projection.FOLDER
                or meaning.link_name is None
            ):
                raise InvalidNameError(f"{show_path(path)}: no folder can have this name")
            if self._is_there(path):
                raise ExistsError(f"{show_path(path)} exists")
            if is_scratch:
                self._add_scratch(path, None)
                return
            assert meaning is not None and meaning.link_name is not None
            with self.lookup.changing():
                self._writer.create_group(folder.info.ref, meaning.link_name)
            self._note_change_in(path)
            self._note_change_in(path + b"/")
            self._apply_waiting(path.rpartition(b"/")[0], meaning.link_name)

    def remove_folder(self, path: bytes) -> None:
        """Answer ``rmdir``: delete the link to an empty group."""
        with self._lock:
            if self._pending.scratch(path) is not None:
                self._remove_scratch_folder(path)
                return
            if self._pending.staged(path) is not None:
                raise NotAGroupError(f"{show_path(path)} is not a folder")
            node = self.lookup.find_folder(path)
            if node.link is None or node.parent is None:
                raise NotPermittedError("the root group")
            self._check_own(node, path)
            self._check_empty(node, path)
            with self.lookup.changing():
                self._writer.delete_link(node.parent.info.ref, node.link.name)
            self._pending.forget_times(node.inode)
            self._note_change_in(path)

    def unlink(self, path: bytes) -> None:
        """Answer ``unlink``."""
        with self._lock:
            staged = self._pending.unstage(path)
            if staged is not None:
                self._let_disappear(staged)
                self._note_change_in(path)
                return
            entry = self._pending.scratch(path)
            if entry is not None:
                if entry.is_folder:
                    raise IsAGroupError(f"{show_path(path)} is a folder")
                self._pending.remove_scratch(path)
                self._note_change_in(path)
                return
            node = self._find_visible(path)
            self._check_own(node, path)
            if node.kind is NodeKind.FOLDER:
                raise IsAGroupError(f"{show_path(path)} is a group")
            with self.lookup.changing():
                self._delete(path, node)
            self._end_editing_of(node)
            self._note_change_in(path)

    def make_hard_link(self, existing: bytes, new: bytes) -> None:
        """Answer ``link``."""
        with self._lock:
            if self._pending.is_outside(existing):
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
                if not (self._takes_scratch and is_scratch_link_name(new.rpartition(b"/")[2])):
                    self._check_scratch(new)
                self._link_scratch(new, node)  # `ln -f` renames it then
                self._note_change_in(new)
                return
            name = self._link_name(new, meaning, PROJECTIONS[node.kind])
            with self.lookup.changing():
                link = Link(name, LinkKind.HARD, target=node.info)
                self._writer.create_link(folder.info.ref, link)
            self._note_change_in(new)
            self._apply_waiting(new.rpartition(b"/")[0], name)

    def make_symbolic_link(self, text: bytes, path: bytes) -> None:
        """Answer ``symlink``: create a soft link."""
        with self._lock:
            folder, meaning = self._place_of_any(path)
            if self._is_there(path):
                raise ExistsError(f"{show_path(path)} exists")
            if self._is_scratch_link_name(path):
                self._add_scratch(path, text)
                return
            link = self._link_of_text(path, meaning, text)
            with self.lookup.changing():
                self._writer.create_link(folder.info.ref, link)
            self._note_change_in(path)
            self._apply_waiting(path.rpartition(b"/")[0], link.name)

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
            staged = self._pending.staged(path)
            if staged is not None:
                staged.atime_ns, staged.mtime_ns = atime_ns, mtime_ns
                return
            entry = self._pending.scratch(path)
            if entry is not None:
                entry.atime_ns, entry.mtime_ns = atime_ns, mtime_ns
                return
            node = self.lookup.find(path)
            edited = self._pending.edited(node)
            if edited is not None:  # at its `close`, which comes later, they are set once more
                edited.atime_ns, edited.mtime_ns = atime_ns, mtime_ns
            self._pending.set_times(node.inode, atime_ns, mtime_ns)

    def _check_is_there(self, path: bytes | None) -> None:
        if path is not None:
            self.get_status(path)
